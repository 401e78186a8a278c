/* vmconfig/vm_rules: what concerns several objects of a VmConfig. */
#include <errno.h>
#include <string.h>

#include "vmm/vmconfig/vmconfig_impl.h"

/* The form that clients sent before there was "payload" moves there. */
static int move_old_form(struct vmconfig_walk *w, json_t *vm)
{
	static const struct {
		char object[12], key[8], to[12];
	} old[] = {
		{ "kernel", "path", "kernel" },
		{ "initramfs", "path", "initramfs" },
		{ "cmdline", "args", "cmdline" },
	};
	json_t *payload = json_object_get(vm, "payload");

	for (size_t i = 0; i < sizeof(old) / sizeof(old[0]); i++) {
		json_t *value = json_object_get(json_object_get(vm, old[i].object), old[i].key);
		json_t *there = json_object_get(payload, old[i].to);

		if (!value)
			continue;
		if (there && !json_equal(value, there))
			return vmconfig_fail(w, EINVAL, old[i].object,
					     "differs from payload.%s; give one of them",
					     old[i].to);
		if (json_object_set(payload, old[i].to, value))
			return vmconfig_no_memory(w);
		json_object_del(vm, old[i].object);
	}
	return 0;
}

static int check_payload(struct vmconfig_walk *w, const json_t *vm)
{
	const json_t *payload = json_object_get(vm, "payload");
	const json_t *disks = json_object_get(vm, "disks");
	json_t *disk;
	size_t i;

	if (vmconfig_text(payload, "kernel"))
		return 0;
	if (vmconfig_text(payload, "initramfs"))
		return vmconfig_fail(w, EINVAL, "payload.initramfs",
				     "needs payload.kernel; without it, both come from the disk");
	json_array_foreach(disks, i, disk)
	{
		if (vmconfig_text(disk, "path"))
			return 0;
	}
	return vmconfig_fail(w, EINVAL, "payload.kernel",
			     "is missing, and there is no disk to boot from");
}

static int check_consoles(struct vmconfig_walk *w, const json_t *vm)
{
	const char *serial = vmconfig_text(json_object_get(vm, "serial"), "mode");
	const char *console = vmconfig_text(json_object_get(vm, "console"), "mode");

	if (strcmp(serial, "Tty") != 0 || strcmp(console, "Tty") != 0)
		return 0;
	return vmconfig_fail(
		w, EINVAL, "console.mode",
		"Tty (also the default): serial.mode is Tty, and there is one terminal; "
		"set console.mode to Off");
}

struct segments {
	struct vmconfig_walk *w;
	uint64_t n;
	const json_t *added;
};

static int check_segment(void *opaque, const struct vmconfig_place *place, json_t *device,
			 const char *where)
{
	const struct segments *s = opaque;
	uint64_t segment = vmconfig_num(device, "pci_segment");
	size_t len;
	int rc = 0;

	if (s->added && device != s->added)
		return 0;
	len = vmconfig_enter(s->w, where);
	if (segment >= s->n)
		rc = vmconfig_fail(s->w, EINVAL, "pci_segment",
				   "%llu: platform.num_pci_segments is %llu",
				   (unsigned long long)segment, (unsigned long long)s->n);
	else if (segment)
		vmconfig_warn(s->w, "pci_segment", "%llu: the device is on segment 0",
			      (unsigned long long)segment);
	vmconfig_leave(s->w, len);
	return rc;
}

static int check_segments(struct vmconfig_walk *w, const json_t *vm, const json_t *added)
{
	const json_t *platform = json_object_get(vm, "platform");
	struct segments s = {
		.w = w,
		.added = added,
		.n = platform ? vmconfig_num(platform, "num_pci_segments") : 1,
	};

	return vmconfig_each_device(vm, check_segment, &s);
}

static int check_groups(struct vmconfig_walk *w, const json_t *vm)
{
	const json_t *groups = json_object_get(vm, "rate_limit_groups");
	const json_t *disks = json_object_get(vm, "disks");
	json_t *group, *disk;
	size_t i, k;

	json_array_foreach(groups, i, group)
	{
		for (k = 0; k < i; k++)
			if (!strcmp(vmconfig_text(group, "id"),
				    vmconfig_text(json_array_get(groups, k), "id")))
				return vmconfig_fail_item(w, EEXIST, "rate_limit_groups", i, "id",
							  "\"%s\": another group has this id",
							  vmconfig_text(group, "id"));
	}
	json_array_foreach(disks, i, disk)
	{
		const char *name = vmconfig_text(disk, "rate_limit_group");
		bool found = !name || !*name;

		json_array_foreach(groups, k, group)
			found |= name && !strcmp(name, vmconfig_text(group, "id"));
		if (!found)
			return vmconfig_fail_item(w, EINVAL, "disks", i, "rate_limit_group",
						  "\"%s\": rate_limit_groups has no such id", name);
	}
	return 0;
}

static int check_balloon(struct vmconfig_walk *w, const json_t *vm)
{
	uint64_t size = vmconfig_num(json_object_get(vm, "balloon"), "size");
	uint64_t memory = vmconfig_memory_bytes(vm);

	if (size <= memory)
		return 0;
	return vmconfig_fail(w, EINVAL, "balloon.size", "%llu: the guest has only %llu bytes",
			     (unsigned long long)size, (unsigned long long)memory);
}

uint64_t vmconfig_memory_bytes(const json_t *vm)
{
	const json_t *memory = json_object_get(vm, "memory");
	const json_t *zones = json_object_get(memory, "zones");
	uint64_t bytes = vmconfig_num(memory, "size");
	json_t *zone;
	size_t i;

	json_array_foreach(zones, i, zone) bytes += vmconfig_num(zone, "size");
	return bytes;
}

int vmconfig_device_rules(struct vmconfig_walk *w, json_t *vm, const json_t *added)
{
	int rc = check_segments(w, vm, added);

	if (!rc)
		rc = check_groups(w, vm);
	return rc ? rc : vmconfig_name_devices(w, vm, added != NULL);
}

int vmconfig_vm_rules(struct vmconfig_walk *w, json_t *vm)
{
	int rc = move_old_form(w, vm);

	if (!rc)
		rc = check_payload(w, vm);
	if (!rc)
		rc = check_consoles(w, vm);
	if (!rc)
		rc = check_balloon(w, vm);
	return rc ? rc : vmconfig_device_rules(w, vm, NULL);
}
