/*
 * clock: the one clock that bantam measures time and sets deadlines with.
 *
 * CLOCK_MONOTONIC: it never goes back, and no process can set it. Its zero means nothing; only
 * differences do. The vDSO answers, so a reading costs no system call. Any thread.
 */
#ifndef BANTAM_CORE_CLOCK_H
#define BANTAM_CORE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define CLOCK_NS_PER_S 1000000000ull

static inline uint64_t clock_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * CLOCK_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* The same to a few milliseconds; no call of the kernel, whatever the processor's clock is, if the vDSO is there. */
static inline uint64_t clock_coarse_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint64_t)ts.tv_sec * CLOCK_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static inline uint64_t clock_now_ms(void)
{
	return clock_now_ns() / 1000000;
}

/* For figures that people read. */
static inline double clock_now_s(void)
{
	return (double)clock_now_ns() / 1e9;
}

#endif
