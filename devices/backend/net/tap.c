/*
 * net/tap: a tap interface of the host (Linux, Documentation/networking/tuntap.rst).
 *
 * One fd for each queue, one system call for each frame. With IFF_VNET_HDR the kernel reads and
 * writes struct virtio_net_hdr_v1 itself, so that checksums and segmentation are done only where a
 * receiver needs them. An interface that open creates is not persistent: the kernel removes it with
 * its last fd, however this process ends. A queue that is not served is detached, or the kernel
 * would still spread flows to it.
 *
 * With a keeper (vmm/core/keep.h) the queues of a tap that open made or found by its name stay open
 * from one machine to the next: the interface, its index, addresses and bridge stay. Closing leaves
 * the tap as open found it, so that the next machine sets it up in the same way. Frames that the
 * host sent meanwhile are for the last guest, and are dropped.
 */
#include "devices/backend/net/net_impl.h"
#include "devices/backend/net/tap_link.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/core/fd_kind.h"
#include "vmm/core/fd_now.h"
#include "vmm/core/helper.h"
#include "vmm/core/log.h"

#define DISCARD_MAX 4096u

struct tap {
	struct net net; /* first */
	char ifname[IFNAMSIZ];
	struct loop_watch *news; /* reports changes of the host's links */
	int news_fd, counters_fd;
	bool multi_queue;
	bool attached[NET_MAX_QUEUES];
	bool handed_in;	     /* others have the queues, too, and may make them block */
	bool no_carrier;     /* the guest's cable is pulled */
	unsigned offloads;   /* those last set in the kernel */
	int found_hdr_bytes; /* the tap's vnet header size before us; 0: not changed */
	/* NULL: close closes the queues. asked: the name in the configuration, "": any */
	struct keep *keep;
	char *id;
	char asked[IFNAMSIZ];
};

/* Open queues without a machine. */
struct kept_tap {
	struct kept kept; /* first */
	char asked[IFNAMSIZ];
	unsigned n;
	int fd[NET_MAX_QUEUES];
};

static struct tap *tap_of(struct net *net)
{
	return (struct tap *)net;
}

/*
 * Most frames are in one piece. A list of one costs the kernel a tenth of the whole call (measured, Linux 6.18: 1.31
 * instead of 1.20 us), so a tap, which takes one frame in a call, is the one thing that read and write serve.
 */
static ssize_t write_frame(const struct tap *tap, int fd, const struct net_frame *f)
{
	if (tap->handed_in)
		return fd_write_frame_now(fd, f->iov, (int)f->niov);
	return f->niov == 1 ? write(fd, f->iov->iov_base, f->iov->iov_len) :
			      fd_rw_writev(fd, f->iov, (int)f->niov);
}

static ssize_t read_frame(const struct tap *tap, int fd, const struct net_frame *f)
{
	if (tap->handed_in)
		return fd_read_now(fd, f->iov, (int)f->niov);
	return f->niov == 1 ? read(fd, f->iov->iov_base, f->iov->iov_len) :
			      fd_rw_readv(fd, f->iov, (int)f->niov);
}

static unsigned tap_send(struct net *net, unsigned queue, struct net_frame *frame, unsigned n)
{
	int fd = net->port[queue].fd;

	for (unsigned i = 0; i < n; i++) {
		ssize_t rc = write_frame(tap_of(net), fd, &frame[i]);

		/* Any other error concerns this frame, or the interface is down: drop the frame. */
		if (rc < 0 && errno == EAGAIN)
			return i;
	}
	return n;
}

static unsigned tap_recv(struct net *net, unsigned queue, struct net_frame *frame, unsigned n)
{
	int fd = net->port[queue].fd;

	for (unsigned i = 0; i < n; i++) {
		ssize_t rc = read_frame(tap_of(net), fd, &frame[i]);

		if (rc <= 0)
			return i;
		frame[i].len_bytes = (uint32_t)rc;
	}
	return n;
}

/*
 * The interface was deleted, which its queues report again and again. The descriptors stay open,
 * because other threads may be about to use them; the kernel refuses every call on them.
 */
static void on_gone(void *opaque)
{
	struct net *net = opaque;

	for (unsigned i = 0; i < net->nqueues; i++) {
		loop_unwatch(net->port[i].watch);
		net->port[i].watch = NULL;
	}
	net_lost(net, "the interface is gone");
}

/*
 * Some link of the host has changed. While vhost-net reads the tap, we do not poll its queues and
 * learn nothing from them. If the interface has left this namespace, nothing changes: the queues still
 * work.
 */
