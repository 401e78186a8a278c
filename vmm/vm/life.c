/* life: how a VM is created, boots, is paused, ends and goes. The executor's functions of vm.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/core/log.h"
#include "vmm/vm/vm_impl.h"

static void emit(struct vm *vm, const char *event)
{
	events_emit(vm->setup.events, "vm", event, NULL);
}

static void emit_with(struct vm *vm, const char *event, const char *name, const char *value)
{
	const char *props[] = { name, value, NULL };

	events_emit(vm->setup.events, "bantam", event, props);
}

static const char *reason(const struct machine_end *end)
{
	switch (end->outcome) {
	case OUTCOME_POWEROFF:
		return "acpi";
	case OUTCOME_REBOOT:
	case OUTCOME_EMERGENCY:
		return "reset";
	case OUTCOME_TRIPLE_FAULT:
		return "triple-fault";
	case OUTCOME_PANIC:
		return "panic";
	}
	return end->outcome > OUTCOME_SIGNAL ? "signal" : "error";
}

/*
 * Why a machine has ended: what it was told (NULL: by its guest). One reason may have several outcomes
 * (a signal, an emergency restart): then the status that bantam run has for it comes too.
 */
static void emit_reason(struct vm *vm, const char *told)
{
	int outcome = vm->end.outcome;
	char status[16];
	const char *props[] = { "why", told ? told : reason(&vm->end), NULL, NULL, NULL };

	snprintf(status, sizeof(status), "%d", outcome);
	if (outcome == OUTCOME_EMERGENCY || outcome == OUTCOME_KVM || outcome > OUTCOME_SIGNAL) {
		props[2] = "status";
		props[3] = status;
	}
	events_emit(vm->setup.events, "bantam", "shutdown-reason", props);
}

/*
 * Frees what vm_create or vm_adopt made. A client that is told so ends the process, and waits for it: only
 * then is nothing left to do, not even for the last words of a console, which may wait for their reader.
 */
static void clear(struct vm *vm)
{
	vm_end_digest(vm);
	vm_close_taps(vm->config, NULL);
	keep_destroy(vm->keep);
	vm->keep = NULL;
	chardev_pool_destroy(vm->consoles);
	vm->consoles = NULL;
	config_clear(&vm->machine_config);
	vm->adopted = vm->pinned = false;
	vm_publish(vm, NULL, VM_NONE);
}

static int may_create(struct vm *vm, struct err *err)
{
	if (vm->over)
		return err_set(err, EBUSY, "the guest has powered off and this process ends");
	if (!vm_begin_creating(vm))
		return err_set(err, EBUSY, "this process ends");
	return keep_create(&vm->keep) ? err_sys(err, ENOMEM, "VM") : 0;
}

struct creation {
	struct vm *vm;
	struct config *config;
	const json_t *vmconfig;
	const struct vmconfig_notes *notes;
};

/* The first files of a VM. */
static int open_files(void *opaque, struct err *err)
{
	struct creation *c = opaque;
	int rc = vmconfig_check_files(c->vmconfig, c->notes, err);

	return rc ? rc : vm_open_consoles(c->vm, c->config, err);
}

int vm_create(struct vm *vm, const json_t *in, const struct vmconfig_notes *notes, struct err *err)
{
	struct config config = { 0 };
	struct creation creation = { vm, &config, NULL, notes };
	json_t *vmconfig = NULL;
	int rc = may_create(vm, err);

	if (!rc)
		rc = vmconfig_normalise(in, notes, &vmconfig, err);
	if (!rc)
		rc = vmconfig_to_config(vmconfig, &config, err);
	creation.vmconfig = vmconfig;
	if (!rc)
		rc = vm_fence(vm, vmconfig, &config, open_files, &creation, err);
	if (rc) {
		vm_close_taps(vmconfig, NULL);
		json_decref(vmconfig);
		clear(vm);
	} else {
		vm_show_ptys(vm, &config, vmconfig);
		vm_publish(vm, vmconfig, VM_CREATED);
		vm_want_digest(vm);
	}
	config_clear(&config);
	return rc;
}

int vm_adopt(struct vm *vm, struct config *config, struct err *err)
{
	json_t *vmconfig = NULL;
	int rc = may_create(vm, err);

	if (!rc)
		rc = vmconfig_resolve_macs(config, err);
	if (!rc)
		rc = vmconfig_from_config(config, &vmconfig, err);
	if (!rc)
		rc = vm_open_consoles(vm, config, err);
	if (rc) {
		json_decref(vmconfig);
		clear(vm);
		return rc;
	}
	vm_show_ptys(vm, config, vmconfig);
	vm->machine_config = *config;
	vm->adopted = true;
	memset(config, 0, sizeof(*config));
	vm_publish(vm, vmconfig, VM_CREATED);
	vm_want_digest(vm);
	return 0;
}

/* The machine is gone: gives back what a machine has of the host, but not the consoles. */
static void become_created(struct vm *vm)
{
	keep_drop(vm->keep, "");
	vm_set_state(vm, VM_CREATED);
}

