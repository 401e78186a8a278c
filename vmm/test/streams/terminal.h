/*
 * test/terminal: the terminal of a test with --tty.
 *
 * Without a terminal on stdin nothing is done to any, and --tty works: the guest has its pty. One such object at a time.
 * The terminal is restored on every way out, also by signals (devices/backend/chardev/terminal.h).
 *
 * Thread: the loop's, or the builder while the loop does not run.
 */
#ifndef BANTAM_TEST_TERMINAL_H
#define BANTAM_TEST_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/err.h"
#include "vmm/core/loop.h"

struct test_terminal_owner {
	void *opaque;
	/* The size has changed: agent_session_winsize. */
	void (*resized)(void *opaque, uint16_t rows, uint16_t cols);
	/* Ctrl-A x: end the test, as SIGTERM does. */
	void (*quit)(void *opaque);
	/* Ctrl-A h: text for the terminal: test_output_say. */
	void (*say)(void *opaque, const char *text, size_t len);
	/* The terminal is raw from now on, or is not: test_output_raw. */
	void (*raw)(void *opaque, bool raw);
};

struct test_terminal;

/* owner is copied. 0 or -errno, with err. */
int test_terminal_create(struct loop *loop, const struct test_terminal_owner *owner,
			 struct test_terminal **out, struct err *err);
void test_terminal_destroy(struct test_terminal *t); /* restores; accepts NULL */

/* Of stdout's terminal, else stdin's; 24 × 80 without one. */
void test_terminal_size(const struct test_terminal *t, uint16_t *rows, uint16_t *cols);
/* The command starts: raw mode, as soon as this process is in the foreground. */
void test_terminal_begin(struct test_terminal *t);
/* The command has ended: the terminal is as the user had it. */
void test_terminal_end(struct test_terminal *t);
/* For test_input_owner.filter: takes out Ctrl-A and the key after it, while the terminal is raw. */
size_t test_terminal_filter(struct test_terminal *t, uint8_t *buf, size_t len);

#endif
