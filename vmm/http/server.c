/*
 * server: the listening socket, the limits, and time.
 *
 * A new client finds a place: at the limit of connections, or of this process's descriptors, the
 * connection that has been idle for longest goes (one that only lingers goes before it). If none is
 * idle, the new one is refused with 503. If accept fails, the server leaves the socket alone for
 * ACCEPT_PAUSE_MS: the clients wait in its queue, and the loop does not spin.
 *
 * One timer serves all deadlines. It fires for the earliest that was set; deadlines that
 * moved since are found by a look at all connections.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/http/http_impl.h"

#define ACCEPTS 16u /* most accepts in one turn of the loop */
#define ACCEPT_PAUSE_MS 100u
#define STALL_MS 200u /* a client that has not read for so long holds up no drain */
#define SLOTS (HTTP_CONNECTIONS + HTTP_LINGERING)

unsigned http_patience_ms = 30000;

/* --- new connections -------------------------------------------------------------------------- */

/* Frees the oldest lingering connection. */
static bool free_lingering(struct http_server *s)
{
	for (struct http_conn *c = s->first; c; c = c->next) {
		if (!c->lingering)
			continue;
		http_conn_free(c);
		return true;
	}
	return false;
}

/* Frees the connection that has been idle for longest. */
static bool free_idle(struct http_server *s)
{
	for (struct http_conn *c = s->first; c; c = c->next) {
		if (!http_conn_is_idle(c))
			continue;
		http_conn_free(c);
		return true;
	}
	return false;
}

static void pause_accepting(struct http_server *s)
{
	loop_watch_events(s->listen, 0);
	s->accept_ns = clock_now_ns() + ACCEPT_PAUSE_MS * 1000000ull;
	http_wake_at(s, s->accept_ns);
}

/* Accepts one client. Returns false if there is none, or no way to accept it. */
static bool accept_one(struct http_server *s)
{
	int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct http_conn *c;
	bool full;

	if (fd < 0) {
		if (errno == EAGAIN)
			return false;
		if (errno == EINTR || errno == ECONNABORTED)
			return true;
		if (errno == EMFILE && (free_lingering(s) || free_idle(s)))
			return true;
		pause_accepting(s);
		return false;
	}
	full = s->nconns - s->nlingering >= HTTP_CONNECTIONS && !free_idle(s);
	if (s->nconns >= SLOTS && !free_lingering(s)) {
		/* A client of this process that holds so many connections reads no answer. */
		close(fd);
		return true;
	}
	c = http_conn_new(s, fd);
	if (c && full)
		http_conn_refuse(c, "too many connections, and none of them is idle");
	return true;
}

static void on_listen(void *opaque, uint32_t events)
{
	struct http_server *s = opaque;
	unsigned left = ACCEPTS;

	while (left && accept_one(s))
		left--;
}

/* --- answers and time ------------------------------------------------------------------------- */

/* Delivers what other threads, and handlers of other exchanges, have answered. */
static void on_mail(void *opaque)
{
	struct http_server *s = opaque;
	struct http_exchange *x, *next;
	struct http_stream *st;

	for (x = http_mail_take(s->mail); x; x = next) {
		next = x->next;
		http_conn_answer(x);
	}
	while ((st = http_mail_take_stream(s->mail))) {
		if (st->conn)
			http_conn_go_on(st->conn);
		http_stream_unref(st);
	}
}

static void on_time(void *opaque)
{
	struct http_server *s = opaque;
	uint64_t now = clock_now_ns(), soonest = 0;
	struct http_conn *c, *next;

	s->timer_ns = 0;
	if (s->accept_ns && s->accept_ns <= now) {
		s->accept_ns = 0;
		loop_watch_events(s->listen, EPOLLIN);
	}
	soonest = s->accept_ns;
	for (c = s->first; c; c = next) {
		next = c->next;
		if (!c->deadline_ns)
			continue;
		if (c->deadline_ns <= now)
			http_conn_free(c);
		else if (!soonest || c->deadline_ns < soonest)
			soonest = c->deadline_ns;
	}
	if (soonest)
		http_wake_at(s, soonest);
}

/* --- its life -------------------------------------------------------------------------------- */

int http_server_create(struct loop *loop, int listen_fd, const char *server_header,
		       const struct http_handler *handler, struct http_server **out,
		       struct err *err)
{
	struct http_server *s = calloc(1, sizeof(*s));
	int rc, flags;

