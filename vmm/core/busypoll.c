/*
 * busypoll: see busypoll.h.
 *
 * The length of a sleep says little about when the work arrived, because waking up takes time too.
 * So a number of short waits earns a trial of polling. The outcome of a trial decides how many
 * short waits the next trial needs.
 */
#include "vmm/core/busypoll.h"

#include <sched.h>

/* The most short waits before a trial, however many trials were useless. */
#define TRIAL_MAX 256u

static bool one_cpu(void)
{
	cpu_set_t set;

	return !sched_getaffinity(0, sizeof(set), &set) && CPU_COUNT(&set) == 1;
}

/* On a single CPU, polling keeps the thread that brings the work from running. */
void busypoll_init(struct busypoll *b, uint64_t max_ns)
{
	*b = (struct busypoll){ .max_ns = one_cpu() ? 0 : max_ns, .trial_after = 1 };
}

void busypoll_learn(struct busypoll *b, uint64_t waited_ns, bool looked)
{
	if (looked) {
		b->ns = 0;
		b->short_waits = 0;
		if (b->trial_after < TRIAL_MAX)
			b->trial_after *= 2;
	}
	if (waited_ns > 4 * b->max_ns) {
		b->short_waits = 0;
		return;
	}
	if (++b->short_waits < b->trial_after || b->ns)
		return;
	b->ns = b->max_ns;
}
