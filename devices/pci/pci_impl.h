/* pci_impl: what the sources of devices/pci share. */
#ifndef BANTAM_PCI_IMPL_H
#define BANTAM_PCI_IMPL_H

#include <pthread.h>

#include "devices/pci/pci.h"

/*
 * Functions lie this far apart on the host's bus of configuration spaces. The upper half
 * of each reads 0, so that an access across a function's end stays with that function.
 */
#define PCI_CONFIG_STRIDE (2u * PCI_EXT_CONFIG_BYTES)

/* What a guest can see or set of the host. */
struct pci_host_state {
	uint32_t config_address; /* port 0xcf8 */
	uint8_t reset_control;	 /* port 0xcf9 */
};

/* One of the guest's windows to BARs, on the bus of MMIO. */
struct pci_aperture {
	struct bus *bars;
	struct bus_range range;
};

struct pci_host {
	const struct device_env *env;
	struct pci_host_config cfg;
	struct bus configs; /* each function's configuration space, PCI_CONFIG_STRIDE apart */
	struct bus bars;    /* what is decoded now, by guest address */
	struct bus_range ecam, ports;
	struct pci_aperture low, high;

	pthread_mutex_t lock; /* every field below, and those of the functions */
	struct pci_host_state state;
	struct pci_func *func[PCI_SLOTS * PCI_FUNCTIONS];
	struct pci_window window, window64;
	uint32_t lines; /* bit n: slot n's INTA, as set_line was last told */
	struct pci_func bridge;
};

static inline unsigned pci_func_index(const struct pci_func *f)
{
	return f->slot * PCI_FUNCTIONS + f->function;
}

/* Opaque is the function. */
extern const struct bus_ops pci_config_ops;

/* --- bar.c, lock held ----------------------------------------------------------------- */

/* All or none. -ENOSPC; err says which. */
int pci_bars_place(struct pci_host *host, struct pci_func *f, struct err *err);
void pci_bars_give_back(struct pci_host *host, struct pci_func *f);
/* As pci_func_bar_base. */
bool pci_bar_base(const struct pci_func *f, unsigned bar, uint64_t *base);
/* Decode f's BARs where its registers say, or nowhere when it is leaving. */
void pci_bars_follow(struct pci_func *f);

#endif
