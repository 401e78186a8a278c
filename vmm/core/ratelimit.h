/*
 * ratelimit: a token bucket for bytes and one for operations, as one limit.
 *
 * A bucket holds up to its size and is refilled at its rate. An operation may start while both
 * buckets hold something, and is charged afterwards, when its size is known: the level may go below
 * zero, and the next operation waits until that debt is paid. So a single operation larger than the
 * bucket is never stuck, and over time no more than the rate passes. Rates are exact, however low, for
 * all values of 64 bits. Pure arithmetic on the caller's clock; any thread, the caller locks. A group
 * is one limit of several devices, with a lock of its own.
 */
#ifndef BANTAM_RATELIMIT_H
#define BANTAM_RATELIMIT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* tokens (bytes, or operations) pass in each period. */
struct ratelimit_rate {
	uint64_t tokens, period_ns; /* one of them 0: no limit */
	uint64_t size;		    /* what may pass at once after a pause */
	uint64_t once;		    /* passes besides, once, before the limit counts */
};

struct ratelimit_config {
	struct ratelimit_rate bytes, ops;
};

struct ratelimit_bucket {
	struct ratelimit_rate rate; /* once: what is left of it */
	int64_t level;		    /* bytes or operations that may pass now */
	uint64_t then_ns;	    /* the time that level belongs to */
	uint64_t part;		    /* of the next token, which has period_ns parts */
};

struct ratelimit {
	struct ratelimit_bucket bytes, ops;
};

/* So many tokens a second; 0: no limit. burst 0: as much as passes in a tenth of a second. */
struct ratelimit_rate ratelimit_per_second(uint64_t per_s, uint64_t burst);
/*
 * Parses "SIZE:MS" or "SIZE:MS:ONCE": a bucket of SIZE tokens, which takes MS milliseconds to fill,
 * and ONCE tokens besides. SIZE or MS 0: no limit. Returns 0 or -EINVAL.
 */
int ratelimit_parse(const char *text, struct ratelimit_rate *out);

/* The buckets begin full. now_ns: clock_now_ns(). */
void ratelimit_init(struct ratelimit *r, const struct ratelimit_config *cfg, uint64_t now_ns);
/* Returns 0 if the next operation may start, else the time until it may, at least 1 ms. */
uint64_t ratelimit_wait_ns(struct ratelimit *r, uint64_t now_ns);
void ratelimit_charge(struct ratelimit *r, uint64_t bytes, uint64_t ops);

static inline bool ratelimit_limits(const struct ratelimit_rate *rate)
{
	return rate->tokens && rate->period_ns;
}

static inline bool ratelimit_on(const struct ratelimit *r)
{
	return ratelimit_limits(&r->bytes.rate) || ratelimit_limits(&r->ops.rate);
}

/* --- groups ------------------------------------------------------------------------------- */

/*
 * Devices find their group by its name; the first one that joins it makes it. A member asks before
 * each operation and is charged afterwards, as with a limit of its own. Members that wait for tokens at
 * the same time take turns by chance: each waits for a random time longer than it has to, so that none
 * is always first and takes all. Any thread; each function locks for a moment.
 */
struct ratelimit_group;

/* The groups of a machine, which owns it; the groups end with their last member. */
struct ratelimit_groups {
	pthread_mutex_t lock;
	struct ratelimit_group *first;
};

void ratelimit_groups_init(struct ratelimit_groups *groups);
/* No group has a member any more. */
void ratelimit_groups_destroy(struct ratelimit_groups *groups);

/* cfg counts if name is new. Returns 0 or -ENOMEM. */
int ratelimit_group_join(struct ratelimit_groups *groups, const char *name,
			 const struct ratelimit_config *cfg, struct ratelimit_group **out);
/* Accepts NULL. */
void ratelimit_group_leave(struct ratelimit_group *group);

/* As ratelimit_wait_ns and ratelimit_charge. */
uint64_t ratelimit_group_wait_ns(struct ratelimit_group *group, uint64_t now_ns);
void ratelimit_group_charge(struct ratelimit_group *group, uint64_t bytes, uint64_t ops);

#endif
