/* net/tap_link: see tap_link.h. */
#include "devices/backend/net/tap_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/core/parse.h"

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

static int set_addr(const char *ifname, unsigned long op, struct in_addr addr)
{
	struct ifreq ifr = request(ifname);
	struct sockaddr_in *in = (struct sockaddr_in *)&ifr.ifr_addr;

	*in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr = addr };
	return ctl(op, &ifr);
}

/* "255.255.255.0" or "24". */
static bool parse_mask(const char *text, struct in_addr *mask)
{
	uint64_t bits;
	uint32_t m;

	if (!parse_u64(text, &bits)) {
		if (bits > 32)
			return false;
		mask->s_addr = htonl(bits ? ~0u << (32 - bits) : 0);
		return true;
	}
	if (inet_pton(AF_INET, text, mask) != 1)
		return false;
	m = ~ntohl(mask->s_addr);
	return !(m & (m + 1));
}

/* ip=ADDR[/BITS], mask=. */
static int parse_ip(const struct net_config *cfg, struct in_addr *addr, struct in_addr *mask,
		    struct err *err)
{
	const char *slash = cfg->ip ? strchr(cfg->ip, '/') : NULL;
	const char *m = cfg->mask ? cfg->mask : slash ? slash + 1 : "24";
	char ip[INET_ADDRSTRLEN] = "";

	if (!cfg->ip && cfg->mask)
		return err_set(err, EINVAL, "%s: mask= needs ip=", cfg->option);
	if (!cfg->ip)
		return 0;
	snprintf(ip, sizeof(ip), "%.*s", (int)(slash ? slash - cfg->ip : (long)strlen(cfg->ip)),
		 cfg->ip);
	if (inet_pton(AF_INET, ip, addr) != 1)
		return err_set(err, EINVAL, "%s ip=%s: not an IPv4 address", cfg->option, cfg->ip);
	if (!parse_mask(m, mask))
		return err_set(err, EINVAL,
			       "%s: \"%s\": not a mask; write it like 255.255.255.0 or 24",
			       cfg->option, m);
	return 0;
}

int net_tap_link_configure(const char *ifname, const struct net_config *cfg, struct err *err)
{
	struct in_addr addr, mask;
	struct ifreq ifr = request(ifname);
	int rc = parse_ip(cfg, &addr, &mask, err);

	if (rc)
		return rc;
	if (cfg->ip) {
		rc = set_addr(ifname, SIOCSIFADDR, addr);
		if (!rc)
			rc = set_addr(ifname, SIOCSIFNETMASK, mask);
		if (rc)
			return err_sys(err, -rc, "%s tap=%s: setting ip=%s", cfg->option, ifname,
				       cfg->ip);
	}
	if (cfg->mtu) {
		ifr.ifr_mtu = (int)cfg->mtu;
		rc = ctl(SIOCSIFMTU, &ifr);
		if (rc)
			return err_sys(err, -rc, "%s tap=%s: setting mtu=%u", cfg->option, ifname,
				       cfg->mtu);
	}
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

int net_tap_link_counters(const char *ifname, struct net_counters *out)
{
	/* Of the caller's network namespace. Netlink and sysfs know more, but netlink's answer waits
	 * for changes of other links, and /sys may show another namespace. */
	FILE *file = fopen("/proc/thread-self/net/dev", "re");
	int len = (int)strnlen(ifname, IFNAMSIZ), rc = -ENODEV;
	unsigned long long n[4];
	char line[512];

	if (!file)
		return -errno;
	while (rc && fgets(line, sizeof(line), file)) {
		const char *at = line + strspn(line, " ");

		if (strncmp(at, ifname, (size_t)len) || at[len] != ':')
			continue;
		/* Eight columns of what the host has received, then the same of what it has sent. */
		if (sscanf(at + len + 1, "%llu %llu %*s %*s %*s %*s %*s %*s %llu %llu", &n[0],
			   &n[1], &n[2], &n[3]) == 4) {
			*out = (struct net_counters){ n[2] & INT64_MAX, n[3] & INT64_MAX,
						      n[0] & INT64_MAX, n[1] & INT64_MAX };
			rc = 0;
		}
	}
	fclose(file);
	return rc;
}

int net_tap_link_check(const struct net_config *cfg, struct err *err)
{
	struct in_addr addr, mask;

	return parse_ip(cfg, &addr, &mask, err);
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
