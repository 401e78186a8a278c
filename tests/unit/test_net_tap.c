/*
 * net_tap: a tap that the back end makes: its name, addresses and MTU; and descriptors that are no
 * tap. In a separate network namespace.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/net/nic.h"
#include "tests/unit/fake_env.h"
#include "tests/unit/net_client.h"
#include "vmm/core/fd_kind.h"

static void own_namespace(void)
{
	if (unshare(CLONE_NEWNET) || access("/dev/net/tun", R_OK | W_OK))
		cr_skip_test("no network namespace or /dev/net/tun");
}

/* What `ip` prints of the interface, in one line. */
static const char *ip(const char *ifname)
{
	static char text[4096];
	char cmd[64];
	FILE *p;

	snprintf(cmd, sizeof(cmd), "ip addr show dev %s | tr '\n' ' '", ifname);
	p = popen(cmd, "r");
	cr_assert_not_null(p);
	text[fread(text, 1, sizeof(text) - 1, p)] = '\0';
	pclose(p);
	return text;
}

Test(net_tap, addresses)
{
	static const struct {
		const char *ip, *mask, *shows;
	} table[] = {
		{ "192.0.2.1", NULL, "inet 192.0.2.1/24 " },
		{ "192.0.2.1/30", NULL, "inet 192.0.2.1/30 " },
		{ "192.0.2.1", "255.255.0.0", "inet 192.0.2.1/16 brd 192.0.255.255 " },
		{ "192.0.2.1/30", "25", "inet 192.0.2.1/25 " },
		{ "192.0.2.1", "32", "inet 192.0.2.1/32 " },
		{ "2001:db8::1", NULL, "inet6 2001:db8::1/64 scope global nodad" },
		{ "2001:db8::1/127", NULL, "inet6 2001:db8::1/127 scope global nodad" },
		{ "2001:db8::1", "ffff:ffff::", "inet6 2001:db8::1/32 " },
		{ "2001:db8:1111:2222:3333:4444:5555:6666", "128",
		  "inet6 2001:db8:1111:2222:3333:4444:5555:6666/128 " },
	};
	struct err err = { "" };

	own_namespace();
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const char *text;

		cr_assert_eq(open_net((struct net_config){ .tap = "bttest0",
							   .ip = table[i].ip,
							   .mask = table[i].mask },
				      &err),
			     0, "%s", err.text);
		text = ip("bttest0");
		cr_expect(strstr(text, table[i].shows), "%s", text);
		cr_expect(strstr(text, ",UP"), "%s", text);
		end();
		cr_expect_eq(if_nametoindex("bttest0"), 0);
	}
}

Test(net_tap, addresses_that_are_none)
{
	static const struct {
		const char *ip, *mask, *says;
	} table[] = {
		{ "192.0.2", NULL, "not an IP address" },
		{ "", NULL, "not an IP address" },
		{ "2001:db8::1::", NULL, "not an IP address" },
		{ "2001:db8::1%lo", NULL, "not an IP address" },
		{ "192.0.2.1/33", NULL, "not a mask" },
		{ "192.0.2.1", "255.0.255.0", "not a mask" },
		{ "192.0.2.1", "ffff::", "255.255.255.0 or 24" },
		{ "2001:db8::1/129", NULL, "not a mask" },
		{ "2001:db8::1", "ffff:0:ffff::", "not a mask" },
		{ "2001:db8::1", "255.255.255.0", "ffff:ffff:ffff:ffff:: or 64" },
		{ NULL, "24", "mask= needs ip=" },
	};
	struct err err = { "" };

	own_namespace();
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		cr_expect_eq(open_net((struct net_config){ .tap = "bttest0",
							   .ip = table[i].ip,
							   .mask = table[i].mask },
				      &err),
			     -EINVAL, "%s %s", table[i].ip, table[i].mask);
		cr_expect(strstr(err.text, table[i].says), "%s", err.text);
		cr_expect_eq(if_nametoindex("bttest0"), 0);
	}
	loop_destroy(loop);
	loop = NULL;
}

Test(net_tap, mac_and_mtu)
{
	static const uint8_t mac[] = { 0x02, 0x11, 0x22, 0x33, 0x44, 0x55 };
	struct err err = { "" };
	const char *text;

	own_namespace();
	cr_assert_eq(open_net((struct net_config){ .tap = "bttest0",
						   .ip = "2001:db8::1",
						   .mtu = 1280,
						   .host_mac = mac },
			      &err),
		     0, "%s", err.text);
	text = ip("bttest0");
	cr_expect(strstr(text, "ether 02:11:22:33:44:55") && strstr(text, "mtu 1280"), "%s", text);
	end();
	/* IPv6 needs 1280 bytes: an error, and no tap is left. */
	cr_expect_lt(open_net((struct net_config){ .tap = "bttest0",
						   .ip = "2001:db8::1",
						   .mtu = 1000 },
			      &err),
		     0);
	cr_expect(strstr(err.text, "ip=2001:db8::1"), "%s", err.text);
	cr_expect_eq(if_nametoindex("bttest0"), 0);
	loop_destroy(loop);
	loop = NULL;
}

Test(net_tap, ipv6_is_disabled)
{
	struct err err = { "" };

	own_namespace();
	if (system("sysctl -q -w net.ipv6.conf.default.disable_ipv6=1 2>/dev/null"))
		cr_skip_test("no sysctl");
	cr_expect_lt(open_net((struct net_config){ .tap = "bttest0", .ip = "2001:db8::1" }, &err),
		     0);
	cr_expect(strstr(err.text, "IPv6 is disabled"), "%s", err.text);
	cr_expect_eq(if_nametoindex("bttest0"), 0);
	loop_destroy(loop);
	loop = NULL;
}

