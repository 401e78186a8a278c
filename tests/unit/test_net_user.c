/*
 * test_net_user: the user network and its helper, from the guest's end of the cable and from
 * the host's: what it forwards, and which privileges the helper gives up.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/net_client.h"
#include "tests/unit/proc.h"
#include "vmm/core/bytes.h"
#include "vmm/core/helper.h"
#include "vmm/core/log.h"

static void own_network(void)
{
	if (unshare(CLONE_NEWNET) || system("ip link set lo up"))
		cr_skip_test("no network namespace");
}

static struct sockaddr_in address(const char *addr, unsigned port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

	cr_assert_eq(inet_pton(AF_INET, addr, &at.sin_addr), 1);
	return at;
}

/* --- the guest ----------------------------------------------------------------------------- */

#define ETH 14
#define IP 20
#define GUEST "\x0a\x00\x02\x0f"

static uint16_t sum(const uint8_t *at, unsigned len, uint32_t start)
{
	for (unsigned i = 0; i < len; i++)
		start += i & 1 ? at[i] : (uint32_t)at[i] << 8;
	while (start >> 16)
		start = (start & 0xffff) + (start >> 16);
	return (uint16_t)start;
}

/* Makes an IPv4 packet in a frame, around len bytes that are already in f. Returns the length. */
static unsigned make_ip(uint8_t *f, uint8_t proto, const char *src, const char *dst, unsigned id,
			unsigned frag, unsigned len)
{
	uint8_t *ip = f + ETH;

	memcpy(f,
	       "\x52\x55\x0a\0\x02\x02"
	       "\x02\0\0\0\0\x01"
	       "\x08",
	       ETH);
	memset(ip, 0, IP);
	ip[0] = 0x45;
	put_be16(ip + 2, IP + len);
	put_be16(ip + 4, id);
	put_be16(ip + 6, frag);
	ip[8] = 64;
	ip[9] = proto;
	memcpy(ip + 12, src, 4);
	memcpy(ip + 16, dst, 4);
	put_be16(ip + 10, (uint16_t)~sum(ip, IP, 0));
	return ETH + IP + len;
}

/* Makes a TCP segment without data, the first or (if it is no SYN and no RST) the second. Returns
 * the length. */
static unsigned make_tcp(uint8_t *f, const char *src, const char *dst, unsigned sport,
			 unsigned dport, uint32_t ack, uint8_t flags)
{
	uint8_t *tcp = f + ETH + IP;

	memset(tcp, 0, 20);
	put_be16(tcp, sport);
	put_be16(tcp + 2, dport);
	put_be16(tcp + 6, !(flags & 6));
	put_be16(tcp + 8, ack >> 16);
	put_be16(tcp + 10, ack);
	tcp[12] = 5 << 4;
	tcp[13] = flags;
	put_be16(tcp + 14, 1000);
	make_ip(f, IPPROTO_TCP, src, dst, 1, 0, 20);
	put_be16(tcp + 16, (uint16_t)~sum(f + ETH + 12, 28, IPPROTO_TCP + 20));
	return ETH + IP + 20;
}

static void guest_sends(const uint8_t *frame, unsigned len)
{
	struct iovec iov = { (void *)frame, len };
	struct net_frame f = { &iov, 1, len };

	while (!net->ops->send(net, 0, &f, 1))
		turns(1);
}

static void guest_sends_udp(const char *dst, unsigned sport, unsigned dport, const char *text)
{
	uint8_t f[200] = { 0 }, *udp = f + ETH + IP;
	unsigned len = (unsigned)strlen(text);

	put_be16(udp, sport);
	put_be16(udp + 2, dport);
	put_be16(udp + 4, 8 + len);
	memcpy(udp + 8, text, len);
	guest_sends(f, make_ip(f, IPPROTO_UDP, GUEST, dst, 1, 0, 8 + len));
}

/* Receives the next IPv4 frame of this protocol, of at most 2000 bytes; answers ARP requests. */
static bool guest_receives(uint8_t *f, uint8_t proto)
{
	for (unsigned tries = 0; tries < 30; tries++) {
		struct iovec iov = { f, 2000 };
		struct net_frame got = { &iov, 1, 2000 };

		/* Read all frames first: the back end calls us only after an empty read. */
		for (; net->ops->recv(net, 0, &got, 1) == 1; got.len_bytes = 2000) {
			if (got.len_bytes > ETH + IP && f[12] == 8 && !f[13] && f[ETH + 9] == proto)
				return true;
			if (got.len_bytes < 42 || f[13] != 6 || f[21] != 1 ||
			    memcmp(f + 38, GUEST, 4))
				continue;
			/* Turn the ARP request into its answer: swap the addresses. */
			memcpy(f, f + 6, 6);
			memcpy(f + 6, "\x02\0\0\0\0\x01", 6);
			f[21] = 2;
			memcpy(f + 32, f + 22, 10);
			memcpy(f + 22, "\x02\0\0\0\0\x01" GUEST, 10);
			guest_sends(f, 42);
		}
		readable = 0;
		net_want(net, 0, true, false);
		if (!until(&readable, 1))
			return false;
	}
	return false;
}

/* --- the helper ------------------------------------------------------------------------------- */

static unsigned cpu_ms(pid_t pid)
{
	unsigned long user = 0, sys = 0;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	cr_assert(f && fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
			      &user, &sys) == 2);
	fclose(f);
	return (unsigned)((user + sys) * 1000 / (unsigned long)sysconf(_SC_CLK_TCK));
}

/* Returns true if /proc/pid/file has a line that matches regex. */
static bool proc_says(pid_t pid, const char *file, const char *regex)
{
	char command[200];

	snprintf(command, sizeof(command), "grep -qE '%s' /proc/%d/%s", regex, pid, file);
	return !system(command);
}

