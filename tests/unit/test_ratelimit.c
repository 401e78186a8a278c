/* ratelimit: keeps rates over time, lets bursts pass, and never overflows. */
#include <criterion/criterion.h>

#include "vmm/core/ratelimit.h"

#define S 1000000000ull

/* Makes operations of this size as fast as allowed for seconds. Returns how many passed. */
static uint64_t drive(struct ratelimit *r, uint64_t bytes, uint64_t seconds)
{
	uint64_t n = 0, now = S;

	while (now < S + seconds * S) {
		uint64_t wait = ratelimit_wait_ns(r, now);

		if (wait) {
			now += wait;
			continue;
		}
		ratelimit_charge(r, bytes, 1);
		n++;
	}
	return n;
}

Test(ratelimit, off)
{
	struct ratelimit r;

	ratelimit_init(&r, 0, 0, 0, 0, S);
	cr_assert(!ratelimit_on(&r));
	ratelimit_charge(&r, UINT64_MAX, UINT64_MAX);
	cr_assert_eq(ratelimit_wait_ns(&r, S), 0);
}

Test(ratelimit, rates)
{
	static const struct {
		uint64_t bytes_per_s, bytes_burst, ops_per_s, ops_burst, bytes, ops;
	} table[] = {
		/* limits, size of each operation, operations in 10 s with a full bucket */
		{ 1000000, 0, 0, 0, 1500, (10000000 + 100000) / 1500 },
		{ 1000000, 1, 0, 0, 1500, 10000000 / 1500 },
		{ 0, 0, 1000, 1, 1500, 10000 },
		{ 0, 0, 1000, 500, 1500, 10500 },
		{ 1500, 0, 1000, 1, 1500, 10 },
		{ 1000, 0, 0, 0, 65536, 1 }, /* one costs a minute of tokens */
		{ 0, 0, 1, 1, 60, 10 },
		{ 3, 1, 0, 0, 1, 30 },
		{ 125000000000ull, 0, 0, 0, 1000000000, 1262 },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct ratelimit r;
		uint64_t n, want = table[i].ops;

		ratelimit_init(&r, table[i].bytes_per_s, table[i].bytes_burst, table[i].ops_per_s,
			       table[i].ops_burst, S);
		n = drive(&r, table[i].bytes, 10);
		cr_expect(n + 2 + want / 50 >= want && n <= want + 2 + want / 50,
			  "row %zu: %llu, not %llu", i, (unsigned long long)n,
			  (unsigned long long)want);
	}
}

Test(ratelimit, burst_after_a_pause)
{
	struct ratelimit r;
	unsigned n = 0;

	ratelimit_init(&r, 0, 0, 10, 5, S);
	while (!ratelimit_wait_ns(&r, S))
		ratelimit_charge(&r, 0, 1), n++;
	cr_assert_eq(n, 5);
	/* A long pause adds no more tokens than the burst. */
	for (n = 0; !ratelimit_wait_ns(&r, 1000 * S); n++)
		ratelimit_charge(&r, 0, 1);
	cr_assert_eq(n, 5);
}

Test(ratelimit, extremes)
{
	struct ratelimit r;

	ratelimit_init(&r, UINT64_MAX, UINT64_MAX, 1, UINT64_MAX, 0);
	for (int i = 0; i < 100; i++)
		ratelimit_charge(&r, UINT64_MAX, UINT64_MAX);
	cr_assert(ratelimit_wait_ns(&r, UINT64_MAX / 4) > 0);
	cr_assert(ratelimit_wait_ns(&r, UINT64_MAX) > 0);
	/* A clock that goes backwards changes nothing. */
	ratelimit_init(&r, 1000, 10, 0, 0, 10 * S);
	ratelimit_charge(&r, 20, 1);
	cr_assert(ratelimit_wait_ns(&r, S) > 0);
	cr_assert_eq(ratelimit_wait_ns(&r, 11 * S), 0);
}
