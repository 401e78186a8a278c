/* net/tap_link: see tap_link.h. */
#include "devices/backend/net/tap_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/core/parse.h"
#include "vmm/errand/errand.h"

static int ctl(unsigned long op, struct ifreq *ifr)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc;

	if (fd < 0)
		return -errno;
	rc = ioctl(fd, op, ifr) ? -errno : 0;
	close(fd);
	return rc;
}

static struct ifreq request(const char *ifname)
{
	struct ifreq ifr = { 0 };

	strncpy(ifr.ifr_name, ifname, IFNAMSIZ - 1);
	return ifr;
}

int net_tap_link_up(const char *ifname)
{
	struct ifreq ifr = request(ifname);
	int rc = ctl(SIOCGIFFLAGS, &ifr);

	if (rc || ifr.ifr_flags & IFF_UP)
		return rc;
	ifr.ifr_flags |= IFF_UP;
	return ctl(SIOCSIFFLAGS, &ifr);
}

/* An address of the host on the tap. */
struct address {
	int family; /* 0: none */
	union {
		struct in_addr v4;
		struct in6_addr v6;
	} ip;
	unsigned prefix; /* bits of the network */
};

static int set_v4(const char *ifname, unsigned long op, struct in_addr addr)
{
	struct ifreq ifr = request(ifname);
	struct sockaddr_in *in = (struct sockaddr_in *)&ifr.ifr_addr;

	*in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr = addr };
	return ctl(op, &ifr);
}

static struct in_addr mask_v4(unsigned bits)
{
	return (struct in_addr){ htonl(bits ? ~0u << (32 - bits) : 0) };
}

/*
 * By netlink, because an ioctl cannot say IFA_F_NODAD: duplicate address detection would need a
 * second or more, and a guest that is already up.
 */
static int set_v6(const char *ifname, const struct address *a)
{
	struct {
		struct nlmsghdr h;
		struct ifaddrmsg addr;
		struct rtattr local;
		struct in6_addr ip;
		struct rtattr flags_attr;
		uint32_t flags;
	} ask = {
		.h = { sizeof(ask), RTM_NEWADDR,
		       NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, 0, 0 },
		.addr = { .ifa_family = AF_INET6,
			  .ifa_prefixlen = (uint8_t)a->prefix,
			  .ifa_index = if_nametoindex(ifname) },
		.local = { RTA_LENGTH(sizeof(ask.ip)), IFA_LOCAL },
		.ip = a->ip.v6,
		.flags_attr = { RTA_LENGTH(sizeof(ask.flags)), IFA_FLAGS },
		.flags = IFA_F_NODAD | IFA_F_PERMANENT,
	};
	union {
		struct {
			struct nlmsghdr h;
			struct nlmsgerr result;
		} ack;
		char bytes[512];
	} got;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), rc = -EPROTO;

	if (fd < 0)
		return -errno;
	if (send(fd, &ask, sizeof(ask), 0) != sizeof(ask))
		rc = -errno;
	else if (recv(fd, &got, sizeof(got), 0) >= (ssize_t)sizeof(got.ack) &&
		 got.ack.h.nlmsg_type == NLMSG_ERROR)
		rc = got.ack.result.error;
	close(fd);
	return rc;
}

/* Returns how many of the first bits of a mask are set, or -1: there are more after a gap. */
static int mask_bits(const uint8_t *mask, unsigned len_bytes)
{
	unsigned n = 0;

	while (n < 8 * len_bytes && mask[n / 8] >> (7 - n % 8) & 1)
		n++;
	for (unsigned i = n; i < 8 * len_bytes; i++)
		if (mask[i / 8] >> (7 - i % 8) & 1)
			return -1;
	return (int)n;
}

/* "255.255.255.0", "ffff:ffff::" or "24". */
static bool parse_mask(const char *text, struct address *a)
{
	unsigned len_bytes = a->family == AF_INET ? 4 : 16;
	uint8_t mask[16];
	uint64_t bits;
	int n;

	if (!parse_u64(text, &bits)) {
		a->prefix = (unsigned)bits;
		return bits <= 8 * len_bytes;
	}
	if (inet_pton(a->family, text, mask) != 1)
		return false;
	n = mask_bits(mask, len_bytes);
	a->prefix = (unsigned)n;
	return n >= 0;
}

