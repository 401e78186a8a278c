/*
 * mptable: see mptable.h. Names in capitals are those of the specification's chapter 4.
 *
 * Theory of operation. A kernel searches for the pointer in steps of 16 bytes: in the first KiB of
 * the extended BIOS data area, in the last KiB of base memory, and from 0xf0000 to 0xfffff. The
 * pointer lies in the last of these, in a page that the guest's memory map reserves and that is
 * touched anyway; so does the table, unless there are too many processors for that page.
 *
 * ISA interrupts go to the pin of their number. PCI's INTA of each slot goes to the pin that the
 * ACPI tables name, too; no function has another interrupt pin. IRQ 0 and the 8259's interrupts
 * are there only if the board has a timer and an 8259.
 */
#include "boot/x86_64/mptable.h"

#include <string.h>

#include "boot/x86_64/layout.h"
#include "vmm/core/bytes.h"

#define POINTER_BYTES 16u
#define HEADER_BYTES 44u
#define PROCESSOR_BYTES 20u
#define ENTRY_BYTES 8u /* of every other kind */
#define SPEC_REV 4u    /* 1.4 */

enum {
	ENTRY_PROCESSOR = 0,
	ENTRY_BUS = 1,
	ENTRY_IO_APIC = 2,
	ENTRY_IO_INTERRUPT = 3,
	ENTRY_LOCAL_INTERRUPT = 4,
};

/* INTERRUPT TYPE (table 4-10). */
enum { TYPE_INT = 0, TYPE_NMI = 1, TYPE_EXTINT = 3 };

#define LINE_OF_BUS 0x0u /* polarity and trigger mode as the source bus has them */
#define LINE_PCI 0xfu	 /* active low, level */

#define CPU_ENABLED 1u
#define CPU_BOOTSTRAP 2u
#define CPU_SIGNATURE 0x600u /* family 6; the guest asks CPUID for more */
#define CPU_FEATURES 0x201u  /* FPU and APIC, of the bits that CPUID has */
#define LOCAL_APIC_VERSION 0x14u
#define IO_APIC_VERSION 0x20u
#define OLD_IO_APIC_VERSION 0x11u /* that of KVM, with the 8259s */
#define IO_APIC_ID 0u		  /* as in the MADT, and in the chip's register after a reset */
#define ALL_LOCAL_APICS 0xffu

#define ISA_IRQS 16u
#define IRQ_TIMER 0u
#define IRQ_CASCADE 2u

struct table {
	uint8_t *buf;
	uint32_t len;
	uint16_t nentries;
};

static uint8_t *add(struct table *t, unsigned bytes)
{
	uint8_t *e = t->buf + t->len;

	t->len += bytes;
	t->nentries++;
	return e;
}

static void add_processor(struct table *t, uint8_t apic_id, bool bootstrap)
{
	uint8_t *e = add(t, PROCESSOR_BYTES);

	e[0] = ENTRY_PROCESSOR;
	e[1] = apic_id;
	e[2] = LOCAL_APIC_VERSION;
	e[3] = CPU_ENABLED | (bootstrap ? CPU_BOOTSTRAP : 0);
	put_le32(e + 4, CPU_SIGNATURE);
	put_le32(e + 8, CPU_FEATURES);
}

static void add_bus(struct table *t, uint8_t id, const char *type)
{
	uint8_t *e = add(t, ENTRY_BYTES);

	e[0] = ENTRY_BUS;
	e[1] = id;
	memcpy(e + 2, type, 6);
}

static void add_io_apic(struct table *t, const struct board *board)
{
	uint8_t *e = add(t, ENTRY_BYTES);

	e[0] = ENTRY_IO_APIC;
	e[1] = IO_APIC_ID;
	e[2] = board->x86.pic ? OLD_IO_APIC_VERSION : IO_APIC_VERSION;
	e[3] = 1; /* usable */
	put_le32(e + 4, (uint32_t)board->x86.ioapic);
}

static void add_interrupt(struct table *t, uint8_t kind, uint8_t type, uint8_t line, uint8_t bus,
			  uint8_t irq, uint8_t apic, uint8_t pin)
{
	uint8_t *e = add(t, ENTRY_BYTES);

	e[0] = kind;
	e[1] = type;
	put_le16(e + 2, line);
	e[4] = bus;
	e[5] = irq;
	e[6] = apic;
	e[7] = pin;
}

