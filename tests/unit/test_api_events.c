/* events: what the monitor's readers and the listeners get, from readers of every kind. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/proc.h"
#include "vmm/vm/events.h"
#include "vmm/core/clock.h"

/* --- the oracle: a reader that counts braces in a buffer of 4096 bytes ----------------- */

struct reader {
	int fd;
	char buf[4096];
	size_t len;
};

/* Returns the next event, or NULL if no whole one is there. The caller drops the reference. */
static json_t *next_event(struct reader *r)
{
	for (;;) {
		int depth = 0;
		ssize_t n;

		for (size_t i = 0; i < r->len; i++) {
			if (r->buf[i] == '{')
				depth++;
			if (r->buf[i] != '}' || --depth)
				continue;
			{
				json_error_t error;
				json_t *event = json_loadb(r->buf, i + 1, JSON_DISABLE_EOF_CHECK,
							   &error);

				cr_assert(event, "%s: %.*s", error.text, (int)i + 1, r->buf);
				r->len -= i + 1;
				memmove(r->buf, r->buf + i + 1, r->len);
				return event;
			}
		}
		cr_assert_lt(r->len, sizeof(r->buf), "an event is longer than the buffer");
		n = read(r->fd, r->buf + r->len, sizeof(r->buf) - r->len);
		if (n <= 0)
			return NULL;
		r->len += (size_t)n;
	}
}

static const char *text_of(json_t *event, const char *key)
{
	return json_string_value(json_object_get(event, key));
}

static const char *prop_of(json_t *event, const char *key)
{
	return text_of(json_object_get(event, "properties"), key);
}

static void expect_event(struct reader *r, const char *source, const char *event)
{
	json_t *e = next_event(r);

	cr_assert(e, "no event; expected %s:%s", source, event);
	cr_expect_str_eq(text_of(e, "source"), source);
	cr_expect_str_eq(text_of(e, "event"), event);
	json_decref(e);
}

/* --- */

static char dir[64], path[96];
static struct err err;

static void setup(void)
{
	signal(SIGPIPE, SIG_IGN);
	strcpy(dir, "/tmp/events-XXXXXX");
	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/monitor", dir);
}

static void teardown(void)
{
	unlink(path);
	rmdir(dir);
}

TestSuite(api_events, .init = setup, .fini = teardown, .timeout = 30);

static struct events *on_path(void)
{
	struct events *e;

	cr_assert_eq(events_create(&(struct events_config){ .path = path, .fd = -1 }, &e, &err), 0,
		     "%s", err.text);
	return e;
}

static struct events *on_fd(int fd)
{
	struct events *e;

	cr_assert_eq(events_create(&(struct events_config){ .fd = fd }, &e, &err), 0, "%s",
		     err.text);
	return e;
}

static void make_fifo(void)
{
	cr_assert_eq(mkfifo(path, 0600), 0);
}

/* A reader of path that does not wait for bytes that are not there. */
static struct reader open_reader(void)
{
	struct reader r = { .fd = open(path, O_RDONLY | O_NONBLOCK) };

	cr_assert_geq(r.fd, 0);
	return r;
}

Test(api_events, exact_bytes_of_a_file)
{
	static const char *const props[] = { "id", "_disk0", "bdf", "0000:00:01.0", NULL };
	struct events *e;
	char buf[512], expected[512];
	unsigned long secs[2], nanos[2];
	struct stat st;
	FILE *f = fopen(path, "w");

	fputs("what was there before", f);
	fclose(f);
	e = on_path();
	events_emit(e, "vmm", "starting", NULL);
	events_emit(e, "vm", "device-removed", props);
	events_destroy(e);
	f = fopen(path, "r");
	buf[fread(buf, 1, sizeof(buf) - 1, f)] = 0;
	fclose(f);
	cr_assert_eq(sscanf(buf, "{\"timestamp\":{\"secs\":%lu,\"nanos\":%lu},", &secs[0],
			    &nanos[0]),
		     2, "%s", buf);
	cr_assert(strstr(buf, "\n\n{"));
	cr_assert_eq(sscanf(strstr(buf, "\n\n{"),
			    "\n\n{\"timestamp\":{\"secs\":%lu,\"nanos\":%lu},", &secs[1],
			    &nanos[1]),
		     2, "%s", buf);
	snprintf(expected, sizeof(expected),
		 "{\"timestamp\":{\"secs\":%lu,\"nanos\":%lu},\"source\":\"vmm\",\"event\":"
		 "\"starting\",\"properties\":null}\n\n"
		 "{\"timestamp\":{\"secs\":%lu,\"nanos\":%lu},\"source\":\"vm\",\"event\":"
		 "\"device-removed\",\"properties\":{\"id\":\"_disk0\",\"bdf\":\"0000:00:01.0\"}}"
		 "\n\n",
		 secs[0], nanos[0], secs[1], nanos[1]);
	cr_expect_str_eq(buf, expected);
	cr_expect_leq(secs[0] * CLOCK_NS_PER_S + nanos[0], secs[1] * CLOCK_NS_PER_S + nanos[1]);
	cr_expect_lt(secs[1], 10, "the time begins with the process");
	unlink(path);
	e = on_path();
	cr_assert_eq(stat(path, &st), 0);
	cr_expect_eq(st.st_mode & 0777, 0600, "only its owner reads a new file");
	events_destroy(e);
}

