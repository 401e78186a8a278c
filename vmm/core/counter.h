/*
 * counter: a number that one thread at a time changes and any thread reads, without a lock.
 *
 * The writers of a counter take turns (they hold the same lock), so a change is an ordinary load and
 * store: it costs what a plain variable costs. A reader sees each counter whole, but several counters
 * perhaps from different moments.
 */
#ifndef BANTAM_CORE_COUNTER_H
#define BANTAM_CORE_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

struct counter {
	_Atomic uint64_t value;
};

/* Any thread. */
static inline uint64_t counter_read(const struct counter *c)
{
	return atomic_load_explicit(&c->value, memory_order_relaxed);
}

/* One thread at a time. */
static inline void counter_set(struct counter *c, uint64_t value)
{
	atomic_store_explicit(&c->value, value, memory_order_relaxed);
}

/* One thread at a time. */
static inline void counter_add(struct counter *c, uint64_t n)
{
	counter_set(c, counter_read(c) + n);
}

#endif
