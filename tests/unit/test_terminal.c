/*
 * test_terminal: the terminal is raw while a VM has it, and as before after every way to end.
 *
 * The VM's side runs in a child process on a pseudo-terminal. The parent reads the
 * terminal's state through the master.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "devices/backend/chardev/chardev.h"

static int master, slave;

enum way { WAY_RUN, WAY_EXIT, WAY_CLOSE, WAY_ABORT, WAY_PORT };

/* --- the child ------------------------------------------------------------- */

static struct chardev *chr;

static size_t input(void *opaque, const uint8_t *buf, size_t len)
{
	char text[32];

	/* The child hangs, as a guest may. */
	if (opaque)
		return 0;
	for (size_t i = 0; i < len; i++) {
		snprintf(text, sizeof(text), "<%02x>", buf[i]);
		chardev_write(chr, text, strlen(text));
	}
	return len;
}

static void resized(void *opaque, uint16_t cols, uint16_t rows)
{
	char text[32];

	snprintf(text, sizeof(text), "[%ux%u]", cols, rows);
	chardev_write(chr, text, strlen(text));
}

static void send_break(void *opaque)
{
	chardev_write(chr, "<break>", 7);
}

static void ignore(void *opaque)
{
}

/* A device without a size, and the port that has it: the guest reads a line, and opens the port again for "again". */
static size_t size_line(void *opaque, const uint8_t *buf, size_t len)
{
	chardev_write(chr, "{", 1);
	chardev_write(chr, buf, len - 1);
	chardev_write(chr, buf[len - 1] == '\n' ? "}" : "?", 1);
	return len;
}

static size_t open_again(void *opaque, const uint8_t *buf, size_t len)
{
	chardev_guest_open(opaque, false);
	chardev_guest_open(opaque, true);
	return len;
}

static void attach_port(struct loop *loop)
{
	struct chardev_user port = { .input = size_line, .drained = ignore, .failed = ignore };
	struct chardev_user serial = { .input = open_again, .drained = ignore, .failed = ignore };
	struct chardev *size = NULL;
	struct keyvals kv;
	struct err err;

	keys_start(&kv, "--port", chardev_keys);
	if (keys_set_hidden(&kv, "winsize", "on", &err) || keys_finish(&kv, &err) ||
	    chardev_open(&kv, loop, false, &size, &err))
		_exit(97);
	keys_clear(&kv);
	serial.opaque = size;
	chardev_attach(chr, &serial);
	chardev_attach(size, &port);
	if (chardev_write(size, "gone", 4) != 4)
		_exit(96);
	chardev_guest_open(size, true);
}

static _Noreturn void child(enum way way, bool stuck)
{
	struct chardev_user user = { input,	 ignore, resized,
				     send_break, ignore, stuck ? &stuck : NULL };
	struct keyvals kv;
	struct loop *loop;
	struct err err;

	dup2(slave, 0);
	dup2(slave, 1);
	alarm(40);
	if (loop_create(&loop, &err) || keys_parse(&kv, "--serial", chardev_keys, "stdio", &err) ||
	    chardev_open(&kv, loop, false, &chr, &err))
		_exit(99);
	keys_clear(&kv);
	if (way == WAY_PORT)
		attach_port(loop);
	else
		chardev_attach(chr, &user);
	if (way == WAY_EXIT)
		exit(7);
	if (way == WAY_ABORT)
		abort();
	if (way == WAY_CLOSE) {
		chardev_close(chr);
		_exit(8);
	}
	loop_run(loop);
	_exit(98);
}

/* --- the parent ------------------------------------------------------------ */

static bool raw(void)
{
	struct termios tio;

	cr_assert_eq(tcgetattr(slave, &tio), 0);
	return !(tio.c_lflag & (ICANON | ECHO | ISIG)) && !(tio.c_oflag & OPOST);
}

