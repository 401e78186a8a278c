/*
 * virtio-blk: the first disk does what a driver may ask of it, on PCI and on MMIO:
 * read, write, flush, get-id, discard, write-zeroes, split and
 * indirect chains, full rings, interrupts by MSI-X (with masking), by pin, and
 * EVENT_IDX. The disk's first sector starts with "bantam". At the end, the last 64 KiB of
 * the first MiB hold a pattern for the host to check.
 */
#include "guest/bare/lib/apic.h"
#include "guest/bare/lib/blk.h"
#include "guest/bare/lib/rt.h"

#define VECTOR 0x45
#define PIN_VECTOR 0x48 /* … + 24 */
#define PATTERN_SECTOR (2048u - 128u)

static struct blk b;
static uint8_t buf[65536] __attribute__((aligned(4096)));
static uint8_t back[65536] __attribute__((aligned(4096)));
static volatile uint32_t hits;

static void pattern(uint8_t *p, uint32_t len, uint64_t seed)
{
	for (uint32_t i = 0; i < len; i += 64) /* sparse: a software KVM is slow */
		*(uint64_t *)(p + i) = seed * 0x9e3779b97f4a7c15ull + i;
}

static void basics(void)
{
	uint8_t id[20] = { 0 };

	ok(b.nsectors >= 2048, "capacity: %lu sectors, features %lx", b.nsectors, b.offered);
	ok(b.offered & F_VERSION_1, "VERSION_1 is offered");
	vio_reset(&b.v);
	vio_set_status(&b.v, S_ACK | S_DRIVER);
	vio_set_features(&b.v, b.offered | 1ull << 63);
	vio_set_status(&b.v, S_ACK | S_DRIVER | S_FEATURES_OK);
	ok(!(vio_status(&b.v) & S_FEATURES_OK), "a feature that is not offered is refused");
	ok(blk_start(&b, b.offered & ~F_EVENT_IDX, 64, NO_VECTOR), "the driver is accepted");
	ok(blk_io(&b, BLK_IN, 0, buf, 512) == BLK_S_OK && !memcmp(buf, "bantam", 6),
	   "read: sector 0 is what the host wrote");
	int s = blk_io(&b, BLK_GET_ID, 0, id, sizeof(id));
	ok(s == BLK_S_OK, "get-id");
	rt_print("serial: ");
	for (unsigned i = 0; i < sizeof(id) && id[i]; i++)
		rt_putc((char)id[i]);
	rt_putc('\n');
}

static void writing(void)
{
	struct blk_range range = { .sector = PATTERN_SECTOR - 256, .nsectors = 128 };

	if (b.offered & BLK_F_RO) {
		ok(blk_io(&b, BLK_OUT, 1, buf, 512) == BLK_S_IOERR,
		   "a read-only disk refuses writes");
		return;
	}
	pattern(buf, sizeof(buf), 1);
	ok(blk_io(&b, BLK_OUT, PATTERN_SECTOR, buf, sizeof(buf)) == BLK_S_OK, "write 64 KiB");
	ok(blk_io(&b, BLK_IN, PATTERN_SECTOR, back, sizeof(back)) == BLK_S_OK, "read 64 KiB");
	ok(!memcmp(buf, back, 4096) && !memcmp(buf + 61440, back + 61440, 4096), "the same");
	ok(blk_io(&b, BLK_OUT, b.nsectors - 1, buf, 512) == BLK_S_OK, "write the last sector");
	if (b.offered & BLK_F_FLUSH)
		ok(blk_io(&b, BLK_FLUSH, 0, NULL, 0) == BLK_S_OK, "flush");
	if (b.offered & BLK_F_WRITE_ZEROES) {
		blk_io(&b, BLK_OUT, range.sector, buf, sizeof(buf));
		ok(blk_io(&b, BLK_WRITE_ZEROES, 0, &range, sizeof(range)) == BLK_S_OK,
		   "write zeroes");
		bool zero = blk_io(&b, BLK_IN, range.sector, back, sizeof(back)) == BLK_S_OK;
		for (unsigned i = 0; i < sizeof(back); i += 64)
			zero = zero && *(uint64_t *)(back + i) == 0;
		ok(zero, "and zeroes are read");
	}
	if (b.offered & BLK_F_DISCARD) {
		blk_io(&b, BLK_OUT, range.sector, buf, sizeof(buf));
		ok(blk_io(&b, BLK_DISCARD, 0, &range, sizeof(range)) == BLK_S_OK, "discard");
	}
}

