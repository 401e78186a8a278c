/* HTTP as the clients of the contract write and read it: see client.h. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/api/client.h"

#define FDS_MAX 253
#define ONE_RECV 1023

int conn_open(struct conn *c, const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	*c = (struct conn){ .fd = -1 };
	if (strlen(path) >= sizeof(addr.sun_path))
		die("%s: too long for a socket", path);
	strcpy(addr.sun_path, path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		die("socket: %s", strerror(errno));
	if (connect(c->fd, (struct sockaddr *)&addr, sizeof(addr))) {
		int rc = -errno;
		conn_close(c);
		return rc;
	}
	c->buf = malloc(ANSWER_MAX + 1);
	if (!c->buf)
		die("no memory");
	return 0;
}

void conn_close(struct conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	free(c->buf);
	*c = (struct conn){ .fd = -1 };
}

int conn_send(struct conn *c, const void *bytes, size_t len, const int *fd, unsigned nfds)
{
	union {
		char buf[CMSG_SPACE(FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { (void *)bytes, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nfds > FDS_MAX)
		die("%u descriptors in one message", nfds);
	if (nfds) {
		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		struct cmsghdr *h = CMSG_FIRSTHDR(&msg);
		*h = (struct cmsghdr){ CMSG_LEN(nfds * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
		memcpy(CMSG_DATA(h), fd, nfds * sizeof(int));
	}
	while (iov.iov_len) {
		ssize_t n = sendmsg(c->fd, &msg, 0);
		if (n < 0)
			return -errno;
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= (size_t)n;
		msg.msg_control = NULL;
		msg.msg_controllen = 0;
	}
	return 0;
}

/* Reads some bytes more. Returns false at the end of the stream, after until_ms, or if buf is full. */
static bool receive_some(struct conn *c, size_t most, double until_ms)
{
	struct pollfd p = { c->fd, POLLIN, 0 };
	double left = until_ms - now_ms();

	if (c->fill == ANSWER_MAX || poll(&p, 1, left > 0 ? (int)left + 1 : 0) <= 0)
		return false;
	if (most > ANSWER_MAX - c->fill)
		most = ANSWER_MAX - c->fill;
	ssize_t n = recv(c->fd, c->buf + c->fill, most, 0);
	if (n <= 0)
		return false;
	c->fill += (size_t)n;
	if (!c->first)
		c->first = c->fill;
	c->buf[c->fill] = 0;
	return true;
}

/* Returns the length of the value of a header, or -1. With exact, only "Content-Length: " will do. */
static long content_length(const char *head, const char *end, bool exact)
{
	static const char name[] = "Content-Length: ";
	size_t n = sizeof(name) - 1;

	for (const char *p = head; p + n < end; p++) {
		if (exact ? !strncmp(p, name, n) : !strncasecmp(p, name, n - 1))
			return strtol(p + (exact ? n : n - 1), NULL, 10);
	}
	return -1;
}

/* The status line of the strict clients: nothing but an integer and white space up to the return. */
static int strict_status(const char *head)
{
	char text[64], *end;
	const char *stop;

	if (strncmp(head, "HTTP/1.1 ", 9) || !(stop = strchr(head, '\r')) ||
	    (size_t)(stop - head - 9) >= sizeof(text))
		return -1;
	memcpy(text, head + 9, (size_t)(stop - head - 9));
	text[stop - head - 9] = 0;
	long status = strtol(text, &end, 10);
	end += strspn(end, " ");
	return *end || end == text ? -1 : (int)status;
}

static bool has_header(const char *head, const char *end, const char *line)
{
	size_t n = strlen(line);

	for (const char *p = head; p + n <= end; p++)
		if (!strncasecmp(p, line, n))
			return true;
	return false;
}

