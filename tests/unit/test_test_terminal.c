/*
 * test_test_terminal: --tty on a pseudo-terminal, and without one.
 *
 * The child is the process with the test; it tells by its stdout what it learns. The parent types, and looks at the
 * terminal.
 */
#include <criterion/criterion.h>
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
#include <unistd.h>

#include "vmm/test/streams/input.h"
#include "vmm/test/streams/terminal.h"

TestSuite(test_test_terminal, .timeout = 30);

/* --- the child ------------------------------------------------------------------------------- */

static struct test_terminal *t;
static struct test_input *in;

static void tell(const char *text)
{
	if (write(1, text, strlen(text)) < 0)
		_exit(90);
}

static void on_resized(void *opaque, uint16_t rows, uint16_t cols)
{
	char text[32];

	snprintf(text, sizeof(text), "[%ux%u]", rows, cols);
	tell(text);
}

static void on_quit(void *opaque)
{
	tell("<quit>");
}

static void on_say(void *opaque, const char *text, size_t len)
{
	tell("<help>");
}

static void on_raw(void *opaque, bool raw)
{
	tell(raw ? "<raw>" : "<cooked>");
}

static const struct test_terminal_owner owner = { .resized = on_resized,
						  .quit = on_quit,
						  .say = on_say,
						  .raw = on_raw };

/* Tells each key as a number; "e" ends the command, "x" the process. */
static void on_ready(void *opaque)
{
	uint8_t buf[64];
	size_t n;

	while ((n = test_input_read(in, buf, sizeof(buf))))
		for (size_t i = 0; i < n; i++) {
			char text[8];

			snprintf(text, sizeof(text), "%02x,", buf[i]);
			tell(text);
			if (buf[i] == 'e')
				test_terminal_end(t);
			if (buf[i] == 'x')
				exit(7);
		}
}

static void on_ended(void *opaque)
{
	tell("<end>");
}

static size_t filter(void *opaque, uint8_t *buf, size_t len)
{
	return test_terminal_filter(t, buf, len);
}

static _Noreturn void child(bool destroy)
{
	struct test_input_owner from = { .ready = on_ready, .ended = on_ended, .filter = filter };
	struct loop *loop;
	uint16_t rows, cols;
	struct err err;

	alarm(20);
	if (loop_create(&loop, &err) || test_terminal_create(loop, &owner, &t, &err) ||
	    test_input_create(loop, 0, &from, &in, &err))
		_exit(99);
	test_terminal_size(t, &rows, &cols);
	on_resized(NULL, rows, cols);
	test_terminal_begin(t);
	if (destroy) {
		test_input_destroy(in);
		test_terminal_destroy(t);
		loop_destroy(loop);
		_exit(8);
	}
	loop_run(loop);
	_exit(98);
}

/* --- the parent ------------------------------------------------------------------------------ */

static int master, slave;
static char shown[1024];
static size_t len;

/* Waits until the child has told this, after what was waited for before. */
static void expect(const char *text)
{
	struct pollfd p = { .fd = master, .events = POLLIN };
	char *at;

	while (!(at = strstr(shown, text))) {
		ssize_t n;

		cr_assert_gt(poll(&p, 1, 10000), 0, "not \"%s\" but \"%s\"", text, shown);
		n = read(master, shown + len, sizeof(shown) - 1 - len);
		cr_assert_gt(n, 0, "not \"%s\" but \"%s\"", text, shown);
		len += (size_t)n;
		shown[len] = 0;
	}
	at += strlen(text);
	len -= (size_t)(at - shown);
	memmove(shown, at, len + 1);
}

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

static pid_t start(bool destroy)
{
	struct winsize ws = { .ws_row = 40, .ws_col = 100 };
	pid_t pid;

	cr_assert_eq(openpty(&master, &slave, NULL, NULL, &ws), 0);
	pid = fork();
	if (!pid) {
		close(master);
		setsid();
		ioctl(slave, TIOCSCTTY, 0);
		dup2(slave, 0);
		dup2(slave, 1);
		child(destroy);
	}
	return pid;
}

static void type(const char *keys)
{
	cr_assert_eq(write(master, keys, strlen(keys)), (ssize_t)strlen(keys));
}

static int ended(pid_t pid)
{
	int status;

	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return status;
}

Test(test_test_terminal, keys_sizes_and_the_way_out)
{
	struct winsize ws = { .ws_row = 50, .ws_col = 132 };
	pid_t pid = start(false);

	expect("[40x100]<raw>");
	cr_assert(raw());
	type("a\003\032\r\n\004");
	expect("61,03,1a,0d,0a,04,");
	ioctl(master, TIOCSWINSZ, &ws);
	expect("[50x132]");
	/* Ctrl-A twice is one; h and x are ours; another key is dropped. */
	type("\001\001\001h\001q\001x");
	expect("<help><quit>");
	expect("01,");
	/* The command has ended: the terminal is the user's, and Ctrl-A is a key. */
	type("e");
	expect("<cooked>");
	cr_assert(cooked());
	type("\001x\n");
	expect("01,78,");
	cr_assert_eq(WEXITSTATUS(ended(pid)), 7);
	cr_assert(cooked());
}

Test(test_test_terminal, restored_on_every_way_out)
{
	static const int signals[] = { SIGTERM, SIGHUP, SIGABRT, SIGPIPE };
	pid_t pid = start(true);

	cr_assert_eq(WEXITSTATUS(ended(pid)), 8);
	cr_assert(cooked());
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		pid = start(false);
		expect("<raw>");
		cr_assert(raw());
		kill(pid, signals[i]);
		cr_assert_eq(WTERMSIG(ended(pid)), signals[i]);
		cr_assert(cooked());
		len = shown[0] = 0;
	}
	pid = start(false);
	expect("<raw>");
	type("x");
	cr_assert_eq(WEXITSTATUS(ended(pid)), 7);
	cr_assert(cooked());
}

/* Nothing is raw, and Ctrl-A is a byte like others. */
Test(test_test_terminal, without_a_terminal)
{
	int to[2], from[2];
	pid_t pid;

	cr_assert_eq(pipe(to), 0);
	cr_assert_eq(pipe(from), 0);
	pid = fork();
	if (!pid) {
		dup2(to[0], 0);
		dup2(from[1], 1);
		close(to[1]);
		child(false);
	}
	master = from[0];
	cr_assert_eq(write(to[1], "\001h", 2), 2);
	expect("[24x80]01,68,");
	close(to[1]);
	expect("<end>");
	kill(pid, SIGKILL);
	ended(pid);
}
