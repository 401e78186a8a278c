/*
 * test/live: the lines of the guest's console and kernel log, for people.
 *
 * It makes lines of the bytes, harmless for a terminal, each with a mark, and shows a line of the kernel that
 * comes by both ways only once. It writes them to a sink, or keeps the last ones for later, when it is off.
 *
 * Memory: LIVE_MAX bytes that wait (live.c), about as much for what it has seen. Thread: the loop's.
 */
#ifndef BANTAM_TEST_LIVE_H
#define BANTAM_TEST_LIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/err.h"
#include "vmm/core/loop.h"
#include "vmm/verdict/verdict.h"

struct test_live;
struct test_sink;

struct test_live_options {
	bool on;	 /* else only the last lines are kept */
	bool color;	 /* marks and mistakes have colours */
	bool timestamps; /* seconds since start_ns (clock_now_ns) begin each line */
	uint64_t start_ns;
	unsigned tag; /* of its bytes in the sink; all of them are credit */
	/* Something was put into the sink. */
	void (*put)(void *opaque);
	void *opaque;
};

/* sink outlives it. 0 or -errno, with err. */
int test_live_create(struct loop *loop, struct test_sink *sink,
		     const struct test_live_options *options, struct test_live **out,
		     struct err *err);
void test_live_destroy(struct test_live *live); /* accepts NULL */

void test_live_feed(struct test_live *live, enum verdict_source source, const void *bytes,
		    size_t len);
/* Text of the program's own, as it is; left out as a line is. */
void test_live_say(struct test_live *live, const char *text, size_t len);
/* The log ends: what there is of a line is a line. More may still come. */
void test_live_end(struct test_live *live, enum verdict_source source);
/* The same for all; and lines that were left out are told. */
void test_live_flush(struct test_live *live);
/* len bytes of its tag have left the sink. */
void test_live_left(struct test_live *live, size_t len);
void test_live_set_on(struct test_live *live, bool on);
/* Lines end with CR LF. */
void test_live_set_raw(struct test_live *live, bool raw);
/* Writes the kept lines that were not shown, under a heading, if there are any. */
void test_live_show_tail(struct test_live *live);

#endif
