/* endpoints: see endpoints.h. */
#include <errno.h>
#include <unistd.h>

#include "vmm/api/endpoints_impl.h"

#include "vmm/core/log.h"

/* --- handlers: the loop's thread ---------------------------------------------------------- */

static int do_ping(struct call *call, struct err *err)
{
	call->answer = json_pack("{s:s, s:s, s:i, s:[]}", "build_version", API_BUILD_VERSION,
				 "version", API_VERSION, "pid", (int)getpid(), "features");
	return 0;
}

static int do_vmm_shutdown(struct call *call, struct err *err)
{
	call->process.shutdown(call->process.opaque);
	return 0;
}

static int do_info(struct call *call, struct err *err)
{
	call->answer = vm_info(call->process.vm);
	return call->answer ? 0 : err_sys(err, ENOMEM, "vm.info");
}

static int do_counters(struct call *call, struct err *err)
{
	call->answer = vm_counters(call->process.vm);
	return call->answer ? 0 : err_sys(err, ENOMEM, "vm.counters");
}

static int do_power_button(struct call *call, struct err *err)
{
	vm_power_button(call->process.vm);
	return 0;
}

static int do_nmi(struct call *call, struct err *err)
{
	vm_nmi(call->process.vm);
	return 0;
}

/* --- handlers: the executor --------------------------------------------------------------- */

static void warn(void *opaque, const char *text)
{
	const struct call *call = opaque;

	log_put_for(text, LOG_WARN, "%s: %s", call->endpoint->name, text);
}

static struct vmconfig_notes notes_of(struct call *call)
{
	return (struct vmconfig_notes){
		.warn = warn, .opaque = call, .fd = call->fd, .nfds = call->nfds
	};
}

static int do_create(struct call *call, struct err *err)
{
	struct vmconfig_notes notes = notes_of(call);

	return vm_create(call->process.vm, call->body, &notes, err);
}

static int do_boot(struct call *call, struct err *err)
{
	return vm_boot(call->process.vm, err);
}

static int do_shutdown(struct call *call, struct err *err)
{
	return vm_shutdown(call->process.vm, err);
}

static int do_reboot(struct call *call, struct err *err)
{
	return vm_reboot(call->process.vm, err);
}

static int do_pause(struct call *call, struct err *err)
{
	return vm_pause(call->process.vm, err);
}

static int do_resume(struct call *call, struct err *err)
{
	return vm_resume(call->process.vm, err);
}

static int do_delete(struct call *call, struct err *err)
{
	vm_delete(call->process.vm);
	return 0;
}

static int add(struct call *call, const char *list, struct err *err)
{
	struct vmconfig_notes notes = notes_of(call);

	return vm_add_device(call->process.vm, list, call->body, &notes, &call->answer, err);
}

static int do_add_disk(struct call *call, struct err *err)
{
	return add(call, "disks", err);
}

static int do_add_net(struct call *call, struct err *err)
{
	return add(call, "net", err);
}

static int do_add_fs(struct call *call, struct err *err)
{
	return add(call, "fs", err);
}

static int do_add_vsock(struct call *call, struct err *err)
{
	return add(call, "vsock", err);
}

/* Replaces the body by its checked form. */
static int check_body(struct call *call, struct err *err)
{
	struct vmconfig_notes notes = notes_of(call);
	json_t *checked = NULL;
	int rc = vmconfig_check_object((enum vmconfig_object)call->endpoint->body, call->body,
				       &notes, &checked, err);

	if (rc)
		return rc;
	json_decref(call->body);
	call->body = checked;
	return 0;
}

static int do_remove_device(struct call *call, struct err *err)
{
	int rc = check_body(call, err);

	return rc ? rc :
		    vm_remove_device(call->process.vm,
				     json_string_value(json_object_get(call->body, "id")), err);
}

static int do_resize(struct call *call, struct err *err)
{
	int rc = check_body(call, err);

	if (rc)
		return rc;
	events_emit(call->process.events, "vm", "resizing", NULL);
	rc = vm_resize(call->process.vm, call->body, err);
	if (rc) {
		const char *props[] = { "text", err->text, NULL };

		events_emit(call->process.events, "bantam", "error", props);
		return rc;
	}
	events_emit(call->process.events, "vm", "resized", NULL);
	return 0;
}

