/*
 * test_chardev_pool: consoles that outlive their devices, with real terminals, sockets and files.
 *
 * Here the pool's thread runs the sinks, and the test's thread plays the machines, one after the
 * other, and the readers.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "devices/backend/chardev/chardev.h"
#include "devices/backend/chardev/pool.h"
#include "devices/serial.h"
#include "tests/unit/console_threads.h"
#include "tests/unit/fake_env.h"
#include "vmm/core/clock.h"
#include "vmm/core/unix_socket.h"

/* One device. Callbacks come in the pool's thread. */
struct user {
	pthread_mutex_t lock; /* a device's: callbacks take it, and it is held around writes */
	bool alive;	      /* attached: any callback of a dead one is a fault */
	size_t in_len, in_max;
	char in[1 << 16];
	unsigned faults, drained, failed, resized;
	unsigned cols;
};

static struct chardev_pool *pool;
static struct chardev *chr;
static struct user user = { .lock = PTHREAD_MUTEX_INITIALIZER, .in_max = sizeof(user.in) - 1 };
static char dir[64], path[96], text[160];

static void enter(struct user *u)
{
	pthread_mutex_lock(&u->lock);
	u->faults += !u->alive;
}

static size_t input(void *opaque, const uint8_t *buf, size_t len)
{
	struct user *u = opaque;

	enter(u);
	cr_assert_leq(u->in_len, u->in_max);
	if (len > u->in_max - u->in_len)
		len = u->in_max - u->in_len;
	memcpy(u->in + u->in_len, buf, len);
	u->in_len += len;
	pthread_mutex_unlock(&u->lock);
	return len;
}

static void drained(void *opaque)
{
	struct user *u = opaque;

	enter(u);
	u->drained++;
	pthread_mutex_unlock(&u->lock);
}

static void resized(void *opaque, uint16_t cols, uint16_t rows)
{
	struct user *u = opaque;

	enter(u);
	u->resized++;
	u->cols = cols;
	pthread_mutex_unlock(&u->lock);
}

static void failed(void *opaque)
{
	struct user *u = opaque;

	enter(u);
	u->failed++;
	pthread_mutex_unlock(&u->lock);
}

/* --- machines ------------------------------------------------------------------------------- */

static int pool_open(const char *id, const char *options, struct err *err)
{
	struct keyvals kv;
	int rc = keys_parse(&kv, "--serial", chardev_keys, options, err);

	if (!rc)
		rc = chardev_pool_open(pool, id, &kv, err);
	keys_clear(&kv);
	return rc;
}

static void open_ok(const char *id, const char *fmt, const char *arg)
{
	struct err err = { "" };

	snprintf(text, sizeof(text), fmt, arg);
	cr_assert_eq(pool_open(id, text, &err), 0, "%s: %s", text, err.text);
}

/* A machine begins: its device takes the console of that id. */
static void attach(const char *id)
{
	const struct chardev_user table = { input, drained, resized, NULL, failed, &user };
	struct err err = { "" };
	struct keyvals kv;

	cr_assert_eq(keys_parse(&kv, "--serial", chardev_keys, "null", &err), 0);
	cr_assert_eq(chardev_obtain(pool, id, &kv, NULL, false, &chr, &err), 0, "%s", err.text);
	keys_clear(&kv);
	cr_assert_str_neq(chardev_describe(chr), "null", "not the pool's");
	user.in_len = 0;
	user.alive = true;
	chardev_attach(chr, &table);
}

/* The machine ends. */
static void detach(void)
{
	chardev_release(chr);
	pthread_mutex_lock(&user.lock);
	user.alive = false;
	pthread_mutex_unlock(&user.lock);
	chr = NULL;
}

static void put(const char *what)
{
	cr_assert_eq(chardev_write(chr, what, strlen(what)), strlen(what));
}

static void nap_ms(unsigned ms)
{
	struct timespec nap = { .tv_nsec = (long)ms * 1000000 };

	nanosleep(&nap, NULL);
}

/* What the device has got, once it is len bytes. */
static const char *got_input(size_t len)
{
	static char copy[1 << 16];

	for (unsigned i = 0; i < 5000; i++) {
		size_t n;

		pthread_mutex_lock(&user.lock);
		n = user.in_len;
		memcpy(copy, user.in, n);
		pthread_mutex_unlock(&user.lock);
		copy[n] = 0;
		if (n >= len)
			break;
		nap_ms(1);
	}
	return copy;
}

