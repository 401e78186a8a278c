/*
 * mptable: finds and reads the table as a kernel does (Intel MP specification 1.4, chapter 4), with a
 * parser of its own, and compares what it says with the board.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "boot/x86_64/layout.h"
#include "boot/x86_64/mptable.h"
#include "vmm/core/bytes.h"

static uint8_t ram[1 << 20];

/* What the table says. */
struct found {
	unsigned ncpus, nbootstrap, nbuses, nioapics;
	uint8_t apic_id[256];
	int pci_bus, isa_bus; /* -1: none */
	uint64_t ioapic, lapic;
	unsigned nisa, npci;
	int isa_pin[256];	    /* by IRQ; -1: no entry */
	int pci_pin[32];	    /* of INTA, by slot */
	unsigned extint[2], nmi[2]; /* how many: on the I/O APIC, on local APICs */
	uint8_t nmi_lint, extint_lint, nmi_dest;
};

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *p++);
	return s;
}

/* The areas of section 4: first KiB of the EBDA or last KiB of base memory, then the BIOS's ROM. */
static const uint8_t *find(void)
{
	static const struct {
		uint32_t from, to;
	} area[] = { { 0x9fc00, 0xa0000 }, { 0xf0000, 0x100000 } };
	const uint8_t *hit = NULL;

	for (unsigned a = 0; a < 2; a++)
		for (uint32_t at = area[a].from; at < area[a].to; at += 16) {
			const uint8_t *p = ram + at;

			if (memcmp(p, "_MP_", 4) || p[8] != 1 || sum(p, 16))
				continue;
			cr_assert_null(hit, "one pointer only");
			hit = p;
		}
	return hit;
}

static void read_line(struct found *f, const uint8_t *e)
{
	unsigned local = e[0] == 4, type = e[1], flags = get_le16(e + 2);

	if (!local)
		cr_assert_eq(e[6], 0, "the I/O APIC's id");
	if (type == 3 || type == 1) {
		f->extint[local] += type == 3;
		f->nmi[local] += type == 1;
		*(type == 3 ? &f->extint_lint : &f->nmi_lint) = e[7];
		if (type == 1)
			f->nmi_dest = e[6];
		return;
	}
	cr_assert_eq(type, 0);
	cr_assert_not(local);
	cr_assert_lt(e[7], 24);
	if (e[4] == f->pci_bus) {
		cr_assert_eq(flags, 0xf, "PCI: active low, level");
		cr_assert_eq(e[5] & 3, 0, "INTA");
		cr_assert_lt(e[5], 128);
		cr_assert_eq(f->pci_pin[e[5] >> 2], -1, "one entry for each slot");
		f->pci_pin[e[5] >> 2] = e[7];
		f->npci++;
	} else {
		cr_assert_eq(e[4], f->isa_bus);
		cr_assert_eq(flags, 0, "ISA: as the bus has it");
		cr_assert_eq(f->isa_pin[e[5]], -1, "one entry for each IRQ");
		f->isa_pin[e[5]] = e[7];
		f->nisa++;
	}
}

static void read_entry(struct found *f, const uint8_t *e)
{
	switch (e[0]) {
	case 0:
		cr_assert(e[3] & 1, "enabled");
		f->nbootstrap += e[3] >> 1 & 1;
		cr_assert_eq(e[3] >> 1 & 1, f->ncpus == 0, "the first one boots");
		f->apic_id[f->ncpus++] = e[1];
		cr_assert_eq(e[2] & 0xf0, 0x10, "an integrated local APIC");
		cr_assert(get_le32(e + 8) & 1u << 9, "CPUID's APIC bit");
		return;
	case 1:
		cr_assert_eq(e[1], f->nbuses, "numbered from 0");
		f->nbuses++;
		if (!memcmp(e + 2, "PCI   ", 6))
			f->pci_bus = e[1];
		else if (!memcmp(e + 2, "ISA   ", 6))
			f->isa_bus = e[1];
		else
			cr_assert(false, "bus %.6s", (const char *)e + 2);
		return;
	case 2:
		f->nioapics++;
		cr_assert(e[3] & 1, "usable");
		f->ioapic = get_le32(e + 4);
		return;
	case 3:
	case 4:
		read_line(f, e);
		return;
	default:
		cr_assert(false, "entry type %u", e[0]);
	}
}