/* Makes the helper start through a script that runs this shell line first. */
static void wrap(const char *line)
{
	char dir[] = "/tmp/bantam-helper-XXXXXX", path[64], real[PATH_MAX];
	FILE *script;

	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/bantam-net-user", dir);
	script = fopen(path, "w");
	cr_assert(script && realpath("build/bantam-net-user", real));
	fprintf(script, "#!/bin/bash\nrm -r %s; %s; exec %s \"$@\"\n", dir, line, real);
	fclose(script);
	cr_assert_eq(chmod(path, 0755), 0);
	setenv("BANTAM_LIBEXEC", dir, 1);
}

Test(net_user, answers_arp)
{
	static uint8_t arp[60] = { 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0,	 1, 8, 6,
				   0,	1,   8,	  0,   6,   4,	 0, 1, 2, 0, 0,	 0, 0, 1,
				   10,	0,   2,	  15,  0,   0,	 0, 0, 0, 0, 10, 0, 2, 2 };
	static uint8_t in[2048];
	struct iovec out_iov = { arp, sizeof(arp) }, in_iov = { in, sizeof(in) };
	struct net_frame out = { &out_iov, 1, sizeof(arp) }, got;
	struct err err = { "" };
	bool answered = false;

	cr_assert_eq(open_net((struct net_config){ .user = true, .hostfwd = "tcp::0-22,udp::0-53" },
			      &err),
		     0, "%s", err.text);
	cr_assert_eq(net->ops->send(net, 0, &out, 1), 1);
	for (unsigned tries = 0; tries < 10 && !answered; tries++) {
		readable = 0;
		net_want(net, 0, true, false);
		cr_assert(until(&readable, 1));
		got = (struct net_frame){ &in_iov, 1, sizeof(in) };
		while (!answered && net->ops->recv(net, 0, &got, 1) == 1) {
			answered = got.len_bytes >= 42 && in[12] == 8 && in[13] == 6 &&
				   in[21] == 2 && !memcmp(in + 28, "\x0a\0\x02\x02", 4);
			got.len_bytes = sizeof(in);
		}
	}
	cr_expect(answered);
	end();
}

static char forwards[200];

static void on_forwarded(void *opaque, const char *proto, const char *host, const char *guest)
{
	size_t n = strlen(forwards);

	cr_expect_str_eq(opaque, "me");
	snprintf(forwards + n, sizeof(forwards) - n, "%s %s %s;", proto, host, guest);
}

/* One of several machines. Returns what was forwarded. */
static const char *forwards_of(struct keep *k, const char *hostfwd)
{
	struct err err = { "" };

	forwards[0] = 0;
	cr_assert_eq(open_net((struct net_config){ .user = true,
						   .hostfwd = hostfwd,
						   .keep = k,
						   .id = "_net0",
						   .forwarded = on_forwarded,
						   .opaque = "me" },
			      &err),
		     0, "%s", err.text);
	net_close(net);
	net = NULL;
	return forwards;
}

/* A guest's reboot must not take a forward to another port; who connects to it would not know. */
Test(net_user, any_free_port_is_the_same_after_a_reboot)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	char first[200], proto[4], host[32];
	unsigned port, other;
	struct keep *k;
	int fd;

	cr_assert_eq(keep_create(&k), 0);
	strcpy(first, forwards_of(k, "tcp::0-22,udp::0-53"));
	cr_assert_eq(sscanf(first, "tcp 127.0.0.1:%u :22;udp 127.0.0.1:%u :53;", &port, &other), 2,
		     "%s", first);
	for (unsigned i = 0; i < 3; i++)
		cr_expect_str_eq(forwards_of(k, "tcp::0-22,udp::0-53"), first);
	/* Taken by another program meanwhile: another one, each told once. */
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	at.sin_port = htons((uint16_t)other);
	cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(sscanf(forwards_of(k, "tcp::0-22,udp::0-53"),
			    "%3s %31s :22;udp 127.0.0.1:%u :53;", proto, host, &port),
		     3, "%s", forwards);
	cr_expect_neq(port, other);
	close(fd);
	/* Other forwards, or without a keeper: nothing is remembered. */
	strcpy(first, forwards_of(k, "tcp:127.0.0.1:0-23"));
	cr_expect(strstr(first, ":23;") && !strstr(first, ":22;"), "%s", first);
	cr_expect_str_eq(forwards_of(k, "tcp:127.0.0.1:0-23"), first);
	keep_drop(k, "_net0");
	forwards_of(k, "tcp:127.0.0.1:0-23");
	forwards_of(NULL, "tcp::0-22");
	cr_expect_str_eq(forwards_of(k, NULL), "");
	keep_destroy(k);
	loop_destroy(loop);
	loop = NULL;
}

Test(net_user, says_that_a_port_is_in_use)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct err err = { "" };
	char fwd[64], dir[] = "/tmp/bantam-helper-XXXXXX", link[64];

	cr_assert_eq(bind(fd, (struct sockaddr *)&at, len), 0);
	cr_assert_eq(listen(fd, 1), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	snprintf(fwd, sizeof(fwd), "tcp::%u-22", ntohs(at.sin_port));
	cr_expect_eq(open_net((struct net_config){ .user = true, .hostfwd = fwd }, &err),
		     -EADDRINUSE);
	cr_expect(strstr(err.text, "the port is in use"), "%s", err.text);
	close(fd);
	setenv("BANTAM_LIBEXEC", "/nonexistent", 1);
	cr_expect_eq(open_net((struct net_config){ .user = true }, &err), -ENOENT);
	cr_expect(strstr(err.text, "is missing"), "%s", err.text);
	/* A helper that ends at once. */
	cr_assert(mkdtemp(dir));
	snprintf(link, sizeof(link), "%s/bantam-net-user", dir);
	cr_assert_eq(symlink("/bin/true", link), 0);
	setenv("BANTAM_LIBEXEC", dir, 1);
	cr_expect_eq(open_net((struct net_config){ .user = true, .hostfwd = fwd }, &err), -EIO);
	cr_assert_eq(open_net((struct net_config){ .user = true }, &err), 0);
	cr_expect(until(&downs, 1), "the link goes down when the helper ends");
	unlink(link);
	rmdir(dir);
	end();
}

