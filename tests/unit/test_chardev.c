/*
 * test_chardev: each back end with real files, pipes, pseudo-terminals and sockets.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "devices/backend/chardev/chardev.h"
#include "tests/unit/fake_env.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"

/* The sink's calls to its user. */
struct user {
	char in[1 << 16];
	size_t in_len, in_max;
	unsigned drained, failed, resized, breaks;
	uint16_t cols, rows;
};

static struct fake_env f;
static struct user user;
static struct chardev *chr;
static char dir[64], path[96], other[96];

static size_t input(void *opaque, const uint8_t *buf, size_t len)
{
	struct user *u = opaque;

	if (len > u->in_max - u->in_len)
		len = u->in_max - u->in_len;
	memcpy(u->in + u->in_len, buf, len);
	u->in_len += len;
	return len;
}

static void drained(void *opaque)
{
	((struct user *)opaque)->drained++;
}

static void failed(void *opaque)
{
	((struct user *)opaque)->failed++;
}

static void send_break(void *opaque)
{
	((struct user *)opaque)->breaks++;
}

static void resized(void *opaque, uint16_t cols, uint16_t rows)
{
	struct user *u = opaque;

	u->resized++;
	u->cols = cols;
	u->rows = rows;
}

static int try_open(const char *text, struct chardev **out, struct err *err)
{
	struct keyvals kv;
	int rc = keys_parse(&kv, "--serial", chardev_keys, text, err);

	if (!rc)
		rc = chardev_open(&kv, f.env.loop, f.env.dry_run, out, err);
	keys_clear(&kv);
	return rc;
}

/* stdio for a shell in the guest: what is no terminal ends as a terminal does. */
static struct chardev *open_with_end(void)
{
	static const struct chardev_user table = {
		.input = input, .drained = drained, .failed = failed, .opaque = &user
	};
	struct keyvals kv;
	struct chardev *c;
	struct err err = { "" };

	cr_assert_eq(keys_parse(&kv, "--serial", chardev_keys, "stdio", &err), 0);
	cr_assert_eq(keys_set_hidden(&kv, "eof", "on", &err), 0, "%s", err.text);
	cr_assert_eq(chardev_open(&kv, f.env.loop, false, &c, &err), 0, "%s", err.text);
	keys_clear(&kv);
	chardev_attach(c, &table);
	return c;
}

static struct chardev *open_ok(const char *fmt, const char *arg)
{
	static const struct chardev_user table = { input,      drained, resized,
						   send_break, failed,	&user };
	struct chardev *c;
	char text[256];
	struct err err = { "" };

	snprintf(text, sizeof(text), fmt, arg);
	cr_assert_eq(try_open(text, &c, &err), 0, "%s: %s", text, err.text);
	user.in_max = sizeof(user.in) - 1;
	chardev_attach(c, &table);
	return c;
}

static void refused(const char *fmt, const char *arg, int code, const char *says)
{
	struct err err = { "" };
	struct chardev *c = NULL;
	char text[256];

	snprintf(text, sizeof(text), fmt, arg);
	cr_assert_eq(try_open(text, &c, &err), -code, "%s: %s", text, err.text);
	cr_assert_null(c);
	cr_assert_not_null(strstr(err.text, says), "\"%s\" lacks \"%s\"", err.text, says);
	cr_assert_null(strchr(err.text, '\n'));
}

static void put(const char *text)
{
	cr_assert_eq(chardev_write(chr, text, strlen(text)), strlen(text));
}

static void setup(void)
{
	fake_env_init(&f, FAKE_MMIO);
	strcpy(dir, "/tmp/bantam-chardev-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/a", dir);
	snprintf(other, sizeof(other), "%s/b", dir);
}

static void teardown(void)
{
	chardev_close(chr);
	unlink(path);
	unlink(other);
	cr_assert_eq(rmdir(dir), 0, "something is left behind");
	fake_env_destroy(&f);
}

/* Runs the loop for about ms milliseconds. */
static void run_ms(unsigned ms)
{
	struct timespec nap = { .tv_nsec = 1000000 };

	for (unsigned i = 0; i <= ms; i++) {
		fake_run(&f);
		nanosleep(&nap, NULL);
	}
}

static struct {
	int fd;
	char *buf;
	size_t len, want;
} reading;

static bool read_enough(void *arg)
{
	ssize_t n = read(reading.fd, reading.buf + reading.len, reading.want - reading.len);

	if (n > 0)
		reading.len += (size_t)n;
	return reading.len == reading.want;
}