static struct found parse(void)
{
	struct found f = { .pci_bus = -1, .isa_bus = -1 };
	const uint8_t *p = find(), *t;
	unsigned len, n, at = 44;
	uint8_t last = 0;

	memset(f.isa_pin, 0xff, sizeof(f.isa_pin));
	memset(f.pci_pin, 0xff, sizeof(f.pci_pin));
	cr_assert(p);
	cr_assert_eq(p[9], 4);
	for (unsigned i = 11; i < 16; i++)
		cr_assert_eq(p[i], 0, "no default configuration, virtual wire mode");
	t = ram + get_le32(p + 4);
	cr_assert_lt(t, ram + sizeof(ram));
	cr_assert_eq(memcmp(t, "PCMP", 4), 0);
	len = get_le16(t + 4);
	cr_assert_leq(t + len, ram + LAYOUT_RESET_VECTOR);
	cr_assert_eq(sum(t, len), 0);
	cr_assert_eq(t[6], 4, "1.4");
	cr_assert_eq(get_le16(t + 40), 0, "no extended table");
	cr_assert_eq(t[42], 0);
	cr_assert_eq(t[43], 0);
	for (unsigned i = 8; i < 28; i++)
		cr_assert(t[i] >= ' ' && t[i] < 127,
			  "OEM and product are text, padded with blanks");
	f.lapic = get_le32(t + 36);
	n = get_le16(t + 34);
	for (unsigned i = 0; i < n; i++) {
		cr_assert_leq(at + 8, len);
		cr_assert_geq(t[at], last, "entries in the order of their types");
		last = t[at];
		read_entry(&f, t + at);
		at += t[at] ? 8 : 20;
	}
	cr_assert_eq(at, len, "%u entries fill the table", n);
	return f;
}

static struct board board_of(unsigned ncpus, unsigned stride)
{
	struct board b = { .ncpus = ncpus, .x86.lapic = 0xfee00000, .x86.ioapic = 0xfec00000 };

	for (unsigned i = 0; i < ncpus; i++)
		b.x86.apic_id[i] = (uint8_t)(i * stride);
	return b;
}

static struct found made(const struct board *b)
{
	struct mem mem = { 0 };
	struct found f;
	static const uint8_t guid[16];

	memset(ram, 0, sizeof(ram));
	cr_assert_eq(mem_add(&mem, gpa(0), sizeof(ram), ram), 0);
	mptable_write(&mem, b);
	cr_assert_eq(memcmp(ram + 0xff000, guid, sizeof(guid)), 0, "the generation id's place");
	for (unsigned i = LAYOUT_RESET_VECTOR; i < sizeof(ram); i++)
		cr_assert_eq(ram[i], 0, "the reset vector's place");
	for (unsigned i = 0; i < LAYOUT_MP_LARGE; i++)
		cr_assert_eq(ram[i], 0);
	f = parse();
	cr_assert_eq(f.ncpus, b->ncpus);
	cr_assert_eq(f.nbootstrap, 1);
	cr_assert_eq(f.nioapics, 1);
	cr_assert_eq(f.ioapic, b->x86.ioapic);
	cr_assert_eq(f.lapic, b->x86.lapic);
	for (unsigned i = 0; i < b->ncpus; i++)
		cr_assert_eq(f.apic_id[i], b->x86.apic_id[i]);
	/* The NMI is LINT1 of every processor; there is an 8259 on LINT0 of the first, or none. */
	cr_assert_eq(f.nmi[1], 1);
	cr_assert_eq(f.nmi_lint, 1);
	cr_assert_eq(f.nmi_dest, 0xff);
	cr_assert_eq(f.nmi[0], 0);
	cr_assert_eq(f.extint[0], 0);
	cr_assert_eq(f.extint[1], b->x86.pic);
	cr_assert_eq(f.extint_lint, 0);
	return f;
}

