/*
 * test_test_output: the streams of a guest arrive where the user wants them: files, pipes, a terminal; what is slow,
 * full or gone harms no other stream.
 *
 * Each test has a process of its own (Criterion), whose descriptors 1 and 2 are pipes or a pseudo-terminal here.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/test/streams/output.h"

TestSuite(test_output, .timeout = 30);

#define PIPE_BYTES 4096

static struct loop *loop;
static struct loop_watch *timer;
static struct test_output *o;
static struct test_options options;
static int out[2] = { -1, -1 },
	   err_pipe[2] = { -1, -1 }; /* what the process's reader has, and ours */
static size_t taken[TEST_STREAMS];
static unsigned flushes;
static char dir[] = "/tmp/test_output.XXXXXX";

static void stop(void *opaque)
{
	loop_stop(loop);
}

static void on_taken(void *opaque, enum test_stream stream, size_t len)
{
	taken[stream] += len;
}

static void on_flushed(void *opaque)
{
	flushes++;
	loop_stop(loop);
}

static const struct test_output_owner owner = { .taken = on_taken, .flushed = on_flushed };

/* Runs the loop for so long. */
static void turn(unsigned ms)
{
	loop_timer_arm(timer, ms * 1000000ull + 1);
	cr_assert_eq(loop_run(loop), 0);
}

static int open_output(struct err *err)
{
	cr_assert_eq(loop_create(&loop, err), 0);
	cr_assert_eq(loop_watch_timer(loop, stop, NULL, &timer), 0);
	return test_output_create(&options, loop, &owner, &o, err);
}

static void make_pipe(int fd, int ends[2])
{
	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES);
	cr_assert_eq(dup2(ends[1], fd), fd);
	close(ends[1]);
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
}

/* stdout and stderr are pipes with a page of room. */
static void begin(void)
{
	struct err err = { "" };

	make_pipe(1, out);
	make_pipe(2, err_pipe);
	cr_assert_eq(open_output(&err), 0, "%s", err.text);
}

static void end(void)
{
	test_output_destroy(o);
	loop_unwatch(timer);
	loop_destroy(loop);
}

/* Takes what is there, up to max bytes. */
static size_t take(int fd, char *buf, size_t max)
{
	size_t n = 0;
	ssize_t got;

	while (n < max && (got = read(fd, buf + n, max - n)) > 0)
		n += (size_t)got;
	return n;
}

/* Lets the loop run until the reader has this many bytes. */
static void take_all(int fd, char *buf, size_t len)
{
	size_t n = 0;

	for (unsigned i = 0; n < len && i < 4000; i++) {
		turn(0);
		n += take(fd, buf + n, len - n);
	}
	cr_assert_eq(n, len);
}

static const char *err_text(void)
{
	static char text[1 << 16];
	size_t n = 0, got;

	do {
		turn(1);
		got = take(err_pipe[0], text + n, sizeof(text) - 1 - n);
		n += got;
	} while (got);
	text[n] = 0;
	return text;
}

static void say(enum test_stream stream, const char *text)
{
	test_output_write(o, stream, text, strlen(text));
}

static char *path_of(const char *name)
{
	static char path[4][128];
	static unsigned i;

	if (strstr(dir, "XXXXXX"))
		cr_assert(mkdtemp(dir));
	i = (i + 1) % 4;
	snprintf(path[i], sizeof(path[i]), "%s/%s", dir, name);
	return path[i];
}

static size_t read_back(const char *path, char *buf, size_t max)
{
	int fd = open(path, O_RDONLY);
	size_t n = take(fd, buf, max);

	close(fd);
	unlink(path);
	rmdir(dir);
	return n;
}

/* --- the command's own streams ---------------------------------------------------------------- */

Test(test_output, all_bytes_in_any_pieces)
{
	static char sent[TEST_OUTPUT_WINDOW], got[sizeof(sent)];
	int flags;

	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (char)(i * 7 + i / 256);
	begin();
	flags = fcntl(1, F_GETFL);
	for (size_t at = 0, n = 1; at < sizeof(sent); at += n, n = n * 3 % 5000 + 1) {
		n = n < sizeof(sent) - at ? n : sizeof(sent) - at;
		test_output_write(o, TEST_STDOUT, sent + at, n);
	}
	cr_assert_eq(test_output_room(o, TEST_STDOUT), 0);
	cr_assert_eq(taken[TEST_STDOUT], 0);
	take_all(out[0], got, sizeof(got));
	cr_assert(!memcmp(got, sent, sizeof(sent)));
	cr_assert_eq(taken[TEST_STDOUT], sizeof(sent));
	cr_assert_eq(test_output_room(o, TEST_STDOUT), TEST_OUTPUT_WINDOW);
	cr_assert(test_output_flush(o));
	/* Others have this description, too. */
	cr_assert_eq(fcntl(1, F_GETFL), flags);
	end();
}

