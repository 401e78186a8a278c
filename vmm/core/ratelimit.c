/* ratelimit: see ratelimit.h. */
#include "vmm/core/clock.h"
#include "vmm/core/ratelimit.h"

/* A timer for less would cost more than it limits. */
#define MIN_WAIT_NS 1000000ull
/* Far below overflow, and more than any device transfers. */
#define LEVEL_MAX (INT64_MAX / 2)

static void init(struct ratelimit_bucket *b, uint64_t per_s, uint64_t burst, uint64_t now_ns)
{
	if (!burst)
		burst = per_s / 10 ? per_s / 10 : 1;
	if (burst > LEVEL_MAX)
		burst = LEVEL_MAX;
	*b = (struct ratelimit_bucket){ per_s, burst, (int64_t)burst, now_ns };
}

void ratelimit_init(struct ratelimit *r, uint64_t bytes_per_s, uint64_t bytes_burst,
		    uint64_t ops_per_s, uint64_t ops_burst, uint64_t now_ns)
{
	init(&r->bytes, bytes_per_s, bytes_burst, now_ns);
	init(&r->ops, ops_per_s, ops_burst, now_ns);
}

/* then_ns advances by whole tokens only, so that a slow rate loses no fraction of one. */
static void refill(struct ratelimit_bucket *b, uint64_t now_ns)
{
	uint64_t passed = now_ns - b->then_ns;
	unsigned __int128 grown = (unsigned __int128)passed * b->per_s / CLOCK_NS_PER_S;

	if (now_ns <= b->then_ns || !grown)
		return;
	if (grown >= (unsigned __int128)((int64_t)b->burst - b->level)) {
		b->level = (int64_t)b->burst;
		b->then_ns = now_ns;
		return;
	}
	b->level += (int64_t)grown;
	b->then_ns += (uint64_t)(grown * CLOCK_NS_PER_S / b->per_s);
}

static uint64_t wait(struct ratelimit_bucket *b, uint64_t now_ns)
{
	unsigned __int128 ns;

	if (!b->per_s)
		return 0;
	refill(b, now_ns);
	if (b->level > 0)
		return 0;
	ns = (unsigned __int128)(uint64_t)(1 - b->level) * CLOCK_NS_PER_S / b->per_s + 1;
	return ns > UINT64_MAX / 2 ? UINT64_MAX / 2 : (uint64_t)ns;
}

uint64_t ratelimit_wait_ns(struct ratelimit *r, uint64_t now_ns)
{
	uint64_t a = wait(&r->bytes, now_ns), b = wait(&r->ops, now_ns);
	uint64_t ns = a > b ? a : b;

	return ns && ns < MIN_WAIT_NS ? MIN_WAIT_NS : ns;
}

static void charge(struct ratelimit_bucket *b, uint64_t n)
{
	if (!b->per_s)
		return;
	if (n > LEVEL_MAX)
		n = LEVEL_MAX;
	b->level = b->level < -LEVEL_MAX + (int64_t)n ? -LEVEL_MAX : b->level - (int64_t)n;
}

void ratelimit_charge(struct ratelimit *r, uint64_t bytes, uint64_t ops)
{
	charge(&r->bytes, bytes);
	charge(&r->ops, ops);
}
