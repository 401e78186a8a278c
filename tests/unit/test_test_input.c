/* test_test_input: stdin of every kind, as the session pulls it. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/test/streams/input.h"

TestSuite(test_input, .timeout = 20);

static struct loop *loop;
static struct loop_watch *timer;
static struct test_input *in;
static unsigned readies, ends;

static void stop(void *opaque)
{
	loop_stop(loop);
}

static void on_ready(void *opaque)
{
	readies++;
	loop_stop(loop);
}

static void on_end(void *opaque)
{
	ends++;
	loop_stop(loop);
}

/* Takes out each "#". */
static size_t filter(void *opaque, uint8_t *buf, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		if (buf[i] != '#')
			buf[n++] = buf[i];
	return n;
}

static void begin(int fd)
{
	struct test_input_owner owner = { .ready = on_ready, .ended = on_end, .filter = filter };
	struct err err = { "" };

	cr_assert_eq(loop_create(&loop, &err), 0);
	cr_assert_eq(loop_watch_timer(loop, stop, NULL, &timer), 0);
	cr_assert_eq(test_input_create(loop, fd, &owner, &in, &err), 0, "%s", err.text);
}

static void end(void)
{
	test_input_destroy(in);
	loop_unwatch(timer);
	loop_destroy(loop);
}

/* Returns at the first event, or after this time. */
static void turn(unsigned ms)
{
	loop_timer_arm(timer, ms * 1000000ull + 1);
	loop_run(loop);
	loop_timer_arm(timer, 0);
}

/* What comes until the end, in pieces of at most max bytes. */
static const char *all(size_t max)
{
	static char text[256];
	size_t len = 0;

	for (unsigned i = 0; i < 100 && !ends; i++) {
		size_t n;

		turn(100);
		while ((n = test_input_read(in, (uint8_t *)text + len,
					    max < sizeof(text) - 1 - len ? max :
									   sizeof(text) - 1 - len)))
			len += n;
	}
	text[len] = 0;
	return text;
}

enum kind { PIPE, SOCKET, FILE_, SHARED_PIPE };

Test(test_input, every_kind_gives_all_bytes)
{
	for (unsigned kind = PIPE; kind <= SHARED_PIPE; kind++) {
		int fd[2], flags;

		if (kind == PIPE || kind == SHARED_PIPE) {
			cr_assert_eq(pipe(fd), 0);
		} else if (kind == SOCKET) {
			cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
		} else {
			fd[0] = memfd_create("input", 0);
			fd[1] = dup(fd[0]);
		}
		cr_assert_eq(write(fd[1], "one#two#", 8), 8);
		lseek(fd[0], 0, SEEK_SET);
		close(fd[1]);
		ends = 0;
		flags = fcntl(fd[0], F_GETFL);
		begin(fd[0]);
		cr_assert_str_eq(all(kind == PIPE ? 3 : 64), "onetwo", "%u", kind);
		cr_assert_eq(ends, 1);
		turn(1);
		cr_assert_eq(ends, 1);
		cr_assert_eq(fcntl(fd[0], F_GETFL), flags);
		end();
		close(fd[0]);
	}
}

Test(test_input, what_has_nothing_ends_at_once)
{
	int closed = dup(0), writable = open("/dev/null", O_WRONLY),
	    null = open("/dev/null", O_RDONLY), folder = open("/", O_RDONLY);
	int fds[] = { closed, writable, null, folder };

	close(closed);
	for (unsigned i = 0; i < 4; i++) {
		uint8_t buf[8];

		ends = 0;
		/* No file of the loop may have the number of the closed one. */
		begin(fds[i] == closed ? 500 : fds[i]);
		turn(1000);
		cr_assert_eq(test_input_read(in, buf, sizeof(buf)), 0);
		cr_assert_eq(ends, 1, "%u", i);
		end();
	}
}

/* Nothing is read before the session asks, and the loop sleeps meanwhile. */
Test(test_input, it_is_pulled)
{
	uint8_t buf[8];
	int fd[2];

	cr_assert_eq(pipe(fd), 0);
	begin(fd[0]);
	cr_assert_eq(test_input_read(in, buf, sizeof(buf)), 0);
	turn(1);
	cr_assert_eq(readies, 0);
	cr_assert_eq(write(fd[1], "12", 2), 2);
	turn(1000);
	cr_assert_eq(readies, 1);
	turn(20);
	turn(20);
	cr_assert_eq(readies, 1);
	cr_assert_eq(test_input_read(in, buf, 1), 1);
	cr_assert_eq(test_input_read(in, buf, 8), 1);
	cr_assert_eq(test_input_read(in, buf, 8), 0);
	cr_assert_eq(write(fd[1], "#3", 2), 2);
	turn(1000);
	cr_assert_eq(readies, 2);
	cr_assert_eq(test_input_read(in, buf, 8), 1);
	/* The command takes no more. */
	test_input_stop(in);
	close(fd[1]);
	turn(20);
	cr_assert_eq(test_input_read(in, buf, 8), 0);
	cr_assert_eq(ends, 0);
	end();
}

/* A shell's background job waits for the foreground; it is neither stopped nor at its end. */
Test(test_input, a_terminal_in_the_background)
{
	int master, status;
	pid_t leader = forkpty(&master, NULL, NULL, NULL);

	if (!leader) {
		uint8_t buf[8];
		pid_t job;

		signal(SIGTTOU, SIG_IGN);
		job = fork();
		if (job) {
			setpgid(job, job);
			cr_assert_eq(write(1, "go", 2), 2);
			while (waitpid(job, &status, WUNTRACED) == job && WIFSTOPPED(status))
				_exit(90);
			_exit(WEXITSTATUS(status));
		}
		setpgid(0, 0);
		begin(0);
		turn(2000); /* a line is there, for the foreground */
		if (readies != 1 || test_input_read(in, buf, sizeof(buf)) || ends)
			_exit(91);
		tcsetpgrp(0, getpgrp());
		turn(2000); /* it looks again */
		if (readies != 2 || test_input_read(in, buf, sizeof(buf)) != 3 ||
		    memcmp(buf, "ab\n", 3))
			_exit(92);
		end();
		_exit(7);
	}
	cr_assert_eq(write(master, "ab\n", 3), 3);
	cr_assert_eq(waitpid(leader, &status, 0), leader);
	cr_assert(WIFEXITED(status));
	cr_assert_eq(WEXITSTATUS(status), 7, "%d", WEXITSTATUS(status));
}
