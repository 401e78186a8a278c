/*
 * msix: the MSI-X table of one function (PCI Local Bus 3.0, section 6.8.2).
 *
 * pci_msix_signal binds a vector to the VM (env->ops->msi_bind) at its first interrupt, and updates
 * its message at the first interrupt after a change: each of the two costs a change of KVM's
 * routing table, and drivers program far more messages than they use. Bindings last until
 * pci_msix_destroy. Thread: the caller holds the owner's lock in every call.
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

/*
 * What a guest can see or set. A snapshot will save exactly this. enabled and masked are copies of
 * message control.
 */
struct pci_msix_state {
	bool enabled;
	bool masked;	  /* function mask */
	uint64_t pending; /* bit n: vector n fired while masked */
	unsigned nvectors;
	struct pci_msix_entry table[MSIX_MAX_VECTORS]; /* the first nvectors are in use */
};

/* How a vector is bound to the VM, and the message that it delivers. */
struct pci_msix_binding {
	bool bound;
	unsigned id;
	int fd;
	bool lent; /* another server has fd: this process does not write it any more */
	uint64_t addr;
	uint32_t data;
};

struct pci_msix {
	struct pci_msix_state s;
	/* wiring */
	const struct device_env *env;
	struct pci_msix_binding *binding; /* one for each vector */
};

/* 0 or -ENOMEM. env outlives m. */
int pci_msix_init(struct pci_msix *m, const struct device_env *env, unsigned nvectors);
/* Unbinds all vectors and frees the bindings. Accepts a zeroed object. */
void pci_msix_destroy(struct pci_msix *m);
/*
 * Append the capability; table_off and pba_off are the offsets of table and pending bits in BAR
 * bar. Returns the capability's offset.
 */
unsigned pci_msix_cap(const struct pci_msix *m, struct pci_func *f, unsigned bar,
		      uint32_t table_off, uint32_t pba_off);

/*
 * Take over message control as the guest wrote it; fires pending vectors that are no longer masked.
 */
void pci_msix_set_control(struct pci_msix *m, uint16_t control);
/* Returns true if this message control is already in force. */
bool pci_msix_has_control(const struct pci_msix *m, uint16_t control);
/*
 * Accesses of the guest. off is relative to the table (nvectors * 16 bytes) or to the pending bits;
 * beyond their end, a read returns 0 and a write is ignored.
 */
uint64_t pci_msix_table_read(const struct pci_msix *m, uint64_t off, unsigned size_bytes);
void pci_msix_table_write(struct pci_msix *m, uint64_t off, unsigned size_bytes, uint64_t val);
uint64_t pci_msix_pba_read(const struct pci_msix *m, uint64_t off, unsigned size_bytes);

/*
 * Interrupt the guest by vector, or set the vector's pending bit if it is masked. Does nothing if
 * MSI-X is disabled or there is no such vector.
 */
void pci_msix_signal(struct pci_msix *m, unsigned vector);
/*
 * Returns the eventfd of a vector that may interrupt now, with its message up to date. Returns -1
 * if the vector is masked, MSI-X is disabled, or the vector cannot be bound: the caller then
 * interrupts by pci_msix_signal. Valid until pci_msix_destroy. It is for another server, who may change its
 * O_NONBLOCK and fill its counter: pci_msix_signal does without it from now on.
 */
int pci_msix_fd(struct pci_msix *m, unsigned vector);
/* The device was reset: clear the pending bits. The table stays: it belongs to the PCI function. */
void pci_msix_clear_pending(struct pci_msix *m);

#endif
