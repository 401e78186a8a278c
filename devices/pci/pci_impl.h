/* pci_impl: what the sources of devices/pci share. */
#ifndef BANTAM_PCI_IMPL_H
#define BANTAM_PCI_IMPL_H

#include <pthread.h>

#include "devices/pci/pci.h"

/*
 * Distance between two functions on the host's bus of configuration spaces. The upper half of each
 * stride reads 0, so an access across a function's end stays within that function's range.
 */
#define PCI_CONFIG_STRIDE (2u * PCI_EXT_CONFIG_BYTES)

/* The registers of the host that a guest can see or set. A snapshot will save exactly this. */
struct pci_host_state {
	uint32_t config_address; /* port 0xcf8 */
	uint8_t reset_control;	 /* port 0xcf9 */
};

/* A window through which the guest reaches BARs; range is on the VM's MMIO bus. */
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
	struct pci_window decode; /* window, and what lies below it down to cfg.decode_base */
	uint32_t lines; /* bit n: the level of slot n's INTA, as last passed to set_line */
	struct pci_func bridge;
};

static inline unsigned pci_func_index(const struct pci_func *f)
{
	return f->slot * PCI_FUNCTIONS + f->function;
}

/* opaque is the struct pci_func. */
extern const struct bus_ops pci_config_ops;

/* --- bar.c, lock held ----------------------------------------------------------------- */

/* Place all BARs of f, or none. 0 or -ENOSPC; err then names the BAR that did not fit. */
int pci_bars_place(struct pci_host *host, struct pci_func *f, struct err *err);
/* Their registers hold address 0 again, as before pci_bars_place. */
void pci_bars_give_back(struct pci_host *host, struct pci_func *f);
/* As pci_func_bar_base. */
bool pci_bar_base(const struct pci_func *f, unsigned bar, uint64_t *base);
/* Map f's BARs where its registers place them, or nowhere if f is leaving. */
void pci_bars_follow(struct pci_func *f);

#endif
