/*
 * test_http: the server on a real socket, its loop in a thread, raw bytes compared.
 *
 * The handler of these tests answers by the path: /echo the body, /none with 204, /empty with 200
 * and no body, /big with a large body, /fds the kinds of the descriptors, /hold later (the test's
 * thread answers), /stream without an end.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/proc.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"
#include "vmm/http/http_impl.h"

#define MAX_HELD 256
#define BIG_BYTES (8u << 20)

#define HEAD(status) "HTTP/1.1 " status " \r\nServer: test\r\nConnection: keep-alive\r\n"
#define CLOSE(status) "HTTP/1.1 " status " \r\nServer: test\r\nConnection: close\r\n"
#define JSON(bytes) "Content-Type: application/json\r\nContent-Length: " bytes "\r\n\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n\r\n"

static struct loop *loop;
static struct http_server *server;
static int listener;
static struct sockaddr_un addr;
static socklen_t addr_bytes;
static pthread_t thread;
static unsigned fds_before;

/* What the handler saw; the lock is for the test's thread. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct http_exchange *held[MAX_HELD];
static unsigned nheld, nclosed;
static struct http_stream *stream;
static atomic_uint ngone, nrequests;

static void gone(void *opaque)
{
	cr_expect_eq(opaque, (void *)&stream);
	pthread_mutex_lock(&lock);
	ngone++;
	http_stream_end(stream);
	pthread_mutex_unlock(&lock);
}

static void answer_fds(struct http_exchange *x, struct http_request *req)
{
	char body[1024];
	int n = snprintf(body, sizeof(body), "%u:", req->nfds);

	for (unsigned i = 0; i < req->nfds && i < 8; i++) {
		struct stat st;

		cr_assert_eq(fstat(req->fd[i], &st), 0);
		cr_assert(fcntl(req->fd[i], F_GETFD) & FD_CLOEXEC);
		n += snprintf(body + n, sizeof(body) - (size_t)n, " %llu",
			      (unsigned long long)st.st_ino);
	}
	/* The handler may take some. */
	if (req->query && !strcmp(req->query, "take") && req->nfds) {
		close(req->fd[0]);
		req->fd[0] = -1;
	}
	http_reply(x, 200, body, (size_t)n);
}

static void on_request(void *opaque, struct http_exchange *x, struct http_request *req)
{
	nrequests++;
	if (!strcmp(req->path, "/echo")) {
		http_reply(x, 200, req->body, req->body_bytes);
	} else if (!strcmp(req->path, "/none")) {
		http_reply(x, 204, NULL, 0);
	} else if (!strcmp(req->path, "/empty")) {
		http_reply(x, 200, NULL, 0);
	} else if (!strcmp(req->path, "/big")) {
		char *big = malloc(BIG_BYTES);

		memset(big, 'b', BIG_BYTES);
		http_reply(x, 200, big, BIG_BYTES);
		free(big);
	} else if (!strcmp(req->path, "/fds")) {
		answer_fds(x, req);
	} else if (!strcmp(req->path, "/hold")) {
		pthread_mutex_lock(&lock);
		cr_assert_lt(nheld, MAX_HELD);
		held[nheld++] = x;
		pthread_mutex_unlock(&lock);
	} else if (!strcmp(req->path, "/stream")) {
		stream = http_stream_begin(x, "text/plain", gone, &stream);
		cr_assert(stream);
		http_stream_write(stream, "begin\n", 6);
	} else {
		http_reply(x, 404, "[\"no\"]", 6);
	}
}

static void on_closed(void *opaque, uint64_t connection)
{
	pthread_mutex_lock(&lock);
	nclosed++;
	pthread_mutex_unlock(&lock);
}

static void *run_loop(void *opaque)
{
	cr_assert_eq(loop_run(loop), 0);
	return NULL;
}

static void start(void)
{
	cr_assert_eq(pthread_create(&thread, NULL, run_loop, NULL), 0);
}

static void stop(void)
{
	loop_stop(loop);
	pthread_join(thread, NULL);
}

static void setup(void)
{
	static const struct http_handler handler = { NULL, on_request, on_closed };
	struct err err;

	log_set_level(LOG_ERROR);
	fds_before = proc_fds(0);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* An abstract address: nothing to remove. */
	addr.sun_family = AF_UNIX;
	snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "bantam-test-http-%d", getpid());
	addr_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
				 strlen(addr.sun_path + 1));
	cr_assert_eq(bind(listener, (struct sockaddr *)&addr, addr_bytes), 0);
	cr_assert_eq(listen(listener, 512), 0);
	cr_assert_eq(loop_create(&loop, &err), 0);
	cr_assert_eq(http_server_create(loop, listener, "test", &handler, &server, &err), 0, "%s",
		     err.text);
	start();
}

/* Nothing is left: no descriptor (and, under a sanitizer, no memory). */
static void teardown(void)
{
	stop();
	http_server_destroy(server);
	loop_destroy(loop);
	close(listener);
	for (unsigned i = 0; i < nheld; i++)
		http_reply(held[i], 200, "late", 4);
	cr_expect_eq(proc_fds(0), fds_before);
}

