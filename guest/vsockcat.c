/*
 * vsockcat: the guest's end of the tests of virtio-vsock.
 *
 *   vsockcat receive PORT        connect to the host, read to the end, print "sum HEX BYTES"
 *   vsockcat send PORT BYTES     connect, send a pattern, shut down writing, read the host's
 *                                sum to the end and compare it with the pattern's
 *   vsockcat many PORT N         N connections at once; each gets its own number echoed
 *   vsockcat storm PORT N        N times: connect, send, and close without reading
 *   vsockcat refused PORT        connecting must fail with ECONNRESET
 *   vsockcat stall PORT OTHER    fill a connection that the host does not read; then an echo at
 *                                OTHER works
 *   vsockcat wait PORT           connect, send nothing, read until the host closes
 *   vsockcat fill PORT BYTES     connect, send BYTES, shut down writing, read until the host closes
 *   vsockcat echo PORT N         listen; echo N connections at the same time, each until it closes
 *
 * Prints "ok: …" or "not ok: …". Needs no library.
 */
#include <linux/eventpoll.h>

#include "guest/sys.h"
#include "guest/sha256.h"

#define MAX_FDS 1200
#define RLIMIT_NOFILE 7
#define SOCK_STREAM 1
#define AF_VSOCK 40

/* From linux/vm_sockets.h, which needs a libc. */
struct sockaddr_vm {
	uint16_t svm_family, svm_reserved1;
	uint32_t svm_port, svm_cid;
	uint8_t svm_flags, svm_zero[3];
};
#define VMADDR_CID_ANY 0xffffffffu
#define SO_VM_SOCKETS_CONNECT_TIMEOUT 6

static uint8_t buf[65536];
static int fds[MAX_FDS];

static _Noreturn void done(bool good, const char *what, long number)
{
	out("%s: vsockcat %s %ld\n", good ? "ok" : "not ok", what, number);
	SYS(exit_group, good ? 0 : 1);
	for (;;)
		;
}

static int try_dial(unsigned port)
{
	struct sockaddr_vm addr = { .svm_family = AF_VSOCK, .svm_port = port, .svm_cid = 2 };
	int fd = (int)SYS(socket, AF_VSOCK, SOCK_STREAM, 0);
	/* Linux's default of two seconds is too short after 1,000 closes in an emulated host. */
	struct {
		long s, us;
	} patience = { 30, 0 };
	long err;

	if (fd < 0)
		return fd;
	SYS(setsockopt, fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof(patience));
	err = SYS(connect, fd, &addr, sizeof(addr));
	if (!err)
		return fd;
	sys_close(fd);
	return (int)err;
}

static int dial(unsigned port)
{
	int fd = try_dial(port);

	if (fd < 0)
		done(false, "connect: error", -fd);
	return fd;
}

