/*
 * test_net_sockets: the calls that the user network's helper puts in the place of the C library's:
 * connections that only one end has closed, name servers that do not answer, and what a guest
 * cannot reach.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/proc.h"
#include "tools/bantam-net-user/addresses.h"
#include "tools/bantam-net-user/names.h"
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
	sockets_open_host();
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
	int host = listener(&at), first = -1, fd[400];
	unsigned n = 0, gone = 0;

	sockets_open_host();
	first = connected(&at);
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

	if (names_conf != conf) {
		close(mkstemp(conf));
		names_conf = conf;
		cr_assert_eq(names_begin(), 0);
	}
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

/* What libslirp sees in place of the file, and what stays when the process that reads it is gone. */
Test(net_sockets, resolv_conf_by_its_reader)
{
	unsigned version, again;
	char line[100] = "", text[200];
	struct stat st, later;
	FILE *f;

	write_conf("nameserver 192.0.2.1\nnameserver fe80::1%lo\nnameserver fe80::2%nosuchlink\n");
	snprintf(text, sizeof(text), "%s", names_text(&version));
	cr_expect_str_eq(text, "nameserver 192.0.2.1\nnameserver fe80::1%1\nnameserver "
			       "fe80::2%nosuchlink\n");
	cr_expect_eq(if_nametoindex("1"), 1);
	cr_expect_eq(if_nametoindex("nosuchlink"), 0);
	f = fopen("/etc/resolv.conf", "r");
	cr_assert(f && fgets(line, sizeof(line), f));
	fclose(f);
	cr_expect_str_eq(line, "nameserver 192.0.2.1\n");
	cr_expect_eq(stat("/etc/resolv.conf", &st), 0);
	cr_expect_eq(stat("/etc/resolv.conf", &later), 0);
	cr_expect(!memcmp(&st, &later, sizeof(st)), "the same file");
	write_conf("");
	cr_expect_str_eq(names_text(&again), "");
	cr_expect_neq(again, version);
	cr_expect_eq(stat("/etc/resolv.conf", &later), 0);
	cr_expect_neq(st.st_ino, later.st_ino);
	write_conf("nameserver 192.0.2.7\n");
	cr_expect_str_eq(names_text(&version), "nameserver 192.0.2.7\n");
	cr_assert_eq(kill(proc_child(), SIGKILL), 0);
	write_conf("nameserver 192.0.2.8\n");
	for (unsigned i = 0; i < 3; i++)
		cr_expect_str_eq(names_text(&again), "nameserver 192.0.2.7\n");
	cr_expect_eq(again, version);
	names_end();
	cr_expect_eq(stat("/etc/resolv.conf", &later), 0);
	unlink(conf);
}

/* The three calls, with two servers of which the first does not answer, or is not there. */
Test(net_sockets, asks_the_second_server)
{
	struct sockaddr_in at = server("127.0.0.1"), one = at, from;
	char line[100], buf[16];
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_DGRAM, 0), two = socket(AF_INET, SOCK_DGRAM, 0);

	sockets_open_host(); /* for the server's answer, which goes through the same call */
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

/* --- what a guest cannot reach -------------------------------------------------------------- */

/* The special-purpose addresses of RFC 6890 and their neighbours. */
Test(net_sockets, closed_addresses)
{
	static const struct {
		const char *address;
		bool closed;
	} table[] = {
		{ "0.0.0.0", true },
		{ "0.255.255.255", true },
		{ "1.0.0.0", false },
		{ "10.0.2.2", false }, /* libslirp's alias: the kernel never gets it */
		{ "126.255.255.255", false },
		{ "127.0.0.0", true },
		{ "127.0.0.1", true },
		{ "127.0.0.53", true },
		{ "127.255.255.255", true },
		{ "128.0.0.0", false },
		{ "169.253.255.255", false },
		{ "169.254.0.0", true },
		{ "169.254.169.254", true },
		{ "169.254.255.255", true },
		{ "169.255.0.0", false },
		{ "172.16.0.1", false },
		{ "192.168.0.1", false },
		{ "223.255.255.255", false },
		{ "224.0.0.0", true },
		{ "224.0.0.251", true },
		{ "224.0.1.0", false },
		{ "239.255.255.250", false },
		{ "255.255.255.254", false },
		{ "255.255.255.255", true },
		{ "::", true },
		{ "::1", true },
		{ "::2", true }, /* compatible with 0.0.0.2 */
		{ "::127.0.0.1", true },
		{ "::8.8.8.8", false },
		{ "::ffff:127.0.0.1", true },
		{ "::ffff:0.0.0.0", true },
		{ "::ffff:169.254.169.254", true },
		{ "::ffff:255.255.255.255", true },
		{ "::ffff:8.8.8.8", false },
		{ "::ffff:0:127.0.0.1", true },
		{ "::ffff:0:8.8.8.8", false },
		{ "::1:0:7f00:1", false },
		{ "64:ff9b::127.0.0.1", true },
		{ "64:ff9b::169.254.169.254", true },
		{ "64:ff9b::8.8.8.8", false },
		{ "64:ff9b:1::7f00:1", false },
		{ "2002:7f00:1::", true },
		{ "2002:a9fe:a9fe::1", true },
		{ "2002:808:808::1", false },
		{ "2001:db8::1", false },
		{ "fc00::1", false },
		{ "fd00:ec2::254", false },
		{ "fe7f:ffff::", false },
		{ "fe80::", true },
		{ "fe80::2", true },
		{ "febf:ffff::1", true },
		{ "fec0::2", false }, /* libslirp's alias */
		{ "ff01::1", true },
		{ "ff02::1", true },
		{ "ff02::fb", true },
		{ "ff02:ffff::1", true },
		{ "ff05::1", false },
		{ "ff0e::1", false },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct sockaddr_in in = { .sin_family = AF_INET };
		struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
		bool v6 = strchr(table[i].address, ':');

		cr_assert_eq(inet_pton(v6 ? AF_INET6 : AF_INET, table[i].address,
				       v6 ? (void *)&in6.sin6_addr : (void *)&in.sin_addr),
			     1);
		cr_expect_eq(addresses_closed(v6 ? (struct sockaddr *)&in6 :
						   (struct sockaddr *)&in),
			     table[i].closed, "%s", table[i].address);
	}
	cr_expect_not(addresses_closed(&(struct sockaddr){ .sa_family = AF_UNSPEC }));
}

