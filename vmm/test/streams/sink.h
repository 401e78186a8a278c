/*
 * test/sink: a place that output goes to: a file, a FIFO, a terminal, the process's own descriptor.
 *
 * Bytes wait in memory until the place takes them; no call here waits. One file, however it is named, is one sink,
 * so that what several streams write stands in the order in which it came. The caller bounds what waits.
 *
 * Thread: the loop's, or the builder while the loop does not run.
 */
#ifndef BANTAM_TEST_SINK_H
#define BANTAM_TEST_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/err.h"
#include "vmm/core/loop.h"

struct test_sink;

struct test_sink_owner {
	void *opaque;
	/* credit of what was put with this tag has left. lost: it was dropped, with this errno. Called by put, push and drop. */
	void (*left)(void *opaque, unsigned tag, size_t credit, int lost);
	/* The place takes more: call test_sink_push. From the loop. */
	void (*writable)(void *opaque);
};

/* Those that one owner has open. Zero at first, but for loop and owner. */
struct test_sinks {
	struct loop *loop;
	struct test_sink_owner owner;
	struct test_sink *first;
	bool late; /* test_sinks_hurry was called */
};

/* The descriptor that "-", "/dev/stdout", "/dev/stderr" or "/dev/fd/N" names, -1: path is the name of a file. */
int test_sink_descriptor(const char *path);
/*
 * path: a file to create or truncate; "-", "/dev/stdout", "/dev/stderr", "/dev/fd/N": the open
 * descriptor, as it is. what: "--stdout FILE", begins every message. Returns 0, or -errno with err. *out is the list's.
 */
int test_sinks_open(struct test_sinks *sinks, const char *what, const char *path,
		    struct test_sink **out, struct err *err);
void test_sinks_close(struct test_sinks *sinks);
/* The first one, and the one after it; NULL: there is none. */
struct test_sink *test_sinks_next(const struct test_sinks *sinks, const struct test_sink *sink);

bool test_sink_is_terminal(const struct test_sink *sink);
/* What was put last ends with a newline, or nothing was put. */
bool test_sink_at_left(const struct test_sink *sink);
/* The errno says that the reader has gone, which is no mistake of the host. */
bool test_sink_reader_left(int error);
/* Nothing can be written any more: this errno. 0: it can. */
int test_sink_error(const struct test_sink *sink);

/*
 * Takes a copy of len bytes; credit is given back by left, in parts, as they leave: it is at most len. Takes nothing from a sink with an error, and returns that.
 */
int test_sink_put(struct test_sink *sink, unsigned tag, const void *bytes, size_t len,
		  size_t credit);
/* Writes what the place takes now. */
void test_sink_push(struct test_sink *sink);
/* Drops what waits, and all that comes: error, an errno. */
void test_sink_drop(struct test_sink *sink, int error);
/* From now on what a place does not take at once is dropped, and all that comes for it: ETIMEDOUT. */
void test_sinks_hurry(struct test_sinks *sinks);
/* Bytes that wait in all of them. */
size_t test_sinks_waiting(const struct test_sinks *sinks);

#endif