/* --- readers ---------------------------------------------------------------------------------- */

/* What comes from fd, up to len bytes, within five seconds. */
static const char *got(int fd, size_t len)
{
	static char buf[1 << 18];
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	size_t n = 0;

	while (n < len && poll(&pfd, 1, 5000) > 0) {
		ssize_t r = read(fd, buf + n, len - n);

		if (r < 0 && errno == EAGAIN)
			continue;
		if (r <= 0)
			break;
		n += (size_t)r;
	}
	buf[n] = 0;
	return buf;
}

static int dial(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	strcpy(addr.sun_path, path);
	cr_assert_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0, "%s", strerror(errno));
	return fd;
}

static int open_slave(const char *id)
{
	const char *slave = chardev_pool_path(pool, id);
	int fd;

	cr_assert_not_null(slave);
	fd = open(slave, O_RDWR | O_NOCTTY | O_NONBLOCK);
	cr_assert_geq(fd, 0);
	return fd;
}

static const char *content(void)
{
	static char buf[1 << 20];
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, buf, sizeof(buf) - 1);

	close(fd);
	buf[n < 0 ? 0 : n] = 0;
	return buf;
}

/* The file's content, once it is as long as want. */
static const char *file_content(size_t want)
{
	for (unsigned i = 0; i < 5000 && strlen(content()) < want; i++)
		nap_ms(1);
	return content();
}

static unsigned count(const char *where)
{
	DIR *d = opendir(where);
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static bool has_thread(void)
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	bool found = false;

	while ((e = readdir(d))) {
		char name[300], comm[32] = "";
		FILE *f;

		snprintf(name, sizeof(name), "/proc/self/task/%s/comm", e->d_name);
		f = fopen(name, "r");
		if (!f)
			continue;
		if (fgets(comm, sizeof(comm), f))
			found |= !strcmp(comm, "console\n");
		fclose(f);
	}
	closedir(d);
	return found;
}

static double cpu_s(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
	       1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void setup(void)
{
	struct err err;

	strcpy(dir, "/tmp/bantam-pool-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/a", dir);
	cr_assert_eq(chardev_pool_create(&pool, &err), 0);
}

static void teardown(void)
{
	if (chr)
		detach();
	chardev_pool_destroy(pool);
	cr_expect_eq(user.faults, 0, "%u callbacks of a device that is gone", user.faults);
	cr_expect_not(has_thread());
	unlink(path);
	cr_expect_eq(rmdir(dir), 0, "something is left behind");
}

TestSuite(chardev_pool, .init = setup, .fini = teardown, .timeout = 60);

/* --- the pool ---------------------------------------------------------------------------------- */

Test(chardev_pool, opens_what_needs_no_thread)
{
	struct err err = { "" };

	cr_expect_eq(pool_open("a", "off", &err), 0);
	cr_expect_null(chardev_pool_path(pool, "a"));
	open_ok("b", "null", NULL);
	cr_expect_null(chardev_pool_path(pool, "b"));
	cr_expect_null(chardev_pool_path(pool, "c"));
	cr_expect_not(has_thread(), "nothing to serve");
	cr_expect_eq(pool_open("b", "pty", &err), -EEXIST);
	cr_expect(strstr(err.text, "another console named b"), "%s", err.text);
	chardev_pool_destroy(NULL);
}

Test(chardev_pool, a_null_console_is_attached_to)
{
	const struct chardev_user table = { input, drained, NULL, NULL, failed, &user };
	struct err err = { "" };
	struct keyvals kv;

	open_ok("b", "null", NULL);
	cr_assert_eq(keys_parse(&kv, "--serial", chardev_keys, "null", &err), 0);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(chardev_obtain(pool, "b", &kv, NULL, false, &chr, &err), 0);
		chardev_attach(chr, &table);
		put("into the void");
		chardev_resume(chr);
		chardev_release(chr);
	}
	chr = NULL;
	keys_clear(&kv);
}

