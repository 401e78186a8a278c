/*
 * test/sink: see sink.h.
 *
 * Theory of operation. What waits is a list of pieces, each of one tag, so that the credit goes back to the stream
 * whose bytes have left. Small writes of one tag share a piece.
 *
 * A descriptor that the process was started with is shared with others, so its O_NONBLOCK stays as it is: a pipe
 * or terminal is opened once more, a socket is written with MSG_DONTWAIT, and where neither goes fd_now.h has what
 * does not wait. A regular file is always ready, and epoll refuses it.
 */
#include "vmm/test/streams/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/core/fd_now.h"
#include "vmm/core/fd_stat.h"
#include "vmm/core/log.h"
#include "vmm/core/parse.h"

/* Of a piece: a guest that writes single bytes, to two streams in turn, makes a piece of each. */
#define PIECE_MIN 64u
#define PIECE_MAX (16u << 10)

struct piece {
	struct piece *next;
	unsigned tag;
	size_t size, len, at; /* at: bytes that have left */
	size_t credit, given;
	uint8_t bytes[];
};

struct test_sink {
	struct test_sink *next;
	struct test_sinks *home;
	char *what; /* begins every message */
	int fd;
	bool own;			      /* fd is ours to close */
	enum { WRITE_, SEND, WRITE_NOW } how; /* WRITE_: non-blocking, or a regular file */
	bool terminal, left_edge;
	dev_t dev;
	ino_t ino;
	int error;
	struct piece *first, *last;
	size_t waiting; /* bytes */
	struct loop_watch *watch;
	bool full; /* waits for EPOLLOUT */
};

/* --- opening ------------------------------------------------------------------------------- */

int test_sink_descriptor(const char *path)
{
	static const char *const folders[] = { "/dev/fd/", "/proc/self/fd/" };
	uint64_t n;

	if (!strcmp(path, "-") || !strcmp(path, "/dev/stdout"))
		return STDOUT_FILENO;
	if (!strcmp(path, "/dev/stderr"))
		return STDERR_FILENO;
	for (size_t i = 0; i < 2; i++) {
		size_t len = strlen(folders[i]);

		if (!strncmp(path, folders[i], len) && !parse_u64(path + len, &n) && n <= INT32_MAX)
			return (int)n;
	}
	return -1;
}

static struct test_sink *find(const struct test_sinks *sinks, const struct stat *st)
{
	struct test_sink *s = sinks->first;

	while (s && (s->dev != st->st_dev || s->ino != st->st_ino))
		s = s->next;
	return s;
}

/* An open descriptor of the process. */
static int open_descriptor(struct test_sink *s, int fd, struct stat *st, struct err *err)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fd_stat(fd, st))
		return err_set(err, EBADF,
			       "%s: descriptor %d is not open; open it in the shell, by %d>FILE",
			       s->what, fd, fd);
	if ((flags & O_ACCMODE) == O_RDONLY)
		return err_set(err, EBADF, "%s: descriptor %d is open for reading only", s->what,
			       fd);
	s->fd = fd;
	if (S_ISSOCK(st->st_mode)) {
		s->how = SEND;
	} else if (!S_ISREG(st->st_mode)) {
		int again = fd_open_again(fd, O_WRONLY | O_NONBLOCK);

		s->how = again < 0 ? WRITE_NOW : WRITE_;
		s->own = again >= 0;
		if (s->own)
			s->fd = again;
	}
	return 0;
}

static int open_file(struct test_sink *s, const char *path, struct stat *st, struct err *err)
{
	s->fd = open(path, O_WRONLY | O_CREAT | O_NOCTTY | O_CLOEXEC, 0666);
	if (s->fd < 0)
		return err_sys(err, errno, "%s", s->what);
	s->own = true;
	/* It waits for the reader of a FIFO when it opens it, and never later. */
	if (fd_stat(s->fd, st) || fcntl(s->fd, F_SETFL, O_NONBLOCK))
		return err_sys(err, errno, "%s", s->what);
	return 0;
}

static void free_sink(struct test_sink *s)
{
	loop_unwatch(s->watch);
	while (s->first) {
		struct piece *p = s->first;

		s->first = p->next;
		free(p);
	}
	if (s->own)
		close(s->fd);
	free(s->what);
	free(s);
}

int test_sinks_open(struct test_sinks *sinks, const char *what, const char *path,
		    struct test_sink **out, struct err *err)
{
	struct test_sink *s = calloc(1, sizeof(*s));
	int rc, fd = test_sink_descriptor(path);
	struct test_sink *other;
	struct stat st;

	*out = NULL;
	if (!s)
		return err_sys(err, ENOMEM, "%s", what);
	s->home = sinks;
	s->left_edge = true;
	s->what = strdup(what);
	if (!s->what) {
		free(s);
		return err_sys(err, ENOMEM, "%s", what);
	}
	rc = fd >= 0 ? open_descriptor(s, fd, &st, err) : open_file(s, path, &st, err);
	other = rc ? NULL : find(sinks, &st);
	if (!rc && !other && fd < 0 && S_ISREG(st.st_mode) && ftruncate(s->fd, 0))
		rc = err_sys(err, errno, "%s", s->what);
	if (rc || other) {
		free_sink(s);
		*out = other;
		return rc;
	}
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	s->terminal = isatty(s->fd);
	s->next = sinks->first;
	sinks->first = s;
	*out = s;
	return 0;
}

void test_sinks_close(struct test_sinks *sinks)
{
	while (sinks->first) {
		struct test_sink *s = sinks->first;

		sinks->first = s->next;
		free_sink(s);
	}
}