/* Waits for len bytes from fd (non-blocking). Returns what came. */
static const char *got(int fd, size_t len)
{
	static char buf[1 << 18];

	reading.fd = fd;
	reading.buf = buf;
	reading.len = 0;
	reading.want = len;
	fake_run_until(&f, read_enough, NULL);
	buf[reading.len] = 0;
	return buf;
}

static bool has_input(void *want)
{
	return user.in_len >= *(size_t *)want;
}

static const char *got_input(size_t len)
{
	fake_run_until(&f, has_input, &len);
	user.in[user.in_len] = 0;
	return user.in;
}

static bool has_failed(void *arg)
{
	return user.failed;
}

TestSuite(chardev, .init = setup, .fini = teardown, .timeout = 60);

/* --- keys ------------------------------------------------------------------ */

Test(chardev, keys)
{
	struct keyvals kv;
	struct err err;

	refused("append", NULL, EINVAL, "give one of stdio");
	refused("stdio,file=/x", NULL, EINVAL, "give one of stdio");
	refused("file=/x,socket=/y", NULL, EINVAL, "give one of stdio");
	refused("pty,append", NULL, EINVAL, "append goes with file");
	refused("pty,limit=1M", NULL, EINVAL, "limit=SIZE goes with file");
	refused("file=/x,limit=65535", NULL, EINVAL, "limit=65535 is less than 64K");
	refused("null,link=/x", NULL, EINVAL, "link=PATH goes with pty");
	refused("sdtio", NULL, EINVAL, "must be one of");
	refused("file=", NULL, EINVAL, "needs a value");
	cr_assert_eq(keys_parse(&kv, "--serial", chardev_keys, "off", &err), 0);
	cr_assert(chardev_off(&kv));
	keys_clear(&kv);
	cr_assert_eq(keys_parse(&kv, "--serial", chardev_keys, "null", &err), 0);
	cr_assert_not(chardev_off(&kv));
	keys_clear(&kv);
}

Test(chardev, null_takes_all)
{
	chr = open_ok("null", NULL);
	cr_assert_str_eq(chardev_describe(chr), "null");
	for (unsigned i = 0; i < 100000; i++)
		put("void");
	chardev_resume(chr);
	run_ms(5);
	cr_assert_eq(user.drained, 0);
}

/* --- file ------------------------------------------------------------------ */

static const char *content(void)
{
	static char buf[1 << 18];
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, buf, sizeof(buf) - 1);

	close(fd);
	buf[n < 0 ? 0 : n] = 0;
	return buf;
}

Test(chardev, file)
{
	chr = open_ok("file=%s", path);
	put("one\n");
	run_ms(20);
	cr_assert_str_eq(content(), "one\n");
	put("two\n");
	chardev_close(chr);
	cr_assert_str_eq(content(), "one\ntwo\n", "closing flushes");
	chr = open_ok("file=%s,append", path);
	put("three\n");
	chardev_close(chr);
	cr_assert_str_eq(content(), "one\ntwo\nthree\n");
	chr = open_ok("file=%s", path);
	chardev_close(chr);
	cr_assert_str_eq(content(), "one\ntwo\nthree\n", "no VM ran");
	chr = open_ok("file=%s", path);
	put("new");
	chardev_close(chr);
	cr_assert_str_eq(content(), "new");
	chr = open_ok("file=%s", path);
	fake_run(&f);
	chardev_close(chr);
	cr_assert_str_eq(content(), "", "without append the file starts empty");
	chr = NULL;
}

Test(chardev, file_in_bulk)
{
	char line[64];
	size_t sent = 0, n;

	chr = open_ok("file=%s", path);
	for (unsigned i = 0; i < 5000; i++) {
		snprintf(line, sizeof(line), "%08u a line of a boot that is not quiet\n", i);
		n = 0;
		while ((n += chardev_write(chr, line + n, strlen(line) - n)) < strlen(line))
			run_ms(1);
		sent += n;
	}
	chardev_close(chr);
	chr = NULL;
	cr_assert_eq(strlen(content()), sent);
	for (unsigned i = 0; i < 5000; i++)
		cr_assert_eq(strtoul(content() + i * (sent / 5000), NULL, 10), i);
	cr_assert_gt(user.drained, 0);
}

