/*
 * fd_msg: messages of a socket by one system call in each direction.
 *
 * Theory of operation. Most sockets are read and written as files are (fd_rw.h): those that only this process has, with
 * O_NONBLOCK. The others need flags with each call: MSG_DONTWAIT, because another process has the same description and
 * may make it block, or MSG_ERRQUEUE. sendmmsg and recvmmsg do what send, sendto, sendmsg, recv, recvfrom and recvmsg
 * do, and also whole batches (net/dgram.c), so a thread with such a socket has these two on its list. One thing differs:
 * recvmmsg tells an error of the socket, once, before it gives what is there to read.
 *
 * Descriptors. A peer may send some along with its bytes (SCM_RIGHTS). Nothing here has room for them, and what has no
 * room the kernel closes: none arrives, and none is left open. Only code that an attacker runs could make room. A filter
 * cannot see that, so a thread without such a socket has neither call.
 *
 * Each returns bytes, or -1 with errno. SIGPIPE is not raised. Any thread.
 */
#ifndef BANTAM_CORE_FD_MSG_H
#define BANTAM_CORE_FD_MSG_H

#include <sys/socket.h>
#include <sys/uio.h>

/* Sends what msg says. flags: MSG_DONTWAIT. */
static inline ssize_t fd_msg_send(int fd, const struct msghdr *msg, int flags)
{
	struct mmsghdr m = { .msg_hdr = *msg };

	return sendmmsg(fd, &m, 1, flags | MSG_NOSIGNAL) < 0 ? -1 : (ssize_t)m.msg_len;
}

static inline ssize_t fd_msg_put(int fd, const void *buf, size_t len, int flags)
{
	struct iovec iov = { (void *)buf, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	return fd_msg_send(fd, &msg, flags);
}

/* Receives up to len bytes; 0: the end of a stream. flags: MSG_DONTWAIT, MSG_PEEK, MSG_ERRQUEUE. */
static inline ssize_t fd_msg_get(int fd, void *buf, size_t len, int flags)
{
	struct iovec iov = { buf, len };
	struct mmsghdr m = { .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } };

	return recvmmsg(fd, &m, 1, flags, NULL) < 0 ? -1 : (ssize_t)m.msg_len;
}

#endif
