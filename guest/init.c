/*
 * init: the first program of a test or demonstration guest, and of `bantam run --shell`.
 *
 * Theory of operation: mounts /dev, /proc and /sys, loads the modules that
 * /modules.list names ("PATH [ARGUMENTS]" per line, in that order), waits for
 * the disks, mounts those with a known label, runs commands, reports on the
 * console and ends the machine as bantam.end says. With bantam.shell it mounts every
 * disk and folder that it can, and runs a shell for a person behind the commands (shell.h). Built-in commands (builtin.h) need
 * nothing else in the initrd; other commands are programs of the initrd.
 *
 * Kernel command line (values with blanks in double quotes):
 *   bantam.run="CMD; CMD"  commands; also the words after "--"; also /etc/bantam-init,
 *                          one per line, when the command line gives none
 *   bantam.disks=N         wait until N disks are there (at most bantam.wait seconds, 10)
 *   bantam.mount=A,B       labels to mount at /mnt/LABEL besides SERVICEDISK and CIDATA
 *   bantam.show            print what the mounted disks hold
 *   bantam.end=HOW         poweroff (default), reboot, panic, sysrq-b, triple, hang, exit
 *   bantam.quiet           print only the first line, the commands' output and the status
 *   bantam.shell=TTY       run /bin/sh on that terminal ("ttyS0", "hvc0"); print only what goes wrong, and what
 *                          is mounted: each disk's file system at /mnt/NAME ("vda1")
 *   bantam.term=TERM       the shell's variable TERM (vt220)
 *   bantam.size=ROWSxCOLS  the terminal's size at the start
 *   bantam.batch           no person is there: no echo, no prompt
 *   bantam.fs=TAG,TAG      folders of virtio-fs to mount at /mnt/TAG for the shell
 *   bantam.net             get the network's addresses by DHCP beside the shell
 *
 * The lines that init prints start with "bantam-init: "; the last ones are
 *   bantam-init: status N  (of the last command that failed, 0 if none did)
 *   bantam-init: end HOW
 */
#include <linux/mount.h>
#include <linux/reboot.h>
#include <linux/time.h>
#include <linux/wait.h>

#include "guest/sys.h"
#include "guest/disk.h"
#include "guest/sha256.h"

#define NAME "bantam-init: "
#define MAX_DISKS 40
#define MAX_RUN 16

static struct {
	char cmdline[4096];
	char *run[MAX_RUN];
	unsigned nrun;
	unsigned disks;
	unsigned wait_s;
	const char *mount;
	const char *end;
	bool show;
	bool quiet;
	struct disk disk[MAX_DISKS];
	unsigned ndisks;
	char mounted[MAX_DISKS][64];
	unsigned nmounted;
} init = { .wait_s = 10, .mount = "", .end = "poweroff" };

#define say(fmt, ...) out(NAME fmt "\n", ##__VA_ARGS__)
#define tell(fmt, ...) (init.quiet ? (void)0 : say(fmt, ##__VA_ARGS__))

static void scan_disks(void)
{
	init.ndisks = disk_scan(init.disk, MAX_DISKS);
}

#include "guest/builtin.h"
#include "guest/setup.h"
#include "guest/system.h"

static int run_session(void (*child)(char **argv), char **argv);

#include "guest/shell.h"

/* Returns the next word of the kernel command line, split in place, without its double quotes. */
static char *next_word(char **at)
{
	char *from = *at, *to, *word;
	bool quoted = false;

	while (*from == ' ' || *from == '\t' || *from == '\n')
		from++;
	if (!*from)
		return NULL;
	word = to = from;
	for (; *from && (quoted || (*from != ' ' && *from != '\t' && *from != '\n')); from++) {
		if (*from == '"')
			quoted = !quoted;
		else
			*to++ = *from;
	}
	*at = *from ? from + 1 : from;
	*to = 0;
	return word;
}

static void parse_cmdline(void)
{
	char *at = init.cmdline, *word;

	file_read("/proc/cmdline", init.cmdline, sizeof(init.cmdline));
	while ((word = next_word(&at)) != NULL) {
		if (str_eq(word, "--"))
			break; /* the words after "--" come in argv */
		if (str_starts(word, "bantam.run=") && init.nrun < MAX_RUN)
			init.run[init.nrun++] = word + 11;
		else if (str_starts(word, "bantam.disks="))
			init.disks = (unsigned)str_number(word + 13);
		else if (str_starts(word, "bantam.wait="))
			init.wait_s = (unsigned)str_number(word + 12);
		else if (str_starts(word, "bantam.mount="))
			init.mount = word + 13;
		else if (str_starts(word, "bantam.end="))
			init.end = word + 11;
		else if (str_eq(word, "bantam.show"))
			init.show = true;
		else if (str_eq(word, "bantam.quiet"))
			init.quiet = true;
		else if (shell_word(word))
			init.quiet |= shell.terminal != NULL;
	}
}