Test(chardev, file_refusals)
{
	refused("file=%s", dir, EISDIR, "Is a directory");
	refused("file=%s/no/such", dir, ENOENT, "No such file");
	cr_assert_eq(mkfifo(path, 0600), 0);
	refused("file=%s", path, ENXIO, "FIFO without a reader");
}

Test(chardev, full_disk)
{
	chr = open_ok("file=%s", "/dev/full");
	put("lost");
	cr_assert(fake_run_until(&f, has_failed, NULL));
	for (unsigned i = 0; i < 100000; i++)
		put("lost");
	run_ms(10);
	cr_assert_eq(user.failed, 1, "told once");
	cr_assert_eq(user.drained, 0);
}

/* The guest ends before the loop has written anything: the last flush reports it. */
Test(chardev, full_disk_at_the_end)
{
	chr = open_ok("file=%s", "/dev/full");
	put("lost");
	chardev_close(chr);
	chr = NULL;
	cr_assert_eq(user.failed, 1);
}

Test(chardev, full_disk_releases_a_guest_that_waits)
{
	char block[40000];

	memset(block, 'x', sizeof(block));
	chr = open_ok("file=%s", "/dev/full");
	cr_assert_lt(chardev_write(chr, block, sizeof(block)), sizeof(block));
	cr_assert(fake_run_until(&f, has_failed, NULL));
	cr_assert_eq(user.drained, 1);
}

Test(chardev, file_size_limit_is_reported)
{
	struct rlimit lim = { 8, 8 };

	signal(SIGXFSZ, SIG_IGN); /* as main does */
	chr = open_ok("file=%s", path);
	setrlimit(RLIMIT_FSIZE, &lim);
	put("0123456789");
	cr_assert(fake_run_until(&f, has_failed, NULL));
	cr_assert_str_eq(content(), "01234567");
}

/* The link wraps it: a reader comes directly before. */
static bool reads_first;
static int first_reader = -1;

int __real_inotify_add_watch(int fd, const char *file, uint32_t mask);
int __wrap_inotify_add_watch(int fd, const char *file, uint32_t mask);
int __wrap_inotify_add_watch(int fd, const char *file, uint32_t mask)
{
	if (reads_first)
		first_reader = open(file, O_RDWR | O_NOCTTY | O_NONBLOCK);
	return __real_inotify_add_watch(fd, file, mask);
}

/* A line may go out without the loop; the file that open made is kept all the same. */
Test(chardev, new_file_keeps_a_line)
{
	static const char *const forms[] = { "file=%s", "file=%s,append=on" };

	for (unsigned i = 0; i < 2; i++) {
		unlink(path);
		chr = open_ok(forms[i], path);
		cr_assert_eq(chardev_write(chr, "line\n", 5), 5);
		chardev_close(chr);
		chr = NULL;
		cr_expect_str_eq(content(), "line\n", "%s", forms[i]);
		/* and what was never written to is not left */
		unlink(path);
		chr = open_ok(forms[i], path);
		chardev_close(chr);
		chr = NULL;
		cr_expect_neq(access(path, F_OK), 0, "%s", forms[i]);
	}
}

static unsigned logged_lines(const char *text)
{
	char buf[8192], *at = buf;
	unsigned n = 0;
	int fd = open(other, O_RDONLY);
	ssize_t len = read(fd, buf, sizeof(buf) - 1);

	close(fd);
	for (buf[len < 0 ? 0 : len] = 0; (at = strstr(at, text)); at++)
		n++;
	return n;
}

/* Prints numbered lines, 16 bytes each, and follows the file's size. */
static void print_lines(unsigned first, unsigned n, off_t most)
{
	char line[17];
	struct stat st;

	for (unsigned i = first; i < first + n; i++) {
		size_t took = 0;

		snprintf(line, sizeof(line), "%015u\n", i);
		while ((took += chardev_write(chr, line + took, 16 - took)) < 16)
			fake_run(&f);
		if (i % 64)
			continue;
		fake_run(&f);
		cr_assert(!stat(path, &st) && st.st_size <= most, "%lld bytes",
			  (long long)st.st_size);
	}
}

/* What the file holds after it was cut: a line that says so, and then whole lines without a gap. */
static void check_cut(unsigned last, size_t least)
{
	const char *text = content(), *line = strchr(text, '\n') + 1;
	unsigned n = (unsigned)strtoul(line, NULL, 10);
	unsigned long long gone;

	cr_assert_eq(sscanf(text, "[bantam: %llu bytes of output were cut here]", &gone), 1,
		     "%.80s", text);
	cr_assert_geq(strlen(text), least);
	for (; *line; line += 16, n++)
		cr_assert_eq(strtoul(line, NULL, 10), n);
	cr_assert_eq(n, last);
}

