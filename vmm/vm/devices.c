/* devices: changes of a VM's devices and sizes by requests. See vm.h. */
#include "vmm/vm/vm_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- more and fewer devices ------------------------------------------------------------------ */

/* A machine that exists keeps its memory zones. */
static int check_created(struct vm *vm, const char *what, struct err *err)
{
	if (vm_state(vm) == VM_CREATED)
		return 0;
	return err_set(err, ENOTSUP, "bantam cannot %s while the VM runs", what);
}

/* Publishes a changed configuration, from which the next machine is made. Takes it over. */
static void replace(struct vm *vm, json_t *config)
{
	vm->adopted = vm->pinned = false;
	vm_publish(vm, config, vm_state(vm));
	vm_want_digest(vm);
}

int vm_add_device(struct vm *vm, const char *list, const json_t *device,
		  const struct vmconfig_notes *notes, json_t **answer, struct err *err)
{
	json_t *config = json_deep_copy(vm->config);
	bool running = vm_state(vm) != VM_CREATED;
	const char *id;
	int rc = config ? vmconfig_add_device(config, list, device, notes, &id, err) :
			  err_sys(err, ENOMEM, "%s", list);

	*answer = NULL;
	if (!rc) {
		rc = vmconfig_check_device_files(config, id, notes, err);
		if (!rc && running)
			rc = vm_plug(vm, config, id, answer, err);
		if (rc)
			vm_close_taps(config, id);
		rc = vm_fenced_error(vm, rc, err);
	}
	if (rc) {
		json_decref(config);
	} else if (running) {
		vm_publish(vm, config, vm_state(vm));
		vm_want_digest(vm);
	} else {
		replace(vm, config);
	}
	return rc;
}

int vm_remove_device(struct vm *vm, const char *id, struct err *err)
{
	json_t *config = json_deep_copy(vm->config), *old = json_incref(vm->config);
	int rc = config ? vmconfig_remove_device(config, id, err) : err_sys(err, ENOMEM, "%s", id);

	if (!rc && vm_state(vm) != VM_CREATED) {
		rc = vm_unplug(vm, id, err);
		json_decref(config);
	} else if (rc) {
		json_decref(config);
	} else {
		replace(vm, config);
		vm_close_taps(old, id);
		keep_drop(vm->keep, id);
	}
	json_decref(old);
	return rc;
}

/* --- sizes -------------------------------------------------------------------------------- */

static int set_balloon(struct machine *m, void *opaque, struct err *err)
{
	return machine_set_balloon(m, *(const uint64_t *)opaque, err);
}

/* What a machine that exists cannot change must stay as it is. */
static int refuse_hotplug(const json_t *config, const char *object, const char *key,
			  const char *name, const json_t *wanted, struct err *err)
{
	const json_t *now = json_object_get(json_object_get(config, object), key);

	if (!wanted || json_integer_value(wanted) == json_integer_value(now))
		return 0;
	return err_set(err, ENOTSUP,
		       "%s: %lld: the VM has %lld, and bantam cannot change that while it runs",
		       name, (long long)json_integer_value(wanted),
		       (long long)json_integer_value(now));
}

static void set_in(json_t *config, const char *object, const char *key, const json_t *value)
{
	json_t *to = json_object_get(config, object);

	if (value)
		json_object_set(to, key, (json_t *)value);
}

/* The terminals stay open, so their names stay, too. */
static void keep_ptys(const json_t *from, json_t *to)
{
	static const char keys[][8] = { "serial", "console" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		json_t *console = json_object_get(to, keys[i]);
		json_t *file = json_object_get(json_object_get(from, keys[i]), "file");

		if (file && !json_object_get(console, "file"))
			json_object_set(console, "file", file);
	}
}

/* Checks a changed configuration as vm.create does, and publishes it. Takes it over. */
static int check_and_replace(struct vm *vm, json_t *config, struct err *err)
{
	struct vm_taps taps;
	struct vmconfig_notes notes = { 0 };
	json_t *checked = NULL;
	int rc;

	/* The cards keep their descriptors. */
	vm_list_taps(config, NULL, &taps);
	notes.fd = taps.fd;
	notes.nfds = taps.nfds;
	rc = vmconfig_normalise(config, &notes, &checked, err);
	json_decref(config);
	free(taps.fd);
	if (rc)
		return rc;
	keep_ptys(vm->config, checked);
	replace(vm, checked);
	return 0;
}

int vm_resize(struct vm *vm, const json_t *body, struct err *err)
{
	const json_t *vcpus = json_object_get(body, "desired_vcpus");
	const json_t *ram = json_object_get(body, "desired_ram");
	const json_t *balloon = json_object_get(body, "desired_balloon");
	uint64_t bytes = (uint64_t)json_integer_value(balloon);
	bool running = vm_state(vm) != VM_CREATED;
	json_t *config;
	int rc = 0;

	if (balloon && !json_object_get(vm->config, "balloon"))
		return err_set(err, EINVAL, "desired_balloon: the VM has no balloon");
	if (running) {
		rc = refuse_hotplug(vm->config, "cpus", "boot_vcpus", "desired_vcpus", vcpus, err);
		if (!rc)
			rc = refuse_hotplug(vm->config, "memory", "size", "desired_ram", ram, err);
		if (!rc && balloon)
			rc = vm_with_machine(vm, set_balloon, &bytes, err);
	}
	if (rc)
		return rc;
	config = json_deep_copy(vm->config);
	set_in(config, "balloon", "size", balloon);
	if (running) {
		/* The rest is as it was, and may be what only bantam run's options can say. */
		vm_publish(vm, config, vm_state(vm));
		vm_want_digest(vm);
		return 0;
	}
	set_in(config, "cpus", "boot_vcpus", vcpus);
	set_in(config, "memory", "size", ram);
	return check_and_replace(vm, config, err);
}

int vm_resize_zone(struct vm *vm, const char *id, uint64_t bytes, struct err *err)
{
	json_t *config = json_deep_copy(vm->config), *zone;
	size_t i;
	int rc;

	json_array_foreach(json_object_get(json_object_get(config, "memory"), "zones"), i, zone)
	{
		const char *its = json_string_value(json_object_get(zone, "id"));

		if (!its || strcmp(its, id) != 0)
			continue;
		rc = check_created(vm, "resize a memory zone", err);
		if (rc) {
			json_decref(config);
			return rc;
		}
		json_object_set_new(zone, "size", json_integer((json_int_t)bytes));
		return check_and_replace(vm, config, err);
	}
	json_decref(config);
	return err_set(err, ENODEV, "id: \"%s\": no memory zone has this id", id);
}

struct disk_size {
	const char *id;
	uint64_t bytes;
};

static int resize_disk(struct machine *m, void *opaque, struct err *err)
{
	const struct disk_size *size = opaque;

	return machine_resize_disk(m, size->id, size->bytes, err);
}

int vm_resize_disk(struct vm *vm, const char *id, uint64_t bytes, struct err *err)
{
	struct disk_size size = { id, bytes };

	return vm_with_machine(vm, resize_disk, &size, err);
}
