/*
 * agent_system: makes of a bare kernel the system that a test expects. Part of agent.c. What a kernel
 * does not have is left out.
 */
#ifndef GUEST_AGENT_SYSTEM_H
#define GUEST_AGENT_SYSTEM_H

#include <linux/sockios.h>

#include "guest/setup.h"

static const struct {
	const char *dir, *type, *options;
} system_mounts[] = {
	{ "/run", "tmpfs", "mode=755" },	 { "/dev/mqueue", "mqueue", 0 },
	{ "/dev/hugepages", "hugetlbfs", 0 },	 { "/sys/fs/cgroup", "cgroup2", 0 },
	{ "/sys/fs/bpf", "bpf", "mode=700" },	 { "/sys/kernel/tracing", "tracefs", 0 },
	{ "/sys/kernel/debug", "debugfs", 0 },	 { "/sys/kernel/security", "securityfs", 0 },
	{ "/sys/kernel/config", "configfs", 0 }, { "/proc/sys/fs/binfmt_misc", "binfmt_misc", 0 },
};

static const char *const system_links[][2] = {
	{ "/proc/self/fd", "/dev/fd" },
	{ "/proc/self/fd/0", "/dev/stdin" },
	{ "/proc/self/fd/1", "/dev/stdout" },
	{ "/proc/self/fd/2", "/dev/stderr" },
};

/* Lets the groups below the root one use every controller that there is. */
static void delegate_controllers(void)
{
	char list[256], word[64] = "+", *at = list;

	if (file_read("/sys/fs/cgroup/cgroup.controllers", list, sizeof(list)) <= 0)
		return;
	while (*at) {
		size_t n = 1;

		for (; *at && *at != ' '; at++)
			if (n + 1 < sizeof(word))
				word[n++] = *at;
		word[n] = 0;
		at += *at == ' ';
		file_write("/sys/fs/cgroup/cgroup.subtree_control", word);
	}
}

/*
 * Device files of modules that are not loaded yet: opening one loads its module. A line of
 * /modules.devname: "fuse fuse c10:229".
 */
static void make_static_nodes(void)
{
	static char list[8192];
	char *at = list;

	if (file_read("/modules.devname", list, sizeof(list)) <= 0)
		return;
	while (*at) {
		char *line = at, *name, path[128] = "/dev/";
		unsigned type, major;

		while (*at && *at != '\n')
			at++;
		if (*at)
			*at++ = 0;
		while (*line && *line != ' ')
			line++;
		name = line += *line == ' ';
		while (*line && *line != ' ')
			line++;
		if (*name == '#' || !*line)
			continue;
		*line++ = 0;
		type = *line == 'b' ? 0060000 : 0020000;
		str_join(path, sizeof(path), "/dev/", name, "");
		for (char *c = path + 5; *c; c++) {
			if (*c != '/')
				continue;
			*c = 0;
			SYS(mkdirat, AT_FDCWD, path, 0755);
			*c = '/';
		}
		major = (unsigned)str_number(++line);
		while (*line && *line != ':')
			line++;
		SYS(mknodat, AT_FDCWD, path, type | 0600,
		    major << 8 | (unsigned)str_number(line + !!*line));
	}
}

static void bring_loopback_up(void)
{
	int fd = (int)SYS(socket, 2 /* AF_INET */, 2 /* SOCK_DGRAM */ | O_CLOEXEC, 0);
	struct {
		char name[16];
		int16_t flags;
		uint8_t rest[22];
	} req = { "lo", 1 /* IFF_UP */, { 0 } }; /* struct ifreq */

	if (fd < 0)
		return;
	SYS(ioctl, fd, SIOCSIFFLAGS, &req);
	sys_close(fd);
}

/* After setup_mounts and setup_modules. */
static void system_complete(void)
{
	for (unsigned i = 0; i < ARRAY_LEN(system_mounts); i++) {
		SYS(mkdirat, AT_FDCWD, system_mounts[i].dir, 0755);
		SYS(mount, system_mounts[i].type, system_mounts[i].dir, system_mounts[i].type, 0,
		    system_mounts[i].options);
	}
	for (unsigned i = 0; i < ARRAY_LEN(system_links); i++)
		SYS(symlinkat, system_links[i][0], AT_FDCWD, system_links[i][1]);
	SYS(mkdirat, AT_FDCWD, "/run/lock", 01777);
	SYS(mkdirat, AT_FDCWD, "/root", 0700);
	delegate_controllers();
	make_static_nodes();
	bring_loopback_up();
}

#endif
