/*
 * device: what a device model is, and the only things it may ask of the VM.
 *
 * One page per device: its keys, its help, create, handlers, destroy. A new
 * device is a new page and one line in registry.c. No device sees a KVM fd:
 * production binds ioeventfd and irqfd behind env->ops, unit tests record.
 */
#ifndef BANTAM_DEVICE_H
#define BANTAM_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/bus.h"
#include "vmm/core/calls.h"
#include "vmm/core/err.h"
#include "vmm/core/keys.h"
#include "vmm/core/loop.h"
#include "vmm/core/mem.h"

/* What a guest can tell its VM. */
enum vm_event {
	VM_EVENT_POWEROFF,     /* ACPI S5 */
	VM_EVENT_RESET,	       /* ACPI reset register, i8042, 0xcf9 */
	VM_EVENT_PANIC,	       /* pvpanic bit 0 */
	VM_EVENT_CRASH_LOADED, /* pvpanic bit 1: a crash kernel took over */
	VM_EVENT_LOST_OUTPUT,  /* a host sink failed (disk full): guest output was lost */
};

enum kick_space { KICK_PIO, KICK_MMIO };

/*
 * A guest write that signals an eventfd instead of causing an exit. len_bytes 0 means any width.
 * With match, only a write of value signals (virtio-mmio: the queue index).
 */
struct kick {
	enum kick_space space;
	uint64_t addr;
	uint32_t len_bytes;
	bool match;
	uint64_t value;
	int fd;
};

/* All may be called from any thread; -errno on failure. */
struct env_ops {
	int (*bind_kick)(void *vm, const struct kick *kick);
	void (*unbind_kick)(void *vm, const struct kick *kick);

	/*
	 * Message-signalled interrupt. bind returns an id and an eventfd (owned by the VM, valid
	 * until unbind); a write to the eventfd delivers addr/data to the guest. update changes the
	 * message. The guest notices neither before a write. send delivers a message at once and never
	 * waits, whatever became of an eventfd that another process got.
	 */
	int (*msi_bind)(void *vm, uint64_t addr, uint32_t data, unsigned *id, int *fd);
	int (*msi_update)(void *vm, unsigned id, uint64_t addr, uint32_t data);
	void (*msi_unbind)(void *vm, unsigned id);
	int (*msi_send)(void *vm, uint64_t addr, uint32_t data);

	/*
	 * An interrupt line (a pin of the interrupt controller). For an edge interrupt, set level
	 * 1, then 0. A level line that is still high at EOI fires again. Lines may be shared: each
	 * holder sets its own (gsi, holder) and the pin is the OR of all; holder is any number
	 * below 32.
	 */
	void (*set_line)(void *vm, unsigned gsi, unsigned holder, bool level);

	void (*event)(void *vm, enum vm_event event);
	/*
	 * The driver has activated the device of this id (true), or has reset it afterwards
	 * (false). Called with the device's lock held: only record it.
	 */
	void (*driver)(void *vm, const char *id, bool active);
	/*
	 * May be NULL. A port of the host leads to the guest from now on: "tcp", "127.0.0.1:40022",
	 * ":22". The machine's thread, while the device of this id is created.
	 */
	void (*forwarded)(void *vm, const char *id, const char *proto, const char *host,
			  const char *guest);
};

struct pci_host;
struct pci_func;
struct virtio_mmio_slots;
struct keep;
struct ratelimit_groups;
struct chardev_pool;

/* The size of a device's id, with its NUL. */
#define DEVICE_ID_BYTES 64

struct device_env {
	struct mem *mem;
	struct bus *pio;
	struct bus *mmio;
	struct loop *loop;
	const struct env_ops *ops;
	void *vm; /* first argument of every op */
	/* Exactly one is set: the transport of virtio devices. */
	struct pci_host *pci;
	struct virtio_mmio_slots *mmio_slots;
	/*
	 * --dry-run: the device will be described and destroyed, never run. create checks what it
	 * can by looking, but makes nothing on the host, connects to nothing and starts no process.
	 */
	bool dry_run;
	/* While create is called: the id that the device will have ("net0"), or NULL. */
	const char *id;
	unsigned nth;  /* the same, of a serial port: how many --serial come before its own */
	unsigned slot; /* the same, on PCI: its slot; 0: the first empty one */
	/* the same, of the disk that the machine boots from: its table's sectors; 0: it has none */
	uint32_t sector_bytes;
	/*
	 * What outlives the machine; NULL: nothing does. consoles: open chardevs, by the ids of their
	 * devices (devices/backend/chardev/pool.h). keep: where a back end leaves descriptors for the
	 * next machine (vmm/core/keep.h).
	 */
	struct chardev_pool *consoles;
	struct keep *keep;
	/* When the machine ends: no device waits longer for another process (clock_now_ms); 0: it does not end. */
	const uint64_t *stop_by_ms;
	/* A person waits for the guest: the log tells when it first answers on a forwarded port. */
	bool tell_answers;
	/* The machine's limits of several disks (vmm/core/ratelimit.h). NULL: there are none. */
	struct ratelimit_groups *limits;
};

