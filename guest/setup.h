/*
 * setup: what the first program of a guest does before it begins: file systems and modules. Part of a
 * program that defines say(fmt, ...), which prints a line.
 */
#ifndef GUEST_SETUP_H
#define GUEST_SETUP_H

#include <linux/mount.h>

#include "guest/nodes.h"
#include "guest/sys.h"

static void note_name(const char *name, void *arg)
{
	(void)name;
	*(bool *)arg = true;
}

/* A file system of memory, unless the folder holds what somebody has put into the initrd. */
static void setup_memory(const char *dir, const char *options)
{
	bool used = false;

	dir_each(dir, note_name, &used);
	if (!used)
		SYS(mount, "tmpfs", dir, "tmpfs", 0, options);
}

/*
 * The devices that the kernel has, as sysfs tells them, for a kernel without devtmpfs; again when there may be
 * more of them.
 */
static void setup_devices(void)
{
	nodes_of_class("/sys/dev/char", NODE_CHAR);
	nodes_of_class("/sys/dev/block", NODE_BLOCK);
}

/* Returns whether the kernel itself keeps /dev (devtmpfs). */
static bool setup_mounts(void)
{
	bool has_devtmpfs;

	SYS(umask, 0); /* the modes below are meant as they are */
	SYS(mkdirat, AT_FDCWD, "/dev", 0755);
	SYS(mkdirat, AT_FDCWD, "/proc", 0755);
	SYS(mkdirat, AT_FDCWD, "/sys", 0755);
	SYS(mkdirat, AT_FDCWD, "/tmp", 01777);
	SYS(mkdirat, AT_FDCWD, "/run", 0755);
	SYS(mount, "proc", "/proc", "proc", 0, 0);
	SYS(mount, "sys", "/sys", "sysfs", 0, 0);
	has_devtmpfs = SYS(mount, "dev", "/dev", "devtmpfs", 0, 0) >= 0 ||
		       SYS(faccessat, AT_FDCWD, "/dev/kmsg", 0) >= 0;
	if (!has_devtmpfs) {
		SYS(mount, "dev", "/dev", "tmpfs", 0, "mode=755");
		setup_devices();
	}
	setup_memory("/tmp", "mode=1777");
	SYS(fchmodat, AT_FDCWD, "/tmp", 01777);
	SYS(mkdirat, AT_FDCWD, "/dev/pts", 0755);
	SYS(mkdirat, AT_FDCWD, "/dev/shm", 01777);
	SYS(mount, "devpts", "/dev/pts", "devpts", 0, "gid=5,mode=620,ptmxmode=666");
	SYS(mount, "shm", "/dev/shm", "tmpfs", 0, "mode=1777");
	SYS(umask, 022);
	return has_devtmpfs;
}

/* The modules that could not be loaded: how many, and the first one. */
static struct {
	unsigned n;
	const char *path;
	long err;
} setup_failed;

/* Loads the modules of /modules.list in its order. Returns how many are loaded. */
static unsigned setup_modules(void)
{
	static char list[64 << 10]; /* PACK_LIST_MAX of boot/pack */
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
		if (err >= 0 || err == -EEXIST) {
			loaded++;
		} else {
			say("module %s: error %ld", line, -err);
			if (!setup_failed.n++) {
				setup_failed.path = line;
				setup_failed.err = err;
			}
		}
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
