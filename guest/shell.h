/*
 * shell: a shell for a person, on a terminal of the guest. Part of init.c.
 *
 * Theory of operation. init opens the terminal as its own standard streams, so that all of its children have it. Disks
 * and folders are mounted before the shell runs; DHCP runs beside it, since a network may have no server. A
 * child keeps the size of the terminal (terminal.h). The shell is a child of a session leader, for run_session's
 * reason, and takes the terminal's foreground for its jobs itself.
 */
#ifndef GUEST_SHELL_H
#define GUEST_SHELL_H

#include <asm/ioctls.h>
#include <linux/termios.h>

#include "guest/port.h"
#include "guest/terminal.h"

#define TERMINAL_WAIT_MS 2000u

/* The value of the words of the kernel's command line that only a shell has. */
static struct {
	const char *terminal; /* "ttyS0"; NULL: no shell */
	const char *term;     /* the variable TERM */
	const char *size;     /* "ROWSxCOLUMNS" */
	char *folders;	      /* tags of virtio-fs, apart by commas */
	bool net, batch;
} shell = { .term = "vt220", .size = "" };

/* Takes a word of the kernel's command line. Returns false if it is not one of these. */
static bool shell_word(char *word)
{
	if (str_starts(word, "bantam.shell="))
		shell.terminal = word + 13;
	else if (str_starts(word, "bantam.term="))
		shell.term = word + 12;
	else if (str_starts(word, "bantam.size="))
		shell.size = word + 12;
	else if (str_starts(word, "bantam.fs="))
		shell.folders = word + 10;
	else if (str_eq(word, "bantam.net"))
		shell.net = true;
	else if (str_eq(word, "bantam.batch"))
		shell.batch = true;
	else
		return false;
	return true;
}

/* --- the terminal --------------------------------------------------------------------------------- */

/* "ROWS COLUMNS", with any character between them. */
static void set_size(int fd, const char *text)
{
	struct winsize size = { .ws_row = (uint16_t)str_number(text) };

	while (*text >= '0' && *text <= '9')
		text++;
	if (!*text || !size.ws_row)
		return;
	size.ws_col = (uint16_t)str_number(text + 1);
	SYS(ioctl, fd, TIOCSWINSZ, &size);
}

/* Opens the terminal in place of the console, which may be another one. */
static void open_terminal(void)
{
	uint64_t until = sys_clock_ms(CLOCK_MONOTONIC) + TERMINAL_WAIT_MS;
	struct termios mode;
	char path[64];
	int fd;

	str_join(path, sizeof(path), "/dev/", shell.terminal, "");
	while ((fd = sys_open(path, O_RDWR | O_NOCTTY, 0)) < 0 &&
	       sys_clock_ms(CLOCK_MONOTONIC) < until)
		sys_sleep_ms(5);
	if (fd < 0) {
		say("%s: error %ld", path, -(long)fd);
		return;
	}
	out_take(fd);
	if (SYS(ioctl, 0, TCGETS, &mode) == 0) {
		/* Programs wait for what they write at the port's speed, which is not real. */
		mode.c_cflag = (mode.c_cflag & ~(tcflag_t)CBAUD) | B115200;
		mode.c_iflag |= IUTF8;
		if (shell.batch)
			mode.c_lflag &= ~(tcflag_t)ECHO;
		SYS(ioctl, 0, TCSETS, &mode);
	}
	set_size(0, shell.size);
}

/* The child that follows the size of the host's terminal. Ends with the channel. */
static _Noreturn void follow_size(bool has_devtmpfs)
{
	int fd = port_open(TERMINAL_PORT, has_devtmpfs);
	char line[32];
	size_t n = 0;

	while (fd >= 0) {
		char c;

		if (sys_read(fd, &c, 1) != 1)
			break;
		if (c == '\n') {
			line[n] = 0;
			n = 0;
			set_size(0, line);
		} else if (n + 1 < sizeof(line)) {
			line[n++] = c;
		}
	}
	for (;;)
		SYS(exit_group, 0);
}

/* --- what the command line of the host has given ------------------------------------------------------ */