/* ip=ADDR[/BITS], mask=. */
static int parse_ip(const struct net_config *cfg, struct address *a, struct err *err)
{
	const char *slash = cfg->ip ? strchr(cfg->ip, '/') : NULL, *m;
	char ip[INET6_ADDRSTRLEN] = "";

	*a = (struct address){ 0 };
	if (!cfg->ip && cfg->mask)
		return err_set(err, EINVAL, "%s: mask= needs ip=", cfg->option);
	if (!cfg->ip)
		return 0;
	snprintf(ip, sizeof(ip), "%.*s", (int)(slash ? slash - cfg->ip : (long)strlen(cfg->ip)),
		 cfg->ip);
	if (inet_pton(AF_INET, ip, &a->ip) == 1)
		a->family = AF_INET;
	else if (inet_pton(AF_INET6, ip, &a->ip) == 1)
		a->family = AF_INET6;
	else
		return err_set(err, EINVAL, "%s ip=%s: not an IP address", cfg->option, cfg->ip);
	m = cfg->mask ? cfg->mask : slash ? slash + 1 : a->family == AF_INET ? "24" : "64";
	if (!parse_mask(m, a))
		return err_set(err, EINVAL, "%s: \"%s\": not a mask; write it like %s", cfg->option,
			       m,
			       a->family == AF_INET ? "255.255.255.0 or 24" :
						      "ffff:ffff:ffff:ffff:: or 64");
	return 0;
}

static int set_address(const char *ifname, const struct net_config *cfg, const struct address *a,
		       struct err *err)
{
	bool v6 = a->family == AF_INET6;
	int rc;

	if (!a->family)
		return 0;
	rc = v6 ? set_v6(ifname, a) : set_v4(ifname, SIOCSIFADDR, a->ip.v4);
	if (!rc && !v6)
		rc = set_v4(ifname, SIOCSIFNETMASK, mask_v4(a->prefix));
	if (v6 && (rc == -EACCES || rc == -EOPNOTSUPP || rc == -EAFNOSUPPORT))
		return err_set(err, -rc, "%s tap=%s: setting ip=%s: IPv6 is disabled on this host",
			       cfg->option, ifname, cfg->ip);
	return rc ? err_sys(err, -rc, "%s tap=%s: setting ip=%s", cfg->option, ifname, cfg->ip) : 0;
}

static int set_mac(const char *ifname, const struct net_config *cfg, struct err *err)
{
	struct ifreq ifr = request(ifname);
	int rc;

	if (!cfg->host_mac)
		return 0;
	ifr.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(ifr.ifr_hwaddr.sa_data, cfg->host_mac, NET_MAC_BYTES);
	rc = ctl(SIOCSIFHWADDR, &ifr);
	return rc ? err_sys(err, -rc, "%s tap=%s: setting its address", cfg->option, ifname) : 0;
}

int net_tap_link_configure(const char *ifname, const struct net_config *cfg, struct err *err)
{
	struct ifreq ifr = request(ifname);
	struct address addr;
	int rc = parse_ip(cfg, &addr, err);

	if (!rc)
		rc = set_mac(ifname, cfg, err);
	if (rc)
		return rc;
	/* Before the address: IPv6 needs 1280 bytes. */
	if (cfg->mtu) {
		ifr.ifr_mtu = (int)cfg->mtu;
		rc = ctl(SIOCSIFMTU, &ifr);
		if (rc)
			return err_sys(err, -rc, "%s tap=%s: setting mtu=%u", cfg->option, ifname,
				       cfg->mtu);
	}
	rc = set_address(ifname, cfg, &addr, err);
	if (rc)
		return rc;
	rc = net_tap_link_up(ifname);
	return rc ? err_sys(err, -rc, "%s tap=%s: bringing it up", cfg->option, ifname) : 0;
}

static const struct rtattr *attribute(const struct rtattr *a, long len, unsigned type)
{
	for (; RTA_OK(a, len); a = RTA_NEXT(a, len))
		if ((a->rta_type & NLA_TYPE_MASK) == type)
			return a;
	return NULL;
}

