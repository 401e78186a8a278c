/*
 * fd_now: reads and writes that do not wait, on a descriptor whose O_NONBLOCK belongs to others.
 *
 * For what was handed in and cannot be opened again: a pipe, a terminal, a tap. A socket has MSG_DONTWAIT. Any
 * thread.
 */
#ifndef BANTAM_CORE_FD_NOW_H
#define BANTAM_CORE_FD_NOW_H

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/uio.h>
#include <unistd.h>

/* A pipe or terminal that polls writable has room for this much. */
#define FD_NOW_SMALL 256u

/* The kernel does not know RWF_NOWAIT, not for this kind of file, or a seccomp filter refuses the call. */
static inline bool fd_now_unknown(void)
{
	return errno == EOPNOTSUPP || errno == ENOSYS || errno == EPERM;
}

static inline bool fd_now_ready(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	if (poll(&p, 1, 0) != 0)
		return true;
	errno = EAGAIN;
	return false;
}

/*
 * Returns the bytes written, or -1 with errno; EAGAIN: there is no room. Linux 6.5 and later take a pipe's
 * bytes without waiting (RWF_NOWAIT). Elsewhere poll is asked before a small write: that write waits only
 * if another process fills the last room in between.
 */
static inline ssize_t fd_write_now(int fd, const void *buf, size_t len)
{
	struct iovec iov = { (void *)buf, len };
	ssize_t n = pwritev2(fd, &iov, 1, -1, RWF_NOWAIT);

	if (n >= 0 || !fd_now_unknown())
		return n;
	if (!fd_now_ready(fd, POLLOUT))
		return -1;
	return write(fd, buf, len < FD_NOW_SMALL ? len : FD_NOW_SMALL);
}

/* The same for reads: EAGAIN: nothing has come. Not for a regular file. */
static inline ssize_t fd_read_now(int fd, const struct iovec *iov, int niov)
{
	ssize_t n = preadv2(fd, iov, niov, -1, RWF_NOWAIT);

	if (n >= 0 || !fd_now_unknown())
		return n;
	return fd_now_ready(fd, POLLIN) ? readv(fd, iov, niov) : -1;
}

/* A frame for a tap, whole or not at all; Linux 6.2 and later do not wait for either. */
static inline ssize_t fd_write_frame_now(int fd, const struct iovec *iov, int niov)
{
	ssize_t n = pwritev2(fd, iov, niov, -1, RWF_NOWAIT);

	if (n >= 0 || !fd_now_unknown())
		return n;
	return fd_now_ready(fd, POLLOUT) ? writev(fd, iov, niov) : -1;
}

#endif