Test(chardev_pool, errors_leave_the_others)
{
	struct err err = { "" };
	unsigned fds = count("/proc/self/fd");

	snprintf(text, sizeof(text), "file=%s/no/such", dir);
	cr_expect_eq(pool_open("x", text, &err), -ENOENT);
	cr_expect(strstr(err.text, "no/such"), "%s", err.text);
	cr_expect_eq(pool_open("x", "pty,append", &err), -EINVAL);
	open_ok("serial", "pty", NULL);
	snprintf(text, sizeof(text), "socket=%s/no/such", dir);
	cr_expect_eq(pool_open("x", text, &err), -ENOENT);
	attach("serial");
	put("still there\n");
	detach();
	chardev_pool_destroy(pool);
	cr_expect_eq(count("/proc/self/fd"), fds);
	cr_assert_eq(chardev_pool_create(&pool, &err), 0);
}

Test(chardev_pool, one_device_at_a_time)
{
	struct err err = { "" };
	struct chardev *other;
	struct keyvals kv;
	struct loop *loop;

	open_ok("serial", "file=%s", path);
	attach("serial");
	cr_assert_eq(keys_parse(&kv, "--serial", chardev_keys, "null", &err), 0);
	cr_expect_eq(chardev_obtain(pool, "serial", &kv, NULL, false, &other, &err), -EBUSY);
	cr_expect_null(other);
	/* A device that the pool does not know, and one without an id, open their own. */
	cr_assert_eq(loop_create(&loop, &err), 0);
	cr_expect_eq(chardev_obtain(pool, "console", &kv, loop, false, &other, &err), 0);
	cr_expect_str_eq(chardev_describe(other), "null");
	chardev_release(other);
	cr_expect_eq(chardev_obtain(pool, NULL, &kv, loop, false, &other, &err), 0);
	chardev_release(other);
	cr_expect_eq(chardev_obtain(NULL, "serial", &kv, loop, false, &other, &err), 0);
	chardev_release(other);
	chardev_release(NULL);
	loop_destroy(loop);
	keys_clear(&kv);
}

/* --- pty -------------------------------------------------------------------------------------- */

Test(chardev_pool, a_terminal_stays_the_same)
{
	char slave[64];
	struct termios tio;
	int fd;

	open_ok("serial", "pty", NULL);
	strcpy(slave, chardev_pool_path(pool, "serial"));
	cr_expect_eq(strncmp(slave, "/dev/pts/", 9), 0);
	fd = open_slave("serial");
	cr_assert_eq(tcgetattr(fd, &tio), 0);
	cr_expect_eq(tio.c_lflag & (ICANON | ECHO | ISIG), 0, "raw");
	close(fd);
	attach("serial");
	put("first machine\n");
	detach();
	cr_expect_str_eq(chardev_pool_path(pool, "serial"), slave);
	fd = open_slave("serial");
	cr_expect_str_eq(got(fd, 14), "first machine\n", "kept while no machine is there");
	attach("serial");
	put("second\n");
	cr_expect_str_eq(got(fd, 7), "second\n", "the same reader reads on");
	cr_assert_eq(write(fd, "ls\r", 3), 3);
	cr_expect_str_eq(got_input(3), "ls\r");
	detach();
	close(fd);
	fd = open_slave("serial");
	cr_expect_str_eq(got(fd, 21), "first machine\nsecond\n");
	close(fd);
}

/* A reader that sets its own modes, does not read and goes leaves nothing to the next one. */
Test(chardev_pool, a_reader_leaves_nothing_behind)
{
	struct pollfd pfd = { .events = POLLIN };
	struct termios tio;
	int fd;

	open_ok("serial", "pty", NULL);
	attach("serial");
	put("once\n");
	pfd.fd = fd = open_slave("serial");
	cr_assert_eq(poll(&pfd, 1, 5000), 1);
	cr_assert_eq(tcgetattr(fd, &tio), 0);
	tio.c_lflag |= ECHO | ICANON;
	cr_assert_eq(tcsetattr(fd, TCSANOW, &tio), 0);
	close(fd);
	nap_ms(50);
	fd = open_slave("serial");
	cr_assert_eq(tcgetattr(fd, &tio), 0);
	cr_expect_eq(tio.c_lflag & (ICANON | ECHO), 0, "raw again");
	put("more\n");
	cr_expect_str_eq(got(fd, 10), "once\nmore\n");
	nap_ms(50);
	cr_expect_str_eq(got_input(0), "", "nothing is echoed to the guest");
	cr_expect_lt(read(fd, text, sizeof(text)), 1, "nothing comes twice");
	close(fd);
}

