/*
 * virtio-grow: disks that the host makes larger while the guest uses them. For each disk it says
 * "grow disk N", works on until the capacity has changed, and then looks at the new part.
 */
#include "guest/bare/lib/blk.h"
#include "guest/bare/lib/rt.h"

#define ISR_CONFIG 2u
#define WAIT_US 20000000ull

static struct blk b;
static uint8_t buf[4096] __attribute__((aligned(4096)));

static bool io(uint32_t type, uint64_t sector, uint32_t len)
{
	return blk_io(&b, type, sector, buf, len) == BLK_S_OK;
}

static bool holds(uint8_t byte)
{
	for (unsigned i = 0; i < 512; i++)
		if (buf[i] != byte)
			return false;
	return true;
}

/* Works on the old part of the disk until the capacity changes. Returns the new one. */
static uint64_t work(uint64_t old, bool *good, uint32_t *isr)
{
	uint64_t begin = now_us(), now = old;

	for (unsigned i = 1; now == old && now_us() - begin < WAIT_US; i++) {
		memset(buf, (uint8_t)i, sizeof(buf));
		*good &= io(BLK_OUT, i * 97 % (old - 8), 4096);
		*good &= io(BLK_IN, i * 89 % (old - 8), 4096);
		*isr |= vio_isr(&b.v);
		now = vio_config(&b.v, 0, 8);
	}
	*isr |= vio_isr(&b.v);
	return now;
}

static void grow(unsigned nth)
{
	uint64_t old = b.nsectors, now;
	uint8_t generation;
	bool good = true;
	uint32_t isr = 0;

	ok(blk_start(&b, b.offered & BLK_F_FLUSH, 64, NO_VECTOR), "disk %u: %lu sectors", nth, old);
	generation = vio_generation(&b.v);
	ok(blk_io(&b, BLK_IN, old, buf, 512) == BLK_S_IOERR, "nothing is behind its end");
	rt_print("grow disk %u\n", nth);
	now = work(old, &good, &isr);
	ok(now > old, "disk %u: %lu sectors now", nth, now);
	ok(good, "no request failed meanwhile");
	ok(isr & ISR_CONFIG, "an interrupt tells it");
	ok(vio_generation(&b.v) != generation, "the configuration has another generation");
	memset(buf, 0xee, sizeof(buf));
	ok(io(BLK_IN, old, 512) && holds(0), "the first new sector is zeroes");
	ok(io(BLK_IN, now - 1, 512) && holds(0), "so is the last one");
	memset(buf, 0x5a, sizeof(buf));
	ok(io(BLK_OUT, old - 1, 1024) && io(BLK_OUT, now - 1, 512), "they can be written");
	memset(buf, 0, sizeof(buf));
	ok(io(BLK_IN, now - 1, 512) && holds(0x5a) && io(BLK_IN, old, 512) && holds(0x5a) &&
		   io(BLK_FLUSH, 0, 0),
	   "and read again");
	ok(blk_io(&b, BLK_IN, now, buf, 512) == BLK_S_IOERR, "nothing is behind its new end");
}

void main(void)
{
	for (unsigned nth = 0; blk_find(&b, nth); nth++)
		grow(nth);
}