/* The card does not wait for a helper without forwards, but its message is not lost. */
Test(net_user, says_why_the_helper_ended)
{
	char dir[] = "/tmp/bantam-helper-XXXXXX", path[64], said[400];
	struct err err = { "" };
	FILE *script, *log = tmpfile();
	size_t n;

	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/bantam-net-user", dir);
	script = fopen(path, "w");
	fprintf(script, "#!/bin/bash\neval \"echo 'error for a reason' >&$2\"\n");
	fclose(script);
	cr_assert_eq(chmod(path, 0755), 0);
	setenv("BANTAM_LIBEXEC", dir, 1);
	cr_assert_eq(open_net((struct net_config){ .user = true }, &err), 0, "%s", err.text);
	dup2(fileno(log), STDERR_FILENO);
	cr_expect(until(&downs, 1));
	rewind(log);
	n = fread(said, 1, sizeof(said) - 1, log);
	said[n] = 0;
	cr_expect_str_eq(
		said,
		"bantam: net0: bantam-net-user: for a reason\n"
		"bantam: net0: user network: bantam-net-user ended; the guest's link is down\n");
	unlink(path);
	rmdir(dir);
	end();
}

Test(net_user, udp_forward_both_ways)
{
	struct sockaddr_in at = address("127.0.0.1", 4053);
	struct err err = { "" };
	uint8_t f[2000], *udp = f + ETH + IP;
	char buf[100] = "";
	int fd;

	own_network();
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	cr_assert_eq(open_net((struct net_config){ .user = true, .hostfwd = "udp::4053-53" }, &err),
		     0, "%s", err.text);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(sendto(fd, "to the guest", 12, 0, (struct sockaddr *)&at, sizeof(at)),
			     12);
		cr_assert(guest_receives(f, IPPROTO_UDP));
		cr_expect(!memcmp(f + ETH + 16, GUEST, 4));
		cr_expect_eq(udp[2] << 8 | udp[3], 53);
		cr_expect(!memcmp(udp + 8, "to the guest", 12));
		guest_sends_udp((char *)f + ETH + 12, 53, (unsigned)(udp[0] << 8 | udp[1]),
				"and back");
		cr_assert_eq(recv(fd, buf, sizeof(buf), 0), 8);
		cr_expect(!memcmp(buf, "and back", 8));
	}
	close(fd);
	end();
}

/* --- what the guest cannot reach --------------------------------------------------------------- */

#define IP6 40
#define GUEST6 "fec0::15"

/* Makes an IPv6 packet in a frame, with the checksum at sum_at of the len bytes that are in f. */
static unsigned make_ip6(uint8_t *f, uint8_t proto, const char *dst, unsigned len, unsigned sum_at)
{
	uint8_t *ip = f + ETH, pseudo[40] = { 0 };

	memcpy(f,
	       "\x52\x56\0\0\0\x02"
	       "\x02\0\0\0\0\x01"
	       "\x86\xdd",
	       ETH);
	memset(ip, 0, IP6);
	ip[0] = 0x60;
	put_be16(ip + 4, len);
	ip[6] = proto;
	ip[7] = 64;
	cr_assert_eq(inet_pton(AF_INET6, GUEST6, ip + 8), 1);
	cr_assert_eq(inet_pton(AF_INET6, dst, ip + 24), 1);
	memcpy(pseudo, ip + 8, 32);
	put_be16(pseudo + 34, len);
	pseudo[39] = proto;
	put_be16(ip + IP6 + sum_at, 0);
	put_be16(ip + IP6 + sum_at, (uint16_t)~sum(ip + IP6, len, sum(pseudo, sizeof(pseudo), 0)));
	return ETH + IP6 + len;
}

/* The guest sends a SYN and a datagram to port 4999, and a ping. */
static void guest_tries(const char *dst, unsigned sport)
{
	bool v6 = strchr(dst, ':');
	uint8_t f[200] = { 0 }, *at = f + ETH + (v6 ? IP6 : IP), to[16];

	if (!v6) {
		cr_assert_eq(inet_pton(AF_INET, dst, to), 1);
		guest_sends(f, make_tcp(f, GUEST, (char *)to, sport, 4999, 0, 2));
		guest_sends_udp((char *)to, sport, 4999, "from the guest");
		memcpy(at, "\x08\0\xf7\xff\0\0\0\0", 8);
		guest_sends(f, make_ip(f, IPPROTO_ICMP, GUEST, (char *)to, 1, 0, 8));
		return;
	}
	put_be16(at, sport);
	put_be16(at + 2, 4999);
	at[12] = 5 << 4;
	at[13] = 2;
	put_be16(at + 14, 1000);
	guest_sends(f, make_ip6(f, IPPROTO_TCP, dst, 20, 16));
	put_be16(at + 4, 8 + 4);
	memcpy(at + 8, "ping", 4);
	guest_sends(f, make_ip6(f, IPPROTO_UDP, dst, 12, 6));
	memcpy(at, "\x80\0\0\0\0\0\0\0", 8);
	guest_sends(f, make_ip6(f, IPPROTO_ICMPV6, dst, 8, 2));
}

