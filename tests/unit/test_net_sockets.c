/*
 * test_net_sockets: the calls that the user network's helper puts in the place of the C library's:
 * connections that only one end has closed, and name servers that do not answer.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tools/bantam-net-user/resolver.h"
#include "tools/bantam-net-user/sockets.h"
#include "vmm/core/clock.h"

static int listener(struct sockaddr_in *at)
{
	socklen_t len = sizeof(*at);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	*at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001) };
	cr_assert_eq(bind(fd, (struct sockaddr *)at, sizeof(*at)), 0);
	cr_assert_eq(listen(fd, 1000), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)at, &len), 0);
	return fd;
}

static int connected(const struct sockaddr_in *at)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	cr_assert_eq(connect(fd, (const struct sockaddr *)at, sizeof(*at)), 0);
	return fd;
}

/* Returns true if fd has hung up, and reading says that the connection broke. */
static bool given_up(int fd)
{
	struct pollfd p = { fd, POLLIN, 0 };
	char c;

	if (poll(&p, 1, 0) != 1 || !(p.revents & POLLHUP))
		return false;
	return recv(fd, &c, 1, MSG_DONTWAIT) < 0 && (errno == ECONNRESET || errno == ENOTCONN);
}

static void ticks(unsigned ms)
{
	for (uint64_t end = clock_now_ms() + ms; clock_now_ms() < end; usleep(5000))
		sockets_tick(clock_now_ms());
}

Test(net_sockets, a_connection_that_the_guest_has_closed)
{
	enum { OPEN = 1, TALKS = 2, CLOSES = 4, REUSED = 8 };
	static const struct {
		const char *what;
		int how;
		bool up;
	} table[] = {
		{ "the host's end does nothing", 0, true },
		{ "the guest has not closed", OPEN, false },
		{ "the host's end still sends", TALKS, false },
		{ "the host's end has closed too", CLOSES, false },
		{ "the descriptor is another one by now", REUSED, false },
	};

	sockets_fin_ms = 200;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct sockaddr_in at;
		int host = listener(&at), fd = connected(&at), end = accept(host, NULL, NULL), was;
		char c;

		if (!(table[i].how & OPEN))
			cr_assert_eq(shutdown(fd, SHUT_WR), 0);
		if (table[i].how & CLOSES)
			close(end);
		if (table[i].how & REUSED) {
			was = fd;
			close(fd);
			fd = connected(&at);
			cr_assert_eq(fd, was);
		}
		ticks(100);
		cr_expect_not(given_up(fd), "%s: too early", table[i].what);
		for (unsigned n = 0; table[i].how & TALKS && n < 6; n++) {
			cr_assert_eq(send(end, "x", 1, MSG_NOSIGNAL), 1, "%s", table[i].what);
			ticks(60);
			cr_assert_eq(recv(fd, &c, 1, MSG_DONTWAIT), 1, "%s", table[i].what);
		}
		if (!(table[i].how & TALKS))
			ticks(350);
		cr_expect_eq(given_up(fd), table[i].up, "%s", table[i].what);
		if (table[i].up)
			cr_expect(send(end, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE,
				  "the host's end is not reset");
		close(fd);
		close(host);
		if (!(table[i].how & CLOSES))
			close(end);
	}
}

/* The oldest closed connection makes room, as often as it takes; open ones stay. */
Test(net_sockets, descriptors_run_short)
{
	struct rlimit limit = { 128, 128 };
	struct sockaddr_in at;
	int host = listener(&at), first = connected(&at), fd[400];
	unsigned n = 0, gone = 0;

	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	sockets_begin();
	for (; n < 400; n++) {
		fd[n] = connected(&at);
		cr_assert_geq(fd[n], 0, "%u", n);
		cr_assert_eq(shutdown(fd[n], SHUT_WR), 0);
		usleep(1500); /* for an order in time */
		/* As libslirp does, in its order: the oldest that hung up. */
		for (; gone < n && given_up(fd[gone]); gone++)
			close(fd[gone]);
	}
	cr_expect(gone > 280 && gone < 330, "%u of %u were given up", gone, n);
	cr_expect_not(given_up(first));
	close(host);
}

/* --- name servers ------------------------------------------------------------------------- */

static char conf[] = "/tmp/bantam-resolv-XXXXXX";

static void write_conf(const char *text)
{
	FILE *f;

	if (resolver_conf != conf)
		close(mkstemp(conf));
	resolver_conf = conf;
	f = fopen(conf, "w");
	cr_assert(f);
	fputs(text, f);
	fclose(f);
}

/* Asks the address that libslirp would ask. Returns which address gets the question. */
static const char *asked(const char *address, unsigned port)
{
	static char text[INET6_ADDRSTRLEN];
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	bool v6 = strchr(address, ':');
	struct sockaddr_storage to = { 0 };

	cr_assert_eq(inet_pton(v6 ? AF_INET6 : AF_INET, address,
			       v6 ? (void *)&in6.sin6_addr : (void *)&in.sin_addr),
		     1);
	if (!resolver_ask(v6 ? (struct sockaddr *)&in6 : (struct sockaddr *)&in, &to))
		return strcpy(text, address);
	cr_assert_eq(to.ss_family, v6 ? AF_INET6 : AF_INET);
	if (v6)
		inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&to)->sin6_addr, text, sizeof(text));
	else
		inet_ntop(AF_INET, &((struct sockaddr_in *)&to)->sin_addr, text, sizeof(text));
	return text;
}

