/*
 * fd_rw: reading and writing by one system call each.
 *
 * Theory of operation. Linux reads by read, readv, pread, preadv and preadv2, and writes by as many calls. preadv2 and
 * pwritev2 do what all the others do: an offset of -1 is the file's own position, or none for what has no position (a
 * pipe, socket, terminal, tap, eventfd, timer), and flags of 0 ask for nothing. So a thread of a confined process has
 * these two on its list and none of the others (core.calls), which leaves the guest's bugs fewer entries to the kernel.
 * The exception is a tap, where it costs (backend/net/tap.c).
 *
 * The functions of the C library do not serve: musl's preadv2 and pwritev2, without flags, call readv, writev, preadv
 * or pwritev, and so may another library that takes the flags for new. Hence syscall().
 *
 * Each returns the bytes read or written, or -1 with errno, as readv and writev do. Any thread, signal handlers too. No
 * point of cancellation. Linux 4.6 has both calls; fd_rw_check says whether this host permits them.
 */
#ifndef BANTAM_CORE_FD_RW_H
#define BANTAM_CORE_FD_RW_H

#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* offset: bytes from the file's start, or -1. flags: RWF_*. */
static inline ssize_t fd_rw_preadv(int fd, const struct iovec *iov, int niov, off_t offset,
				   int flags)
{
	/* 64-bit machines take the offset in one register, and do not look at the one for its upper half. */
	return syscall(SYS_preadv2, (long)fd, iov, (long)niov, (long)offset, 0L, (long)flags);
}

static inline ssize_t fd_rw_pwritev(int fd, const struct iovec *iov, int niov, off_t offset,
				    int flags)
{
	return syscall(SYS_pwritev2, (long)fd, iov, (long)niov, (long)offset, 0L, (long)flags);
}

static inline ssize_t fd_rw_readv(int fd, const struct iovec *iov, int niov)
{
	return fd_rw_preadv(fd, iov, niov, -1, 0);
}

static inline ssize_t fd_rw_writev(int fd, const struct iovec *iov, int niov)
{
	return fd_rw_pwritev(fd, iov, niov, -1, 0);
}

static inline ssize_t fd_rw_read(int fd, void *buf, size_t len)
{
	struct iovec iov = { buf, len };

	return fd_rw_readv(fd, &iov, 1);
}

static inline ssize_t fd_rw_write(int fd, const void *buf, size_t len)
{
	struct iovec iov = { (void *)buf, len };

	return fd_rw_writev(fd, &iov, 1);
}

/* Adds 1 to the counter of an eventfd, unless that would have to wait; then it is awake anyway. */
static inline void fd_rw_wake(int fd)
{
	uint64_t one = 1;

	(void)!fd_rw_write(fd, &one, sizeof(one));
}

/*
 * A container's seccomp filter may refuse the calls, and then no loop wakes up. fd: an eventfd of nobody else, whose
 * counter is 0 before and after. Returns 0 or -errno.
 */
static inline int fd_rw_check(int fd)
{
	uint64_t one = 1;

	return fd_rw_write(fd, &one, sizeof(one)) < 0 || fd_rw_read(fd, &one, sizeof(one)) < 0 ?
		       -errno :
		       0;
}

#endif