static void load_modules(void)
{
	unsigned loaded = setup_modules();

	tell("modules %u", loaded);
}

static void wait_for_disks(void)
{
	uint64_t until = sys_clock_ms(CLOCK_MONOTONIC) + init.wait_s * 1000;
	unsigned whole;

	for (;;) {
		scan_disks();
		whole = 0;
		for (unsigned i = 0; i < init.ndisks; i++)
			whole += !init.disk[i].partition;
		if (whole >= init.disks || sys_clock_ms(CLOCK_MONOTONIC) >= until)
			break;
		sys_sleep_ms(10);
	}
	if (whole < init.disks)
		say("disks: %u of %u after %u s", whole, init.disks, init.wait_s);
	if (!init.quiet)
		cmd_disks(0, NULL);
}

static bool in_list(const char *list, const char *word)
{
	size_t len = strlen(word);

	while (*list) {
		size_t n = 0;

		while (list[n] && list[n] != ',')
			n++;
		if (n == len && !memcmp(list, word, n))
			return true;
		list += n + (list[n] == ',');
	}
	return false;
}

static void mount_labels(void)
{
	SYS(mkdirat, AT_FDCWD, "/mnt", 0755);
	for (unsigned i = 0; i < init.ndisks; i++) {
		struct disk *d = &init.disk[i];
		char dev[64], *dir = init.mounted[init.nmounted];
		long err;

		/* The label becomes a directory's name. */
		for (char *c = d->label; *c; c++)
			if (*c == '/' || *c < ' ')
				*c = '_';
		if (!d->label[0] || d->label[0] == '.' ||
		    !(str_eq(d->label, "SERVICEDISK") || str_eq(d->label, "CIDATA") ||
		      str_eq(d->label, "cidata") || in_list(init.mount, d->label)))
			continue;
		str_join(dev, sizeof(dev), "/dev/", d->name, "");
		str_join(dir, sizeof(init.mounted[0]), "/mnt/", d->label, "");
		SYS(mkdirat, AT_FDCWD, dir, 0755);
		err = SYS(mount, dev, dir, d->fstype, MS_RDONLY, 0);
		if (err < 0) {
			say("mount %s at %s: error %ld", dev, dir, -err);
			continue;
		}
		init.nmounted++;
		tell("mount %s %s %s", d->name, d->fstype, dir);
		if (init.show)
			show_disk(d, dir);
	}
}

/* Waits for child pid and reaps other children meanwhile. Returns its status as a shell does. */
static int wait_for(long pid)
{
	int status = 0;

	for (long got; (got = SYS(wait4, -1, &status, 0, 0)) != pid;)
		if (got < 0 && got != -EINTR)
			return 126;
	return status & 0x7f ? 128 + (status & 0x7f) : (status >> 8 & 0xff);
}

/* Waits until the terminal has sent all its output. */
static void drain_output(void)
{
	SYS(ioctl, 1, 0x5409 /* TCSBRK */, 1);
}

static _Noreturn void exec_program(char **argv)
{
	static char *const env[] = { "PATH=/bin:/sbin:/usr/bin:/usr/sbin", "HOME=/root",
				     "TERM=linux", "LD_LIBRARY_PATH=/lib:/usr/lib:/lib64", NULL };
	static const char *const dirs[] = { "/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/" };
	long err = -ENOENT;
	char path[128];

	if (str_eq(argv[0], "in") && argv[1] && argv[2]) {
		SYS(chroot, argv[1]);
		SYS(chdir, "/");
		argv += 2;
	}
	if (argv[0][0] == '/')
		err = SYS(execve, argv[0], argv, env);
	for (unsigned i = 0; argv[0][0] != '/' && i < ARRAY_LEN(dirs) && err == -ENOENT; i++) {
		str_join(path, sizeof(path), dirs[i], argv[0], "");
		err = SYS(execve, path, argv, env);
	}
	say("%s: cannot run: error %ld", argv[0], -err);
	SYS(exit_group, 127);
	for (;;)
		;
}

/*
 * Runs child(argv), which executes a program, with the console as its terminal. A session leader stands between init and the program: when a session leader ends, the
 * kernel drops the output that the terminal has not sent yet, so the leader drains it first.
 */
