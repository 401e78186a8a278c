/*
 * machine: one VM, built forward and destroyed backward.
 *
 * A machine is not the process: it prints nothing, reads no environment, owns no terminal, never
 * exits and takes no signal (but SIGRTMIN+1, by which it stops its own vCPUs). It can be created,
 * run and destroyed any number of times in one process, from the same configuration too, and
 * leaves no descriptor, thread, memory or file behind.
 *
 * Threads. machine_create, machine_run, machine_describe, machine_print_stats and machine_destroy
 * belong to one thread, the machine's own, which becomes the first vCPU. machine_stop,
 * machine_power_button, machine_refresh and machine_state may come from any thread between
 * machine_create and machine_destroy: they take no device's lock and wait for no disk, daemon or
 * guest.
 */
#ifndef BANTAM_MACHINE_H
#define BANTAM_MACHINE_H

#include <stdio.h>

#include "vmm/config.h"
#include "vmm/core/loop.h"

/* How a VM ended; the exit status of bantam. A signal is 128 + its number. */
enum outcome {
	OUTCOME_POWEROFF = 0,
	OUTCOME_ERROR = 1,
	OUTCOME_USAGE = 2,
	OUTCOME_REBOOT = 3,
	OUTCOME_PANIC = 4,
	OUTCOME_EMERGENCY = 5,
	OUTCOME_TRIPLE_FAULT = 6,
	OUTCOME_KVM = 7,
	OUTCOME_SIGNAL = 128,
};

enum machine_state {
	MACHINE_CREATED, /* built; no vCPU has run */
	MACHINE_RUNNING,
	MACHINE_PAUSED,	  /* kept for pause and resume: no machine is in it yet */
	MACHINE_SHUTDOWN, /* ended: its devices are flushed and gone; it can only be destroyed */
};

struct machine_end {
	int outcome;
	struct err why; /* the line that explains it */
};

/* What a machine tells its owner. Each function may be NULL. */
struct machine_events {
	void *opaque;
	/* A new state, in the machine's own thread: RUNNING before the first vCPU enters the
	 * guest; SHUTDOWN once all disks are flushed and closed. */
	void (*state)(void *opaque, enum machine_state state);
	/* It is decided how the machine ends, and its vCPUs are being stopped. Called once, in any
	 * thread, perhaps under a device's lock: take a note and return. */
	void (*ending)(void *opaque, const struct machine_end *end);
	/* The guest's kernel says that it panicked; crash_kernel: it starts another kernel, to
	 * dump itself. As ending, but may be called more than once. */
	void (*panicked)(void *opaque, bool crash_kernel);
};

struct machine_setup {
	const struct config *config; /* outlives the machine */
	/*
	 * Its devices' loop. Nobody runs it but the machine, in a thread of its own during
	 * machine_run; no watch, post or stop of the machine's is left in it after machine_destroy.
	 */
	struct loop *loop;
	const char *cache_dir; /* of unpacked kernels; NULL: none. Used by machine_create only */
	struct machine_events events;
};

struct machine;

/* Everything but starting the vCPUs. With --dry-run, KVM is left alone. On failure nothing is left. */
int machine_create(const struct machine_setup *setup, struct machine **out, struct err *err);
/* The resolved machine: memory map, devices, interrupts, command line. */
void machine_describe(const struct machine *m, FILE *out);
/*
 * Run until the VM ends; once. Returns 0 and how it ended, or -errno: it could not run. Either
 * way the guest is stopped and its devices are flushed and gone.
 */
int machine_run(struct machine *m, struct machine_end *end, struct err *err);
/* End the VM with this outcome, unless it is ending already. Before machine_run: that returns at once. */
void machine_stop(struct machine *m, int outcome, const char *why);
/* Press the power button: the guest shuts down, if it listens. */
void machine_power_button(struct machine *m);
/* Devices look at what may have changed on the host (a disk's size) and tell the guest. */
void machine_refresh(struct machine *m);
enum machine_state machine_state(const struct machine *m);
/* Exits by reason, summed over the vCPUs; after machine_run. */
void machine_print_stats(const struct machine *m, FILE *out);
/* Accepts NULL and half-built machines. */
void machine_destroy(struct machine *m);

#endif
