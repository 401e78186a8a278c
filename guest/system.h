/*
 * system: makes of a bare kernel the system that a test, or a person at a shell, expects. Part of agent.c and
 * init.c. What a kernel does not have is left out.
 */
#ifndef GUEST_SYSTEM_H
#define GUEST_SYSTEM_H

#include <linux/sockios.h>
#include <linux/time.h>
#include <linux/wait.h>

#include "guest/setup.h"

static const struct {
	const char *dir, *type, *options;
} system_mounts[] = {
	{ "/dev/mqueue", "mqueue", 0 },
	{ "/dev/hugepages", "hugetlbfs", 0 },
	{ "/sys/fs/cgroup", "cgroup2", 0 },
	{ "/sys/fs/bpf", "bpf", "mode=700" },
	{ "/sys/kernel/tracing", "tracefs", 0 },
	{ "/sys/kernel/debug", "debugfs", 0 },
	{ "/sys/kernel/security", "securityfs", 0 },
	{ "/sys/kernel/config", "configfs", 0 },
	{ "/proc/sys/fs/binfmt_misc", "binfmt_misc", 0 },
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

/* The nodes of the modules that the root file system has for this kernel. */
static void make_module_nodes(void)
{
	char release[128], path[192];
	long n = file_read("/proc/sys/kernel/osrelease", release, sizeof(release));

	if (n <= 1)
		return;
	release[n - 1] = 0; /* the newline */
	str_join(path, sizeof(path), "/lib/modules/", release, "/modules.devname");
	nodes_of_modules(path);
}

/* After setup_mounts and setup_modules. */
static void system_complete(bool has_devtmpfs)
{
	SYS(umask, 0);
	if (!has_devtmpfs)
		setup_devices();
	setup_memory("/run", "mode=755");
	for (unsigned i = 0; i < ARRAY_LEN(system_mounts); i++) {
		SYS(mkdirat, AT_FDCWD, system_mounts[i].dir, 0755);
		SYS(mount, system_mounts[i].type, system_mounts[i].dir, system_mounts[i].type, 0,
		    system_mounts[i].options);
	}
	for (unsigned i = 0; i < ARRAY_LEN(system_links); i++)
		SYS(symlinkat, system_links[i][0], AT_FDCWD, system_links[i][1]);
	SYS(mkdirat, AT_FDCWD, "/run/lock", 01777);
	SYS(mkdirat, AT_FDCWD, "/root", 0700);
	make_module_nodes();
	SYS(umask, 022);
	delegate_controllers();
	bring_loopback_up();
}

/* The processes that the command has left have a moment to end, before the power goes. */
static void system_end_processes(void)
{
	uint64_t until = sys_clock_ms(CLOCK_MONOTONIC) + 200;

	SYS(kill, -1, 15);
	while (SYS(wait4, -1, 0, WNOHANG, 0) >= 0 && sys_clock_ms(CLOCK_MONOTONIC) < until)
		sys_sleep_ms(2);
}

#endif
