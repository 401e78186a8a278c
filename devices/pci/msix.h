/*
 * msix: the MSI-X table of one function (PCI Local Bus 3.0, section 6.8.2).
 *
 * A vector is bound to the VM (env->ops->msi_bind) at its first interrupt and
 * its message is updated at the first interrupt after a change: each of the two costs a
 * change of KVM's routing table, and drivers program far more messages than they
 * use. Bindings last until pci_msix_destroy. Thread: the owner's lock is held in every call.
 */
#ifndef BANTAM_PCI_MSIX_H
#define BANTAM_PCI_MSIX_H

#include "devices/pci/pci.h"

#define MSIX_MAX_VECTORS 64u
#define MSIX_NO_VECTOR 0xffffu
#define MSIX_CAP_CONTROL 2u /* offset of message control in the capability */

/* One entry of the table as the guest wrote it. */
struct pci_msix_entry {
	uint32_t word[4]; /* address low, high, data, control */
};

/* What a guest can see or set. Enable and function mask are a copy of message control. */
struct pci_msix_state {
	bool enabled;
	bool masked;	  /* function mask */
	uint64_t pending; /* bit n: vector n fired while masked */
	unsigned nvectors;
	struct pci_msix_entry *table; /* nvectors of them, its own */
};

/* How a vector reaches the VM, and the message that it carries there. */
struct pci_msix_binding {
	bool bound;
	unsigned id;
	int fd;
	uint64_t addr;
	uint32_t data;
};

struct pci_msix {
	struct pci_msix_state s;
	/* wiring */
	const struct device_env *env;
	struct pci_msix_binding *binding; /* of each vector */
};

/* 0 or -ENOMEM. env outlives it. */
int pci_msix_init(struct pci_msix *m, const struct device_env *env, unsigned nvectors);
/* Unbinds; accepts a zeroed object. */
void pci_msix_destroy(struct pci_msix *m);
/* Append the capability: table and pending bits at these offsets of one BAR. */
unsigned pci_msix_cap(const struct pci_msix *m, struct pci_func *f, unsigned bar,
		      uint32_t table_off, uint32_t pba_off);

/* Message control as the guest wrote it; fires what an unmask lets through. */
void pci_msix_set_control(struct pci_msix *m, uint16_t control);
/* off relative to the table (nvectors * 16 bytes) or the pending bits; beyond: 0, ignored. */
uint64_t pci_msix_table_read(const struct pci_msix *m, uint64_t off, unsigned size_bytes);
void pci_msix_table_write(struct pci_msix *m, uint64_t off, unsigned size_bytes, uint64_t val);
uint64_t pci_msix_pba_read(const struct pci_msix *m, uint64_t off, unsigned size_bytes);

/* Interrupt by vector, or set its pending bit. Not enabled or no such vector: nothing. */
void pci_msix_signal(struct pci_msix *m, unsigned vector);
/* The eventfd of a vector that may interrupt now, its message up to date; -1: masked, not enabled,
 * or it cannot be had: then interrupts go by pci_msix_signal. Valid until pci_msix_destroy. */
int pci_msix_fd(struct pci_msix *m, unsigned vector);
/* The function was reset: forget pending bits. The table stays (it is the bus's). */
void pci_msix_clear_pending(struct pci_msix *m);

#endif
