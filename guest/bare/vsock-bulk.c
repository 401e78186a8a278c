/*
 * vsock-bulk: moves much data through virtio-vsock, with SHA-256 at both ends; then the host opens
 * a storm of connections. The driver runs at CPL3, hence at native speed under any KVM, and polls.
 *
 * The peer (tests/guests/vsock-peer) listens at three ports. 1: receives until the guest shuts down
 * its sending side, then sends the sum, in 64 digits. 2: sends mib=N (of the command line) MiB and
 * then the sum. 3: waits for "go" from the guest, connects to the guest many times and in every
 * way, and sends how many of its connections ended as expected: "N of N".
 */
#include "guest/bare/lib/apic.h"
#include "guest/bare/lib/rt.h"
#include "guest/bare/lib/user.h"
#include "guest/bare/lib/virtio.h"
#include "guest/sha256.h"

#define NRX 128u
#define RX_BYTES 4096u /* the size that Linux uses */
#define NTX 16u
#define TX_BYTES 65536u	 /* the longest packet */
#define ROOM_SMALL 3000u /* less than one buffer */
#define ROOM 262144u
#define SMALL_BYTES (1u << 20) /* with ROOM_SMALL for the first bytes, credit only on request */
#define PATIENCE_MS 20000u
enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };
enum { SHUT_SEND = 2, SHUT_BOTH };