/* A file of a guest that never stops printing is cut, again and again; one line of the log says it. */
Test(chardev, file_limit)
{
	int log_fd = open(other, O_RDWR | O_CREAT, 0600);

	log_set_fd(log_fd);
	chr = open_ok("file=%s,limit=64K", path);
	print_lines(0, 20000, 64 << 10);
	chardev_close(chr);
	check_cut(20000, 32 << 10);
	cr_expect_eq(logged_lines("limit of 65536 bytes"), 1);

	/* What the file holds counts; the next VM's output follows. */
	chr = open_ok("file=%s,append,limit=128K", path);
	print_lines(20000, 20000, 128 << 10);
	chardev_close(chr);
	check_cut(40000, 64 << 10);

	/* A file that is too long already is cut at the first output. */
	cr_assert_eq(truncate(path, 1 << 20), 0);
	chr = open_ok("file=%s,append,limit=64K", path);
	put("x\n");
	run_ms(20);
	chardev_close(chr);
	cr_expect_leq(strlen(content()), 64 << 10);

	/* Another program has cut it: there is room again. */
	chr = open_ok("file=%s,append,limit=64K", path);
	cr_assert_eq(truncate(path, 0), 0);
	print_lines(0, 4000, 64 << 10);
	chardev_close(chr);
	cr_expect_eq(strlen(content()), 64000);

	chr = open_ok("file=%s,limit=0", path);
	print_lines(0, 10000, 160000);
	chardev_close(chr);
	chr = NULL;
	cr_expect_eq(strlen(content()), 160000);
	log_set_fd(2);
	close(log_fd);
}

/* What may be written and not read is cut to nothing. */
Test(chardev, file_limit_unreadable)
{
	chr = open_ok("file=%s,limit=64K", path);
	cr_assert_eq(chmod(path, 0200), 0);
	print_lines(0, 5000, 64 << 10);
	chardev_close(chr);
	chr = NULL;
	cr_assert_eq(chmod(path, 0600), 0);
	check_cut(5000, 100);
}

Test(chardev, fifo_with_a_slow_reader)
{
	char block[4096];
	size_t sent = 0;
	int fd;

	memset(block, 'y', sizeof(block));
	cr_assert_eq(mkfifo(path, 0600), 0);
	fd = open(path, O_RDONLY | O_NONBLOCK);
	chr = open_ok("file=%s", path);
	for (unsigned i = 0; i < 100; i++) {
		sent += chardev_write(chr, block, sizeof(block));
		run_ms(1);
	}
	cr_assert_lt(sent, 100 * sizeof(block));
	cr_assert_eq(user.drained, 0);
	cr_assert_eq(strlen(got(fd, sent)), sent);
	cr_assert_gt(user.drained, 0);
	close(fd);
}

/* --- pty ------------------------------------------------------------------- */

static const char *slave_of(struct chardev *c)
{
	static char name[64];

	sscanf(chardev_describe(c), "pty %63s", name);
	return name;
}

static int open_slave(void)
{
	int fd = open(slave_of(chr), O_RDWR | O_NOCTTY | O_NONBLOCK);

	cr_assert_geq(fd, 0);
	return fd;
}

Test(chardev, pty_replays_and_echoes_nothing)
{
	int fd;

	chr = open_ok("pty", NULL);
	put("before anyone came\n");
	run_ms(20);
	fd = open_slave();
	cr_assert_str_eq(got(fd, 19), "before anyone came\n");
	put("live\n");
	cr_assert_str_eq(got(fd, 5), "live\n", "raw: no CR added");
	cr_assert_eq(write(fd, "ls\r", 3), 3);
	cr_assert_str_eq(got_input(3), "ls\r");
	run_ms(20);
	cr_assert_eq(user.in_len, 3, "our own output came back");
	close(fd);
	run_ms(20);
	put("meanwhile\n");
	run_ms(20);
	fd = open_slave();
	cr_assert_str_eq(got(fd, 34), "before anyone came\nlive\nmeanwhile\n");
	close(fd);
}

