/* pci: see pci.h. */
#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/pci.h"
#include "guest/bare/lib/rt.h"

uint32_t pci_port_read(uint16_t bdf, unsigned reg, unsigned size)
{
	outl(0xcf8, 0x80000000u | (uint32_t)bdf << 8 | (reg & 0xfc));
	if (size == 1)
		return inb((uint16_t)(0xcfc + (reg & 3)));
	if (size == 2)
		return inw((uint16_t)(0xcfc + (reg & 2)));
	return inl(0xcfc);
}

void pci_port_write(uint16_t bdf, unsigned reg, unsigned size, uint32_t v)
{
	outl(0xcf8, 0x80000000u | (uint32_t)bdf << 8 | (reg & 0xfc));
	if (size == 1)
		outb((uint16_t)(0xcfc + (reg & 3)), (uint8_t)v);
	else if (size == 2)
		outw((uint16_t)(0xcfc + (reg & 2)), (uint16_t)v);
	else
		outl(0xcfc, v);
}

static uint64_t ecam(uint16_t bdf, unsigned reg)
{
	static bool mapped;

	if (!mapped)
		map_range(acpi.ecam_base, (uint64_t)acpi.ecam_buses << 20);
	mapped = true;
	return acpi.ecam_base + ((uint64_t)bdf << 12) + reg;
}

bool pci_has_ecam(void)
{
	return acpi.ecam_base != 0;
}

uint32_t pci_read(uint16_t bdf, unsigned reg, unsigned size)
{
	if (!acpi.ecam_base)
		return pci_port_read(bdf, reg, size);
	uint64_t a = ecam(bdf, reg);
	return size == 1 ? mmio_r8(a) : size == 2 ? mmio_r16(a) : mmio_r32(a);
}

void pci_write(uint16_t bdf, unsigned reg, unsigned size, uint32_t v)
{
	if (!acpi.ecam_base) {
		pci_port_write(bdf, reg, size, v);
		return;
	}
	uint64_t a = ecam(bdf, reg);
	if (size == 1)
		mmio_w8(a, v);
	else if (size == 2)
		mmio_w16(a, v);
	else
		mmio_w32(a, v);
}

unsigned pci_find_cap(uint16_t bdf, uint8_t id, unsigned after)
{
	if (!(pci_read(bdf, PCI_STATUS, 2) & 0x10))
		return 0;
	unsigned p = after ? pci_read(bdf, after + 1, 1) : pci_read(bdf, PCI_CAP_PTR, 1);
	for (unsigned hops = 0; p >= 0x40 && hops < 48; hops++) {
		if (pci_read(bdf, p & 0xfc, 1) == id)
			return p & 0xfc;
		p = pci_read(bdf, (p & 0xfc) + 1, 1);
	}
	return 0;
}

uint64_t pci_bar(uint16_t bdf, unsigned bar, uint64_t *len)
{
	unsigned reg = PCI_BAR0 + 4 * bar;
	uint32_t lo = pci_read(bdf, reg, 4), hi = 0, mask_hi = 0xffffffff;
	uint32_t command = pci_read(bdf, PCI_COMMAND, 2);
	bool wide = (lo & 7) == 4;

	if (lo & 1)
		return 0;
	pci_write(bdf, PCI_COMMAND, 2, command & ~3u); /* no decoding while the BAR is probed */
	pci_write(bdf, reg, 4, 0xffffffff);
	uint32_t mask = pci_read(bdf, reg, 4) & ~15u;
	pci_write(bdf, reg, 4, lo);
	if (wide) {
		hi = pci_read(bdf, reg + 4, 4);
		pci_write(bdf, reg + 4, 4, 0xffffffff);
		mask_hi = pci_read(bdf, reg + 4, 4);
		pci_write(bdf, reg + 4, 4, hi);
	}
	pci_write(bdf, PCI_COMMAND, 2, command);
	if (len)
		*len = mask ? ~((uint64_t)mask_hi << 32 | mask) + 1 : 0;
	return mask || mask_hi != 0xffffffff ? ((uint64_t)hi << 32 | (lo & ~15u)) : 0;
}

bool pci_msix_find(uint16_t bdf, struct pci_msix *out)
{
	unsigned cap = pci_find_cap(bdf, PCI_CAP_MSIX, 0);

	if (!cap)
		return false;
	uint32_t table = pci_read(bdf, cap + 4, 4), pba = pci_read(bdf, cap + 8, 4);
	*out = (struct pci_msix){
		.bdf = bdf,
		.cap = cap,
		.count = (pci_read(bdf, cap + 2, 2) & 0x7ff) + 1,
		.table = pci_bar(bdf, table & 7, NULL) + (table & ~7u),
		.pba = pci_bar(bdf, pba & 7, NULL) + (pba & ~7u),
	};
	map_range(out->table, 16ull * out->count);
	map_range(out->pba, 8);
	return true;
}

void pci_msix_set(const struct pci_msix *m, unsigned entry, unsigned vector, bool masked)
{
	uint64_t e = m->table + 16ull * entry;

	mmio_w32(e + 12, 1);
	mmio_w32(e, 0xfee00000);
	mmio_w32(e + 4, 0);
	mmio_w32(e + 8, vector);
	mmio_w32(e + 12, masked);
}

void pci_msix_enable(const struct pci_msix *m, bool on)
{
	pci_write(m->bdf, m->cap + 2, 2, on ? 0x8000 : 0);
}