/* Starts a machine; done is then the event. After an error the host has nothing of it. */
static int run_machine(struct vm *vm, const char *done, struct err *err)
{
	int rc = chardev_pool_resume(vm->consoles, err);

	if (!rc)
		rc = vm_start_machine(vm, err);
	if (rc) {
		become_created(vm);
		emit_with(vm, "error", "text", err->text);
		return rc;
	}
	vm_set_state(vm, VM_RUNNING);
	emit(vm, done);
	/* The files may have changed since the last look. */
	vm_want_digest(vm);
	return 0;
}

int vm_boot(struct vm *vm, struct err *err)
{
	emit(vm, "booting");
	return run_machine(vm, "booted", err);
}

int vm_shutdown(struct vm *vm, struct err *err)
{
	bool by_itself = vm_end_machine(vm, OUTCOME_POWEROFF, "the VM was stopped by a request");

	become_created(vm);
	/* A VM of the same definition may start in another process; libvirt leaves this one behind. */
	chardev_pool_rest(vm->consoles);
	emit_reason(vm, by_itself ? NULL : "request");
	emit(vm, "shutdown");
	return 0;
}

/* The next machine after one that has ended. Without one, the VM is shut down. */
static int restart(struct vm *vm, struct err *err)
{
	int rc = run_machine(vm, "rebooted", err);

	if (rc)
		emit(vm, "shutdown");
	return rc;
}

int vm_reboot(struct vm *vm, struct err *err)
{
	emit(vm, "rebooting");
	vm_end_machine(vm, OUTCOME_REBOOT, "the VM was restarted by a request");
	return restart(vm, err);
}

void vm_delete(struct vm *vm)
{
	bool ran = vm->vcpu0_runs, was = vm->config;
	bool by_itself = vm_end_machine(vm, OUTCOME_POWEROFF, "the VM was deleted by a request");

	clear(vm);
	if (ran) {
		emit_reason(vm, by_itself || vm->end.outcome > OUTCOME_SIGNAL ? NULL : "request");
		emit(vm, "shutdown");
	}
	if (was)
		emit(vm, "deleted");
}

static int pause_machine(struct machine *m, void *opaque, struct err *err)
{
	return machine_pause(m, err);
}

static int resume_machine(struct machine *m, void *opaque, struct err *err)
{
	return machine_resume(m, err);
}

/* A pair of events: event says that it begins, done that it has happened; an error replaces done. */
static int change(struct vm *vm, const char *event, const char *done, enum vm_state state,
		  int (*fn)(struct machine *m, void *opaque, struct err *err), struct err *err)
{
	int rc;

	emit(vm, event);
	rc = vm_with_machine(vm, fn, NULL, err);
	if (rc) {
		emit_with(vm, "error", "text", err->text);
		return rc;
	}
	vm_set_state(vm, state);
	emit(vm, done);
	return 0;
}

int vm_pause(struct vm *vm, struct err *err)
{
	return change(vm, "pausing", "paused", VM_PAUSED, pause_machine, err);
}

int vm_resume(struct vm *vm, struct err *err)
{
	return change(vm, "resuming", "resumed", VM_RUNNING, resume_machine, err);
}

/* --- the end that a guest decides ------------------------------------------------------- */

static enum vm_action action(const struct vm *vm, const struct machine_end *end)
{
	switch (end->outcome) {
	case OUTCOME_REBOOT:
	case OUTCOME_EMERGENCY:
	case OUTCOME_TRIPLE_FAULT:
		return vm->setup.reboot;
	case OUTCOME_PANIC:
		return vm->setup.panic;
	}
	return vm->setup.no_shutdown ? VM_KEEP : VM_EXIT;
}

/* The VM ends with its machine. shut_down: the event has been. */
static void leave(struct vm *vm, bool shut_down)
{
	vm->over = true;
	clear(vm);
	if (!shut_down)
		emit(vm, "shutdown");
	emit(vm, "deleted");
	vm->setup.gone(vm->setup.opaque, &vm->end);
}

static void restart_after_reset(struct vm *vm)
{
	struct err err = { "" };

	log_put(LOG_INFO, "%s: a new machine starts", vm->end.why.text);
	emit(vm, "rebooting");
	if (!restart(vm, &err))
		return;
	/* The process ends anyway: it deletes the VM, and has its own status. */
	if (vm_is_ending(vm))
		return;
	log_put(LOG_ERROR, "cannot restart the guest: %s", err.text);
	vm->end = (struct machine_end){ OUTCOME_ERROR, err };
	if (!vm->setup.no_shutdown)
		leave(vm, true);
}

void vm_on_end(struct vm *vm)
{
	vm_join_machine(vm);
	emit_reason(vm, NULL);
	switch (action(vm, &vm->end)) {
	case VM_RESTART:
		restart_after_reset(vm);
		return;
	case VM_KEEP:
		become_created(vm);
		emit(vm, "shutdown");
		return;
	default:
		leave(vm, false);
	}
}
