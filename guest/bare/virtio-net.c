/*
 * virtio-net: the first network card does what a driver may ask of it. Its peer
 * (tests/guests/net-peer) sends every frame of EtherType 0x88b5 back, with the two addresses
 * swapped, as many times as the frame's byte 14 says.
 */
#include "guest/bare/lib/rt.h"
#include "guest/bare/lib/virtio.h"

#define HDR 12
#define ETH 14
#define F_MTU (1ull << 3)
#define F_MRG (1ull << 15)
#define F_STATUS (1ull << 16)
#define F_CTRL_VQ (1ull << 17)
#define F_CTRL_RX (1ull << 18)
#define F_CTRL_MAC (1ull << 23)
#define BUFS 64
#define BUF_BYTES 2048

static struct vio v;
static struct ring rx, tx, ctrl;
static uint8_t out[HDR + 9100] __attribute__((aligned(64)));
static uint8_t in[BUFS][BUF_BYTES] __attribute__((aligned(64)));
static uint8_t mac[6];
static const uint8_t peer[6] = { 2, 0, 0, 0, 0, 0x99 };

static bool start(uint64_t want)
{
	if (!vio_negotiate(&v, want))
		return false;
	ring_init(&rx, 0, BUFS);
	ring_init(&tx, 1, BUFS);
	ring_init(&ctrl, 2, 16);
	ring_enable(&v, &rx, 0, NO_VECTOR);
	ring_enable(&v, &tx, 1, NO_VECTOR);
	if (want & F_CTRL_VQ)
		ring_enable(&v, &ctrl, 2, NO_VECTOR);
	vio_set_status(&v, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	return true;
}

/* Offers receive buffers first … first + n - 1, of len bytes each. */
static void post(unsigned first, unsigned n, uint32_t len)
{
	for (unsigned i = first; i < first + n; i++) {
		ring_desc(&rx, i % BUFS, in[i % BUFS], len, D_WRITE, 0);
		ring_offer(&rx, (uint16_t)(i % BUFS));
	}
	ring_kick(&v, &rx);
}

/* Makes a frame of len bytes that the peer sends back the given number of times. */
static void make(uint32_t len, uint8_t times, const uint8_t *from)
{
	memset(out, 0, HDR);
	memcpy(out + HDR, peer, 6);
	memcpy(out + HDR + 6, from, 6);
	out[HDR + 12] = 0x88;
	out[HDR + 13] = 0xb5;
	out[HDR + 14] = times;
	for (uint32_t i = 15; i < len; i += i < 100 ? 1 : 61)
		out[HDR + i] = (uint8_t)(i * 7 + len);
}

static bool transmit(uint32_t len)
{
	ring_desc(&tx, 0, out, HDR + len, 0, 0);
	ring_offer(&tx, 0);
	ring_kick(&v, &tx);
	return ring_wait(&tx, 5000, NULL, NULL);
}

/* Returns true if the last frame of make() comes back, in buffers of each bytes. */
static bool came(uint32_t len, uint32_t each, unsigned *nbufs)
{
	uint32_t id, got, at = 0, total = HDR + len;
	bool same = true;
	unsigned n = 0, say = 0;

	while (at < total) {
		uint32_t part = total - at < each ? total - at : each;
		if (!ring_wait(&rx, 5000, &id, &got) || got != part || id >= BUFS)
			return false;
		if (!n)
			say = load16(in[id] + 10);
		for (uint32_t i = 0; i < part; i++) {
			uint32_t pos = at + i;
			if (pos < HDR + 14 || (pos >= HDR + 115 && (pos - HDR - 100) % 61))
				continue;
			same = same && in[id][i] == out[pos];
		}
		at += part;
		n++;
	}
	*nbufs = say;
	return same && say == n;
}

static void echo(const char *what, uint32_t len, uint32_t each)
{
	unsigned n = 0;
	static unsigned next;

	post(next, (HDR + len + each - 1) / each, each);
	next = (next + (HDR + len + each - 1) / each) % BUFS;
	make(len, 1, mac);
	bool good = transmit(len) && came(len, each, &n);
	ok(good, "%s: %u bytes out and back, in %u buffers", what, len, n);
}

static void split(void)
{
	static const uint32_t part[] = { 5, 7, 3, 8, 100, 391 };
	unsigned at = 0, n = 0;
	uint32_t len = 0;

	start(0);
	make(502, 1, mac);
	/* Receive: the header in two pieces, the rest in odd pieces. */
	for (unsigned i = 0; i < 6; i++, at += part[i - 1])
		ring_desc(&rx, i, in[0] + at, i == 5 ? 1500 : part[i],
			  D_WRITE | (i < 5 ? D_NEXT : 0), (uint16_t)(i + 1));
	ring_offer(&rx, 0);
	ring_kick(&v, &rx);
	at = 0;
	for (unsigned i = 0; i < 6; i++, at += part[i - 1])
		ring_desc(&tx, i, out + at, part[i], i < 5 ? D_NEXT : 0, (uint16_t)(i + 1));
	ring_offer(&tx, 0);
	ring_kick(&v, &tx);
	ok(ring_wait(&tx, 5000, NULL, NULL), "a frame in six odd parts is sent");
	bool got = ring_wait(&rx, 5000, NULL, &len);
	for (unsigned i = HDR + 15; i < HDR + 100; i++)
		n += in[0][i] != out[i];
	ok(got && len == HDR + 502 && !n, "and received in six others (%u bytes, %u wrong)", len,
	   n);
}

static void burst(void)
{
	unsigned got = 0;

	start(F_MRG | F_INDIRECT);
	post(0, BUFS, BUF_BYTES);
	make(200, 40, mac);
	for (unsigned round = 0; round < 4; round++) {
		transmit(200);
		for (unsigned i = 0; i < 40; i++) {
			uint32_t id;
			if (!ring_wait(&rx, 5000, &id, NULL))
				break;
			got++;
			ring_offer(&rx, (uint16_t)id);
		}
		ring_kick(&v, &rx);
	}
	ok(got == 160, "%u of 160 frames, past the ring's wrap", got);
	/* More frames than buffers: the frames wait. */
	start(F_MRG);
	make(200, 8, mac);
	transmit(200);
	bool early = ring_wait(&rx, 50, NULL, NULL);
	post(0, 4, BUF_BYTES);
	for (got = 0; got < 4 && ring_wait(&rx, 5000, NULL, NULL); got++)
		;
	post(4, 4, BUF_BYTES);
	for (; got < 8 && ring_wait(&rx, 5000, NULL, NULL); got++)
		;
	ok(!early && got == 8, "%u of 8 frames waited for buffers", got);
}

static uint8_t command(uint8_t class, uint8_t cmd, const void *data, uint32_t len)
{
	static uint8_t hdr[2];
	static volatile uint8_t ack;

	hdr[0] = class;
	hdr[1] = cmd;
	ack = 0xee;
	ring_desc(&ctrl, 0, hdr, 2, D_NEXT, len ? 1 : 2);
	ring_desc(&ctrl, 1, data, len, D_NEXT, 2);
	ring_desc(&ctrl, 2, &ack, 1, D_WRITE, 0);
	ring_offer(&ctrl, 0);
	ring_kick(&v, &ctrl);
	return ring_wait(&ctrl, 5000, NULL, NULL) ? ack : 0xdd;
}

static void control(uint64_t offered)
{
	static uint8_t other[6] = { 2, 1, 1, 1, 1, 2 }, off, on = 1, junk[64];
	unsigned n;

	if ((offered & (F_CTRL_VQ | F_CTRL_RX | F_CTRL_MAC)) !=
	    (F_CTRL_VQ | F_CTRL_RX | F_CTRL_MAC)) {
		skip("control queue", "not offered");
		return;
	}
	start(F_MRG | F_CTRL_VQ | F_CTRL_RX | F_CTRL_MAC);
	ok(command(0, 0, &off, 1) == 0, "promiscuous off");
	post(0, 8, BUF_BYTES);
	make(100, 1, other);
	transmit(100);
	ok(!ring_wait(&rx, 100, NULL, NULL), "a frame for another address is not received");
	make(100, 1, mac);
	transmit(100);
	ok(came(100, BUF_BYTES, &n), "a frame for our address is received");
	ok(command(1, 1, other, 6) == 0, "a new address");
	for (n = 0; n < 6 && vio_config(&v, n, 1) == other[n]; n++)
		;
	ok(n == 6, "the configuration shows it");
	make(100, 1, other);
	transmit(100);
	ok(came(100, BUF_BYTES, &n), "a frame for it is received");
	ok(command(0, 0, &on, 1) == 0, "promiscuous on");
	make(100, 1, mac);
	transmit(100);
	ok(came(100, BUF_BYTES, &n), "all frames are received");
	memset(junk, 0xff, sizeof(junk));
	n = command(0, 77, &on, 1) == 1;
	n += command(77, 0, junk, 64) == 1;
	n += command(1, 0, junk, 64) == 1; /* a table that claims four billion addresses */
	n += command(1, 0, junk, 3) == 1;
	n += command(1, 1, junk, 5) == 1;
	n += command(4, 0, junk, 2) == 1;
	n += command(5, 0, junk, 8) == 1;
	n += command(0, 0, NULL, 0) == 1;
	ok(n == 8, "%u of 8 wrong commands are refused", n);
	vio_reset(&v);
	for (n = 0; n < 6 && vio_config(&v, n, 1) == mac[n]; n++)
		;
	ok(n == 6, "a reset restores the address");
}

static void wrong(void)
{
	static const uint32_t len[] = { 1, 11, 12, 13, 25 };
	unsigned n = 0;

	start(F_MRG);
	for (unsigned i = 0; i < 5; i++) {
		ring_desc(&tx, 0, out, len[i], 0, 0);
		ring_offer(&tx, 0);
		ring_kick(&v, &tx);
		n += ring_wait(&tx, 5000, NULL, NULL);
	}
	ring_desc(&tx, 0, out, 100, D_WRITE, 0);
	ring_offer(&tx, 0);
	ring_kick(&v, &tx);
	n += ring_wait(&tx, 5000, NULL, NULL);
	ok(n == 6, "%u of 6 invalid frames are dropped", n);
	post(0, 1, 11);
	make(100, 1, mac);
	transmit(100);
	ring_wait(&rx, 20, NULL, NULL);
	ok(vio_status(&v) & S_NEEDS_RESET, "a receive buffer shorter than a header: NEEDS_RESET");
}

void main(void)
{
	uint64_t offered;

	if (!vio_find(VIRTIO_NET, 0, &v))
		rt_die("no virtio-net device");
	offered = vio_features(&v);
	for (unsigned i = 0; i < 6; i++)
		mac[i] = (uint8_t)vio_config(&v, i, 1);
	ok(!(mac[0] & 1), "address %02x:%02x:%02x:%02x:%02x:%02x, features %lx", mac[0], mac[1],
	   mac[2], mac[3], mac[4], mac[5], offered);
	ok(offered & F_STATUS && vio_config(&v, 6, 2) & 1, "the link is up");
	ok(start(0), "the driver is accepted");
	echo("plain", 60, BUF_BYTES);
	echo("plain", 1514, BUF_BYTES);
	ok(start(F_MRG), "with MRG_RXBUF");
	echo("merged", 60, BUF_BYTES);
	echo("merged", 1514, 128);
	if (offered & F_MTU && vio_config(&v, 10, 2) >= 9000)
		echo("merged, long", 9000, 1536);
	split();
	burst();
	control(offered);
	wrong();
	ok(start(F_MRG), "starts again");
	echo("after all that", 1000, BUF_BYTES);
	vio_reset(&v);
}
