/*
 * machine: one VM, built forward and destroyed backward.
 *
 * A machine is not the process: it prints nothing but log lines (log.h), reads no environment, owns
 * no terminal, never exits and uses no signal but SIGRTMIN+1, which stops its own vCPUs
 * (machine_create sets its handler, and unblocks it in the machine's thread). It can be created, run
 * and destroyed any number of times in one process, from the same configuration too, and leaves no
 * descriptor, thread, memory or file behind.
 *
 * One exception: a serial port or console on stdio, of which a process has one at a time. If stdin
 * is a terminal, that console makes it raw, ignores SIGTTIN and handles the signals that stop or
 * kill; its close undoes all this. It and consoles on files ignore SIGPIPE, which stays ignored.
 *
 * Threads. One thread, the machine's own, calls machine_create, machine_run, machine_describe,
 * machine_print_stats and machine_destroy; it becomes the first vCPU. Any thread may call the other
 * functions between machine_create and machine_destroy: they take no device's lock and wait for no
 * disk, daemon or guest. Two exceptions: machine_pause waits for vCPUs, and machine_sample for a moment,
 * so they are for a thread that may wait, and is no vCPU's and not the loop's.
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
	MACHINE_PAUSED, /* no vCPU is in the guest or in a device; devices finish their requests */
	MACHINE_SHUTDOWN, /* ended: its devices are flushed and destroyed; only destroy it */
};

struct machine_end {
	int outcome;
	struct err why; /* one line that explains the outcome */
};

/* The machine's calls to its owner. Each function may be NULL. */
struct machine_events {
	void *opaque;
	/* A new state; the calls come in the order of the changes. RUNNING: before the first vCPU
	 * enters the guest; PAUSED: after the last one has left it; SHUTDOWN: once all disks are
	 * flushed and closed. Called in the machine's own thread, or by machine_pause and
	 * machine_resume; it may call no function of the machine but machine_state, and take no
	 * lock that is held while those two are called. */
	void (*state)(void *opaque, enum machine_state state);
	/* The outcome is decided, and the machine stops its vCPUs. Called once, in any thread,
	 * perhaps under a device's lock: only record it and return. */
	void (*ending)(void *opaque, const struct machine_end *end);
	/* The guest's kernel reports a panic; crash_kernel: it starts another kernel that writes a
	 * dump. Called as ending is, but perhaps more than once. */
	void (*panicked)(void *opaque, bool crash_kernel);
	/* The guest's driver has activated a device, or has reset it afterwards. Called as ending
	 * is, as often as the guest likes. */
	void (*device)(void *opaque, const char *id, bool activated);
	/*
	 * The guest has given up a device that machine_ask_removal has asked for: the owner calls
	 * machine_finish_removals. Called by a vCPU's thread: only record it and return.
	 */
	void (*ejected)(void *opaque);
	/* A card of this id forwards a port of the host to the guest: "tcp", "127.0.0.1:40022",
	 * ":22". The machine's own thread, during machine_create. */
	void (*forwarded)(void *opaque, const char *id, const char *proto, const char *host,
			  const char *guest);
};

struct chardev_pool;
struct keep;

struct machine_setup {
	const struct config *config; /* outlives the machine */
	/*
	 * The loop of the machine's devices. Only the machine runs it, in a thread of its own during
	 * machine_run. machine_destroy leaves none of the machine's watches, posts or stops in it.
	 */
	struct loop *loop;
	bool hotplug;	   /* a device may come later: the guest learns of all slots */
	bool ignore_panic; /* a guest's panic is reported, but does not end the VM */
	bool restarts; /* a reset starts the next machine: no panic= by default, which would do so for ever */
	bool viewer; /* a person reads the log: it tells why the guest is silent, and when it answers */
	const char *cache_dir; /* of unpacked kernels; NULL: none. Used by machine_create only */
	struct machine_events events;
	/*
	 * What outlives the machine, for an owner that runs several; NULL: nothing does. Consoles
	 * that are open already (devices/backend/chardev/pool.h), and descriptors that back ends
	 * leave for the next machine (vmm/core/keep.h). A machine_create that fails leaves there what
	 * it took; if there will be no next machine, the owner drops it.
	 */
	struct chardev_pool *consoles;
	struct keep *keep;
};

struct machine;

/* Returns 0 if this process may use KVM, or -errno with what to do. Any thread. */
int machine_check_host(struct err *err);

/*
 * Asks KVM in a thread of its own for what the next machine_create needs of it, while the caller has other work.
 * machine_end_ahead: after that machine_create, or in its place; the thread has ended then. Both in the thread that calls
 * machine_create.
 */
void machine_begin_ahead(void);
void machine_end_ahead(void);

/*
 * Builds the machine, but starts no vCPU. A --dry-run does not open KVM. Returns 0, or -errno with
 * everything undone.
 */
int machine_create(const struct machine_setup *setup, struct machine **out, struct err *err);
/* Prints the resolved machine: memory map, devices, interrupts, command line. */
void machine_describe(const struct machine *m, FILE *out);
/*
 * Runs the VM until it ends; call it once. Returns 0 and the outcome in *end, or -errno if the VM
 * could not run. In both cases the guest is stopped and its devices are flushed and destroyed.
 */