Test(test_output, a_reader_that_stops_holds_only_its_stream)
{
	static char sent[TEST_OUTPUT_WINDOW], got[sizeof(sent)];

	memset(sent, 'x', sizeof(sent));
	begin();
	test_output_write(o, TEST_STDOUT, sent, sizeof(sent));
	turn(1);
	cr_assert_eq(taken[TEST_STDOUT], PIPE_BYTES);
	for (unsigned i = 0; i < 50; i++) {
		say(TEST_STDERR, "a line that goes through\n");
		cr_assert_eq(strncmp(err_text(), "a line", 6), 0);
	}
	cr_assert_eq(taken[TEST_STDERR], 50 * 25);
	cr_assert_eq(taken[TEST_STDOUT], PIPE_BYTES);
	cr_assert(!test_output_flush(o));
	take_all(out[0], got, sizeof(got));
	turn(1);
	cr_assert_eq(taken[TEST_STDOUT], sizeof(sent));
	cr_assert_eq(flushes, 1);
	end();
}

Test(test_output, a_reader_that_is_gone)
{
	char text[200];

	begin();
	close(out[0]);
	for (unsigned i = 0; i < 3; i++) {
		say(TEST_STDOUT, "12345\n");
		turn(1);
	}
	cr_assert_eq(taken[TEST_STDOUT], 18);
	cr_assert_eq(test_output_loss(o, TEST_STDOUT).bytes, 18);
	cr_assert_eq(test_output_loss(o, TEST_STDOUT).error, EPIPE);
	cr_assert(!test_output_loss_text(o, text, sizeof(text)));
	say(TEST_STDERR, "still here");
	cr_assert_str_eq(err_text(), "still here");
	/* What comes next on stderr, the last line, begins at the left. */
	cr_assert_not(test_output_flush(o));
	turn(1);
	cr_assert_str_eq(err_text(), "\n");
	end();
}

Test(test_output, a_full_disk)
{
	char text[200];

	options.stdout_file = options.console_file = "/dev/full";
	begin();
	say(TEST_STDOUT, "12345");
	turn(1);
	say(TEST_STDOUT, "678");
	say(TEST_CONSOLE, "9");
	turn(1);
	cr_assert_eq(taken[TEST_STDOUT], 8);
	cr_assert_eq(taken[TEST_CONSOLE], 1);
	cr_assert(test_output_loss_text(o, text, sizeof(text)));
	cr_assert_str_eq(text, "8 bytes of stdout were lost: No space left on device; "
			       "1 bytes of console were lost: No space left on device");
	/* One line, although two streams go there. */
	cr_assert_str_eq(err_text(),
			 "bantam: --stdout /dev/full: No space left on device; output is "
			 "lost from here on\n");
	end();
}

Test(test_output, a_limit_of_file_size)
{
	struct rlimit limit = { 4, 4 };
	char got[16];

	options.kmsg_file = path_of("kmsg");
	begin();
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &limit);
	say(TEST_KMSG, "123456");
	turn(1);
	cr_assert_eq(test_output_loss(o, TEST_KMSG).bytes, 2);
	cr_assert_eq(test_output_loss(o, TEST_KMSG).error, EFBIG);
	cr_assert_eq(taken[TEST_KMSG], 6);
	end();
	cr_assert_eq(read_back(options.kmsg_file, got, sizeof(got)), 4);
}

Test(test_output, told_to_end_while_a_reader_is_stuck)
{
	static char sent[TEST_OUTPUT_WINDOW];
	char text[200];

	options.console_file = path_of("console");
	begin();
	test_output_write(o, TEST_STDOUT, sent, sizeof(sent));
	turn(1);
	cr_assert(!test_output_flush(o));
	test_output_hurry(o, 20000000);
	turn(5000);
	cr_assert_eq(flushes, 1);
	cr_assert_eq(taken[TEST_STDOUT], sizeof(sent));
	cr_assert(test_output_loss_text(o, text, sizeof(text)));
	cr_assert_str_eq(text, "61440 bytes of stdout were lost: the process was told to end, and "
			       "their reader was too slow");
	/* A file takes the last words. */
	say(TEST_CONSOLE, "last words");
	turn(1);
	cr_assert_eq(test_output_loss(o, TEST_CONSOLE).bytes, 0);
	end();
	cr_assert_eq(read_back(options.console_file, sent, sizeof(sent)), 10);
}

