/*
 * test/live: see live.h.
 *
 * Theory of operation. verdict_reader makes lines of both logs. A line of the kernel has the same time and text in
 * the console and in /dev/kmsg, and may come by either first: a table of hashes holds what one log has shown and
 * the other has not yet, and a match takes the entry away again. The table is small and forgets: then a
 * line shows twice, but none is hidden, because a hash of 64 bits over time and text is the same for other lines too
 * rarely to matter.
 *
 * A console's line without an end (a prompt) is shown after a rest of REST_NS.
 */
#include "vmm/test/streams/live.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/clock.h"
#include "vmm/core/printable.h"
#include "vmm/test/streams/sink.h"

#define LIVE_MAX (1u << 20) /* bytes that wait; beyond, lines are left out */
#define TAIL_BYTES (8u << 10)
#define REST_NS 500000000ull
#define LEVEL_DEBUG 7
#define SEEN 16384u /* entries, a power of two */
#define SEEN_PLACES 8u

struct test_live {
	struct test_sink *sink;
	struct test_live_options options;
	bool raw;
	struct verdict_reader reader[VERDICT_SOURCES];
	struct loop_watch *rest; /* timer */
	size_t waiting;
	uint64_t left_out; /* lines, not yet told */
	uint64_t tail_end; /* bytes ever put into tail */
	char tail[TAIL_BYTES];
	uint64_t seen[SEEN]; /* hash, its last bit: the source is kmsg; 0: free */
};

/* --- lines that come twice ----------------------------------------------------------------- */

/* FNV-1a. */
static uint64_t hash_of(const struct verdict_line *line)
{
	uint64_t h = 0xcbf29ce484222325ull ^ line->usec;

	h *= 0x100000001b3ull;
	for (size_t i = 0; i < line->len; i++)
		h = (h ^ (uint8_t)line->text[i]) * 0x100000001b3ull;
	h ^= h >> 29;
	return (h | 2) & ~1ull;
}

/* Returns true if the other log has shown this line; else remembers it. */
static bool is_shown(struct test_live *live, const struct verdict_line *line)
{
	uint64_t h, own = line->source == VERDICT_KMSG, *free_place = NULL, *first;

	if (!line->timed)
		return false;
	h = hash_of(line);
	first = &live->seen[(h >> 8) % (SEEN - SEEN_PLACES)];
	for (unsigned i = 0; i < SEEN_PLACES; i++) {
		if (first[i] == (h | !own)) {
			first[i] = 0;
			return true;
		}
		if (!first[i] && !free_place)
			free_place = &first[i];
	}
	*(free_place ? free_place : &first[h % SEEN_PLACES]) = h | own;
	return false;
}

/* --- one line ---------------------------------------------------------------------------------- */

static const char *color_of(const struct verdict_line *line)
{
	if (line->level < 0 || line->level > 4)
		return "";
	return line->level == 4 ? "\033[33m" : line->level == 3 ? "\033[31m" : "\033[1;31m";
}

/* Appends text at *at, as much as fits. */
__attribute__((format(printf, 4, 5))) static void add(char *buf, size_t size, size_t *at,
						      const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(buf + *at, size - *at, fmt, ap);
	va_end(ap);
	if (n > 0)
		*at = *at + (size_t)n < size ? *at + (size_t)n : size - 1;
}

/* Returns the length, without an end of line. */
static size_t format(const struct test_live *live, const struct verdict_line *line, bool color,
		     char *buf, size_t size)
{
	char text[VERDICT_LINE_MAX + 1];
	size_t at = 0;

	snprintf(text, sizeof(text), "%s", line->text);
	if (live->options.timestamps)
		add(buf, size, &at, "%9.3f ",
		    (double)(clock_now_ns() - live->options.start_ns) / 1e9);
	add(buf, size, &at, "%s%-7s|%s ", color ? "\033[36m" : "",
	    verdict_source_name(line->source), color ? "\033[0m" : "");
	if (line->timed)
		add(buf, size, &at, "[%5llu.%06llu] ", (unsigned long long)(line->usec / 1000000),
		    (unsigned long long)(line->usec % 1000000));
	color = color && *color_of(line);
	add(buf, size, &at, "%s%s%s", color ? color_of(line) : "", printable(text),
	    color ? "\033[0m" : "");
	return at;
}

static void put(struct test_live *live, const char *text, size_t len)
{
	live->waiting += len; /* before: what cannot be put comes back by test_live_left */
	test_sink_put(live->sink, live->options.tag, text, len, len);
	live->options.put(live->options.opaque);
}

static void end_line(struct test_live *live)
{
	put(live, &"\r\n"[!live->raw], live -> raw ? 2 : 1);
}