static void mount_at(const char *what, const char *type, const char *name, bool read_only)
{
	char *dir = init.mounted[init.nmounted];
	long err;

	if (init.nmounted == ARRAY_LEN(init.mounted))
		return;
	str_join(dir, sizeof(init.mounted[0]), "/mnt/", name, "");
	for (char *c = dir + 5; *c; c++)
		if (*c == '/')
			*c = '_';
	SYS(mkdirat, AT_FDCWD, dir, 0755);
	err = SYS(mount, what, dir, type, read_only ? MS_RDONLY : 0, 0);
	if (err < 0) {
		say("%s: %s cannot be mounted%s: error %ld", name, type,
		    err == -ENODEV ? ", this kernel does not know it" : "", -err);
		SYS(unlinkat, AT_FDCWD, dir, 0x200 /* AT_REMOVEDIR */);
		return;
	}
	init.nmounted++;
	out("%s (%s%s) is at %s\n", name, type, read_only ? ", read-only" : "", dir);
}

static void mount_disks(void)
{
	for (unsigned i = 0; i < init.ndisks; i++) {
		const struct disk *d = &init.disk[i];
		char dev[64];

		str_join(dev, sizeof(dev), "/dev/", d->name, "");
		if (d->fstype[0])
			mount_at(dev, d->fstype, d->name, d->read_only);
	}
}

static void mount_folders(void)
{
	for (char *tag = shell.folders, *next; tag && *tag; tag = next) {
		for (next = tag; *next && *next != ',';)
			next++;
		if (*next)
			*next++ = 0;
		if (*tag && !str_eq(tag, ".") && !str_eq(tag, ".."))
			mount_at(tag, "virtiofs", tag, false);
	}
}

/* --- the network -------------------------------------------------------------------------------------- */

#define DHCP_SCRIPT "/etc/udhcpc.script"

static void start_dhcp(const char *name, void *arg)
{
	char *argv[] = { (char *)"busybox", (char *)"udhcpc", (char *)"-f",	   (char *)"-i",
			 (char *)name,	    (char *)"-s",     (char *)DHCP_SCRIPT, NULL };
	static char *const env[] = { "PATH=/bin:/sbin:/usr/bin:/usr/sbin", NULL };
	int null;

	if (str_eq(name, "lo") || fork_process() != 0)
		return;
	null = sys_open("/dev/null", O_RDWR, 0);
	for (int i = 0; i < 3; i++)
		SYS(dup3, null, i, 0);
	SYS(setsid, 0);
	SYS(execve, "/bin/busybox", argv, env);
	for (;;)
		SYS(exit_group, 127);
}

static void start_network(void)
{
	if (SYS(faccessat, AT_FDCWD, DHCP_SCRIPT, 0) < 0) {
		say("the network has no address: this initrd has no DHCP client (busybox udhcpc)");
		return;
	}
	dir_each("/sys/class/net", start_dhcp, NULL);
}

/* --- the shell ---------------------------------------------------------------------------------------- */

static _Noreturn void exec_shell(char **argv)
{
	static char term[80];
	char *env[] = { (char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			(char *)"HOME=/root",
			(char *)"USER=root",
			(char *)"LOGNAME=root",
			(char *)"SHELL=/bin/sh",
			term,
			shell.batch ? (char *)"PS1=" : NULL,
			(char *)"PS2=",
			NULL };
	long err;

	str_join(term, sizeof(term), "TERM=", shell.term, "");
	SYS(chdir, "/root");
	err = SYS(execve, "/bin/sh", argv, env);
	say("/bin/sh: error %ld", -err);
	for (;;)
		SYS(exit_group, 127);
}

/* Returns when the shell has ended. */
static void run_shell(bool has_devtmpfs)
{
	static char *const argv[] = { (char *)"sh", NULL };

	SYS(mkdirat, AT_FDCWD, "/mnt", 0755);
	mount_disks();
	mount_folders();
	if (shell.net)
		start_network();
	if (fork_process() == 0)
		follow_size(has_devtmpfs);
	run_session(exec_shell, (char **)argv);
}

#endif