/* A name server on the loopback is reached at its port, and only there. */
Test(net_sockets, name_servers_of_the_host_stay_open)
{
	static const struct {
		const char *address;
		unsigned port;
		bool open;
	} table[] = {
		{ "127.0.0.53", 53, true },  { "127.0.0.53", 54, false },
		{ "127.0.0.54", 53, false }, { "::1", 53, true },
		{ "::1", 80, false },	     { "fe80::1", 53, true },
		{ "fe80::2", 53, false },    { "169.254.169.253", 53, true },
	};

	write_conf("nameserver 127.0.0.53\nnameserver ::1\nnameserver fe80::1%eth0\n"
		   "nameserver 169.254.169.253\n");
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct sockaddr_in in = { .sin_family = AF_INET };
		struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
		bool v6 = strchr(table[i].address, ':');

		in.sin_port = in6.sin6_port = htons((uint16_t)table[i].port);
		cr_assert_eq(inet_pton(v6 ? AF_INET6 : AF_INET, table[i].address,
				       v6 ? (void *)&in6.sin6_addr : (void *)&in.sin_addr),
			     1);
		cr_expect_eq(resolver_serves(v6 ? (struct sockaddr *)&in6 : (struct sockaddr *)&in),
			     table[i].open, "%s port %u", table[i].address, table[i].port);
	}
	/* A change is seen at once. */
	write_conf("nameserver 127.0.0.54\n");
	cr_expect(resolver_serves((struct sockaddr *)&(struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons(53),
		.sin_addr.s_addr = inet_addr("127.0.0.54") }));
	unlink(conf);
}

static int bound(struct sockaddr_in *at)
{
	socklen_t len = sizeof(*at);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	*at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001) };
	cr_assert_eq(bind(fd, (struct sockaddr *)at, sizeof(*at)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)at, &len), 0);
	return fd;
}

static bool sends(int fd, const struct sockaddr_in *to)
{
	if (sendto(fd, "x", 1, 0, (const struct sockaddr *)to, sizeof(*to)) == 1)
		return true;
	cr_expect_eq(errno, EHOSTUNREACH);
	return false;
}

/* Programs of the host get answers from the forwarded port that they have sent to, and nothing else. */
Test(net_sockets, answers_of_a_forwarded_port)
{
	struct sockaddr_in at, other_at, client_at[SOCKETS_PEERS + 10], from;
	int port = bound(&at), other = bound(&other_at), client[SOCKETS_PEERS + 10];
	socklen_t len = sizeof(from);
	char c;

	sockets_forward(port);
	for (unsigned i = 0; i < SOCKETS_PEERS + 10; i++) {
		client[i] = bound(&client_at[i]);
		cr_expect_not(sends(port, &client_at[i]), "it has sent nothing yet");
	}
	for (unsigned i = 0; i < SOCKETS_PEERS + 10; i++) {
		struct msghdr msg = { .msg_name = &at,
				      .msg_namelen = sizeof(at),
				      .msg_iov = &(struct iovec){ "q", 1 },
				      .msg_iovlen = 1 };

		/* The test's own call, which is not libslirp's. */
		cr_assert_eq(sendmsg(client[i], &msg, 0), 1);
		cr_assert_eq(recvfrom(port, &c, 1, 0, (struct sockaddr *)&from, &len), 1);
		cr_expect(sends(port, &client_at[i]));
		cr_expect_not(sends(other, &client_at[i]), "from another socket");
	}
	cr_expect_not(sends(port, &client_at[0]), "the oldest is forgotten");
	cr_expect(sends(port, &client_at[20]));
	from = client_at[20];
	from.sin_port = other_at.sin_port;
	cr_expect_not(sends(port, &from), "another port of the same host");
	for (unsigned i = 0; i < SOCKETS_PEERS + 10; i++)
		close(client[i]);
	close(port);
	close(other);
}
