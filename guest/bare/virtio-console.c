/*
 * virtio-console: writes a line to the transmit queue; echoes what it receives
 * within a second, if anything. The device survives wrong buffers.
 */
#include "guest/bare/lib/rt.h"
#include "guest/bare/lib/virtio.h"

static struct vio v;
static struct ring rx, tx;
static char in[64];
static const char line[] = "hello from virtio-console\n";

static bool start(void)
{
	if (!vio_negotiate(&v, F_INDIRECT))
		return false;
	ring_init(&rx, 0, 8);
	ring_init(&tx, 1, 8);
	ring_enable(&v, &rx, 0, NO_VECTOR);
	ring_enable(&v, &tx, 1, NO_VECTOR);
	vio_set_status(&v, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	return true;
}

static bool send(const void *p, uint32_t len, uint16_t flags)
{
	ring_desc(&tx, 0, p, len, flags, 0);
	ring_offer(&tx, 0);
	ring_kick(&v, &tx);
	return ring_wait(&tx, 5000, NULL, NULL);
}

void main(void)
{
	uint32_t len = 0;

	if (!vio_find(VIRTIO_CONSOLE, 0, &v))
		rt_die("no virtio-console device");
	ok(start(), "the driver is accepted");
	ok(send(line, sizeof(line) - 1, 0), "a line is sent");
	bool many = true;
	for (unsigned i = 0; i < 20; i++)
		many = many && send(line, sizeof(line) - 1, 0);
	ok(many, "and twenty more, past the ring's wrap");
	ring_desc(&rx, 0, in, sizeof(in), D_WRITE, 0);
	ring_offer(&rx, 0);
	ring_kick(&v, &rx);
	if (ring_wait(&rx, 1000, NULL, &len)) {
		ok(len > 0 && len <= sizeof(in), "%u bytes came in", len);
		send(in, len, 0);
	}
	/* A transmit buffer that is not readable; a receive buffer that is not writable. */
	ring_desc(&tx, 0, in, 16, D_WRITE, 0);
	ring_offer(&tx, 0);
	ring_kick(&v, &tx);
	ring_wait(&tx, 50, NULL, NULL);
	ring_desc(&rx, 1, in, 16, 0, 0);
	ring_offer(&rx, 1);
	ring_kick(&v, &rx);
	ring_wait(&rx, 50, NULL, NULL);
	ok(start() && send(line, sizeof(line) - 1, 0), "works after wrong buffers and a reset");
}
