/*
 * test_net_backend: the back ends of a network card: the text of port forwards, streams that
 * break and reconnect, taps (if the host allows them). test_net_user tests the user network.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/backend/net/net.h"
#include "devices/backend/net/hostfwd.h"
#include "tests/unit/net_client.h"

Test(net_backend, hostfwd)
{
	static const struct {
		const char *text, *addr;
		bool good, udp;
		unsigned host, guest;
	} table[] = {
		{ "tcp::0-22", "127.0.0.1", true, false, 0, 22 },
		{ "udp::53-5353", "127.0.0.1", true, true, 53, 5353 },
		{ "tcp:0.0.0.0:65535-65535", "0.0.0.0", true, false, 65535, 65535 },
		{ "tcp:10.1.2.3:8080-80", "10.1.2.3", true, false, 8080, 80 },
		{ "tcp:[::1]:8080-80", "::1", true, false, 8080, 80 },
		{ "udp:[::]:0-53", "::", true, true, 0, 53 },
		{ "tcp:[::ffff:255.255.255.255]:65535-65535", "::ffff:255.255.255.255", true, false,
		  65535, 65535 },
		{ .text = "tcp:[]:1-2" },
		{ .text = "tcp:[:1-2" },
		{ .text = "tcp:]:1-2" },
		{ .text = "tcp:[::1]1-2" },
		{ .text = "tcp:[::1:1-2" },
		{ .text = "tcp:::1]:1-2" },
		{ .text = "tcp:[::1]" },
		{ .text = "tcp:[::1]:1" },
		{ .text = "tcp:[fe80::1%lo]:1-2" },
		{ .text = "tcp:[[::1]]:1-2" },
		{ .text = "tcp:[1.2.3.4]:1-2" },
		{ .text = "tcp:[" },
		{ .text = "" },
		{ .text = "tcp" },
		{ .text = "tcp:" },
		{ .text = "tcp::" },
		{ .text = "tcp::-" },
		{ .text = "tcp::1-" },
		{ .text = "tcp::-1" },
		{ .text = "tcp::1-0" },
		{ .text = "tcp::0x10-1" },
		{ .text = "tcp::1-65536" },
		{ .text = "tcp::1-2-3" },
		{ .text = "tcp:::1-2" },
		{ .text = "TCP::1-2" },
		{ .text = "tcp:localhost:1-2" },
		{ .text = "tcp:1.2.3:1-2" },
		{ .text = "tcp:1.2.3.4.5:1-2" },
		{ .text = "tcp::1 -2" },
		{ .text = "icmp::1-2" },
		{ .text = "tcp:111111111111111111111111111111111111111111111111111111111111:1-2" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct net_hostfwd f;
		char addr[INET6_ADDRSTRLEN];
		const char *why = net_hostfwd_parse(table[i].text, (unsigned)strlen(table[i].text),
						    &f);

		cr_expect_eq(!why, table[i].good, "\"%s\": %s", table[i].text, why ? why : "taken");
		if (why || !table[i].good)
			continue;
		inet_ntop(f.v6 ? AF_INET6 : AF_INET, f.v6 ? (void *)&f.addr6 : (void *)&f.addr,
			  addr, sizeof(addr));
		cr_expect(!strcmp(addr, table[i].addr) && f.udp == table[i].udp &&
				  f.host_port == table[i].host && f.guest_port == table[i].guest,
			  "%s", table[i].text);
	}
}

/* --- streams ---------------------------------------------------------------------------- */

