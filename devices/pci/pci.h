/*
 * pci: one PCI bus as a guest finds it (PCI Local Bus 3.0, section 6; PCI Express Base 3.0,
 * sections 7.2 and 7.9 for ECAM and the extended space).
 *
 * Bus 0 with a host bridge at 00:00.0 and 31 slots of up to 8 functions. Configuration
 * space is reached by ECAM (one MMIO range, 4 KiB for each function) and by ports
 * 0xcf8-0xcff (one PIO range, the first 256 bytes). BARs lie in one MMIO window below 4 GiB
 * and, where the board has one, another above memory for 64-bit BARs. They are placed when
 * the function is added, followed wherever the guest moves them inside the windows,
 * and given back when the function is removed. A BAR that the guest moves onto another one is not
 * decoded until that one has left. Memory decode is off at first, as after a PCI
 * reset. Port 0xcf9, which shares its dword with the address port, is the reset control
 * register: setting bit 2 is VM_EVENT_RESET.
 *
 * Threads. A function is built by one thread, before pci_func_add. Everything else may be called
 * from any thread while vCPUs run, with one exception: pci_func_remove waits for the
 * function's callbacks, so bus.h's rules of bus_wait hold for it. No callback calls it: a
 * guest's request to eject is posted to the loop. Finding a function or a BAR takes no
 * lock. The host's lock guards registers; no callback into a function is made with it
 * held. Under it env->ops->set_line is called and the lock of the buses taken. An owner may
 * hold its own lock when it calls pci_func_get, put, bar_base and intx.
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
#define PCI_EXT_CONFIG_BYTES 4096 /* with the first 256 */

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

/* Of a memory BAR, as in its register. */
#define PCI_BAR_64 0x4u /* takes the next BAR's register as well */
#define PCI_BAR_PREFETCH 0x8u

struct pci_host_config {
	uint64_t ecam_base;
	uint64_t ecam_bytes; /* 1 MiB per bus; 0: no ECAM */
	uint64_t mmio_base;  /* for BARs; the window ends below 4 GiB */
	uint64_t mmio_bytes;
	uint8_t gsi[PCI_SLOTS]; /* of each slot's INTA */
	uint64_t mmio64_base;	/* for 64-bit BARs; above memory */
	uint64_t mmio64_bytes;	/* 0: none, and 64-bit BARs lie in the other window */
};

struct pci_func;

struct pci_func_ops {
	/* Inside the BAR; size_bytes 1, 2, 4 or 8, not crossing its end. */
	uint64_t (*bar_read)(struct pci_func *f, unsigned bar, uint64_t off, unsigned size_bytes);
	void (*bar_write)(struct pci_func *f, unsigned bar, uint64_t off, unsigned size_bytes,
			  uint64_t val);
	/*
	 * What the guest reads at [off, off + size) of configuration space, size_bytes 1, 2
	 * or 4; pci_func_get has the function's own bytes. NULL: those. Not called beyond
	 * 256 bytes without an extended capability: that space reads 0.
	 */
	uint32_t (*config_read)(struct pci_func *f, unsigned off, unsigned size_bytes);
	/*
	 * After it was written; may be NULL. Two vCPUs may be in it at once, in either
	 * order: compare what pci_func_* say now with what is in effect.
	 */
	void (*config_written)(struct pci_func *f, unsigned off, unsigned size_bytes);
};

/* What a guest can see or set of a function; with the extended space, if it has one. */
struct pci_func_state {
	uint8_t config[PCI_CONFIG_BYTES];
	bool intx; /* INTA is asserted by the function */
};

/* Configuration space from byte 256 on: config is a guest's to see, as pci_func_state. */
struct pci_ext {
	uint8_t config[PCI_EXT_CONFIG_BYTES - PCI_CONFIG_BYTES];
	uint8_t writable[PCI_EXT_CONFIG_BYTES - PCI_CONFIG_BYTES];
};

/* Private to devices/pci. */
struct pci_bar {
	struct pci_func *func;
	uint64_t len_bytes;	       /* 0: none */
	unsigned flags;		       /* PCI_BAR_64, PCI_BAR_PREFETCH */
	struct pci_window_piece piece; /* where pci_func_add placed it */
	struct bus_range range;	       /* where the guest has it decoded */
};

