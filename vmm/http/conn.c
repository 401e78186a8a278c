/*
 * conn: one connection: requests in, answers out.
 *
 * Theory of operation. A connection is in one of these states; the events that it waits for follow
 * from the state (settle):
 *
 *   reading     no exchange, nothing unsent: bytes go to the parser as they come
 *   handled     a request is complete and not answered: nothing is read, so pipelined requests wait
 *               in the socket (those that came with the last read: in rest)
 *   sending     the socket takes no more of an answer: nothing is read either
 *   streaming   the answer has no end; what the client sends is thrown away
 *   lingering   the last answer is sent and our end is shut down. What the client still sends
 *               is thrown away for a second, so that it can read the answer before its own
 *               writes fail
 *
 * http_conn_go_on moves a connection through as many states as it can. Functions do not free the
 * connection that they work on: they set broken, and settle, which each entry from outside calls
 * last, frees it. A handler may answer other exchanges, but their answers wait in the mail, so no
 * connection's functions run inside another's.
 *
 * Half a request, and an answer that does not get sent, have a deadline, which moves with every
 * byte. An idle connection has none, and no memory but its struct. What it costs at most is
 * charged to the server's limits while a request is incomplete.
 *
 * An end of the stream from the client (it may have closed only its sending side) does not matter
 * while a request is handled: it is seen when reading goes on. A hang-up is the end.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/core/log.h"
#include "vmm/http/http_impl.h"

/* Wait for nothing but a hang-up, which epoll always reports, and report it once. */
#define ONLY_HANGUP ((uint32_t)EPOLLHUP | EPOLLET)
#define READS 512u /* most reads of http_conn_read_all: more than the longest request has */

/* --- the server's books ----------------------------------------------------------------------- */

static void link_last(struct http_conn *c)
{
	struct http_server *s = c->server;

	c->next = NULL;
	c->prev = s->last;
	*(s->last ? &s->last->next : &s->first) = c;
	s->last = c;
}

static void unlink_conn(struct http_conn *c)
{
	struct http_server *s = c->server;

	*(c->prev ? &c->prev->next : &s->first) = c->next;
	*(c->next ? &c->next->prev : &s->last) = c->prev;
}

/* Charges what the connection holds now. */
static void charge(struct http_conn *c)
{
	struct http_server *s = c->server;
	size_t held = http_parse_held_bytes(&c->parse);

	s->held += held - c->held;
	c->held = held;
	s->held_fds += c->fds.n - c->held_fds;
	c->held_fds = c->fds.n;
}

static void tell_closed(struct http_conn *c)
{
	const struct http_handler *h = &c->server->handler;

	if (!c->told && h->closed)
		h->closed(h->opaque, c->id);
	c->told = true;
}

/* --- sending ------------------------------------------------------------------------------------- */

static void flush(struct http_conn *c)
{
	while (c->out_sent < c->out_bytes) {
		ssize_t n = send(c->fd, c->out + c->out_sent, c->out_bytes - c->out_sent,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			c->broken |= errno != EAGAIN;
			return;
		}
		c->out_sent += (size_t)n;
		c->progress = true;
	}
	free(c->out);
	c->out = NULL;
	c->out_bytes = c->out_sent = 0;
}

/* Sends bytes in malloc's memory, or as much as the socket takes, behind what waits. */
static void put(struct http_conn *c, char *bytes, size_t n)
{
	char *all;

	if (!bytes) {
		c->broken = true;
		return;
	}
	if (c->out) {
		all = realloc(c->out, c->out_bytes + n);
		if (all) {
			memcpy(all + c->out_bytes, bytes, n);
			c->out = all;
			c->out_bytes += n;
		}
		c->broken |= !all;
		free(bytes);
	} else {
		c->out = bytes;
		c->out_bytes = n;
	}
	flush(c);
}

/* Forgets the request at hand and what followed it. */
static void forget(struct http_conn *c)
{
	http_fds_close(&c->fds);
	http_parse_next(&c->parse);
	free(c->rest);
	c->rest = NULL;
	c->rest_bytes = 0;
	charge(c);
}