/* A socket of the host at port 4999 for all addresses. */
static int hosts(int family, int type)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(4999) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(4999) };
	int fd = socket(family, type | SOCK_NONBLOCK, 0);

	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){ 1 }, sizeof(int));
	cr_assert_eq(bind(fd, family == AF_INET ? (struct sockaddr *)&in : (struct sockaddr *)&in6,
			  family == AF_INET ? sizeof(in) : sizeof(in6)),
		     0);
	cr_assert(type != SOCK_STREAM || !listen(fd, 100));
	return fd;
}

/* Returns what has come to the host's sockets: bit 0: a connection, bit 1: a datagram. */
static unsigned arrived(const int fd[4], unsigned patience_ms)
{
	unsigned what = 0;
	char buf[100];

	for (unsigned ms = 0; ms <= patience_ms && what != 3; ms += 5) {
		turns(1);
		for (unsigned i = 0; i < 2; i++) {
			int c = accept(fd[i], NULL, NULL);

			if (c >= 0)
				close(c);
			what |= c >= 0;
			what |= recv(fd[2 + i], buf, sizeof(buf), 0) > 0 ? 2 : 0;
		}
		usleep(5000);
	}
	return what;
}

Test(net_user, loopback_and_link_are_closed)
{
	static const struct {
		const char *dst;
		unsigned closed, open; /* what arrives, without and with host-loopback */
	} table[] = {
		{ "192.0.2.1", 3, 3 }, /* an address of the host that others reach too */
		{ "10.0.2.2", 0, 3 },
		{ "127.0.0.1", 0, 3 },
		{ "127.99.0.1", 0, 3 },
		{ "169.254.1.1", 0, 3 },
		{ "0.0.0.0", 0, -1u },
		{ "255.255.255.255", 0, -1u },
		{ "10.0.2.255", 0, -1u },
		{ "10.0.2.3", 0, -1u },
		{ "10.0.2.77", 0, -1u },
		{ "224.0.0.1", 0, -1u },
		{ "2001:db8::1", 3, 3 },
		{ "fec0::2", 0, 3 },
		{ "fec0::77", 0, -1u },
		{ "::1", 0, -1u },
		{ "::", 0, -1u },
		{ "::ffff:127.0.0.1", 0, -1u },
		{ "::ffff:169.254.1.1", 0, -1u },
		{ "::127.0.0.1", 0, -1u },
		{ "64:ff9b::127.0.0.1", 0, -1u },
		{ "fe80::2", 0, -1u },
		{ "fe80::1", 0, -1u },
		{ "ff02::1", 0, -1u },
		{ "ff01::1", 0, -1u },
	};
	struct err err = { "" };
	int fd[4];

	own_network();
	cr_assert_eq(
		system("ip addr add 192.0.2.1/32 dev lo; ip addr add 169.254.1.1/16 dev lo;"
		       "ip -6 addr add 2001:db8::1/128 dev lo; ip -6 addr add fe80::1/64 dev lo"),
		0);
	for (unsigned i = 0; i < 4; i++)
		fd[i] = hosts(i & 1 ? AF_INET6 : AF_INET, i < 2 ? SOCK_STREAM : SOCK_DGRAM);
	for (unsigned open = 0; open < 2; open++) {
		cr_assert_eq(open_net((struct net_config){ .user = true,
							   .hostfwd = "udp::4053-53",
							   .host_loopback = open },
				      &err),
			     0, "%s", err.text);
		for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
			unsigned want = open ? table[i].open : table[i].closed, got;

			guest_tries(table[i].dst, 7000 + i);
			got = arrived(fd, want && want != -1u ? 3000 : 60);
			cr_expect(want == -1u || got == want, "%s%s: %u", table[i].dst,
				  open ? ", open" : "", got);
		}
		/* Nor from the port to which programs of the host may send. */
		guest_sends_udp("\x0a\0\x02\x02", 53, 4999, "x");
		cr_expect_eq(arrived(fd, open ? 3000 : 60) & 2, open ? 2 : 0);
		cr_expect_eq(downs, 0, "the helper has ended");
		end();
	}
	for (unsigned i = 0; i < 4; i++)
		close(fd[i]);
}

/* A connection that is refused gets an answer at once, so that no program waits for a time limit. */
Test(net_user, closed_addresses_are_refused)
{
	static const char to[][5] = { "\x0a\0\x02\x02", "\x7f\0\0\x01", "\xa9\xfe\xa9\xfe" };
	struct err err = { "" };
	uint8_t f[2000];

	own_network();
	cr_assert_eq(open_net((struct net_config){ .user = true, .hostfwd = "tcp::0-22" }, &err), 0,
		     "%s", err.text);
	for (unsigned i = 0; i < 3; i++) {
		guest_sends(f, make_tcp(f, GUEST, to[i], 9000 + i, 80, 0, 2));
		cr_assert(guest_receives(f, IPPROTO_ICMP), "%u", i);
		cr_expect(!memcmp(f + ETH + IP, "\3\1", 2), "%u: host unreachable", i);
		guest_sends_udp(to[i], 9000 + i, 80, "x");
		cr_assert(guest_receives(f, IPPROTO_ICMP), "%u", i);
		cr_expect_eq(f[ETH + IP], 3, "%u: unreachable", i);
	}
	end();
}

/* Receives the next SYN of a probe, which is for one of two ports. */
static unsigned guest_is_asked(uint8_t *f)
{
	unsigned port;

	cr_assert(guest_receives(f, IPPROTO_TCP));
	port = get_be16(f + ETH + IP + 2);
	cr_expect(!memcmp(f, "\x02\0\0\0\0\x01\x52\x55\x0a\0\x02\x02", 12));
	cr_expect(!memcmp(f + ETH + 12, "\x0a\0\x02\x02" GUEST, 8));
	cr_expect_eq(sum(f + ETH, IP, 0), 0xffff, "IP's checksum");
	cr_expect_eq(sum(f + ETH + 12, 28, IPPROTO_TCP + 20), 0xffff, "TCP's checksum");
	cr_expect_eq(f[ETH + IP + 13], 2, "a SYN");
	cr_expect(port == 22 || port == 80, "%u", port);
	return port;
}