static void on_news(void *opaque, uint32_t events)
{
	struct tap *tap = opaque;
	struct ifreq ifr;
	char byte;

	/* ENOBUFS: messages were lost. Their content is not parsed: the state is read below. */
	while (fd_rw_read(tap->news_fd, &byte, sizeof(byte)) >= 0 || errno == ENOBUFS ||
	       errno == EINTR)
		;
	if (net_tap_link_ask(tap->net.port[0].fd, TUNGETIFF, &ifr))
		on_gone(&tap->net);
}

/* Best effort. */
static void watch_links(struct tap *tap)
{
	tap->news_fd = net_tap_link_watch();
	tap->counters_fd = net_tap_link_open_counters();
	if (tap->news_fd >= 0)
		(void)loop_watch_fd(tap->net.loop, tap->news_fd, EPOLLIN, on_news, tap, &tap->news);
}

static void tap_event(struct net *net, unsigned queue, uint32_t events)
{
	if (events & (EPOLLERR | EPOLLHUP))
		on_gone(net);
	else
		net_tell(net, queue, events);
}

static void tap_set_offloads(struct net *net, unsigned offloads)
{
	struct tap *tap = tap_of(net);
	unsigned tun = 0;

	offloads &= net->offloads_in;
	/* Without checksums the kernel refuses the rest, as the specification does. */
	if (!(offloads & NET_CSUM))
		offloads = 0;
	if (offloads == tap->offloads)
		return;
	tun |= offloads & NET_CSUM ? TUN_F_CSUM : 0u;
	tun |= offloads & NET_TSO4 ? TUN_F_TSO4 : 0u;
	tun |= offloads & NET_TSO6 ? TUN_F_TSO6 : 0u;
	tun |= offloads & NET_UFO ? TUN_F_UFO : 0u;
	if (offloads & NET_ECN && offloads & (NET_TSO4 | NET_TSO6))
		tun |= TUN_F_TSO_ECN;
	if (!net_tap_link_ask(net->port[0].fd, TUNSETOFFLOAD, (void *)(uintptr_t)tun))
		tap->offloads = offloads;
}

static void tap_set_queues(struct net *net, unsigned queues)
{
	struct tap *tap = tap_of(net);

	for (unsigned i = 0; tap->multi_queue && i < net->nqueues; i++) {
		bool on = i < queues;
		struct ifreq ifr = { .ifr_flags = on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };

		if (on == tap->attached[i])
			continue;
		if (!net_tap_link_ask(net->port[i].fd, TUNSETQUEUE, &ifr))
			tap->attached[i] = on;
	}
}

static void tap_set_link(struct net *net, bool up)
{
	int carrier = up;

	/* Best effort: the host then sees NO-CARRIER. */
	(void)net_tap_link_ask(net->port[0].fd, TUNSETCARRIER, &carrier);
	tap_of(net)->no_carrier = !up;
}

/*
 * The kernel counts from the interface's creation, so those of a tap that was there before us include
 * earlier frames. A tap that has left this network namespace has no counters here.
 */
static void tap_counters(struct net *net, struct net_counters *out)
{
	struct tap *tap = tap_of(net);
	struct ifreq ifr;

	/* The host may have renamed it. */
	if (!ioctl(net->port[0].fd, TUNGETIFF, &ifr))
		net_tap_link_counters(tap->counters_fd, ifr.ifr_name, out);
}

/* --- keeping ------------------------------------------------------------------------------ */

static void drop_kept(struct kept *kept)
{
	struct kept_tap *k = (struct kept_tap *)kept;

	for (unsigned i = 0; i < k->n; i++)
		if (k->fd[i] >= 0)
			close(k->fd[i]);
	free(k);
}

/* Out of memory, or without the interface: the queues are closed, as without a keeper. */
static void keep_queues(struct tap *tap)
{
	struct net *net = &tap->net;
	struct kept_tap *k;

	if (!fd_is_tap(net->port[0].fd))
		return;
	k = calloc(1, sizeof(*k));
	if (!k)
		return;
	k->kept.drop = drop_kept;
	strcpy(k->asked, tap->asked);
	for (unsigned i = 0; i < net->nqueues; i++)
		k->fd[k->n++] = net_port_release(net, i);
	keep_put(tap->keep, tap->id, "tap", &k->kept);
}

/* Discard what a queue holds (the kernel's default is 1000 frames), but do not race with a sender. */
static void discard_frames(int fd)
{
	char scrap[256]; /* the kernel cuts longer frames */

	for (unsigned i = 0; i < DISCARD_MAX && fd_rw_read(fd, scrap, sizeof(scrap)) > 0; i++)
		;
}