/* Numbers of processors around what fits beside the pointer, with spread ids, too. */
Test(mptable, processors)
{
	static const unsigned ncpus[] = { 1, 2, 3, 16, 159, 160, 161, 253, 254 };

	for (unsigned i = 0; i < sizeof(ncpus) / sizeof(ncpus[0]); i++) {
		struct board b = board_of(ncpus[i], ncpus[i] < 86 ? 3 : 1);

		made(&b);
		/* The longest table: every slot, and more pins of virtio-mmio than there are. */
		b.pci.present = true;
		b.pci.slots = UINT32_MAX;
		b.x86.pic = true;
		b.nmmio = BOARD_MAX_SLOTS;
		for (unsigned n = 0; n < BOARD_MAX_SLOTS; n++)
			b.pci.gsi[n] = (uint8_t)(16 + n % 8);
		made(&b);
	}
}

Test(mptable, pci_slots)
{
	static const uint32_t slots[] = {
		1, 1u << 1, 1u << 31, 0x0000000f, 0x80000003, UINT32_MAX
	};

	for (unsigned i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
		struct board b = board_of(1, 1);
		struct found f;

		b.pci.present = true;
		b.pci.slots = slots[i];
		for (unsigned n = 0; n < BOARD_MAX_SLOTS; n++)
			b.pci.gsi[n] = (uint8_t)(16 + (n * 3) % 8);
		f = made(&b);
		cr_assert_eq(f.pci_bus, 0, "PCI's bus number is that of configuration space");
		cr_assert_eq(f.isa_bus, 1);
		cr_assert_eq(f.npci, (unsigned)__builtin_popcount(slots[i] & ~1u));
		for (unsigned n = 0; n < BOARD_MAX_SLOTS; n++)
			cr_assert_eq(f.pci_pin[n], n && slots[i] >> n & 1 ? b.pci.gsi[n] : -1);
		cr_assert_eq(f.nisa, 14, "IRQs 1 and 3 to 15");
	}
}

/* ISA interrupts keep their number; those that PCI has, and a timer that is not there, are left out. */
Test(mptable, isa_interrupts)
{
	for (unsigned pic = 0; pic < 2; pic++)
		for (unsigned low = 0; low < 2; low++) {
			struct board b = board_of(1, 1);
			struct found f;

			b.x86.pic = pic;
			b.pci.present = true;
			b.pci.slots = 0xff;
			for (unsigned n = 0; n < BOARD_MAX_SLOTS; n++)
				b.pci.gsi[n] = (uint8_t)((low ? 10 : 16) + n % 2);
			f = made(&b);
			for (int irq = 0; irq < 256; irq++) {
				bool there = irq < 16 && irq != 2 && (irq || pic) &&
					     !(low && (irq == 10 || irq == 11));

				cr_assert_eq(f.isa_pin[irq], there ? irq : -1, "IRQ %d", irq);
			}
		}
}

Test(mptable, virtio_mmio)
{
	struct board b = board_of(2, 1);
	struct found f;

	b.nmmio = 4;
	for (unsigned i = 0; i < 4; i++)
		b.mmio[i].gsi = (uint8_t)(14 + i);
	f = made(&b);
	cr_assert_eq(f.pci_bus, -1);
	cr_assert_eq(f.isa_bus, 0);
	cr_assert_eq(f.npci, 0);
	for (int irq = 14; irq < 18; irq++)
		cr_assert_eq(f.isa_pin[irq], irq);
	cr_assert_eq(f.isa_pin[18], -1);
}