/* The only writer of this thread's time is a loop that spins. */
Test(chardev_pool, waits_without_spinning)
{
	double began;
	int fd;

	open_ok("serial", "pty", NULL);
	open_ok("console", "socket=%s", path);
	close(open_slave("serial"));
	fd = open_slave("serial");
	got(fd, 0);
	close(fd);
	fd = dial();
	cr_assert_eq(write(fd, text, sizeof(text)), (ssize_t)sizeof(text));
	for (unsigned i = 0; i < 20; i++)
		if (write(fd, user.in, 1024) < 0)
			break;
	close(fd);
	nap_ms(50);
	began = cpu_s();
	nap_ms(400);
	cr_expect_lt(cpu_s() - began, 0.1);
}

/* The host has no inotify instance left: many VMs of one user. The Makefile wraps the call. */
static bool no_inotify;
int __real_inotify_init1(int flags);
int __wrap_inotify_init1(int flags);
int __wrap_inotify_init1(int flags)
{
	errno = EMFILE;
	return no_inotify ? -1 : __real_inotify_init1(flags);
}

Test(chardev_pool, readers_are_found_without_inotify)
{
	double began;
	int fd;

	no_inotify = true;
	open_ok("serial", "pty", NULL);
	attach("serial");
	put("kept\n");
	for (unsigned i = 0; i < 2; i++) {
		fd = open_slave("serial");
		cr_expect_str_eq(got(fd, 5), "kept\n");
		cr_assert_eq(write(fd, "x", 1), 1);
		cr_expect_str_eq(got_input(i + 1), i ? "xx" : "x");
		close(fd);
		nap_ms(50);
	}
	began = cpu_s();
	nap_ms(600);
	cr_expect_lt(cpu_s() - began, 0.1);
}

Test(chardev_pool, a_reader_that_stops_does_not_stop_the_guest)
{
	char block[1000];
	uint64_t began;
	int fd;

	memset(block, '.', sizeof(block));
	open_ok("serial", "pty", NULL);
	attach("serial");
	put("x");
	fd = open_slave("serial");
	cr_expect_str_eq(got(fd, 1), "x");
	began = clock_now_ms();
	for (unsigned i = 0; i < 1000; i++)
		cr_assert_eq(chardev_write(chr, block, sizeof(block)), sizeof(block));
	put("END");
	cr_expect_lt(clock_now_ms() - began, 1000);
	close(fd);
	nap_ms(50);
	fd = open_slave("serial");
	cr_expect_str_eq(got(fd, 65536) + 65536 - 3, "END", "the last 64 KiB");
	close(fd);
}

/* It does not delay the end of the process either. */
Test(chardev_pool, stuck_readers_do_not_delay_the_end)
{
	char block[1000];
	uint64_t began;
	int fd[2];

	memset(block, '.', sizeof(block));
	open_ok("serial", "pty", NULL);
	open_ok("console", "socket=%s", path);
	fd[0] = open_slave("serial");
	fd[1] = dial();
	attach("serial");
	for (unsigned i = 0; i < 300; i++)
		chardev_write(chr, block, sizeof(block));
	detach();
	attach("console");
	for (unsigned i = 0; i < 300; i++) {
		chardev_write(chr, block, sizeof(block));
		if (i % 50 == 0)
			nap_ms(5);
	}
	detach();
	began = clock_now_ms();
	chardev_pool_destroy(pool);
	pool = NULL;
	cr_expect_lt(clock_now_ms() - began, 500);
	close(fd[0]);
	close(fd[1]);
}

/* A console learns the size of the terminal that is there already. */
Test(chardev_pool, each_device_learns_the_size)
{
	struct winsize ws = { .ws_col = 91, .ws_row = 33 };
	int fd;

	open_ok("console", "pty", NULL);
	fd = open_slave("console");
	cr_assert_eq(ioctl(fd, TIOCSWINSZ, &ws), 0);
	nap_ms(50);
	for (unsigned i = 1; i <= 3; i++) {
		user.cols = 0;
		attach("console");
		detach();
		cr_expect_eq(user.cols, 91, "machine %u", i);
	}
	close(fd);
}

/* --- socket ------------------------------------------------------------------------------------ */