int machine_run(struct machine *m, struct machine_end *end, struct err *err);
/*
 * Ends the VM with this outcome, unless it is already ending. After a stop, a machine_run that
 * begins later returns at once.
 */
void machine_stop(struct machine *m, int outcome, const char *why);
/*
 * machine_pause returns when all vCPUs have left the guest and their devices, and machine_resume
 * lets them run again. Devices finish what they have begun, their interrupts wait, and time goes
 * on: a resumed guest finds its clock right and is told that it was paused. A vCPU that waits for a
 * device's I/O (a reset) delays the pause; machine_stop ends the delay. While the machine is
 * paused, machine_stop works as ever; power button and NMI reach the guest when it is resumed.
 * Return 0, or -EBUSY: the machine is in another state, or ends. After an error nothing has changed.
 */
int machine_pause(struct machine *m, struct err *err);
int machine_resume(struct machine *m, struct err *err);
/* Sends each vCPU a non-maskable interrupt. Does nothing before the machine runs and after its end. */
void machine_nmi(struct machine *m);
/* What a vCPU does at one moment. */
struct machine_sample {
	uint64_t rip;
	unsigned cpl;
	bool halted;	 /* it waits for an interrupt, or for the guest to start it */
	bool interrupts; /* RFLAGS.IF, or the guest has not started it */
};
/*
 * Fills *out with what a vCPU does, whatever that is: the guest does not notice, and runs on. While the
 * machine is paused too. Returns 0, or after 200 ms -ETIMEDOUT: the vCPU waits in a device, or the
 * host has no time for it; -EINVAL: there is no such vCPU; -EBUSY: the machine does not run, or ends.
 */
int machine_sample(struct machine *m, unsigned vcpu, struct machine_sample *out, struct err *err);
/* Presses the power button: a guest that handles the button shuts down. */
void machine_power_button(struct machine *m);
/* Makes the devices check what may have changed on the host (a disk's size) and tell the guest. */
void machine_refresh(struct machine *m);
enum machine_state machine_state(const struct machine *m);

struct machine_device_info {
	const char *id;	  /* "disk0"; valid during the call */
	const char *type; /* "virtio-blk" */
	bool pci;	  /* the next three are valid: bus 0, function 0 */
	unsigned slot;
	uint64_t bar_base, bar_bytes; /* of BAR 0, where the guest has put it */
	const char *interface; /* the host's, of a card on a tap ("vmtap0"), valid as id; or NULL */
};
/*
 * Calls fn for each of the user's devices, in the order of their creation; for none once they are
 * destroyed. fn may take its time: no lock is held.
 */
void machine_walk_devices(struct machine *m,
			  void (*fn)(void *opaque, const struct machine_device_info *info),
			  void *opaque);

/*
 * Calls fn for every counter of every device that has some; value < 2^63. Any thread between
 * machine_create and machine_destroy; once the machine has ended there are none. Waits for no device's
 * I/O. fn must not call the machine.
 */
void machine_walk_counters(struct machine *m,
			   void (*fn)(void *opaque, const char *id, const char *name,
				      uint64_t value),
			   void *opaque);
/*
 * Asks the guest to give so many bytes of its memory back in all, or to take back what it has given
 * beyond that; the guest does so when it can. 0 or -EINVAL: there is no balloon, or the guest has less
 * memory. Any thread but a vCPU's or the loop's, between machine_create and machine_destroy; short.
 */
int machine_set_balloon(struct machine *m, uint64_t bytes, struct err *err);
/* The guest's memory less what its balloon holds now. As machine_walk_counters. */
uint64_t machine_memory_actual(struct machine *m);
/*
 * Makes a disk larger while the guest uses it, and tells the guest. -ENODEV: no disk has this id;
 * -EINVAL: this disk cannot have this size; another -errno: the host refused. Threads as
 * machine_set_balloon; waits for the host's file system, and the machine's end waits for it.
 */
int machine_resize_disk(struct machine *m, const char *id, uint64_t bytes, struct err *err);
/*
 * Devices that come and go while the guest runs, or is paused. One thread at a time calls the three, not a vCPU's nor the
 * loop's, after the state has become RUNNING and before machine_destroy. They need the hotplug of machine_setup and the
 * PCI bus: else -ENOTSUP.
 *
 * machine_add_device creates a device with this id and tells the guest; *slot is its place on bus 0. d: as the config's,
 * whose texts live as long as the device. Returns 0 or -errno (-EBUSY: the machine ends); may wait for files and daemons.
 *
 * machine_ask_removal asks the guest to give the device up, at once or when it runs again, and may ask again. -ENODEV: no
 * device has this id. The guest may never answer, then nothing happens.
 *
 * machine_finish_removals removes the devices that the guest has given up, waits for what they have begun, and calls fn for each.
 * If the machine ends meanwhile, it ends them, and fn is not called.
 */
int machine_add_device(struct machine *m, const struct config_device *d, const char *id,
		       unsigned *slot, struct err *err);
int machine_ask_removal(struct machine *m, const char *id, struct err *err);
void machine_finish_removals(struct machine *m,
			     void (*fn)(void *opaque, const char *id, unsigned slot), void *opaque);
/* Prints the exits by reason, summed over the vCPUs. Call it after machine_run. */
void machine_print_stats(const struct machine *m, FILE *out);
/* Accepts NULL and half-built machines. */
void machine_destroy(struct machine *m);

#endif
