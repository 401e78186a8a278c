/*
 * pci: one PCI bus, as a guest sees it (PCI Local Bus 3.0, section 6; PCI Express Base 3.0,
 * sections 7.2 and 7.9 for ECAM and the extended space).
 *
 * Bus 0 with a host bridge at 00:00.0 and 31 slots of up to 8 functions. Configuration space is
 * reached by ECAM (one MMIO range, 4 KiB for each function) and by ports 0xcf8-0xcff (one PIO
 * range, the first 256 bytes of each function). BARs lie in one MMIO window below 4 GiB; a board
 * may have a second window above memory, for 64-bit BARs. pci_func_add places the BARs, the host
 * follows them wherever the guest moves them inside the windows, or below the first one down to
 * decode_base, and pci_func_remove gives them back. A BAR that the guest moves onto another one is not decoded until the other one has moved
 * away. Memory decode is off at first, as after a PCI reset. Port 0xcf9, which shares its dword
 * with the address port, is the reset control register: setting bit 2 is VM_EVENT_RESET.
 *
 * Threads. A function is built by one thread, before pci_func_add. Everything else may be called
 * from any thread while vCPUs run, with one exception: pci_func_remove waits for the function's
 * callbacks, so bus.h's rules of bus_wait hold for it. No callback calls it: a guest's request to
 * eject is posted to the loop. Finding a function or a BAR takes no lock. The host's lock guards
 * registers; the host calls no callback of a function with its lock held. It does call
 * env->ops->set_line and take the lock of the buses with its lock held. An owner may hold its own
 * lock when it calls pci_func_get, put, bar_base and intx.
 */
#ifndef BANTAM_PCI_H
#define BANTAM_PCI_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/device.h"
#include "devices/pci/window.h"

#define PCI_SLOTS 32
#define PCI_FUNCTIONS 8
#define PCI_BARS 6
#define PCI_CONFIG_BYTES 256
#define PCI_EXT_CONFIG_BYTES 4096 /* the first 256 included */

/* Offsets in configuration space. */
#define PCI_VENDOR_ID 0x00
#define PCI_DEVICE_ID 0x02
#define PCI_COMMAND 0x04
#define PCI_STATUS 0x06
#define PCI_REVISION 0x08
#define PCI_CLASS 0x09
#define PCI_HEADER_TYPE 0x0e
#define PCI_BAR0 0x10
#define PCI_SUBSYSTEM_VENDOR 0x2c
#define PCI_SUBSYSTEM_ID 0x2e
#define PCI_CAP_POINTER 0x34
#define PCI_INTERRUPT_LINE 0x3c
#define PCI_INTERRUPT_PIN 0x3d
#define PCI_FIRST_CAP 0x40

#define PCI_COMMAND_MEMORY 0x002u
#define PCI_COMMAND_MASTER 0x004u
#define PCI_COMMAND_INTX_OFF 0x400u
#define PCI_STATUS_INTX 0x08u
#define PCI_STATUS_CAPS 0x10u
#define PCI_HEADER_MULTI 0x80u

/* Flags of a memory BAR, as in its register. */
#define PCI_BAR_64 0x4u /* takes the next BAR's register as well */
#define PCI_BAR_PREFETCH 0x8u

struct pci_host_config {
	uint64_t ecam_base;
	uint64_t ecam_bytes; /* 1 MiB per bus; 0: no ECAM */
	uint64_t mmio_base;  /* for BARs; the window ends below 4 GiB */
	uint64_t mmio_bytes;
	uint8_t gsi[PCI_SLOTS]; /* the GSI of each slot's INTA */
	uint64_t mmio64_base;	/* for 64-bit BARs; above memory */
	uint64_t mmio64_bytes;	/* 0: none, and 64-bit BARs lie in the other window */
	/*
	 * A guest that does not know the window (Linux with pci=noacpi) takes any gap above memory. 0:
	 * mmio_base.
	 */
	uint64_t decode_base;
};

struct pci_func;

struct pci_func_ops {
	/*
	 * An access inside the BAR; size_bytes is 1, 2, 4 or 8, and the access does not cross the
	 * BAR's end.
	 */
	uint64_t (*bar_read)(struct pci_func *f, unsigned bar, uint64_t off, unsigned size_bytes);
	void (*bar_write)(struct pci_func *f, unsigned bar, uint64_t off, unsigned size_bytes,
			  uint64_t val);
	/*
	 * Returns what the guest reads at [off, off + size_bytes) of configuration space;
	 * size_bytes is 1, 2 or 4. NULL: the guest reads the function's own bytes, as pci_func_get
	 * returns them. Not called beyond 256 bytes for a function without an extended capability:
	 * that space reads 0.
	 */
	uint32_t (*config_read)(struct pci_func *f, unsigned off, unsigned size_bytes);
	/*
	 * Called after the guest wrote configuration space; may be NULL. Two vCPUs may call it at
	 * the same time, in either order: the callee compares what the pci_func_* functions return
	 * now with what is in effect.
	 */
	void (*config_written)(struct pci_func *f, unsigned off, unsigned size_bytes);
};

/*
 * What a guest can see or set of a function, together with struct pci_ext_state if it has an
 * extended space. A snapshot will save exactly this.
 */
struct pci_func_state {
	uint8_t config[PCI_CONFIG_BYTES];
	bool intx; /* INTA is asserted by the function */
};

