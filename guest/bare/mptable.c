/*
 * mptable: a kernel without ACPI. It finds the MP table where the Intel MP specification 1.4 says (chapter
 * 4), starts the processors that it lists, and takes a PCI interrupt at the pin that it names.
 */
#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/apic.h"
#include "guest/bare/lib/pci.h"
#include "guest/bare/lib/rt.h"
#include "guest/bare/lib/virtio.h"

#define VECTOR 0x45
#define COM1_IRQ 4

static struct vio v;
static struct ring r;
static uint8_t random[64];
static volatile uint32_t hits;

static struct {
	unsigned ncpus;
	uint32_t apic_id[256];
	uint64_t ioapic;
	uint8_t bus_is_pci[256];
	int pin[32];  /* of INTA, by PCI slot; -1: none */
	int com1_pin; /* -1: none */
} mp = { .com1_pin = -1 };

static bool sum_ok(const uint8_t *p, uint32_t n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *p++);
	return s == 0;
}

static const uint8_t *search(uint64_t from, uint64_t bytes)
{
	for (uint64_t a = from; a < from + bytes; a += 16) {
		const uint8_t *p = (const uint8_t *)a;

		if (load32(p) == load32("_MP_") && p[8] == 1 && sum_ok(p, 16))
			return p;
	}
	return NULL;
}

static const uint8_t *find(void)
{
	volatile uint64_t bios_data = 0x40e;
	uint64_t ebda = (uint64_t)load16((const void *)bios_data) << 4;
	const uint8_t *p = ebda ? search(ebda, 1024) : NULL;

	if (!p)
		p = search(639 * 1024, 1024);
	return p ? p : search(0xf0000, 0x10000);
}

static unsigned read_entry(const uint8_t *e)
{
	switch (e[0]) {
	case 0:
		if (e[3] & 1)
			mp.apic_id[mp.ncpus++ & 255] = e[1];
		return 20;
	case 1:
		mp.bus_is_pci[e[1]] = !memcmp(e + 2, "PCI", 3);
		return 8;
	case 2:
		mp.ioapic = load32(e + 4);
		return 8;
	case 3:
		if (mp.bus_is_pci[e[4]] && !(e[5] & 3))
			mp.pin[e[5] >> 2 & 31] = e[7];
		else if (!mp.bus_is_pci[e[4]] && e[5] == COM1_IRQ)
			mp.com1_pin = e[7];
		return 8;
	default:
		return 8;
	}
}

static void read_table(const uint8_t *t)
{
	unsigned len = load16(t + 4), n = load16(t + 34), at = 44;

	for (unsigned i = 0; i < 32; i++)
		mp.pin[i] = -1;
	while (n-- && at < len)
		at += read_entry(t + at);
	ok(at == len && load32(t) == load32("PCMP") && sum_ok(t, len), "the table: %u bytes", len);
}

static void on_interrupt(struct trap_frame *f)
{
	if (vio_isr(&v) & 1)
		hits++;
}

static void take_interrupt(void)
{
	uint32_t got;
	unsigned slot;

	if (!vio_find(VIRTIO_RNG, 0, &v) || !v.is_pci)
		rt_die("no virtio-rng device on PCI");
	slot = v.bdf >> 3;
	ok(mp.pin[slot] >= 0 && mp.pin[slot] < 24, "slot %u has pin %d", slot, mp.pin[slot]);
	trap_set(VECTOR, on_interrupt);
	ioapic_route((unsigned)mp.pin[slot], VECTOR, IOAPIC_LEVEL | IOAPIC_LOW);
	ok(vio_negotiate(&v, 0), "the driver is accepted");
	ring_init(&r, 0, 8);
	ring_enable(&v, &r, 0, NO_VECTOR);
	vio_set_status(&v, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	for (uint32_t i = 1; i <= 3; i++) {
		ring_desc(&r, 0, random, sizeof(random), D_WRITE, 0);
		ring_offer(&r, 0);
		ring_kick(&v, &r);
		ok(ring_wait(&r, 5000, NULL, &got) && wait_for(&hits, i, 5000),
		   "request %u: its interrupt comes at that pin", i);
	}
}

void main(void)
{
	const uint8_t *p = find();
	unsigned up;

	ok(p != NULL, "the pointer is found");
	if (!p)
		return;
	read_table((const uint8_t *)(uint64_t)load32(p + 4));
	ok(mp.ncpus == acpi.ncpus && mp.ioapic == acpi.ioapic, "%u processors, as in ACPI's tables",
	   mp.ncpus);
	/* From here on the library knows only what the table says. */
	acpi.ncpus = mp.ncpus;
	acpi.ioapic = mp.ioapic;
	memcpy(acpi.apic_id, mp.apic_id, sizeof(acpi.apic_id));
	lapic_enable();
	ok(lapic_id() == mp.apic_id[0], "the first is this one");
	up = smp_start(NULL);
	ok(up + 1 == mp.ncpus, "%u others are up", up);
	ok(mp.com1_pin == COM1_IRQ, "IRQ 4 has pin %d", mp.com1_pin);
	take_interrupt();
}