/* A guest that reboots all the time: the file stays as long as it may be, in whole events. */
Test(api_events, a_file_has_a_limit)
{
	struct events *e;
	struct reader r;
	struct stat st;
	unsigned n = 0;
	json_t *event;

	events_file_max = 2000;
	e = on_path();
	for (unsigned i = 0; i < 100; i++)
		events_emit(e, "vm", "rebooting", NULL);
	events_destroy(e);
	cr_assert_eq(stat(path, &st), 0);
	cr_expect(st.st_size <= 2000 && st.st_size > 1800, "%ld bytes", (long)st.st_size);
	r = open_reader();
	for (; (event = next_event(&r)); n++)
		json_decref(event);
	cr_expect(n > 10 && n < 30, "%u", n);
	close(r.fd);
}

Test(api_events, a_fifo_without_a_reader_keeps_the_events)
{
	struct events *e;
	struct reader r;

	make_fifo();
	e = on_path();
	events_emit(e, "vmm", "starting", NULL);
	events_emit(e, "vm", "booting", NULL);
	r = open_reader();
	expect_event(&r, "vmm", "starting");
	events_emit(e, "vm", "booted", NULL);
	expect_event(&r, "vm", "booting");
	expect_event(&r, "vm", "booted");
	cr_expect(!next_event(&r));
	events_emit(e, "vmm", "shutdown", NULL);
	events_destroy(e);
	expect_event(&r, "vmm", "shutdown");
	cr_expect(!next_event(&r));
	cr_expect_eq(read(r.fd, r.buf, 1), 0, "then the end of the stream");
	close(r.fd);
}

static void *waiting_reader(void *opaque)
{
	struct reader r = { .fd = open(path, O_RDONLY) };

	expect_event(&r, "vmm", "starting");
	while (read(r.fd, r.buf, sizeof(r.buf)) > 0)
		;
	close(r.fd);
	return opaque;
}

Test(api_events, a_reader_that_waits_in_open_gets_in)
{
	struct events *e;
	pthread_t thread;

	make_fifo();
	pthread_create(&thread, NULL, waiting_reader, NULL);
	usleep(20000);
	e = on_path();
	events_emit(e, "vmm", "starting", NULL);
	events_destroy(e);
	cr_expect_eq(pthread_join(thread, NULL), 0);
}

/* Emits numbered events until some are dropped; returns how many were emitted. */
static unsigned fill(struct events *e, unsigned from, unsigned count)
{
	char number[16];
	const char *const props[] = { "n", number, NULL };

	for (unsigned i = from; i < from + count; i++) {
		snprintf(number, sizeof(number), "%u", i);
		events_emit(e, "vm", "resizing", props);
	}
	return from + count;
}

/*
 * Reads what is there: numbered events without a gap, but for the counted ones. Returns the next
 * number.
 */
static unsigned drain(struct reader *r, unsigned expected, unsigned *drops)
{
	json_t *event;

	while ((event = next_event(r))) {
		if (!strcmp(text_of(event, "event"), "dropped")) {
			cr_expect_str_eq(text_of(event, "source"), "bantam");
			expected += (unsigned)atoi(prop_of(event, "count"));
			++*drops;
		} else if (prop_of(event, "n")) {
			cr_expect_eq(atoi(prop_of(event, "n")), (int)expected);
			expected++;
		}
		json_decref(event);
	}
	return expected;
}

