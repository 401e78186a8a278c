/*
 * busypoll: decides whether to busy-poll for work or to sleep.
 *
 * Sleeping and being woken cost more than some microseconds of polling. So polling pays where work
 * comes that soon; elsewhere it wastes CPU time that the thread which brings the work may need. The
 * module learns from past waits which case it is. One thread.
 */
#ifndef BANTAM_BUSYPOLL_H
#define BANTAM_BUSYPOLL_H

#include <stdbool.h>
#include <stdint.h>

#define BUSYPOLL_MAX_NS 50000u

struct busypoll {
	uint64_t ns; /* how long to poll now: 0 or the limit */
	/* private */
	uint64_t max_ns;
	unsigned short_waits; /* in a row, without polling */
	unsigned trial_after; /* short waits that lead to the next trial: 1 .. */
};

/* max_ns: the longest time to poll; 0: never poll. */
void busypoll_init(struct busypoll *b, uint64_t max_ns);
/* Polling found work. */
static inline void busypoll_paid(struct busypoll *b)
{
	b->trial_after = 1;
}
/*
 * The thread slept, and work came waited_ns after the wait began. looked: it polled in vain first.
 */
void busypoll_learn(struct busypoll *b, uint64_t waited_ns, bool looked);

/* Call it between two polls. */
static inline void busypoll_relax(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#else
	__asm__ volatile("yield" ::: "memory");
#endif
}

#endif
