/*
 * fd_now: reads and writes that do not wait, on a descriptor whose O_NONBLOCK belongs to others.
 *
 * For what was handed in and cannot be opened again: a pipe, a terminal, a tap. Any thread.
 *
 * The whole rule: O_NONBLOCK keeps a call from waiting only where no other process has the open file description.
 * Otherwise the call itself must not wait:
 *
 *   what                              who has it, too          why no call here waits
 *   --------------------------------  -----------------------  --------------------------------------------------
 *   kick of a queue elsewhere         daemon, helper, vhost    KVM writes it; over the bus: virtio/core/kicks.c
 *   interrupt of a queue elsewhere    daemon, helper, vhost    not written once it is lent: KVM_SIGNAL_MSI
 *   relay, error of such a queue      daemon, helper, vhost    only watched, never read (core/loop.h)
 *   bell of the network's helper      helper                   a socket: MSG_DONTWAIT; ours is only watched
 *   connection to a daemon            only this process        MSG_DONTWAIT, and one limit of time for a start or
 *                                                              a stop (backend/vhost/user.h)
 *   tap by fd=                        who handed it in         RWF_NOWAIT (below)
 *   network socket by fd=             who handed it in         MSG_DONTWAIT
 *   stdin, stdout, stderr, events     the shell, other jobs    opened again through /proc, a socket by
 *                                                              MSG_DONTWAIT; else the calls below
 *   clients of API, consoles, vsock   only this process        O_NONBLOCK, MSG_DONTWAIT
 *   wake-ups of loops and workers     only this process        O_NONBLOCK; they are not lent (core/helper.h)
 *   API socket by fd=                 who handed it in         accept waits if that process takes the client away:
 *                                                              the program that starts bantam is trusted
 */
#ifndef BANTAM_CORE_FD_NOW_H
#define BANTAM_CORE_FD_NOW_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/core/fd_rw.h"

/*
 * Opens what fd is once more: a description that only this process has, also of a file that has no name any
 * more. flags of open(2). Returns a descriptor, or -1 with errno. Not for sockets.
 */
static inline int fd_open_again(int fd, int flags)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_CLOEXEC | O_NOCTTY);
}

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
	ssize_t n = fd_rw_pwritev(fd, &iov, 1, -1, RWF_NOWAIT);

	if (n >= 0 || !fd_now_unknown())
		return n;
	if (!fd_now_ready(fd, POLLOUT))
		return -1;
	return fd_rw_write(fd, buf, len < FD_NOW_SMALL ? len : FD_NOW_SMALL);
}

/* The same for reads: EAGAIN: nothing has come. Not for a regular file. */
static inline ssize_t fd_read_now(int fd, const struct iovec *iov, int niov)
{
	ssize_t n = fd_rw_preadv(fd, iov, niov, -1, RWF_NOWAIT);

	if (n >= 0 || !fd_now_unknown())
		return n;
	return fd_now_ready(fd, POLLIN) ? fd_rw_readv(fd, iov, niov) : -1;
}

/* A frame for a tap, whole or not at all; Linux 6.2 and later do not wait for either. */
static inline ssize_t fd_write_frame_now(int fd, const struct iovec *iov, int niov)
{
	ssize_t n = fd_rw_pwritev(fd, iov, niov, -1, RWF_NOWAIT);

	if (n >= 0 || !fd_now_unknown())
		return n;
	return fd_now_ready(fd, POLLOUT) ? fd_rw_writev(fd, iov, niov) : -1;
}

#endif