static int listen_at(const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	unlink(path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(listen(fd, 1), 0);
	return fd;
}

Test(net_backend, a_stream_is_found_again)
{
	struct iovec iov = { (char[64]){ 0 }, 64 };
	struct net_frame frame = { &iov, 1, 64 };
	char path[64], buf[100];
	struct err err = { "" };
	int listener, peer;

	snprintf(path, sizeof(path), "/tmp/bantam-test-net.%d", getpid());
	listener = listen_at(path);
	cr_assert_eq(open_net((struct net_config){ .stream = path }, &err), 0, "%s", err.text);
	peer = accept(listener, NULL, NULL);
	cr_assert_eq(net->ops->send(net, 0, &frame, 1), 1);
	cr_assert_eq(read(peer, buf, sizeof(buf)), 68);
	/* For a while there is no listener. */
	close(peer);
	close(listener);
	cr_assert(until(&downs, 1));
	cr_expect(!net->up);
	cr_expect_eq(net->ops->send(net, 0, &frame, 1), 1, "frames are swallowed");
	cr_expect_eq(net->ops->recv(net, 0, &frame, 1), 0);
	listener = listen_at(path);
	cr_assert(until(&ups, 1));
	peer = accept(listener, NULL, NULL);
	cr_assert_eq(net->ops->send(net, 0, &frame, 1), 1);
	cr_assert_eq(read(peer, buf, sizeof(buf)), 68);
	/* An invalid length: the back end closes the stream, and connects again. */
	net_want(net, 0, true, false);
	cr_assert_eq(write(peer, "\x7f\xff\xff\xff", 4), 4);
	cr_assert(until(&readable, 1));
	frame.len_bytes = 64;
	cr_assert_eq(net->ops->recv(net, 0, &frame, 1), 0);
	cr_assert(until(&downs, 2));
	cr_assert(until(&ups, 2));
	end();
	close(peer);
	close(listener);
	unlink(path);
}

/* A peer that goes without reading all: the kernel resets the connection, and what it has sent is there. */
Test(net_backend, a_stream_is_read_to_its_end)
{
	uint8_t sent[68] = { 0, 0, 0, 64, 1, 2, 3 };
	struct iovec iov = { (char[64]){ 0 }, 64 };
	struct net_frame frame = { &iov, 1, 64 };
	struct err err = { "" };
	char path[64];
	int listener, peer;

	snprintf(path, sizeof(path), "/tmp/bantam-test-net.%d", getpid());
	listener = listen_at(path);
	cr_assert_eq(open_net((struct net_config){ .stream = path }, &err), 0, "%s", err.text);
	peer = accept(listener, NULL, NULL);
	cr_assert_eq(net->ops->send(net, 0, &frame, 1), 1);
	cr_assert_eq(write(peer, sent, sizeof(sent)), (ssize_t)sizeof(sent));
	close(peer);
	cr_assert_eq(net->ops->recv(net, 0, &frame, 1), 1);
	cr_expect_eq(frame.len_bytes, 64);
	cr_expect_arr_eq(iov.iov_base, sent + 4, 64);
	cr_expect_eq(net->ops->recv(net, 0, &frame, 1), 0);
	end();
	close(listener);
	unlink(path);
}

Test(net_backend, stream_refusals)
{
	char path[64], text[200];
	struct err err = { "" };
	int fd;

	snprintf(path, sizeof(path), "/tmp/bantam-test-net.%d", getpid());
	close(listen_at(path));
	cr_expect_eq(open_net((struct net_config){ .stream = path }, &err), -ECONNREFUSED);
	cr_expect(strstr(err.text, "no process listens there"), "%s", err.text);
	unlink(path);
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = 0;
	cr_expect_eq(open_net((struct net_config){ .stream = text }, &err), -ENAMETOOLONG);
	fd = open("/dev/null", O_RDWR);
	snprintf(text, sizeof(text), "fd:%d", fd);
	cr_expect_eq(open_net((struct net_config){ .stream = text }, &err), -EBADF);
	cr_expect_eq(open_net((struct net_config){ .fds = text + 3 }, &err), -EINVAL);
	cr_expect(strstr(err.text, "neither a tap nor a socket"), "%s", err.text);
	close(fd);
	loop_destroy(loop);
}

/* --- datagrams --------------------------------------------------------------------------- */

/* No UDP socket listens at the peer's port. The back end must neither spin nor give up. */
Test(net_backend, an_error_of_a_datagram_socket_is_taken)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_DGRAM, 0), there = socket(AF_INET, SOCK_DGRAM, 0), on = 1;
	struct iovec iov = { (char[64]){ 1 }, 64 };
	struct net_frame frame = { &iov, 1, 64 };
	struct pollfd p = { fd, 0, 0 };
	struct err err = { "" };
	char text[16], buf[100];

	cr_assert_eq(bind(there, (struct sockaddr *)&at, len), 0);
	cr_assert_eq(getsockname(there, (struct sockaddr *)&at, &len), 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&at, len), 0);
	cr_assert_eq(setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof(on)), 0);
	close(there);
	snprintf(text, sizeof(text), "%d", fd);
	cr_assert_eq(open_net((struct net_config){ .fds = text }, &err), 0, "%s", err.text);
	/* A guest without buffers causes neither a read nor a wait for writing. */
	cr_assert_eq(net->ops->send(net, 0, &frame, 1), 1);
	cr_assert_eq(poll(&p, 1, 3000), 1);
	cr_assert(p.revents & POLLERR);
	turns(20);
	cr_expect_eq(poll(&p, 1, 0), 0, "the error is taken");
	cr_expect(net->up && !downs);
	there = socket(AF_INET, SOCK_DGRAM, 0);
	cr_assert_eq(bind(there, (struct sockaddr *)&at, len), 0);
	cr_assert_eq(net->ops->send(net, 0, &frame, 1), 1);
	cr_expect_eq(recv(there, buf, sizeof(buf), 0), 64);
	close(there);
	end();
}