static bool cooked(void)
{
	struct termios tio;

	cr_assert_eq(tcgetattr(slave, &tio), 0);
	return tio.c_lflag & ICANON && tio.c_lflag & ECHO && tio.c_lflag & ISIG &&
	       tio.c_oflag & OPOST;
}

static bool soon(bool (*cond)(void))
{
	struct timespec nap = { .tv_nsec = 2000000 };

	for (unsigned i = 0; i < 2500 && !cond(); i++)
		nanosleep(&nap, NULL);
	return cond();
}

/* Waits for len bytes from the child. Returns what came. */
static const char *shown(size_t len)
{
	static char buf[4096];
	struct pollfd pfd = { master, POLLIN, 0 };
	size_t n = 0;

	while (n < len && poll(&pfd, 1, 5000) > 0) {
		ssize_t r = read(master, buf + n, len - n);

		if (r <= 0)
			break;
		n += (size_t)r;
	}
	buf[n] = 0;
	return buf;
}

static void type(const char *keys)
{
	cr_assert_eq(write(master, keys, strlen(keys)), (ssize_t)strlen(keys));
}

static pid_t start(enum way way, bool stuck)
{
	struct winsize ws = { .ws_col = 100, .ws_row = 40 };
	pid_t pid;

	cr_assert_eq(openpty(&master, &slave, NULL, NULL, &ws), 0);
	cr_assert(cooked());
	pid = fork();
	if (!pid)
		child(way, stuck);
	return pid;
}

static int end_of(pid_t pid)
{
	int status;

	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return status;
}

TestSuite(terminal, .timeout = 60);

static void killed_by(int sig)
{
	struct sigaction act;
	pid_t pid;

	/* A sanitizer may handle this signal itself, without our handler. */
	if (!sigaction(sig, NULL, &act) && act.sa_handler != SIG_DFL)
		return;
	pid = start(WAY_RUN, false);
	cr_assert(soon(raw));
	cr_assert_str_eq(shown(8), "[100x40]");
	kill(pid, sig);
	cr_assert_eq(WTERMSIG(end_of(pid)), sig, "the signal still kills");
	cr_assert(cooked(), "after signal %d", sig);
	close(master);
	close(slave);
}

