/* virtio-rng: the device fills buffers with bytes that differ, and survives wrong buffers. */
#include "guest/bare/lib/rt.h"
#include "guest/bare/lib/virtio.h"

static struct vio v;
static struct ring r;
static uint8_t buf[2][4096];

static bool start(void)
{
	if (!vio_negotiate(&v, F_INDIRECT))
		return false;
	ring_init(&r, 0, 8);
	ring_enable(&v, &r, 0, NO_VECTOR);
	vio_set_status(&v, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	return true;
}

/* Returns the number of bytes delivered, 0 if the device does not answer. */
static uint32_t fill(void *p, uint32_t len)
{
	uint32_t got = 0;

	ring_desc(&r, 0, p, len, D_WRITE, 0);
	ring_offer(&r, 0);
	ring_kick(&v, &r);
	return ring_wait(&r, 5000, NULL, &got) ? got : 0;
}

void main(void)
{
	if (!vio_find(VIRTIO_RNG, 0, &v))
		rt_die("no virtio-rng device");
	ok(start(), "the driver is accepted");
	uint32_t n = fill(buf[0], 64), m = fill(buf[1], 64);
	ok(n > 0 && n <= 64 && m > 0 && m <= 64, "%u and %u bytes", n, m);
	ok(memcmp(buf[0], buf[1], n < m ? n : m) != 0, "they differ");
	ok(fill(buf[0], 4096) > 0, "a page");
	ok(fill(buf[0], 1) == 1, "one byte");
	ring_desc(&r, 0, buf[0], 64, 0, 0); /* no writable part */
	ring_offer(&r, 0);
	ring_kick(&v, &r);
	uint32_t got = 0;
	bool used = ring_wait(&r, 500, NULL, &got);
	ok((used && got == 0) || (vio_status(&v) & S_NEEDS_RESET), "a readable buffer: %s",
	   used ? "given back empty" : "stopped");
	ok(start() && fill(buf[0], 16) > 0, "works after a reset");
}
