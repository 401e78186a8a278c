/*
 * events: see events.h.
 *
 * Theory of operation. One mutex orders the events, so all readers see the same order. A writer
 * holds it while it formats an event in a buffer on its stack, calls the listeners, and writes to
 * the monitor without waiting.
 *
 * How a write never waits depends on what the monitor is:
 * - A fifo by path. We open it for reading and writing, which on Linux succeeds at once without a
 *   peer, also when another process waits in its own open. Until a reader comes, the fifo itself
 *   keeps the events; open for writing alone would have to wait in a thread, with a queue beside it.
 *   We never read from it. When the last reader goes, no write fails: the fifo fills up, and a later
 *   reader finds the events that it kept.
 * - A pipe or a terminal by descriptor. Other processes share its file description, perhaps as their
 *   standard error, so O_NONBLOCK there would disturb them: we open it again through /proc. Where
 *   that fails, fd_write_now does what the kernel can do.
 * - A socket: MSG_DONTWAIT.
 * - A regular file is always ready. It takes events_file_max bytes: a guest that reboots all the time
 *   makes events without end.
 *
 * A pipe takes an event (at most PIPE_BUF bytes) as a whole or not at all. A socket, a terminal or a
 * full file system may take a part of it: the rest stays in the sink and is written before anything
 * else, so that the reader always gets whole events.
 */
#include "vmm/vm/events.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/core/clock.h"
#include "vmm/core/fd_now.h"
#include "vmm/core/fd_stat.h"
#include "vmm/core/log.h"
#include "vmm/core/parse.h"

#define OPTION "--event-monitor"

uint64_t events_file_max = 1ull << 30;

/* What ends an event on the monitor. */
#define BLANK "\n\n"
#define OBJECT_MAX (EVENTS_BYTES_MAX - (sizeof(BLANK) - 1))

_Static_assert(EVENTS_BYTES_MAX <= PIPE_BUF, "a pipe takes an event as a whole");

struct sink {
	int fd; /* -1: no monitor */
	bool socket;
	bool ask;      /* writing could wait */
	uint64_t left; /* bytes that the file may take; UINT64_MAX: no file */
	uint64_t dropped;
	size_t rest_bytes; /* the part of the last event that is not yet written */
	char rest[EVENTS_BYTES_MAX];
};

struct listener {
	void (*line)(void *opaque, const char *json, size_t len);
	void *opaque;
	unsigned id;
	struct listener *next;
};

struct events {
	uint64_t start_ns;
	pthread_mutex_t lock; /* protects the fields below */
	struct sink sink;
	struct listener *listeners;
	unsigned last_id;
};

/* --- the JSON object ----------------------------------------------------------------- */

struct text {
	size_t len; /* more than OBJECT_MAX: it did not fit, and bytes ends early */
	char bytes[EVENTS_BYTES_MAX];
};

static void put(struct text *t, const char *bytes, size_t len)
{
	if (t->len + len <= OBJECT_MAX)
		memcpy(t->bytes + t->len, bytes, len);
	t->len += len;
}

/* One character of a string as JSON has it; returns its bytes in out. */
static size_t escape(const uint8_t **at, char out[8])
{
	const uint8_t *from = *at;
	int32_t c = parse_utf8(at);
	size_t n = 0;

	if (c < 0) {
		++*at;
		c = '?';
	}
	if (c == '{' || c == '}')
		c = c == '{' ? '(' : ')';
	if (c < 0x20 || c == 0x7f)
		return (size_t)sprintf(out, "\\u%04x", (unsigned)c);
	if (c == '"' || c == '\\')
		out[n++] = '\\';
	if (c < 0x80) {
		out[n++] = (char)c;
		return n;
	}
	memcpy(out, from, (size_t)(*at - from));
	return (size_t)(*at - from);
}

/* A string of at most max bytes between its quotes; "…" marks where a longer one is cut. */
static void put_string(struct text *t, const char *string, size_t max)
{
	static const char cut[] = "…";
	const uint8_t *at = (const uint8_t *)string;
	char buf[OBJECT_MAX];
	size_t len = 0, end = 0; /* end: as much as leaves room for the mark */

	while (*at) {
		char one[8];
		size_t n = escape(&at, one);

		if (len + n > max) {
			memcpy(buf + end, cut, sizeof(cut) - 1);
			len = end + sizeof(cut) - 1;
			break;
		}
		memcpy(buf + len, one, n);
		len += n;
		if (len + sizeof(cut) - 1 <= max)
			end = len;
	}
	put(t, "\"", 1);
	put(t, buf, len);
	put(t, "\"", 1);
}