/* --- files --------------------------------------------------------------------------------- */

Test(test_output, two_streams_share_a_file)
{
	char got[64];
	char *path = path_of("both");
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	cr_assert_eq(write(fd, "old old old old old old", 23), 23);
	close(fd);
	options.stdout_file = options.console_file = path;
	begin();
	say(TEST_STDOUT, "a");
	say(TEST_CONSOLE, "b\033[2J\r\n");
	say(TEST_STDOUT, "c");
	turn(1);
	end();
	cr_assert_eq(read_back(path, got, sizeof(got)), 9);
	cr_assert(!memcmp(got, "ab\033[2J\r\nc", 9));
	cr_assert_eq(taken[TEST_STDOUT], 2);
}

/* Single bytes to two streams in turn: each is a piece, and small. */
Test(test_output, single_bytes_in_turn)
{
	static char got[2 * TEST_OUTPUT_WINDOW];

	options.stderr_file = "-";
	begin();
	for (unsigned i = 0; i < TEST_OUTPUT_WINDOW; i++) {
		test_output_write(o, TEST_STDOUT, "o", 1);
		test_output_write(o, TEST_STDERR, "e", 1);
	}
	take_all(out[0], got, sizeof(got));
	for (unsigned i = 0; i < sizeof(got); i++)
		cr_assert_eq(got[i], i % 2 ? 'e' : 'o');
	turn(1);
	cr_assert_eq(taken[TEST_STDERR], TEST_OUTPUT_WINDOW);
	end();
}

/* What the shell has opened is not truncated, and its position is the shell's. */
Test(test_output, an_open_descriptor_is_used_as_it_is)
{
	char name[32], got[64];
	char *path = path_of("log");
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);

	cr_assert_eq(write(fd, "before ", 7), 7);
	snprintf(name, sizeof(name), "/dev/fd/%d", fd);
	options.kmsg_file = name;
	begin();
	say(TEST_KMSG, "record\n");
	turn(1);
	end();
	cr_assert_eq(read_back(path, got, sizeof(got)), 14);
	cr_assert(!memcmp(got, "before record\n", 14));
}

Test(test_output, a_fifo_with_a_reader)
{
	static char sent[TEST_OUTPUT_WINDOW], got[sizeof(sent)];
	char *path = path_of("fifo");
	int fd;

	cr_assert_eq(mkfifo(path, 0600), 0);
	fd = open(path, O_RDONLY | O_NONBLOCK);
	fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES);
	memset(sent, 'f', sizeof(sent));
	options.console_file = path;
	begin();
	test_output_write(o, TEST_CONSOLE, sent, sizeof(sent));
	turn(1);
	cr_assert_eq(taken[TEST_CONSOLE], PIPE_BYTES);
	take_all(fd, got, sizeof(got));
	cr_assert(!memcmp(got, sent, sizeof(sent)));
	end();
	unlink(path);
	rmdir(dir);
}

Test(test_output, places_that_cannot_be_written)
{
	static const struct {
		const char *path;
		int rc;
		const char *text;
	} places[] = {
		{ "/tmp/no/such/folder", -ENOENT,
		  "--console /tmp/no/such/folder: No such file or directory" },
		{ "/tmp", -EISDIR, "--console /tmp: Is a directory" },
		{ "/dev/fd/99", -EBADF,
		  "--console /dev/fd/99: descriptor 99 is not open; open it in the shell, by "
		  "99>FILE" },
		{ "/proc/self/fd/98", -EBADF,
		  "--console /proc/self/fd/98: descriptor 98 is open for reading only" },
	};
	int fd = open("/dev/null", O_RDONLY);

	cr_assert_eq(dup2(fd, 98), 98);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		struct err err = { "" };

		options.console_file = places[i].path;
		cr_assert_eq(open_output(&err), places[i].rc, "%s", places[i].path);
		cr_assert_str_eq(err.text, places[i].text);
		cr_assert_null(o);
		end();
	}
}

