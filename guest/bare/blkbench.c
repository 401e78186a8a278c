/*
 * blkbench: measures how fast a disk is. The driver runs at CPL3, hence at native
 * speed under any KVM, and polls (interrupts suppressed) with EVENT_IDX: the driver
 * costs as little as possible, so the figures show the monitor's data path.
 *
 * Command line: ms=N (each test's time, default 1000), tests=MASK (bit n: test n of the table
 * below; default all). Prints one line per test:
 *   NAME iops N mbs N avg_us N p50_us N p99_us N
 */
#include "guest/bare/lib/apic.h"
#include "guest/bare/lib/blk.h"
#include "guest/bare/lib/rt.h"
#include "guest/bare/lib/user.h"

#define MAX_DEPTH 32u
#define BLOCK 4096u
#define BIG (128u * 1024u)
#define HISTOGRAM 8192u /* in half microseconds; the last bin counts all slower requests */

struct slot {
	struct blk_header header;
	volatile uint8_t status;
	uint64_t begin;
};

struct test {
	const char *name;
	uint32_t type, bytes;
	unsigned depth;
	bool random;
};

static const struct test tests[] = {
	{ "randread-4k-qd1", BLK_IN, BLOCK, 1, true },
	{ "randread-4k-qd32", BLK_IN, BLOCK, 32, true },
	{ "read-128k-qd4", BLK_IN, BIG, 4, false },
	{ "randwrite-4k-qd1", BLK_OUT, BLOCK, 1, true },
	{ "randwrite-4k-qd32", BLK_OUT, BLOCK, 32, true },
	{ "write-128k-qd4", BLK_OUT, BIG, 4, false },
};

static struct blk b;
static struct slot slot[MAX_DEPTH] __attribute__((aligned(64)));
/* Aligned to huge pages, which back most of a real guest's memory; the first 2 MiB have none. */
static uint8_t data[MAX_DEPTH * BIG] __attribute__((aligned(2u << 20)));
static uint32_t histogram[HISTOGRAM];
static uint64_t khz, run_ms = 1000, mask = ~0ull;
static volatile uint16_t *avail_event;
static bool event_idx;
static struct {
	uint64_t requests, errors, kicks, tsc, latency;
} result;

enum { CALL_REPORT, CALL_DONE };

static void kick_if_wanted(uint16_t old, uint16_t new)
{
	fence();
	if (event_idx ? (uint16_t)(new - *avail_event - 1) < (uint16_t)(new - old) :
			!(b.r.used->flags & 1)) {
		result.kicks++;
		if (b.v.is_pci)
			mmio_w16(b.r.notify, 0);
		else
			mmio_w32(b.r.notify, 0);
	}
}

/* Puts request s on the ring, in its own three descriptors. */
static void submit(const struct test *t, unsigned s, uint64_t sector)
{
	unsigned d = 3 * s;
	bool in = t->type == BLK_IN;

	slot[s].header = (struct blk_header){ .type = t->type, .sector = sector };
	slot[s].begin = rdtsc();
	ring_desc(&b.r, d, &slot[s].header, 16, D_NEXT, (uint16_t)(d + 1));
	ring_desc(&b.r, d + 1, data + s * BIG, t->bytes, D_NEXT | (in ? D_WRITE : 0),
		  (uint16_t)(d + 2));
	ring_desc(&b.r, d + 2, &slot[s].status, 1, D_WRITE, 0);
	ring_offer(&b.r, (uint16_t)d);
}

static uint64_t next_sector(const struct test *t, uint64_t *state)
{
	uint64_t per = t->bytes / 512, blocks = b.nsectors / per;

	if (!t->random)
		return (*state)++ % blocks * per;
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return (*state >> 33) % blocks * per;
}

static void complete(uint64_t now, unsigned s)
{
	uint64_t took = now - slot[s].begin, bin = took * 2000 / khz;

	result.requests++;
	result.errors += slot[s].status != BLK_S_OK;
	result.latency += took;
	histogram[bin < HISTOGRAM ? bin : HISTOGRAM - 1]++;
}

