/* ratelimit: keeps rates over time, lets bursts pass, and never overflows. */
#include <criterion/criterion.h>
#include <errno.h>

#include "vmm/core/clock.h"
#include "vmm/core/ratelimit.h"

#define S 1000000000ull
#define MS 1000000ull

static void start(struct ratelimit *r, uint64_t bytes_per_s, uint64_t bytes_burst,
		  uint64_t ops_per_s, uint64_t ops_burst, uint64_t now)
{
	struct ratelimit_config cfg = { ratelimit_per_second(bytes_per_s, bytes_burst),
					ratelimit_per_second(ops_per_s, ops_burst) };

	ratelimit_init(r, &cfg, now);
}

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

	start(&r, 0, 0, 0, 0, S);
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

		start(&r, table[i].bytes_per_s, table[i].bytes_burst, table[i].ops_per_s,
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

	start(&r, 0, 0, 10, 5, S);
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

	start(&r, UINT64_MAX, UINT64_MAX, 1, UINT64_MAX, 0);
	for (int i = 0; i < 100; i++)
		ratelimit_charge(&r, UINT64_MAX, UINT64_MAX);
	cr_assert(ratelimit_wait_ns(&r, UINT64_MAX / 4) > 0);
	cr_assert(ratelimit_wait_ns(&r, UINT64_MAX) > 0);
	/* A clock that goes backwards changes nothing. */
	start(&r, 1000, 10, 0, 0, 10 * S);
	ratelimit_charge(&r, 20, 1);
	cr_assert(ratelimit_wait_ns(&r, S) > 0);
	cr_assert_eq(ratelimit_wait_ns(&r, 11 * S), 0);
}

/* Buckets that a time fills: exact over any time, and what passes once passes once. */
Test(ratelimit, buckets)
{
	static const struct {
		const char *ops;
		uint64_t seconds, want;
	} table[] = {
		{ "1:10000", 1000, 1 + 99 },	   /* one each ten seconds; the next is at 1000 s */
		{ "1:10000:5", 1000, 1 + 99 + 5 }, /* and five more */
		{ "3:7000", 7000, 3 + 3000 - 1 },
		{ "1:86400000", 86400, 1 },
		{ "1:86400000", 86401, 2 },
		{ "1000:1000", 10, 1000 + 9999 },
		{ "1:1", 1, 1 + 999 },
		{ "7:11", 11, 7 + 7000 - 1 },
		{ "100:1000:1000000", 1, 100 + 99 + 1000000 },
		{ "1:18446744073709551615", 1000000, 1 },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct ratelimit_config cfg = { 0 };
		struct ratelimit r;
		uint64_t n;

		cr_assert_eq(ratelimit_parse(table[i].ops, &cfg.ops), 0, "%s", table[i].ops);
		ratelimit_init(&r, &cfg, S);
		cr_assert(ratelimit_on(&r));
		n = drive(&r, 0, table[i].seconds);
		cr_expect_eq(n, table[i].want, "%s: %llu", table[i].ops, (unsigned long long)n);
	}
}

/* No value of 64 bits overflows, and none makes a limit where there is none. */
Test(ratelimit, bucket_extremes)
{
	static const uint64_t n[] = { 0,	  1,	      2,	  S,
				      1ull << 32, 1ull << 62, 1ull << 63, UINT64_MAX - 1,
				      UINT64_MAX };

	for (size_t i = 0; i < 9 * 9 * 9 * 9; i++) {
		struct ratelimit_config cfg = { .bytes = { n[i % 9], n[i / 9 % 9], n[i / 81 % 9],
							   n[i / 729] } };
		struct ratelimit r;
		uint64_t now = 0;

		ratelimit_init(&r, &cfg, 0);
		if (!n[i % 9] || !n[i / 9 % 9])
			cr_assert(!ratelimit_on(&r));
		for (size_t k = 0; k < 9; k++) {
			uint64_t wait = ratelimit_wait_ns(&r, now);

			cr_assert(!wait || (wait >= MS && ratelimit_on(&r)));
			ratelimit_charge(&r, n[k], 1);
			now = now < n[8 - k] ? n[8 - k] / 2 : now;
		}
	}
}

Test(ratelimit, parse)
{
	static const char *const bad[] = { "",	   "1",
					   "1:",   ":1",
					   "1:2:", "1:2:3:4",
					   "-1:2", "1:2x",
					   "1 :2", "99999999999999999999:1" };
	struct ratelimit_rate rate;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(ratelimit_parse(bad[i], &rate), -EINVAL, "%s", bad[i]);
	cr_assert_eq(ratelimit_parse("9223372036854775807:9223372036854:3", &rate), 0);
	cr_expect(rate.tokens == INT64_MAX && rate.size == INT64_MAX && rate.once == 3);
	cr_expect_eq(rate.period_ns, 9223372036854ull * MS);
	cr_assert_eq(ratelimit_parse("0:100", &rate), 0);
	cr_expect(!ratelimit_limits(&rate));
	cr_assert_eq(ratelimit_parse("100:0", &rate), 0);
	cr_expect(!ratelimit_limits(&rate));
}

/* --- groups ------------------------------------------------------------------------------- */

Test(ratelimit, a_group_has_one_limit)
{
	struct ratelimit_config cfg = { .ops = ratelimit_per_second(1000, 1) }, other = { 0 };
	struct ratelimit_group *a, *b, *c;
	struct ratelimit_groups groups;
	uint64_t now = clock_now_ns(), end = now + 10 * S, next[2] = { now, now }, n[2] = { 0 };

	ratelimit_groups_init(&groups);
	cr_assert_eq(ratelimit_group_join(&groups, "one", &cfg, &a), 0);
	cr_assert_eq(ratelimit_group_join(&groups, "one", &other, &b), 0);
	cr_assert_eq(ratelimit_group_join(&groups, "two", &cfg, &c), 0);
	cr_assert(a == b && a != c);
	/* Both want as much as they can get, and look in this order. */
	while (now < end) {
		unsigned i = next[1] < next[0];
		uint64_t wait;

		now = next[i];
		wait = ratelimit_group_wait_ns(a, now);
		next[i] = now + wait;
		if (wait)
			continue;
		ratelimit_group_charge(a, 0, 1);
		n[i]++;
	}
	cr_expect(n[0] + n[1] >= 9000 && n[0] + n[1] <= 10002, "%llu",
		  (unsigned long long)(n[0] + n[1]));
	cr_expect(n[0] > 3000 && n[1] > 3000, "%llu and %llu", (unsigned long long)n[0],
		  (unsigned long long)n[1]);
	cr_expect_eq(ratelimit_group_wait_ns(c, now), 0, "the other group's");
	ratelimit_group_leave(c);
	ratelimit_group_leave(a);
	ratelimit_group_leave(b);
	ratelimit_group_leave(NULL);
	ratelimit_groups_destroy(&groups);
}
