/*
 * round: uses every device that it finds a little (two disks, console, network card, vsock, rng), then
 * ends as the command line says: end=poweroff (the default), end=reset, end=triple, end=stay, which
 * waits to be stopped, or end=write, which until then writes to its first disk. For tests that run one
 * machine after the other.
 */
#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/blk.h"
#include "guest/bare/lib/rt.h"

#define VIRTIO_VSOCK 19
#define ALL_OK (S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK)

static uint8_t sector[4096] __attribute__((aligned(4096)));
static struct blk b;

static bool asked(const char *way)
{
	size_t n = strlen(way);

	for (const char *s = boot_cmdline; *s; s++)
		if (!memcmp(s, way, n))
			return true;
	return false;
}

static void use_disk(unsigned nth)
{
	bool good = true;

	if (!blk_find(&b, nth))
		return;
	ok(blk_start(&b, b.offered & (F_INDIRECT | BLK_F_FLUSH), 64, NO_VECTOR),
	   "disk %u is accepted", nth);
	for (unsigned i = 0; i < 8; i++) {
		good &= blk_io(&b, BLK_OUT, i * 64, sector, sizeof(sector)) == BLK_S_OK;
		good &= blk_io(&b, BLK_IN, i * 32, sector, sizeof(sector)) == BLK_S_OK;
	}
	ok(good && blk_io(&b, BLK_FLUSH, 0, NULL, 0) == BLK_S_OK, "it reads, writes and flushes");
	/* Requests that are in flight when the machine ends. */
	for (uint16_t i = 0; i < 8; i++) {
		ring_desc(&b.r, 3 * i, &b.header, sizeof(b.header), D_NEXT, 3 * i + 1);
		ring_desc(&b.r, 3 * i + 1, sector, sizeof(sector), D_NEXT, 3 * i + 2);
		ring_desc(&b.r, 3 * i + 2, &b.status, 1, D_WRITE, 0);
		ring_offer(&b.r, 3 * i);
	}
	b.header = (struct blk_header){ .type = BLK_OUT, .sector = 8 * nth };
	ring_kick(&b.v, &b.r);
}

static void use_console(void)
{
	static const char line[] = "hello from round\n";
	static struct vio v;
	static struct ring tx;

	if (!vio_find(VIRTIO_CONSOLE, 0, &v))
		return;
	ok(vio_negotiate(&v, F_INDIRECT), "the console is accepted");
	ring_init(&tx, 1, 8);
	ring_enable(&v, &tx, 1, NO_VECTOR);
	vio_set_status(&v, ALL_OK);
	ring_desc(&tx, 0, line, sizeof(line) - 1, 0, 0);
	ring_offer(&tx, 0);
	ring_kick(&v, &tx);
	ok(ring_wait(&tx, 5000, NULL, NULL), "it takes a line");
}

static void use_card(void)
{
	static uint8_t frame[12 + 60] = { [12] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	static struct vio v;
	static struct ring rx, tx;

	if (!vio_find(VIRTIO_NET, 0, &v))
		return;
	ok(vio_negotiate(&v, 0), "the network card is accepted");
	ring_init(&rx, 2, 8);
	ring_init(&tx, 3, 8);
	ring_enable(&v, &rx, 0, NO_VECTOR);
	ring_enable(&v, &tx, 1, NO_VECTOR);
	vio_set_status(&v, ALL_OK);
	ring_desc(&tx, 0, frame, sizeof(frame), 0, 0);
	ring_offer(&tx, 0);
	ring_kick(&v, &tx);
	ok(ring_wait(&tx, 5000, NULL, NULL), "it sends a frame");
}

static void start_only(uint16_t type, const char *name)
{
	struct vio v;

	if (!vio_find(type, 0, &v))
		return;
	ok(vio_negotiate(&v, 0), "%s is accepted", name);
	vio_set_status(&v, ALL_OK);
}

/* Blocks far from each other, so that an image needs new tables all the time. */
static void write_on(void)
{
	blk_find(&b, 0);
	blk_start(&b, b.offered & BLK_F_FLUSH, 64, NO_VECTOR);
	for (uint32_t i = 1;; i++) {
		blk_io(&b, BLK_OUT, i * 2654435761u % 65536 * 8, sector, sizeof(sector));
		if (i % 16 == 0)
			blk_io(&b, BLK_FLUSH, 0, NULL, 0);
	}
}

void main(void)
{
	static const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) no_idt = { 0, 0 };

	use_console();
	use_card();
	start_only(VIRTIO_VSOCK, "vsock");
	start_only(VIRTIO_RNG, "rng");
	use_disk(1);
	use_disk(0);
	rt_print("used\n");
	if (asked("end=stay"))
		rt_halt();
	if (asked("end=write"))
		write_on();
	if (asked("end=reset"))
		acpi_reset();
	if (asked("end=triple"))
		__asm__ volatile("lidt %0; ud2" ::"m"(no_idt));
}
