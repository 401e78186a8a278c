/*
 * disguise: the guest writes a qcow2 image into its raw disk. The image's backing file is a file
 * of the host, which the command line names. A monitor that guesses the disk's format from its
 * content would show that file to the guest. If the disk already begins with a qcow2 header, the
 * guest only checks that the disk holds the bytes that it wrote. tests/guests/run boots both cases.
 */
#include "guest/bare/lib/blk.h"
#include "guest/bare/lib/rt.h"

#define CLUSTER 65536u
#define NAME_AT 512u

static struct blk b;
/* A cluster each: header, L1 table (empty: the backing file has it all), refcount table, refcounts. */
static uint8_t image[4][512] __attribute__((aligned(4096)));
static uint8_t name[512], back[512];

static void put32(uint8_t *p, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(p, &v, sizeof(v));
}

static void make(void)
{
	uint32_t len = 0;

	while (boot_cmdline[len] && len < sizeof(name)) {
		name[len] = (uint8_t)boot_cmdline[len];
		len++;
	}
	memcpy(image[0], "QFI\xfb", 4);
	put32(image[0] + 4, 2); /* version */
	put32(image[0] + 12, NAME_AT);
	put32(image[0] + 16, len);
	put32(image[0] + 20, 16);	/* cluster_bits */
	put32(image[0] + 28, 1u << 20); /* size */
	put32(image[0] + 36, 1);	/* l1_size */
	put32(image[0] + 44, CLUSTER);
	put32(image[0] + 52, 2 * CLUSTER); /* refcount table … */
	put32(image[0] + 56, 1);	   /* … and its length in clusters */
	put32(image[2] + 4, 3 * CLUSTER);
	for (unsigned i = 0; i < 4; i++)
		image[3][2 * i + 1] = 1;
}

static bool same(uint64_t sector, const void *want)
{
	memset(back, 0, sizeof(back));
	return blk_io(&b, BLK_IN, sector, back, sizeof(back)) == BLK_S_OK &&
	       !memcmp(back, want, sizeof(back));
}

static bool all_same(void)
{
	bool good = same(NAME_AT / 512, name);

	for (unsigned i = 0; i < 4; i++)
		good = same(i * CLUSTER / 512, image[i]) && good;
	return good;
}

void main(void)
{
	if (!blk_find(&b, 0))
		rt_die("no virtio-blk device");
	ok(blk_start(&b, b.offered, 64, NO_VECTOR), "the driver is accepted");
	ok(b.nsectors == 2048, "capacity: %lu sectors", b.nsectors);
	make();
	if (blk_io(&b, BLK_IN, 0, back, sizeof(back)) == BLK_S_OK && !memcmp(back, "QFI", 3)) {
		ok(all_same(), "the disk holds what was written to it");
		return;
	}
	bool good = blk_io(&b, BLK_OUT, NAME_AT / 512, name, sizeof(name)) == BLK_S_OK;
	for (unsigned i = 0; i < 4; i++)
		good = blk_io(&b, BLK_OUT, i * CLUSTER / 512, image[i], 512) == BLK_S_OK && good;
	ok(good, "an image is written");
	ok(all_same(), "and read back");
	ok(blk_start(&b, b.offered, 64, NO_VECTOR) && all_same(), "also after a reset");
}
