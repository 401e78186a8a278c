/* machine_impl: the parts of a machine, for machine*.c only. */
#ifndef BANTAM_MACHINE_IMPL_H
#define BANTAM_MACHINE_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "boot/boot.h"
#include "devices/pci/pci.h"
#include "devices/board/platform.h"
#include "devices/serial.h"
#include "devices/virtio/core/mmio.h"
#include "vmm/core/ratelimit.h"
#include "vmm/machine/bootdisk.h"
#include "vmm/machine/env.h"
#include "vmm/machine/iothread.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/vcpu.h"

#define MACHINE_MAX_DEVICES 80

struct machine {
	const struct config *config;
	struct machine_events events;
	bool dry_run;

	struct kvm kvm;
	struct mem mem;
	struct bus pio;
	struct bus mmio;
	struct irq irq;
	bool irq_ready;
	struct arch_vm *arch;
	struct loop *loop; /* the owner's */
	struct env env;
	struct device_env device_env;
	uint64_t stop_by_ms; /* in device_env */
	struct ratelimit_groups limits;
	struct pci_host *pci;
	struct virtio_mmio_slots mmio_slots;
	/*
	 * Protects the next five fields once machine_create has returned: a thread that holds it
	 * finds only devices that are not being destroyed. Held for a moment, also to take leaf
	 * locks below it; never while a device may wait.
	 */
	pthread_mutex_t devices_lock;
	struct device *device[MACHINE_MAX_DEVICES];
	struct iothread *iothread[MACHINE_MAX_DEVICES]; /* of the same device, or NULL */
	unsigned ndevices;
	bool devices_ended; /* the machine ends: none comes, and only machine_destroy_devices destroys some */
	bool devices_gone; /* and has done so */
	/* hotplug.c: the loop's thread is to leave its loop to another one; it has. Under devices_lock. */
	bool loop_wanted, loop_rests;
	atomic_bool loop_ends; /* the loop has been stopped because the machine ends */
	/*
	 * A device is no longer borrowed (machine/control.c), or one of the four before has changed.
	 */
	pthread_cond_t device_back;
	struct device *pm;	    /* of the board; in device[], as the next one */
	struct device *hotplug_dev; /* the registers of PCI hot-plug; NULL: no device comes later */
	struct arch_topology topology;
	struct board board;
	bool legacy; /* the board is the legacy one (arch.h) */
	struct boot_info boot;
	struct bootdisk *bootdisk; /* NULL: a kernel is given */
	char *cmdline;

	struct vcpu *vcpu[BOARD_MAX_CPUS];
	unsigned nvcpus;
	atomic_uint live_vcpus;	 /* not yet finished; the loop runs until the last one has left */
	struct errands *errands; /* of the machine's thread; its loops use them, too */
	pthread_t loop_thread;
	bool loop_runs; /* loop_thread is to be joined; the machine's thread */

	pthread_mutex_t lock; /* protects the next five fields; held for a few instructions */
	pthread_cond_t gone;
	bool vcpus_gone; /* live_vcpus has become 0 */
	bool loop_left;	 /* by its thread, which has no errand run any more */
	bool started;	 /* vCPUs may be in the guest: end_with must stop them */
	bool ending;	 /* end is valid: the first cause */
	struct machine_end end;

	pthread_mutex_t state_lock;	  /* protects the next two fields; see state.c */
	_Atomic enum machine_state state; /* may be read without it */
	bool pausing;			  /* a machine_pause waits for the vCPUs */

	bool ignore_panic, hotplug, restarts, viewer;
	atomic_bool panicked;	  /* the guest wrote to pvpanic; the VM ends soon */
	atomic_bool crash_kernel; /* the guest panicked and runs its crash kernel */
	atomic_bool output_lost;
	/* At a panic, the moment that the kernel has to print; before, see silence.c. */
	struct loop_watch *timer;
	struct probe *probe; /* see silence.c; NULL: not asked yet, or not known */
};

/*
 * In machine/memory.c, for the builder. machine_load needs the devices: the board that the firmware
 * tables describe is complete then.
 */
int machine_create_memory(struct machine *m, struct err *err);
int machine_load(struct machine *m, const char *cache_dir, struct err *err);

/*
 * In machine/devices.c. machine_create_devices also completes the board. The loop's thread calls the last two
 * functions.
 */
int machine_create_devices(struct machine *m, struct err *err);
int machine_start_iothreads(struct machine *m, struct err *err);
/* From now on no device comes or goes but by machine_destroy_devices. Waits until the I/O threads have left their loops. */
void machine_stop_iothreads(struct machine *m);
/* The loop's thread, before the loop runs; and after, until it may end. */
void machine_prepare_devices(struct machine *m);
void machine_outlive_devices(struct machine *m);
/* No thread runs the loop any more. */
void machine_destroy_devices(struct machine *m);
/*
 * Takes a device away from all other threads, once none has borrowed it. Returns its I/O thread, or NULL. The caller
 * destroys both, which may take long. devices_lock held.
 */
struct iothread *machine_take_out_locked(struct machine *m, struct device *dev);
/* For --stats, after the vCPUs have left. */
void machine_log_device_stats(struct machine *m);
void machine_press_power_button(struct machine *m);
void machine_refresh_devices(struct machine *m);

/* In machine/hotplug.c: the loop's thread, when the loop has been stopped. Another one may run it meanwhile. */
void machine_rest_loop(struct machine *m);

/*
 * In machine/silence.c. The first arms the timer, before the loop runs. The others are for the loop's thread: before
 * the loop runs, and when the timer has expired.
 */
void machine_expect_output(struct machine *m);
void machine_prepare_silence(struct machine *m);
void machine_explain_silence(struct machine *m);

/* In machine/state.c: changes the state and tells the owner. */
void machine_set_state(struct machine *m, enum machine_state state);

#endif
