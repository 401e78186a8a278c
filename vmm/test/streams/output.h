/*
 * test/output: where the streams of a guest go: files, the process's own stdout and stderr, and the live view.
 *
 *	stream   by default                          with --STREAM FILE
 *	stdout   descriptor 1                        FILE only
 *	stderr   descriptor 2                        FILE only
 *	kmsg     live view                           FILE, and the live view
 *	console  live view                           FILE, and the live view
 *
 * A file has the guest's bytes unchanged; with --timestamps, each line begins with the seconds since
 * test_output_create. FILE "-" is descriptor 1; "/dev/stdout", "/dev/stderr" and "/dev/fd/N" are the open
 * descriptor, which is not truncated. Streams that go to one file share it, and their bytes stand in the
 * order in which they came.
 *
 * The live view is on if stderr is a terminal, or with --verbose; --quiet turns it off. It shows the lines
 * of kmsg and console on stderr, each with a mark, and a line that both have only once; what could move a
 * terminal's cursor is replaced. On a terminal it begins each of its lines at the left, whatever the command has
 * written before. With --tty it ends at the command's first output, unless --verbose. If it is
 * off, test_output_show_tail shows its last lines.
 *
 * Nothing here waits. What a reader does not take waits in memory, at most TEST_OUTPUT_WINDOW bytes of each
 * stream: the owner writes no more than test_output_room, and taken tells that there is more room. A reader that
 * stops holds up only the streams that go to it. The live view holds up nothing: beyond LIVE_MAX (output.c) it leaves
 * out lines, and tells how many. What cannot be written (a full disk, a reader that is gone) is dropped from then on,
 * counts as taken, and is told by test_output_loss.
 *
 * Thread: the loop's, or the builder while the loop does not run.
 */
#ifndef BANTAM_TEST_OUTPUT_H
#define BANTAM_TEST_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/err.h"
#include "vmm/core/loop.h"
#include "vmm/test/options.h"

enum test_stream { TEST_STDOUT, TEST_STDERR, TEST_KMSG, TEST_CONSOLE, TEST_STREAMS };
/* "stdout", "stderr", "kmsg", "console". */
const char *test_stream_name(enum test_stream stream);

struct test_output_owner {
	void *opaque;
	/* len bytes of the stream have left, or are dropped. From the loop, never from test_output_write. */
	void (*taken)(void *opaque, enum test_stream stream, size_t len);
	/* After test_output_flush returned false: now nothing waits any more. */
	void (*flushed)(void *opaque);
};

struct test_output;

/*
 * Of options: stdout_file and its like, timestamps, quiet, verbose, tty, color (of the live view; auto: on a
 * terminal, unless NO_COLOR is set). Opens the files: creates or truncates them, checks that they can be written. A FIFO waits for its
 * reader, as in a shell: call it while the signals that end the process have their effect. Ignores SIGPIPE.
 * Returns 0, or -errno with err, which names the option. owner is copied.
 */
int test_output_create(const struct test_options *options, struct loop *loop,
		       const struct test_output_owner *owner, struct test_output **out,
		       struct err *err);
/* Drops what still waits. Accepts NULL. */
void test_output_destroy(struct test_output *o);

/* Of each stream: the credit that the agent's channel gives (WIRE_WINDOW). */
#define TEST_OUTPUT_WINDOW (64u << 10)

/* Bytes that test_output_write takes of this stream now. */
size_t test_output_room(const struct test_output *o, enum test_stream stream);
/* len is at most test_output_room. */
void test_output_write(struct test_output *o, enum test_stream stream, const void *bytes,
		       size_t len);
/* The stream has ended: the live view shows the rest of its last line. More may still come. */
void test_output_eof(struct test_output *o, enum test_stream stream);

/* Writes text of our own to stderr, in order with what goes there. It is dropped if its reader is too slow. */
void test_output_say(struct test_output *o, const char *text, size_t len);

/* The terminal is raw from now on, or is not: lines of the live view end with CR LF. */
void test_output_raw(struct test_output *o, bool raw);

/* Ends the live view's lines, and stderr's last one, if the command has not. Returns true if nothing waits; else flushed comes, once, however long a reader takes. */
bool test_output_flush(struct test_output *o);
/* From now on readers have ns more, all together; then what they do not take at once is dropped. The process was told to end. */
void test_output_hurry(struct test_output *o, uint64_t ns);

/*
 * For a test that the kernel did not pass: if the live view was off, writes its last lines to stderr, under a heading.
 * Not with --quiet. Call it before test_output_flush.
 */
void test_output_show_tail(struct test_output *o);

/* Bytes of the stream that were dropped; error: the first cause, EPIPE: the reader has gone. */
struct test_output_loss {
	uint64_t bytes;
	int error;
};
struct test_output_loss test_output_loss(const struct test_output *o, enum test_stream stream);
/*
 * Writes one line about all streams that lost bytes to anything but a reader's leave: "120 bytes of stdout were
 * lost: No space left on device". Returns false if there is none.
 */
bool test_output_loss_text(const struct test_output *o, char *buf, size_t len);

#endif
