/*
 * virtio-vsock: talks to an echo server of the host at port 1, if the command line says
 * "echo"; connects to a port without a listener. The device survives wrong packets and buffers.
 */
#include "guest/bare/lib/rt.h"
#include "guest/bare/lib/virtio.h"

#define RX_BUFS 8
enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };

struct hdr {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

struct packet {
	struct hdr hdr;
	uint8_t data[4096 - sizeof(struct hdr)];
};

static struct vio v;
static struct ring rx, tx;
static struct packet in[RX_BUFS], out, got;
static uint64_t cid;
static uint32_t fwd;

static bool start(void)
{
	if (!vio_negotiate(&v, F_INDIRECT))
		return false;
	ring_init(&rx, 0, RX_BUFS);
	ring_init(&tx, 1, 8);
	ring_enable(&v, &rx, 0, NO_VECTOR);
	ring_enable(&v, &tx, 1, NO_VECTOR);
	vio_set_status(&v, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	for (unsigned i = 0; i < RX_BUFS; i++) {
		ring_desc(&rx, i, &in[i], sizeof(in[i]), D_WRITE, 0);
		ring_offer(&rx, (uint16_t)i);
	}
	ring_kick(&v, &rx);
	fwd = 0;
	return true;
}

static bool send(uint16_t op, uint32_t port, uint32_t len)
{
	out.hdr = (struct hdr){ .src_cid = cid,
				.dst_cid = 2,
				.src_port = 1000,
				.dst_port = port,
				.len = len,
				.type = 1,
				.op = op,
				.buf_alloc = 65536,
				.fwd_cnt = fwd };
	ring_desc(&tx, 0, &out, (uint32_t)sizeof(out.hdr) + len, 0, 0);
	ring_offer(&tx, 0);
	ring_kick(&v, &tx);
	return ring_wait(&tx, 5000, NULL, NULL);
}

/* Receives the next packet into got; skips credit updates and requests. */
static bool receive(void)
{
	uint32_t id, len;

	do {
		if (!ring_wait(&rx, 5000, &id, &len) || id >= RX_BUFS)
			return false;
		memcpy(&got, &in[id], sizeof(got));
		ring_offer(&rx, (uint16_t)id);
		ring_kick(&v, &rx);
	} while (got.hdr.op == CREDIT_UPDATE || got.hdr.op == CREDIT_REQUEST);
	return true;
}

static bool answered(uint16_t op)
{
	return receive() && got.hdr.op == op;
}

static void talk(void)
{
	uint32_t sent = 0, back = 0;
	bool good = true;

	ok(send(REQUEST, 1, 0) && answered(RESPONSE), "the host's server answers");
	for (unsigned i = 0; i < 64 && good; i++) {
		for (unsigned k = 0; k < 4000; k++)
			out.data[k] = (uint8_t)(sent++ * 7);
		good = send(RW, 1, 4000);
		while (good && back < sent) {
			good = answered(RW);
			for (unsigned k = 0; good && k < got.hdr.len; k++)
				good = got.data[k] == (uint8_t)(back++ * 7);
		}
		fwd = back;
	}
	ok(good && back == sent, "%u bytes there and back", back);
	out.hdr.flags = 0;
	send(SHUTDOWN, 1, 0);
	send(RST, 1, 0);
}

static bool refused(void)
{
	return send(REQUEST, 99, 0) && answered(RST) && got.hdr.src_port == 99 &&
	       got.hdr.dst_port == 1000 && got.hdr.src_cid == 2 && got.hdr.dst_cid == cid;
}

void main(void)
{
	bool all = true;

	if (!vio_find(VIRTIO_VSOCK, 0, &v))
		rt_die("no virtio-vsock device");
	cid = vio_config(&v, 0, 4) | vio_config(&v, 4, 4) << 32;
	ok(cid == 3, "the CID is %lu", cid);
	ok(start(), "the driver is accepted");
	if (boot_cmdline && boot_cmdline[0] == 'e')
		talk();
	ok(refused(), "a connection to port 99, without a listener, is refused");
	for (uint16_t op = 0; op < 12; op++)
		if (op != RST && op != REQUEST)
			all = all && send(op, 98, 0) && answered(RST);
	ok(all, "packets that belong to no connection are reset");
	/* A packet shorter than a header; a buffer that is not readable. */
	ring_desc(&tx, 0, &out, 20, 0, 0);
	ring_offer(&tx, 0);
	ring_kick(&v, &tx);
	ok(ring_wait(&tx, 5000, NULL, NULL), "a short packet comes back");
	ring_desc(&tx, 0, &out, 44, D_WRITE, 0);
	ring_offer(&tx, 0);
	ring_kick(&v, &tx);
	ring_wait(&tx, 50, NULL, NULL);
	ok(start() && refused(), "works after wrong buffers and a reset");
}
