/* client: see client.h. */
#include "tools/bantam-ctl/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/core/unix_socket.h"

/* vm.boot may wait for a slow disk; no answer takes longer than this. */
#define ANSWER_S 60
#define HEAD_BYTES_MAX (64u << 10)
#define BODY_BYTES_MAX (16u << 20)
#define LINE_BYTES_MAX (64u << 10)

bool client_ok(const struct answer *a)
{
	return a->status >= 200 && a->status < 300;
}

static void limit_wait(int fd, int seconds)
{
	struct timeval tv = { .tv_sec = seconds };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

int client_connect(struct client *c, const char *path, struct err *err)
{
	struct stat st;
	int fd;

	*c = (struct client){ .path = path, .fd = -1 };
	if (!*path || strlen(path) > UNIX_SOCKET_PATH_MAX)
		return err_set(
			err, ENAMETOOLONG,
			"%.200s: a socket's path has 1 to %zu bytes; use a shorter one, or a "
			"relative one",
			path, UNIX_SOCKET_PATH_MAX);
	if (stat(path, &st) && errno == ENOENT)
		return err_set(
			err, ENOENT,
			"%s: no such socket; is this the path that the VM's --api-socket has, "
			"and does the VM still run?",
			path);
	fd = unix_socket_connect(path, 0);
	if (fd == -ECONNREFUSED && !S_ISSOCK(st.st_mode))
		return err_set(err, ENOTSOCK,
			       "%s: is not a socket; give the path that the VM's --api-socket has",
			       path);
	if (fd == -ECONNREFUSED)
		return err_set(
			err, ECONNREFUSED,
			"%s: no process listens at this socket any more: its VM has ended; the "
			"next VM may use the path again",
			path);
	if (fd == -EACCES)
		return err_set(err, EACCES,
			       "%s: permission denied; only the user who started the VM, and root, "
			       "may connect",
			       path);
	if (fd < 0)
		return err_sys(err, -fd, "%s: cannot connect", path);
	limit_wait(fd, ANSWER_S);
	c->fd = fd;
	return 0;
}

void client_close(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	free(c->buf);
	*c = (struct client){ .fd = -1 };
}

/* --- bytes --------------------------------------------------------------------------- */

/* Waits for more bytes. Returns 1, 0 at the end, or -errno. */
static int more(struct client *c, size_t max, struct err *err)
{
	ssize_t n;

	if (c->len >= max)
		return err_set(err, EPROTO, "%s: the answer is too large", c->path);
	if (c->len == c->size) {
		size_t size = c->size ? 2 * c->size : 4096;
		char *buf = realloc(c->buf, size + 1);

		if (!buf)
			return err_sys(err, ENOMEM, "%s", c->path);
		c->buf = buf;
		c->size = size;
	}
	do
		n = recv(c->fd, c->buf + c->len, c->size - c->len, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return err_set(err, ETIMEDOUT,
			       "%s: no answer within %d s; is it a VM's API socket?", c->path,
			       ANSWER_S);
	if (n < 0 && errno != ECONNRESET)
		return err_sys(err, errno, "%s", c->path);
	if (n <= 0)
		return 0;
	c->len += (size_t)n;
	c->buf[c->len] = 0;
	return 1;
}

static void used(struct client *c, size_t bytes)
{
	c->len -= bytes;
	memmove(c->buf, c->buf + bytes, c->len);
	c->buf[c->len] = 0;
}

/* Sends some of it, with the descriptors that are to go with it. As send. */
static ssize_t send_some(struct client *c, const char *bytes, size_t len)
{
	struct iovec iov = { (char *)bytes, len };
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(c->fds))];
	} control = { 0 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (c->nfds) {
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(c->nfds * sizeof(c->fds[0]));
		memcpy(CMSG_DATA(&control.head), c->fds, c->nfds * sizeof(c->fds[0]));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(c->nfds * sizeof(c->fds[0]));
	}
	n = sendmsg(c->fd, &message, MSG_NOSIGNAL);
	if (n > 0)
		c->nfds = 0;
	return n;
}