static bool write_all(int fd, const uint8_t *p, size_t len)
{
	while (len) {
		long n = sys_write(fd, p, len);

		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

static void receive(unsigned port)
{
	struct sha256 sum;
	uint64_t total = 0;
	int fd = dial(port);
	char hex[65];
	long n;

	sha256_init(&sum);
	while ((n = sys_read(fd, buf, sizeof(buf))) > 0) {
		sha256_add(&sum, buf, (size_t)n);
		total += (uint64_t)n;
	}
	sha256_hex(&sum, hex);
	out("sum %s %lu\n", hex, (unsigned long)total);
	done(n == 0, "receive", n);
}

static void wait_for(unsigned port)
{
	int fd = dial(port);

	while (sys_read(fd, buf, sizeof(buf)) > 0)
		;
	SYS(exit_group, 0);
}

static void fill(unsigned port, uint64_t left)
{
	int fd = dial(port);

	while (left) {
		size_t part = left < sizeof(buf) ? left : sizeof(buf);

		if (!write_all(fd, buf, part))
			done(false, "fill: bytes left", (long)left);
		left -= part;
	}
	SYS(shutdown, fd, 1);
	SYS(exit_group, sys_read(fd, buf, 1) != 0);
}

static void send(unsigned port, uint64_t left)
{
	uint64_t x = 88172645463325252ull;
	char hex[65], theirs[65] = "";
	struct sha256 sum;
	int fd = dial(port);
	size_t got = 0;

	sha256_init(&sum);
	while (left) {
		size_t part = left < sizeof(buf) ? left : sizeof(buf);

		for (size_t i = 0; i < sizeof(buf) / 8; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			((uint64_t *)buf)[i] = x;
		}
		sha256_add(&sum, buf, part);
		if (!write_all(fd, buf, part))
			done(false, "send: bytes left", (long)left);
		left -= part;
	}
	SYS(shutdown, fd, 1);
	sha256_hex(&sum, hex);
	while (got < 64) {
		long n = sys_read(fd, theirs + got, 64 - got);

		if (n <= 0)
			break;
		got += (size_t)n;
	}
	done(got == 64 && !memcmp(hex, theirs, 64) && sys_read(fd, buf, 1) == 0, "send", (long)got);
}

static void many(unsigned port, unsigned n)
{
	unsigned bad = 0;

	for (unsigned i = 0; i < n; i++) {
		fds[i] = dial(port);
		if (!write_all(fds[i], (uint8_t *)&i, 4))
			done(false, "many: writing", i);
	}
	for (unsigned i = 0; i < n; i++) {
		unsigned back = ~i;

		for (size_t got = 0; got < 4;) {
			long r = sys_read(fds[i], (uint8_t *)&back + got, 4 - got);

			if (r <= 0)
				break;
			got += (size_t)r;
		}
		bad += back != i;
	}
	for (unsigned i = 0; i < n; i++)
		sys_close(fds[i]);
	done(!bad, "many", n - bad);
}

static void storm(unsigned port, unsigned n)
{
	unsigned failed = 0;

	for (unsigned i = 0; i < n; i++) {
		int fd = try_dial(port);

		if (fd < 0) {
			out("storm: error %d\n", -fd);
			failed++;
			continue;
		}
		if (i % 3)
			write_all(fd, buf, i % 3 * 3000);
		sys_close(fd);
	}
	done(failed == 0, "storm", n - failed);
}

static void stall(unsigned port, unsigned other)
{
	int fd = dial(port), echo;
	uint64_t total = 0;
	unsigned quiet = 0;

	SYS(fcntl, fd, F_SETFL, O_NONBLOCK);
	while (quiet < 20) { /* until no write succeeds for a second */
		long n = sys_write(fd, buf, sizeof(buf));

		if (n > 0) {
			total += (uint64_t)n;
			quiet = 0;
			continue;
		}
		quiet++;
		sys_sleep_ms(50);
	}
	echo = dial(other);
	if (!write_all(echo, (const uint8_t *)"quick", 5) || sys_read(echo, buf, 5) != 5)
		done(false, "stall: the other connection", 0);
	done(total > 0 && total < 64u << 20, "stall", (long)total);
}

/* Echoes one read of one connection. Returns false, with fd closed, at its end. */
static bool echo_some(int fd)
{
	long n = sys_read(fd, buf, sizeof(buf));

	if (n > 0 && write_all(fd, buf, (size_t)n))
		return true;
	sys_close(fd);
	return false;
}

static bool watch(int epfd, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN, .data = (unsigned)fd };

	return SYS(epoll_ctl, epfd, EPOLL_CTL_ADD, fd, &ev) == 0;
}

/* Uses epoll: polling 1,000 sockets for each event takes an emulated CPU a minute. */
static void echo(unsigned port, unsigned n)
{
	struct sockaddr_vm addr = { .svm_family = AF_VSOCK,
				    .svm_port = port,
				    .svm_cid = VMADDR_CID_ANY };
	int fd = (int)SYS(socket, AF_VSOCK, SOCK_STREAM, 0);
	int epfd = (int)SYS(epoll_create1, 0);
	unsigned open = 0, accepted = 0;

	if (SYS(bind, fd, &addr, sizeof(addr)) < 0 || SYS(listen, fd, 1024) < 0 || !watch(epfd, fd))
		done(false, "echo: cannot listen", port);
	out("listening %u\n", port);
	while (accepted < n || open) {
		struct epoll_event ready[64];
		long count = SYS(epoll_pwait, epfd, ready, 64, -1, 0);

		for (long i = 0; i < count; i++) {
			int from = (int)ready[i].data;

			if (from != fd) {
				open -= !echo_some(from); /* closing it ends the watch */
				continue;
			}
			from = accepted < n ? (int)SYS(accept4, fd, 0, 0, 0) : -1;
			if (from >= 0 && !watch(epfd, from))
				done(false, "echo: cannot watch", from);
			open += from >= 0;
			accepted += from >= 0;
		}
		if (accepted == n && fd >= 0) {
			sys_close(fd);
			fd = -1;
		}
	}
	done(true, "echo", accepted);
}

int main(int argc, char **argv, char **envp)
{
	struct {
		uint64_t now, max;
	} limit = { 4096, 4096 };
	unsigned port = argc > 2 ? (unsigned)str_number(argv[2]) : 0;
	uint64_t n = argc > 3 ? str_number(argv[3]) : 0;

	(void)envp;
	SYS(prlimit64, 0, RLIMIT_NOFILE, &limit, 0);
	if (argc < 3 || (n > MAX_FDS && (str_eq(argv[1], "many"))))
		done(false, "usage", argc);
	if (str_eq(argv[1], "receive"))
		receive(port);
	if (str_eq(argv[1], "wait"))
		wait_for(port);
	if (str_eq(argv[1], "fill"))
		fill(port, n);
	if (str_eq(argv[1], "send"))
		send(port, n);
	if (str_eq(argv[1], "many"))
		many(port, (unsigned)n);
	if (str_eq(argv[1], "storm"))
		storm(port, (unsigned)n);
	if (str_eq(argv[1], "refused"))
		done(try_dial(port) == -ECONNRESET, "refused", port);
	if (str_eq(argv[1], "stall"))
		stall(port, (unsigned)n);
	if (str_eq(argv[1], "echo"))
		echo(port, (unsigned)n);
	done(false, "usage", argc);
}