	*out = NULL;
	if (!s)
		return err_sys(err, ENOMEM, "HTTP server");
	s->loop = loop;
	s->handler = *handler;
	s->listen_fd = listen_fd;
	s->event_fd = -1;
	flags = fcntl(listen_fd, F_GETFL);
	if (flags < 0 || fcntl(listen_fd, F_SETFL, flags | O_NONBLOCK)) {
		rc = -errno;
		goto fail;
	}
	rc = loop_watch_event(loop, on_mail, s, &s->event, &s->event_fd);
	if (rc)
		goto fail;
	rc = -ENOMEM;
	s->mail = http_mail_new(s->event_fd, server_header);
	if (!s->mail)
		goto fail;
	rc = loop_watch_timer(loop, on_time, s, &s->timer);
	if (rc)
		goto fail;
	rc = loop_watch_fd(loop, listen_fd, EPOLLIN, on_listen, s, &s->listen);
	if (rc)
		goto fail;
	*out = s;
	return 0;
fail:
	rc = err_sys(err, -rc, "HTTP server");
	http_server_destroy(s);
	return rc;
}

void http_server_destroy(struct http_server *s)
{
	if (!s)
		return;
	BUG_ON(s->mail && s->mail->current);
	s->handler.closed = NULL;
	loop_unwatch(s->listen);
	while (s->first)
		http_conn_free(s->first);
	/* The mail box closes before its eventfd. */
	http_mail_close(s->mail);
	loop_unwatch(s->timer);
	loop_unwatch(s->event);
	free(s);
}

/* --- the end ----------------------------------------------------------------------------------- */

/* Serves what has arrived, also on connections that wait to be accepted. */
static void read_last(struct http_server *s)
{
	struct http_conn *all[SLOTS];
	unsigned n = 0;

	for (unsigned left = SLOTS; s->listen && left && accept_one(s); left--)
		;
	loop_unwatch(s->listen);
	s->listen = NULL;
	for (struct http_conn *c = s->first; c; c = c->next)
		all[n++] = c;
	/* A connection frees no other one. */
	for (unsigned i = 0; i < n; i++)
		http_conn_read_all(all[i]);
}

/* Until when the drain waits for c. 0: c waits for nothing, or does not read what it was sent. */
static uint64_t waits_until(const struct http_conn *c, uint64_t now, uint64_t end)
{
	uint64_t stalls = c->deadline_ns - http_patience_ms * 1000000ull + STALL_MS * 1000000ull;

	if (c->exchange)
		return end;
	if (!http_conn_is_sending(c) || stalls <= now)
		return 0;
	return stalls < end ? stalls : end;
}

/* Waits for room in the sockets, for answers, and for clients that give up. */
static void wait_once(struct http_server *s, struct http_conn *const *conn, unsigned n, int ms)
{
	struct pollfd fds[SLOTS + 1];

	for (unsigned i = 0; i < n; i++)
		fds[i] = (struct pollfd){ .fd = conn[i]->fd,
					  .events = http_conn_is_sending(conn[i]) ? POLLOUT : 0 };
	fds[n] = (struct pollfd){ .fd = s->event_fd, .events = POLLIN };
	poll(fds, n + 1, ms);
	for (unsigned i = 0; i < n; i++) {
		if (fds[i].revents & (POLLHUP | POLLERR))
			http_conn_free(conn[i]);
		else if (fds[i].revents)
			http_conn_go_on(conn[i]);
	}
}

/* Answers what the handler has not answered. Returns true if nothing is left unsent. */
static bool end_all(struct http_server *s)
{
	struct http_conn *c, *next;
	bool sent = true;

	for (c = s->first; c; c = next) {
		next = c->next;
		sent &= !c->exchange && !http_conn_is_sending(c);
		if (c->exchange)
			http_conn_abandon(c, "the process ends before it is done");
	}
	return sent;
}

bool http_server_drain(struct http_server *s, unsigned deadline_ms)
{
	uint64_t now = clock_now_ns(), end = now + deadline_ms * 1000000ull, count;

	BUG_ON(s->mail->current);
	read_last(s);
	for (;;) {
		struct http_conn *waiting[SLOTS];
		uint64_t soonest = end;
		unsigned n = 0;

		(void)!read(s->event_fd, &count, sizeof(count));
		on_mail(s);
		now = clock_now_ns();
		for (struct http_conn *c = s->first; c; c = c->next) {
			uint64_t until = waits_until(c, now, end);

			if (!until)
				continue;
			waiting[n++] = c;
			soonest = until < soonest ? until : soonest;
		}
		if (!n || now >= end)
			return end_all(s);
		wait_once(s, waiting, n, (int)((soonest - now) / 1000000) + 1);
	}
}
