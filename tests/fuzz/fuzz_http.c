/*
 * fuzz_http: any bytes from a client, in any pieces.
 *
 * Input: a byte, then what the client sends. The byte's low seven bits are the size of the pieces
 * (0: one piece); with the top bit set, each piece carries a descriptor. First the parser alone reads
 * all requests, whole and in pieces: both must give the same. Then a connection of a server gets the
 * pieces: it must give as many answers as there are requests, and one more for what is none, and close
 * all descriptors.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/core/log.h"
#include "vmm/http/http_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* --- the parser alone -------------------------------------------------------------------------- */

struct result {
	unsigned requests, asked;
	bool bad, half, closed;
	int status;
	const char *error;
	uint64_t sum; /* of all that it read */
};

static void add(struct result *r, const void *bytes, size_t n)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < n; i++)
		r->sum = (r->sum ^ p[i]) * 0x100000001b3u;
	r->sum = (r->sum ^ n) * 0x100000001b3u;
}

static void complete(struct result *r, struct http_parse *p)
{
	r->requests++;
	add(r, p->method, strlen(p->method));
	add(r, p->path, strlen(p->path));
	check(*p->path == '/' || !strcmp(p->path, "*"));
	for (const char *c = p->path; *c; c++)
		check(*c > ' ' && *c < 0x7f && *c != '?' && *c != '#');
	if (p->query)
		add(r, p->query, strlen(p->query));
	check(p->body_bytes <= HTTP_BODY_MAX && (p->body || !p->body_bytes));
	if (p->body)
		add(r, p->body, p->body_bytes + 1);
	r->closed = !p->keep_alive;
	http_parse_next(p);
}

static struct result parse(const uint8_t *data, size_t size, size_t step)
{
	struct result r = { 0 };
	struct http_parse p;

	http_parse_init(&p);
	for (size_t at = 0; at < size && !r.bad && !r.closed;) {
		size_t end = size - at < step ? size : at + step, used;

		while (at < end && !r.bad && !r.closed) {
			size_t n = end - at;
			char *piece = malloc(n);

			memcpy(piece, data + at, n);
			switch (http_parse_feed(&p, piece, n, &used)) {
			case HTTP_PARSE_MORE:
				check(used == n);
				break;
			case HTTP_PARSE_CONTINUE:
				r.asked++;
				break;
			case HTTP_PARSE_DONE:
				complete(&r, &p);
				break;
			case HTTP_PARSE_BAD:
				r.bad = true;
				r.status = p.status;
				r.error = p.error;
				check(p.status == 400 || p.status == 413);
				break;
			}
			check(used <= n);
			at += used;
			free(piece);
		}
	}
	r.half = !r.bad && !http_parse_idle(&p);
	check(http_parse_held_bytes(&p) <= 2 * size + 8192);
	http_parse_clear(&p);
	return r;
}

/* --- a connection --------------------------------------------------------------------------------- */

static unsigned handled, received;

static void on_request(void *opaque, struct http_exchange *x, struct http_request *req)
{
	handled++;
	received += req->nfds;
	http_reply(x, req->body ? 200 : 204, req->body, req->body_bytes);
}

static void stop(void *loop)
{
	loop_stop(loop);
}

static void turn(struct loop *loop)
{
	check(!loop_post(loop, stop, loop));
	check(!loop_run(loop));
}

static bool send_piece(int sock, const uint8_t *data, size_t n, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { (void *)data, n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		struct cmsghdr *c;

		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	return sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n;
}

/* Reads what has been answered. Returns false at the end. */
static bool hear(int sock, size_t *bytes)
{
	char buf[65536];
	ssize_t n;

	while ((n = recv(sock, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		*bytes += (size_t)n;
	return n < 0 && errno == EAGAIN;
}

static void talk(const uint8_t *data, size_t size, size_t step, bool with_fds,
		 const struct result *want)
{
	static const struct http_handler handler = { NULL, on_request, NULL };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), pair[2], fd;
	struct http_server *server;
	struct http_conn *conn;
	struct loop *loop;
	struct err err;
	size_t bytes = 0;

	check(!loop_create(&loop, &err));
	check(!http_server_create(loop, listener, "fuzz", &handler, &server, &err));
	check(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
	conn = http_conn_new(server, pair[1]);
	check(conn);
	handled = received = 0;
	for (size_t at = 0; at < size; at += step) {
		size_t n = size - at < step ? size - at : step;

		if (!send_piece(pair[0], data + at, n, with_fds ? pair[0] : -1))
			break;
		turn(loop);
		turn(loop);
		if (!hear(pair[0], &bytes))
			break;
	}
	shutdown(pair[0], SHUT_WR);
	while (hear(pair[0], &bytes))
		turn(loop);
	check(handled == want->requests);
	check(bytes || (!want->requests && !want->bad && !want->half));
	http_server_destroy(server);
	loop_destroy(loop);
	close(listener);
	close(pair[0]);
	fd = dup(0);
	check(fd >= 0 && fd < 64);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct result whole, pieces;
	size_t step;

	if (size < 2 || size > 1 << 17)
		return 0;
	log_set_level(LOG_ERROR - 1);
	step = data[0] & 0x7f ? data[0] & 0x7f : size;
	whole = parse(data + 1, size - 1, size);
	pieces = parse(data + 1, size - 1, step);
	check(whole.requests == pieces.requests && whole.asked == pieces.asked &&
	      whole.bad == pieces.bad && whole.half == pieces.half &&
	      whole.closed == pieces.closed && whole.status == pieces.status &&
	      whole.error == pieces.error && whole.sum == pieces.sum);
	talk(data + 1, size - 1, step, data[0] & 0x80, &whole);
	return 0;
}
