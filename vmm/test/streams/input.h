/*
 * test/input: the process's stdin, as the command's.
 *
 * The session pulls: nothing is read before it asks, so that a command that reads nothing leaves stdin to others
 * (at most WIRE_WINDOW bytes are taken ahead, as ssh does). stdin may be a pipe, file, socket, terminal or
 * /dev/null; closed, it is at its end at once. No read waits, and stdin keeps its O_NONBLOCK. A background
 * process reads nothing of its terminal, and is not stopped by it, until it is in the foreground.
 *
 * Thread: the loop's, or the builder while the loop does not run.
 */
#ifndef BANTAM_TEST_INPUT_H
#define BANTAM_TEST_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/err.h"
#include "vmm/core/loop.h"

struct test_input_owner {
	void *opaque;
	/* Something may be there: call agent_session_fill. From the loop. */
	void (*ready)(void *opaque);
	/* Once: nothing comes any more: agent_session_input_end. From the loop, or from test_input_read. */
	void (*ended)(void *opaque);
	/* Edits what was read, in place; returns its new length. NULL: nothing to edit. */
	size_t (*filter)(void *opaque, uint8_t *buf, size_t len);
};

struct test_input;

/* fd: stdin, the caller's. owner is copied. 0 or -errno, with err. */
int test_input_create(struct loop *loop, int fd, const struct test_input_owner *owner,
		      struct test_input **out, struct err *err);
void test_input_destroy(struct test_input *in); /* accepts NULL */

/* For agent_owner.input: at most max bytes; 0: none now, and ready or ended comes, or has come. */
size_t test_input_read(struct test_input *in, uint8_t *buf, size_t max);
/* ended has been called. */
bool test_input_is_over(const struct test_input *in);
/* The command takes no more: reads nothing from now on. */
void test_input_stop(struct test_input *in);

#endif
