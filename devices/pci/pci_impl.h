/* pci_impl: what pci.c and func.c share. */
#ifndef BANTAM_PCI_IMPL_H
#define BANTAM_PCI_IMPL_H

#include <pthread.h>

#include "devices/pci/pci.h"

struct pci_host {
	const struct device_env *env;
	struct pci_host_config cfg;
	pthread_mutex_t lock; /* every field below, and those of the functions */
	struct pci_func *slot[PCI_SLOTS];
	uint64_t next_bar;	 /* the window is handed out upwards */
	uint32_t config_address; /* port 0xcf8 */
	uint8_t reset_control;	 /* port 0xcf9 */
	bool has_ecam, has_window, has_ports;
	struct pci_func bridge;
};

/* lock held */
bool pci_bar_base(const struct pci_func *f, unsigned bar, uint64_t *base);
/* Bring the status bit and the interrupt line in step with intx and the command register. */
void pci_update_line(struct pci_func *f);

#endif