/* A process that holds a dead VM's link opens our terminal while we make it. */
Test(chardev, pty_reader_before_the_watch)
{
	char buf[16] = "";

	reads_first = true;
	chr = open_ok("%s", "pty");
	cr_assert_geq(first_reader, 0);
	put("hello");
	for (unsigned i = 0; i < 1000 && read(first_reader, buf, 5) != 5; i++)
		run_ms(1);
	cr_expect_str_eq(buf, "hello");
	close(first_reader);
}

Test(chardev, pty_link)
{
	char target[64] = "";
	struct timespec past[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_NOW } };
	struct stat st;
	int theirs;

	cr_assert_eq(clock_gettime(CLOCK_REALTIME, &past[1]), 0);
	past[1].tv_sec -= 10;

	cr_assert_eq(symlink("/nowhere/at/all", path), 0);
	chr = open_ok("pty,link=%s", path);
	cr_assert_gt(readlink(path, target, sizeof(target) - 1), 0);
	cr_assert_str_eq(target, slave_of(chr), "a dead VM's link is replaced");
	refused("pty,link=%s", path, EEXIST, "if that is not another VM's, remove the link");
	cr_assert_gt(readlink(path, target, sizeof(target) - 1), 0);
	cr_assert_str_eq(target, slave_of(chr), "a living VM's link stays");
	/* A killed VM's number is given to the next terminal: the link leads to our own. */
	cr_assert_eq(rename(path, other), 0);
	chardev_close(chr);
	cr_assert_eq(rename(other, path), 0);
	chr = open_ok("pty,link=%s", path);
	cr_assert_str_eq(target, slave_of(chr), "the test needs the same number again");
	chardev_close(chr);
	cr_assert_neq(lstat(path, &st), 0, "the link is removed");
	/* Or to a terminal that another program has made since. */
	theirs = posix_openpt(O_RDWR | O_NOCTTY);
	cr_assert(!unlockpt(theirs) && !symlink(ptsname(theirs), path));
	refused("pty,link=%s", path, EEXIST, "if that is not another VM's, remove the link");
	cr_assert_eq(utimensat(AT_FDCWD, path, past, AT_SYMLINK_NOFOLLOW), 0);
	chr = open_ok("pty,link=%s", path);
	cr_assert_gt(readlink(path, target, sizeof(target) - 1), 0);
	cr_assert_str_eq(target, slave_of(chr), "a link older than its terminal is a dead VM's");
	close(theirs);
	chardev_close(chr);
	chr = NULL;
	close(open(path, O_CREAT | O_WRONLY, 0600));
	refused("pty,link=%s", path, EEXIST, "cannot make the link");
}

Test(chardev, pty_without_reader_does_not_block)
{
	char block[1000];
	int fd;

	memset(block, '.', sizeof(block));
	block[999] = '\n';
	chr = open_ok("pty", NULL);
	for (unsigned i = 0; i < 200; i++)
		cr_assert_eq(chardev_write(chr, block, sizeof(block)), sizeof(block));
	put("END");
	run_ms(10);
	fd = open_slave();
	cr_assert_str_eq(got(fd, 65536) + 65536 - 3, "END", "the last 64 KiB are kept");
	close(fd);
}

struct slow_reader {
	int fd;
	unsigned nap_ms, want;
	char text[8192];
	unsigned n;
};

static void *slow_reader(void *arg)
{
	struct slow_reader *r = arg;

	while (r->n < r->want) {
		ssize_t n;

		usleep(r->nap_ms * 1000);
		n = read(r->fd, r->text + r->n, 400);
		if (n <= 0 && errno != EAGAIN)
			break;
		r->n += n > 0 ? (unsigned)n : 0;
	}
	return NULL;
}