/* Who else maps guest memory. The machine picks the strongest requirement of all its devices. */
enum device_memory {
	MEMORY_ANY, /* no other process */
	/* a confined helper of bantam, if mem->fd > 0: sharing must not cost the huge pages */
	MEMORY_HUGE_SHARED,
	MEMORY_SHARED, /* another project's daemon: mem->fd is a sealed memfd */
};

struct device;

/* value < 2^63. */
typedef void (*device_counter_fn)(void *opaque, const char *name, uint64_t value);

struct device_ops {
	/* Stops the device's I/O and frees it. The vCPUs are already joined. */
	void (*destroy)(struct device *dev);
	/*
	 * Optional: makes now what later requests would make (rings, threads), because the thread of the device's
	 * loop, which calls it before the loop runs, cannot do so later. vCPUs may run already.
	 */
	void (*prepare)(struct device *dev);
	/*
	 * Optional; the loop's thread calls the next three. power_button: the user pressed the VM's
	 * power button.
	 */
	void (*power_button)(struct device *dev);
	/* The host has changed something that the device should look at (a disk's size). */
	void (*refresh)(struct device *dev);
	/*
	 * A disk only: gives the image so many bytes, which are not less than it has, and tells the
	 * guest. Waits for the host's file system, but never for the guest or the loop: not in the
	 * loop's thread nor a vCPU's. 0 or -errno (-EINVAL: not possible for this disk); err begins
	 * with the device's id.
	 */
	int (*resize)(struct device *dev, uint64_t size_bytes, struct err *err);
	/* The host pulls a network card's cable, or plugs it in. */
	void (*set_link)(struct device *dev, bool up);
	void (*describe)(struct device *dev, char *buf, size_t len); /* --dry-run: one line */
	/* A disk only, --dry-run: what it is made of, one line. */
	void (*describe_disk)(struct device *dev, char *buf, size_t len);
	/* Optional: one line for --stats, when the guest has ended; "": no line. */
	void (*stats)(struct device *dev, char *buf, size_t len);
	/*
	 * Optional: calls fn for each of the device's counters ("read_bytes"), always the same
	 * ones in the same order. Any thread, until destroy begins; takes no lock and does not wait.
	 */
	void (*counters)(struct device *dev, device_counter_fn fn, void *opaque);
};

/* Embedded first in every device's own struct. */
struct device {
	const struct device_type *type;
	const struct device_ops *ops;
	char id[DEVICE_ID_BYTES]; /* unique in the machine, which sets it after create */
	struct pci_func *pci;	  /* of a device on PCI, set by its transport; else NULL */
	char interface[16]; /* of the host, for a card that has one ("vmtap0"); create sets it */
	bool borrowed;	    /* the machine's, under its devices_lock: a thread works with it */
};

/* One of several options that make one device together. */
struct device_part {
	const struct keyvals *cfg;
	const char *id; /* "port1", as device_env.id is for a device */
};

struct device_type {
	const char *name;   /* "virtio-blk" */
	const char *option; /* "--disk", or NULL: not for the command line */
	bool repeat;	    /* the option may be given more than once */
	/* With repeat: so often at most, and the command line's replace a file's; 0: no limit of its own. */
	unsigned max;
	unsigned
		calls; /* CALLS_… (core/calls.h): what the lists of system calls have for it alone */
	/* What the device requires of guest memory with this configuration. NULL: MEMORY_ANY. */
	enum device_memory (*memory)(const struct keyvals *cfg);
	/*
	 * Refuses keys that exclude each other, as wrong usage, before anything is opened. NULL:
	 * none do.
	 */
	int (*check)(const struct keyvals *cfg, struct err *err);
	const struct key *keys; /* ends with name NULL; NULL without an option */
	const char *help;	/* one line */
	/* The machine's thread, before vCPUs and loop run; on failure nothing is left behind. */
	int (*create)(const struct device_env *env, const struct keyvals *cfg, struct device **out,
		      struct err *err);
	/*
	 * Instead of create, if all options of this type make one device together: its parts in the order
	 * in which they were given, at least one. It has the id and the place of the first.
	 */
	int (*create_all)(const struct device_env *env, const struct device_part *part,
			  unsigned nparts, struct device **out, struct err *err);
};

/* registry.c: every type, in the order of --help. Ends with NULL. */
extern const struct device_type *const device_types[];

static inline void device_destroy(struct device *dev)
{
	if (dev)
		dev->ops->destroy(dev);
}

#endif
