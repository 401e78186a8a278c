/*
 * fd_kind: what an open descriptor is, for messages that refuse it.
 *
 * Pure but for looking at the descriptor; any thread.
 */
#ifndef BANTAM_CORE_FD_KIND_H
#define BANTAM_CORE_FD_KIND_H

#include <linux/if_tun.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vmm/core/fd_stat.h"

/* Returns IFF_TAP or IFF_TUN if fd is a queue of such an interface, else 0. */
static inline int fd_tun_kind(int fd)
{
	struct ifreq ifr = { 0 };

	return ioctl(fd, TUNGETIFF, &ifr) ? 0 : ifr.ifr_flags & (IFF_TAP | IFF_TUN);
}

static inline bool fd_is_tap(int fd)
{
	return fd_tun_kind(fd) == IFF_TAP;
}

/* Writes "a regular file", "an eventfd" … into buf. Returns buf. */
static inline const char *fd_kind(int fd, char *buf, size_t len)
{
	char path[32], name[64] = "";
	const char *kind;
	struct stat st;
	ssize_t n;

	if (fd_stat(fd, &st))
		kind = "not an open descriptor";
	else if (fd_is_tap(fd))
		kind = "a tap";
	else if (fd_tun_kind(fd))
		kind = "a tun, which carries no Ethernet";
	else if (S_ISREG(st.st_mode))
		kind = "a regular file";
	else if (S_ISDIR(st.st_mode))
		kind = "a folder";
	else if (S_ISFIFO(st.st_mode))
		kind = "a pipe";
	else if (S_ISSOCK(st.st_mode))
		kind = "a socket";
	else if (S_ISBLK(st.st_mode))
		kind = "a block device";
	else if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(10, 200))
		kind = "/dev/net/tun, which TUNSETIFF has not yet made a tap";
	else if (S_ISCHR(st.st_mode))
		kind = "a character device";
	else
		kind = NULL;
	if (kind) {
		snprintf(buf, len, "%s", kind);
		return buf;
	}
	/* "anon_inode:[eventfd]" and the like. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, name, sizeof(name) - 1);
	name[n > 0 ? n : 0] = '\0';
	snprintf(buf, len, "%s", *name ? name : "of an unknown kind");
	return buf;
}

#endif