/* The end of the output comes to a reader that is slow; what it does not read in time is counted. */
Test(chardev, pty_last_output)
{
	static const struct {
		const char *what;
		unsigned nap_ms;
		bool all;
	} table[] = {
		{ "fast", 1, true },
		{ "with pauses", 70, true },
		{ "too slow", 600, false },
	};
	char text[3001] = "";

	for (unsigned i = 0; i < sizeof(text) - 1; i++)
		text[i] = (char)('a' + i % 23);
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct slow_reader r = { .nap_ms = table[i].nap_ms, .want = sizeof(text) - 1 };
		uint64_t begin, ms;
		pthread_t thread;
		char log[300] = "";
		int pipe_fd[2];

		cr_assert_eq(pipe(pipe_fd), 0);
		log_set_fd(pipe_fd[1]);
		chr = open_ok("pty", NULL);
		r.fd = open_slave();
		run_ms(20);
		cr_assert_eq(pthread_create(&thread, NULL, slow_reader, &r), 0);
		put(text);
		begin = clock_now_ms();
		chardev_close(chr);
		ms = clock_now_ms() - begin;
		chr = NULL;
		pthread_join(thread, NULL);
		log_set_fd(STDERR_FILENO);
		close(pipe_fd[1]);
		cr_assert_geq(read(pipe_fd[0], log, sizeof(log) - 1), 0);
		cr_expect_lt(ms, 1500, "%s", table[i].what);
		cr_expect_eq(r.n == r.want, table[i].all, "%s: %u bytes", table[i].what, r.n);
		cr_expect(!memcmp(r.text, text, r.n), "%s", table[i].what);
		cr_expect_eq(!strstr(log, "bytes of output are lost: its reader is slow"),
			     table[i].all, "%s: %s", table[i].what, log);
		close(r.fd);
		close(pipe_fd[0]);
	}
}

/* A terminal that no process reads, or that a process has closed, costs no time at the end. */
Test(chardev, pty_without_reader_ends_at_once)
{
	for (unsigned i = 0; i < 2; i++) {
		uint64_t begin, ms;

		chr = open_ok("pty", NULL);
		if (i) {
			int fd = open_slave();

			run_ms(20);
			close(fd);
		}
		put("nobody reads this");
		begin = clock_now_ms();
		chardev_close(chr);
		ms = clock_now_ms() - begin;
		chr = NULL;
		cr_expect_lt(ms, 300);
	}
}

/* --- socket ---------------------------------------------------------------- */

static int dial(const char *where)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(addr.sun_path, where);
	cr_assert_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

Test(chardev, socket_talks)
{
	struct stat st;
	int fd;

	chr = open_ok("socket=%s", path);
	cr_assert_eq(lstat(path, &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0700, "others may not become root in the guest");
	put("boot\n");
	fd = dial(path);
	cr_assert_str_eq(got(fd, 5), "boot\n");
	cr_assert_eq(write(fd, "root\n", 5), 5);
	cr_assert_str_eq(got_input(5), "root\n");
	put("# ");
	cr_assert_str_eq(got(fd, 2), "# ");
	close(fd);
	run_ms(10);
	fd = dial(path);
	cr_assert_str_eq(got(fd, 7), "boot\n# ");
	put("bye");
	chardev_close(chr);
	chr = NULL;
	cr_assert_str_eq(got(fd, 3), "bye");
	cr_assert_eq(read(fd, &st, 1), 0);
	cr_assert_neq(lstat(path, &st), 0, "the socket is removed");
	close(fd);
}

Test(chardev, socket_one_client)
{
	int a, b;

	chr = open_ok("socket=%s", path);
	a = dial(path);
	put("x");
	cr_assert_str_eq(got(a, 1), "x");
	b = dial(path);
	cr_assert_str_eq(got(b, 29), "another client is connected\r\n");
	cr_assert_eq(read(b, &b, 1), 0);
	put("y");
	cr_assert_str_eq(got(a, 1), "y", "the first one is not disturbed");
	/* A client that shut down its sending still receives, until another client connects. */
	shutdown(a, SHUT_WR);
	run_ms(10);
	put("z");
	cr_assert_str_eq(got(a, 1), "z");
	b = dial(path);
	cr_assert_str_eq(got(b, 3), "xyz");
	close(b);
	run_ms(10);
	b = dial(path);
	cr_assert_str_eq(got(b, 3), "xyz");
	close(a);
	close(b);
}

/* However much a client has written that the guest does not take: its end makes room for the next. */
Test(chardev, socket_client_ends_with_unread_input)
{
	static const unsigned sizes[] = { 0, 1, 255, 256, 257, 1000, 100000 };
	static char text[100000];
	int a, b, left = -1;

	chr = open_ok("socket=%s", path);
	user.in_max = 0;
	put("x");
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (int how = SHUT_RD; how <= SHUT_RDWR + 1; how++) {
			a = dial(path);
			cr_assert_str_eq(got(a, 1), "x", "%u bytes, %d", sizes[i], how);
			cr_assert_eq(write(a, text, sizes[i]), (ssize_t)sizes[i]);
			if (left >= 0)
				close(left);
			left = -1;
			run_ms(5);
			if (how > SHUT_RDWR)
				close(a);
			else
				shutdown(a, how);
			run_ms(5);
			b = dial(path);
			/* A client that reads no more may still write. */
			if (how == SHUT_RD)
				cr_assert_str_eq(got(b, 29), "another client is connected\r\n");
			else
				cr_assert_str_eq(got(b, 1), "x", "%u bytes, %d", sizes[i], how);
			close(b);
			if (how == SHUT_RD)
				close(a);
			else if (how <= SHUT_RDWR)
				left = a; /* alive, but its place is gone */
			run_ms(5);
		}
	}
	if (left >= 0)
		close(left);
}