/* Embedded in the owner's struct, zeroed. Fill identity, then add BARs and capabilities. */
struct pci_func {
	const struct pci_func_ops *ops;
	struct pci_func_state state;
	/* wiring, private to devices/pci from here */
	struct pci_host *host;
	unsigned slot, function;
	uint8_t writable[PCI_CONFIG_BYTES]; /* bits that the guest may change */
	struct pci_ext *ext;		    /* NULL: no extended capability */
	unsigned next_cap, last_cap;	    /* where the next one goes; the one before, or 0 */
	unsigned next_ext, last_ext;
	struct pci_bar bar[PCI_BARS];
	struct bus_range config_range; /* on the host's bus of configuration spaces */
	bool leaving;		       /* pci_func_remove has begun */
	bool line;		       /* wants INTA up: intx, and not disabled */
};

/* env outlives the host. Errors: -ENOMEM, or a window that collides with another range. */
int pci_host_create(const struct device_env *env, const struct pci_host_config *cfg,
		    struct pci_host **out, struct err *err);
/* All functions have been removed; accepts NULL. */
void pci_host_destroy(struct pci_host *host);

/* Bit n: slot n holds a function (bit 0, the host bridge, included). */
uint32_t pci_host_slots(struct pci_host *host);
unsigned pci_host_gsi(const struct pci_host *host, unsigned slot);

/* Identity of a zeroed function: class_code has 24 bits, revision 1, interrupt pin INTA. */
void pci_func_init(struct pci_func *f, const struct pci_func_ops *ops, uint16_t vendor,
		   uint16_t device, uint32_t class_code);
void pci_func_subsystem(struct pci_func *f, uint16_t vendor, uint16_t id);
/*
 * A memory BAR; len_bytes is a power of two, 16 or more; flags PCI_BAR_64 and PCI_BAR_PREFETCH.
 * Without PCI_BAR_64 at most 2 GiB. Before pci_func_add.
 */
void pci_func_bar(struct pci_func *f, unsigned bar, uint64_t len_bytes, unsigned flags);
/*
 * Append a capability: body are the bytes after id and next, writable its mask of bits that
 * the guest may change (NULL: none). Returns its offset. Before pci_func_add.
 */
unsigned pci_func_cap(struct pci_func *f, uint8_t id, const void *body, const void *writable,
		      unsigned body_bytes);
/*
 * The same in the extended space; body are the bytes after the first dword. The first
 * one allocates that space, which pci_func_remove frees. Its offset or -ENOMEM.
 */
int pci_func_ext_cap(struct pci_func *f, uint16_t id, unsigned version, const void *body,
		     const void *writable, unsigned body_bytes);

/*
 * Place the function: slot 1 to 31, or 0 for the first empty one; function 0 to 7. All
 * functions of a slot share its INTA. A guest looks for functions 1 to 7 only where there is a
 * function 0. -ENOSPC, -EEXIST, -ENOMEM; then the function is as it was.
 */
int pci_func_add(struct pci_host *host, struct pci_func *f, unsigned slot, unsigned function,
		 struct err *err);
/*
 * When it returns no callback into the function runs and none will start; its slot, BARs and
 * line are free, and f may be freed. Accepts a function that was never added. To
 * add it again, zero it and build it anew.
 */
void pci_func_remove(struct pci_func *f);

/* Configuration space as it is now; size_bytes 1, 2 or 4. put ignores the mask. */
uint32_t pci_func_get(struct pci_func *f, unsigned off, unsigned size_bytes);
void pci_func_put(struct pci_func *f, unsigned off, unsigned size_bytes, uint32_t val);
/* Where the registers have a BAR now; false: nowhere (decode off or outside the windows). */
bool pci_func_bar_base(struct pci_func *f, unsigned bar, uint64_t *base);
/* Assert or release INTA; what the line does also depends on the interrupt disable bit. */
void pci_func_intx(struct pci_func *f, bool asserted);

#endif