/* Configuration space from byte 256 on. A snapshot will save exactly this. */
struct pci_ext_state {
	uint8_t config[PCI_EXT_CONFIG_BYTES - PCI_CONFIG_BYTES];
};

struct pci_ext {
	struct pci_ext_state s;
	uint8_t writable[PCI_EXT_CONFIG_BYTES -
			 PCI_CONFIG_BYTES]; /* bits that the guest may change */
};

/* Private to devices/pci. */
struct pci_bar {
	struct pci_func *func;
	uint64_t len_bytes;	       /* 0: none */
	unsigned flags;		       /* PCI_BAR_64, PCI_BAR_PREFETCH */
	struct pci_window_piece piece; /* where pci_func_add placed it */
	struct bus_range range;	       /* where accesses reach it now */
};

/*
 * Embedded in the owner's struct, zeroed. The owner fills the identity, then adds BARs and
 * capabilities.
 */
struct pci_func {
	const struct pci_func_ops *ops;
	struct pci_func_state state;
	/* wiring, private to devices/pci from here */
	struct pci_host *host;
	unsigned slot, function;
	uint8_t writable[PCI_CONFIG_BYTES]; /* bits that the guest may change */
	struct pci_ext *ext;		    /* NULL: no extended capability */
	unsigned next_cap, last_cap;	    /* offset of the next one; of the last one, or 0 */
	unsigned next_ext, last_ext;
	struct pci_bar bar[PCI_BARS];
	struct bus_range config_range; /* on the host's bus of configuration spaces */
	bool leaving;		       /* pci_func_remove has begun */
	bool line;		       /* asserts INTA: intx, and not disabled */
};

/* env outlives the host. 0, -ENOMEM, or the error of a window that collides with another range. */
int pci_host_create(const struct device_env *env, const struct pci_host_config *cfg,
		    struct pci_host **out, struct err *err);
/* The caller has removed all functions. Accepts NULL. */
void pci_host_destroy(struct pci_host *host);

/* Bit n: slot n holds a function (bit 0, the host bridge, included). */
uint32_t pci_host_slots(struct pci_host *host);
unsigned pci_host_gsi(const struct pci_host *host, unsigned slot);

/* Set the identity of a zeroed function: class_code has 24 bits, revision 1, interrupt pin INTA. */
void pci_func_init(struct pci_func *f, const struct pci_func_ops *ops, uint16_t vendor,
		   uint16_t device, uint32_t class_code);
void pci_func_subsystem(struct pci_func *f, uint16_t vendor, uint16_t id);
/*
 * Add a memory BAR. len_bytes is a power of two, 16 or more, at most 2 GiB without PCI_BAR_64;
 * flags are PCI_BAR_64 and PCI_BAR_PREFETCH. Call it before pci_func_add.
 */
void pci_func_bar(struct pci_func *f, unsigned bar, uint64_t len_bytes, unsigned flags);
/*
 * Append a capability. body holds the bytes after id and next; writable is the mask of the bits in
 * body that the guest may change (NULL: none). Returns the capability's offset. Call it before
 * pci_func_add.
 */
unsigned pci_func_cap(struct pci_func *f, uint8_t id, const void *body, const void *writable,
		      unsigned body_bytes);
/*
 * The same in the extended space; body holds the bytes after the first dword. The first call
 * allocates the extended space, which pci_func_remove frees. Returns the offset or -ENOMEM.
 */
int pci_func_ext_cap(struct pci_func *f, uint16_t id, unsigned version, const void *body,
		     const void *writable, unsigned body_bytes);

/*
 * Place the function on the bus: slot 1 to 31, or 0 for the first empty one; function 0 to 7. All
 * functions of a slot share its INTA. A guest looks for functions 1 to 7 only in a slot that has a
 * function 0. 0, -ENOSPC, -EEXIST or -ENOMEM; after an error the function is as it was.
 */
int pci_func_add(struct pci_host *host, struct pci_func *f, unsigned slot, unsigned function,
		 struct err *err);
/*
 * When it returns, no callback of the function runs and none will start; its slot, BARs and line
 * are free, and the owner may free f. Accepts a function that was never added. To add f again, zero
 * it and build it anew.
 */
void pci_func_remove(struct pci_func *f);

/* Read or write configuration space; size_bytes is 1, 2 or 4. put ignores the writable mask. */
uint32_t pci_func_get(struct pci_func *f, unsigned off, unsigned size_bytes);
void pci_func_put(struct pci_func *f, unsigned off, unsigned size_bytes, uint32_t val);
/*
 * Returns true and sets *base if the guest has the BAR decoded inside a window; false if memory
 * decode is off or the BAR lies outside the windows.
 */
bool pci_func_bar_base(struct pci_func *f, unsigned bar, uint64_t *base);
/*
 * Where a function sits. The BAR's address is the one at which the guest has it decoded, or while
 * it is not decoded, the one that pci_func_add gave it.
 */
struct pci_place {
	unsigned slot, function;
	uint64_t bar_base, bar_bytes; /* 0 bytes: there is no such BAR */
};
struct pci_place pci_func_place(struct pci_func *f, unsigned bar);
/* Assert or release INTA. The line follows unless the guest has set the interrupt disable bit. */
void pci_func_intx(struct pci_func *f, bool asserted);

#endif
