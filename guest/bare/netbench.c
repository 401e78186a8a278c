/*
 * netbench: measures how fast a network card is. The driver runs at CPL3, hence at native
 * speed under any KVM, and polls with EVENT_IDX: the figures show the monitor's data path.
 *
 * The peer (tests/bench/netpeer) sends each frame of EtherType 0x88b5 back as many times as
 * the frame's byte 14 says. Command line: ms=N (each test's time, default 1000),
 * arp (for a user network: round trips by ARP to 10.0.2.2). Prints one line per test:
 *   NAME pps N mbit N avg_us N p50_us N p99_us N kicks N
 */
#include "guest/bare/lib/apic.h"
#include "guest/bare/lib/rt.h"
#include "guest/bare/lib/user.h"
#include "guest/bare/lib/virtio.h"

#define HDR 12
#define F_MRG (1ull << 15)
#define SIZE 256u
#define BUF_BYTES 2048u
#define BURST 64u
#define HISTOGRAM 8192u /* in half microseconds; the last bin counts all slower frames */

enum { SEND, RECEIVE, ECHO };

static const struct test {
	const char *name;
	int kind;
	uint32_t bytes;
} tests[] = {
	{ "tx-60", SEND, 60 },	      { "tx-1514", SEND, 1514 }, { "rx-60", RECEIVE, 60 },
	{ "rx-1514", RECEIVE, 1514 }, { "echo-60", ECHO, 60 },	 { "echo-1514", ECHO, 1514 },
};

static struct vio v;
static struct ring rx, tx;
static uint8_t out[HDR + 1514] __attribute__((aligned(64)));
static uint8_t in[SIZE][BUF_BYTES] __attribute__((aligned(4096)));
static uint32_t histogram[HISTOGRAM];
static uint64_t khz, run_ms = 1000;
static bool event_idx, arp;
static struct {
	uint64_t frames, kicks, tsc, latency, lost;
} result;

enum { CALL_REPORT, CALL_DONE };

static void kick_if_wanted(struct ring *r, uint16_t old)
{
	uint16_t new = r->avail->idx, event;

	fence();
	event = *(volatile uint16_t *)((uint64_t)r->used + 4 + 8 * SIZE);
	if (event_idx ? (uint16_t)(new - event - 1) < (uint16_t)(new - old) :
			!(r->used->flags & 1)) {
		result.kicks++;
		if (v.is_pci)
			mmio_w16(r->notify, r->queue);
		else
			mmio_w32(r->notify, r->queue);
	}
}

static void make(uint32_t bytes, uint8_t times)
{
	static const uint8_t request[] = { 0,  1, 8, 0,	 6, 4, 0, 1, 2, 0, 0,  0, 0, 1,
					   10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2 };
	uint8_t *eth = out + HDR;

	for (unsigned i = 0; i < bytes; i++)
		eth[i] = 0;
	for (unsigned i = 0; i < 6; i++)
		eth[i] = 0xff;
	eth[6] = 2;
	eth[11] = 1;
	eth[12] = arp && times ? 8 : 0x88;
	eth[13] = arp && times ? 6 : 0xb5;
	eth[14] = times;
	for (unsigned i = 0; arp && times && i < sizeof(request); i++)
		eth[14 + i] = request[i];
	for (unsigned i = 0; i < SIZE; i++)
		ring_desc(&tx, i, out, HDR + bytes, 0, 0);
}

/* Returns how many frames came since the last call; gives their buffers back to the device. */
static unsigned drain(void)
{
	uint16_t old = rx.avail->idx;
	unsigned n = 0;

	while (rx.used->idx != rx.last_used) {
		barrier();
		ring_offer(&rx, (uint16_t)rx.used->ring[rx.last_used % SIZE].id);
		rx.last_used++;
		n++;
	}
	if (n)
		kick_if_wanted(&rx, old);
	return n;
}

static void reclaim(void)
{
	tx.last_used = tx.used->idx;
}

/* Puts up to n frames on the ring, as far as the ring has free entries. */
static void transmit(unsigned n)
{
	uint16_t old = tx.avail->idx;

	while (n-- && (uint16_t)(tx.avail->idx - tx.last_used) < SIZE)
		ring_offer(&tx, (uint16_t)(tx.avail->idx % SIZE));
	if (tx.avail->idx != old)
		kick_if_wanted(&tx, old);
}

static void send(uint64_t end)
{
	uint16_t before = tx.used->idx, seen = before;

	while (rdtsc() < end) {
		reclaim();
		transmit(BURST);
		result.frames += (uint16_t)(tx.last_used - seen);
		seen = tx.last_used;
		drain();
	}
}

