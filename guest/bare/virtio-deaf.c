/*
 * virtio-deaf: requests as much as a device's rings can hold, at once: 256 chains that read 1 GiB
 * each from a disk, or 128 that write 4 GiB each to a console (the command line chooses). All
 * descriptors name the same pages. The device is busy for a long time, but SIGTERM
 * must still end the monitor; so this guest never ends by itself.
 */
#include "guest/bare/lib/blk.h"
#include "guest/bare/lib/rt.h"

#define PIECE_BYTES (32u << 20)
#define PIECES_MAX 126u

static struct blk b;
static struct vio v;
static struct ring rx, tx;
/* The header (of a disk), the pieces, the status (of a disk). */
static struct vdesc table[PIECES_MAX + 2] __attribute__((aligned(16)));

/* Returns PIECE_BYTES of memory above this guest. */
static uint8_t *pages(void)
{
	return (uint8_t *)(((uint64_t)image_end + 0x1fffff) & ~0x1fffffull);
}

static void add_pieces(unsigned from, unsigned count, uint16_t flags)
{
	for (unsigned i = from; i < from + count; i++)
		table[i] = (struct vdesc){ (uint64_t)pages(), PIECE_BYTES, flags | D_NEXT,
					   (uint16_t)(i + 1) };
}

/* Offers all chains of the ring, each with the same table. */
static void offer_all(struct ring *r, unsigned entries)
{
	for (unsigned i = 0; i < r->size; i++) {
		ring_desc(r, i, table, entries * (uint32_t)sizeof(table[0]), D_INDIRECT, 0);
		ring_offer(r, (uint16_t)i);
	}
}

static void ask_disk(void)
{
	const unsigned count = (1u << 30) / PIECE_BYTES;

	if (!blk_find(&b, 0) || !blk_start(&b, F_INDIRECT, 256, NO_VECTOR))
		rt_die("no disk");
	b.header = (struct blk_header){ .type = BLK_IN };
	table[0] = (struct vdesc){ (uint64_t)&b.header, sizeof(b.header), D_NEXT, 1 };
	add_pieces(1, count, D_WRITE);
	table[count + 1] = (struct vdesc){ (uint64_t)&b.status, 1, D_WRITE, 0 };
	offer_all(&b.r, count + 2);
	rt_print("asked\n");
	ring_kick(&b.v, &b.r);
}

static void ask_console(void)
{
	if (!vio_find(VIRTIO_CONSOLE, 0, &v) || !vio_negotiate(&v, F_INDIRECT))
		rt_die("no console");
	ring_init(&rx, 0, 8);
	ring_init(&tx, 1, 128);
	ring_enable(&v, &rx, 0, NO_VECTOR);
	ring_enable(&v, &tx, 1, NO_VECTOR);
	vio_set_status(&v, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	add_pieces(0, PIECES_MAX, 0);
	table[PIECES_MAX - 1].flags = 0;
	offer_all(&tx, PIECES_MAX);
	rt_print("asked\n");
	ring_kick(&v, &tx);
}

void main(void)
{
	if (!memcmp(boot_cmdline, "console", 8))
		ask_console();
	else
		ask_disk();
	rt_halt();
}