/* A reader that reads too little, on each kind of monitor. */
static void slow_reader(struct events *e, struct reader *r)
{
	unsigned sent = 0, seen = 0, drops = 0;
	uint64_t start = clock_now_ms();

	for (unsigned round = 0; round < 4; round++) {
		sent = fill(e, sent, 5000);
		seen = drain(r, seen, &drops);
	}
	sent = fill(e, sent, 1);
	seen = drain(r, seen, &drops);
	cr_expect_eq(seen, sent, "%u of %u", seen, sent);
	cr_expect_eq(drops, 4, "%u", drops);
	cr_expect_lt(clock_now_ms() - start, 5000);
	events_destroy(e);
	close(r->fd);
}

Test(api_events, a_slow_reader_of_a_fifo)
{
	struct reader r;
	struct events *e;

	make_fifo();
	e = on_path();
	r = open_reader();
	slow_reader(e, &r);
}

Test(api_events, a_slow_reader_of_a_pipe)
{
	struct reader r = { 0 };
	int p[2];

	cr_assert_eq(pipe(p), 0);
	fcntl(p[0], F_SETFL, O_NONBLOCK);
	r.fd = p[0];
	slow_reader(on_fd(p[1]), &r);
}

Test(api_events, a_pipe_that_others_use_stays_blocking)
{
	int p[2], other;
	struct events *e;

	cr_assert_eq(pipe(p), 0);
	other = dup(p[1]);
	e = on_fd(p[1]);
	cr_expect_eq(fcntl(other, F_GETFL) & O_NONBLOCK, 0);
	fill(e, 0, 5000);
	events_destroy(e);
	close(other);
	close(p[0]);
}

Test(api_events, a_slow_reader_of_a_socket)
{
	struct reader r = { 0 };
	int p[2], size = 1; /* the smallest buffer: events are written in parts */

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p), 0);
	setsockopt(p[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	fcntl(p[0], F_SETFL, O_NONBLOCK);
	r.fd = p[0];
	slow_reader(on_fd(p[1]), &r);
}

Test(api_events, standard_output_stays_open)
{
	struct events *e;
	struct reader r = { 0 };
	int p[2], was = dup(STDOUT_FILENO);

	cr_assert_eq(pipe(p), 0);
	dup2(p[1], STDOUT_FILENO);
	e = on_fd(STDOUT_FILENO);
	events_emit(e, "vmm", "starting", NULL);
	events_destroy(e);
	cr_expect_eq(fcntl(STDOUT_FILENO, F_GETFD), 0);
	cr_expect_eq(fcntl(STDOUT_FILENO, F_GETFL) & O_NONBLOCK, 0);
	dup2(was, STDOUT_FILENO);
	close(p[1]);
	r.fd = p[0];
	expect_event(&r, "vmm", "starting");
}

Test(api_events, a_reader_that_dies)
{
	unsigned fds = proc_fds(0);
	struct events *e;
	struct reader r;
	unsigned drops = 0, seen;
	int p[2];

	/* A fifo: the next reader goes on, and learns what it missed. */
	make_fifo();
	e = on_path();
	r = open_reader();
	fill(e, 0, 1);
	expect_event(&r, "vm", "resizing");
	close(r.fd);
	fill(e, 1, 5000);
	r = open_reader();
	seen = drain(&r, 1, &drops);
	cr_expect(seen > 100 && seen < 5000, "%u", seen);
	fill(e, 5001, 1);
	cr_expect_eq(drain(&r, seen, &drops), 5002);
	cr_expect_eq(drops, 1);
	close(r.fd);
	events_destroy(e);

	/* A pipe and a socket: nobody can read them again. */
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(i ? socketpair(AF_UNIX, SOCK_STREAM, 0, p) : pipe(p), 0);
		e = on_fd(p[1]);
		fill(e, 0, 1);
		close(p[0]);
		fill(e, 0, 100);
		events_destroy(e);
	}
	cr_expect_eq(proc_fds(0), fds);
}

/* --- hostile strings ------------------------------------------------------------------- */

struct seen {
	char line[EVENTS_BYTES_MAX + 1];
	size_t len;
	unsigned count;
};

