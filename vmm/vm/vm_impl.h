/*
 * vm_impl: what the sources of this folder share, from the top down: vm.c (the executor), life.c,
 * devices.c (changes of devices and sizes), consoles.c, hotplug.c (the same while a machine runs), fence.c (landlock_enable), runner.c (the machine's
 * thread), placed.c, taps.c, state.c. info.c stands beside them.
 */
#ifndef BANTAM_VM_IMPL_H
#define BANTAM_VM_IMPL_H

#include <pthread.h>
#include <sys/queue.h>

#include "devices/backend/chardev/pool.h"
#include "vmm/vm/vm.h"
#include "vmm/core/keep.h"
#include "vmm/digest/definition.h"
#include "vmm/digest/digest.h"

#define VM_EXECUTOR_STACK_BYTES (256u << 10)

struct vm_job {
	STAILQ_ENTRY(vm_job) next;
	void (*fn)(void *opaque);
	void *opaque;
};

struct vm {
	struct vm_setup setup;
	pthread_t executor;

	pthread_mutex_t lock; /* protects the fields below; before a machine's own locks */
	pthread_cond_t cond;  /* a job, quit, started, ended */
	STAILQ_HEAD(, vm_job) jobs;
	bool quit;
	enum vm_state state;
	json_t *config;		 /* normalised; never changed, only replaced; NULL in VM_NONE */
	struct machine *machine; /* NULL: none, not yet built, or about to be destroyed */
	bool borrowed;		 /* the executor uses the machine without the lock */
	bool creating;		 /* vm_create, vm_adopt or vcpu0's machine_create is at work */
	bool started;		 /* the guest runs, or ran */
	bool ended;		 /* vcpu0 has nothing more to do: join it */
	bool ejected;		 /* the guest has given up a device that it was asked for */
	bool stopping;		 /* this process has told the machine to end, with stop */
	struct machine_end stop;
	bool pressed;			   /* the power button, while there was no machine */
	bool ending;			   /* vm_begin_end */
	char digest[DEFINITION_HEX_BYTES]; /* "": not known, or not yet */

	/* fence.c */
	struct {
		bool up, opened, serves; /* the last two under the lock */
		pthread_t thread;
		/* vm.c's: takes jobs and ends until the VM is gone. */
		void (*serve)(struct vm *vm, bool fenced);
	} fence;

	/* The executor's, and vcpu0's while that runs. */
	struct config machine_config;
	bool adopted; /* machine_config is the user's own: config does not make it anew */
	/*
	 * Devices have come or gone while a machine ran: in machine_config, too, where each device has the slot and the id that
	 * it has in the machine. The next machine keeps them.
	 */
	bool pinned;
	/* The devices that the guest has been asked to give up. They are in config until it has, or its machine has ended. */
	struct vm_leaving {
		char id[DEVICE_ID_BYTES];
		unsigned slot;
	} leaving[BOARD_MAX_SLOTS];
	unsigned nleaving;
	bool over;    /* gone has been called */
	bool was_end; /* the executor's last turn was the end of a machine */
	bool vcpu0_runs;
	pthread_t vcpu0;
	struct keep *keep;
	struct chardev_pool *consoles;
	bool digest_wanted;
	struct digest *digesting; /* NULL: not yet wanted */
	int rc;			  /* of the last machine, with err, or 0 and end */
	struct err err;
	struct machine_end end;
};

/* Makes config (taken over) what vm.info shows, and the next machine is made of. */
void vm_publish(struct vm *vm, json_t *config, enum vm_state state);
void vm_set_state(struct vm *vm, enum vm_state state);
/* Tells the machine to end, also one that is being created. Lock held. */
void vm_stop_locked(struct vm *vm, int outcome, const char *why);
bool vm_is_ending(struct vm *vm);
/* Sets creating. From here on vm_begin_end ends the machine. Returns false if it came first. */
bool vm_begin_creating(struct vm *vm);