static void run(const struct test *t)
{
	uint64_t state = t->random ? 42 : 0, begin = rdtsc(), end = begin + run_ms * khz, now;
	unsigned busy = t->depth;
	uint16_t old = b.r.avail->idx;

	for (unsigned i = 0; i < HISTOGRAM; i++)
		histogram[i] = 0;
	result.requests = result.errors = result.kicks = result.latency = 0;
	for (unsigned s = 0; s < t->depth; s++)
		submit(t, s, next_sector(t, &state));
	kick_if_wanted(old, b.r.avail->idx);
	while (busy) {
		if (b.r.used->idx == b.r.last_used) {
			relax();
			continue;
		}
		barrier();
		old = b.r.avail->idx;
		now = rdtsc();
		while (b.r.used->idx != b.r.last_used) {
			unsigned s = b.r.used->ring[b.r.last_used % b.r.size].id / 3;
			b.r.last_used++;
			complete(now, s);
			if (now < end)
				submit(t, s, next_sector(t, &state));
			else
				busy--;
		}
		if (b.r.avail->idx != old)
			kick_if_wanted(old, b.r.avail->idx);
	}
	result.tsc = rdtsc() - begin;
}

/* At CPL3. */
static void benchmark(void)
{
	for (uint64_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		if (!(mask >> i & 1) || (tests[i].type == BLK_OUT && (b.offered & BLK_F_RO)))
			continue;
		run(&tests[i]);
		user_call(CALL_REPORT, i, 0);
	}
	user_call(CALL_DONE, 0, 0);
}

/* The latency, in half microseconds, that this share of the requests stays below. */
static uint64_t percentile(uint64_t share)
{
	uint64_t want = result.requests * share / 100, seen = 0;

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
	uint64_t tenths = result.latency / result.requests * 10000 / khz;
	rt_print("%s iops %lu mbs %lu avg_us %lu.%lu p50_us %lu.%lu p99_us %lu.%lu kicks %lu "
		 "errors %lu\n",
		 t->name, result.requests * 1000000 / us, result.requests * t->bytes / us,
		 tenths / 10, tenths % 10, p50 / 2, p50 % 2 * 5, p99 / 2, p99 % 2 * 5, result.kicks,
		 result.errors);
}

static uint64_t number(const char *s)
{
	uint64_t n = 0;

	while (*s >= '0' && *s <= '9')
		n = n * 10 + (uint64_t)(*s++ - '0');
	return n;
}

void main(void)
{
	for (const char *s = boot_cmdline; *s; s++) {
		if (!memcmp(s, "ms=", 3))
			run_ms = number(s + 3);
		if (!memcmp(s, "tests=", 6))
			mask = number(s + 6);
	}
	lapic_enable();
	khz = tsc_khz();
	if (!khz)
		khz = 1000000;
	if (!blk_find(&b, 0))
		rt_die("no virtio-blk device");
	unsigned size = vio_queue_max(&b.v, 0);
	if (size > 256)
		size = 256;
	if (!blk_start(&b, b.offered, size, NO_VECTOR) || size < 3 * MAX_DEPTH) {
		/* A ring of 64 or fewer descriptors has no room for 32 chains of three. */
		if (size < 3 * MAX_DEPTH)
			rt_die("queue of %u is too small", size);
		rt_die("the device does not start");
	}
	event_idx = b.offered >> 29 & 1;
	avail_event = (volatile uint16_t *)&b.r.used->ring[size];
	b.r.avail->flags = 1;		/* no interrupts; with EVENT_IDX, used_event … */
	b.r.avail->ring[size] = 0x7fff; /* … far away: a few interrupts are lost */
	rt_print("# %s, queue of %u, %lu MiB\n", b.v.is_pci ? "PCI" : "MMIO", size,
		 b.nsectors >> 11);
	user_enter(benchmark, called);
}
