/*
 * test_net_keep: a tap and its queues from one machine to the next (if the host allows taps).
 *
 * Each open and close of the back end is a machine. What must stay is the interface: its index,
 * address and bridge.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/net_client.h"

static struct keep *k;
static struct err err;

static unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void begin(void)
{
	if (unshare(CLONE_NEWNET) || access("/dev/net/tun", R_OK | W_OK))
		cr_skip_test("no network namespace or /dev/net/tun");
	cr_assert_eq(keep_create(&k), 0);
}

static int machine(const char *tap, unsigned queues, const char *ip)
{
	return open_net((struct net_config){ .tap = tap,
					     .queues = queues,
					     .ip = ip,
					     .keep = k,
					     .id = "_net1" },
			&err);
}

static void machine_end(void)
{
	net_close(net);
	net = NULL;
}

TestSuite(net_keep, .timeout = 60);

Test(net_keep, a_tap_stays_over_reboots)
{
	unsigned index, fds;

	begin();
	cr_assert_eq(loop_create(&loop, &err), 0);
	fds = open_fds();
	cr_assert_eq(machine("bttest0", 1, "192.0.2.1"), 0, "%s", err.text);
	index = if_nametoindex("bttest0");
	cr_assert(index);
	/* What an admin does while the guest runs, stays. */
	cr_assert_eq(system("ip link add btbr type bridge && ip link set bttest0 master btbr && "
			    "ip addr add 192.0.2.77/24 dev bttest0"),
		     0);
	for (unsigned i = 0; i < 3; i++) {
		machine_end();
		cr_expect_eq(if_nametoindex("bttest0"), index, "between machines");
		cr_assert_eq(machine("bttest0", 1, "192.0.2.1"), 0, "%s", err.text);
		cr_expect_eq(if_nametoindex("bttest0"), index);
		cr_expect_str_eq(net->what, "tap bttest0");
		cr_expect_eq(net->vnet_hdr_bytes, NET_HDR_BYTES);
		cr_expect_eq(net->mtu, 1500);
		cr_expect_eq(system("ip addr show bttest0 | grep -q 192.0.2.77 && "
				    "ip addr show bttest0 | grep -q 192.0.2.1/24 && "
				    "ip link show bttest0 | grep -q 'master btbr.*'"),
			     0);
	}
	machine_end();
	keep_drop(k, "_net2");
	cr_expect_eq(if_nametoindex("bttest0"), index, "another device's");
	keep_drop(k, "_net1");
	cr_expect(!if_nametoindex("bttest0"), "gone with its last queue");
	cr_expect_eq(open_fds(), fds);
	keep_destroy(k);
	loop_destroy(loop);
}

/* A tap that was there before us is not ours to remove, and is left as it was found. */
Test(net_keep, a_tap_that_was_found)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR,
			     .ifr_name = "bttest0" };
	int fd, hdr = 0;

	begin();
	cr_assert_eq(system("ip tuntap add bttest0 mode tap vnet_hdr"), 0);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(machine("bttest0", 1, NULL), 0, "%s", err.text);
		machine_end();
	}
	fd = open("/dev/net/tun", O_RDWR);
	cr_expect_neq(ioctl(fd, TUNSETIFF, &ifr), 0, "ours between machines, too");
	keep_destroy(k);
	cr_expect(if_nametoindex("bttest0"));
	cr_assert_eq(ioctl(fd, TUNSETIFF, &ifr), 0);
	cr_expect_eq(ioctl(fd, TUNGETVNETHDRSZ, &hdr), 0);
	cr_expect_eq(hdr, 10);
	close(fd);
	loop_destroy(loop);
}

/* Sends a datagram through the interface towards the guest. */
static void host_sends(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(9) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	inet_pton(AF_INET, "192.0.2.2", &at.sin_addr);
	cr_expect_eq(sendto(fd, "hello", 5, 0, (struct sockaddr *)&at, sizeof(at)), 5);
	close(fd);
}

static unsigned recv_all(void)
{
	static uint8_t bytes[2048];
	struct iovec iov = { bytes, sizeof(bytes) };
	struct net_frame frame = { .iov = &iov, .niov = 1, .len_bytes = sizeof(bytes) };
	unsigned n = 0;

	for (unsigned q = 0; q < net->nqueues; q++)
		while (net->ops->recv(net, q, &frame, 1) == 1)
			n++;
	return n;
}

/* The driver of the last machine used one of four queues; the next one uses all. */
Test(net_keep, queues_start_attached_and_empty)
{
	begin();
	cr_assert_eq(machine("bttest0", 4, "192.0.2.1"), 0, "%s", err.text);
	cr_assert_eq(system("ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev bttest0"), 0);
	net->ops->set_queues(net, 1);
	net->ops->set_link(net, false);
	machine_end();
	cr_expect_eq(system("ip link show bttest0 | grep -q NO-CARRIER"), 256, "plugged in again");
	for (unsigned i = 0; i < 50; i++)
		host_sends();
	cr_assert_eq(machine("bttest0", 4, "192.0.2.1"), 0, "%s", err.text);
	cr_expect_eq(recv_all(), 0, "frames for the last guest");
	for (unsigned q = 0; q < 4; q++) {
		struct ifreq ifr;

		cr_assert_eq(ioctl(net->port[q].fd, TUNGETIFF, &ifr), 0);
		cr_expect_not(ifr.ifr_flags & IFF_DETACH_QUEUE, "queue %u", q);
	}
	host_sends();
	turns(2);
	cr_expect_geq(recv_all(), 1);
	machine_end();
	keep_destroy(k);
	loop_destroy(loop);
}