/* Returns true if the queues of the last machine are ours now. */
static bool take_queues(struct tap *tap, const struct net_config *cfg)
{
	struct net *net = &tap->net;
	struct kept_tap *k = (struct kept_tap *)keep_take(cfg->keep, cfg->id, "tap");
	bool ok = k && k->n == net->nqueues && !strcmp(k->asked, cfg->tap) && fd_is_tap(k->fd[0]);

	for (unsigned i = 0; ok && i < k->n; i++) {
		discard_frames(k->fd[i]);
		ok = !net_port_open(net, i, k->fd[i]);
		if (ok)
			k->fd[i] = -1;
	}
	if (k)
		drop_kept(&k->kept);
	for (unsigned i = 0; !ok && i < net->nqueues; i++)
		net_port_close(net, i);
	return ok;
}

static void tap_free(struct tap *tap)
{
	free(tap->id);
	net_free(&tap->net);
}

/* Leaves a tap that outlives us as it was found. */
static void tap_close(struct net *net)
{
	struct tap *tap = tap_of(net);

	loop_unwatch(tap->news);
	if (tap->news_fd >= 0)
		close(tap->news_fd);
	if (tap->counters_fd >= 0)
		close(tap->counters_fd);
	tap_set_offloads(net, 0);
	tap_set_queues(net, net->nqueues);
	if (tap->no_carrier)
		tap_set_link(net, true);
	if (tap->found_hdr_bytes)
		(void)ioctl(net->port[0].fd, TUNSETVNETHDRSZ, &tap->found_hdr_bytes);
	if (tap->keep)
		keep_queues(tap);
	tap_free(tap);
}

static const struct net_ops tap_ops = {
	.send = tap_send,
	.recv = tap_recv,
	.event = tap_event,
	.set_offloads = tap_set_offloads,
	.set_queues = tap_set_queues,
	.set_link = tap_set_link,
	.counters = tap_counters,
	.close = tap_close,
};

/* Set up vnet headers, and learn which offloads the kernel supports. */
static int setup(struct tap *tap, const struct net_config *cfg, struct err *err)
{
	struct net *net = &tap->net;
	struct ifreq ifr = { 0 };
	int hdr = NET_HDR_BYTES, le = 1;

	if (ioctl(net->port[0].fd, TUNGETIFF, &ifr))
		return err_sys(err, errno, "%s: not a tap", cfg->option);
	memcpy(tap->ifname, ifr.ifr_name, IFNAMSIZ - 1);
	if (!(ifr.ifr_flags & IFF_TAP))
		return err_set(err, EINVAL, "%s: %s is a tun, not a tap: it carries no Ethernet",
			       cfg->option, tap->ifname);
	if (!(ifr.ifr_flags & IFF_NO_PI))
		return err_set(err, EINVAL, "%s: tap %s was opened without IFF_NO_PI", cfg->option,
			       tap->ifname);
	snprintf(net->ifname, sizeof(net->ifname), "%s", tap->ifname);
	tap->multi_queue = ifr.ifr_flags & IFF_MULTI_QUEUE;
	/* A descriptor that was used before may be detached; then TUNSETQUEUE is needed. */
	tap->attached[0] = !(ifr.ifr_flags & IFF_DETACH_QUEUE);
	for (unsigned i = 1; i < net->nqueues; i++) {
		struct ifreq other;

		if (ioctl(net->port[i].fd, TUNGETIFF, &other) ||
		    strcmp(other.ifr_name, tap->ifname))
			return err_set(err, EINVAL,
				       "%s fd=%s: %d is not a queue of tap %s, as %d is",
				       cfg->option, cfg->fds, net->port[i].fd, tap->ifname,
				       net->port[0].fd);
		tap->attached[i] = !(other.ifr_flags & IFF_DETACH_QUEUE);
	}
	if (!(ifr.ifr_flags & IFF_VNET_HDR))
		return 0;
	(void)ioctl(net->port[0].fd, TUNGETVNETHDRSZ, &tap->found_hdr_bytes);
	for (unsigned i = 0; i < net->nqueues; i++)
		if (ioctl(net->port[i].fd, TUNSETVNETHDRSZ, &hdr))
			return err_sys(err, errno, "%s: tap %s: 12-byte vnet headers", cfg->option,
				       tap->ifname);
	(void)ioctl(net->port[0].fd, TUNSETVNETLE, &le);
	net->vnet_hdr_bytes = NET_HDR_BYTES;
	net->offloads_out = NET_OFFLOADS;
	net->offloads_in = NET_OFFLOADS;
	/* the kernel's may differ; not none, so that they are set below */
	tap->offloads = NET_OFFLOADS;
	/* Kernels without UFO refuse it here. */
	tap_set_offloads(net, NET_OFFLOADS & ~NET_UFO);
	tap_set_offloads(net, NET_OFFLOADS);
	if (tap->offloads != NET_OFFLOADS)
		net->offloads_in = tap->offloads;
	tap_set_offloads(net, 0);
	return 0;
}