Test(chardev_pool, a_socket_listens_from_the_opening_on)
{
	struct stat st;
	int a, b;

	open_ok("serial", "socket=%s", path);
	cr_assert_eq(lstat(path, &st), 0);
	cr_expect_eq(st.st_mode & 0777, 0700);
	a = dial();
	cr_assert_eq(write(a, "early", 5), 5);
	nap_ms(20);
	attach("serial");
	cr_expect_str_eq(got_input(5), "early", "what came before the machine waits for it");
	put("one\n");
	cr_expect_str_eq(got(a, 4), "one\n");
	detach();
	close(a);
	nap_ms(20);
	/* Between machines: clients in turn, each gets the kept bytes. */
	for (unsigned i = 0; i < 3; i++) {
		b = dial();
		cr_expect_str_eq(got(b, 4), "one\n");
		close(b);
		nap_ms(10);
	}
	a = dial();
	cr_expect_str_eq(got(a, 4), "one\n");
	attach("serial");
	put("two\n");
	cr_expect_str_eq(got(a, 4), "two\n", "a client stays connected over the reboot");
	b = dial();
	cr_expect_str_eq(got(b, 29), "another client is connected\r\n");
	close(b);
	close(a);
	detach();
	chardev_pool_destroy(pool);
	pool = NULL;
	cr_expect_neq(lstat(path, &st), 0, "the socket is removed");
}

/* A VM that is shut down leaves its socket's path to others, but neither its client nor its output. */
Test(chardev_pool, a_socket_rests)
{
	struct unix_listener other;
	struct stat st;
	struct err err;
	int a, b;

	open_ok("serial", "socket=%s", path);
	attach("serial");
	put("one\n");
	a = dial();
	cr_expect_str_eq(got(a, 4), "one\n");
	detach();
	chardev_pool_rest(pool);
	chardev_pool_rest(pool);
	cr_expect_neq(lstat(path, &st), 0);
	cr_assert_eq(unix_socket_listen(&other, "--x", "socket", path, 1, &err), 0);
	cr_expect_eq(chardev_pool_resume(pool, &err), -EADDRINUSE);
	cr_expect(strstr(err.text, "in use"), "%s", err.text);
	unix_socket_close(&other);
	cr_assert_eq(chardev_pool_resume(pool, &err), 0);
	cr_assert_eq(chardev_pool_resume(pool, &err), 0, "a second time changes nothing");
	attach("serial");
	put("two\n");
	cr_expect_str_eq(got(a, 4), "two\n", "the client is still there");
	close(a);
	b = dial();
	cr_expect_str_eq(got(b, 8), "one\ntwo\n", "the output is kept");
	close(b);
	detach();
}

/* The loop may see the next client before it sees that the last one has gone. */
Test(chardev_pool, clients_follow_at_once)
{
	char want[128] = "";
	int fd;

	open_ok("serial", "socket=%s", path);
	attach("serial");
	put("kept");
	for (unsigned i = 0; i < 100; i++) {
		fd = dial();
		cr_assert_str_eq(got(fd, 4), "kept", "client %u", i);
		cr_assert_eq(write(fd, "i", 1), 1);
		strcat(want, "i");
		close(fd);
	}
	cr_expect_str_eq(got_input(100), want, "their last input is not lost");
}

/* The same for a terminal's readers. */
Test(chardev_pool, readers_follow_at_once)
{
	int fd;

	open_ok("serial", "pty", NULL);
	attach("serial");
	put("kept");
	for (unsigned i = 0; i < 100; i++) {
		fd = open_slave("serial");
		cr_assert_str_eq(got(fd, 4), "kept", "reader %u", i);
		cr_assert_eq(write(fd, "i", 1), 1);
		close(fd);
	}
	cr_expect_eq(strlen(got_input(100)), 100);
}

/* No machine takes its input: that must not keep the next client out. */
Test(chardev_pool, a_client_that_wrote_much_and_left_is_over)
{
	static char bytes[3000];
	int fd;

	memset(bytes, 'i', sizeof(bytes));
	open_ok("serial", "socket=%s", path);
	attach("serial");
	put("kept");
	detach();
	for (unsigned i = 0; i < 5; i++) {
		fd = dial();
		cr_expect_str_eq(got(fd, 4), "kept", "client %u", i);
		cr_expect_eq(write(fd, bytes, sizeof(bytes)), (ssize_t)sizeof(bytes));
		nap_ms(20);
		close(fd);
		nap_ms(20);
	}
	/* The same while a guest takes no input. */
	user.in_max = 0;
	attach("serial");
	for (unsigned i = 0; i < 5; i++) {
		fd = dial();
		cr_expect_str_eq(got(fd, 4), "kept", "client %u", i);
		cr_expect_eq(write(fd, bytes, sizeof(bytes)), (ssize_t)sizeof(bytes));
		nap_ms(20);
		close(fd);
		nap_ms(20);
	}
}

