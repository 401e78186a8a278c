/*
 * fd_stat: fstat(2) by its own number. Any thread.
 *
 * Newer C libraries make fstat of newfstatat with an empty path, and a filter cannot see that a path is empty: a thread
 * that has the one call has the other, and knows names and sizes of the host's files. struct stat is the kernel's on
 * processors with 64 bits.
 */
#ifndef BANTAM_CORE_FD_STAT_H
#define BANTAM_CORE_FD_STAT_H

#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Returns 0, or -1 and errno. */
static inline int fd_stat(int fd, struct stat *st)
{
	return (int)syscall(SYS_fstat, fd, st);
}

#endif