static void describe(struct tap *tap)
{
	if (tap->net.nqueues > 1)
		snprintf(tap->net.what, sizeof(tap->net.what), "tap %s, %u queues", tap->ifname,
			 tap->net.nqueues);
	else
		snprintf(tap->net.what, sizeof(tap->net.what), "tap %s", tap->ifname);
}

/* Bring an existing tap up. We may lack the right to do that, which is not an error. */
static void bring_up_found(const struct tap *tap)
{
	int rc = net_tap_link_up(tap->ifname);

	if (rc)
		log_put_for(tap->net.name, LOG_WARN,
			    "%s: tap %s: is down, and bringing it up failed: %s; no frame will "
			    "pass before root does: ip link set %s up",
			    tap->net.name, tap->ifname, strerror(-rc), tap->ifname);
}

/* --- opening ----------------------------------------------------------------------------- */

static int refuse(const struct net_config *cfg, int code, bool existed, struct err *err)
{
	const char *o = cfg->option, *t = cfg->tap, *name = *t && !strchr(t, '%') ? t : "tap0";
	const char *mq = cfg->queues > 1 ? " multi_queue" : "";

	switch (code) {
	case EBUSY:
		return err_set(err, code, "%s tap=%s: taken: another process uses it", o, t);
	case EPERM:
		if (existed)
			return err_set(err, code,
				       "%s tap=%s: belongs to another user; as root: "
				       "ip link del %s && ip tuntap add %s mode tap%s user %u && "
				       "ip link set %s up",
				       o, t, t, t, mq, geteuid(), t);
		return err_set(err, code,
			       "%s tap=%s: no permission to create it; grant "
			       "CAP_NET_ADMIN, or as root: ip tuntap add %s mode tap%s user %u && "
			       "ip link set %s up",
			       o, t, name, mq, geteuid(), name);
	case EINVAL:
		if (!existed)
			return err_set(err, code, "%s tap=%s: not a name for an interface", o, t);
		return err_set(err, code, "%s tap=%s: exists and is not a tap%s", o, t,
			       cfg->queues > 1 ? " with multi_queue" : "");
	default:
		return err_sys(err, code, "%s tap=%s", o, t);
	}
}

/* Returns the queue's fd, or -errno. A tap with many queues can only be opened as such. */
static int open_queue(const struct net_config *cfg, const char *ifname, short *flags)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK), rc;
	struct ifreq ifr = { .ifr_flags = *flags };
	unsigned tries = 0;

	if (fd < 0)
		return -errno;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", ifname);
	do
		rc = ioctl(fd, TUNSETIFF, &ifr) ? errno : 0;
	while (rc == EBUSY && helper_lingers(&tries));
	if (rc == EINVAL && !(*flags & IFF_MULTI_QUEUE) && *ifname) {
		ifr.ifr_flags = *flags |= IFF_MULTI_QUEUE;
		rc = ioctl(fd, TUNSETIFF, &ifr) ? errno : 0;
	}
	if (rc) {
		close(fd);
		return -rc;
	}
	return fd;
}

static int open_queues(struct tap *tap, const struct net_config *cfg, bool existed, struct err *err)
{
	short flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;

	if (cfg->queues > 1)
		flags |= IFF_MULTI_QUEUE;
	if (existed && net_tap_link_is_shared(tap->ifname, 0))
		return refuse(cfg, EBUSY, existed, err);
	for (unsigned i = 0; i < tap->net.nqueues; i++) {
		struct ifreq ifr = { 0 };
		int fd = open_queue(cfg, tap->ifname, &flags), rc;

		if (fd == -ENOENT || fd == -ENODEV)
			return err_set(err, -fd,
				       "%s tap=%s: /dev/net/tun is missing; load the "
				       "module tun, or use --net user",
				       cfg->option, cfg->tap);
		if (fd == -EACCES)
			return err_set(err, -fd,
				       "%s tap=%s: no permission to open /dev/net/tun; "
				       "grant read and write on it, or use --net user",
				       cfg->option, cfg->tap);
		if (fd < 0)
			return refuse(cfg, -fd, existed, err);
		rc = net_port_open(&tap->net, i, fd);
		if (rc) {
			close(fd);
			return err_sys(err, -rc, "%s tap=%s", cfg->option, cfg->tap);
		}
		/* The kernel may have chosen the name. */
		if (!ioctl(fd, TUNGETIFF, &ifr))
			memcpy(tap->ifname, ifr.ifr_name, IFNAMSIZ - 1);
	}
	/* Another process may have opened it at the same time. */
	if (flags & IFF_MULTI_QUEUE && net_tap_link_is_shared(tap->ifname, tap->net.nqueues))
		return refuse(cfg, EBUSY, existed, err);
	return 0;
}

