/*
 * test_chardev_output: when output goes out, and in how many writes, for each kind of sink. The test is
 * the vCPU and, with fake_run, the loop: without it nothing but the vCPU's own thread can write.
 */
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/backend/chardev/chardev.h"
#include "tests/unit/fake_env.h"
#include "vmm/core/clock.h"

#define MS 1000000ull

/* All writes of the process, but for those that wake a loop: fake_run itself makes some. */
static unsigned writes;

/* An anonymous inode, as an eventfd has it, has no type. */
static bool is_event(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && !(st.st_mode & S_IFMT);
}

/* core/fd_rw.h writes by this function, and all others by it too here. */
long syscall(long call, ...)
{
	static long (*next)(long call, ...);
	long arg[6];
	va_list ap;

	if (!next)
		next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	va_start(ap, call);
	for (unsigned i = 0; i < 6; i++)
		arg[i] = va_arg(ap, long);
	va_end(ap);
	writes += (call == SYS_pwritev2 || call == SYS_write) && !is_event((int)arg[0]);
	return next(call, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}

ssize_t write(int fd, const void *buf, size_t len)
{
	return syscall(SYS_write, (long)fd, buf, len);
}

ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	writes++;
	return syscall(SYS_sendto, (long)fd, buf, len, (long)flags, NULL, 0l);
}

static struct fake_env f;
static struct chardev *chr;
static char dir[64], path[96];
static int reader;

static size_t no_input(void *opaque, const uint8_t *buf, size_t len)
{
	return len;
}

static void no_call(void *opaque)
{
}

static void open_sink(const char *text)
{
	static const struct chardev_user user = { .input = no_input,
						  .drained = no_call,
						  .failed = no_call };
	struct err err = { "" };
	struct keyvals kv;

	cr_assert_eq(keys_parse(&kv, "--serial", chardev_keys, text, &err), 0, "%s", err.text);
	cr_assert_eq(chardev_open(&kv, f.env.loop, false, &chr, &err), 0, "%s", err.text);
	keys_clear(&kv);
	chardev_attach(chr, &user);
}

static int stdout_pipe(void)
{
	int fd[2];

	cr_assert_eq(pipe(fd), 0);
	cr_assert_eq(dup2(fd[1], 1), 1);
	close(fd[1]);
	open_sink("stdio");
	return fd[0];
}