/* Keeps two bursts requested from the peer; requests a burst again if it does not come. */
static void receive(uint64_t end)
{
	uint64_t now, last = rdtsc();
	unsigned wait = 0;

	while ((now = rdtsc()) < end) {
		unsigned n = drain();

		reclaim();
		result.frames += n;
		wait = n > wait ? 0 : wait - n;
		if (n)
			last = now;
		if (now - last > 20 * khz) {
			result.lost += wait;
			wait = 0;
			last = now;
		}
		for (; wait <= BURST; wait += BURST)
			transmit(1);
	}
}

static void echo(uint64_t end)
{
	uint64_t begin, now;

	while ((begin = rdtsc()) < end) {
		unsigned n = 0;

		reclaim();
		transmit(1);
		while (!(n = drain()) && (now = rdtsc()) - begin < 200 * khz)
			relax();
		now = rdtsc();
		if (!n) {
			result.lost++;
			continue;
		}
		uint64_t bin = (now - begin) * 2000 / khz;
		histogram[bin < HISTOGRAM ? bin : HISTOGRAM - 1]++;
		result.latency += now - begin;
		result.frames++;
	}
}

/* At CPL3. */
static void benchmark(void)
{
	for (uint64_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		const struct test *t = &tests[i];
		uint64_t begin;

		if (arp && (t->kind == RECEIVE || (t->kind == ECHO && t->bytes != 60)))
			continue;
		for (unsigned b = 0; b < HISTOGRAM; b++)
			histogram[b] = 0;
		result.frames = result.kicks = result.latency = result.lost = 0;
		make(t->bytes, t->kind == SEND ? 0 : t->kind == ECHO ? 1 : BURST);
		begin = rdtsc();
		if (t->kind == SEND)
			send(begin + run_ms * khz);
		else if (t->kind == RECEIVE)
			receive(begin + run_ms * khz);
		else
			echo(begin + run_ms * khz);
		result.tsc = rdtsc() - begin;
		user_call(CALL_REPORT, i, 0);
		/* Drop the frames in flight: they belong to no other test. */
		begin = rdtsc();
		while (rdtsc() - begin < 50 * khz)
			drain();
		reclaim();
	}
	user_call(CALL_DONE, 0, 0);
}

static uint64_t percentile(uint64_t share)
{
	uint64_t want = result.frames * share / 100, seen = 0;

	for (unsigned i = 0; i < HISTOGRAM; i++)
		if ((seen += histogram[i]) > want)
			return i;
	return HISTOGRAM;
}

static void called(uint64_t op, uint64_t a, uint64_t unused)
{
	if (op == CALL_DONE)
		rt_done();
	const struct test *t = &tests[a];
	uint64_t us = result.tsc * 1000 / khz, p50 = percentile(50), p99 = percentile(99);
	uint64_t tenths = result.frames ? result.latency / result.frames * 10000 / khz : 0;
	if (t->kind != ECHO)
		p50 = p99 = 0;
	rt_print("%s pps %lu mbit %lu avg_us %lu.%lu p50_us %lu.%lu p99_us %lu.%lu kicks %lu "
		 "frames %lu lost %lu\n",
		 t->name, result.frames * 1000000 / us, result.frames * t->bytes * 8 / us,
		 tenths / 10, tenths % 10, p50 / 2, p50 % 2 * 5, p99 / 2, p99 % 2 * 5, result.kicks,
		 result.frames, result.lost);
}

void main(void)
{
	for (const char *s = boot_cmdline; *s; s++) {
		if (!memcmp(s, "ms=", 3))
			for (run_ms = 0, s += 3; *s >= '0' && *s <= '9'; s++)
				run_ms = run_ms * 10 + (uint64_t)(*s - '0');
		if (!memcmp(s, "arp", 3))
			arp = true;
	}
	lapic_enable();
	khz = tsc_khz();
	if (!khz)
		khz = 1000000;
	if (!vio_find(VIRTIO_NET, 0, &v))
		rt_die("no virtio-net device");
	if (!vio_negotiate(&v, F_MRG | F_EVENT_IDX))
		rt_die("the device does not start");
	event_idx = vio_features(&v) >> 29 & 1;
	ring_init(&rx, 0, SIZE);
	ring_init(&tx, 1, SIZE);
	for (unsigned i = 0; i < SIZE; i++) {
		ring_desc(&rx, i, in[i], BUF_BYTES, D_WRITE, 0);
		ring_offer(&rx, (uint16_t)i);
	}
	rx.avail->flags = tx.avail->flags = 1; /* no interrupts: see blkbench */
	rx.avail->ring[SIZE] = tx.avail->ring[SIZE] = 0x7fff;
	ring_enable(&v, &rx, 0, NO_VECTOR);
	ring_enable(&v, &tx, 1, NO_VECTOR);
	vio_set_status(&v, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	ring_kick(&v, &rx);
	rt_print("# %s\n", v.is_pci ? "PCI" : "MMIO");
	user_enter(benchmark, called);
}