/* A dry run checks and describes the options; it connects to nothing and calls nothing. */
Test(net_backend, dry_run)
{
	static const struct {
		struct net_config cfg;
		const char *what;
		unsigned queues;
	} table[] = {
		{ { .tap = "btdry0", .ip = "192.0.2.1" }, "tap btdry0, 1 queue, to be created", 1 },
		{ { .tap = "lo", .queues = 4 }, "tap lo, 4 queues", 4 },
		{ { .stream = "/nonexistent/socket" }, "stream /nonexistent/socket", 1 },
		{ { .fds = "97" }, "fd 97", 1 },
		{ { .user = true, .hostfwd = "tcp::1-22", .mtu = 1400 }, "user network", 1 },
	};
	struct err err;

	cr_assert_eq(dup2(socket(AF_UNIX, SOCK_STREAM, 0), 97), 97);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct net_config cfg = table[i].cfg;

		cfg.dry_run = true;
		cr_assert_eq(open_net(cfg, &err), 0, "%s", err.text);
		cr_expect_str_eq(net->what, table[i].what);
		cr_expect_eq(net->nqueues, table[i].queues);
		cr_expect_eq(net->mtu, cfg.mtu);
		cr_expect_eq(net->port[0].fd, -1);
		end();
	}
	cr_expect_eq(if_nametoindex("btdry0"), 0);
	/* A dry run still reports options that are wrong in themselves. */
	cr_expect_eq(open_net((struct net_config){ .tap = "0123456789abcdef", .dry_run = true },
			      &err),
		     -ENAMETOOLONG);
	cr_expect_eq(open_net((struct net_config){ .user = true, .hostfwd = "x", .dry_run = true },
			      &err),
		     -EINVAL);
	cr_expect_eq(fcntl(97, F_GETFD) < 0, 0, "fd=97 is not taken over");
	loop_destroy(loop);
	loop = NULL;
}

/* --- taps, in a separate network namespace ---------------------------------------------------- */

static void own_namespace(void)
{
	if (unshare(CLONE_NEWNET) || access("/dev/net/tun", R_OK | W_OK))
		cr_skip_test("no network namespace or /dev/net/tun");
}

