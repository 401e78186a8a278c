/*
 * mail: answers and streams, from any thread to the loop's.
 *
 * An exchange belongs to its handler until it is answered, and then to the list here, from which
 * the loop's thread takes it. It points to its connection, and only the loop's thread follows or
 * clears that pointer. So neither the end of a connection nor that of the server waits for a
 * handler: the answer that comes later finds no connection, or no server, and is dropped.
 *
 * An exchange that its handler answers before it returns does not go through the list: conn.c asks
 * for it at once. The other answers wake the loop by an eventfd.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/http/http_impl.h"

#define STREAM_FIRST_BYTES 1024u

struct http_mail *http_mail_new(int event_fd, const char *server_header)
{
	struct http_mail *mail = calloc(1, sizeof(*mail));

	if (!mail)
		return NULL;
	pthread_mutex_init(&mail->lock, NULL);
	mail->refs = 1;
	mail->event_fd = event_fd;
	mail->last = &mail->first;
	snprintf(mail->server_header, sizeof(mail->server_header), "%s", server_header);
	return mail;
}

/* Drops one reference; the caller holds the lock, which is released. */
static void unlock_unref(struct http_mail *mail)
{
	bool last = !--mail->refs;

	pthread_mutex_unlock(&mail->lock);
	if (!last)
		return;
	pthread_mutex_destroy(&mail->lock);
	free(mail);
}

/* Under the lock. */
static void wake(struct http_mail *mail)
{
	uint64_t one = 1;

	if (!mail->closed)
		(void)!write(mail->event_fd, &one, sizeof(one));
}

struct http_exchange *http_mail_take(struct http_mail *mail)
{
	struct http_exchange *list;

	pthread_mutex_lock(&mail->lock);
	list = mail->first;
	mail->first = NULL;
	mail->last = &mail->first;
	pthread_mutex_unlock(&mail->lock);
	return list;
}

struct http_stream *http_mail_take_stream(struct http_mail *mail)
{
	struct http_stream *st;

	pthread_mutex_lock(&mail->lock);
	st = mail->streams;
	if (st) {
		mail->streams = st->next;
		st->queued = false;
	}
	pthread_mutex_unlock(&mail->lock);
	return st;
}

void http_mail_close(struct http_mail *mail)
{
	struct http_exchange *x, *next;
	struct http_stream *st;

	if (!mail)
		return;
	for (x = http_mail_take(mail); x; x = next) {
		next = x->next;
		http_exchange_free(x);
	}
	pthread_mutex_lock(&mail->lock);
	mail->closed = true;
	pthread_mutex_unlock(&mail->lock);
	/* What came in between. */
	for (x = http_mail_take(mail); x; x = next) {
		next = x->next;
		http_exchange_free(x);
	}
	while ((st = http_mail_take_stream(mail)))
		http_stream_unref(st);
	pthread_mutex_lock(&mail->lock);
	unlock_unref(mail);
}

/* --- exchanges ----------------------------------------------------------------------------- */

struct http_exchange *http_exchange_new(struct http_mail *mail, bool close, bool head_only)
{
	struct http_exchange *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->mail = mail;
	x->close = close;
	x->head_only = head_only;
	pthread_mutex_lock(&mail->lock);
	mail->refs++;
	pthread_mutex_unlock(&mail->lock);
	return x;
}

void http_exchange_free(struct http_exchange *x)
{
	struct http_mail *mail = x->mail;

	if (x->stream)
		http_stream_lose(x->stream);
	free(x->answer);
	free(x);
	pthread_mutex_lock(&mail->lock);
	unlock_unref(mail);
}

void http_exchange_enter(struct http_mail *mail, struct http_exchange *x)
{
	pthread_mutex_lock(&mail->lock);
	mail->current = x;
	mail->thread = pthread_self();
	pthread_mutex_unlock(&mail->lock);
}

char *http_answer(const struct http_mail *mail, int status, const char *body, size_t body_bytes,
		  bool close, bool head_only, size_t *bytes)
{
	char head[256];
	int n = snprintf(head, sizeof(head), "HTTP/1.1 %d \r\nServer: %s\r\nConnection: %s\r\n",
			 status, mail->server_header, close ? "close" : "keep-alive");
	size_t tail = status == 204 || head_only ? 0 : body_bytes;
	char *answer;

	if (status != 204)
		n += snprintf(head + n, sizeof(head) - (size_t)n,
			      "Content-Type: application/json\r\nContent-Length: %zu\r\n",
			      body_bytes);
	n += snprintf(head + n, sizeof(head) - (size_t)n, "\r\n");
	*bytes = (size_t)n + tail;
	answer = malloc(*bytes);
	if (!answer)
		return NULL;
	memcpy(answer, head, (size_t)n);
	if (tail)
		memcpy(answer + n, body, tail);
	return answer;
}