Test(chardev, socket_paths)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char name[200];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	memset(name, 'n', sizeof(name));
	name[108] = 0;
	refused("socket=%s", name, ENAMETOOLONG, "1 to 107");
	refused("socket=%s/no/such", dir, ENOENT, "No such file");
	close(open(path, O_CREAT | O_WRONLY, 0600));
	refused("socket=%s", path, EEXIST, "not a socket");
	unlink(path);
	strcpy(addr.sun_path, path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	cr_assert_eq(listen(fd, 1), 0);
	refused("socket=%s", path, EADDRINUSE, "another process");
	close(fd);
	chr = open_ok("socket=%s", path);
	put("k");
	fd = dial(path);
	cr_assert_str_eq(got(fd, 1), "k", "a stale socket is replaced");
	close(fd);
	/* The close does not remove another file at our path. */
	unlink(path);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	chardev_close(chr);
	chr = NULL;
	cr_assert_eq(access(path, F_OK), 0);
}

Test(chardev, socket_slow_client)
{
	char block[1000];
	int fd;

	memset(block, '.', sizeof(block));
	chr = open_ok("socket=%s", path);
	put("x");
	fd = dial(path);
	cr_assert_str_eq(got(fd, 1), "x");
	/* Far more than socket and ring hold: the sink accepts everything at once. */
	for (unsigned i = 0; i < 2000; i++) {
		cr_assert_eq(chardev_write(chr, block, sizeof(block)), sizeof(block));
		if (i % 100 == 0)
			fake_run(&f);
	}
	put("END");
	for (unsigned i = 0; i < 100; i++) {
		static char buf[1 << 16];
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n >= 3 && !memcmp(buf + n - 3, "END", 3)) {
			close(fd);
			return;
		}
		run_ms(2);
	}
	cr_assert_fail("the newest output never came");
}

Test(chardev, input_waits_for_the_guest)
{
	char text[3000];
	int fd;

	memset(text, 'i', sizeof(text));
	chr = open_ok("socket=%s", path);
	user.in_max = 0;
	fd = dial(path);
	cr_assert_eq(write(fd, text, sizeof(text)), sizeof(text));
	close(fd);
	run_ms(20);
	cr_assert_eq(user.in_len, 0);
	for (unsigned i = 1; i <= 100; i++) {
		user.in_max = i * 30;
		chardev_resume(chr);
		cr_assert_eq(strlen(got_input(user.in_max)), i * 30);
	}
	run_ms(10);
	/* After the guest has read all, the sink accepts a new client. */
	fd = dial(path);
	put("hi");
	cr_assert_str_eq(got(fd, 2), "hi");
	close(fd);
}

/* --- stdio: pipes ---------------------------------------------------------- */

static void use_as(int fd, int as)
{
	cr_assert_eq(dup2(fd, as), as);
	close(fd);
}

Test(chardev, stdio_pipes)
{
	int in[2], out[2];

	cr_assert_eq(pipe(in) | pipe2(out, O_NONBLOCK), 0);
	fcntl(out[1], F_SETFL, 0);
	use_as(in[0], 0);
	use_as(out[1], 1);
	chr = open_ok("stdio", NULL);
	refused("stdio", NULL, EBUSY, "stdio already");
	put("out");
	cr_assert_str_eq(got(out[0], 3), "out");
	cr_assert_eq(fcntl(1, F_GETFL) & O_NONBLOCK, 0, "others share this description");
	cr_assert_eq(write(in[1], "\x01x in", 5), 5);
	cr_assert_str_eq(got_input(5), "\x01x in", "escapes are for terminals");
	close(in[1]);
	run_ms(10);
	put("on");
	cr_assert_str_eq(got(out[0], 2), "on", "EOF is not the end");
	close(out[0]);
	put("lost");
	cr_assert(fake_run_until(&f, has_failed, NULL), "no SIGPIPE, but told");
	chardev_close(chr);
	chr = open_ok("stdio", NULL);
}