struct test_sink *test_sinks_next(const struct test_sinks *sinks, const struct test_sink *sink)
{
	return sink ? sink->next : sinks->first;
}

/* --- what waits ------------------------------------------------------------------------------ */

bool test_sink_is_terminal(const struct test_sink *sink)
{
	return sink->terminal;
}

bool test_sink_at_left(const struct test_sink *sink)
{
	return sink->left_edge;
}

int test_sink_error(const struct test_sink *sink)
{
	return sink->error;
}

size_t test_sinks_waiting(const struct test_sinks *sinks)
{
	size_t n = 0;

	for (const struct test_sink *s = sinks->first; s; s = s->next)
		n += s->waiting;
	return n;
}

/* A piece of this tag with room, the larger the more of this tag waits. NULL: no memory. */
static struct piece *piece_for(struct test_sink *s, unsigned tag, size_t len)
{
	struct piece *p = s->last;
	size_t size = p && p->tag == tag ? p->size * 2 : PIECE_MIN;

	if (p && p->tag == tag && p->len < p->size)
		return p;
	size = size > len ? size : len;
	size = size < PIECE_MAX ? size : PIECE_MAX;
	p = malloc(sizeof(*p) + size);
	if (!p)
		return NULL;
	*p = (struct piece){ .tag = tag, .size = size };
	if (s->last)
		s->last->next = p;
	else
		s->first = p;
	s->last = p;
	return p;
}

int test_sink_put(struct test_sink *sink, unsigned tag, const void *bytes, size_t len,
		  size_t credit)
{
	const uint8_t *from = bytes;

	while (len && !sink->error) {
		struct piece *p = piece_for(sink, tag, len);
		size_t n, c;

		if (!p) {
			/* No hole: what comes after lost bytes is lost, too, and told. */
			test_sink_drop(sink, ENOMEM);
			break;
		}
		n = p->size - p->len < len ? p->size - p->len : len;
		c = n == len ? credit : credit < n ? credit : n;
		memcpy(p->bytes + p->len, from, n);
		p->len += n;
		p->credit += c;
		sink->waiting += n;
		sink->left_edge = from[n - 1] == '\n';
		from += n;
		len -= n;
		credit -= c;
	}
	if (sink->error && credit)
		sink->home->owner.left(sink->home->owner.opaque, tag, credit, sink->error);
	return sink->error;
}

/* --- writing ---------------------------------------------------------------------------------- */

static ssize_t write_out(const struct test_sink *s, const uint8_t *buf, size_t len)
{
	ssize_t n;

	do {
		if (s->how == SEND)
			n = send(s->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		else if (s->how == WRITE_NOW)
			n = fd_write_now(s->fd, buf, len);
		else
			n = write(s->fd, buf, len);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n ? n : -EIO;
}

static void on_writable(void *opaque, uint32_t events)
{
	struct test_sink *s = opaque;

	s->full = false;
	loop_watch_events(s->watch, 0);
	s->home->owner.writable(s->home->owner.opaque);
}

/* The place takes nothing now. */
static void wait_for_room(struct test_sink *s)
{
	int rc = 0;

	if (s->home->late)
		rc = -ETIMEDOUT;
	else if (!s->watch)
		rc = loop_watch_fd(s->home->loop, s->fd, EPOLLOUT, on_writable, s, &s->watch);
	else
		loop_watch_events(s->watch, EPOLLOUT);
	s->full = !rc;
	if (rc)
		test_sink_drop(s, -rc);
}

/* n bytes of the first piece have left. */
static void advance(struct test_sink *s, size_t n)
{
	struct piece *p = s->first;
	size_t due;

	p->at += n;
	s->waiting -= n;
	due = p->at == p->len ? p->credit : p->credit * p->at / p->len;
	if (due > p->given)
		s->home->owner.left(s->home->owner.opaque, p->tag, due - p->given, 0);
	p->given = due > p->given ? due : p->given;
	if (p->at < p->len)
		return;
	s->first = p->next;
	if (!s->first)
		s->last = NULL;
	free(p);
}

void test_sink_push(struct test_sink *sink)
{
	while (sink->first && !sink->full) {
		struct piece *p = sink->first;
		ssize_t n = write_out(sink, p->bytes + p->at, p->len - p->at);

		if (n > 0)
			advance(sink, (size_t)n);
		else if (n == -EAGAIN)
			wait_for_room(sink);
		else
			test_sink_drop(sink, (int)-n);
	}
}

bool test_sink_reader_left(int error)
{
	return error == EPIPE || error == ECONNRESET;
}

void test_sink_drop(struct test_sink *sink, int error)
{
	if (!sink->error && !test_sink_reader_left(error) && error != ETIMEDOUT)
		log_always(LOG_ERROR, "%s: %s; output is lost from here on", sink->what,
			   strerror(error));
	if (!sink->error)
		sink->error = error;
	while (sink->first) {
		struct piece *p = sink->first;

		sink->first = p->next;
		sink->waiting -= p->len - p->at;
		if (p->credit > p->given)
			sink->home->owner.left(sink->home->owner.opaque, p->tag,
					       p->credit - p->given, sink->error);
		free(p);
	}
	sink->last = NULL;
	if (sink->watch)
		loop_watch_events(sink->watch, 0);
	sink->full = false;
}

void test_sinks_hurry(struct test_sinks *sinks)
{
	sinks->late = true;
	for (struct test_sink *s = sinks->first; s; s = s->next)
		if (s->full)
			test_sink_drop(s, ETIMEDOUT);
}
