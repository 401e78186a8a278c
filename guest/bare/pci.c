/*
 * pci: ECAM and ports 0xcf8/0xcfc show the same bus 0; BARs have addresses,
 * do not overlap and answer a size probe; capability lists end; reads and writes of
 * every width at every offset do no harm.
 */
#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/pci.h"
#include "guest/bare/lib/rt.h"

static struct {
	uint64_t base, len;
} bars[64];
static unsigned nbars;

static void check_bars(uint16_t bdf)
{
	bool placed = true, apart = true;

	for (unsigned i = 0; i < 6; i++) {
		uint32_t raw = pci_read(bdf, PCI_BAR0 + 4 * i, 4);
		uint64_t len = 0, base = pci_bar(bdf, i, &len);
		if (!len || (raw & 1))
			continue;
		placed = placed && base && !(base & (len - 1)) && !(len & (len - 1));
		for (unsigned k = 0; k < nbars; k++)
			apart = apart &&
				(base >= bars[k].base + bars[k].len || bars[k].base >= base + len);
		if (nbars < 64) {
			bars[nbars].base = base;
			bars[nbars++].len = len;
		}
		rt_print("#   BAR%u %lx + %lx\n", i, base, len);
		i += (raw & 7) == 4;
	}
	ok(placed, "device %u: BARs are placed and aligned to their size", bdf >> 3);
	ok(apart, "device %u: BARs do not overlap", bdf >> 3);
}

/* Compares the first 256 bytes by both ways; no register changes between the two reads. */
static bool same_both_ways(uint16_t bdf)
{
	for (unsigned reg = 0; reg < 256; reg += 4)
		if (pci_read(bdf, reg, 4) != pci_port_read(bdf, reg, 4))
			return false;
	for (unsigned reg = 0; reg < 64; reg++)
		if (pci_read(bdf, reg, 1) != pci_port_read(bdf, reg, 1))
			return false;
	for (unsigned reg = 0; reg < 64; reg += 2)
		if (pci_read(bdf, reg, 2) != pci_port_read(bdf, reg, 2))
			return false;
	return true;
}

/* Checks that reads of one, two and four bytes agree. */
static bool widths_agree(uint16_t bdf)
{
	for (unsigned reg = 0; reg < 256; reg += 4) {
		uint32_t d = pci_read(bdf, reg, 4), w = 0, b = 0;
		for (unsigned i = 0; i < 2; i++)
			w |= pci_read(bdf, reg + 2 * i, 2) << (16 * i);
		for (unsigned i = 0; i < 4; i++)
			b |= pci_read(bdf, reg + i, 1) << (8 * i);
		if (d != w || d != b)
			return false;
	}
	return true;
}

/* Writes several values to every register, then restores the old contents. */
static void write_everything(uint16_t bdf)
{
	static uint32_t saved[64];
	uint32_t id = pci_read(bdf, PCI_VENDOR, 4), class = pci_read(bdf, PCI_CLASS, 4);

	for (unsigned i = 0; i < 64; i++)
		saved[i] = pci_read(bdf, 4 * i, 4);
	/* Switch decoding off before the BARs move; write from the end down. */
	pci_write(bdf, PCI_COMMAND, 2, 0);
	for (unsigned size = 1; size <= 4; size *= 2)
		for (unsigned reg = 256 - size; reg >= 6; reg -= size) {
			pci_write(bdf, reg, size, 0xffffffff);
			pci_write(bdf, reg, size, 0);
		}
	pci_write(bdf, PCI_VENDOR, 4, 0x12345678);
	pci_write(bdf, PCI_COMMAND, 2, 0xf8f8);
	pci_write(bdf, PCI_COMMAND, 2, 0);
	for (unsigned i = 2; i < 64; i++)
		pci_write(bdf, 4 * i, 4, saved[i]);
	pci_write(bdf, PCI_COMMAND, 2, saved[1] & 0xffff);
	ok(pci_read(bdf, PCI_VENDOR, 4) == id && pci_read(bdf, PCI_CLASS, 4) == class,
	   "device %u: identity is read-only", bdf >> 3);
	bool kept = true;
	for (unsigned i = 4; i < 10; i++)
		kept = kept && pci_read(bdf, 4 * i, 4) == saved[i];
	ok(kept, "device %u: BARs come back", bdf >> 3);
}

static void check_device(uint16_t bdf)
{
	unsigned caps = 0, p = pci_read(bdf, PCI_CAP_PTR, 1);

	rt_print("# %u: %08x class %06x pin %u\n", bdf >> 3, pci_read(bdf, PCI_VENDOR, 4),
		 pci_read(bdf, PCI_CLASS, 4) >> 8, pci_read(bdf, PCI_IRQ_PIN, 1));
	if (pci_has_ecam())
		ok(same_both_ways(bdf), "device %u: ECAM and ports agree", bdf >> 3);
	ok(widths_agree(bdf), "device %u: bytes, words and dwords agree", bdf >> 3);
	if (pci_read(bdf, PCI_STATUS, 2) & 0x10)
		while (p >= 0x40 && caps < 60) {
			caps++;
			p = pci_read(bdf, (p & 0xfc) + 1, 1);
		}
	ok(caps < 60, "device %u: %u capabilities, the list ends", bdf >> 3, caps);
	if ((pci_read(bdf, PCI_HEADER, 1) & 0x7f) == 0)
		check_bars(bdf);
}

void main(void)
{
	unsigned devices = 0, virtio = 0;
	uint32_t old = inl(0xcf8);

	outl(0xcf8, 0x80000000);
	ok(inl(0xcf8) == 0x80000000, "port 0xcf8 keeps what is written (%x at first)", old);
	ok(pci_has_ecam(), "MCFG: ECAM at %lx, %u buses", acpi.ecam_base, acpi.ecam_buses);
	for (unsigned dev = 0; dev < 32; dev++) {
		uint16_t bdf = (uint16_t)(dev << 3);
		uint32_t id = pci_read(bdf, PCI_VENDOR, 4);
		if (id == 0xffffffff)
			continue;
		devices++;
		check_device(bdf);
		if ((id & 0xffff) == 0x1af4) {
			virtio++;
			write_everything(bdf);
		}
	}
	ok(devices > 0, "%u devices, %u of them virtio", devices, virtio);
	bool empty = true;
	if (pci_has_ecam())
		for (unsigned bus = 1; bus < acpi.ecam_buses && bus < 4; bus++)
			empty = empty && pci_read((uint16_t)(bus << 8), 0, 4) == 0xffffffff;
	ok(empty, "nothing answers on other buses");
	/* Odd accesses to the port pair do no harm. */
	outb(0xcf8, 1);
	outw(0xcfa, 0x8000);
	outl(0xcf8, 0x7fffffff);
	ok(inl(0xcfc) == 0xffffffff, "0xcfc without the enable bit reads as all ones");
}