static int send_all(struct client *c, const char *bytes, size_t len, struct err *err)
{
	while (len) {
		ssize_t n = send_some(c, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		/* The server may refuse a request before it has all of it: its answer says why. */
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			return 0;
		if (n < 0)
			return err_sys(err, errno, "%s: cannot send the request", c->path);
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

static int send_request(struct client *c, const char *method, const char *name, const char *body,
			struct err *err)
{
	size_t body_bytes = body ? strlen(body) : 0;
	char length[96] = "";
	char *text;
	int n, rc;

	if (body)
		snprintf(length, sizeof(length),
			 "Content-Type: application/json\r\nContent-Length: %zu\r\n", body_bytes);
	n = asprintf(&text, "%s /api/v1/%s HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n%s\r\n%s",
		     method, name, length, body ? body : "");
	if (n < 0)
		return err_sys(err, ENOMEM, "%s", c->path);
	rc = send_all(c, text, (size_t)n, err);
	free(text);
	return rc;
}

/* --- answers ------------------------------------------------------------------------- */

static int not_http(struct client *c, struct err *err)
{
	return err_set(err, EPROTO, "%s: what listens there is no VM's API: its answer is not HTTP",
		       c->path);
}

/* The value of a header, or NULL. head ends with an empty line. */
static const char *header(const char *head, const char *name)
{
	size_t len = strlen(name);

	while ((head = strstr(head, "\r\n"))) {
		head += 2;
		if (!strncasecmp(head, name, len) && head[len] == ':')
			return head + len + 1 + strspn(head + len + 1, " \t");
	}
	return NULL;
}

/* Reads the head of an answer, and skips those that only say "go on". */
static int read_head(struct client *c, int *status, size_t *body_bytes, struct err *err)
{
	for (;;) {
		const char *length;
		char *end;
		int rc;

		while (!c->len || !(end = strstr(c->buf, "\r\n\r\n"))) {
			if (c->len && strncmp(c->buf, "HTTP/1.", c->len < 7 ? c->len : 7))
				return not_http(c, err);
			rc = more(c, HEAD_BYTES_MAX, err);
			if (rc < 0)
				return rc;
			if (!rc && c->len)
				return not_http(c, err);
			if (!rc)
				return err_set(err, ECONNRESET,
					       "%s: the VM's process ended before it answered",
					       c->path);
		}
		end[2] = 0;
		if (sscanf(c->buf, "HTTP/1.%*1[01] %3d", status) != 1)
			return not_http(c, err);
		length = header(c->buf, "content-length");
		*body_bytes = length ? strtoul(length, NULL, 10) : 0;
		used(c, (size_t)(end + 4 - c->buf));
		if (*body_bytes > BODY_BYTES_MAX)
			return err_set(err, EPROTO, "%s: the answer is too large", c->path);
		if (*status >= 200)
			return 0;
	}
}

static int read_body(struct client *c, size_t bytes, struct answer *out, struct err *err)
{
	while (c->len < bytes) {
		int rc = more(c, bytes, err);

		if (rc < 0)
			return rc;
		if (!rc)
			return err_set(err, ECONNRESET, "%s: the answer is cut off", c->path);
	}
	out->body = malloc(bytes + 1);
	if (!out->body)
		return err_sys(err, ENOMEM, "%s", c->path);
	if (bytes)
		memcpy(out->body, c->buf, bytes);
	out->body[bytes] = 0;
	out->body_bytes = bytes;
	if (bytes)
		used(c, bytes);
	return 0;
}

int client_request(struct client *c, const char *method, const char *name, const char *body,
		   struct answer *out, struct err *err)
{
	size_t bytes;
	int rc;

	*out = (struct answer){ 0 };
	rc = send_request(c, method, name, body, err);
	if (!rc)
		rc = read_head(c, &out->status, &bytes, err);
	return rc ? rc : read_body(c, bytes, out, err);
}

int client_stream(struct client *c, const char *name, struct answer *out, struct err *err)
{
	size_t bytes;
	int rc;

	*out = (struct answer){ 0 };
	rc = send_request(c, "GET", name, NULL, err);
	if (!rc)
		rc = read_head(c, &out->status, &bytes, err);
	if (rc)
		return rc;
	if (!client_ok(out))
		return read_body(c, bytes, out, err);
	limit_wait(c->fd, 0);
	return 0;
}

int client_line(struct client *c, char **line, struct err *err)
{
	for (;;) {
		char *end = c->len ? memchr(c->buf, '\n', c->len) : NULL;
		int rc;

		if (end) {
			size_t len = (size_t)(end - c->buf);
			char *copy = strndup(c->buf, len);

			if (!copy)
				return err_sys(err, ENOMEM, "%s", c->path);
			used(c, len + 1);
			*line = copy;
			return 1;
		}
		rc = more(c, LINE_BYTES_MAX, err);
		if (rc <= 0)
			return rc;
	}
}