/* From here on close leaves the queues to the keeper. */
static int keep_later(struct tap *tap, const struct net_config *cfg, struct err *err)
{
	if (!cfg->keep)
		return 0;
	tap->id = strdup(cfg->id);
	if (!tap->id)
		return err_sys(err, ENOMEM, "%s", cfg->option);
	strcpy(tap->asked, cfg->tap);
	tap->keep = cfg->keep;
	return 0;
}

/* "%d" at the end becomes the first free number: the kernel chooses it. */
static bool is_name(const char *name)
{
	const char *percent = strchr(name, '%');

	return !strchr(name, '/') && (!percent || (percent > name && !strcmp(percent, "%d")));
}

int net_tap_open(const struct net_config *cfg, struct net **out, struct err *err)
{
	bool existed, kept;
	struct tap *tap;
	int rc;

	if (strlen(cfg->tap) >= IFNAMSIZ)
		return err_set(err, ENAMETOOLONG,
			       "%s tap=%s: an interface's name has at most %d characters",
			       cfg->option, cfg->tap, IFNAMSIZ - 1);
	if (!is_name(cfg->tap))
		return err_set(err, EINVAL, "%s tap=%s: not a name for an interface", cfg->option,
			       cfg->tap);
	rc = net_tap_link_check(cfg, err);
	if (rc)
		return rc;
	existed = *cfg->tap && if_nametoindex(cfg->tap);
	if (cfg->dry_run) {
		rc = net_describe(cfg, out, err, "tap %s, %u queue%s%s", cfg->tap,
				  cfg->queues ? cfg->queues : 1, cfg->queues > 1 ? "s" : "",
				  existed ? "" : ", to be created");
		if (!rc && cfg->queues)
			(*out)->nqueues = cfg->queues;
		return rc;
	}
	tap = (struct tap *)net_new(&tap_ops, cfg, sizeof(*tap));
	if (!tap)
		return err_sys(err, ENOMEM, "%s", cfg->option);
	tap->news_fd = tap->counters_fd = -1;
	tap->net.nqueues = cfg->queues ? cfg->queues : 1;
	strcpy(tap->ifname, cfg->tap);
	kept = take_queues(tap, cfg);
	rc = kept ? 0 : open_queues(tap, cfg, existed, err);
	if (!rc)
		rc = setup(tap, cfg, err);
	if (!rc && !existed && !kept)
		rc = net_tap_link_configure(tap->ifname, cfg, err);
	if (!rc)
		rc = keep_later(tap, cfg, err);
	if (rc) {
		tap_close(&tap->net);
		return rc;
	}
	if (existed && !kept && cfg->host_mac)
		log_put_for(tap->net.name, LOG_WARN,
			    "%s: tap %s: was there before and keeps its address", tap->net.name,
			    tap->ifname);
	if (existed && !kept)
		bring_up_found(tap);
	watch_links(tap);
	tap->net.mtu = net_tap_link_mtu(tap->ifname);
	describe(tap);
	*out = &tap->net;
	return 0;
}

int net_tap_from_fds(const struct net_config *cfg, const int *fd, unsigned n, struct net **out,
		     struct err *err)
{
	struct tap *tap = (struct tap *)net_new(&tap_ops, cfg, sizeof(*tap));
	int rc = 0;

	if (!tap)
		return err_sys(err, ENOMEM, "%s", cfg->option);
	tap->news_fd = tap->counters_fd = -1;
	tap->handed_in = true;
	tap->net.nqueues = n;
	for (unsigned i = 0; i < n && !rc; i++) {
		rc = net_port_open(&tap->net, i, fd[i]);
		if (rc)
			err_sys(err, -rc, "%s fd=%s", cfg->option, cfg->fds);
	}
	if (!rc)
		rc = setup(tap, cfg, err);
	if (rc) {
		tap_close(&tap->net);
		return rc;
	}
	watch_links(tap);
	tap->net.mtu = net_tap_link_mtu(tap->ifname);
	describe(tap);
	*out = &tap->net;
	return 0;
}