static struct sockaddr_in server(const char *address)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(53) };

	cr_assert_eq(inet_pton(AF_INET, address, &in.sin_addr), 1);
	return in;
}

static void silence(void)
{
	usleep((RESOLVER_SILENT_MS + 50) * 1000);
}

Test(net_sockets, a_silent_name_server)
{
	struct sockaddr_in one = server("192.0.2.1"), two = server("192.0.2.2"), from = two;

	write_conf("# nameserver 192.0.2.9\noptions ndots:2\n  nameserver\t192.0.2.1 \r\n"
		   "nameserver\nnameserver 2001:db8::1\nnameserver ns.example\n"
		   "nameserver 192.0.2.2\nnameserver fe80::1%eth0\nnameserver 192.0.2.3\n"
		   "nameserver 2001:db8::2\nnameserver 192.0.2.4");
	cr_expect_str_eq(asked("192.0.2.1", 53), "192.0.2.1");
	cr_expect_str_eq(asked("192.0.2.1", 53), "192.0.2.1", "at once again");
	cr_expect_str_eq(asked("2001:db8::1", 53), "2001:db8::1");
	silence();
	/* What goes to no name server, or to one that the guest named itself, stays as it is. */
	cr_expect_str_eq(asked("192.0.2.1", 54), "192.0.2.1");
	cr_expect_str_eq(asked("192.0.2.3", 53), "192.0.2.3");
	cr_expect_str_eq(asked("192.0.2.99", 53), "192.0.2.99");
	cr_expect_str_eq(asked("192.0.2.1", 53), "192.0.2.2");
	cr_expect_str_eq(asked("2001:db8::1", 53), "2001:db8::2");
	/* An answer has the first one's address, and its server stays. */
	resolver_heard((struct sockaddr *)&from);
	cr_expect(!memcmp(&from, &one, sizeof(one)));
	silence();
	cr_expect_str_eq(asked("192.0.2.1", 53), "192.0.2.2");
	/* A refusal counts at once; a late one of another server does not. */
	resolver_failed((struct sockaddr *)&one);
	cr_expect_str_eq(asked("192.0.2.1", 53), "192.0.2.2");
	resolver_failed((struct sockaddr *)&two);
	cr_expect_str_eq(asked("192.0.2.1", 53), "192.0.2.3");
	silence();
	cr_expect_str_eq(asked("192.0.2.1", 53), "192.0.2.1", "around");
	/* Other hosts are not touched. */
	from = server("192.0.2.77");
	resolver_heard((struct sockaddr *)&from);
	cr_expect_eq(from.sin_addr.s_addr, inet_addr("192.0.2.77"));
	unlink(conf);
}

Test(net_sockets, resolv_conf_changes)
{
	char big[6000];

	write_conf("nameserver 192.0.2.1\nnameserver 192.0.2.2\n");
	cr_expect_str_eq(asked("192.0.2.1", 53), "192.0.2.1");
	silence();
	memset(big, '#', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	memcpy(big, "nameserver 192.0.2.5\n", 21);
	write_conf(big);
	cr_expect_str_eq(asked("192.0.2.1", 53), "192.0.2.1", "no server of ours any more");
	cr_expect_str_eq(asked("192.0.2.5", 53), "192.0.2.5");
	silence();
	cr_expect_str_eq(asked("192.0.2.5", 53), "192.0.2.5", "the only one");
	unlink(conf);
	silence();
	cr_expect_str_eq(asked("192.0.2.5", 53), "192.0.2.5", "the file is gone");
}

/* The three calls, with two servers of which the first does not answer, or is not there. */
Test(net_sockets, asks_the_second_server)
{
	struct sockaddr_in at = server("127.0.0.1"), one = at, from;
	char line[100], buf[16];
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_DGRAM, 0), two = socket(AF_INET, SOCK_DGRAM, 0);

	at.sin_addr.s_addr = inet_addr("127.0.0.2");
	if (bind(two, (struct sockaddr *)&at, len))
		cr_skip_test("port 53 is not ours");
	snprintf(line, sizeof(line), "nameserver 127.0.0.1\nnameserver 127.0.0.2\n");
	write_conf(line);
	for (unsigned i = 0; i < 2; i++) {
		cr_assert_eq(sendto(fd, "?", 1, 0, (struct sockaddr *)&one, sizeof(one)), 1);
		if (!i)
			silence();
	}
	cr_assert_eq(recvfrom(two, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len), 1);
	cr_assert_eq(sendto(two, "!!", 2, 0, (struct sockaddr *)&from, len), 2);
	cr_assert_eq(recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len), 2);
	cr_expect_eq(from.sin_addr.s_addr, one.sin_addr.s_addr);
	cr_expect_eq(from.sin_port, one.sin_port);
	close(fd);
	close(two);
	unlink(conf);
}
