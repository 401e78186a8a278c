/*
 * test/output: see output.h.
 *
 * Theory of operation. A stream's bytes go to at most one sink that counts: its file, or the descriptor of the
 * process. What they take of the stream's window comes back when the sink has written them, by one place,
 * deliver, which the loop runs after all events of a turn: so the owner is called from nowhere else, and what comes
 * in one turn goes out in one write. The live view writes to the sink of stderr beside it, and takes nothing of any
 * window.
 */
#include "vmm/test/streams/output.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/wire.h"
#include "vmm/core/clock.h"
#include "vmm/test/streams/live.h"
#include "vmm/test/streams/sink.h"

_Static_assert(TEST_OUTPUT_WINDOW == WIRE_WINDOW, "the window of the agent's channel");

#define LIVE TEST_STREAMS /* tag of the live view's bytes */

struct stream {
	struct test_sink *sink; /* NULL: to the live view only */
	bool stamped, inside;	/* inside: a line has begun, and has its time */
	size_t waiting;		/* written, and not told as taken */
	size_t left;		/* of them: to be told */
	struct test_output_loss loss;
};

struct test_output {
	struct loop *loop;
	struct test_output_owner owner;
	struct test_sinks sinks;
	struct stream stream[TEST_STREAMS];
	struct test_sink *err_sink;
	struct test_live *live;
	bool quiet, picture; /* picture: the live view ends at the command's first output */
	bool flushing;	     /* flushed is to be called */
	uint64_t start_ns;
	struct loop_watch *soon, *hurry;
};

const char *test_stream_name(enum test_stream stream)
{
	static const char names[TEST_STREAMS][8] = { "stdout", "stderr", "kmsg", "console" };

	return names[stream];
}

/* --- the loop's turn ---------------------------------------------------------------------- */

static void sink_left(void *opaque, unsigned tag, size_t credit, int lost)
{
	struct test_output *o = opaque;
	struct stream *s;

	if (tag == LIVE) {
		test_live_left(o->live, credit);
		return;
	}
	s = &o->stream[tag];
	s->left += credit;
	if (!lost)
		return;
	s->loss.bytes += credit;
	if (!s->loss.error)
		s->loss.error = lost;
}

static bool waits(const struct test_output *o)
{
	for (unsigned i = 0; i < TEST_STREAMS; i++)
		if (o->stream[i].waiting)
			return true;
	return test_sinks_waiting(&o->sinks);
}

/* Writes what goes, and tells the owner. Its last call may destroy o. */
static void deliver(void *opaque)
{
	struct test_output *o = opaque;

	for (struct test_sink *s = test_sinks_next(&o->sinks, NULL); s;
	     s = test_sinks_next(&o->sinks, s))
		test_sink_push(s);
	for (unsigned i = 0; i < TEST_STREAMS; i++) {
		struct stream *s = &o->stream[i];
		size_t n = s->left;

		if (!n)
			continue;
		s->left = 0;
		s->waiting -= n;
		o->owner.taken(o->owner.opaque, i, n);
	}
	if (!o->flushing || waits(o))
		return;
	o->flushing = false;
	o->owner.flushed(o->owner.opaque);
}

static void look_soon(void *opaque)
{
	struct test_output *o = opaque;

	loop_event_soon(o->soon);
}

static void too_late(void *opaque)
{
	struct test_output *o = opaque;

	test_sinks_hurry(&o->sinks);
	deliver(o);
}

/* --- opening ---------------------------------------------------------------------------------- */

static int open_streams(struct test_output *o, const struct test_options *options, struct err *err)
{
	const char *const file[TEST_STREAMS] = { options->stdout_file, options->stderr_file,
						 options->kmsg_file, options->console_file };
	static const char *const own[TEST_STREAMS] = { "/dev/stdout", "/dev/stderr" };
	int rc = test_sinks_open(&o->sinks, "stderr", "/dev/stderr", &o->err_sink, err);

	for (unsigned i = 0; !rc && i < TEST_STREAMS; i++) {
		struct stream *s = &o->stream[i];
		char what[256];

		snprintf(what, sizeof(what), file[i] ? "--%s %s" : "%s", test_stream_name(i),
			 file[i]);
		if (file[i] || own[i])
			rc = test_sinks_open(&o->sinks, what, file[i] ? file[i] : own[i], &s->sink,
					     err);
		/* A command that makes the terminal's picture has no lines there. */
		s->stamped = options->timestamps && s->sink &&
			     !(options->tty && test_sink_is_terminal(s->sink));
	}
	return rc;
}

static int open_live(struct test_output *o, const struct test_options *options, struct err *err)
{
	bool terminal = test_sink_is_terminal(o->err_sink);
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
	struct test_live_options live = {
		.on = (terminal || options->verbose) && !options->quiet,
		.color = options->color == TEST_COLOR_AUTO ?
				 terminal && !(no_color && *no_color) &&
					 !(term && !strcmp(term, "dumb")) :
				 options->color == TEST_COLOR_ALWAYS,
		.timestamps = options->timestamps,
		.start_ns = o->start_ns,
		.tag = LIVE,
		.put = look_soon,
		.opaque = o,
	};

	o->picture = options->tty && !options->verbose;
	return test_live_create(o->loop, o->err_sink, &live, &o->live, err);
}

