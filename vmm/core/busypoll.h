/*
 * busypoll: is it worth while to look for work over and over, instead of sleeping until it comes?
 *
 * Sleeping and being woken cost more than some microseconds of looking, where work comes as soon
 * as that; elsewhere looking is a waste of the CPU that whoever brings the work may need. So how
 * long is learnt from how it went. One thread.
 */
#ifndef BANTAM_BUSYPOLL_H
#define BANTAM_BUSYPOLL_H

#include <stdbool.h>
#include <stdint.h>

#define BUSYPOLL_MAX_NS 50000u

struct busypoll {
	uint64_t ns; /* how long it is worth while now: 0 or the limit */
	/* private */
	uint64_t max_ns;
	unsigned short_waits; /* in a row, without looking */
	unsigned trial_after; /* so many of them: 1 .. */
};

/* The limit; 0: never. */
void busypoll_init(struct busypoll *b, uint64_t max_ns);
/* Looking found work. */
static inline void busypoll_paid(struct busypoll *b)
{
	b->trial_after = 1;
}
/* We slept, and work came so many ns after it was waited for; looked: first we looked in vain. */
void busypoll_learn(struct busypoll *b, uint64_t waited_ns, bool looked);

/* Between two looks. */
static inline void busypoll_relax(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#else
	__asm__ volatile("yield" ::: "memory");
#endif
}

#endif