/* The exchange has its answer, and is no longer the handler's. */
static void answered(struct http_exchange *x)
{
	struct http_mail *mail = x->mail;
	bool closed;

	pthread_mutex_lock(&mail->lock);
	closed = mail->closed;
	if (mail->current == x && pthread_equal(mail->thread, pthread_self())) {
		x->here = true;
	} else if (!closed) {
		*mail->last = x;
		mail->last = &x->next;
		wake(mail);
	}
	pthread_mutex_unlock(&mail->lock);
	if (closed && !x->here)
		http_exchange_free(x);
}

void http_reply(struct http_exchange *x, int status, const char *body, size_t body_bytes)
{
	x->answer = http_answer(x->mail, status, body, body ? body_bytes : 0, x->close,
				x->head_only, &x->answer_bytes);
	answered(x);
}

/* --- streams ------------------------------------------------------------------------------ */

struct http_stream *http_stream_begin(struct http_exchange *x, const char *content_type,
				      void (*gone)(void *opaque), void *opaque)
{
	static const char oom[] = "[\"out of memory\"]";
	struct http_stream *st = calloc(1, sizeof(*st));
	char *head;
	int n = asprintf(&head,
			 "HTTP/1.1 200 \r\nServer: %s\r\nConnection: close\r\n"
			 "Content-Type: %s\r\n\r\n",
			 x->mail->server_header, content_type);

	if (!st || n < 0) {
		free(st);
		if (n >= 0)
			free(head);
		http_reply(x, 500, oom, sizeof(oom) - 1);
		return NULL;
	}
	*st = (struct http_stream){ .mail = x->mail, .gone = gone, .opaque = opaque, .refs = 2 };
	pthread_mutex_lock(&st->mail->lock);
	st->mail->refs++;
	pthread_mutex_unlock(&st->mail->lock);
	x->answer = head;
	x->answer_bytes = (size_t)n;
	x->stream = st;
	x->close = true;
	answered(x);
	return st;
}

/* Under the lock, which is released. */
static void unlock_unref_stream(struct http_stream *st)
{
	struct http_mail *mail = st->mail;

	if (--st->refs) {
		pthread_mutex_unlock(&mail->lock);
		return;
	}
	free(st->buf);
	free(st);
	unlock_unref(mail);
}

void http_stream_unref(struct http_stream *st)
{
	pthread_mutex_lock(&st->mail->lock);
	unlock_unref_stream(st);
}

/* Under the lock. */
static void drop(struct http_stream *st)
{
	st->dropped = true;
	free(st->buf);
	st->buf = NULL;
	st->bytes = st->room = 0;
}

/* Under the lock: the loop's thread shall look at the stream. */
static void notify(struct http_stream *st)
{
	if (st->queued || st->mail->closed)
		return;
	st->queued = true;
	st->refs++;
	st->next = st->mail->streams;
	st->mail->streams = st;
	wake(st->mail);
}

/* Under the lock. */
static bool append(struct http_stream *st, const void *buf, size_t bytes)
{
	size_t need = st->bytes + bytes, room = st->room ? st->room : STREAM_FIRST_BYTES;
	char *new;

	if (bytes > HTTP_STREAM_BYTES || need > HTTP_STREAM_BYTES)
		return false;
	while (room < need)
		room *= 2;
	if (room != st->room) {
		new = realloc(st->buf, room);
		if (!new)
			return false;
		st->buf = new;
		st->room = room;
	}
	memcpy(st->buf + st->bytes, buf, bytes);
	st->bytes = need;
	return true;
}

void http_stream_write(struct http_stream *st, const void *buf, size_t bytes)
{
	pthread_mutex_lock(&st->mail->lock);
	if (!st->dropped) {
		if (!append(st, buf, bytes))
			drop(st);
		notify(st);
	}
	pthread_mutex_unlock(&st->mail->lock);
}

void http_stream_end(struct http_stream *st)
{
	pthread_mutex_lock(&st->mail->lock);
	st->ended = true;
	notify(st);
	unlock_unref_stream(st);
}

bool http_stream_flush(struct http_stream *st, int fd, bool *sent, bool *left, bool *ended)
{
	bool good;

	pthread_mutex_lock(&st->mail->lock);
	while (st->bytes) {
		ssize_t n = send(fd, st->buf, st->bytes, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			if (errno != EAGAIN)
				drop(st);
			break;
		}
		*sent = true;
		st->bytes -= (size_t)n;
		memmove(st->buf, st->buf + n, st->bytes);
	}
	if (!st->bytes) {
		free(st->buf);
		st->buf = NULL;
		st->room = 0;
	}
	good = !st->dropped;
	*left = st->bytes;
	*ended = st->ended;
	pthread_mutex_unlock(&st->mail->lock);
	return good;
}

void http_stream_lose(struct http_stream *st)
{
	bool tell;

	pthread_mutex_lock(&st->mail->lock);
	tell = !st->ended && !st->mail->closed;
	drop(st);
	pthread_mutex_unlock(&st->mail->lock);
	st->conn = NULL;
	if (tell && st->gone)
		st->gone(st->opaque);
	http_stream_unref(st);
}
