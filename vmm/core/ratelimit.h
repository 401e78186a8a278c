/*
 * ratelimit: a token bucket for bytes and one for operations, as one limit.
 *
 * A bucket holds up to its burst and is refilled at its rate. An operation may start while both
 * buckets hold something, and is charged afterwards, when its size is known: the level may go below
 * zero, and the next operation waits until that debt is paid. So a single operation larger than the
 * burst is never stuck, and over time no more than the rate passes. Pure arithmetic on the caller's
 * clock; any thread, the caller locks.
 */
#ifndef BANTAM_RATELIMIT_H
#define BANTAM_RATELIMIT_H

#include <stdbool.h>
#include <stdint.h>

struct ratelimit_bucket {
	uint64_t per_s;	  /* 0: no limit */
	uint64_t burst;	  /* what may pass at once after a pause */
	int64_t level;	  /* bytes or operations that may pass now */
	uint64_t then_ns; /* the time that level belongs to */
};

struct ratelimit {
	struct ratelimit_bucket bytes, ops;
};

/* burst 0: as much as passes in a tenth of a second. now_ns: clock_now_ns(). */
void ratelimit_init(struct ratelimit *r, uint64_t bytes_per_s, uint64_t bytes_burst,
		    uint64_t ops_per_s, uint64_t ops_burst, uint64_t now_ns);
/* Returns 0 if the next operation may start, else the time until it may, at least 1 ms. */
uint64_t ratelimit_wait_ns(struct ratelimit *r, uint64_t now_ns);
void ratelimit_charge(struct ratelimit *r, uint64_t bytes, uint64_t ops);

static inline bool ratelimit_on(const struct ratelimit *r)
{
	return r->bytes.per_s || r->ops.per_s;
}

#endif