static bool is_pci_pin(const struct board *board, unsigned pin)
{
	for (unsigned slot = 1; board->pci.present && slot < BOARD_MAX_SLOTS; slot++)
		if (board->pci.slots >> slot & 1 && board->pci.gsi[slot] == pin)
			return true;
	return false;
}

static void add_isa_interrupts(struct table *t, const struct board *board, uint8_t bus)
{
	for (unsigned irq = 0; irq < ISA_IRQS; irq++) {
		if (irq == IRQ_CASCADE || is_pci_pin(board, irq) ||
		    (irq == IRQ_TIMER && !board->x86.pic))
			continue;
		add_interrupt(t, ENTRY_IO_INTERRUPT, TYPE_INT, LINE_OF_BUS, bus, (uint8_t)irq,
			      IO_APIC_ID, (uint8_t)irq);
	}
	/* Virtio-mmio has the higher pins, too; they work as ISA's. */
	for (unsigned i = 0; i < board->nmmio; i++)
		if (board->mmio[i].gsi >= ISA_IRQS)
			add_interrupt(t, ENTRY_IO_INTERRUPT, TYPE_INT, LINE_OF_BUS, bus,
				      board->mmio[i].gsi, IO_APIC_ID, board->mmio[i].gsi);
}

/* Slot 0 is the host bridge, which has no interrupt. */
static void add_pci_interrupts(struct table *t, const struct board *board, uint8_t bus)
{
	for (unsigned slot = 1; slot < BOARD_MAX_SLOTS; slot++)
		if (board->pci.slots >> slot & 1)
			add_interrupt(t, ENTRY_IO_INTERRUPT, TYPE_INT, LINE_PCI, bus,
				      (uint8_t)(slot << 2), IO_APIC_ID, board->pci.gsi[slot]);
}

static uint8_t checksum(const uint8_t *b, size_t n)
{
	uint8_t sum = 0;

	while (n--)
		sum = (uint8_t)(sum + *b++);
	return (uint8_t)-sum;
}

static void write_pointer(struct mem *mem, uint64_t table)
{
	uint8_t p[POINTER_BYTES] = "_MP_";

	put_le32(p + 4, (uint32_t)table);
	p[8] = POINTER_BYTES / 16;
	p[9] = SPEC_REV;
	/* Feature bytes: no default configuration; virtual wire mode, so there is no IMCR. */
	p[10] = checksum(p, sizeof(p));
	BUG_ON(!mem_write(mem, gpa(LAYOUT_MP_POINTER), p, sizeof(p)));
}

void mptable_write(struct mem *mem, const struct board *board)
{
	/* PCI's buses have the lowest numbers, which are theirs in configuration space. */
	const uint8_t pci = 0, isa = board->pci.present;
	bool many = board->ncpus > LAYOUT_MP_FEW_CPUS;
	uint64_t at = many ? LAYOUT_MP_LARGE : LAYOUT_MP_TABLE;
	uint32_t room = many ? LAYOUT_MP_LARGE_BYTES : LAYOUT_MP_TABLE_BYTES;
	struct table t = { .buf = mem_slice(mem, gpa(at), room), .len = HEADER_BYTES };

	BUG_ON(!t.buf);
	for (unsigned i = 0; i < board->ncpus; i++)
		add_processor(&t, board->x86.apic_id[i], i == 0);
	if (board->pci.present)
		add_bus(&t, pci, "PCI   ");
	add_bus(&t, isa, "ISA   ");
	add_io_apic(&t, board);
	add_isa_interrupts(&t, board, isa);
	if (board->pci.present)
		add_pci_interrupts(&t, board, pci);
	if (board->x86.pic)
		add_interrupt(&t, ENTRY_LOCAL_INTERRUPT, TYPE_EXTINT, LINE_OF_BUS, isa, 0,
			      board->x86.apic_id[0], 0);
	add_interrupt(&t, ENTRY_LOCAL_INTERRUPT, TYPE_NMI, LINE_OF_BUS, isa, 0, ALL_LOCAL_APICS, 1);
	BUG_ON(t.len > room);
	memcpy(t.buf, "PCMP", 4);
	put_le16(t.buf + 4, (uint16_t)t.len);
	t.buf[6] = SPEC_REV;
	memcpy(t.buf + 8, "BANTAM  ", 8);
	memcpy(t.buf + 16, "BANTAM VM   ", 12);
	put_le16(t.buf + 34, t.nentries);
	put_le32(t.buf + 36, (uint32_t)board->x86.lapic);
	t.buf[7] = checksum(t.buf, t.len);
	write_pointer(mem, at);
}