static void remember(void *opaque, const char *json, size_t len)
{
	struct seen *s = opaque;

	cr_assert_leq(len + 2, EVENTS_BYTES_MAX);
	memcpy(s->line, json, len);
	s->line[len] = 0;
	s->len = len;
	s->count++;
}

Test(api_events, hostile_strings)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "", "" },
		{ "plain", "plain" },
		{ "}{}}{{", ")())((" },
		{ "\"quoted\\\"", "\"quoted\\\"" },
		{ "line\nand\ttab\r\x1b[31m\x7f", "line\nand\ttab\r\x1b[31m\x7f" },
		{ "grün €, 😀", "grün €, 😀" },
		{ "\xff\xc0\xaf\xed\xa0\x80.", "??????." },
		{ "cut \xe2\x82", "cut ??" },
	};
	struct events *e;
	struct reader r;
	struct seen seen = { 0 };
	unsigned id;

	make_fifo();
	e = on_path();
	r = open_reader();
	cr_assert_eq(events_listen(e, remember, &seen, &id), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *const props[] = { rows[i].in, rows[i].in, NULL };
		json_t *event;

		events_emit(e, rows[i].in, rows[i].in, props);
		event = next_event(&r);
		cr_assert(event);
		cr_expect_str_eq(text_of(event, "source"), rows[i].out);
		cr_expect_str_eq(text_of(event, "event"), rows[i].out);
		cr_expect_str_eq(prop_of(event, rows[i].out), rows[i].out);
		cr_expect(!strchr(seen.line, '\n'), "one line: %s", seen.line);
		json_decref(event);
	}
	events_destroy(e);
	close(r.fd);
}

/* Strings of a repeated piece, and a number of properties, that together are far too long. */
Test(api_events, too_long)
{
	static const char *const pieces[] = { "x", "\"", "\x01", "€", "😀", "{", "\xff" };
	static const size_t lengths[] = { 1, 60, 64, 65, 1000, 3850, 3996, 5000, 100000 };
	static const unsigned nprops[] = { 0, 1, 2, 15, 16, 40 };
	struct events *e;
	struct seen seen = { 0 };
	unsigned id, count = 0;

	cr_assert_eq(events_create(NULL, &e, &err), 0);
	cr_assert_eq(events_listen(e, remember, &seen, &id), 0);
	for (size_t p = 0; p < sizeof(pieces) / sizeof(pieces[0]); p++) {
		for (size_t l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++) {
			size_t piece = strlen(pieces[p]);
			char *big = calloc(1, lengths[l] + 8);

			for (size_t at = 0; at < lengths[l]; at += piece)
				memcpy(big + at, pieces[p], piece);
			for (size_t n = 0; n < sizeof(nprops) / sizeof(nprops[0]); n++) {
				char names[40][2000];
				const char *props[81];
				json_t *event, *object;
				size_t expected;

				for (unsigned i = 0; i < nprops[n]; i++) {
					snprintf(names[i], sizeof(names[i]), "%u-%.1800s", i, big);
					props[2 * i] = names[i];
					props[2 * i + 1] = big;
				}
				props[2 * nprops[n]] = NULL;
				events_emit(e, big, big, props);
				cr_assert_eq(seen.count, ++count);
				event = json_loadb(seen.line, seen.len, 0, NULL);
				cr_assert(event, "%s", seen.line);
				for (size_t i = 0; i < seen.len; i++)
					cr_assert(seen.line[i] != '{' || i == 0 ||
						  seen.line[i - 1] == ':');
				object = json_object_get(event, "properties");
				expected = nprops[n] > EVENTS_PROPS_MAX ? EVENTS_PROPS_MAX :
									  nprops[n];
				cr_expect_eq(json_object_size(object), expected);
				json_decref(event);
			}
			free(big);
		}
	}
	events_destroy(e);
}