bool net_tap_link_is_shared(const char *ifname, unsigned ours)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg link;
	} ask = { { sizeof(ask), RTM_GETLINK, NLM_F_REQUEST, 0, 0 },
		  { .ifi_index = (int)if_nametoindex(ifname) } };
	union {
		struct nlmsghdr h;
		char bytes[8192];
	} got;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	const struct rtattr *a, *data = NULL;
	unsigned open = 0;
	ssize_t len = -1;

	if (fd < 0)
		return false;
	if (ask.link.ifi_index && send(fd, &ask, sizeof(ask), 0) == sizeof(ask))
		len = recv(fd, &got, sizeof(got), 0);
	close(fd);
	if (len < (ssize_t)NLMSG_SPACE(sizeof(ask.link)) || got.h.nlmsg_type != RTM_NEWLINK)
		return false;
	a = attribute(IFLA_RTA(NLMSG_DATA(&got.h)), len - (ssize_t)NLMSG_SPACE(sizeof(ask.link)),
		      IFLA_LINKINFO);
	if (a)
		data = attribute(RTA_DATA(a), RTA_PAYLOAD(a), IFLA_INFO_DATA);
	for (unsigned type = IFLA_TUN_NUM_QUEUES; data && type <= IFLA_TUN_NUM_DISABLED_QUEUES;
	     type++) {
		a = attribute(RTA_DATA(data), RTA_PAYLOAD(data), type);
		open += a ? *(uint32_t *)RTA_DATA(a) : 0;
	}
	return open > ours;
}

uint16_t net_tap_link_mtu(const char *ifname)
{
	struct ifreq ifr = request(ifname);

	if (ctl(SIOCGIFMTU, &ifr) || ifr.ifr_mtu < (int)NET_MTU_MIN ||
	    ifr.ifr_mtu > (int)NET_MTU_MAX)
		return 0;
	return (uint16_t)ifr.ifr_mtu;
}

int net_tap_link_open_counters(void)
{
	/* Of the caller's network namespace. Netlink and sysfs know more, but netlink's answer waits
	 * for changes of other links, and /sys may show another namespace. */
	return open("/proc/thread-self/net/dev", O_RDONLY | O_CLOEXEC);
}

/* Takes the line of the file if it is the interface's. */
static bool take_counters(const char *line, const char *ifname, struct net_counters *out)
{
	int len = (int)strnlen(ifname, IFNAMSIZ);
	const char *at = line + strspn(line, " ");
	unsigned long long n[4];

	if (strncmp(at, ifname, (size_t)len) || at[len] != ':')
		return false;
	/* Eight columns of what the host has received, then the same of what it has sent. */
	if (sscanf(at + len + 1, "%llu %llu %*s %*s %*s %*s %*s %*s %llu %llu", &n[0], &n[1], &n[2],
		   &n[3]) != 4)
		return false;
	*out = (struct net_counters){ n[2] & INT64_MAX, n[3] & INT64_MAX, n[0] & INT64_MAX,
				      n[1] & INT64_MAX };
	return true;
}

/* By pread: other threads read the same descriptor. */
int net_tap_link_counters(int fd, const char *ifname, struct net_counters *out)
{
	size_t have = 0;
	off_t at = 0;
	char text[2048];

	for (;;) {
		ssize_t n = pread(fd, text + have, sizeof(text) - 1 - have, at);
		char *line = text, *end;

		if (n <= 0)
			return n ? -errno : -ENODEV;
		at += n;
		have += (size_t)n;
		text[have] = 0;
		for (; (end = strchr(line, '\n')); line = end + 1) {
			*end = 0;
			if (take_counters(line, ifname, out))
				return 0;
		}
		have -= (size_t)(line - text);
		memmove(text, line, have);
	}
}

int net_tap_link_check(const struct net_config *cfg, struct err *err)
{
	struct address addr;

	return parse_ip(cfg, &addr, err);
}

int net_tap_link_watch(void)
{
	struct sockaddr_nl at = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof(at))) {
		close(fd);
		return -1;
	}
	return fd;
}

struct request {
	int fd, rc;
	unsigned long what;
	void *arg;
};

static void make_request(void *opaque)
{
	struct request *r = opaque;

	r->rc = ioctl(r->fd, r->what, r->arg);
}

int net_tap_link_ask(int fd, unsigned long what, void *arg)
{
	struct request r = { .fd = fd, .what = what, .arg = arg };

	errand_run(make_request, &r);
	return r.rc;
}