Test(terminal, signals)
{
	static const int sigs[] = { SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGABRT, SIGSEGV,
				    SIGBUS,  SIGFPE, SIGILL,  SIGSYS, SIGALRM, SIGUSR1 };

	for (size_t i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
		killed_by(sigs[i]);
}

Test(terminal, exit_abort_close)
{
	cr_assert_eq(WEXITSTATUS(end_of(start(WAY_EXIT, false))), 7);
	cr_assert(cooked());
	cr_assert_eq(WTERMSIG(end_of(start(WAY_ABORT, false))), SIGABRT);
	cr_assert(cooked());
	cr_assert_eq(WEXITSTATUS(end_of(start(WAY_CLOSE, false))), 8);
	cr_assert(cooked());
}

Test(terminal, keys_and_escapes)
{
	struct winsize ws = { .ws_col = 81, .ws_row = 26 };
	pid_t pid = start(WAY_RUN, false);

	cr_assert(soon(raw));
	shown(8);
	type("a\x03\x1a\r");
	cr_assert_str_eq(shown(16), "<61><03><1a><0d>", "Ctrl-C and Ctrl-Z are the guest's");
	type("\x01\x01");
	cr_assert_str_eq(shown(4), "<01>");
	type("\x01"
	     "b\x01qz");
	cr_assert_str_eq(shown(11), "<break><7a>");
	type("\x01h");
	cr_assert_not_null(strstr(shown(80), "Ctrl-A x  end the VM\r\n"));
	cr_assert_eq(ioctl(slave, TIOCSWINSZ, &ws), 0);
	kill(pid, SIGWINCH); /* without a session the kernel does not send it */
	tcflush(master, TCIFLUSH);
	type("\x01");
	type("x");
	cr_assert_eq(WTERMSIG(end_of(pid)), SIGTERM);
	cr_assert(cooked());
}

Test(terminal, resize)
{
	struct winsize ws = { .ws_col = 81, .ws_row = 26 };
	pid_t pid = start(WAY_RUN, false);

	cr_assert(soon(raw));
	cr_assert_str_eq(shown(8), "[100x40]");
	cr_assert_eq(ioctl(slave, TIOCSWINSZ, &ws), 0);
	kill(pid, SIGWINCH);
	cr_assert_str_eq(shown(7), "[81x26]");
	kill(pid, SIGKILL);
	end_of(pid);
}

/* A serial port has no size: a guest that opens the port for it gets lines, and the newest one at each opening. */
Test(terminal, size_by_a_port)
{
	struct winsize ws = { .ws_col = 81, .ws_row = 26 };
	pid_t pid = start(WAY_PORT, false);

	cr_assert(soon(raw));
	cr_assert_str_eq(shown(8), "{40 100}");
	cr_assert_eq(ioctl(slave, TIOCSWINSZ, &ws), 0);
	kill(pid, SIGWINCH);
	cr_assert_str_eq(shown(7), "{26 81}");
	type("again");
	cr_assert_str_eq(shown(7), "{26 81}");
	kill(pid, SIGKILL);
	end_of(pid);
}

Test(terminal, a_stuck_guest_can_be_left)
{
	pid_t pid = start(WAY_RUN, true);
	struct timespec nap = { .tv_nsec = 100000000 };

	cr_assert(soon(raw));
	for (unsigned i = 0; i < 30; i++) {
		type("keys that nobody takes, typed by somebody in anger ");
		nanosleep(&nap, NULL);
	}
	type("\x01x");
	cr_assert_eq(WTERMSIG(end_of(pid)), SIGTERM);
	cr_assert(cooked());
}

/* Acts as a shell, the leader of the terminal's session. Returns 0 or the failed step. */
static int shell(void)
{
	struct timespec nap = { .tv_nsec = 600000000 };
	int status;
	pid_t pid;

	setsid();
	if (ioctl(slave, TIOCSCTTY, 0))
		return 1;
	signal(SIGTTOU, SIG_IGN);
	pid = fork();
	if (!pid) {
		setpgid(0, 0);
		tcsetpgrp(slave, getpid());
		signal(SIGTTOU, SIG_DFL);
		child(WAY_RUN, false);
	}
	if (!soon(raw))
		return 2;
	kill(pid, SIGTSTP);
	if (waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status))
		return 3;
	if (!cooked())
		return 4;
	/* bg: the child runs, and leaves the terminal alone even if keys are typed. */
	tcsetpgrp(slave, getpid());
	kill(pid, SIGCONT);
	if (write(master, "shell\n", 6) != 6)
		return 5;
	nanosleep(&nap, NULL);
	if (waitpid(pid, &status, WNOHANG | WUNTRACED) != 0)
		return 6;
	if (!cooked())
		return 7;
	/* fg */
	tcsetpgrp(slave, pid);
	if (!soon(raw))
		return 8;
	/* Another process stops the child; it continues in the foreground. */
	kill(pid, SIGSTOP);
	waitpid(pid, &status, WUNTRACED);
	kill(pid, SIGCONT);
	kill(pid, SIGTERM);
	if (waitpid(pid, &status, 0) != pid || WTERMSIG(status) != SIGTERM)
		return 9;
	return cooked() ? 0 : 10;
}

Test(terminal, job_control)
{
	pid_t pid;
	int status;

	cr_assert_eq(openpty(&master, &slave, NULL, NULL, NULL), 0);
	pid = fork();
	if (!pid)
		_exit(shell());
	status = end_of(pid);
	cr_assert(WIFEXITED(status));
	cr_assert_eq(WEXITSTATUS(status), 0, "step %d", WEXITSTATUS(status));
}