Test(test_output, times_begin_the_lines_of_a_file)
{
	char got[256] = "", *line = got;
	double time;
	int n;

	options.stdout_file = path_of("times");
	options.timestamps = true;
	begin();
	say(TEST_STDOUT, "one\ntw");
	say(TEST_STDOUT, "o\n\n");
	say(TEST_STDOUT, "three");
	turn(1);
	cr_assert_eq(taken[TEST_STDOUT], 14);
	end();
	read_back(options.stdout_file, got, sizeof(got) - 1);
	for (unsigned i = 0; i < 4; i++) {
		static const char *const words[] = { "one\n", "two\n", "\n", "three" };

		cr_assert_eq(sscanf(line, "%lf%n", &time, &n), 1);
		cr_assert_eq(n, 9);
		cr_assert(time >= 0 && time < 30);
		cr_assert_eq(line[n], ' ');
		line += n + 1;
		cr_assert(!strncmp(line, words[i], strlen(words[i])));
		line += strlen(words[i]);
	}
	cr_assert_eq(*line, 0);
}

/* --- the live view ---------------------------------------------------------------------------- */

/* What the guest sends, and what stderr shows. */
static const struct {
	const char *console, *kmsg, *shown;
} views[] = {
	{ "[    0.000000] Linux version 6\n", NULL, "console| [    0.000000] Linux version 6\n" },
	/* once, whichever comes first */
	{ "[    1.250000] hello\n", "6,1,1250000,-;hello\n", "console| [    1.250000] hello\n" },
	{ "[    1.250000] hello\n[    1.250000] hello\n", "6,1,1250000,-;hello\n",
	  "console| [    1.250000] hello\nconsole| [    1.250000] hello\n" },
	{ "login:\n", "4,1,2250000,-;hello\n SUBSYSTEM=x\n",
	  "console| login:\nkmsg   | [    2.250000] hello\n" },
	/* debug lines are not for people */
	{ "x\n", "7,1,3250000,-;hello\n", "console| x\n" },
	/* nothing of it moves a cursor */
	{ "a\033]0;title\007b\033[2Jc\rd\x9b"
	  "31m\n",
	  NULL, "console| a0;title?bc\nconsole| d?31m\n" },
	{ "\xc3\xa4\n", "6,1,0,-;\\xc2\\x9b\\x0d\n",
	  "console| \xc3\xa4\nkmsg   | [    0.000000] ???\n" },
	/* the rest of a line, when the log ends */
	{ "prompt> ", NULL, "console| prompt>\n" },
};

Test(test_output, lines_for_people)
{
	const char *text;

	options.verbose = true;
	begin();
	for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++) {
		say(TEST_CONSOLE, views[i].console);
		if (views[i].kmsg)
			say(TEST_KMSG, views[i].kmsg);
		test_output_eof(o, TEST_CONSOLE);
		test_output_eof(o, TEST_KMSG);
		text = err_text();
		cr_assert_str_eq(text, views[i].shown, "%zu: %s", i, text);
	}
	cr_assert_eq(test_output_room(o, TEST_CONSOLE), TEST_OUTPUT_WINDOW);
	end();
}

Test(test_output, a_prompt_shows_after_a_rest)
{
	options.verbose = true;
	begin();
	say(TEST_CONSOLE, "login: ");
	turn(1500);
	cr_assert_str_eq(err_text(), "console| login:\n");
	end();
}

/* Of thousands of lines that both logs have, none shows twice. */
Test(test_output, a_long_log_shows_once)
{
	static char text[1 << 16];
	size_t n = 0;

	options.verbose = true;
	begin();
	for (unsigned i = 0; i < 3000; i++) {
		char line[80];

		snprintf(line, sizeof(line), "[    1.%06u] line %u\n", i, i);
		say(TEST_CONSOLE, line);
		turn(0);
		n += take(err_pipe[0], text, sizeof(text));
	}
	for (unsigned i = 0; i < 3000; i++) {
		char line[80];

		snprintf(line, sizeof(line), "6,%u,1%06u,-;line %u\n", i, i, i);
		say(TEST_KMSG, line);
		if (i % 100 == 0)
			turn(0);
	}
	cr_assert_str_eq(err_text(), "");
	cr_assert(n > 3000 * 30);
	end();
}

Test(test_output, a_live_line_begins_at_the_left)
{
	options.verbose = true;
	begin();
	say(TEST_STDERR, "half");
	say(TEST_CONSOLE, "kernel\n");
	say(TEST_STDERR, " a line\n");
	say(TEST_CONSOLE, "more\n");
	cr_assert_str_eq(err_text(), "half\nconsole| kernel\n a line\nconsole| more\n");
	end();
}