static void guest_replies(uint8_t *f, unsigned port, uint32_t ack, uint8_t flags)
{
	guest_sends(f, make_tcp(f, GUEST, "\x0a\0\x02\x02", port, 1, ack, flags));
}

/*
 * Reads the log, into which the loop's thread writes, until it has so many lines about answers, or for some time.
 * Returns how many it has.
 */
static unsigned lines_of(int fd, char *log, size_t size, unsigned want)
{
	unsigned lines = 0;
	size_t n = 0;

	for (unsigned i = 0; i < (want ? 5000 : 150) && (lines < want || !want); i++) {
		ssize_t got;

		turns(1);
		usleep(1000);
		got = read(fd, log + n, size - 1 - n);
		n += got > 0 ? (size_t)got : 0;
		log[n] = 0;
		lines = 0;
		for (const char *at = log; (at = strstr(at, "the guest answers")); at++)
			lines++;
	}
	return lines;
}

/* A person is told once when a forwarded port answers. No connection comes of it, and other ports are asked again. */
Test(net_user, tells_when_the_guest_answers)
{
	char log[4000] = "", *at;
	struct err err = { "" };
	unsigned asked = 0;
	uint8_t f[2000];
	uint32_t seq;
	int fd[2];

	cr_assert_eq(open_net((struct net_config){ .user = true,
						   .hostfwd = "udp::0-22,tcp::0-22,tcp::0-80",
						   .tell_answers = true },
			      &err),
		     0, "%s", err.text);
	cr_assert_eq(pipe2(fd, O_NONBLOCK), 0);
	log_set_fd(fd[1]);
	/* Nobody is asked before the guest uses its address. */
	guest_sends_udp("\x0a\0\x02\x02", 1000, 80, "x");
	for (unsigned i = 0; i < 2; i++) {
		unsigned port = guest_is_asked(f);

		seq = get_be32(f + ETH + IP + 4) + 1;
		asked |= port == 22 ? 1 : 2;
		guest_replies(f, port, seq, port == 22 ? 0x14 : 0x12);
		if (port == 22)
			continue;
		/* Half open, and at once no more. */
		cr_assert(guest_receives(f, IPPROTO_TCP));
		while (get_be16(f + ETH + IP + 2) == 22 && i == 0) {
			asked |= 1;
			i++;
			guest_replies(f, 22, seq, 0x14);
			cr_assert(guest_receives(f, IPPROTO_TCP));
		}
		cr_expect_eq(f[ETH + IP + 13], 4, "a RST");
		cr_expect_eq(get_be32(f + ETH + IP + 4), seq);
	}
	cr_expect_eq(asked, 3);
	/* The other one, a second later. Answers of other kinds are none. */
	cr_expect_eq(guest_is_asked(f), 22);
	guest_replies(f, 22, 1, 0x10);
	guest_replies(f, 23, 1, 0x12);
	guest_replies(f, 22, 1, 0x12);
	while (guest_receives(f, IPPROTO_TCP) && f[ETH + IP + 13] != 4)
		;
	lines_of(fd[0], log, sizeof(log), 2);
	log_set_fd(STDERR_FILENO);
	at = strstr(log, ": the guest answers on port 80 (tcp 127.0.0.1:");
	cr_assert(at, "%s", log);
	at = strstr(at, ": the guest answers on port 22 (tcp 127.0.0.1:");
	cr_assert(at, "%s", log);
	cr_expect_null(strstr(at + 20, "answers"), "%s", log);
	end();
	close(fd[0]);
	close(fd[1]);
}

/* A helper that says what it likes: each forward counts once, and nonsense ends it. */
Test(net_user, answers_that_are_none)
{
	static const struct {
		const char *says;
		unsigned lines;
	} table[] = {
		{ "answers 0\\nanswers 0\\nanswers 1\\n", 2 },
		{ "answers 2\\nanswers 64\\nanswers 18446744073709551616\\n", 0 },
		{ "answers -1\\nanswers 0\\n", 0 },
		{ "answers 0x\\nanswers 0\\n", 0 },
		{ "answers \\n", 0 },
		{ "error x\\nanswers 0\\n", 0 },
		{ "answers 00000000000000000000000000000000000000000\\nanswers 0\\n", 0 },
		{ "\\0answers 0\\n", 0 },
		{ "", 0 },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int fd[2];
		char line[400], log[4000] = "";
		struct err err = { "" };
		unsigned lines = 0;

		/* It has bound ports that nobody asked for, which is as good. */
		snprintf(
			line, sizeof(line),
			"printf 'fwd tcp 1.2.3.4:%zu -> guest :22\\nfwd tcp 1.2.3.4:9 -> guest :23\\nready\\n' >&$2; sleep 0.05; printf '%s' >&$2; read -t 9 -u $1; exit",
			i + 1, table[i].says);
		wrap(line);
		cr_assert_eq(pipe2(fd, O_NONBLOCK), 0);
		log_set_fd(fd[1]);
		cr_assert_eq(open_net((struct net_config){ .user = true,
							   .hostfwd = "tcp::0-22,tcp::0-23",
							   .tell_answers = true },
				      &err),
			     0, "%s", err.text);
		lines = lines_of(fd[0], log, sizeof(log), table[i].lines);
		log_set_fd(STDERR_FILENO);
		cr_expect_eq(lines, table[i].lines, "%s: %s", table[i].says, log);
		end();
		close(fd[0]);
		close(fd[1]);
	}
}

