/*
 * pci: access to configuration space by ECAM (address from the MCFG) and by ports 0xcf8/0xcfc.
 */
#ifndef GUEST_PCI_H
#define GUEST_PCI_H

#include <stdbool.h>
#include <stdint.h>

#define PCI_VENDOR 0x00
#define PCI_COMMAND 0x04
#define PCI_STATUS 0x06
#define PCI_CLASS 0x08
#define PCI_HEADER 0x0e
#define PCI_BAR0 0x10
#define PCI_CAP_PTR 0x34
#define PCI_IRQ_PIN 0x3d
#define PCI_CAP_MSIX 0x11
#define PCI_CAP_VENDOR 0x09

/* bdf: bus << 8 | device << 3 | function. size 1, 2 or 4; reg naturally aligned. */
uint32_t pci_port_read(uint16_t bdf, unsigned reg, unsigned size);
void pci_port_write(uint16_t bdf, unsigned reg, unsigned size, uint32_t v);
/* Uses ECAM if the board has it, else the ports. */
uint32_t pci_read(uint16_t bdf, unsigned reg, unsigned size);
void pci_write(uint16_t bdf, unsigned reg, unsigned size, uint32_t v);
bool pci_has_ecam(void);

/* Returns the register of the next capability with this id after reg (0: the first), or 0. */
unsigned pci_find_cap(uint16_t bdf, uint8_t id, unsigned after);
/* Returns a memory BAR's address, or 0 (another kind, or no address). Probes its size into *len. */
uint64_t pci_bar(uint16_t bdf, unsigned bar, uint64_t *len);

/* MSI-X: first point table entries at vectors of this CPU, then enable. */
struct pci_msix {
	uint16_t bdf;
	unsigned cap;
	unsigned count;
	uint64_t table, pba;
};
bool pci_msix_find(uint16_t bdf, struct pci_msix *out);
void pci_msix_set(const struct pci_msix *m, unsigned entry, unsigned vector, bool masked);
void pci_msix_enable(const struct pci_msix *m, bool on);

#endif