static void put_props(struct text *t, const char *const *props, size_t max)
{
	put(t, "{", 1);
	for (unsigned i = 0; i < EVENTS_PROPS_MAX && props[2 * i]; i++) {
		if (i)
			put(t, ",", 1);
		put_string(t, props[2 * i], 64);
		put(t, ":", 1);
		put_string(t, props[2 * i + 1], max);
	}
	put(t, "}", 1);
}

/* Formats an event; its values are as long as the object's limit lets all of them be. */
static void format(struct text *t, uint64_t ns, const char *source, const char *event,
		   const char *const *props)
{
	char head[96];
	int n = snprintf(head, sizeof(head), "{\"timestamp\":{\"secs\":%llu,\"nanos\":%llu},",
			 (unsigned long long)(ns / CLOCK_NS_PER_S),
			 (unsigned long long)(ns % CLOCK_NS_PER_S));

	/* With all properties and names, values of 64 bytes fit. */
	for (size_t max = OBJECT_MAX; max >= 64; max = max * 3 / 4) {
		t->len = 0;
		put(t, head, (size_t)n);
		put(t, "\"source\":", 9);
		put_string(t, source, 64);
		put(t, ",\"event\":", 9);
		put_string(t, event, 64);
		put(t, ",\"properties\":", 14);
		if (props)
			put_props(t, props, max);
		else
			put(t, "null", 4);
		put(t, "}", 1);
		if (t->len <= OBJECT_MAX)
			return;
	}
	BUG_ON(t->len > OBJECT_MAX);
}

/* --- the monitor --------------------------------------------------------------------- */

/* Writes as much as fits. Returns the bytes, or -1 with errno. */
static ssize_t sink_write(struct sink *s, const char *bytes, size_t len)
{
	if (s->socket)
		return send(s->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (s->ask)
		return fd_write_now(s->fd, bytes, len);
	return write(s->fd, bytes, len);
}

/* Returns true if nothing is left of the last event. */
static bool sink_flush(struct sink *s)
{
	while (s->rest_bytes) {
		ssize_t n = sink_write(s, s->rest, s->rest_bytes);

		if (n <= 0)
			return false;
		s->rest_bytes -= (size_t)n;
		memmove(s->rest, s->rest + n, s->rest_bytes);
	}
	return true;
}

/* Writes an event and the empty line. Returns false if the monitor takes nothing of it. */
static bool sink_put(struct sink *s, struct text *t)
{
	size_t len = t->len + sizeof(BLANK) - 1;
	ssize_t n;

	if (!sink_flush(s))
		return false;
	if (len > s->left) {
		if (s->left)
			log_put(LOG_WARN,
				OPTION ": the file has reached its limit of %llu bytes: events are "
				       "dropped",
				(unsigned long long)events_file_max);
		s->left = 0;
		return false;
	}
	s->left -= len;
	memcpy(t->bytes + t->len, BLANK, sizeof(BLANK) - 1);
	n = sink_write(s, t->bytes, len);
	if (n <= 0)
		return false;
	s->rest_bytes = len - (size_t)n;
	memcpy(s->rest, t->bytes + n, s->rest_bytes);
	return true;
}

/* Returns false if events are missing, and the monitor does not even take their count. */
static bool sink_report(struct sink *s, uint64_t ns)
{
	char count[24];
	const char *const props[] = { "count", count, NULL };
	struct text t;

	if (!s->dropped)
		return true;
	snprintf(count, sizeof(count), "%llu", (unsigned long long)s->dropped);
	format(&t, ns, "bantam", "dropped", props);
	if (!sink_put(s, &t))
		return false;
	s->dropped = 0;
	return true;
}

static int open_fifo(const char *path, struct err *err)
{
	int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);

	/* Without the right to read, it works while it has a reader. */
	if (fd < 0 && errno == EACCES)
		fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == ENXIO)
		return err_set(err, ENXIO,
			       OPTION
			       " path=%s: the fifo has no reader yet, and bantam may not open "
			       "it for reading; give it read permission (chmod u+r)",
			       path);
	return fd < 0 ? err_sys(err, errno, OPTION " path=%s", path) : fd;
}

static int open_path(const char *path, struct err *err)
{
	struct stat st;
	int fd;

	if (!*path)
		return err_set(err, EINVAL, OPTION " path=: the path is empty");
	if (!stat(path, &st)) {
		if (S_ISFIFO(st.st_mode))
			return open_fifo(path, err);
		if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode))
			return err_set(err, EINVAL,
				       OPTION
				       " path=%s: is neither a file nor a fifo; a socket can "
				       "be handed over with fd=N",
				       path);
	}
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(err, errno, OPTION " path=%s", path);
	if (!fd_stat(fd, &st) && S_ISREG(st.st_mode) && ftruncate(fd, 0)) {
		int rc = err_sys(err, errno, OPTION " path=%s: cannot be truncated", path);

		close(fd);
		return rc;
	}
	return fd;
}

