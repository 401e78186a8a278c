/*
 * http: see http.h.
 *
 * In each round a server runs in its loop's thread. Clients send requests, some of them pipelined;
 * some read the answers, some leave. The handler puts each exchange in a queue, from which two threads
 * answer, as a stream or not. The server is destroyed while exchanges and streams are in their hands.
 */
#include "tests/threads/http.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/http/http.h"

#define QUEUE 256
#define CLIENTS 4
#define REQUEST "GET /a HTTP/1.1\r\n\r\n"

struct work {
	struct http_exchange *x;
	struct http_stream *st;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct work queue[QUEUE];
	unsigned n;
	bool over;
	struct sockaddr_un addr;
	socklen_t addr_bytes;
	atomic_ulong answers;
	atomic_bool wrong;
} me = { .lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER };

static void gone(void *opaque)
{
}

/* Loop's thread. */
static void on_request(void *opaque, struct http_exchange *x, struct http_request *req)
{
	struct work w = { .x = x };
	bool full;

	if (!strcmp(req->path, "/stream"))
		w = (struct work){ .st = http_stream_begin(x, "text/plain", gone, NULL) };
	pthread_mutex_lock(&me.lock);
	full = me.n == QUEUE;
	if (!full)
		me.queue[me.n++] = w;
	pthread_cond_signal(&me.more);
	pthread_mutex_unlock(&me.lock);
	if (full && w.x)
		http_reply(w.x, 204, NULL, 0);
	else if (full && w.st)
		http_stream_end(w.st);
}

static void *answer(void *opaque)
{
	for (;;) {
		struct work w;

		pthread_mutex_lock(&me.lock);
		while (!me.n && !me.over)
			pthread_cond_wait(&me.more, &me.lock);
		if (!me.n) {
			pthread_mutex_unlock(&me.lock);
			return NULL;
		}
		w = me.queue[--me.n];
		pthread_mutex_unlock(&me.lock);
		if (w.x) {
			http_reply(w.x, 200, "x", 1);
		} else if (w.st) {
			for (unsigned i = 0; i < 20; i++)
				http_stream_write(w.st, "line\n", 5);
			http_stream_end(w.st);
		}
	}
}

/* Counts the answers in what the socket gives until its end or until n came. */
static void read_answers(int fd, unsigned n)
{
	static const char mark[] = "HTTP/1.1 ";
	unsigned have = 0, at = 0;
	char byte;

	while (have < n && recv(fd, &byte, 1, 0) == 1) {
		at = byte == mark[at] ? at + 1 : byte == mark[0];
		if (at < sizeof(mark) - 1)
			continue;
		at = 0;
		have++;
	}
	me.answers += have;
}

static void *client(void *opaque)
{
	unsigned kind = (unsigned)(uintptr_t)opaque;
	struct timeval limit = { 10, 0 };

	for (unsigned i = 0; i < 30; i++) {
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		const char *text = kind == 1 ? "GET /stream HTTP/1.1\r\n\r\n" :
					       REQUEST REQUEST REQUEST;

		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
		if (connect(fd, (struct sockaddr *)&me.addr, me.addr_bytes) ||
		    send(fd, text, strlen(text), MSG_NOSIGNAL) < 0) {
			close(fd);
			break;
		}
		/* Kind 2 leaves at once, 3 after the first answer. */
		if (kind != 2)
			read_answers(fd, kind == 0 ? 3 : 1);
		close(fd);
	}
	return NULL;
}

static void *run(void *loop)
{
	me.wrong |= loop_run(loop) != 0;
	return NULL;
}

static void round_of(unsigned number)
{
	static const struct http_handler handler = { NULL, on_request, NULL };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pthread_t loop_thread, answerer[2], clients[CLIENTS];
	struct http_server *server;
	struct loop *loop;
	struct err err;

	me.over = false;
	me.addr.sun_family = AF_UNIX;
	me.addr_bytes = (socklen_t)(sizeof(sa_family_t) + 1 +
				    (size_t)snprintf(me.addr.sun_path + 1,
						     sizeof(me.addr.sun_path) - 1,
						     "bantam-threads-http-%d-%u", getpid(),
						     number));
	if (bind(listener, (struct sockaddr *)&me.addr, me.addr_bytes) || listen(listener, 64) ||
	    loop_create(&loop, &err) ||
	    http_server_create(loop, listener, "test", &handler, &server, &err)) {
		me.wrong = true;
		return;
	}
	pthread_create(&loop_thread, NULL, run, loop);
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&answerer[i], NULL, answer, NULL);
	for (uintptr_t i = 0; i < CLIENTS; i++)
		pthread_create(&clients[i], NULL, client, (void *)i);
	/* Every other server ends in the middle, some after what waits is answered. */
	if (number % 2)
		usleep(2000 + number % 16 * 500);
	else
		for (unsigned i = 0; i < CLIENTS; i++)
			pthread_join(clients[i], NULL);
	loop_stop(loop);
	pthread_join(loop_thread, NULL);
	if (number % 4 == 1)
		http_server_drain(server, 1000);
	http_server_destroy(server);
	loop_destroy(loop);
	close(listener);
	if (number % 2)
		for (unsigned i = 0; i < CLIENTS; i++)
			pthread_join(clients[i], NULL);
	pthread_mutex_lock(&me.lock);
	me.over = true;
	pthread_cond_broadcast(&me.more);
	pthread_mutex_unlock(&me.lock);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(answerer[i], NULL);
}

unsigned long http_threads(unsigned rounds)
{
	for (unsigned i = 0; i < rounds; i++)
		round_of(i);
	return me.wrong ? 0 : me.answers;
}