/* Begins at the left edge, whatever another stream has written last. */
static void put_line(struct test_live *live, const char *text, size_t len)
{
	if (test_sink_error(live->sink))
		return;
	if (!test_sink_at_left(live->sink))
		end_line(live);
	put(live, text, len);
	end_line(live);
}

static void tell_left_out(struct test_live *live)
{
	char text[96];
	int n;

	if (!live->left_out)
		return;
	n = snprintf(text, sizeof(text),
		     "bantam: %llu lines are left out here: the reader of stderr is too slow",
		     (unsigned long long)live->left_out);
	live->left_out = 0;
	put_line(live, text, (size_t)n);
}

static void keep(struct test_live *live, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		live->tail[live->tail_end++ % TAIL_BYTES] = text[i];
	live->tail[live->tail_end++ % TAIL_BYTES] = '\n';
}

static void on_line(void *opaque, const struct verdict_line *line)
{
	char buf[VERDICT_LINE_MAX + 128];
	struct test_live *live = opaque;
	size_t len;

	/* What the kernel's consoles do not show by default (CONSOLE_LOGLEVEL_DEFAULT) is in --kmsg. */
	if (is_shown(live, line) || (line->source == VERDICT_KMSG && line->level == LEVEL_DEBUG))
		return;
	len = format(live, line, live->options.on && live->options.color, buf, sizeof(buf));
	if (!live->options.on) {
		keep(live, buf, len);
	} else if (live->waiting + len > LIVE_MAX || (live->left_out && live->waiting)) {
		live->left_out++;
	} else {
		tell_left_out(live);
		put_line(live, buf, len);
	}
}

/* --- its owner ---------------------------------------------------------------------------------- */

static void flush_readers(struct test_live *live, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		verdict_reader_flush(&live->reader[i]);
}

/* Only the consoles rest in the middle of a line: a record of kmsg is always whole. */
static void rested(void *opaque)
{
	flush_readers(opaque, VERDICT_KMSG);
}

int test_live_create(struct loop *loop, struct test_sink *sink,
		     const struct test_live_options *options, struct test_live **out,
		     struct err *err)
{
	struct test_live *live = calloc(1, sizeof(*live));
	int rc = live ? loop_watch_timer(loop, rested, live, &live->rest) : -ENOMEM;

	*out = NULL;
	if (rc) {
		free(live);
		return err_sys(err, -rc, "cannot show the guest's console");
	}
	live->sink = sink;
	live->options = *options;
	for (unsigned i = 0; i < VERDICT_SOURCES; i++)
		verdict_reader_init(&live->reader[i], i, on_line, live);
	*out = live;
	return 0;
}

void test_live_destroy(struct test_live *live)
{
	if (!live)
		return;
	loop_unwatch(live->rest);
	free(live);
}

void test_live_feed(struct test_live *live, enum verdict_source source, const void *bytes,
		    size_t len)
{
	verdict_reader_feed(&live->reader[source], bytes, len);
	loop_timer_arm(live->rest, REST_NS);
}

void test_live_say(struct test_live *live, const char *text, size_t len)
{
	if (live->waiting + len <= LIVE_MAX)
		put(live, text, len);
}

void test_live_end(struct test_live *live, enum verdict_source source)
{
	verdict_reader_flush(&live->reader[source]);
}

void test_live_flush(struct test_live *live)
{
	flush_readers(live, VERDICT_SOURCES);
	tell_left_out(live);
	if (!test_sink_error(live->sink) && !test_sink_at_left(live->sink))
		end_line(live);
}

void test_live_left(struct test_live *live, size_t len)
{
	live->waiting -= len;
}

void test_live_set_on(struct test_live *live, bool on)
{
	live->options.on = on;
}

void test_live_set_raw(struct test_live *live, bool raw)
{
	live->raw = raw;
}

void test_live_show_tail(struct test_live *live)
{
	static const char heading[] = "bantam: the end of the guest's console and kernel log:";
	size_t n = live->tail_end < TAIL_BYTES ? (size_t)live->tail_end : TAIL_BYTES;
	uint64_t from = live->tail_end - n;
	char line[VERDICT_LINE_MAX + 128];
	size_t len = 0;

	if (!n)
		return;
	/* The oldest line may have lost its beginning. */
	while (live->tail_end > TAIL_BYTES && live->tail[from++ % TAIL_BYTES] != '\n')
		;
	put_line(live, heading, sizeof(heading) - 1);
	for (; from < live->tail_end; from++) {
		char c = live->tail[from % TAIL_BYTES];

		if (c == '\n') {
			put_line(live, line, len);
			len = 0;
		} else {
			line[len++] = c;
		}
	}
	live->tail_end = 0;
}