/* Pings that libslirp does not pass on: it complains about each, but not in the host's log. */
Test(net_user, complaints_are_limited)
{
	uint8_t f[200] = { 0 };
	struct err err = { "" };
	char log[20000] = "";
	unsigned lines = 0;
	int fd[2], kept = dup(STDERR_FILENO);

	cr_assert_eq(pipe2(fd, O_NONBLOCK), 0);
	cr_assert_geq(dup2(fd[1], STDERR_FILENO), 0);
	cr_assert_eq(open_net((struct net_config){ .user = true, .hostfwd = "tcp::0-22" }, &err), 0,
		     "%s", err.text);
	dup2(kept, STDERR_FILENO);
	for (unsigned i = 0; i < 300; i++) {
		memcpy(f + ETH + IP6, "\x80\0\0\0\0\0\0\0", 8);
		guest_sends(f, make_ip6(f, IPPROTO_ICMPV6, "2001:db8::9", 8, 2));
	}
	guest_sends_udp("\x0a\0\x02\x02", 1000, 80, "x"); /* the answer comes after all of them */
	cr_assert(guest_receives(f, IPPROTO_ICMP));
	(void)!read(fd[0], log, sizeof(log) - 1);
	for (const char *at = log; (at = strstr(at, "icmpv6 not supported")); at++)
		lines++;
	cr_expect(lines >= 1 && lines <= 10, "%u lines:\n%.500s", lines, log);
	end();
	close(fd[0]);
	close(fd[1]);
	close(kept);
}

/* --- what the helper gives up ------------------------------------------------------------------- */

Test(net_user, confinement)
{
	struct err err = { "" };
	struct rlimit fds;
	char text[64];
	pid_t pid;

	cr_assert_eq(open_net((struct net_config){ .user = true, .hostfwd = "tcp::0-22" }, &err), 0,
		     "%s", err.text);
	pid = proc_child();
	cr_expect(proc_says(pid, "status", "^CapPrm:.0{16}$"));
	cr_expect(proc_says(pid, "status", "^CapEff:.0{16}$"));
	cr_expect(proc_says(pid, "status", "^Seccomp:.2$"));
	cr_expect(proc_says(pid, "status", "^NoNewPrivs:.1$"));
	/* Root can change its user, unless it has lost its capabilities. */
	if (!system("setpriv --reuid=65534 --regid=65534 --clear-groups true 2>/dev/null")) {
		/* The VM's own user, or nobody where a namespace has no such number. */
		snprintf(text, sizeof(text), "^Uid:.0(.%u){3}$|^Uid:.0(.65534){3}$",
			 helper_user(getpid()));
		cr_expect(proc_says(pid, "status", text), "%s", text);
		snprintf(text, sizeof(text), "^Gid:(.%u){4}$|^Gid:(.65534){4}$",
			 helper_user(getpid()));
		cr_expect(proc_says(pid, "status", text), "%s", text);
	}
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &fds), 0);
	fds.rlim_cur = fds.rlim_max < 2048 ? fds.rlim_max : 2048;
	snprintf(text, sizeof(text), "^Max open files +%lu ", fds.rlim_cur);
	cr_expect(proc_says(pid, "limits", text), "%s", text);
	snprintf(text, sizeof(text), "^Max data size +%lu ",
		 (fds.rlim_cur * 512 << 10) + (320 << 20));
	cr_expect(proc_says(pid, "limits", text), "%s", text);
	end();
}

/* Returns the only child of pid. */
static pid_t child_of(pid_t pid)
{
	char path[64];
	int child = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	f = fopen(path, "r");
	cr_assert(f && fscanf(f, "%d", &child) == 1);
	fclose(f);
	return child;
}

/* The process that reads resolv.conf for the helper is confined, too, and ends with it. */
Test(net_user, reader_of_names)
{
	struct err err = { "" };

	for (unsigned how = 0; how < 2; how++) {
		bool gone = false;
		pid_t reader;

		cr_assert_eq(open_net((struct net_config){ .user = true, .hostfwd = "tcp::0-22" },
				      &err),
			     0, "%s", err.text);
		reader = child_of(proc_child());
		for (unsigned i = 0; i < 200 && !proc_says(reader, "status", "^Seccomp:.2$"); i++)
			usleep(10000);
		cr_expect(proc_says(reader, "status", "^Seccomp:.2$"));
		cr_expect(proc_says(reader, "status", "^CapPrm:.0{16}$"));
		cr_expect(proc_says(reader, "status", "^CapBnd:.0{16}$"));
		cr_expect(proc_says(reader, "status", "^NoNewPrivs:.1$"));
		if (how) {
			kill(proc_child(), SIGKILL);
			cr_expect(until(&downs, 1));
		}
		end();
		for (unsigned i = 0; i < 300 && !gone; i++) {
			/* A zombie that its new parent has not reaped yet is gone, too. */
			gone = kill(reader, 0) || proc_says(reader, "status", "^State:.Z");
			usleep(gone ? 0 : 10000);
		}
		cr_expect(gone, "%u", how);
	}
}

/*
 * Fragments that never become whole packets: the helper drops what the guest sends, with one line of
 * the log, and lives. (libslirp gives them up after 30 s.)
 */