/* Calls fn with the machine, for long if need be. Executor. -EBUSY: there is none. */
int vm_with_machine(struct vm *vm, int (*fn)(struct machine *m, void *opaque, struct err *err),
		    void *opaque, struct err *err);

/* Starts a machine. Returns when the guest runs, or -errno with all of the machine gone. */
int vm_start_machine(struct vm *vm, struct err *err);
/*
 * Ends the machine, if there is one, and joins its thread: vm->end is valid. Returns true if it has
 * ended by itself instead.
 */
bool vm_end_machine(struct vm *vm, int outcome, const char *why);
bool vm_join_machine(struct vm *vm);

/*
 * A device of config, a changed copy of the published configuration, comes while the machine runs. Fills *answer with what the
 * client hears. vm_unplug asks the guest for a device.
 */
int vm_plug(struct vm *vm, const json_t *config, const char *id, json_t **answer, struct err *err);
int vm_unplug(struct vm *vm, const char *id, struct err *err);
/* Removes the devices that the guest has given up. */
void vm_finish_removals(struct vm *vm);

/* In placed.c. The index of the device of this id in config, or -1. */
int vm_find_device(const struct config *config, const char *id);
/* Cards use copies of their descriptors: the VM's next machine needs them again. */
int vm_copy_descriptors(struct config_device *d, struct err *err);
/* Gives the devices of config, made anew, the slots that they have in old. */
void vm_keep_slots(struct config *config, const struct config *old);
/* Before the first device comes or goes: each gets the id and the slot that it has in the machine. */
void vm_pin(struct vm *vm, struct machine *m);
void vm_slot_text(unsigned slot, char bdf[16]);
/* The device has gone: out of the configuration, with what the host has of it, and an event. */
void vm_forget_device(struct vm *vm, const char *id, unsigned slot);
/* The machine has ended, and with it the devices that its guest was asked for. */
void vm_settle_removals(struct vm *vm);

/* Before threads start that use the names of these devices (confine_machine). */
int vm_confine(const struct config *config, struct err *err);

/*
 * In fence.c. landlock_enable: calls fn in a new executor, which opens only what these name, and leaves that thread to serve the
 * VM; without it, calls fn. Returns fn's result, or -errno: then there is no such thread. config: made of vmconfig.
 */
int vm_fence(struct vm *vm, const json_t *vmconfig, const struct config *config,
	     int (*fn)(void *opaque, struct err *err), void *opaque, struct err *err);
/* Lets the VM's own executor serve, and waits until that VM is gone. Without one: nothing. */
void vm_serve_fenced(struct vm *vm);
/* Says in err what to do about a file that a fence refuses; rc: of what opened it. Returns rc. */
int vm_fenced_error(const struct vm *vm, int rc, struct err *err);

/* Opens the consoles of config, before there is a machine; they find their devices by id. */
int vm_open_consoles(struct vm *vm, struct config *config, struct err *err);
/* Writes the paths of pseudo-terminals into the VmConfig, as "file". */
void vm_show_ptys(struct vm *vm, const struct config *config, json_t *vmconfig);

/*
 * The published configuration has no digest yet. The executor begins to find it, in the background,
 * once it has had nothing to do for a moment: most clients boot directly after vm.create.
 */
void vm_want_digest(struct vm *vm);
void vm_start_digest(struct vm *vm);
/* Forgets it. */
void vm_end_digest(struct vm *vm);

/* The machine has ended by itself: decides what follows. */
void vm_on_end(struct vm *vm);

/* In taps.c. The descriptors of the card of that id, or (NULL) of all cards: lists them (the caller frees fd), closes them. */
struct vm_taps {
	int *fd;
	unsigned nfds;
};
void vm_list_taps(const json_t *config, const char *id, struct vm_taps *out);
void vm_close_taps(const json_t *config, const char *id);

#endif