/* Header in three parts, data in odd parts, status alone: all framing is legal (section 2.7.4). */
static void split_chain(void)
{
	uint8_t *h = (uint8_t *)&b.header;
	static const uint32_t part[] = { 1, 511, 512, 3000, 72 };
	unsigned n = 3, at = 0;

	b.header = (struct blk_header){ .type = BLK_IN, .sector = PATTERN_SECTOR };
	b.status = 0xee;
	memset(back, 0, 4096);
	ring_desc(&b.r, 0, h, 1, D_NEXT, 1);
	ring_desc(&b.r, 1, h + 1, 7, D_NEXT, 2);
	ring_desc(&b.r, 2, h + 8, 8, D_NEXT, 3);
	for (unsigned i = 0; i < 5; i++, n++) {
		ring_desc(&b.r, n, back + at, part[i], D_NEXT | D_WRITE, (uint16_t)(n + 1));
		at += part[i];
	}
	ring_desc(&b.r, n, &b.status, 1, D_WRITE, 0);
	ring_offer(&b.r, 0);
	ring_kick(&b.v, &b.r);
	uint32_t len = 0;
	bool done = ring_wait(&b.r, 5000, NULL, &len);
	ok(done && b.status == BLK_S_OK && len == 4097,
	   "a chain in nine odd parts (%u bytes written)", len);
	if (!(b.offered & BLK_F_RO))
		ok(!memcmp(back, buf, 4096), "and its data");
}

static void indirect(void)
{
	static struct vdesc table[3];

	if (!(b.offered & F_INDIRECT)) {
		skip("indirect descriptors", "not offered");
		return;
	}
	b.header = (struct blk_header){ .type = BLK_IN, .sector = 0 };
	b.status = 0xee;
	table[0] = (struct vdesc){ (uint64_t)&b.header, 16, D_NEXT, 1 };
	table[1] = (struct vdesc){ (uint64_t)back, 512, D_NEXT | D_WRITE, 2 };
	table[2] = (struct vdesc){ (uint64_t)&b.status, 1, D_WRITE, 0 };
	ring_desc(&b.r, 5, table, sizeof(table), D_INDIRECT, 0);
	ring_offer(&b.r, 5);
	ring_kick(&b.v, &b.r);
	uint32_t id = 99;
	ok(ring_wait(&b.r, 5000, &id, NULL) && id == 5 && b.status == BLK_S_OK,
	   "an indirect chain");
}

/* Uses every slot of the ring at once, across the wrap of the indices. */
static void full_ring(unsigned size)
{
	static struct blk_header header[16];
	static volatile uint8_t status[16];
	unsigned good = 0, each = size / 3 < 16 ? size / 3 : 16, rounds = 2 * size / each + 2;

	if (!ok(blk_start(&b, b.offered & ~F_EVENT_IDX, size, NO_VECTOR), "queue of %u", size))
		return;
	for (unsigned round = 0; round < rounds && round < 24; round++) {
		for (unsigned i = 0; i < each; i++) {
			header[i] = (struct blk_header){ .type = BLK_IN, .sector = i };
			status[i] = 0xee;
			ring_desc(&b.r, 3 * i, &header[i], 16, D_NEXT, (uint16_t)(3 * i + 1));
			ring_desc(&b.r, 3 * i + 1, buf + 512 * i, 512, D_NEXT | D_WRITE,
				  (uint16_t)(3 * i + 2));
			ring_desc(&b.r, 3 * i + 2, &status[i], 1, D_WRITE, 0);
			ring_offer(&b.r, (uint16_t)(3 * i));
		}
		ring_kick(&b.v, &b.r);
		for (unsigned i = 0; i < each; i++)
			if (!ring_wait(&b.r, 5000, NULL, NULL))
				break;
		good = 0;
		for (unsigned i = 0; i < each; i++)
			good += status[i] == BLK_S_OK;
		if (good != each)
			break;
	}
	ok(good == each, "queue of %u: %u requests at once, past the wrap", size, each);
}

static void on_irq(struct trap_frame *f)
{
	hits++;
}