Test(net_user, fragments_do_not_fill_the_host)
{
	static uint8_t f[ETH + IP + 60000];
	unsigned sent = 0, lines = 0;
	int log[2], kept = dup(STDERR_FILENO);
	char text[4000] = "";
	struct err err = { "" };

	/* The test above checks the limit itself; this one, what happens at the limit. */
	wrap("ulimit -d 65536");
	cr_assert_eq(pipe2(log, O_NONBLOCK), 0);
	cr_assert_geq(dup2(log[1], STDERR_FILENO), 0);
	cr_assert_eq(open_net((struct net_config){ .user = true, .hostfwd = "tcp::0-22" }, &err), 0,
		     "%s", err.text);
	dup2(kept, STDERR_FILENO);
	for (; sent < 5000 && !downs; sent++) {
		unsigned len = make_ip(f, IPPROTO_UDP, GUEST, "\x0a\0\x02\x02", sent, 0x2000,
				       60000);

		guest_sends(f, len);
		turns(1);
	}
	cr_expect_eq(downs, 0, "%u fragments", sent);
	cr_expect(proc_says(proc_child(), "status", "^VmRSS:[^0-9]+[0-6]?[0-9]{1,4} kB$"));
	(void)!read(log[0], text, sizeof(text) - 1);
	for (const char *at = text; (at = strstr(at, "packets are dropped until")); at++)
		lines++;
	cr_expect_eq(lines, 1, "%.500s", text);
	end();
	close(log[0]);
	close(log[1]);
	close(kept);
}

static void swallow(uint8_t *f)
{
	struct iovec iov = { f, 2000 };
	struct net_frame got = { &iov, 1, 2000 };

	while (net->ops->recv(net, 0, &got, 1) == 1)
		got.len_bytes = 2000;
}

/* The memory is enough for as many connections as there are descriptors; more are refused. */
Test(net_user, all_connections_that_may_be)
{
	struct sockaddr_in at = address("127.0.0.1", 4999);
	int listener, fds, most;
	struct err err = { "" };
	struct rlimit ours;
	uint8_t f[2000];

	own_network();
	listener = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert_eq(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(listen(listener, 4096), 0);
	cr_assert_eq(open_net((struct net_config){ .user = true,
						   .hostfwd = "tcp::4022-22",
						   .host_loopback = true },
			      &err),
		     0, "%s", err.text);
	for (unsigned i = 0; i < 2300; i++) {
		guest_sends(f, make_tcp(f, GUEST, "\x0a\0\x02\x02", 10000 + i, 4999, 0, 2));
		swallow(f);
	}
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &ours), 0);
	most = (int)(ours.rlim_max < 2048 ? ours.rlim_max : 2048);
	for (unsigned tries = 0; (fds = proc_fds(proc_child())) != most && tries < 50; tries++) {
		swallow(f);
		turns(1);
		usleep(200000);
	}
	cr_expect_eq(fds, most, "%d", fds);
	cr_expect_eq(downs, 0);
	close(listener);
	end();
}

/* Waits for a connection to the guest that is not in seen. Returns false if none comes in time. */
static bool new_connection(bool seen[1 << 16], uint8_t *f)
{
	uint8_t *tcp = f + ETH + IP;

	while (guest_receives(f, IPPROTO_TCP)) {
		bool *port = &seen[tcp[0] << 8 | tcp[1]];

		if (tcp[13] != 2 || *port)
			continue; /* a repetition */
		return *port = true;
	}
	return false;
}

/* Connections that the helper cannot accept wait, and the helper does not spin. */
Test(net_user, no_descriptors_left)
{
	struct sockaddr_in at = address("127.0.0.1", 4022);
	static bool seen[1 << 16];
	struct err err = { "" };
	unsigned before, ms, n = 0, port = 0;
	uint32_t seq = 0;
	uint8_t f[2000], *tcp = f + ETH + IP;
	int fd[40];
	pid_t pid;

	own_network();
	wrap("ulimit -n 32");
	cr_assert_eq(open_net((struct net_config){ .user = true, .hostfwd = "tcp::4022-22" }, &err),
		     0, "%s", err.text);
	pid = proc_child();
	for (unsigned i = 0; i < 40; i++) {
		fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)connect(fd[i], (struct sockaddr *)&at, sizeof(at));
		if (!new_connection(seen, f))
			break;
		port = (unsigned)(tcp[0] << 8 | tcp[1]);
		seq = (uint32_t)tcp[4] << 24 | (uint32_t)tcp[5] << 16 | (uint32_t)tcp[6] << 8 |
		      tcp[7];
		n++;
	}
	cr_expect(n > 10 && n < 32, "%u", n);
	before = cpu_ms(pid);
	usleep(600000);
	ms = cpu_ms(pid) - before;
	cr_expect(ms < 200, "%u of 600 ms", ms);
	/* The guest refuses the last connection, which makes room for another. */
	guest_sends(f, make_tcp(f, GUEST, "\x0a\0\x02\x02", 22, port, seq + 1, 0x14));
	cr_expect(new_connection(seen, f));
	for (unsigned i = 0; i <= n; i++)
		close(fd[i]);
	end();
}

/* Opens a connection from port and closes the guest's end. Returns false if that fails. */
static bool guest_half_closes(unsigned port, uint8_t *f)
{
	uint8_t *tcp = f + ETH + IP;
	uint32_t seq;

	guest_sends(f, make_tcp(f, GUEST, "\x0a\0\x02\x02", port, 4999, 0, 2));
	do {
		if (!guest_receives(f, IPPROTO_TCP))
			return false;
	} while ((unsigned)(tcp[2] << 8 | tcp[3]) != port);
	if (tcp[13] != 0x12)
		return false;
	seq = (uint32_t)tcp[4] << 24 | (uint32_t)tcp[5] << 16 | (uint32_t)tcp[6] << 8 | tcp[7];
	guest_sends(f, make_tcp(f, GUEST, "\x0a\0\x02\x02", port, 4999, seq + 1, 0x11));
	return true;
}