static int run_session(void (*child)(char **argv), char **argv)
{
	uint64_t all = ~0ull, none = 0;
	long leader, pid;

	leader = fork_process();
	if (leader == 0) {
		SYS(setsid, 0);
		SYS(ioctl, 0, 0x540e /* TIOCSCTTY */, 1);
		SYS(rt_sigprocmask, 2 /* SIG_SETMASK */, &all, 0, 8); /* ignore ctrl-c */
		pid = fork_process();
		if (pid == 0) {
			SYS(rt_sigprocmask, 2, &none, 0, 8);
			child(argv);
		}
		pid = pid < 0 ? 126 : wait_for(pid);
		drain_output();
		SYS(exit_group, pid);
	}
	if (leader < 0) {
		say("%s: fork: error %ld", argv[0], -leader);
		return 126;
	}
	return wait_for(leader);
}

/* Runs a program of the initrd, or "in DIR CMD..." of another root. */
static int run_program(char **argv)
{
	return run_session(exec_program, argv);
}

/* Splits one command into words and runs it. */
static int run_command(char *text)
{
	char *argv[33], name[32];
	int argc = 0, status;

	for (char *word; argc < 32 && (word = next_word(&text)) != NULL;)
		argv[argc++] = word;
	if (!argc)
		return 0;
	argv[argc] = NULL;
	str_copy(name, sizeof(name), argv[argc > 2 && str_eq(argv[0], "in") ? 2 : 0]);
	if (!run_builtin(argc, argv, &status))
		status = run_program(argv);
	say("run %s: %d", name, status);
	return status;
}

/* Runs commands separated by ';' or newlines. Returns the status of the last that failed, or 0. */
static int run_commands(char *text)
{
	int status = 0;

	while (text) {
		char *end = text;
		bool quoted = false;
		int ret;

		while (*end && (quoted || (*end != ';' && *end != '\n')))
			quoted ^= *end++ == '"';
		if (*end)
			*end++ = 0;
		else
			end = NULL;
		ret = run_command(text);
		status = ret ? ret : status;
		text = end;
	}
	return status;
}

static void unmount_all(void)
{
	while (init.nmounted)
		SYS(umount2, init.mounted[--init.nmounted], 0);
	SYS(sync, 0);
}

static void end(const char *how, int status)
{
	if (shell.terminal) {
		system_end_processes();
		unmount_all();
		file_write("/proc/sys/kernel/printk", "0"); /* "reboot: Power down" */
	} else {
		unmount_all();
		say("end %s", how);
	}
	drain_output();
	if (str_eq(how, "exit"))
		SYS(exit_group, status);
	else if (str_eq(how, "reboot"))
		SYS(reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART, 0);
	else if (str_eq(how, "panic"))
		file_write("/proc/sysrq-trigger", "c");
	else if (str_eq(how, "sysrq-b"))
		file_write("/proc/sysrq-trigger", "b");
	else if (str_eq(how, "triple")) {
		/* The kernel's own triple fault: an empty IDT, then int3. */
		file_write("/sys/kernel/reboot/type", "triple");
		SYS(reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART, 0);
	} else if (!str_eq(how, "hang"))
		SYS(reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_POWER_OFF,
		    0);
	for (;;)
		sys_sleep_ms(1000 * 1000);
}

int main(int argc, char **argv, char **envp)
{
	static char script[8192];
	bool opened, has_devtmpfs;
	int status = 0;

	(void)envp;
	if (SYS(getpid, 0) != 1) {
		/* As an ordinary process, run one built-in command, to try it out. */
		if (argc < 2 || !run_builtin(argc - 1, argv + 1, &status))
			say("not PID 1; say a built-in command");
		return status;
	}
	opened = SYS(fcntl, 1, F_GETFD, 0) >= 0;
	sys_out.closed = !opened;
	SYS(mkdirat, AT_FDCWD, "/proc", 0755);
	SYS(mount, "proc", "/proc", "proc", 0, 0);
	parse_cmdline();
	if (opened && !shell.terminal)
		say("up");
	has_devtmpfs = setup_mounts();
	out_reopen("/dev/console");
	if (!opened && !shell.terminal)
		say("up");
	load_modules();
	if (shell.terminal) {
		system_complete(has_devtmpfs);
		SYS(sethostname, "bantam", 6);
		open_terminal();
	}
	wait_for_disks();
	if (!shell.terminal)
		mount_labels();
	tell("ready %lu ms", (unsigned long)sys_clock_ms(CLOCK_MONOTONIC));

	if (argc > 1) {
		if (!run_builtin(argc - 1, argv + 1, &status))
			status = run_program(argv + 1);
		say("run %s: %d", argv[1], status);
	}
	for (unsigned i = 0; i < init.nrun; i++) {
		int ret = run_commands(init.run[i]);

		status = ret ? ret : status;
	}
	if (!init.nrun && argc < 2 && file_read("/etc/bantam-init", script, sizeof(script)) > 0)
		status = run_commands(script);
	if (shell.terminal)
		run_shell(has_devtmpfs);
	else
		say("status %d", status);
	end(init.end, status);
	return 0;
}
