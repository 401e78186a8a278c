/* ratelimit: see ratelimit.h. */
#include "vmm/core/ratelimit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/clock.h"
#include "vmm/core/err.h"
#include "vmm/core/parse.h"

/* A timer for less would cost more than it limits. */
#define MIN_WAIT_NS 1000000ull
/* Far below overflow, and more than any device transfers. */
#define LEVEL_MAX (INT64_MAX / 2)

struct ratelimit_rate ratelimit_per_second(uint64_t per_s, uint64_t burst)
{
	if (!burst)
		burst = per_s / 10 ? per_s / 10 : 1;
	return (struct ratelimit_rate){ per_s, CLOCK_NS_PER_S, burst, 0 };
}

int ratelimit_parse(const char *text, struct ratelimit_rate *out)
{
	uint64_t n[3] = { 0 };
	char part[24];
	unsigned i = 0;

	for (;; i++) {
		size_t len = strcspn(text, ":");

		if (i == 3 || len >= sizeof(part))
			return -EINVAL;
		memcpy(part, text, len);
		part[len] = 0;
		if (parse_u64(part, &n[i]))
			return -EINVAL;
		if (!text[len])
			break;
		text += len + 1;
	}
	if (i < 1)
		return -EINVAL;
	/* Five centuries are for ever. */
	if (n[1] > UINT64_MAX / 1000000)
		n[1] = UINT64_MAX / 1000000;
	*out = (struct ratelimit_rate){ n[0], n[1] * 1000000, n[0], n[2] };
	return 0;
}

static void init(struct ratelimit_bucket *b, const struct ratelimit_rate *rate, uint64_t now_ns)
{
	*b = (struct ratelimit_bucket){ .rate = *rate, .then_ns = now_ns };
	if (b->rate.size > LEVEL_MAX)
		b->rate.size = LEVEL_MAX;
	b->level = (int64_t)b->rate.size;
}

void ratelimit_init(struct ratelimit *r, const struct ratelimit_config *cfg, uint64_t now_ns)
{
	init(&r->bytes, &cfg->bytes, now_ns);
	init(&r->ops, &cfg->ops, now_ns);
}

/* Exact: what is less than a token is kept in part. */
static void refill(struct ratelimit_bucket *b, uint64_t now_ns)
{
	unsigned __int128 parts, grown;

	if (now_ns <= b->then_ns)
		return;
	/* At most (2^64 - 1)^2 + 2^64 - 1, which fits. */
	parts = (unsigned __int128)(now_ns - b->then_ns) * b->rate.tokens + b->part;
	grown = parts / b->rate.period_ns;
	b->then_ns = now_ns;
	if (grown >= (unsigned __int128)((int64_t)b->rate.size - b->level)) {
		b->level = (int64_t)b->rate.size;
		b->part = 0;
		return;
	}
	b->level += (int64_t)grown;
	b->part = (uint64_t)(parts % b->rate.period_ns);
}

static uint64_t wait(struct ratelimit_bucket *b, uint64_t now_ns)
{
	unsigned __int128 parts, ns;

	if (!ratelimit_limits(&b->rate) || b->rate.once)
		return 0;
	refill(b, now_ns);
	if (b->level > 0)
		return 0;
	parts = (unsigned __int128)(uint64_t)(1 - b->level) * b->rate.period_ns - b->part;
	ns = (parts + b->rate.tokens - 1) / b->rate.tokens;
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
	uint64_t once = n < b->rate.once ? n : b->rate.once;

	if (!ratelimit_limits(&b->rate))
		return;
	b->rate.once -= once;
	n -= once;
	if (n > LEVEL_MAX)
		n = LEVEL_MAX;
	b->level = b->level < -LEVEL_MAX + (int64_t)n ? -LEVEL_MAX : b->level - (int64_t)n;
}

void ratelimit_charge(struct ratelimit *r, uint64_t bytes, uint64_t ops)
{
	charge(&r->bytes, bytes);
	charge(&r->ops, ops);
}

/* --- groups ------------------------------------------------------------------------------- */

struct ratelimit_group {
	struct ratelimit_group *next;
	struct ratelimit_groups *groups;
	char *name;
	unsigned members; /* under the groups' lock */

	pthread_mutex_t lock; /* protects the next two fields */
	struct ratelimit limit;
	uint32_t random;
};

void ratelimit_groups_init(struct ratelimit_groups *groups)
{
	pthread_mutex_init(&groups->lock, NULL);
	groups->first = NULL;
}

void ratelimit_groups_destroy(struct ratelimit_groups *groups)
{
	BUG_ON(groups->first);
	pthread_mutex_destroy(&groups->lock);
}

static struct ratelimit_group *make(struct ratelimit_groups *groups, const char *name,
				    const struct ratelimit_config *cfg)
{
	struct ratelimit_group *g = calloc(1, sizeof(*g));
	char *copy = strdup(name);

	if (!g || !copy) {
		free(g);
		free(copy);
		return NULL;
	}
	g->groups = groups;
	g->name = copy;
	g->random = (uint32_t)clock_now_ns() | 1;
	pthread_mutex_init(&g->lock, NULL);
	ratelimit_init(&g->limit, cfg, clock_now_ns());
	g->next = groups->first;
	groups->first = g;
	return g;
}

int ratelimit_group_join(struct ratelimit_groups *groups, const char *name,
			 const struct ratelimit_config *cfg, struct ratelimit_group **out)
{
	struct ratelimit_group *g;

	pthread_mutex_lock(&groups->lock);
	for (g = groups->first; g && strcmp(g->name, name) != 0; g = g->next)
		;
	if (!g)
		g = make(groups, name, cfg);
	if (g)
		g->members++;
	pthread_mutex_unlock(&groups->lock);
	*out = g;
	return g ? 0 : -ENOMEM;
}

void ratelimit_group_leave(struct ratelimit_group *group)
{
	struct ratelimit_groups *groups = group ? group->groups : NULL;
	bool last = false;

	if (!group)
		return;
	pthread_mutex_lock(&groups->lock);
	if (!--group->members) {
		struct ratelimit_group **link = &groups->first;

		while (*link != group)
			link = &(*link)->next;
		*link = group->next;
		last = true;
	}
	pthread_mutex_unlock(&groups->lock);
	if (!last)
		return;
	pthread_mutex_destroy(&group->lock);
	free(group->name);
	free(group);
}

/* xorshift: no one gains by guessing it. */
static uint32_t next_random(struct ratelimit_group *g)
{
	g->random ^= g->random << 13;
	g->random ^= g->random >> 17;
	g->random ^= g->random << 5;
	return g->random;
}

uint64_t ratelimit_group_wait_ns(struct ratelimit_group *group, uint64_t now_ns)
{
	uint64_t ns;

	pthread_mutex_lock(&group->lock);
	ns = ratelimit_wait_ns(&group->limit, now_ns);
	if (ns)
		ns += (uint64_t)((unsigned __int128)(ns / 8) * next_random(group) >> 32);
	pthread_mutex_unlock(&group->lock);
	return ns;
}

void ratelimit_group_charge(struct ratelimit_group *group, uint64_t bytes, uint64_t ops)
{
	pthread_mutex_lock(&group->lock);
	ratelimit_charge(&group->limit, bytes, ops);
	pthread_mutex_unlock(&group->lock);
}