Test(chardev, stdio_from_a_file)
{
	int fd = open(path, O_CREAT | O_RDWR, 0600);
	char text[2000];

	memset(text, 't', sizeof(text));
	cr_assert_eq(write(fd, text, sizeof(text)), sizeof(text));
	lseek(fd, 0, SEEK_SET);
	use_as(fd, 0);
	user.in_max = 0;
	chr = open_ok("stdio", NULL);
	user.in_max = 700;
	cr_assert_eq(strlen(got_input(700)), 700);
	run_ms(5);
	cr_assert_eq(user.in_len, 700);
	user.in_max = sizeof(user.in) - 1;
	chardev_resume(chr);
	cr_assert_eq(strlen(got_input(2000)), 2000);
	run_ms(5);
	cr_assert_eq(user.in_len, 2000);
}

Test(chardev, stdio_from_nothing)
{
	close(0);
	chr = open_ok("stdio", NULL);
	run_ms(5);
	chardev_close(chr);
	use_as(open("/dev/null", O_RDWR), 0);
	chr = open_ok("stdio", NULL);
	run_ms(5);
	cr_assert_eq(user.in_len, 0);
}

Test(chardev, stdio_end_is_a_key)
{
	int in[2], fd = open(path, O_CREAT | O_RDWR, 0600);
	char text[1000];

	/* a pipe, which the guest reads later */
	cr_assert_eq(pipe(in), 0);
	use_as(in[0], 0);
	user.in_max = 0;
	chr = open_with_end();
	cr_assert_eq(write(in[1], "exit", 4), 4);
	close(in[1]);
	run_ms(10);
	user.in_max = sizeof(user.in) - 1;
	chardev_resume(chr);
	cr_assert_str_eq(got_input(6), "exit\4\4");
	run_ms(5);
	cr_assert_eq(user.in_len, 6, "once");
	chardev_close(chr);
	/* what waits leaves no room, or room for one: 512 bytes wait */
	for (size_t n = 510; n < 513; n++) {
		cr_assert_eq(pipe(in), 0);
		use_as(in[0], 0);
		user.in_len = user.in_max = 0;
		memset(text, 't', n);
		cr_assert_eq(write(in[1], text, n), (ssize_t)n);
		close(in[1]);
		chr = open_with_end();
		run_ms(10);
		user.in_max = sizeof(user.in) - 1;
		chardev_resume(chr);
		cr_assert_str_eq(got_input(n + 2) + n, "\4\4", "behind %zu", n);
		chardev_close(chr);
	}
	/* a file that is longer than what waits */
	memset(text, 't', sizeof(text));
	cr_assert_eq(write(fd, text, sizeof(text)), sizeof(text));
	lseek(fd, 0, SEEK_SET);
	use_as(fd, 0);
	user.in_len = 0;
	user.in_max = 0;
	chr = open_with_end();
	run_ms(5);
	user.in_max = sizeof(user.in) - 1;
	chardev_resume(chr);
	cr_assert_str_eq(got_input(1002) + 1000, "\4\4");
	chardev_close(chr);
	/* nothing at all, and less than that */
	for (unsigned i = 0; i < 2; i++) {
		user.in_len = 0;
		close(0);
		if (i)
			use_as(open("/dev/null", O_RDWR), 0);
		chr = open_with_end();
		cr_assert_str_eq(got_input(2), "\4\4");
		if (!i)
			chardev_close(chr);
	}
}

Test(chardev, stdio_to_a_socket)
{
	int sv[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	use_as(sv[1], 1);
	fcntl(sv[0], F_SETFL, O_NONBLOCK);
	chr = open_ok("stdio", NULL);
	put("via socket");
	cr_assert_str_eq(got(sv[0], 10), "via socket");
	close(sv[0]);
	put("gone");
	cr_assert(fake_run_until(&f, has_failed, NULL));
}

Test(chardev, close_does_not_wait_for_ever)
{
	uint64_t began;
	char block[16384];
	int out[2];

	memset(block, 'x', sizeof(block));
	cr_assert_eq(pipe(out), 0);
	fcntl(out[1], F_SETPIPE_SZ, 4096);
	use_as(out[1], 1);
	chr = open_ok("stdio", NULL);
	chardev_write(chr, block, sizeof(block));
	began = clock_now_ns();
	chardev_close(chr);
	chr = NULL;
	cr_assert_leq(clock_now_ns() - began, 2 * CLOCK_NS_PER_S);
}
