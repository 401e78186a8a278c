/* net/hostfwd: a port forward as people write it, for the user network's two halves. */
#ifndef BANTAM_NET_HOSTFWD_H
#define BANTAM_NET_HOSTFWD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct net_hostfwd {
	bool udp;
	bool any_addr; /* no address was given: 127.0.0.1 */
	bool v6;       /* addr6, and the guest's IPv6 address; else addr, and its IPv4 one */
	struct in_addr addr;
	struct in6_addr addr6;
	uint16_t host_port; /* 0: whichever is free */
	uint16_t guest_port;
};

/*
 * "tcp:ADDR:HOSTPORT-GUESTPORT", len bytes of text: ADDR is an IPv4 address, an IPv6 one in
 * brackets, or nothing. NULL, or what is wrong with it. Pure.
 */
const char *net_hostfwd_parse(const char *text, unsigned len, struct net_hostfwd *out);

/*
 * Lines that bantam-net-user writes to its status descriptor, in this order: a NET_USER_FWD
 * line for each forward, then NET_USER_READY; or one NET_USER_ERROR line instead of any.
 */
#define NET_USER_FWD "fwd " /* "fwd tcp 127.0.0.1:40123 -> guest :22" */
#define NET_USER_READY "ready"
#define NET_USER_ERROR "error "

/* What leads to the guest, of its arguments: net/ring.h's rings, or vhost-user. */
#define NET_USER_RINGS "rings"
#define NET_USER_QUEUES "queues"

#endif
