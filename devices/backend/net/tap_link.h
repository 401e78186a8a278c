/*
 * net/tap_link: a tap as an interface of the host: its address, MTU and state (netdevice(7),
 * rtnetlink(7)). For net/tap.c, which handles its queues.
 *
 * The builder's thread, where nothing else is said. Functions that return int return 0 or -errno.
 */
#ifndef BANTAM_NET_TAP_LINK_H
#define BANTAM_NET_TAP_LINK_H

#include "devices/backend/net/net.h"

/* Checks, without changes, that ip= and mask= of cfg are well formed. */
int net_tap_link_check(const struct net_config *cfg, struct err *err);
/*
 * Sets MAC, MTU, and address with its mask (by default /24, IPv6: /64) of an interface that we have
 * created, and brings it up. On return the host can use the address.
 */
int net_tap_link_configure(const char *ifname, const struct net_config *cfg, struct err *err);
int net_tap_link_up(const char *ifname);
/* In bytes; 0: unknown, or not between NET_MTU_MIN and NET_MTU_MAX. */
uint16_t net_tap_link_mtu(const char *ifname);
/*
 * The counters of the interfaces in the caller's network namespace (proc_pid_net(5), dev): a descriptor, which the
 * caller closes, or -1. It is opened early: a confined process has no /proc.
 */
int net_tap_link_open_counters(void);
/*
 * Reads an interface's counters there: what the host has received, the guest has sent. Any thread; takes none of
 * the locks that a change of the host's links holds. Returns 0 or -errno.
 */
int net_tap_link_counters(int fd, const char *ifname, struct net_counters *out);
/*
 * Returns true if the tap has more open queues, attached or not, than ours: the others belong to
 * another process, and the kernel, which lets any process open a queue of such a tap, would spread
 * the frames over both. Also returns false if the kernel does not report the number (before 4.17).
 */
bool net_tap_link_is_shared(const char *ifname, unsigned ours);
/*
 * Returns a socket that is readable when any link of the host changes, or -1. The caller closes it.
 */
int net_tap_link_watch(void);

/*
 * Makes a request of ioctl to a queue of a tap, in an errand: what a driver, the host or the user changes. No loop may
 * change a tap. Returns 0, or -1 without errno.
 */
int net_tap_link_ask(int fd, unsigned long what, void *arg);

#endif
