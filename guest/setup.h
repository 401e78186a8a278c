/*
 * setup: what the first program of a guest does before it begins: file systems and modules. Part of a
 * program that defines say(fmt, ...), which prints a line.
 */
#ifndef GUEST_SETUP_H
#define GUEST_SETUP_H

#include <linux/mount.h>

#include "guest/sys.h"

/* A kernel without devtmpfs: the devices that programs expect, on a file system of memory. */
static void setup_devices(void)
{
	SYS(mount, "dev", "/dev", "tmpfs", 0, "mode=755");
	SYS(mknodat, AT_FDCWD, "/dev/console", 0020600, 5 << 8 | 1);
	SYS(mknodat, AT_FDCWD, "/dev/null", 0020666, 1 << 8 | 3);
	SYS(mknodat, AT_FDCWD, "/dev/zero", 0020666, 1 << 8 | 5);
	SYS(mknodat, AT_FDCWD, "/dev/urandom", 0020666, 1 << 8 | 9);
	SYS(mknodat, AT_FDCWD, "/dev/kmsg", 0020600, 1 << 8 | 11);
}

static void setup_mounts(void)
{
	SYS(mkdirat, AT_FDCWD, "/dev", 0755);
	SYS(mkdirat, AT_FDCWD, "/proc", 0755);
	SYS(mkdirat, AT_FDCWD, "/sys", 0755);
	SYS(mkdirat, AT_FDCWD, "/tmp", 01777);
	SYS(mkdirat, AT_FDCWD, "/run", 0755);
	if (SYS(mount, "dev", "/dev", "devtmpfs", 0, 0) < 0 &&
	    SYS(faccessat, AT_FDCWD, "/dev/kmsg", 0) < 0)
		setup_devices();
	SYS(mount, "proc", "/proc", "proc", 0, 0);
	SYS(mount, "sys", "/sys", "sysfs", 0, 0);
	SYS(mount, "tmp", "/tmp", "tmpfs", 0, "mode=1777");
	SYS(mkdirat, AT_FDCWD, "/dev/pts", 0755);
	SYS(mkdirat, AT_FDCWD, "/dev/shm", 0755);
	SYS(mount, "devpts", "/dev/pts", "devpts", 0, "ptmxmode=666");
	SYS(mount, "shm", "/dev/shm", "tmpfs", 0, "mode=1777");
}

/* Loads the modules of /modules.list in its order. Returns how many are loaded. */
static unsigned setup_modules(void)
{
	static char list[8192];
	char *at = list, *line;
	unsigned loaded = 0;

	if (file_read("/modules.list", list, sizeof(list)) <= 0)
		return 0;
	while (*at) {
		char *args;
		long err;
		int fd;

		line = at;
		while (*at && *at != '\n')
			at++;
		if (*at)
			*at++ = 0;
		if (!*line || *line == '#')
			continue;
		for (args = line; *args && *args != ' ';)
			args++;
		if (*args)
			*args++ = 0;
		fd = sys_open(line, O_RDONLY, 0);
		err = fd < 0 ? fd : SYS(finit_module, fd, args, 0);
		if (fd >= 0)
			sys_close(fd);
		if (err < 0 && err != -EEXIST)
			say("module %s: error %ld", line, -err);
		else
			loaded++;
		out_reopen("/dev/console"); /* this module may be the console's driver */
	}
	return loaded;
}

static long fork_process(void)
{
#if defined(__NR_fork)
	return SYS(fork, 0);
#else
	return SYS(clone, 17 /* SIGCHLD */, 0, 0, 0, 0);
#endif
}

#endif