/* A server that never closes does not use up the guest's connections. */
Test(net_user, connections_that_only_the_guest_has_closed)
{
	struct sockaddr_in at = address("127.0.0.1", 4999);
	struct err err = { "" };
	uint8_t f[2000];
	unsigned n = 0;
	int listener;

	own_network();
	listener = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert_eq(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(listen(listener, 4096), 0);
	wrap("ulimit -n 32");
	cr_assert_eq(open_net((struct net_config){ .user = true,
						   .hostfwd = "tcp::0-22",
						   .host_loopback = true },
			      &err),
		     0, "%s", err.text);
	while (n < 200 && guest_half_closes(10000 + n, f))
		n++;
	cr_expect_eq(n, 200, "%u", n);
	close(listener);
	end();
}

/* Replace the resolver's configuration as editors and daemons do, by a rename. */
Test(net_user, name_server_changes)
{
	struct sockaddr_in one = address("127.0.0.1", 53), two = address("127.0.0.2", 53);
	struct timeval patience = { .tv_sec = 3 };
	struct err err = { "" };
	char buf[100];
	int fd[2];

	own_network();
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "/etc", "tmpfs", 0, "mode=755"))
		cr_skip_test("no mount namespace");
	cr_assert_eq(system("echo nameserver 127.0.0.1 > /etc/resolv.conf"), 0);
	for (unsigned i = 0; i < 2; i++) {
		fd[i] = socket(AF_INET, SOCK_DGRAM, 0);
		setsockopt(fd[i], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		cr_assert_eq(bind(fd[i], (struct sockaddr *)(i ? &two : &one), sizeof(one)), 0);
	}
	cr_assert_eq(open_net((struct net_config){ .user = true, .hostfwd = "tcp::0-22" }, &err), 0,
		     "%s", err.text);
	guest_sends_udp("\x0a\0\x02\x03", 1000, 53, "first");
	cr_assert_eq(recv(fd[0], buf, sizeof(buf), 0), 5);
	cr_assert_eq(system("echo nameserver 127.0.0.2 > /etc/new && mv /etc/new /etc/resolv.conf"),
		     0);
	/* slirp checks the file once a second. */
	usleep(1100000);
	guest_sends_udp("\x0a\0\x02\x03", 1001, 53, "second");
	cr_expect_eq(recv(fd[1], buf, sizeof(buf), 0), 6);
	close(fd[0]);
	close(fd[1]);
	end();
}

/* --- a loopback that is down ------------------------------------------------------------------------ */

/*
 * Makes a tap through which this host is 192.0.2.1. (In a namespace that never had an address,
 * Linux lets a process bind any address, also without a loopback.)
 */
static int other_interface(uint8_t mac[6])
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI, .ifr_name = "bttest0" };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	cr_assert_eq(ioctl(fd, TUNSETIFF, &ifr), 0);
	cr_assert_eq(system("ip addr add 192.0.2.1/24 dev bttest0 && ip link set bttest0 up && "
			    "ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev bttest0"),
		     0);
	cr_assert_eq(ioctl(fd, SIOCGIFHWADDR, &ifr), 0);
	memcpy(mac, ifr.ifr_hwaddr.sa_data, 6);
	return fd;
}

/* Sends a SYN through the tap. Returns the flags of the answer, or 0 if none comes. */
static unsigned answer_to_syn(int fd, const uint8_t mac[6], unsigned port)
{
	uint8_t f[2000] = { 0 };
	unsigned len = make_tcp(f, "\xc0\0\x02\x02", "\xc0\0\x02\x01", 5000, port, 0, 2);
	struct pollfd p = { fd, POLLIN, 0 };

	memcpy(f, mac, 6);
	cr_assert_eq(write(fd, f, len), (ssize_t)len);
	while (poll(&p, 1, 3000) > 0) {
		ssize_t n = read(fd, f, sizeof(f));

		if (n >= ETH + IP + 20 && f[12] == 8 && !f[13] && f[ETH + 9] == IPPROTO_TCP)
			return f[ETH + IP + 13];
	}
	return 0;
}

Test(net_user, a_forward_is_for_this_host_only)
{
	static const struct {
		const char *hostfwd;
		unsigned answer;
	} table[] = {
		{ "tcp::4022-22", 0x14 }, /* reset */
		{ "tcp:127.0.0.1:4022-22", 0x14 },
		{ "tcp:0.0.0.0:4022-22", 0x12 },
	};
	struct sockaddr_in at = address("127.0.0.1", 4022);
	struct err err = { "" };

	own_network();
	if (access("/dev/net/tun", R_OK | W_OK))
		cr_skip_test("no /dev/net/tun");
	for (unsigned up = 0; up < 2; up++)
		for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
			uint8_t mac[6];
			int fd, rc, tap;

			/* A new namespace: only a loopback that never was up has no address. */
			cr_assert_eq(unshare(CLONE_NEWNET), 0);
			tap = other_interface(mac);
			cr_assert(!up || !system("ip link set lo up"));
			rc = open_net((struct net_config){ .user = true,
							   .hostfwd = table[i].hostfwd },
				      &err);
			if (i == 1 && !up) {
				cr_expect_eq(rc, -EADDRINUSE);
				cr_expect(strstr(err.text, "does not have that address"), "%s",
					  err.text);
				close(tap);
				continue;
			}
			cr_assert_eq(rc, 0, "%s", err.text);
			cr_expect_eq(answer_to_syn(tap, mac, 4022), table[i].answer, "%s",
				     table[i].hostfwd);
			cr_assert_eq(system("ip link set lo up"), 0);
			fd = socket(AF_INET, SOCK_STREAM, 0);
			cr_expect_eq(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0, "%s",
				     table[i].hostfwd);
			close(fd);
			close(tap);
			end();
		}
}