struct hdr {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

static struct vio v;
static struct ring rx, tx;
static struct {
	struct hdr hdr;
	uint8_t data[RX_BYTES - sizeof(struct hdr)];
} in[NRX] __attribute__((aligned(4096)));
static struct {
	struct hdr hdr;
	uint8_t data[TX_BYTES] __attribute__((aligned(64)));
} out[NTX];
static uint64_t cid, khz, mib = 1024;
static bool event_idx;

/* The current connection. */
static struct {
	uint32_t port, host_port;
	uint32_t room, received, told; /* our buffer; told: the fwd_cnt that the host knows */
	uint32_t sent, alloc, fwd;     /* bytes sent; the host's buf_alloc and fwd_cnt */
	bool opened, reset, over;      /* over: the host sends no more */
	bool beyond;		       /* the host sent more than its credit */
	unsigned asked, waited;	       /* the host's credit requests; times that we had no credit */
	char sum[65];
	unsigned sum_bytes;
} c;
static struct sha256 sha;
static char own[65];
static uint64_t total, took, stormed;
static bool storming, lost;

enum { CALL_OUT, CALL_IN, CALL_STORM, CALL_LOST };

/* --- rings ---------------------------------------------------------------------------------- */

static void kick_if_wanted(struct ring *r, uint16_t old)
{
	uint16_t new = r->avail->idx, event;

	fence();
	event = *(volatile uint16_t *)((uint64_t)r->used + 4 + 8 * r->size);
	if (event_idx ? (uint16_t)(new - event - 1) >= (uint16_t)(new - old) : r->used->flags & 1)
		return;
	if (v.is_pci)
		mmio_w16(r->notify, r->queue);
	else
		mmio_w32(r->notify, r->queue);
}

/* Returns true if out[] has a free slot for the next packet. */
static bool tx_free(void)
{
	tx.last_used = tx.used->idx;
	return (uint16_t)(tx.avail->idx - tx.last_used) < NTX;
}

static void put(uint16_t op, uint32_t port, uint32_t host_port, uint32_t len, uint32_t flags)
{
	uint16_t old = tx.avail->idx, i = old % NTX;

	out[i].hdr = (struct hdr){ .src_cid = cid,
				   .dst_cid = 2,
				   .src_port = port,
				   .dst_port = host_port,
				   .len = len,
				   .type = 1,
				   .op = op,
				   .flags = flags,
				   .buf_alloc = c.room,
				   .fwd_cnt = c.received };
	if (port == c.port)
		c.told = c.received;
	ring_desc(&tx, 2u * i, &out[i].hdr, sizeof(struct hdr), len ? D_NEXT : 0,
		  (uint16_t)(2 * i + 1));
	ring_desc(&tx, 2u * i + 1, out[i].data, len, 0, 0);
	ring_offer(&tx, (uint16_t)(2 * i));
	kick_if_wanted(&tx, old);
}

/* Waits for a free slot, which is out[tx.avail->idx % NTX]. Returns false if none comes in time. */
static bool wait_tx(void)
{
	uint64_t end = rdtsc() + PATIENCE_MS * khz;

	while (!tx_free())
		if (rdtsc() > end)
			return false;
		else
			relax();
	return true;
}

static void say(uint16_t op, uint32_t flags)
{
	if (wait_tx())
		put(op, c.port, c.host_port, 0, flags);
}

/* --- receiving ------------------------------------------------------------------------------ */

static void on_data(const struct hdr *h, const uint8_t *data)
{
	uint64_t left = c.received < total ? total - c.received : 0;
	uint32_t n = h->len < left ? h->len : (uint32_t)left;

	c.received += h->len;
	if (c.received - c.told > c.room)
		c.beyond = true;
	if (n)
		sha256_add(&sha, data, n);
	for (; n < h->len && c.sum_bytes < 64; n++)
		c.sum[c.sum_bytes++] = (char)data[n];
	if (c.room == ROOM && c.room - (c.received - c.told) < ROOM / 2)
		say(CREDIT_UPDATE, 0);
}

/* Echoes each connection without state; refuses every fourth. */
static void on_storm(const struct hdr *h, const uint8_t *data)
{
	if (h->op == RST || h->op == CREDIT_UPDATE || !wait_tx())
		return;
	if (h->op == RW)
		memcpy(out[tx.avail->idx % NTX].data, data, h->len);
	stormed += h->op == REQUEST;
	put(h->op == RW			    ? RW :
	    h->op == REQUEST && stormed % 4 ? RESPONSE :
	    h->op == CREDIT_REQUEST	    ? CREDIT_UPDATE :
					      RST,
	    h->dst_port, h->src_port, h->op == RW ? h->len : 0, 0);
}

static void on_packet(const struct hdr *h, const uint8_t *data)
{
	if (h->dst_port != c.port) {
		if (storming)
			on_storm(h, data);
		return;
	}
	c.alloc = h->buf_alloc;
	c.fwd = h->fwd_cnt;
	if (h->op == RESPONSE)
		c.opened = true;
	if (h->op == RST)
		c.reset = c.over = true;
	if (h->op == SHUTDOWN)
		c.over |= !!(h->flags & SHUT_SEND);
	if (h->op == RW)
		on_data(h, data);
	if (h->op == CREDIT_REQUEST) {
		c.asked++;
		/* The host has no credit left. Wait a moment: no more data may come. */
		for (uint64_t end = rdtsc() + khz / 10; c.room == ROOM_SMALL && rdtsc() < end;)
			if (rx.used->idx != (uint16_t)(rx.last_used + 1))
				break;
		if (c.received >= SMALL_BYTES)
			c.room = ROOM;
		say(CREDIT_UPDATE, 0);
	}
}

/* Handles one packet, if there is one. Returns true if there was. */
static bool poll(void)
{
	uint16_t old = rx.avail->idx;
	uint32_t id;

	if (rx.used->idx == rx.last_used)
		return false;
	barrier();
	id = rx.used->ring[rx.last_used % NRX].id;
	if (id < NRX)
		on_packet(&in[id].hdr, in[id].data);
	rx.last_used++;
	ring_offer(&rx, (uint16_t)id);
	kick_if_wanted(&rx, old);
	return true;
}

/* Polls until *flag. Returns false if no packet comes for PATIENCE_MS. */
static bool until(const volatile bool *flag)
{
	uint64_t end = rdtsc() + PATIENCE_MS * khz;

	while (!*flag)
		if (poll())
			end = rdtsc() + PATIENCE_MS * khz;
		else if (rdtsc() > end)
			return false;
		else
			relax();
	return true;
}

static bool open(uint32_t host_port, uint32_t room)
{
	memset(&c, 0, sizeof(c));
	c.port = 1000 + host_port;
	c.host_port = host_port;
	c.room = room;
	sha256_init(&sha);
	say(REQUEST, 0);
	return until(&c.opened) && !c.reset;
}

static void shut(void)
{
	say(SHUTDOWN, SHUT_BOTH);
	until(&c.reset);
}

/* --- the three parts, at CPL3 --------------------------------------------------------------- */

/* A stream (xorshift64) that does not repeat gives the data and the packets' lengths. */
static uint64_t state = 88172645463325252ull;

static uint64_t next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static bool send_all(uint64_t bytes)
{
	uint64_t end = rdtsc() + PATIENCE_MS * khz, left = bytes;

	for (bool dry = false; left;) {
		uint32_t credit = c.alloc - (c.sent - c.fwd), n = 1 + (uint32_t)(next() % TX_BYTES);
		uint64_t *data = (uint64_t *)out[tx.avail->idx % NTX].data;

		if (poll())
			continue;
		c.waited += !credit && !dry;
		dry = !credit;
		if (rdtsc() > end || c.reset)
			return false;
		if (!credit || !tx_free()) {
			relax();
			continue;
		}
		n = n < credit ? n : credit;
		n = n < left ? n : (uint32_t)left;
		for (uint32_t i = 0; i < n; i += 8)
			*data++ = next();
		sha256_add(&sha, out[tx.avail->idx % NTX].data, n);
		c.sent += n;
		left -= n;
		put(RW, c.port, c.host_port, n, 0);
		end = rdtsc() + PATIENCE_MS * khz;
	}
	return true;
}

static void parts(void)
{
	uint64_t begin = rdtsc();

	total = 0; /* no data comes, only the host's sum */
	lost = !open(1, ROOM) || !send_all(mib << 20);
	sha256_hex(&sha, own);
	say(SHUTDOWN, SHUT_SEND);
	lost |= !until(&c.over);
	took = rdtsc() - begin;
	user_call(CALL_OUT, 0, 0);
	shut();

	begin = rdtsc();
	total = mib << 20;
	lost = !open(2, ROOM_SMALL) || !until(&c.over);
	sha256_hex(&sha, own);
	took = rdtsc() - begin;
	user_call(CALL_IN, 0, 0);
	shut();

	total = 0;
	storming = true;
	lost = !open(3, ROOM);
	if (!lost && wait_tx()) {
		memcpy(out[tx.avail->idx % NTX].data, "go", 2);
		put(RW, c.port, c.host_port, 2, 0);
	}
	lost |= !until(&c.over);
	user_call(CALL_STORM, 0, 0);
}

static uint64_t rate(void)
{
	return mib * 1000 / (took / khz + 1);
}

static void called(uint64_t op, uint64_t a, uint64_t b)
{
	bool same = !lost && c.sum_bytes == 64 && !memcmp(c.sum, own, 64);

	if (op == CALL_OUT) {
		rt_print("# %s: %lu MiB/s, %u times no credit\n", own, rate(), c.waited);
		ok(same, "%lu MiB to the host, sums agree", mib);
		ok(c.waited, "the guest ran out of credit, and continued");
	} else if (op == CALL_IN) {
		rt_print("# %s: %lu MiB/s, %u requests for credit\n", own, rate(), c.asked);
		ok(same, "%lu MiB from the host, sums agree", mib);
		ok(c.asked >= SMALL_BYTES / ROOM_SMALL,
		   "the host asked for credit when it had none");
		ok(!c.beyond, "the host never sent more than its credit");
	} else {
		c.sum[c.sum_bytes] = 0;
		rt_print("# %lu connections, the host reports: %s\n", stormed, c.sum);
		for (b = 0; c.sum[b] >= '0' && c.sum[b] <= '9'; b++)
			a = a * 10 + (uint64_t)(c.sum[b] - '0');
		ok(!lost && a && !memcmp(c.sum + b, " of ", 4) && !memcmp(c.sum, c.sum + b + 4, b),
		   "a storm of the host's connections and resets");
		rt_done();
	}
}

void main(void)
{
	if (boot_cmdline && !memcmp(boot_cmdline, "mib=", 4))
		for (mib = 0, boot_cmdline += 4; *boot_cmdline >= '0' && *boot_cmdline <= '9';)
			mib = mib * 10 + (uint64_t)(*boot_cmdline++ - '0');
	lapic_enable();
	khz = tsc_khz();
	if (!khz)
		khz = 1000000;
	if (!vio_find(VIRTIO_VSOCK, 0, &v))
		rt_die("no virtio-vsock device");
	if (!vio_negotiate(&v, F_EVENT_IDX))
		rt_die("the device does not start");
	cid = vio_config(&v, 0, 4) | vio_config(&v, 4, 4) << 32;
	event_idx = vio_features(&v) >> 29 & 1;
	ring_init(&rx, 0, NRX);
	ring_init(&tx, 1, 2 * NTX);
	for (unsigned i = 0; i < NRX; i++) {
		ring_desc(&rx, i, &in[i], sizeof(in[i]), D_WRITE, 0);
		ring_offer(&rx, (uint16_t)i);
	}
	rx.avail->flags = tx.avail->flags = 1;
	rx.avail->ring[NRX] = tx.avail->ring[2 * NTX] = 0x7fff;
	ring_enable(&v, &rx, 0, NO_VECTOR);
	ring_enable(&v, &tx, 1, NO_VECTOR);
	vio_set_status(&v, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	ring_kick(&v, &rx);
	user_enter(parts, called);
}