static int stdout_socket(void)
{
	int sv[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	cr_assert_eq(dup2(sv[1], 1), 1);
	close(sv[1]);
	open_sink("stdio");
	return sv[0];
}

static int file_with(const char *keys)
{
	char text[128];

	snprintf(text, sizeof(text), "file=%s%s", path, keys);
	open_sink(text);
	return open(path, O_RDONLY);
}

static int new_file(void)
{
	return file_with("");
}

static int append_file(void)
{
	return file_with(",append");
}

static int fifo(void)
{
	int fd;

	cr_assert_eq(mkfifo(path, 0600), 0);
	fd = open(path, O_RDONLY | O_NONBLOCK);
	close(file_with(""));
	return fd;
}

static int pty(void)
{
	open_sink("pty");
	return open(chardev_terminal(chr), O_RDWR | O_NOCTTY);
}

static int sock(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	char text[128];

	snprintf(text, sizeof(text), "socket=%s", path);
	open_sink(text);
	strcpy(addr.sun_path, path);
	cr_assert_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static const struct sink {
	const char *name;
	int (*start)(void);
} sinks[] = {
	{ "stdio, a pipe", stdout_pipe },
	{ "stdio, a socket", stdout_socket },
	{ "file", new_file },
	{ "file, append", append_file },
	{ "a FIFO", fifo },
	{ "pty", pty },
	{ "socket", sock },
};
#define NSINKS (sizeof(sinks) / sizeof(sinks[0]))

static void run_until(uint64_t end_ns)
{
	do
		fake_run(&f);
	while (clock_now_ns() < end_ns);
}

/* Until the sink has its reader, and is quiet. */
static void begin(const struct sink *s)
{
	strcpy(dir, "/tmp/bantam-output-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/a", dir);
	fake_env_init(&f, FAKE_MMIO);
	reader = s->start();
	cr_assert_geq(reader, 0, "%s", s->name);
	cr_assert_eq(fcntl(reader, F_SETFL, O_NONBLOCK), 0);
	run_until(clock_now_ns() + 4 * MS);
}

static void end(void)
{
	chardev_close(chr);
	close(reader);
	unlink(path);
	cr_assert_eq(rmdir(dir), 0);
	fake_env_destroy(&f);
}

/* Returns what has arrived, after at most 10 s of waiting for len bytes; the loop does not run meanwhile. */
static const char *arrived_soon(size_t len)
{
	static char buf[65536];
	struct pollfd ready = { .fd = reader, .events = POLLIN };
	size_t have = 0;
	ssize_t n;

	do
		while ((n = read(reader, buf + have, sizeof(buf) - 1 - have)) > 0)
			have += (size_t)n;
	while (have < len && poll(&ready, 1, 10000) > 0);
	buf[have] = 0;
	return buf;
}

static const char *arrived(void)
{
	return arrived_soon(0);
}

/* As a serial port does. */
static void put(const char *text)
{
	for (; *text; text++)
		cr_assert_eq(chardev_write(chr, text, 1), 1);
}

TestSuite(chardev_output, .timeout = 60);

/*
 * The first byte and the end of a line go out in the thread that writes them. (The first output into a
 * pty passes through the kernel's worker, a moment later.)
 */
Test(chardev_output, a_line_goes_out_at_once)
{
	for (unsigned i = 0; i < NSINKS; i++) {
		unsigned before;
		const char *text;

		begin(&sinks[i]);
		before = writes;
		put("a line\n");
		cr_expect_eq(writes - before, 2, "%s: %u writes", sinks[i].name, writes - before);
		text = arrived_soon(7);
		cr_expect_str_eq(text, "a line\n", "%s: \"%s\"", sinks[i].name, text);
		run_until(clock_now_ns() + 3 * MS);
		cr_expect_eq(writes - before, 2, "%s: %u writes", sinks[i].name, writes - before);
		end();
	}
}

/* The fastest of 20 tries, because a busy host may run any thread late. */
Test(chardev_output, a_prompt_goes_out_soon)
{
	for (unsigned i = 0; i < NSINKS; i++) {
		uint64_t best = ~0ull;

		begin(&sinks[i]);
		for (unsigned try = 0; try < 20 && best > 2 * MS; try++) {
			uint64_t began = clock_now_ns(), took;
			size_t len = 0;

			put("$ ");
			while (len < 2) {
				fake_run(&f);
				len += strlen(arrived());
				took = clock_now_ns() - began;
				cr_assert_lt(took, 10000 * MS, "%s", sinks[i].name);
			}
			best = took < best ? took : best;
			run_until(clock_now_ns() + 30 * MS);
		}
		cr_expect_leq(best, 10 * MS, "%s: %lu us", sinks[i].name, best / 1000);
		end();
	}
}

/*
 * A guest that prints without a pause: at most one write in 20 ms, as before this was changed, and some
 * more at the beginning. Lines, one line without an end, and ends of lines with pauses.
 */
Test(chardev_output, a_flood_is_gathered)
{
	static const struct {
		const char *name;
		unsigned line_bytes, step_us;
	} floods[] = { { "lines", 32, 100 },
		       { "no lines", 0, 100 },
		       { "a drip", 0, 2500 },
		       { "slow lines", 1, 2500 } };

	for (unsigned n = 0; n < 3 * NSINKS; n++) {
		unsigned kind = n / NSINKS, before, sent = 0, most;
		const struct sink *s = &sinks[n % NSINKS];
		uint64_t began, next, took;
		size_t len = 0;

		begin(s);
		began = next = clock_now_ns();
		before = writes;
		while (next - began < 120 * MS) {
			bool line = floods[kind].line_bytes && sent % floods[kind].line_bytes == 0;

			cr_assert_eq(chardev_write(chr, line ? "\n" : "x", 1), 1);
			sent++;
			next = clock_now_ns() + floods[kind].step_us * 1000;
			run_until(next);
		}
		took = clock_now_ns() - began;
		most = (unsigned)(took / (20 * MS)) + 8;
		cr_expect_leq(writes - before, most, "%s, %s: %u writes in %lu ms", s->name,
			      floods[kind].name, writes - before, took / MS);
		run_until(clock_now_ns() + 40 * MS);
		len = strlen(arrived());
		cr_expect_eq(len, sent, "%s, %s: %zu of %u bytes", s->name, floods[kind].name, len,
			     sent);
		end();
	}
}

/* After a flood the console is quick again. */
Test(chardev_output, a_flood_is_forgotten)
{
	char block[8000];

	memset(block, 'x', sizeof(block));
	begin(&sinks[0]);
	for (unsigned i = 0; i < 400; i++) {
		chardev_write(chr, block, sizeof(block));
		fake_run(&f);
		arrived();
	}
	run_until(clock_now_ns() + 100 * MS);
	arrived();
	put("a line\n");
	cr_expect_str_eq(arrived(), "a line\n");
	end();
}