/* Answers on the server's own account, and ends the connection. why: without '"' and '\'. */
static void refuse(struct http_conn *c, int status, const char *why)
{
	char body[192];
	size_t bytes;
	int n = snprintf(body, sizeof(body), "[\"The request cannot be handled\",\"%s\"]", why);
	char *answer = http_answer(c->server->mail, status, body, (size_t)n, true, false, &bytes);

	c->closing = true;
	forget(c);
	put(c, answer, bytes);
}

void http_conn_refuse(struct http_conn *c, const char *why)
{
	refuse(c, 503, why);
	http_conn_go_on(c);
}

void http_conn_abandon(struct http_conn *c, const char *why)
{
	c->exchange->conn = NULL;
	c->exchange = NULL;
	refuse(c, 500, why);
	http_conn_go_on(c);
}

/* --- a complete request ------------------------------------------------------------------------- */

static void close_left_fds(struct http_conn *c)
{
	bool excess = c->fds.excess;
	unsigned left = http_fds_close(&c->fds);

	if (excess)
		log_put(LOG_WARN, "http: %s %s: more than %u descriptors; the others are closed",
			c->parse.method, c->parse.path, HTTP_FDS_MAX);
	if (left)
		log_put(LOG_WARN, "http: %s %s: %u descriptors were not used and are closed",
			c->parse.method, c->parse.path, left);
}

/* Takes the answer out of x. */
static void take_answer(struct http_conn *c, struct http_exchange *x)
{
	char *answer = x->answer;

	c->exchange = NULL;
	c->closing |= x->close;
	c->stream = x->stream;
	if (c->stream)
		c->stream->conn = c;
	x->answer = NULL;
	x->stream = NULL;
	put(c, answer, x->answer_bytes);
	http_exchange_free(x);
}

/* Gives the complete request to the handler. */
static void handle(struct http_conn *c)
{
	struct http_server *s = c->server;
	struct http_parse *p = &c->parse;
	struct http_exchange *x;
	struct http_request req = { .method = p->method,
				    .path = p->path,
				    .query = p->query,
				    .body = p->body,
				    .body_bytes = p->body_bytes,
				    .fd = c->fds.fd,
				    .nfds = c->fds.n,
				    .connection = c->id };

	if (c->fds.lost) {
		refuse(c, 500, "its descriptors were lost: this process has too many open files");
		return;
	}
	x = http_exchange_new(s->mail, !p->keep_alive, !strcmp(p->method, "HEAD"));
	if (!x) {
		refuse(c, 500, "out of memory");
		return;
	}
	c->exchange = x;
	x->conn = c;
	http_exchange_enter(s->mail, x);
	s->handler.request(s->handler.opaque, x, &req);
	http_exchange_enter(s->mail, NULL);
	close_left_fds(c);
	http_parse_next(p);
	charge(c);
	if (x->here)
		take_answer(c, x);
}

/* --- receiving --------------------------------------------------------------------------------- */

/* Returns the connection that holds something for its request and has been still for longest. */
static struct http_conn *stillest(const struct http_conn *but)
{
	for (struct http_conn *c = but->server->first; c; c = c->next)
		if (c != but && !c->closing && (c->held || c->held_fds))
			return c;
	return NULL;
}

/*
 * Incomplete requests hold only so much altogether. If c makes it too much, the one that has been
 * still for longest gives way.
 */
static void check_held(struct http_conn *c)
{
	struct http_server *s = c->server;

	charge(c);
	while (s->held > HTTP_HELD_BYTES || s->held_fds > HTTP_FDS_HELD) {
		struct http_conn *other = stillest(c);

		if (!other) {
			refuse(c, 503, "it holds too much, and is not complete");
			return;
		}
		refuse(other, 503, "it was incomplete for too long while others needed its place");
		/* Its own turn is not now: the timer ends it. */
		other->deadline_ns = clock_now_ns();
		http_wake_at(s, other->deadline_ns);
	}
}

