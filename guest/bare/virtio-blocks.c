/*
 * virtio-blocks: a disk whose logical block has 4096 bytes. A driver that reads blk_size gets errors for
 * requests of half blocks; one that does not cannot know, and gets its sectors.
 */
#include "guest/bare/lib/blk.h"
#include "guest/bare/lib/rt.h"

#define BLK_F_BLK_SIZE (1ull << 6)
#define BLK_SIZE_AT 20 /* in the configuration space (section 5.2.4) */

static struct blk b;
static uint8_t buf[8192] __attribute__((aligned(4096)));

static void whole_blocks(void)
{
	ok(blk_io(&b, BLK_IN, 0, buf, 4096) == BLK_S_OK && !memcmp(buf, "bantam", 6), "a block");
	ok(blk_io(&b, BLK_OUT, 16, buf, 8192) == BLK_S_OK, "two blocks are written");
	ok(blk_io(&b, BLK_IN, b.nsectors - 8, buf, 4096) == BLK_S_OK, "the last block");
	ok(blk_io(&b, BLK_IN, b.nsectors, buf, 4096) == BLK_S_IOERR, "the one behind it");
}

static void parts_of_blocks(void)
{
	static const struct blk_range range[] = { { .sector = 8, .nsectors = 4 },
						  { .sector = 4, .nsectors = 8 } };

	ok(blk_io(&b, BLK_IN, 0, buf, 512) == BLK_S_IOERR, "a sector is refused");
	ok(blk_io(&b, BLK_IN, 1, buf, 4096) == BLK_S_IOERR, "between two blocks, too");
	ok(blk_io(&b, BLK_OUT, 0, buf, 4096 + 512) == BLK_S_IOERR, "a block and a sector, too");
	for (unsigned i = 0; i < 2; i++) {
		struct blk_range r = range[i];

		ok(blk_io(&b, BLK_WRITE_ZEROES, 0, &r, sizeof(r)) == BLK_S_IOERR,
		   "zeroes in %u sectors from %lu, too", r.nsectors, r.sector);
	}
}

void main(void)
{
	if (!blk_find(&b, 0))
		rt_die("no virtio-blk device");
	ok(b.offered & BLK_F_BLK_SIZE, "BLK_SIZE is offered");
	ok(blk_start(&b, b.offered & ~F_EVENT_IDX, 64, NO_VECTOR), "the driver is accepted");
	rt_print("block size: %u\n", (uint32_t)vio_config(&b.v, BLK_SIZE_AT, 4));
	rt_print("sectors: %lu\n", b.nsectors);
	whole_blocks();
	parts_of_blocks();
	ok(blk_start(&b, b.offered & ~(F_EVENT_IDX | BLK_F_BLK_SIZE), 64, NO_VECTOR),
	   "a driver without BLK_SIZE");
	ok(blk_io(&b, BLK_IN, 0, buf, 512) == BLK_S_OK && !memcmp(buf, "bantam", 6), "a sector");
	ok(blk_io(&b, BLK_OUT, 3, buf, 512) == BLK_S_OK, "one is written");
	whole_blocks();
	vio_reset(&b.v);
}
