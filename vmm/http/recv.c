/*
 * recv: bytes of a Unix socket, and the descriptors that came with them.
 *
 * Theory of operation. Descriptors are tied to the first byte of the sendmsg that carried them. A
 * read may return bytes of earlier messages together with these descriptors, and the kernel does not
 * say where their message begins; it only ends the read after that message. With pipelined requests
 * the descriptors could so go to the wrong one. Therefore bytes are looked at first (MSG_PEEK). This
 * also tells whether descriptors wait (MSG_CTRUNC, since the look gives them no room): among these
 * bytes or behind them. If none wait, as almost always, the bytes are taken at once. If some do, the
 * parser reads the bytes that lie in the socket still, and after each request, or part of one,
 * exactly its bytes are taken: the descriptors that come with them are its own.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/http/http_impl.h"

/* Room for other control messages, which a listening socket of the parent may have asked for. */
#define OTHER_BYTES 256

ssize_t http_look(int sock, char *buf, size_t size, bool *marked)
{
	struct iovec iov = { buf, size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n = recvmsg(sock, &msg, MSG_PEEK | MSG_DONTWAIT);

	*marked = n > 0 && (msg.msg_flags & MSG_CTRUNC);
	if (n > 0 && !*marked)
		n = recv(sock, buf, (size_t)n, MSG_DONTWAIT);
	return n < 0 ? -errno : n;
}

static void add(struct http_fds *fds, const int *fd, unsigned n)
{
	if (!fds->fd)
		fds->fd = malloc(HTTP_FDS_MAX * sizeof(*fds->fd));
	for (unsigned i = 0; i < n; i++) {
		if (fds->fd && fds->n < HTTP_FDS_MAX) {
			fds->fd[fds->n++] = fd[i];
			continue;
		}
		fds->excess = true;
		close(fd[i]);
	}
}

/* Takes up to size bytes, and the descriptors that came with them. Returns how many, or -errno. */
static ssize_t take_some(int sock, char *buf, size_t size, struct http_fds *fds)
{
	union {
		char bytes[CMSG_SPACE(HTTP_FDS_MAX * sizeof(int)) + OTHER_BYTES];
		struct cmsghdr align;
	} control;
	struct iovec iov = { buf, size };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = sizeof(control.bytes) };
	ssize_t n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

	if (n <= 0)
		return n < 0 ? -errno : -EPIPE;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		int fd[HTTP_FDS_MAX];
		size_t bytes = c->cmsg_len - CMSG_LEN(0);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		if (bytes > sizeof(fd))
			bytes = sizeof(fd);
		memcpy(fd, CMSG_DATA(c), bytes);
		add(fds, fd, (unsigned)(bytes / sizeof(int)));
	}
	if (msg.msg_flags & MSG_CTRUNC)
		fds->lost = true;
	return n;
}

int http_take(int sock, char *buf, size_t bytes, struct http_fds *fds)
{
	while (bytes) {
		ssize_t n = take_some(sock, buf, bytes, fds);

		if (n == -EINTR)
			continue;
		if (n < 0)
			return (int)n;
		buf += n;
		bytes -= (size_t)n;
	}
	return 0;
}

unsigned http_fds_close(struct http_fds *fds)
{
	unsigned left = 0;

	for (unsigned i = 0; i < fds->n; i++) {
		if (fds->fd[i] < 0)
			continue;
		close(fds->fd[i]);
		left++;
	}
	free(fds->fd);
	*fds = (struct http_fds){ 0 };
	return left;
}