Test(net_backend, a_tap_that_is_deleted)
{
	struct iovec iov = { (char[80]){ 0 }, 80 };
	struct net_frame frame = { &iov, 1, 80 };
	struct err err = { "" };

	own_namespace();
	for (unsigned i = 0; i < 4; i++) {
		unsigned queues = 1 + i % 2;

		cr_assert_eq(open_net((struct net_config){ .tap = "bttest0", .queues = queues },
				      &err),
			     0, "%s", err.text);
		net->ops->set_queues(net, 1);
		/* Unless vhost reads the frames. */
		net_want(net, 0, i < 2, false);
		turns(3);
		cr_assert_eq(
			system("ip link set bttest0 mtu 1400; ip link add btother type dummy 2>/dev/null; "
			       "ip link del btother 2>/dev/null; ip link del bttest0"),
			0);
		cr_assert(until(&downs, 1));
		cr_expect(!net->up);
		for (unsigned k = 0; k < queues; k++)
			cr_expect(!net->port[k].watch, "the loop would spin");
		net_want(net, 0, true, true);
		turns(3);
		cr_expect_eq(downs, 1);
		cr_expect_eq(net->ops->send(net, 0, &frame, 1), 1, "frames are swallowed");
		cr_expect_eq(net->ops->recv(net, 0, &frame, 1), 0);
		net->ops->set_queues(net, queues);
		net->ops->set_offloads(net, NET_OFFLOADS);
		net->ops->set_link(net, false);
		end();
	}
}

Test(net_backend, a_tap_that_moves_to_another_namespace)
{
	struct err err = { "" };

	own_namespace();
	cr_assert_eq(open_net((struct net_config){ .tap = "bttest0", .queues = 1 }, &err), 0, "%s",
		     err.text);
	if (system("unshare --net sleep 1 & sleep 0.2; ip link set bttest0 netns $!"))
		cr_skip_test("it cannot be moved");
	turns(20);
	cr_expect_eq(downs, 0, "its queues still work");
	end();
}

/* The kernel's counters, from the guest's side. */
Test(net_backend, a_tap_counts)
{
	/* To everyone, so that the host takes it: a gratuitous ARP. */
	static const uint8_t arp[NET_HDR_BYTES + 60] = {
		[12] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4,
	};
	struct iovec iov = { (void *)arp, sizeof(arp) };
	struct net_frame frame = { &iov, 1, sizeof(arp) };
	struct net_counters n = { 7, 7, 7, 7 };
	struct err err = { "" };

	own_namespace();
	cr_assert_eq(open_net((struct net_config){ .tap = "bttest0", .queues = 1 }, &err), 0, "%s",
		     err.text);
	net->ops->counters(net, &n);
	cr_expect_eq(n.tx_frames, 0);
	for (unsigned i = 0; i < 5; i++)
		cr_assert_eq(net->ops->send(net, 0, &frame, 1), 1);
	net->ops->counters(net, &n);
	cr_expect_eq(n.tx_frames, 5, "%llu", (unsigned long long)n.tx_frames);
	cr_expect_eq(n.tx_bytes, 5 * 60, "%llu", (unsigned long long)n.tx_bytes);
	cr_expect_lt(n.rx_frames, 100);
	cr_expect_leq(n.rx_frames * 14, n.rx_bytes);
	/* A name of the same beginning is another interface. */
	cr_assert_eq(
		system("ip link add bttest type dummy 2>/dev/null; ip link set bttest0 name bttest00"),
		0);
	n = (struct net_counters){ 0 };
	net->ops->counters(net, &n);
	cr_expect_eq(n.tx_frames, 5);
	cr_assert_eq(system("ip link del bttest00"), 0);
	net->ops->counters(net, &n);
	cr_expect_eq(n.tx_frames, 5, "left as it is");
	end();
}

Test(net_backend, taps)
{
	struct net_config made = { .tap = "bttest0", .queues = 1, .ip = "192.0.2.1" };
	struct net_config mq = { .tap = "bttest0", .queues = 4 };
	struct err err = { "" };
	struct net *first;

	own_namespace();
	cr_assert_eq(open_net(made, &err), 0, "%s", err.text);
	cr_expect(if_nametoindex("bttest0"));
	cr_expect_eq(net->vnet_hdr_bytes, NET_HDR_BYTES);
	cr_expect_eq(net->mtu, 1500);
	first = net;
	cr_expect_eq(open_net(made, &err), -EBUSY);
	cr_expect(strstr(err.text, "taken"), "%s", err.text);
	net_close(first);
	cr_expect(!if_nametoindex("bttest0"), "removed again");
	cr_assert_eq(open_net(mq, &err), 0, "%s", err.text);
	cr_expect_eq(net->nqueues, 4);
	net->ops->set_queues(net, 1);
	net->ops->set_queues(net, 4);
	net->ops->set_offloads(net, NET_OFFLOADS);
	net->ops->set_link(net, false);
	net->ops->set_link(net, true);
	net_close(net);
	cr_expect_eq(open_net((struct net_config){ .tap = "lo", .queues = 1 }, &err), -EINVAL);
	cr_expect(strstr(err.text, "is not a tap"), "%s", err.text);
	net = NULL;
	loop_destroy(loop);
}