Test(api_events, what_fits_is_not_cut)
{
	static char value[4200];
	const char *const props[] = { "text", value, NULL };
	struct seen seen = { 0 };
	struct events *e;
	unsigned id, last = 0;

	cr_assert_eq(events_create(NULL, &e, &err), 0);
	cr_assert_eq(events_listen(e, remember, &seen, &id), 0);
	for (unsigned n = 3700; n < 4100; n++) {
		json_t *event;
		const char *text;

		memset(value, 'v', n);
		events_emit(e, "bantam", "error", props);
		event = json_loadb(seen.line, seen.len, 0, NULL);
		text = prop_of(event, "text");
		if (!strcmp(text, value)) {
			last = n;
		} else {
			cr_expect_gt(seen.len, EVENTS_BYTES_MAX * 2 / 3);
			cr_expect_str_eq(text + strlen(text) - 3, "…");
		}
		json_decref(event);
	}
	cr_expect_gt(last, 3850, "%u", last);
	events_destroy(e);
}

/* --- listeners ------------------------------------------------------------------------- */

Test(api_events, listeners_come_and_go)
{
	struct seen a = { 0 }, b = { 0 };
	struct events *e;
	unsigned ida, idb, idc;

	cr_assert_eq(events_create(NULL, &e, &err), 0);
	events_emit(e, "vmm", "starting", NULL);
	cr_assert_eq(events_listen(e, remember, &a, &ida), 0);
	events_emit(e, "vm", "booting", NULL);
	cr_assert_eq(events_listen(e, remember, &b, &idb), 0);
	events_emit(e, "vm", "booted", NULL);
	events_unlisten(e, ida);
	events_unlisten(e, ida);
	events_unlisten(e, 99);
	events_emit(e, "vm", "shutdown", NULL);
	cr_expect_eq(a.count, 2);
	cr_expect_eq(b.count, 2);
	cr_expect(strstr(a.line, "\"booted\""));
	cr_expect(strstr(b.line, "\"shutdown\""));
	cr_assert_eq(events_listen(e, remember, &a, &idc), 0);
	cr_expect(idc != ida && idc != idb);
	events_destroy(e);
	events_emit(NULL, "vm", "shutdown", NULL);
	events_destroy(NULL);
}

#define EMITTERS 4
#define EACH 500

static void *emitter(void *opaque)
{
	for (unsigned i = 0; i < EACH; i++)
		events_emit(opaque, "virtio-device", "activated", NULL);
	return NULL;
}

Test(api_events, many_threads_at_once)
{
	pthread_t thread[EMITTERS];
	struct seen seen = { 0 };
	struct events *e = on_path();
	struct reader r = open_reader();
	unsigned id, n = 0;
	json_t *event;

	cr_assert_eq(events_listen(e, remember, &seen, &id), 0);
	for (int i = 0; i < EMITTERS; i++)
		pthread_create(&thread[i], NULL, emitter, e);
	for (unsigned i = 0; i < 100; i++) {
		struct seen other = { 0 };
		unsigned one;

		cr_assert_eq(events_listen(e, remember, &other, &one), 0);
		events_unlisten(e, one);
	}
	for (int i = 0; i < EMITTERS; i++)
		pthread_join(thread[i], NULL);
	cr_expect_eq(seen.count, EMITTERS * EACH);
	while ((event = next_event(&r))) {
		n++;
		json_decref(event);
	}
	cr_expect_eq(n, EMITTERS * EACH);
	events_destroy(e);
	close(r.fd);
}

/* --- refused --------------------------------------------------------------------------- */

static void expect_refused(const struct events_config *cfg, int rc, const char *text)
{
	struct events *e;

	err.text[0] = 0;
	cr_expect_eq(events_create(cfg, &e, &err), rc, "%s", err.text);
	cr_expect(!e);
	cr_expect(strstr(err.text, text), "\"%s\" lacks \"%s\"", err.text, text);
}

Test(api_events, refused)
{
	unsigned fds = proc_fds(0);
	char below[128];
	int p[2];

	snprintf(below, sizeof(below), "%s/none/monitor", dir);
	expect_refused(&(struct events_config){ .path = "", .fd = -1 }, -EINVAL, "empty");
	expect_refused(&(struct events_config){ .path = dir, .fd = -1 }, -EINVAL, "neither");
	expect_refused(&(struct events_config){ .path = below, .fd = -1 }, -ENOENT, "No such file");
	expect_refused(&(struct events_config){ .fd = 1000 }, -EBADF, "leave it open");
	cr_assert_eq(pipe(p), 0);
	expect_refused(&(struct events_config){ .fd = p[0] }, -EBADF, "not open for writing");
	close(p[0]);
	close(p[1]);
	cr_expect_eq(proc_fds(0), fds);
}