int test_output_create(const struct test_options *options, struct loop *loop,
		       const struct test_output_owner *owner, struct test_output **out,
		       struct err *err)
{
	struct test_output *o = calloc(1, sizeof(*o));
	int rc = o ? 0 : -ENOMEM;

	*out = NULL;
	if (!o)
		return err_sys(err, ENOMEM, "cannot open the output");
	signal(SIGPIPE, SIG_IGN);
	o->loop = loop;
	o->owner = *owner;
	o->quiet = options->quiet;
	o->start_ns = clock_now_ns();
	o->sinks = (struct test_sinks){
		.loop = loop, .owner = { .opaque = o, .left = sink_left, .writable = deliver }
	};
	rc = loop_watch_event(loop, deliver, o, &o->soon, NULL);
	if (!rc)
		rc = loop_watch_timer(loop, too_late, o, &o->hurry);
	if (rc)
		err_sys(err, -rc, "cannot open the output");
	else
		rc = open_streams(o, options, err);
	if (!rc)
		rc = open_live(o, options, err);
	if (rc)
		test_output_destroy(o);
	else
		*out = o;
	return rc;
}

void test_output_destroy(struct test_output *o)
{
	if (!o)
		return;
	test_live_destroy(o->live);
	test_sinks_close(&o->sinks);
	loop_unwatch(o->hurry);
	loop_unwatch(o->soon);
	free(o);
}

/* --- the guest's bytes -------------------------------------------------------------------- */

size_t test_output_room(const struct test_output *o, enum test_stream stream)
{
	return TEST_OUTPUT_WINDOW - o->stream[stream].waiting;
}

/* Each line begins with the time at which its first byte came. */
static void put_stamped(struct test_output *o, enum test_stream stream, const char *from,
			size_t len)
{
	struct stream *s = &o->stream[stream];
	char stamp[32];
	int n = snprintf(stamp, sizeof(stamp), "%9.3f ",
			 (double)(clock_now_ns() - o->start_ns) / 1e9);

	while (len) {
		const char *end = memchr(from, '\n', len);
		size_t part = end ? (size_t)(end - from) + 1 : len;

		if (!s->inside)
			test_sink_put(s->sink, stream, stamp, (size_t)n, 0);
		test_sink_put(s->sink, stream, from, part, part);
		s->inside = !end;
		from += part;
		len -= part;
	}
}

void test_output_write(struct test_output *o, enum test_stream stream, const void *bytes,
		       size_t len)
{
	struct stream *s = &o->stream[stream];

	BUG_ON(len > test_output_room(o, stream));
	if (!len)
		return;
	s->waiting += len;
	if (stream == TEST_KMSG || stream == TEST_CONSOLE)
		test_live_feed(o->live, stream == TEST_KMSG ? VERDICT_KMSG : VERDICT_CONSOLE, bytes,
			       len);
	else if (o->picture)
		test_live_set_on(o->live, false);
	if (!s->sink)
		s->left += len;
	else if (s->stamped)
		put_stamped(o, stream, bytes, len);
	else
		test_sink_put(s->sink, stream, bytes, len, len);
	look_soon(o);
}

void test_output_eof(struct test_output *o, enum test_stream stream)
{
	if (stream == TEST_KMSG || stream == TEST_CONSOLE)
		test_live_end(o->live, stream == TEST_KMSG ? VERDICT_KMSG : VERDICT_CONSOLE);
}

void test_output_say(struct test_output *o, const char *text, size_t len)
{
	test_live_say(o->live, text, len);
}

void test_output_raw(struct test_output *o, bool raw)
{
	test_live_set_raw(o->live, raw && test_sink_is_terminal(o->err_sink));
}

/* --- the end ------------------------------------------------------------------------------ */

bool test_output_flush(struct test_output *o)
{
	test_live_flush(o->live);
	o->flushing = waits(o);
	return !o->flushing;
}

void test_output_hurry(struct test_output *o, uint64_t ns)
{
	loop_timer_arm(o->hurry, ns ? ns : 1);
}

void test_output_show_tail(struct test_output *o)
{
	test_live_flush(o->live);
	if (!o->quiet)
		test_live_show_tail(o->live);
}

struct test_output_loss test_output_loss(const struct test_output *o, enum test_stream stream)
{
	return o->stream[stream].loss;
}

bool test_output_loss_text(const struct test_output *o, char *buf, size_t len)
{
	size_t at = 0;

	for (unsigned i = 0; i < TEST_STREAMS; i++) {
		const struct test_output_loss *l = &o->stream[i].loss;
		const char *why = l->error == ETIMEDOUT ? "the process was told to end, and their "
							  "reader was too slow" :
							  strerror(l->error);

		if (!l->bytes || test_sink_reader_left(l->error) || at >= len)
			continue;
		at += (size_t)snprintf(buf + at, len - at, "%s%llu bytes of %s were lost: %s",
				       at ? "; " : "", (unsigned long long)l->bytes,
				       test_stream_name(i), why);
	}
	return at;
}