/*
 * Gives bytes to the parser as long as no answer is due. in_socket: they lie there, too. Returns how
 * many of them are done with.
 */
static size_t feed(struct http_conn *c, char *buf, size_t bytes, bool in_socket)
{
	static const char go_on[] = "HTTP/1.1 100 \r\n\r\n";
	size_t at = 0, used;

	while (at < bytes && !c->exchange && !c->stream && !c->out && !c->closing && !c->broken) {
		enum http_parse_result result = http_parse_feed(&c->parse, buf + at, bytes - at,
								&used);

		if (in_socket && http_take(c->fd, buf + at, used, &c->fds)) {
			c->broken = true;
			break;
		}
		at += used;
		switch (result) {
		case HTTP_PARSE_MORE:
			check_held(c);
			break;
		case HTTP_PARSE_CONTINUE:
			put(c, strdup(go_on), sizeof(go_on) - 1);
			break;
		case HTTP_PARSE_DONE:
			handle(c);
			break;
		case HTTP_PARSE_BAD:
			refuse(c, c->parse.status, c->parse.error);
			break;
		}
	}
	return at;
}

/* Keeps bytes for later, unless none will be read any more. */
static void keep(struct http_conn *c, const char *buf, size_t bytes)
{
	if (!bytes || c->closing || c->stream || c->broken)
		return;
	c->rest = malloc(bytes);
	if (!c->rest) {
		c->broken = true;
		return;
	}
	memcpy(c->rest, buf, bytes);
	c->rest_bytes = bytes;
}

static void feed_rest(struct http_conn *c)
{
	char *rest = c->rest;
	size_t bytes = c->rest_bytes, used;

	c->rest = NULL;
	c->rest_bytes = 0;
	used = feed(c, rest, bytes, false);
	keep(c, rest + used, bytes - used);
	free(rest);
}

static void end_of_input(struct http_conn *c)
{
	c->eof = true;
	if (c->stream)
		return;
	if (c->lingering || http_parse_idle(&c->parse))
		c->broken = true;
	else
		refuse(c, 400, "the connection ended inside the request");
}

/* Throws away what comes; the kernel closes descriptors that come with it. */
static ssize_t skip(struct http_conn *c)
{
	ssize_t n = recv(c->fd, c->server->buf, HTTP_READ_BYTES, MSG_DONTWAIT);

	return n < 0 ? -errno : n;
}

/* Reads once. Returns false if there was nothing. */
static bool read_once(struct http_conn *c)
{
	bool marked = false, skips = c->lingering || c->stream;
	char *buf = c->server->buf;
	ssize_t n = skips ? skip(c) : http_look(c->fd, buf, HTTP_READ_BYTES, &marked);
	size_t used;

	if (n < 0) {
		c->broken |= n != -EAGAIN && n != -EINTR;
		return false;
	}
	if (!n) {
		end_of_input(c);
		return false;
	}
	if (skips)
		return true;
	c->progress = true;
	used = feed(c, buf, (size_t)n, marked);
	if (!marked)
		keep(c, buf + used, (size_t)n - used);
	return true;
}

/* --- from state to state --------------------------------------------------------------------- */

static bool is_reading(const struct http_conn *c)
{
	return !c->out && !c->exchange && !c->stream && !c->closing && !c->eof && !c->broken;
}

/* Everything is sent. The client may read it before the connection goes. */
static void linger(struct http_conn *c)
{
	if (c->lingering)
		return;
	if (c->eof) {
		c->broken = true;
		return;
	}
	shutdown(c->fd, SHUT_WR);
	c->lingering = true;
	c->server->nlingering++;
	c->deadline_ns = clock_now_ns() + HTTP_LINGER_MS * 1000000ull;
	http_wake_at(c->server, c->deadline_ns);
	tell_closed(c);
}