/* --- file -------------------------------------------------------------------------------------- */

Test(chardev_pool, a_file_grows_over_reboots)
{
	FILE *f = fopen(path, "w");
	struct stat st;

	fputs("old\n", f);
	fclose(f);
	open_ok("serial", "file=%s,append", path);
	for (unsigned i = 0; i < 3; i++) {
		attach("serial");
		put("boot\n");
		detach();
		cr_expect_str_eq(file_content(4 + 5 * (i + 1)) + 4 + 5 * i, "boot\n");
	}
	cr_expect_eq(strncmp(content(), "old\n", 4), 0, "never truncated");
	chardev_pool_destroy(pool);
	unlink(path);
	cr_assert_eq(chardev_pool_create(&pool, &(struct err){ "" }), 0);
	umask(077);
	open_ok("serial", "file=%s,append", path);
	cr_assert_eq(stat(path, &st), 0, "made if absent");
	cr_expect_eq(st.st_mode & 0777, 0600);
	attach("serial");
	put("kept");
	detach();
	chardev_pool_destroy(pool);
	pool = NULL;
	cr_expect_str_eq(content(), "kept", "destroy flushes");
}

/* Without append the first machine starts the file, and the later ones go on. */
Test(chardev_pool, a_file_is_started_once)
{
	FILE *f = fopen(path, "w");

	fputs("of the last run", f);
	fclose(f);
	open_ok("serial", "file=%s", path);
	nap_ms(50);
	cr_expect_str_eq(content(), "of the last run", "no machine yet");
	attach("serial");
	put("one,");
	detach();
	attach("serial");
	put("two");
	detach();
	chardev_pool_destroy(pool);
	pool = NULL;
	cr_expect_str_eq(content(), "one,two");
}

/* Far more than the buffer holds, in order, over many machines; each waits for drained. */
Test(chardev_pool, output_keeps_its_order)
{
	char line[64];
	const char *at;
	unsigned n = 0;

	open_ok("serial", "file=%s,append", path);
	for (unsigned m = 0; m < 20; m++) {
		attach("serial");
		for (unsigned i = 0; i < 500; i++) {
			size_t done = 0;

			snprintf(line, sizeof(line), "%08u a line of the guest's boot\n", n++);
			while ((done += chardev_write(chr, line + done, strlen(line) - done)) <
			       strlen(line))
				nap_ms(1);
		}
		detach();
	}
	chardev_pool_destroy(pool);
	pool = NULL;
	at = content();
	for (unsigned i = 0; i < n; i++, at += strlen(line))
		cr_assert_eq(strtoul(at, NULL, 10), i);
	cr_expect_eq(*at, 0);
}

Test(chardev_pool, a_full_disk_is_told_to_each_machine)
{
	open_ok("serial", "file=%s,append", "/dev/full");
	for (unsigned i = 1; i <= 3; i++) {
		attach("serial");
		put("lost");
		for (unsigned j = 0; j < 2000; j++) {
			pthread_mutex_lock(&user.lock);
			j = user.failed == i ? 2000 : j;
			pthread_mutex_unlock(&user.lock);
			nap_ms(1);
		}
		detach();
		cr_expect_eq(user.failed, i);
	}
}

/* --- stdio ------------------------------------------------------------------------------------- */