/* Checks an inherited descriptor and finds out how to write to it without waiting. */
static int take_fd(struct sink *s, int fd, struct err *err)
{
	int flags = fcntl(fd, F_GETFL), again;
	struct stat st;

	if (flags < 0)
		return err_sys(err, errno,
			       OPTION " fd=%d: the program that starts bantam must leave it open",
			       fd);
	if ((flags & O_ACCMODE) == O_RDONLY || flags & O_PATH)
		return err_set(err, EBADF, OPTION " fd=%d: is not open for writing", fd);
	if (fd_stat(fd, &st))
		return err_sys(err, errno, OPTION " fd=%d", fd);
	/* Standard output stays as it is: the log and helper programs use it too. */
	s->fd = fd <= STDERR_FILENO ? fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1) : fd;
	if (s->fd < 0)
		return err_sys(err, errno, OPTION " fd=%d", fd);
	fcntl(s->fd, F_SETFD, FD_CLOEXEC);
	s->socket = S_ISSOCK(st.st_mode);
	if (!S_ISFIFO(st.st_mode) && !S_ISCHR(st.st_mode))
		return 0;
	again = fd_open_again(s->fd, O_WRONLY | O_NONBLOCK);
	if (again < 0) {
		s->ask = true;
		return 0;
	}
	close(s->fd);
	s->fd = again;
	return 0;
}

/* --- all readers --------------------------------------------------------------------- */

static void limit_file(struct sink *s)
{
	struct stat st;

	s->left = !fd_stat(s->fd, &st) && S_ISREG(st.st_mode) ? events_file_max : UINT64_MAX;
}

int events_create(const struct events_config *cfg, struct events **out, struct err *err)
{
	struct events *e = calloc(1, sizeof(*e));
	int rc = 0;

	*out = NULL;
	if (!e)
		return err_sys(err, ENOMEM, OPTION);
	e->start_ns = clock_now_ns();
	e->sink.fd = -1;
	pthread_mutex_init(&e->lock, NULL);
	if (cfg && cfg->path) {
		rc = open_path(cfg->path, err);
		if (rc >= 0)
			e->sink.fd = rc;
	} else if (cfg && cfg->fd >= 0) {
		rc = take_fd(&e->sink, cfg->fd, err);
	}
	if (rc < 0) {
		events_destroy(e);
		return rc;
	}
	limit_file(&e->sink);
	*out = e;
	return 0;
}

void events_emit(struct events *e, const char *source, const char *event, const char *const *props)
{
	struct text t;
	uint64_t ns;

	if (!e)
		return;
	pthread_mutex_lock(&e->lock);
	ns = clock_now_ns() - e->start_ns;
	if (e->sink.fd >= 0 || e->listeners)
		format(&t, ns, source, event, props);
	for (struct listener *l = e->listeners; l; l = l->next)
		l->line(l->opaque, t.bytes, t.len);
	if (e->sink.fd >= 0 && (!sink_report(&e->sink, ns) || !sink_put(&e->sink, &t)))
		e->sink.dropped++;
	pthread_mutex_unlock(&e->lock);
}

int events_listen(struct events *e, void (*line)(void *opaque, const char *json, size_t len),
		  void *opaque, unsigned *id)
{
	struct listener *l = malloc(sizeof(*l)), **end;

	if (!l)
		return -ENOMEM;
	*l = (struct listener){ .line = line, .opaque = opaque };
	pthread_mutex_lock(&e->lock);
	*id = l->id = ++e->last_id;
	for (end = &e->listeners; *end; end = &(*end)->next)
		;
	*end = l;
	pthread_mutex_unlock(&e->lock);
	return 0;
}

void events_unlisten(struct events *e, unsigned id)
{
	pthread_mutex_lock(&e->lock);
	for (struct listener **at = &e->listeners; *at; at = &(*at)->next) {
		struct listener *l = *at;

		if (l->id != id)
			continue;
		*at = l->next;
		free(l);
		break;
	}
	pthread_mutex_unlock(&e->lock);
}

void events_destroy(struct events *e)
{
	if (!e)
		return;
	if (e->sink.fd >= 0) {
		if (sink_flush(&e->sink))
			sink_report(&e->sink, clock_now_ns() - e->start_ns);
		sink_flush(&e->sink);
		close(e->sink.fd);
	}
	while (e->listeners) {
		struct listener *l = e->listeners;

		e->listeners = l->next;
		free(l);
	}
	pthread_mutex_destroy(&e->lock);
	free(e);
}