static void msix(void)
{
	if (!b.v.has_msix) {
		skip("MSI-X", "not on this transport");
		return;
	}
	ok(b.v.msix.count >= 2, "MSI-X: %u vectors", b.v.msix.count);
	trap_set(VECTOR, on_irq);
	pci_msix_enable(&b.v.msix, true);
	pci_msix_set(&b.v.msix, 1, VECTOR, false);
	hits = 0;
	blk_start(&b, b.offered & ~F_EVENT_IDX, 64, 1);
	blk_io(&b, BLK_IN, 0, buf, 512);
	ok(wait_for(&hits, 1, 2000), "MSI-X: an interrupt for a request");
	/* The driver changes the message; the device must use the new one. */
	trap_set(VECTOR + 1, on_irq);
	trap_set(VECTOR, NULL);
	pci_msix_set(&b.v.msix, 1, VECTOR + 1, false);
	blk_io(&b, BLK_IN, 0, buf, 512);
	ok(wait_for(&hits, 2, 2000), "MSI-X: a changed message is used");
	/* While masked, the pending bit is set; the interrupt comes at the unmasking. */
	pci_msix_set(&b.v.msix, 1, VECTOR + 1, true);
	blk_io(&b, BLK_IN, 0, buf, 512);
	ok(!wait_for(&hits, 3, 30), "MSI-X: masked, none comes");
	ok(mmio_r32(b.v.msix.pba) & 2, "MSI-X: the pending bit is set");
	mmio_w32(b.v.msix.table + 16 + 12, 0);
	ok(wait_for(&hits, 3, 2000), "MSI-X: it comes when unmasked");
	ok(!(mmio_r32(b.v.msix.pba) & 2), "MSI-X: the pending bit is clear again");
	/* The driver may switch interrupts off. */
	b.r.avail->flags = 1;
	blk_io(&b, BLK_IN, 0, buf, 512);
	ok(!wait_for(&hits, 4, 30), "MSI-X: none with VIRTQ_AVAIL_F_NO_INTERRUPT");
	b.r.avail->flags = 0;
	if (b.offered & F_EVENT_IDX) {
		blk_start(&b, b.offered, 64, 1);
		volatile uint16_t *used_event = (volatile uint16_t *)&b.r.avail->ring[64];
		hits = 0;
		blk_io(&b, BLK_IN, 0, buf, 512); /* the first request may interrupt in any case */
		wait_for(&hits, 1, 30);
		hits = 0;
		*used_event = 3;
		blk_io(&b, BLK_IN, 0, buf, 512);
		blk_io(&b, BLK_IN, 0, buf, 512);
		bool early = wait_for(&hits, 1, 30);
		blk_io(&b, BLK_IN, 0, buf, 512);
		ok(!early && wait_for(&hits, 1, 2000), "EVENT_IDX: one interrupt, when it is due");
	}
	pci_msix_enable(&b.v.msix, false);
}

/* The test finds the pin by trial: every unused IOAPIC pin gets its own vector. */
static volatile uint32_t pin_hits, pin;
static void on_pin(struct trap_frame *f)
{
	if (vio_isr(&b.v) & 1)
		pin_hits++;
	pin = (uint32_t)f->vector - PIN_VECTOR;
	if (pin_hits > 100) /* a line that never falls */
		ioapic_write(0x10 + 2 * pin, IOAPIC_MASKED);
}

static void by_pin(void)
{
	bool level = b.v.is_pci || !(b.v.irq_flags & 2);

	if (!b.v.is_pci && b.v.gsi >= ioapic_pins()) {
		skip("pin", "not on the first IOAPIC");
		return;
	}
	if (b.v.is_pci && !pci_read(b.v.bdf, PCI_IRQ_PIN, 1)) {
		skip("INTx", "the device has no pin");
		return;
	}
	for (unsigned i = 5; i < ioapic_pins() && PIN_VECTOR + i < 0x5f; i++) {
		if (!b.v.is_pci && i != b.v.gsi)
			continue;
		trap_set(PIN_VECTOR + i, on_pin);
		ioapic_route(i, PIN_VECTOR + i,
			     level ? IOAPIC_LEVEL | (b.v.is_pci ? IOAPIC_LOW : 0) : 0);
	}
	blk_start(&b, b.offered & ~F_EVENT_IDX, 64, NO_VECTOR);
	vio_isr(&b.v);
	blk_io(&b, BLK_IN, 0, buf, 512);
	ok(wait_for(&pin_hits, 1, 2000), "interrupt by pin %u", pin);
	uint32_t before = pin_hits;
	ok(before < 3, "the line falls when the ISR is read (%u interrupts)", before);
	blk_io(&b, BLK_IN, 0, buf, 512);
	ok(wait_for(&pin_hits, before + 1, 2000), "and again");
	for (unsigned i = 5; i < ioapic_pins(); i++)
		ioapic_write(0x10 + 2 * i, IOAPIC_MASKED);
}

void main(void)
{
	lapic_enable();
	if (!blk_find(&b, 0))
		rt_die("no virtio-blk device");
	rt_print("# %s\n", b.v.is_pci ? "PCI" : "MMIO");
	basics();
	writing();
	split_chain();
	indirect();
	full_ring(vio_queue_max(&b.v, 0) < RING_MAX ? vio_queue_max(&b.v, 0) : RING_MAX);
	full_ring(4);
	msix();
	by_pin();
	ok(blk_start(&b, b.offered, 64, NO_VECTOR) && blk_io(&b, BLK_IN, 0, buf, 512) == BLK_S_OK,
	   "still works after all that");
	vio_reset(&b.v);
}