/* Opens a queue of a tap, as other programs do. */
static int open_queue(const char *name, int flags)
{
	struct ifreq ifr = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | flags) };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	cr_assert_eq(ioctl(fd, TUNSETIFF, &ifr), 0, "%s", strerror(errno));
	return fd;
}

/* An orchestrator passes descriptors of open queues. */
Test(net_backend, queues_that_were_passed_in)
{
	static uint8_t out[NET_HDR_BYTES + 60], in[2048];
	struct iovec out_iov = { out, sizeof(out) }, in_iov = { in, sizeof(in) };
	struct net_frame frame = { &out_iov, 1, sizeof(out) }, got = { &in_iov, 1, sizeof(in) };
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(9) };
	struct err err = { "" };
	int fd[3], hdr = 0;
	char text[32];

	own_namespace();
	for (unsigned i = 0; i < 2; i++)
		fd[i] = open_queue("bttest0", IFF_MULTI_QUEUE | IFF_VNET_HDR);
	fd[2] = open_queue("bttest1", IFF_MULTI_QUEUE | IFF_VNET_HDR);
	cr_assert_eq(system("ip link set bttest0 up"), 0);
	snprintf(text, sizeof(text), "%d:%d", fd[0], fcntl(fd[2], F_DUPFD, 0));
	cr_expect_eq(open_net((struct net_config){ .fds = text }, &err), -EINVAL);
	cr_expect(strstr(err.text, "is not a queue of tap bttest0"), "%s", err.text);
	close(fd[2]);
	fd[0] = open_queue("bttest0", IFF_MULTI_QUEUE | IFF_VNET_HDR);
	snprintf(text, sizeof(text), "%d:%d", fd[0], fd[1]);
	cr_expect_eq(open_net((struct net_config){ .fds = text, .queues = 4 }, &err), -EINVAL);
	cr_assert_eq(open_net((struct net_config){ .fds = text, .queues = 2 }, &err), 0, "%s",
		     err.text);
	cr_expect_str_eq(net->what, "tap bttest0, 2 queues");
	cr_expect_eq(net->nqueues, 2);
	cr_expect_eq(net->vnet_hdr_bytes, NET_HDR_BYTES);
	cr_expect_eq(net->mtu, 1500);
	cr_expect_eq(ioctl(fd[1], TUNGETVNETHDRSZ, &hdr), 0);
	cr_expect_eq(hdr, NET_HDR_BYTES);
	net->ops->set_queues(net, 1);
	net->ops->set_queues(net, 2);
	/* Frames from a queue reach the interface; frames from the interface reach one queue. */
	memset(out + NET_HDR_BYTES, 0xff, 12);
	cr_expect_eq(net->ops->send(net, 1, &frame, 1), 1);
	cr_expect_eq(system("ip -s link show bttest0 | grep -A1 RX: | grep -q '60 *1 '"), 0);
	cr_assert_eq(system("ip addr add 192.0.2.1/24 dev bttest0 && ip neigh add 192.0.2.2 "
			    "lladdr 02:00:00:00:00:02 dev bttest0"),
		     0);
	inet_pton(AF_INET, "192.0.2.2", &at.sin_addr);
	fd[2] = socket(AF_INET, SOCK_DGRAM, 0);
	cr_assert_eq(sendto(fd[2], "hello", 5, 0, (struct sockaddr *)&at, sizeof(at)), 5);
	close(fd[2]);
	net_want(net, 0, true, false);
	net_want(net, 1, true, false);
	cr_assert(until(&readable, 1));
	cr_expect(net->ops->recv(net, 0, &got, 1) + net->ops->recv(net, 1, &got, 1) >= 1);
	cr_expect(got.len_bytes >= NET_HDR_BYTES + 42, "%u", got.len_bytes);
	end();
	cr_expect(!if_nametoindex("bttest0"), "closed");
}