/* The same by descriptors, which their owner duplicates for each machine. */
Test(net_keep, passed_queues_are_used_again)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE,
			     .ifr_name = "bttest0" };
	int fd[4], hdr = 0;
	char text[64];

	begin();
	for (unsigned i = 0; i < 4; i++) {
		fd[i] = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
		cr_assert_eq(ioctl(fd[i], TUNSETIFF, &ifr), 0);
	}
	cr_assert_eq(system("ip link set bttest0 up"), 0);
	for (unsigned m = 0; m < 3; m++) {
		snprintf(text, sizeof(text), "%d:%d:%d:%d", dup(fd[0]), dup(fd[1]), dup(fd[2]),
			 dup(fd[3]));
		cr_assert_eq(open_net((struct net_config){ .fds = text, .keep = k, .id = "n" },
				      &err),
			     0, "%s", err.text);
		cr_expect_eq(net->vnet_hdr_bytes, NET_HDR_BYTES, "vhost needs them");
		for (unsigned n = 4; n >= 1; n--) {
			net->ops->set_queues(net, n);
			for (unsigned q = 0; q < 4; q++) {
				cr_assert_eq(ioctl(net->port[q].fd, TUNGETIFF, &ifr), 0);
				cr_expect_eq(!(ifr.ifr_flags & IFF_DETACH_QUEUE), q < n,
					     "machine %u, queue %u of %u", m, q, n);
			}
		}
		/* Not even closed in order: the process may have died. */
		if (m == 1) {
			for (unsigned q = 0; q < 4; q++)
				ioctl(fd[q], TUNSETQUEUE,
				      &(struct ifreq){ .ifr_flags = IFF_DETACH_QUEUE });
		}
		machine_end();
	}
	cr_expect_null(keep_take(k, "n", "tap"), "the owner keeps them");
	cr_expect_eq(ioctl(fd[0], TUNGETVNETHDRSZ, &hdr), 0);
	cr_expect_eq(hdr, 10, "as found");
	for (unsigned i = 0; i < 4; i++)
		close(fd[i]);
	cr_expect(!if_nametoindex("bttest0"));
	keep_destroy(k);
	loop_destroy(loop);
}

/* What does not fit the next machine is not used. */
Test(net_keep, another_configuration)
{
	begin();
	cr_assert_eq(machine("bttest0", 1, NULL), 0, "%s", err.text);
	machine_end();
	cr_assert_eq(machine("bttest1", 1, NULL), 0, "%s", err.text);
	cr_expect(!if_nametoindex("bttest0"));
	cr_expect(if_nametoindex("bttest1"));
	machine_end();
	cr_assert_eq(machine("bttest1", 2, NULL), 0, "%s", err.text);
	cr_expect_str_eq(net->what, "tap bttest1, 2 queues");
	machine_end();
	/* Deleted between machines: made again. */
	cr_assert_eq(system("ip link del bttest1"), 0);
	cr_assert_eq(machine("bttest1", 2, NULL), 0, "%s", err.text);
	/* Deleted while one runs. */
	cr_assert_eq(system("ip link del bttest1"), 0);
	machine_end();
	cr_expect_null(keep_take(k, "_net1", "tap"));
	/* Renamed: it is still the one. */
	cr_assert_eq(machine("bttest1", 1, NULL), 0, "%s", err.text);
	machine_end();
	cr_assert_eq(system("ip link set bttest1 down && ip link set bttest1 name bttest9 && "
			    "ip link set bttest9 up"),
		     0);
	cr_assert_eq(machine("bttest1", 1, NULL), 0, "%s", err.text);
	cr_expect_str_eq(net->what, "tap bttest9");
	machine_end();
	/* The kernel chooses the name once. */
	keep_drop(k, "");
	cr_assert_eq(machine("", 1, NULL), 0, "%s", err.text);
	cr_assert(if_nametoindex("tap0"));
	machine_end();
	cr_assert_eq(machine("", 1, NULL), 0, "%s", err.text);
	cr_expect_str_eq(net->what, "tap tap0");
	machine_end();
	keep_destroy(k);
	cr_expect(!if_nametoindex("tap0"));
	loop_destroy(loop);
}

/* An open that fails leaves nothing in the keeper: no half-made tap stays. */
Test(net_keep, a_failed_open_keeps_nothing)
{
	begin();
	cr_expect_neq(machine("lo", 1, NULL), 0);
	cr_expect_neq(open_net((struct net_config){ .tap = "bttest0",
						    .mtu = NET_MTU_MAX,
						    .keep = k,
						    .id = "_net1" },
			       &err),
		      0);
	cr_expect(strstr(err.text, "mtu=65535"), "%s", err.text);
	cr_expect(!if_nametoindex("bttest0"));
	cr_expect_null(keep_take(k, "_net1", "tap"));
	keep_destroy(k);
	loop_destroy(loop);
}
