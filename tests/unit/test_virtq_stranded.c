/*
 * virtq_stranded with a simulated driver and server: the driver takes free heads last in, first
 * out, as Linux does; the server answers in its own order and stops at any point.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "devices/virtio/core/virtq_stranded.h"

#define MAX 1024

static uint64_t seed;

static unsigned rnd(unsigned n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)(seed >> 20) % n;
}

enum order {
	IN_ORDER,   /* a single worker */
	POOL,	    /* a few workers: a request overtakes a few others */
	ANY,	    /* all at once, at a steady depth */
	ANY_BURSTS, /* the same, with a changing depth */
	STUCK,	    /* in order, except one request that never ends */
};

static struct {
	unsigned size;
	uint16_t avail[MAX], used[MAX];
	uint16_t avail_idx, used_idx;
	uint16_t free[MAX], flying[MAX];
	unsigned nfree, nflying;
	int stuck;
} sim;

static unsigned pick(enum order order)
{
	unsigned i = 0;

	if (order == IN_ORDER || order == STUCK)
		return 0;
	if (order != POOL)
		return rnd(sim.nflying);
	while (i + 1 < sim.nflying && i < 4 && rnd(2))
		i++;
	return i;
}

static void answer_one(enum order order)
{
	unsigned i = pick(order);
	uint16_t head = sim.flying[i];

	memmove(&sim.flying[i], &sim.flying[i + 1], (--sim.nflying - i) * sizeof(head));
	sim.used[sim.used_idx++ % sim.size] = head;
	sim.free[sim.nfree++] = head;
}

static uint16_t offer(void)
{
	uint16_t head = sim.free[--sim.nfree];

	sim.avail[sim.avail_idx++ % sim.size] = head;
	return head;
}

static void run(unsigned size, enum order order, unsigned events)
{
	unsigned depth = 1u << rnd(6);

	memset(&sim, 0, sizeof(sim));
	sim.size = size;
	sim.stuck = -1;
	/* Start at any index; the slots hold older entries, here zeroes. */
	sim.avail_idx = sim.used_idx = (uint16_t)(rnd(2) * (65536 - size / 2));
	for (unsigned i = 0; i < size; i++)
		sim.free[sim.nfree++] = (uint16_t)(size - 1 - i);
	for (unsigned i = 0; i < events; i++) {
		if (order == ANY_BURSTS && !rnd(50))
			depth = 1u << rnd(6);
		if (order == STUCK && i == events / 2)
			sim.stuck = offer();
		if (!sim.nflying || (sim.nfree && sim.nflying < depth && rnd(10) < 6))
			sim.flying[sim.nflying++] = offer();
		else
			answer_one(order);
	}
}

static unsigned popcount(const uint64_t *set, unsigned size)
{
	unsigned n = 0;

	for (unsigned i = 0; i < size; i++)
		n += set[i / 64] >> (i % 64) & 1;
	return n;
}

static bool found(void)
{
	struct stranded_rings r = { .size = (uint16_t)sim.size,
				    .avail_idx = sim.avail_idx,
				    .used_idx = sim.used_idx,
				    .avail = sim.avail,
				    .used = sim.used };
	uint64_t set[MAX / 64] = { 0 };
	bool good = true;

	cr_assert_eq(virtq_stranded(&r, set), 0);
	for (unsigned i = 0; i < sim.nflying; i++)
		good &= set[sim.flying[i] / 64] >> (sim.flying[i] % 64) & 1;
	if (sim.stuck >= 0)
		good &= set[sim.stuck / 64] >> (sim.stuck % 64) & 1;
	cr_assert_leq(popcount(set, sim.size), (uint16_t)(sim.avail_idx - sim.used_idx));
	return good;
}

static unsigned percent(enum order order, unsigned size, unsigned events)
{
	unsigned good = 0;

	for (unsigned round = 0; round < 200; round++) {
		seed = 0x1234567 + round * 7919;
		run(size, order, 1 + rnd(events));
		good += found();
	}
	return good / 2;
}

Test(virtq_stranded, in_order)
{
	for (unsigned size = 1; size <= MAX; size *= 2)
		cr_expect_eq(percent(IN_ORDER, size, 10 * size + 50), 100, "size %u", size);
}

Test(virtq_stranded, by_a_pool)
{
	cr_expect_geq(percent(POOL, 64, 600), 97);
	cr_expect_geq(percent(POOL, 128, 2000), 97);
	cr_expect_geq(percent(POOL, 1024, 8000), 97);
}

/* Here the rings allow only a good guess. [U, A) alone would find less than half. */
Test(virtq_stranded, in_any_order)
{
	cr_expect_geq(percent(ANY, 128, 1000), 80);
	cr_expect_geq(percent(ANY_BURSTS, 128, 1000), 85);
	cr_expect_geq(percent(ANY, 1024, 5000), 80);
}

/* A request that never ends is found while it is in the ring. */
Test(virtq_stranded, one_is_stuck)
{
	cr_expect_geq(percent(STUCK, 128, 240), 97);
	cr_expect_geq(percent(STUCK, 1024, 2000), 97);
}

/* With any content of the rings, the set has no more entries than possible. */
Test(virtq_stranded, hostile)
{
	for (unsigned round = 0; round < 3000; round++) {
		uint16_t size = (uint16_t)(1u << rnd(8)), avail[256], used[256];
		struct stranded_rings r = { .size = size, .avail = avail, .used = used };
		uint64_t set[4] = { 0 };
		unsigned n;

		seed = 99 + round * 104729;
		r.avail_idx = (uint16_t)rnd(65536);
		n = rnd(size + 2u);
		r.used_idx = (uint16_t)(r.avail_idx - n);
		for (unsigned i = 0; i < size; i++) {
			avail[i] = (uint16_t)rnd(round % 3 ? size : 65536);
			used[i] = (uint16_t)rnd(round % 3 ? 4 : 65536);
		}
		cr_assert_eq(virtq_stranded(&r, set), n > size ? -EINVAL : 0);
		cr_assert_leq(popcount(set, size), n);
	}
}