void conn_receive(struct conn *c, enum parser parser, double limit_ms, struct answer *out)
{
	double until = now_ms() + (parser == PARSER_ONE_RECV ? 500 : limit_ms);
	char *end = NULL;
	long length;

	*out = (struct answer){ 0 };
	/* What came after the last answer is the beginning of this one. */
	c->fill -= c->used;
	memmove(c->buf, c->buf + c->used, c->fill);
	c->buf[c->fill] = 0;
	c->first = c->fill;
	c->used = 0;
	if (parser == PARSER_ONE_RECV) {
		if (!receive_some(c, ONE_RECV, until))
			return;
		out->raw = c->buf;
		out->raw_bytes = c->used = c->fill;
		out->status = -1;
		if (sscanf(c->buf, "HTTP/1.%*d %d", &out->status) != 1)
			out->status = -1;
		end = strstr(c->buf, "\r\n\r\n");
		out->body = end ? end + 4 : c->buf + c->fill;
		out->body_bytes = c->fill - (size_t)(out->body - c->buf);
		out->keep = true;
		return;
	}
	while (!(end = strstr(c->buf, "\r\n\r\n")))
		if (!receive_some(c, ANSWER_MAX, until)) {
			out->raw = c->buf;
			out->raw_bytes = c->used = c->fill;
			return;
		}
	end += 4;
	out->status = -1;
	if (parser == PARSER_STRICT)
		out->status = strict_status(c->buf);
	else
		sscanf(c->buf, "HTTP/1.1 %d", &out->status);
	out->keep = !has_header(c->buf, end, "\r\nConnection: close\r\n");
	length = content_length(c->buf, end, parser == PARSER_STRICT);
	if (length < 0 && parser == PARSER_HYPER && out->status != 204 && out->status / 100 != 1)
		out->keep = false; /* up to the end of the stream, hyper would say */
	size_t head_bytes = (size_t)(end - c->buf);
	size_t want = head_bytes + (length > 0 ? (size_t)length : 0);
	while (c->fill < want)
		if (!receive_some(c, ANSWER_MAX, until)) {
			out->status = -1;
			want = c->fill;
		}
	c->used = want;
	out->raw = c->buf;
	out->raw_bytes = want;
	out->body = c->buf + head_bytes;
	out->body_bytes = want - head_bytes;
}

size_t conn_extra_bytes(const struct conn *c)
{
	int waiting = 0;

	if (c->fd < 0 || ioctl(c->fd, FIONREAD, &waiting))
		waiting = 0;
	return c->fill - c->used + (size_t)waiting;
}

bool conn_is_closed(struct conn *c, double limit_ms)
{
	struct pollfd p = { c->fd, POLLIN, 0 };
	char byte;

	if (c->fd < 0 || c->fill > c->used || poll(&p, 1, (int)limit_ms) <= 0)
		return false;
	ssize_t n = recv(c->fd, &byte, 1, 0);
	return n == 0 || (n < 0 && errno == ECONNRESET);
}

void conn_call(struct conn *c, const char *method, const char *endpoint, const char *body,
	       double limit_ms, struct answer *out)
{
	char head[512];
	size_t len = body ? strlen(body) : 0;
	int n = body ? snprintf(head, sizeof(head),
				"%s /api/v1/%s HTTP/1.1\r\ncontent-type: application/json\r\n"
				"host: 2f746d702f6170692e736f636b:0\r\ncontent-length: %zu\r\n\r\n",
				method, endpoint, len) :
		       snprintf(
			       head, sizeof(head),
			       "%s /api/v1/%s HTTP/1.1\r\nhost: 2f746d702f6170692e736f636b:0\r\n\r\n",
			       method, endpoint);
	char *all = malloc((size_t)n + len);

	if (!all)
		die("no memory");
	memcpy(all, head, (size_t)n);
	if (len)
		memcpy(all + n, body, len);
	*out = (struct answer){ 0 };
	if (!conn_send(c, all, (size_t)n + len, NULL, 0))
		conn_receive(c, PARSER_HYPER, limit_ms, out);
	free(all);
}

int call_once(const char *path, const char *method, const char *endpoint, const char *body,
	      double limit_ms, struct conn *c, struct answer *out)
{
	*out = (struct answer){ 0 };
	int rc = conn_open(c, path);
	if (!rc)
		conn_call(c, method, endpoint, body, limit_ms, out);
	return rc;
}