/* Two VMs on one tap with many queues would each get only some of the frames. */
Test(net_backend, a_tap_of_many_queues_is_not_shared)
{
	struct net_config one = { .tap = "bttest0", .queues = 1 },
			  two = { .tap = "bttest0", .queues = 2 };
	struct err err = { "" };
	struct net *first;
	int hdr = 0, fd;

	own_namespace();
	cr_assert_eq(system("ip tuntap add bttest0 mode tap multi_queue vnet_hdr"), 0);
	for (unsigned queues = 1; queues <= 2; queues++) {
		cr_assert_eq(open_net(queues == 1 ? one : two, &err), 0, "%s", err.text);
		first = net;
		first->ops->set_queues(first, 1);
		cr_expect_eq(open_net(one, &err), -EBUSY);
		cr_expect(strstr(err.text, "taken"), "%s", err.text);
		cr_expect_eq(open_net(two, &err), -EBUSY);
		net = first;
		end();
	}
	/* The header size is 10 bytes again, for programs that know no other. */
	fd = open_queue("bttest0", IFF_MULTI_QUEUE | IFF_VNET_HDR);
	cr_assert_eq(ioctl(fd, TUNGETVNETHDRSZ, &hdr), 0);
	cr_expect_eq(hdr, 10);
	close(fd);
}

static void drop_net_admin(void)
{
	struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct cap[2];

	cr_assert_eq(syscall(SYS_capget, &hdr, cap), 0);
	cap[0].effective &= ~(1u << CAP_NET_ADMIN);
	cap[0].permitted &= ~(1u << CAP_NET_ADMIN);
	cr_assert_eq(syscall(SYS_capset, &hdr, cap), 0);
}

/* A refusal tells what to do, and doing it gives a working tap. Programs that the test starts get
 * root's capabilities back. */
Test(net_backend, taps_without_privileges)
{
	for (unsigned queues = 1; queues <= 2; queues++) {
		struct net_config cfg = { .tap = "bttest0", .queues = queues };
		struct err err = { "" };
		char *advice;

		if (queues == 1) {
			own_namespace();
			drop_net_admin();
		}
		cr_expect_eq(open_net(cfg, &err), -EPERM);
		advice = strstr(err.text, "as root: ");
		cr_assert(advice, "%s", err.text);
		cr_assert_eq(system(advice + strlen("as root: ")), 0, "%s", err.text);
		cr_assert_eq(open_net(cfg, &err), 0, "%s", err.text);
		end();
		cr_assert_eq(system("ip -br link show bttest0 | grep -q '<.*UP'"), 0);
		/* The tap is down and we may not raise it: a warning, not an error. */
		cr_assert_eq(system("ip link set bttest0 down"), 0);
		cr_assert_eq(open_net(cfg, &err), 0, "%s", err.text);
		end();
		/* A tap of another user. */
		cr_assert_eq(
			system(queues == 1 ?
				       "ip link del bttest0; ip tuntap add bttest0 mode tap user 65534" :
				       "ip link del bttest0; ip tuntap add bttest0 mode tap multi_queue user 65534"),
			0);
		cr_expect_eq(open_net(cfg, &err), -EPERM);
		advice = strstr(err.text, "as root: ");
		cr_assert(advice, "%s", err.text);
		cr_assert_eq(system(advice + strlen("as root: ")), 0, "%s", err.text);
		cr_assert_eq(open_net(cfg, &err), 0, "%s", err.text);
		end();
		cr_assert_eq(
			system("ip -br link show bttest0 | grep -q '<.*UP' && ip link del bttest0"),
			0);
	}
}