TestSuite(http, .init = setup, .fini = teardown, .timeout = 60);

/* --- clients ---------------------------------------------------------------------------------- */

static int dial(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval limit = { 20, 0 };

	cr_assert_geq(fd, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	cr_assert_eq(connect(fd, (struct sockaddr *)&addr, addr_bytes), 0, "%s", strerror(errno));
	return fd;
}

static void say_bytes(int fd, const char *buf, size_t bytes)
{
	while (bytes) {
		ssize_t n = send(fd, buf, bytes, MSG_NOSIGNAL);

		cr_assert_gt(n, 0, "%s", strerror(errno));
		buf += n;
		bytes -= (size_t)n;
	}
}

static void say(int fd, const char *text)
{
	say_bytes(fd, text, strlen(text));
}

/* The next bytes are these, and come in no more than one second of silence. */
static void hear(int fd, const char *want)
{
	char got[4096];
	size_t bytes = strlen(want), have = 0;

	cr_assert_lt(bytes, sizeof(got));
	while (have < bytes) {
		ssize_t n = recv(fd, got + have, bytes - have, 0);

		if (n <= 0)
			break;
		have += (size_t)n;
	}
	got[have] = 0;
	cr_assert_str_eq(got, want);
}

static void hear_end(int fd)
{
	char byte;

	cr_assert_leq(recv(fd, &byte, 1, 0), 0, "a byte came");
}

static void hear_nothing(int fd, int ms)
{
	struct pollfd p = { fd, POLLIN, 0 };

	cr_assert_eq(poll(&p, 1, ms), 0);
}

/* Returns the bytes sent, or -1. */
static ssize_t try_send_fds(int sock, const char *text, const int *fd, unsigned n)
{
	union {
		char bytes[CMSG_SPACE(253 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { (char *)text, strlen(text) };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), fd, n * sizeof(int));
	return sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void send_fds(int sock, const char *text, const int *fd, unsigned n)
{
	cr_assert_eq(try_send_fds(sock, text, fd, n), (ssize_t)strlen(text), "%s", strerror(errno));
}

/* Returns a client that the server has accepted. */
static int dial_served(void)
{
	int fd = dial();

	say(fd, GET("/none"));
	hear(fd, HEAD("204") "\r\n");
	return fd;
}

/* Waits until cond is true. */
#define WAIT(cond)                                                                                 \
	do {                                                                                       \
		uint64_t end_ = clock_now_ms() + 20000;                                            \
		while (!(cond)) {                                                                  \
			cr_assert_lt(clock_now_ms(), end_, "%s", #cond);                           \
			usleep(1000);                                                              \
		}                                                                                  \
	} while (0)

/* A member of the locked state. */
static unsigned locked(const unsigned *value)
{
	unsigned v;

	pthread_mutex_lock(&lock);
	v = *value;
	pthread_mutex_unlock(&lock);
	return v;
}

/* --- bytes ------------------------------------------------------------------------------------- */

/* What the server says when it refuses. */
static const char *refusal(int status, const char *why)
{
	static char text[512];
	char body[256];

	snprintf(body, sizeof(body), "[\"The request cannot be handled\",\"%s\"]", why);
	snprintf(text, sizeof(text),
		 "HTTP/1.1 %d \r\nServer: test\r\nConnection: close\r\n"
		 "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
		 status, strlen(body), body);
	return text;
}

static const struct {
	const char *says, *hears;
	bool ends;
	int status; /* of a refusal behind this */
	const char *why;
} talks[] = {
	{ GET("/echo"), HEAD("200") JSON("0") },
	{ "PUT /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", HEAD("200") JSON("5") "hello" },
	{ GET("/none"), HEAD("204") "\r\n" },
	{ GET("/empty"), HEAD("200") JSON("0") },
	{ GET("/nowhere"), HEAD("404") JSON("6") "[\"no\"]" },
	{ "HEAD /nowhere HTTP/1.1\r\n\r\n", HEAD("404") JSON("6") },
	/* Several requests in one segment: answers in their order. */
	{ GET("/none")
		  GET("/empty") "PUT /echo HTTP/1.1\r\nContent-Length: 1\r\n\r\na" GET("/none"),
	  HEAD("204") "\r\n" HEAD("200") JSON("0") HEAD("200") JSON("1") "a" HEAD("204") "\r\n" },
	{ "GET /none HTTP/1.1\r\nConnection: close\r\n\r\n", CLOSE("204") "\r\n", true },
	{ "GET /none HTTP/1.1\r\nConnection: close\r\n\r\n" GET("/none"), CLOSE("204") "\r\n",
	  true },
	{ "GET /none HTTP/1.0\r\n\r\n", CLOSE("204") "\r\n", true },
	{ "GET /none HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", HEAD("204") "\r\n" },
	{ "PUT /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
	  "HTTP/1.1 100 \r\n\r\n" HEAD("200") JSON("1") "a" },
	{ "GET /none HTTP/3.0\r\n\r\n", "", true, 400, "the version of HTTP is not 1.0 or 1.1" },
	{ "PUT /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", "", true,
	  400, "Transfer-Encoding is not supported: send Content-Length" },
	{ "PUT /echo HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "", true, 400,
	  "Content-Length is given twice" },
	{ "PUT /echo HTTP/1.1\r\nContent-Length: 4194305\r\n\r\nab", "", true, 413,
	  "the body is larger than 4 MiB" },
	/* Answers before the error are still given. */
	{ GET("/none") "nonsense\r\n\r\n", HEAD("204") "\r\n", true, 400, "the method is unknown" },
};

Test(http, bytes)
{
	for (size_t i = 0; i < sizeof(talks) / sizeof(talks[0]); i++) {
		/* In one piece; byte by byte; and half-closed behind it. */
		for (int way = 0; way < 3; way++) {
			int fd = dial();

			if (way == 1)
				for (const char *p = talks[i].says; *p; p++) {
					/* The server may have answered an error and left. */
					if (send(fd, p, 1, MSG_NOSIGNAL) != 1)
						break;
				}
			else
				say(fd, talks[i].says);
			if (way == 2)
				cr_assert_eq(shutdown(fd, SHUT_WR), 0);
			hear(fd, talks[i].hears);
			if (talks[i].why)
				hear(fd, refusal(talks[i].status, talks[i].why));
			if (talks[i].ends || way == 2)
				hear_end(fd);
			else
				hear_nothing(fd, 0);
			close(fd);
		}
	}
}

/* Head and body come in one write: one recv reads both. */
Test(http, one_write)
{
	char buf[1023];
	int fd = dial();

	for (int i = 0; i < 50; i++) {
		static const char want[] = HEAD("200") JSON("5") "hello";

		say(fd, "PUT /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello");
		cr_assert_eq(recv(fd, buf, sizeof(buf), 0), (ssize_t)sizeof(want) - 1);
		cr_assert_arr_eq(buf, want, sizeof(want) - 1);
	}
	close(fd);
}

/* The client asks before it sends the body. */
Test(http, continues)
{
	int fd = dial();

	say(fd, "PUT /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
	hear(fd, "HTTP/1.1 100 \r\n\r\n");
	hear_nothing(fd, 20);
	say(fd, "hello");
	hear(fd, HEAD("200") JSON("5") "hello");
	close(fd);
}

/* The client still sends when it is refused: it can read why. */
Test(http, refused_while_sending)
{
	char *junk = calloc(1, 1 << 20);
	int fd = dial();

	say(fd, "PUT /echo HTTP/1.1\r\nContent-Length: 5000000\r\n\r\n");
	for (int i = 0; i < 5; i++)
		say_bytes(fd, junk, 1 << 20);
	free(junk);
	hear(fd, refusal(413, "the body is larger than 4 MiB"));
	hear_end(fd);
	close(fd);
}

Test(http, large_bodies)
{
	static char body[HTTP_BODY_MAX], got[HTTP_BODY_MAX];
	int fd = dial();
	size_t have = 0;

	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = (char)('a' + i % 23);
	say(fd, "PUT /echo HTTP/1.1\r\nContent-Length: 4194304\r\n\r\n");
	say_bytes(fd, body, sizeof(body));
	hear(fd, HEAD("200") JSON("4194304"));
	while (have < sizeof(got)) {
		ssize_t n = recv(fd, got + have, sizeof(got) - have, 0);

		cr_assert_gt(n, 0);
		have += (size_t)n;
	}
	cr_assert_arr_eq(got, body, sizeof(body));
	say(fd, GET("/none"));
	hear(fd, HEAD("204") "\r\n");
	close(fd);
}

/* --- answers later, and from other threads ------------------------------------------------------- */

static void answer_held(unsigned i, const char *text)
{
	http_reply(held[i], 200, text, strlen(text));
	held[i] = NULL;
}

/* The answers that teardown shall not give. */
static void all_answered(void)
{
	nheld = 0;
}

/* One exchange at a time: a later request of the same connection waits, another connection not. */
Test(http, order)
{
	int fd = dial(), other = dial();

	say(fd, GET("/hold") GET("/none"));
	say(fd, GET("/empty"));
	WAIT(locked(&nheld) == 1);
	say(other, GET("/none"));
	hear(other, HEAD("204") "\r\n");
	hear_nothing(fd, 20);
	cr_expect_eq(nrequests, 2);
	answer_held(0, "one");
	hear(fd, HEAD("200") JSON("3") "one" HEAD("204") "\r\n" HEAD("200") JSON("0"));
	all_answered();
	close(fd);
	close(other);
}

struct answerer {
	unsigned first, step;
};

static void *answer_some(void *opaque)
{
	const struct answerer *a = opaque;

	for (unsigned i = a->first; i < 64; i += a->step)
		answer_held(i, "x");
	return NULL;
}

/* 64 connections, answered by four threads at once. */
Test(http, threads)
{
	int fd[64];
	struct answerer a[4];
	pthread_t t[4];

	for (unsigned i = 0; i < 64; i++) {
		fd[i] = dial();
		say(fd[i], GET("/hold"));
	}
	WAIT(locked(&nheld) == 64);
	for (unsigned i = 0; i < 4; i++) {
		a[i] = (struct answerer){ i, 4 };
		pthread_create(&t[i], NULL, answer_some, &a[i]);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	for (unsigned i = 0; i < 64; i++) {
		hear(fd[i], HEAD("200") JSON("1") "x");
		close(fd[i]);
	}
	all_answered();
}

/* A client that half-closes still gets a late answer; one that is gone costs nothing. */
Test(http, half_closed_and_gone)
{
	int fd = dial(), dead = dial();

	say(fd, GET("/hold"));
	WAIT(locked(&nheld) == 1);
	cr_assert_eq(shutdown(fd, SHUT_WR), 0);
	say(dead, GET("/hold") GET("/none"));
	WAIT(locked(&nheld) == 2);
	close(dead);
	WAIT(locked(&nclosed) == 1);
	hear_nothing(fd, 20);
	answer_held(0, "late");
	answer_held(1, "to none");
	hear(fd, HEAD("200") JSON("4") "late");
	hear_end(fd);
	WAIT(locked(&nclosed) == 2);
	all_answered();
	close(fd);
}

/* teardown answers it after the server and its loop are gone. */
Test(http, answered_after_the_server)
{
	int fd = dial();

	say(fd, GET("/hold") GET("/hold"));
	WAIT(locked(&nheld) == 1);
	close(fd);
}

Test(http, half_a_request)
{
	int fd = dial();

	say(fd, GET("/none") "GET /no");
	hear(fd, HEAD("204") "\r\n");
	shutdown(fd, SHUT_WR);
	hear(fd, refusal(400, "the connection ended inside the request"));
	hear_end(fd);
	close(fd);
}

/* --- descriptors ------------------------------------------------------------------------------------ */

static int files[HTTP_FDS_MAX];
static char inodes[HTTP_FDS_MAX][32];

static void make_files(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct stat st;
		int p[2];

		cr_assert_eq(pipe2(p, O_CLOEXEC), 0);
		close(p[1]);
		files[i] = p[0];
		fstat(files[i], &st);
		snprintf(inodes[i], sizeof(inodes[i]), " %llu", (unsigned long long)st.st_ino);
	}
}

static void close_files(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		close(files[i]);
}

/* The answer of /fds for n files from first on. */
static void hear_fds(int fd, unsigned first, unsigned n)
{
	char body[512], text[1024];
	int len = snprintf(body, sizeof(body), "%u:", n);

	for (unsigned i = first; i < first + n && i < first + 8; i++)
		len += snprintf(body + len, sizeof(body) - (size_t)len, "%s", inodes[i]);
	snprintf(text, sizeof(text),
		 HEAD("200") "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len,
		 body);
	hear(fd, text);
}

#define PUT_FDS "PUT /fds HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"

Test(http, descriptors)
{
	int fd = dial_served();
	unsigned open_now;

	make_files(8);
	open_now = proc_fds(0);
	/* With head and body in one piece. */
	send_fds(fd, PUT_FDS, files, 2);
	hear_fds(fd, 0, 2);
	/* With the first piece; the rest in three more. */
	send_fds(fd, "PUT /fds HTTP/1.1\r\nHost: localhost\r\n", files, 3);
	hear_nothing(fd, 10);
	say(fd, "Content-Length: 2\r\n");
	hear_nothing(fd, 10);
	say(fd, "\r\n");
	hear_nothing(fd, 10);
	say(fd, "{}");
	hear_fds(fd, 0, 3);
	/* With the last one. */
	say(fd, "PUT /fds HTTP/1.1\r\nContent-Length: 2\r\n\r\n{");
	send_fds(fd, "}", files + 1, 1);
	hear_fds(fd, 1, 1);
	/* With several. */
	send_fds(fd, "PUT /fds HTTP/1.1\r\n", files, 1);
	send_fds(fd, "Content-Length: 2\r\n\r\n{", files + 1, 2);
	send_fds(fd, "}", files + 3, 1);
	hear_fds(fd, 0, 4);
	/* The request after them has none; a handler that takes one keeps it. */
	say(fd, "PUT /fds HTTP/1.1\r\n\r\n");
	hear_fds(fd, 0, 0);
	send_fds(fd, "PUT /fds?take HTTP/1.1\r\n\r\n", files, 2);
	hear_fds(fd, 0, 2);
	/* Where none belong. */
	send_fds(fd, GET("/none"), files, 8);
	hear(fd, HEAD("204") "\r\n");
	cr_expect_eq(proc_fds(0), open_now);
	close(fd);
	close_files(8);
}

/* Pipelined: they belong to the request that their first byte belongs to. */
Test(http, descriptors_of_pipelined_requests)
{
	for (int way = 0; way < 5; way++) {
		int fd = dial();

		make_files(4);
		/* Nothing is read before all of it is there. */
		say(fd, GET("/hold"));
		WAIT(locked(&nheld) == 1);
		switch (way) {
		case 0: /* the second of three */
			say(fd, PUT_FDS);
			send_fds(fd, PUT_FDS, files, 2);
			say(fd, PUT_FDS);
			break;
		case 1: /* a message that has two requests: the first of them */
			say(fd, PUT_FDS);
			send_fds(fd, PUT_FDS PUT_FDS, files, 2);
			break;
		case 2: /* a message that ends one request and begins the next */
			say(fd, PUT_FDS "PUT /fds HTTP/1.1\r\nContent-");
			send_fds(fd, "Length: 2\r\n\r\n{}PUT /fds ", files, 2);
			say(fd, "HTTP/1.1\r\n\r\n");
			break;
		case 3: /* each has some */
			send_fds(fd, PUT_FDS, files, 1);
			send_fds(fd, PUT_FDS, files + 1, 2);
			send_fds(fd, PUT_FDS, files + 3, 1);
			break;
		case 4: /* far behind many bytes */
			for (int i = 0; i < 100; i++)
				say(fd, GET("/none"));
			say(fd, "PUT /fds HTTP/1.1\r\n");
			send_fds(fd, "\r\n", files, 3);
			say(fd, GET("/none"));
			break;
		}
		answer_held(0, "x");
		all_answered();
		hear(fd, HEAD("200") JSON("1") "x");
		switch (way) {
		case 0:
		case 1:
		case 2:
			hear_fds(fd, 0, 0);
			hear_fds(fd, 0, 2);
			hear_fds(fd, 0, 0);
			break;
		case 3:
			hear_fds(fd, 0, 1);
			hear_fds(fd, 1, 2);
			hear_fds(fd, 3, 1);
			break;
		case 4:
			for (int i = 0; i < 100; i++)
				hear(fd, HEAD("204") "\r\n");
			hear_fds(fd, 0, 3);
			hear(fd, HEAD("204") "\r\n");
			break;
		}
		close(fd);
		close_files(4);
	}
}

Test(http, many_descriptors)
{
	int fd = dial_served(), stuck[4];
	unsigned open_now;

	make_files(HTTP_FDS_MAX);
	open_now = proc_fds(0);
	send_fds(fd, PUT_FDS, files, HTTP_FDS_MAX);
	hear_fds(fd, 0, HTTP_FDS_MAX);
	/* More than one request may have: the first ones are kept. */
	send_fds(fd, "PUT /fds HTTP/1.1\r\n", files, 200);
	send_fds(fd, "\r\n", files, 200);
	hear_fds(fd, 0, HTTP_FDS_MAX);
	cr_expect_eq(proc_fds(0), open_now);
	/* Of requests that do not end: only so many; the one that was still for longest goes. */
	for (int i = 0; i < 4; i++) {
		stuck[i] = dial();
		send_fds(stuck[i], "PUT /fds HTTP/1.1\r\n", files, HTTP_FDS_MAX);
		if (i < 2) {
			WAIT(server->held_fds == (i + 1) * HTTP_FDS_MAX);
			continue;
		}
		hear(stuck[i - 2], refusal(503, "it was incomplete for too long while others "
						"needed its place"));
		hear_end(stuck[i - 2]);
		cr_expect_eq(server->held_fds, 2 * HTTP_FDS_MAX);
	}
	for (int i = 0; i < 4; i++) {
		if (i >= 2) {
			say(stuck[i], "\r\n");
			hear_fds(stuck[i], 0, HTTP_FDS_MAX);
		}
		close(stuck[i]);
	}
	close(fd);
	close_files(HTTP_FDS_MAX);
}

/* No room for them: the request is not handled without. */
Test(http, lost_descriptors)
{
	struct rlimit old, low;
	int fd = dial();
	unsigned seen;

	make_files(8);
	say(fd, GET("/none"));
	hear(fd, HEAD("204") "\r\n");
	seen = nrequests;
	getrlimit(RLIMIT_NOFILE, &old);
	low = old;
	low.rlim_cur = proc_fds(0) + 2;
	setrlimit(RLIMIT_NOFILE, &low);
	send_fds(fd, PUT_FDS, files, 8);
	hear(fd, refusal(500, "its descriptors were lost: this process has too many open files"));
	hear_end(fd);
	setrlimit(RLIMIT_NOFILE, &old);
	cr_expect_eq(nrequests, seen);
	close(fd);
	close_files(8);
}

/* --- limits --------------------------------------------------------------------------------------- */

Test(http, the_longest_idle_one_makes_room)
{
	int fd[HTTP_CONNECTIONS + 40];
	unsigned n = HTTP_CONNECTIONS;

	for (unsigned i = 0; i < n; i++) {
		fd[i] = dial();
		say(fd[i], i == 5 ? GET("/hold") : GET("/none"));
		if (i != 5)
			hear(fd[i], HEAD("204") "\r\n");
	}
	/* All are served, in use or not. */
	say(fd[0], GET("/none"));
	hear(fd[0], HEAD("204") "\r\n");
	cr_expect_eq(locked(&nclosed), 0);
	/* Now the longest idle is 1, and 5 is not idle. */
	for (unsigned i = n; i < n + 6; i++) {
		fd[i] = dial();
		say(fd[i], GET("/none"));
		hear(fd[i], HEAD("204") "\r\n");
	}
	for (unsigned i = 1; i < 8; i++)
		if (i != 5)
			hear_end(fd[i]);
	cr_expect_eq(locked(&nclosed), 6);
	for (unsigned i = 0; i < n; i += 8)
		hear_nothing(fd[i], 0);
	answer_held(0, "x");
	all_answered();
	hear(fd[5], HEAD("200") JSON("1") "x");
	for (unsigned i = 0; i < n + 6; i++)
		close(fd[i]);
}

Test(http, none_is_idle)
{
	int fd[HTTP_CONNECTIONS], more[40];

	for (unsigned i = 0; i < HTTP_CONNECTIONS; i++) {
		fd[i] = dial();
		/* Half a request, and one that is not answered yet. */
		say(fd[i], i % 2 ? "PUT /none HTTP" : GET("/hold"));
	}
	WAIT(locked(&nheld) == HTTP_CONNECTIONS / 2);
	WAIT(server->held);
	for (unsigned i = 0; i < 40; i++) {
		more[i] = dial();
		/* Only so many wait for their refused clients: the others see the end at once. */
		hear(more[i], refusal(503, "too many connections, and none of them is idle"));
		hear_end(more[i]);
	}
	say(fd[1], "/1.1\r\n\r\n");
	hear(fd[1], HEAD("204") "\r\n");
	for (unsigned i = 0; i < nheld; i++)
		answer_held(i, "x");
	all_answered();
	for (unsigned i = 0; i < HTTP_CONNECTIONS; i += 2)
		hear(fd[i], HEAD("200") JSON("1") "x");
	for (unsigned i = 0; i < HTTP_CONNECTIONS; i++)
		close(fd[i]);
	for (unsigned i = 0; i < 40; i++)
		close(more[i]);
}

/* Bodies that do not end hold only so much memory altogether: the first ones go. */
Test(http, memory_of_half_requests)
{
	char *body = calloc(1, HTTP_BODY_MAX);
	int fd[12];

	for (unsigned i = 0; i < 12; i++) {
		fd[i] = dial();
		say(fd[i], "PUT /echo HTTP/1.1\r\nContent-Length: 4194304\r\n\r\n");
		say_bytes(fd[i], body, HTTP_BODY_MAX - 1);
	}
	for (unsigned i = 0; i < 12; i++) {
		if (i < 12 - HTTP_HELD_BYTES / HTTP_BODY_MAX)
			hear(fd[i], refusal(503, "it was incomplete for too long while others "
						 "needed its place"));
		else if (i == 11) {
			say(fd[i], "x");
			hear(fd[i], HEAD("200") JSON("4194304"));
		}
		close(fd[i]);
	}
	free(body);
}

/* --- time -------------------------------------------------------------------------------------- */

Test(http, slow_clients)
{
	int idle = dial(), half = dial(), body = dial(), reader = dial(), trickle = dial();
	uint64_t begin = clock_now_ms();

	http_patience_ms = 300;
	say(idle, GET("/none"));
	hear(idle, HEAD("204") "\r\n");
	say(half, "GET /no");
	say(body, "PUT /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345");
	say(reader, GET("/big"));
	say(trickle, "GET /none ");
	/* Each byte is progress. */
	for (const char *p = "HTTP/1.1\r\nA: b\r\n\r\n"; *p; p++) {
		say_bytes(trickle, p, 1);
		usleep(40000);
	}
	hear(trickle, HEAD("204") "\r\n");
	cr_expect_gt(clock_now_ms() - begin, 600);
	/* Meanwhile the three were dropped. */
	cr_expect_eq(locked(&nclosed), 3);
	hear_end(half);
	hear_end(body);
	say(idle, GET("/none"));
	hear(idle, HEAD("204") "\r\n");
	close(idle);
	close(half);
	close(body);
	close(reader);
	close(trickle);
}

/* A client that never reads stops nothing but itself. */
Test(http, clients_that_do_not_read)
{
	int fd[32], ping = dial();

	for (unsigned i = 0; i < 32; i++) {
		fd[i] = dial();
		say(fd[i], i % 2 ? GET("/big") GET("/big") : "PUT /echo HTTP/1.1\r\nContent-");
	}
	for (unsigned i = 0; i < 100; i++) {
		uint64_t begin = clock_now_ms();

		say(ping, GET("/none"));
		hear(ping, HEAD("204") "\r\n");
		cr_expect_lt(clock_now_ms() - begin, 1000);
	}
	for (unsigned i = 0; i < 32; i++)
		close(fd[i]);
	close(ping);
}

static uint64_t cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Out of descriptors: the server waits without spinning, and goes on when there are some. */
Test(http, no_descriptors_to_accept)
{
	struct rlimit old, low;
	int busy = dial(), fd;
	uint64_t cpu;

	say(busy, GET("/hold"));
	WAIT(locked(&nheld) == 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	getrlimit(RLIMIT_NOFILE, &old);
	low = old;
	low.rlim_cur = 3;
	setrlimit(RLIMIT_NOFILE, &low);
	cr_assert_eq(connect(fd, (struct sockaddr *)&addr, addr_bytes), 0);
	say(fd, GET("/none"));
	cpu = cpu_ms();
	hear_nothing(fd, 400);
	cr_expect_lt(cpu_ms() - cpu, 200);
	setrlimit(RLIMIT_NOFILE, &old);
	hear(fd, HEAD("204") "\r\n");
	close(fd);
	close(busy);
}

/* Nothing happens: nothing runs. Also with a client that has half-closed and waits. */
Test(http, sleeps)
{
	int fd = dial(), half = dial();
	uint64_t cpu;

	say(fd, GET("/none"));
	hear(fd, HEAD("204") "\r\n");
	say(half, GET("/hold"));
	WAIT(locked(&nheld) == 1);
	shutdown(half, SHUT_WR);
	cpu = cpu_ms();
	usleep(300000);
	cr_expect_lt(cpu_ms() - cpu, 150);
	close(fd);
	close(half);
}

/* --- chance ------------------------------------------------------------------------------------ */

static uint64_t dice_state;

static unsigned dice(unsigned sides)
{
	dice_state = dice_state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(dice_state >> 33) % sides;
}

/* What a client may say: whole requests, parts of them, nonsense; now and then with a byte changed. */
static size_t random_text(char *buf, size_t room)
{
	static const char *const text[] = {
		GET("/none"),
		GET("/hold"),
		GET("/fds"),
		GET("/none") GET("/none") GET("/hold") GET("/empty"),
		"PUT /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
		"PUT /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 20000\r\n\r\n",
		"GET /none HTTP/1.0\r\n\r\n",
		"GET /none HTTP/1.1\r\nConnection: close\r\n\r\n",
		GET("/nowhere/at/all?a=b"),
		"\r\n\r\n",
	};
	const char *from = text[dice(sizeof(text) / sizeof(text[0]))];
	size_t n = strlen(from);

	cr_assert_leq(n, room);
	memcpy(buf, from, n);
	if (!dice(8))
		n = 1 + dice((unsigned)n);
	if (!dice(8))
		buf[dice((unsigned)n)] = (char)dice(256);
	return n;
}

static void answer_one(void)
{
	struct http_exchange *x = NULL;

	pthread_mutex_lock(&lock);
	if (nheld) {
		unsigned i = dice(nheld);

		x = held[i];
		held[i] = held[--nheld];
	}
	pthread_mutex_unlock(&lock);
	if (x)
		http_reply(x, 200, "later", 5);
}

/* 20 clients do 20000 things; afterwards the server is as it was. */
Test(http, chance)
{
	int fd[20];
	char buf[4096];

	dice_state = clock_now_ns();
	cr_log_info("seed %llu", (unsigned long long)dice_state);
	make_files(3);
	for (unsigned i = 0; i < 20; i++)
		fd[i] = -1;
	for (unsigned step = 0; step < 20000; step++) {
		int *c = &fd[dice(20)];
		unsigned what = dice(20);
		size_t n;

		if (*c < 0)
			*c = dial();
		if (what < 11) {
			n = random_text(buf, sizeof(buf));
			(void)!send(*c, buf, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		} else if (what < 14) {
			while (recv(*c, buf, sizeof(buf), MSG_DONTWAIT) > 0)
				;
		} else if (what < 17) {
			answer_one();
		} else if (what == 17) {
			try_send_fds(*c, GET("/fds"), files, 1 + dice(3));
		} else if (what == 18 && !dice(4)) {
			shutdown(*c, SHUT_WR);
		} else if (what == 19) {
			close(*c);
			*c = -1;
		}
	}
	for (unsigned i = 0; i < 20; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	while (locked(&nheld))
		answer_one();
	WAIT(!server->nconns && !server->held && !server->held_fds);
	close_files(3);
	fd[0] = dial_served();
	close(fd[0]);
}

/* --- streams ---------------------------------------------------------------------------------------- */

#define STREAM_HEAD                                                                                \
	"HTTP/1.1 200 \r\nServer: test\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n"   \
	"begin\n"

Test(http, stream)
{
	int fd = dial();

	say(fd, GET("/stream"));
	hear(fd, STREAM_HEAD);
	http_stream_write(stream, "one\n", 4);
	hear(fd, "one\n");
	/* What the client says now does not matter, nor that it says no more. */
	say(fd, GET("/none"));
	shutdown(fd, SHUT_WR);
	usleep(10000);
	for (int i = 0; i < 1000; i++)
		http_stream_write(stream, "line\n", 5);
	http_stream_end(stream);
	for (int i = 0; i < 1000; i++)
		hear(fd, "line\n");
	hear_end(fd);
	cr_expect_eq(ngone, 0);
	close(fd);
}

Test(http, stream_of_a_client_that_goes)
{
	int fd = dial();

	say(fd, GET("/stream"));
	hear(fd, STREAM_HEAD);
	close(fd);
	WAIT(ngone == 1);
	WAIT(locked(&nclosed) == 1);
}

Test(http, stream_without_a_reader)
{
	static const char lines[1024];
	int fd = dial();

	say(fd, GET("/stream"));
	hear(fd, STREAM_HEAD);
	for (int i = 0; i < 2048; i++) {
		pthread_mutex_lock(&lock);
		if (!ngone)
			http_stream_write(stream, lines, sizeof(lines));
		pthread_mutex_unlock(&lock);
		usleep(100);
	}
	WAIT(ngone == 1);
	close(fd);
}

/* teardown destroys the server under it. */
Test(http, stream_at_the_end)
{
	int fd = dial();

	say(fd, GET("/stream"));
	hear(fd, STREAM_HEAD);
	stop();
	http_server_destroy(server);
	server = NULL;
	cr_expect_eq(ngone, 1);
	hear_end(fd);
	close(fd);
	start();
}

/* --- the end ----------------------------------------------------------------------------------------- */

static void *answer_soon(void *opaque)
{
	usleep(50000);
	answer_held(0, "at last");
	return NULL;
}

/* What has arrived is answered, all that is answered is sent. */
Test(http, drain)
{
	int late = dial(), unread = dial(), asked = dial(), half = dial(), waiting;
	pthread_t t;

	say(late, GET("/hold"));
	WAIT(locked(&nheld) == 1);
	say(half, "GET /no");
	WAIT(server->held);
	stop();
	say(asked, GET("/none") GET("/empty"));
	say(unread, GET("/none"));
	waiting = dial();
	say(waiting, "PUT /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\nab");
	pthread_create(&t, NULL, answer_soon, NULL);
	cr_expect(http_server_drain(server, 5000));
	pthread_join(t, NULL);
	http_server_destroy(server);
	server = NULL;
	all_answered();
	hear(late, HEAD("200") JSON("7") "at last");
	hear(asked, HEAD("204") "\r\n" HEAD("200") JSON("0"));
	hear(unread, HEAD("204") "\r\n");
	hear(waiting, HEAD("200") JSON("2") "ab");
	hear_end(late);
	hear_end(half);
	close(late);
	close(unread);
	close(asked);
	close(half);
	close(waiting);
	start();
}

/* Reads 8 MiB in half a second or more, to the end. */
static void *read_slowly(void *opaque)
{
	static char buf[1 << 16];
	int fd = *(int *)opaque;
	size_t bytes = 0;
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0) {
		bytes += (size_t)n;
		usleep(4000);
	}
	cr_expect_gt(bytes, BIG_BYTES);
	return NULL;
}

/* Requests that are not answered in time are refused; clients that do not read are not waited for. */
Test(http, drain_has_a_deadline)
{
	int fd = dial(), big = dial(), gone_client = dial();
	uint64_t begin;

	say(fd, GET("/hold"));
	say(big, GET("/big"));
	say(gone_client, GET("/hold"));
	WAIT(locked(&nheld) == 2);
	WAIT(nrequests == 3);
	stop();
	begin = clock_now_ms();
	cr_expect_not(http_server_drain(server, 400));
	cr_expect_geq(clock_now_ms() - begin, 400);
	hear(fd, refusal(500, "the process ends before it is done"));
	close(gone_client);
	close(fd);
	begin = clock_now_ms();
	cr_expect_not(http_server_drain(server, 5000));
	cr_expect_lt(clock_now_ms() - begin, 3000);
	close(big);
	start();
}

/* A client that gives up is waited for no longer; one that reads slowly is. */
Test(http, drain_of_those_who_wait)
{
	int leaves = dial(), reads = dial();
	uint64_t begin;
	pthread_t t;

	say(leaves, GET("/hold"));
	WAIT(locked(&nheld) == 1);
	say(reads, GET("/big"));
	WAIT(nrequests == 2);
	stop();
	close(leaves);
	begin = clock_now_ms();
	pthread_create(&t, NULL, read_slowly, &reads);
	cr_expect(http_server_drain(server, 20000));
	cr_expect_lt(clock_now_ms() - begin, 15000);
	http_server_destroy(server);
	server = NULL;
	pthread_join(t, NULL);
	close(reads);
	start();
}