Test(test_output, the_live_view_holds_up_nothing)
{
	static char text[2 << 20];
	unsigned long long left_out;
	char line[1001], *at;
	size_t n = 0;

	memset(line, 'k', 999);
	strcpy(line + 999, "\n");
	options.verbose = true;
	begin();
	for (unsigned i = 0; i < 3000; i++) {
		cr_assert_geq(test_output_room(o, TEST_CONSOLE), 1000);
		say(TEST_CONSOLE, line);
		if (i % 50 == 0)
			turn(0);
	}
	turn(1);
	cr_assert_eq(taken[TEST_CONSOLE], 3000 * 1000);
	for (unsigned i = 0; i < 1000; i++) {
		turn(0);
		n += take(err_pipe[0], text + n, sizeof(text) - 1 - n);
	}
	cr_assert_lt(n, (1 << 20) + PIPE_BYTES + 2048);
	say(TEST_CONSOLE, "after\n");
	turn(1);
	n += take(err_pipe[0], text + n, sizeof(text) - 1 - n);
	at = strstr(text, "bantam: ");
	cr_assert(at);
	cr_assert_eq(sscanf(at, "bantam: %llu lines are left out here", &left_out), 1);
	cr_assert_gt(left_out, 1900);
	cr_assert_eq(strcmp(text + n - 15, "console| after\n"), 0);
	end();
}

Test(test_output, a_failed_test_shows_the_end_of_its_logs)
{
	char text[120];

	begin();
	for (unsigned i = 0; i < 500; i++) {
		snprintf(text, sizeof(text), "[    1.%06u] a line of the kernel\n", i);
		say(TEST_CONSOLE, text);
	}
	cr_assert_str_eq(err_text(), "");
	test_output_show_tail(o);
	snprintf(text, sizeof(text), "%.*s", 57, err_text());
	cr_assert(strstr(text, "bantam: the end of the guest's console and kernel log:\n"), "%s",
		  text);
	test_output_show_tail(o);
	cr_assert_str_eq(err_text(), ""); /* once */
	end();
}

Test(test_output, quiet_shows_no_lines)
{
	options.quiet = options.verbose = true;
	begin();
	say(TEST_CONSOLE, "kernel\n");
	test_output_show_tail(o);
	cr_assert_str_eq(err_text(), "");
	end();
}

/* --- a terminal ------------------------------------------------------------------------------- */

static int master;

static void begin_on_terminal(void)
{
	struct termios tio;
	struct err err;
	int slave;

	cr_assert_eq(openpty(&master, &slave, NULL, NULL, NULL), 0);
	tcgetattr(slave, &tio);
	cfmakeraw(&tio);
	tcsetattr(slave, TCSANOW, &tio);
	fcntl(master, F_SETFL, O_NONBLOCK);
	dup2(slave, 1);
	dup2(slave, 2);
	close(slave);
	err_pipe[0] = master;
	cr_assert_eq(open_output(&err), 0, "%s", err.text);
}

Test(test_output, a_terminal_has_colours)
{
	unsetenv("NO_COLOR");
	setenv("TERM", "xterm", 1);
	begin_on_terminal();
	say(TEST_STDOUT, "half\033[1m");
	say(TEST_KMSG, "3,1,5,-;bad\n");
	say(TEST_CONSOLE, "program\n");
	cr_assert_str_eq(err_text(), "half\033[1m\n\033[36mkmsg   |\033[0m [    0.000005] "
				     "\033[31mbad\033[0m\n\033[36mconsole|\033[0m program\n");
	/* The verdict begins at the left. */
	say(TEST_STDOUT, "no newline");
	test_output_flush(o);
	cr_assert_str_eq(err_text(), "no newline\n");
	end();
}

Test(test_output, a_terminal_without_colours)
{
	setenv("NO_COLOR", "1", 1);
	begin_on_terminal();
	say(TEST_KMSG, "3,1,5,-;bad\n");
	cr_assert_str_eq(err_text(), "kmsg   | [    0.000005] bad\n");
	end();
}

Test(test_output, the_command_s_picture_is_left_alone)
{
	setenv("NO_COLOR", "1", 1);
	options.tty = options.timestamps = true;
	begin_on_terminal();
	test_output_raw(o, true);
	say(TEST_CONSOLE, "boot\n");
	cr_assert(strstr(err_text(), "console| boot\r\n"));
	say(TEST_STDOUT, "\033[2Jvi\r\n");
	say(TEST_CONSOLE, "kernel\n");
	cr_assert_str_eq(err_text(), "\033[2Jvi\r\n");
	test_output_show_tail(o);
	cr_assert(strstr(err_text(), "console| kernel\r\n"));
	end();
}
