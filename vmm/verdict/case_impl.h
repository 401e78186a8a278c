/* verdict/case_impl: what case.c notes, and cause.c decides by. */
#ifndef BANTAM_VERDICT_CASE_IMPL_H
#define BANTAM_VERDICT_CASE_IMPL_H

#include "vmm/verdict/verdict.h"

#define CASE_LAST_LINES 8
#define CASE_TEXT 512 /* as long as that of struct err */

/* When something came; order 0: it did not. */
struct when {
	unsigned order;
	uint64_t usec;
	enum verdict_phase phase;
};

struct verdict_case {
	enum verdict_on_splat on_splat;
	bool decided;
	unsigned order;
	uint64_t usec;
	enum verdict_phase phase;

	struct verdict_reader reader[VERDICT_SOURCES];
	struct verdict_splats *splats;
	struct when splat[VERDICT_SPLATS_MAX];
	struct verdict_evidence last[CASE_LAST_LINES]; /* a ring of what the logs said last */
	size_t nlast;

	struct when panic, oom, restart, halted, gave_up, hello, refused, exited, bye, lost, timer,
		interrupted, end, no_test;
	struct verdict_evidence panic_line, oom_line, restart_line, gave_up_line;
	bool panic_of_memory;
	bool exec, skip;
	int refused_code, wait_status;
	uint64_t oom_kills;
	enum verdict_timer which;
	int signo;
	enum verdict_end how;
	char text[CASE_TEXT]; /* of refused or no_test */
	char lost_text[CASE_TEXT], end_text[CASE_TEXT];

	struct verdict_vcpu *vcpu;
	size_t nvcpus;
	struct verdict_result r;
};

/* a came, and b did not come before it. */
static inline bool before(const struct when *a, const struct when *b)
{
	return a->order && (!b->order || a->order < b->order);
}

/* The first mistake of the kernel before this moment (order 0: any), or -1. */
int verdict_case_first_splat(const struct verdict_case *c, const struct when *until);
/* Fills c->r: kind, cause, evidence. */
void verdict_case_decide(struct verdict_case *c);

#endif