/* Returns false if the stream waits, or has lost its client. */
static bool stream_on(struct http_conn *c, bool *left)
{
	bool ended;

	if (!http_stream_flush(c->stream, c->fd, &c->progress, left, &ended)) {
		c->broken = true;
		return false;
	}
	if (!ended || *left)
		return false;
	c->stream->conn = NULL;
	http_stream_unref(c->stream);
	c->stream = NULL;
	return true;
}

bool http_conn_is_sending(const struct http_conn *c)
{
	return c->out || c->stream_left;
}

static uint32_t wanted_events(const struct http_conn *c)
{
	uint32_t events = http_conn_is_sending(c) ? EPOLLOUT : 0;

	if (is_reading(c) || ((c->stream || c->lingering) && !c->eof))
		events |= EPOLLIN;
	return events ? events : ONLY_HANGUP;
}

static void set_deadline(struct http_conn *c)
{
	bool waits = http_conn_is_sending(c) || (!c->exchange && !http_parse_idle(&c->parse));

	if (c->lingering)
		return;
	if (!waits) {
		c->deadline_ns = 0;
	} else if (c->progress || !c->deadline_ns) {
		c->deadline_ns = clock_now_ns() + http_patience_ms * 1000000ull;
		http_wake_at(c->server, c->deadline_ns);
	}
}

/* The end of each entry from outside: c may be gone afterwards. */
static void settle(struct http_conn *c)
{
	uint32_t events;

	if (c->broken) {
		http_conn_free(c);
		return;
	}
	events = wanted_events(c);
	if (events != c->events)
		loop_watch_events(c->watch, events);
	c->events = events;
	set_deadline(c);
	if (c->progress) {
		unlink_conn(c);
		link_last(c);
	}
	c->progress = false;
}

static void go_on(struct http_conn *c)
{
	for (;;) {
		if (c->out)
			flush(c);
		if (c->broken || c->out)
			return;
		if (c->stream && !stream_on(c, &c->stream_left))
			return;
		if (c->exchange)
			return;
		if (c->closing) {
			linger(c);
			return;
		}
		if (!c->rest)
			return;
		feed_rest(c);
	}
}

void http_conn_go_on(struct http_conn *c)
{
	go_on(c);
	settle(c);
}

static void on_event(void *opaque, uint32_t events)
{
	struct http_conn *c = opaque;

	if (events & EPOLLIN)
		read_once(c);
	else if (events & (EPOLLHUP | EPOLLERR))
		c->broken = true;
	if (!c->broken)
		go_on(c);
	settle(c);
}

void http_conn_answer(struct http_exchange *x)
{
	struct http_conn *c = x->conn;

	if (!c) {
		http_exchange_free(x);
		return;
	}
	take_answer(c, x);
	http_conn_go_on(c);
}

void http_conn_read_all(struct http_conn *c)
{
	unsigned left = READS;

	while (is_reading(c) && left-- && read_once(c))
		go_on(c);
	if (!c->broken)
		go_on(c);
	settle(c);
}

bool http_conn_is_idle(const struct http_conn *c)
{
	char byte;

	return is_reading(c) && !c->rest && http_parse_idle(&c->parse) &&
	       recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
}

/* --- its life ------------------------------------------------------------------------------------- */

struct http_conn *http_conn_new(struct http_server *s, int fd)
{
	struct http_conn *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return NULL;
	}
	c->server = s;
	c->fd = fd;
	c->id = ++s->next_id;
	http_parse_init(&c->parse);
	c->events = EPOLLIN;
	if (loop_watch_fd(s->loop, fd, c->events, on_event, c, &c->watch)) {
		close(fd);
		free(c);
		return NULL;
	}
	link_last(c);
	s->nconns++;
	return c;
}

void http_conn_free(struct http_conn *c)
{
	struct http_server *s = c->server;

	loop_unwatch(c->watch);
	unlink_conn(c);
	s->nconns--;
	s->nlingering -= c->lingering;
	if (c->exchange)
		c->exchange->conn = NULL;
	forget(c);
	http_parse_clear(&c->parse);
	free(c->out);
	close(c->fd);
	if (c->stream)
		http_stream_lose(c->stream);
	tell_closed(c);
	free(c);
}
