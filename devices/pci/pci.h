/*
 * pci: one PCI bus as a guest finds it (PCI Local Bus 3.0, section 6).
 *
 * Bus 0 with a host bridge at 00:00.0 and up to 31 functions, one per slot.
 * Configuration space is reached by ECAM (one MMIO range) and by ports
 * 0xcf8-0xcff (one PIO range); all BARs lie in one MMIO window, are 32 bits wide, placed
 * when the function is added and followed wherever the guest moves them inside
 * the window. Memory decode is off at first, as after a PCI reset. Port 0xcf9, which
 * shares its dword with the address port, is the reset control register:
 * setting bit 2 is VM_EVENT_RESET.
 *
 * Thread: create, add, remove and destroy before the vCPUs run or after they have been joined;
 * everything else from any thread. The host's lock is a leaf: no callback
 * into a function is made with it held (env->ops->set_line is).
 */
#ifndef BANTAM_PCI_H
#define BANTAM_PCI_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/device.h"

#define PCI_SLOTS 32
#define PCI_BARS 6
#define PCI_CONFIG_BYTES 256

/* Offsets in configuration space. */
#define PCI_VENDOR_ID 0x00
#define PCI_DEVICE_ID 0x02
#define PCI_COMMAND 0x04
#define PCI_STATUS 0x06
#define PCI_REVISION 0x08
#define PCI_CLASS 0x09
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

struct pci_host_config {
	uint64_t ecam_base;
	uint64_t ecam_bytes; /* 1 MiB per bus; 0: no ECAM */
	uint64_t mmio_base;  /* for BARs; the window ends below 4 GiB */
	uint64_t mmio_bytes;
	uint8_t gsi[PCI_SLOTS]; /* of each slot's INTA */
};

struct pci_func;

struct pci_func_ops {
	/* Inside the BAR; size_bytes 1, 2, 4 or 8, not crossing its end. */
	uint64_t (*bar_read)(struct pci_func *f, unsigned bar, uint64_t off, unsigned size_bytes);
	void (*bar_write)(struct pci_func *f, unsigned bar, uint64_t off, unsigned size_bytes,
			  uint64_t val);
	/* Before [off, off + size) of configuration space is read; may be NULL. */
	void (*config_read)(struct pci_func *f, unsigned off, unsigned size_bytes);
	/*
	 * After it was written; may be NULL. Two vCPUs may be in it at once, in either
	 * order: compare what pci_func_* say now with what is in effect.
	 */
	void (*config_written)(struct pci_func *f, unsigned off, unsigned size_bytes);
};

/* Embedded in the owner's struct, zeroed. Fill ops and identity, then add BARs and caps. */
struct pci_func {
	const struct pci_func_ops *ops;
	/* private to pci.c from here */
	struct pci_host *host;
	unsigned slot;
	uint8_t config[PCI_CONFIG_BYTES];
	uint8_t writable[PCI_CONFIG_BYTES]; /* bits that the guest may change */
	uint32_t bar_bytes[PCI_BARS];	    /* 0: none */
	unsigned next_cap;		    /* where the next capability goes */
	unsigned last_cap;
	bool intx; /* asserted by the function */
	bool line; /* as set_line was last told */
};

/* env outlives the host. Errors: -ENOMEM, or a window that collides with another range. */
int pci_host_create(const struct device_env *env, const struct pci_host_config *cfg,
		    struct pci_host **out, struct err *err);
/* All functions have been removed; accepts NULL. */
void pci_host_destroy(struct pci_host *host);

/* Bit n: slot n holds a function (bit 0, the host bridge, included). */
uint32_t pci_host_slots(const struct pci_host *host);
unsigned pci_host_gsi(const struct pci_host *host, unsigned slot);
const struct pci_host_config *pci_host_config(const struct pci_host *host);

/* Identity of a zeroed function: class_code has 24 bits, revision 1, interrupt pin INTA. */
void pci_func_init(struct pci_func *f, const struct pci_func_ops *ops, uint16_t vendor,
		   uint16_t device, uint32_t class_code);
/* A 32-bit memory BAR; size_bytes is a power of two, 16 or more. Before pci_func_add. */
void pci_func_bar(struct pci_func *f, unsigned bar, uint32_t size_bytes);
/*
 * Append a capability: body are the bytes after id and next, writable its mask of bits that
 * the guest may change (NULL: none). Returns its offset. Before pci_func_add.
 */
unsigned pci_func_cap(struct pci_func *f, uint8_t id, const void *body, const void *writable,
		      unsigned body_bytes);
/* Place the function: slot 1 to 31, or 0 for the first free one. -ENOSPC, -EEXIST. */
int pci_func_add(struct pci_host *host, struct pci_func *f, unsigned slot, struct err *err);
/* Accepts a function that was never added. */
void pci_func_remove(struct pci_func *f);

/* Configuration space as it is now; size_bytes 1, 2 or 4. put ignores the mask. */
uint32_t pci_func_get(struct pci_func *f, unsigned off, unsigned size_bytes);
void pci_func_put(struct pci_func *f, unsigned off, unsigned size_bytes, uint32_t val);
/* Where a BAR is decoded now; false: nowhere (decode off or outside the window). */
bool pci_func_bar_base(struct pci_func *f, unsigned bar, uint64_t *base);
/* Assert or release INTA; what the line does also depends on the interrupt disable bit. */
void pci_func_intx(struct pci_func *f, bool asserted);

#endif