/* tty: stdin is for people. A pipe with commands, /dev/null and a closed stdin are not read. */
Test(chardev_pool, tty_reads_only_a_terminal)
{
	struct err err = { "" };
	int in[2], out[2], file;
	struct keyvals kv;
	char left[8] = "";

	cr_assert_eq(pipe(in) | pipe2(out, O_NONBLOCK), 0);
	cr_assert_eq(write(in[1], "input", 5), 5);
	dup2(in[0], 0);
	file = dup(1);
	dup2(out[1], 1);
	cr_expect_eq(keys_parse(&kv, "--serial", chardev_keys, "stdio,tty", &err), -EINVAL,
		     "no option of users");
	keys_clear(&kv);
	keys_start(&kv, "--serial", chardev_keys);
	cr_assert_eq(keys_set_hidden(&kv, "sink", "stdio", &err), 0, "%s", err.text);
	cr_assert_eq(keys_set_hidden(&kv, "tty", "on", &err), 0, "%s", err.text);
	cr_assert_eq(keys_finish(&kv, &err), 0, "%s", err.text);
	cr_assert_eq(chardev_pool_open(pool, "console", &kv, &err), 0, "%s", err.text);
	keys_clear(&kv);
	for (unsigned i = 0; i < 3; i++) {
		attach("console");
		put("output");
		cr_expect_str_eq(got(out[0], 6), "output");
		if (i == 1)
			close(in[1]);
		nap_ms(10);
		detach();
		cr_expect_eq(user.in_len, 0);
	}
	cr_expect_eq(read(0, left, 5), 5);
	cr_expect_str_eq(left, "input", "left alone");
	dup2(file, 1);
}

/* --- devices ----------------------------------------------------------------------------------- */

/* A serial port of one machine after the other, on the pool's terminal. */
Test(chardev_pool, a_serial_port_reboots)
{
	struct fake_env f;
	struct err err = { "" };
	struct device *dev;
	char want[16];
	int fd;

	open_ok("serial0", "pty", NULL);
	fd = open_slave("serial0");
	for (unsigned i = 0; i < 5; i++) {
		fake_env_init(&f, FAKE_MMIO);
		f.env.consoles = pool;
		f.env.id = "serial0";
		cr_assert_eq(fake_create(&f, &serial_type, "stdio", &dev, &err), 0, "%s", err.text);
		snprintf(want, sizeof(want), "boot %u\n", i);
		for (unsigned j = 0; want[j]; j++)
			bus_write(&f.pio, SERIAL_COM1_PORT, 1, (uint8_t)want[j]);
		cr_expect_str_eq(got(fd, strlen(want)), want);
		bus_write(&f.pio, SERIAL_COM1_PORT + 1, 1, 1); /* the receive interrupt */
		cr_assert_eq(write(fd, "k", 1), 1);
		for (unsigned j = 0; j < 5000; j++) {
			if (bus_read(&f.pio, SERIAL_COM1_PORT + 5, 1) & 1)
				break;
			nap_ms(1);
		}
		cr_expect_eq(bus_read(&f.pio, SERIAL_COM1_PORT, 1), 'k');
		device_destroy(dev);
		fake_env_destroy(&f);
	}
	close(fd);
}

/* --- races --------------------------------------------------------------------------------------- */

Test(chardev_pool, machines_race_with_clients)
{
	struct console_result r = console_threads(dir, 300);

	cr_assert_null(r.failed, "%s", r.failed);
	cr_expect_eq(r.dead_calls, 0);
	cr_expect_geq(r.machines, 300);
	cr_expect_gt(r.inputs, 0);
	cr_expect_gt(r.outputs, 0);
}

static void *call_often(void *arg)
{
	struct chardev *c = arg;
	const struct chardev_user table = { input, drained, resized, NULL, failed, &user };

	for (unsigned i = 0; i < 2000; i++) {
		chardev_attach(c, &table);
		chardev_detach(c);
	}
	return NULL;
}

/* Devices of one machine are destroyed by several threads (I/O threads): calls take their turn. */
Test(chardev_pool, calls_from_many_threads)
{
	struct chardev *c[3];
	struct err err = { "" };
	struct keyvals kv;
	pthread_t t[3];

	user.alive = true;
	cr_assert_eq(keys_parse(&kv, "--serial", chardev_keys, "null", &err), 0);
	for (unsigned i = 0; i < 3; i++) {
		char id[8];

		snprintf(id, sizeof(id), "c%u", i);
		open_ok(id, "pty", NULL);
		cr_assert_eq(chardev_obtain(pool, id, &kv, NULL, false, &c[i], &err), 0);
		cr_assert_eq(pthread_create(&t[i], NULL, call_often, c[i]), 0);
	}
	keys_clear(&kv);
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(t[i], NULL);
		chardev_release(c[i]);
	}
}