static int do_resize_disk(struct call *call, struct err *err)
{
	json_int_t bytes;
	int rc = check_body(call, err);

	if (rc)
		return rc;
	bytes = json_integer_value(json_object_get(call->body, "desired_size"));
	return vm_resize_disk(call->process.vm,
			      json_string_value(json_object_get(call->body, "id")), (uint64_t)bytes,
			      err);
}

static int do_resize_zone(struct call *call, struct err *err)
{
	int rc = check_body(call, err);

	return rc ? rc :
		    vm_resize_zone(call->process.vm,
				   json_string_value(json_object_get(call->body, "id")),
				   (uint64_t)json_integer_value(
					   json_object_get(call->body, "desired_ram")),
				   err);
}

/* --- the table ---------------------------------------------------------------------------- */

#define ALWAYS(status)                                                                             \
	{                                                                                          \
		status, status, status, status                                                     \
	}

/* clang-format off */
static const struct endpoint endpoints[] = {
	{ "vmm.ping", true, NOW, NO_BODY, ALWAYS(200), do_ping,
	  "The process cannot be asked", "who answers, and in which version", "VmmPing" },
	{ "vmm.shutdown", false, NOW, NO_BODY, ALWAYS(200), do_vmm_shutdown,
	  "The process cannot end", "ends the VM and the process" },
	{ "vmm.nmi", false, NOW, NO_BODY, { 404, 409, 204, 204 }, do_nmi,
	  "The VM cannot get an NMI", "the same as vm.nmi" },
	{ "vm.create", false, QUEUED, VMCONFIG_VM, { 204, 409, 409, 409 }, do_create,
	  "The VM cannot be created", "makes the configuration of a VM" },
	{ "vm.boot", false, QUEUED, NO_BODY, { 404, 204, 409, 409 }, do_boot,
	  "The VM cannot boot", "makes the machine and starts the guest" },
	{ "vm.info", true, NOW, NO_BODY, { 404, 200, 200, 200 }, do_info,
	  "The VM has no information", "configuration, state and devices", "VmInfo" },
	{ "vm.counters", true, NOW, NO_BODY, { 404, 409, 200, 200 }, do_counters,
	  "The VM has no counters", "what its devices have moved", "VmCounters" },
	{ "vm.events", true, NOW, NO_BODY, ALWAYS(200), api_watch,
	  "The events cannot be followed", "events from now on, one JSON object a line", "Event" },
	{ "vm.pause", false, QUEUED, NO_BODY, { 404, 409, 204, 409 }, do_pause,
	  "The VM cannot pause", "stops the vCPUs" },
	{ "vm.resume", false, QUEUED, NO_BODY, { 404, 409, 409, 204 }, do_resume,
	  "The VM cannot resume", "lets the vCPUs go on" },
	{ "vm.shutdown", false, QUEUED, NO_BODY, { 404, 409, 204, 204 }, do_shutdown,
	  "The VM cannot be shut down", "stops the machine without asking the guest; the configuration stays" },
	{ "vm.delete", false, QUEUED, NO_BODY, ALWAYS(204), do_delete,
	  "The VM cannot be deleted", "stops the machine and forgets the configuration" },
	{ "vm.reboot", false, QUEUED, NO_BODY, { 404, 409, 204, 204 }, do_reboot,
	  "The VM cannot reboot", "a new machine from the same configuration" },
	{ "vm.power-button", false, NOW, NO_BODY, { 404, 409, 204, 204 }, do_power_button,
	  "The power button cannot be pressed", "presses the ACPI power button" },
	{ "vm.nmi", false, NOW, NO_BODY, { 404, 409, 204, 204 }, do_nmi,
	  "The VM cannot get an NMI", "sends each vCPU an NMI" },
	{ "vm.resize", false, QUEUED, VMCONFIG_RESIZE, { 404, 204, 204, 204 }, do_resize,
	  "The VM cannot be resized", "the balloon's size; before boot also CPUs and memory" },
	{ "vm.resize-disk", false, QUEUED, VMCONFIG_RESIZE_DISK, { 404, 409, 204, 204 }, do_resize_disk,
	  "The disk cannot be resized", "makes a disk's image larger" },
	{ "vm.resize-zone", false, QUEUED, VMCONFIG_RESIZE_ZONE, { 404, 204, 501, 501 }, do_resize_zone,
	  "The memory zone cannot be resized", "before boot: the size of a memory zone" },
	{ "vm.add-disk", false, QUEUED, VMCONFIG_DISK, { 404, 204, 200, 200 }, do_add_disk,
	  "The disk cannot be added", "one more disk", "PciDeviceInfo" },
	{ "vm.add-net", false, QUEUED, VMCONFIG_NET, { 404, 204, 200, 200 }, do_add_net,
	  "The network card cannot be added", "one more network card, also by descriptors", "PciDeviceInfo" },
	{ "vm.add-fs", false, QUEUED, VMCONFIG_FS, { 404, 204, 200, 200 }, do_add_fs,
	  "The shared folder cannot be added", "one more shared folder", "PciDeviceInfo" },
	{ "vm.add-vsock", false, QUEUED, VMCONFIG_VSOCK, { 404, 204, 200, 200 }, do_add_vsock,
	  "The vsock device cannot be added", "a vsock device", "PciDeviceInfo" },
	{ "vm.remove-device", false, QUEUED, VMCONFIG_REMOVE_DEVICE, { 404, 204, 204, 204 }, do_remove_device,
	  "The device cannot be removed", "one device less; a running guest is asked for it" },
	{ "vm.add-pmem", false, NOW, ANY_BODY, { 404, 501, 501, 501 }, NULL,
	  "The device cannot be added", "bantam has no persistent memory" },
	{ "vm.add-device", false, NOW, ANY_BODY, { 404, 501, 501, 501 }, NULL,
	  "The device cannot be added", "bantam has no VFIO" },
	{ "vm.add-user-device", false, NOW, ANY_BODY, { 404, 501, 501, 501 }, NULL,
	  "The device cannot be added", "bantam has no vfio-user" },
	{ "vm.add-vdpa", false, NOW, ANY_BODY, { 404, 501, 501, 501 }, NULL,
	  "The device cannot be added", "bantam has no vDPA" },
	{ "vm.add-generic-vhost-user", false, NOW, ANY_BODY, { 404, 501, 501, 501 }, NULL,
	  "The device cannot be added", "bantam has no generic vhost-user devices" },
	{ "vm.snapshot", false, NOW, ANY_BODY, { 404, 409, 501, 501 }, NULL,
	  "The VM cannot be saved", "bantam has no snapshots yet" },
	{ "vm.restore", false, NOW, ANY_BODY, { 501, 409, 409, 409 }, NULL,
	  "The VM cannot be restored", "bantam has no snapshots yet" },
	{ "vm.coredump", false, NOW, ANY_BODY, { 404, 409, 501, 501 }, NULL,
	  "The VM's memory cannot be dumped", "bantam has no core dumps yet" },
	{ "vm.send-migration", false, NOW, ANY_BODY, { 404, 409, 501, 501 }, NULL,
	  "The VM cannot be sent", "bantam has no migration yet" },
	{ "vm.receive-migration", false, NOW, ANY_BODY, { 501, 409, 409, 409 }, NULL,
	  "A VM cannot be received", "bantam has no migration yet" },
};
/* clang-format on */
#define NENDPOINTS (sizeof(endpoints) / sizeof(endpoints[0]))

const struct endpoint *endpoint_at(size_t index)
{
	return index < NENDPOINTS ? &endpoints[index] : NULL;
}

bool api_endpoint_at(unsigned index, struct api_endpoint *out)
{
	const struct endpoint *e = endpoint_at(index);

	if (!e)
		return false;
	*out = (struct api_endpoint){
		.name = e->name,
		.get = e->get,
		.queued = e->place == QUEUED,
		.body = e->body,
		.answer = e->answer,
		.help = e->help,
	};
	for (unsigned i = 0; i < VM_NSTATES; i++)
		out->status[i] = e->status[i];
	return true;
}