/* The first free number; with many queues all of them on one interface. */
Test(net_tap, the_kernel_numbers_it)
{
	struct err err = { "" };

	own_namespace();
	cr_assert_eq(system("ip tuntap add vmtap0 mode tap"), 0);
	cr_assert_eq(open_net((struct net_config){ .tap = "vmtap%d", .queues = 2 }, &err), 0, "%s",
		     err.text);
	cr_expect_str_eq(net->ifname, "vmtap1");
	cr_expect_str_eq(net->what, "tap vmtap1, 2 queues");
	cr_expect(if_nametoindex("vmtap1"));
	cr_expect_eq(if_nametoindex("vmtap2"), 0);
	end();
	cr_expect_eq(if_nametoindex("vmtap1"), 0);
	cr_assert_eq(system("ip link del vmtap0"), 0);
	cr_assert_eq(open_net((struct net_config){ .tap = "vmtap%d" }, &err), 0, "%s", err.text);
	cr_expect_str_eq(net->ifname, "vmtap0");
	end();
}

/* The owner of the machine can read it from the device. */
Test(net_tap, the_device_has_the_name)
{
	struct err err = { "" };
	struct fake_env f;
	struct device *dev;

	own_namespace();
	fake_env_init(&f, FAKE_PCI);
	cr_assert_eq(fake_create(&f, &virtio_net_type, "tap=vmtap%d,vhost=off", &dev, &err), 0,
		     "%s", err.text);
	cr_expect_str_eq(dev->interface, "vmtap0");
	device_destroy(dev);
	fake_env_destroy(&f);
}

Test(net_tap, names_that_are_none)
{
	static const char *const table[] = { "%d",   "a%s", "a%dx", "a%d%d", "a%",
					     "a/%d", "a/b", "%%d",  "a%1d" };
	struct err err = { "" };

	own_namespace();
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		cr_expect_eq(open_net((struct net_config){ .tap = table[i] }, &err), -EINVAL, "%s",
			     table[i]);
		cr_expect(strstr(err.text, "not a name"), "%s", err.text);
	}
	loop_destroy(loop);
	loop = NULL;
}

/* -1: this host does not let us. */
static int make(short kind)
{
	struct ifreq ifr = { .ifr_flags = kind | IFF_NO_PI };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd >= 0 && !ioctl(fd, TUNSETIFF, &ifr))
		return fd;
	close(fd);
	return -1;
}

/* The error says what the descriptor is. */
Test(net_tap, descriptors_that_are_no_tap)
{
	const struct {
		int fd;
		const char *says;
	} table[] = {
		{ open("/proc/self/exe", O_RDONLY),
		  "is a regular file, neither a tap nor a socket" },
		{ open("/", O_RDONLY), "is a folder" },
		{ open("/dev/null", O_RDWR), "is a character device" },
		{ open("/dev/net/tun", O_RDWR), "TUNSETIFF" },
		{ make(IFF_TUN), "is a tun, which carries no Ethernet" },
		{ eventfd(0, 0), "is anon_inode:[eventfd]" },
	};
	int pair[2], pipes[2];
	struct err err = { "" };
	char text[32];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (table[i].fd < 0)
			continue;
		for (int dry = 0; dry < 2; dry++) {
			snprintf(text, sizeof(text), "%d", table[i].fd);
			cr_expect_eq(open_net((struct net_config){ .fds = text, .dry_run = dry },
					      &err),
				     -EINVAL);
			cr_expect(strstr(err.text, table[i].says), "%s", err.text);
		}
	}
	cr_assert_eq(pipe(pipes), 0);
	snprintf(text, sizeof(text), "%d", pipes[0]);
	cr_expect_eq(open_net((struct net_config){ .fds = text }, &err), -EINVAL);
	cr_expect(strstr(err.text, "is a pipe"), "%s", err.text);
	/* One socket is a network, two are not a tap's queues. */
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	snprintf(text, sizeof(text), "%d:%d", pair[0], pair[1]);
	cr_expect_eq(open_net((struct net_config){ .fds = text }, &err), -EINVAL);
	cr_expect(strstr(err.text, "is a socket and not a tap"), "%s", err.text);
	snprintf(text, sizeof(text), "%d", pair[0]);
	cr_expect_eq(open_net((struct net_config){ .fds = text }, &err), 0, "%s", err.text);
	end();
}

/* The process that handed a tap in has it, too, and may make it block: no read and no write waits. */
Test(net_tap, a_tap_that_others_make_block)
{
	uint8_t bytes[128] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	struct iovec iov[2] = { { bytes, 64 }, { bytes + 64, 64 } };
	struct err err = { "" };
	char text[16];
	int theirs, none = 0;

	own_namespace();
	theirs = make(IFF_TAP);
	cr_assert(theirs >= 0);
	cr_assert_eq(ioctl(theirs, TUNSETSNDBUF, &(int){ 4096 }), 0);
	snprintf(text, sizeof(text), "%d", theirs);
	cr_assert_eq(open_net((struct net_config){ .fds = text }, &err), 0, "%s", err.text);
	cr_assert_eq(ioctl(theirs, TUNSETSNDBUF, &(int){ 1 }), 0);
	cr_assert_eq(fcntl(theirs, F_SETFL, O_RDWR), 0);
	for (unsigned i = 0; i < 100; i++) {
		struct net_frame in = { iov, 1 + i % 2, 64 * (1 + i % 2) }, out = in;

		none += !net->ops->recv(net, 0, &in, 1);
		net->ops->send(net, 0, &out, 1);
	}
	cr_expect_gt(none, 90);
	cr_expect_eq(fcntl(theirs, F_GETFL) & O_NONBLOCK, 0, "it does block");
	end();
}
