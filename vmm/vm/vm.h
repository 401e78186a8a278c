/*
 * vm: the VM of an API process: its configuration, its machine, and the order of what changes them.
 *
 * All that changes the VM runs in one thread, the executor "vm", in the order of arrival: what
 * vm_post queues, and the end of a machine. It may wait for files, daemons, KVM and the guest. A
 * machine has a thread of its own, vcpu0, which creates, runs and destroys it.
 *
 * Threads. Any thread may call the functions of the first group: they take only vm's lock, a
 * machine's leaf locks and wait for nothing else. The functions of the second group belong to the
 * executor.
 *
 * Errors are -errno with text; the errno says the kind of fault (api_status_of, endpoints.h).
 */
#ifndef BANTAM_VM_H
#define BANTAM_VM_H

#include <jansson.h>
#include <stdbool.h>

#include "vmm/vm/events.h"
#include "vmm/config.h"
#include "vmm/machine/machine.h"
#include "vmm/vmconfig/vmconfig.h"

/* vm.info's states, and NONE: there is no configuration. */
enum vm_state { VM_NONE, VM_CREATED, VM_RUNNING, VM_PAUSED };
#define VM_NSTATES 4

/* What follows a guest's reset, or its panic. */
enum vm_action {
	VM_RESTART, /* a new machine from the same configuration */
	VM_EXIT,    /* the VM is deleted, and the process ends */
	VM_KEEP,    /* the machine is gone, the configuration stays: Created */
	VM_IGNORE,  /* of a panic: the guest goes on */
};

struct vm_setup {
	enum vm_action reboot, panic;
	bool no_shutdown;      /* a power-off leaves the configuration: Created */
	bool viewer;	       /* as machine_setup's */
	struct events *events; /* outlives the VM */
	const char *cache_dir; /* as machine_setup's; NULL: none */
	/*
	 * The executor calls it once, when the VM has ended by itself and is deleted: the process is
	 * to end. end is valid during the call.
	 */
	void (*gone)(void *opaque, const struct machine_end *end);
	void *opaque;
};

struct vm;

/* Starts the executor. 0 or -errno. */
int vm_start(const struct vm_setup *setup, struct vm **out, struct err *err);
/* Ends the executor after the jobs that are queued, deletes what is left, frees. Accepts NULL. */
void vm_end(struct vm *vm);

/* --- any thread ----------------------------------------------------------------------- */

/* Queues fn(opaque) for the executor. 0 or -ENOMEM. */
int vm_post(struct vm *vm, void (*fn)(void *opaque), void *opaque);
enum vm_state vm_state(struct vm *vm);
/* New references, or NULL without memory. vm_info: NULL in VM_NONE, too. */
json_t *vm_info(struct vm *vm);
json_t *vm_counters(struct vm *vm);
/* Between a machine and the next one, it waits for that one. */
void vm_power_button(struct vm *vm);
/* Do nothing without a machine. */
void vm_nmi(struct vm *vm);
void vm_refresh(struct vm *vm);
/*
 * The process is to end: from now on no VM is created and no machine starts (-EBUSY). The machine that
 * is there, or is being created, ends with this outcome, so the executor's next job, vm_delete, need
 * not wait for the guest. outcome and why: as machine_stop.
 */
void vm_begin_end(struct vm *vm, int outcome, const char *why);
/* Is a VM or machine being created? That may wait for KVM, a daemon or a file, and there is no guest. */
bool vm_is_creating(struct vm *vm);

/* --- the executor -------------------------------------------------------------------- */

/* notes: the request's warnings and descriptors. in is not changed. */
int vm_create(struct vm *vm, const json_t *in, const struct vmconfig_notes *notes, struct err *err);
/* Takes config over (the caller's is zeroed): a VM that the options of bantam run describe. */
int vm_adopt(struct vm *vm, struct config *config, struct err *err);
/* Returns when the guest runs. After an error the state is Created, and the host has nothing of it. */
int vm_boot(struct vm *vm, struct err *err);
int vm_shutdown(struct vm *vm, struct err *err);
int vm_reboot(struct vm *vm, struct err *err);
int vm_pause(struct vm *vm, struct err *err);
int vm_resume(struct vm *vm, struct err *err);
void vm_delete(struct vm *vm);

/*
 * list: "disks" …. notes: as vm_create's. While the VM runs or is paused, *answer is {"id","bdf"}, which the caller
 * owns; else NULL.
 */
int vm_add_device(struct vm *vm, const char *list, const json_t *device,
		  const struct vmconfig_notes *notes, json_t **answer, struct err *err);
/*
 * While the VM runs, the guest is asked for the device, and 0 does not wait for it: the device goes, with the event
 * device-removed, once the guest has given it up, or with its machine.
 */
int vm_remove_device(struct vm *vm, const char *id, struct err *err);
/* body: {"desired_vcpus"?, "desired_ram"?, "desired_balloon"?}, checked. */
int vm_resize(struct vm *vm, const json_t *body, struct err *err);
/* Before the VM boots. */
int vm_resize_zone(struct vm *vm, const char *id, uint64_t bytes, struct err *err);
int vm_resize_disk(struct vm *vm, const char *id, uint64_t bytes, struct err *err);

#endif
