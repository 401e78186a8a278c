/* net/hostfwd: the syntax of a port forward, for bantam and for its helper bantam-net-user. */
#ifndef BANTAM_NET_HOSTFWD_H
#define BANTAM_NET_HOSTFWD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct net_hostfwd {
	bool udp;
	bool any_addr; /* no address was given: 127.0.0.1 */
	bool v6;       /* addr6 and the guest's IPv6 address; else addr and its IPv4 address */
	struct in_addr addr;
	struct in6_addr addr6;
	uint16_t host_port; /* 0: any free port */
	uint16_t guest_port;
};

/* What a message says after what is wrong. */
#define NET_HOSTFWD_FORM "write it like tcp::2222-22, in full tcp|udp:[ADDR]:HOSTPORT-GUESTPORT"

/*
 * Parses "tcp:ADDR:HOSTPORT-GUESTPORT" (or udp), len bytes of text. ADDR is an IPv4 address, an
 * IPv6 address in brackets, or nothing. Returns NULL, or what is wrong with text. Pure.
 */
const char *net_hostfwd_parse(const char *text, unsigned len, struct net_hostfwd *out);

/*
 * Lines that bantam-net-user writes to its status descriptor, in this order: a NET_USER_FWD
 * line for each forward, then NET_USER_READY; or one NET_USER_ERROR line instead of any.
 */
#define NET_USER_FWD "fwd " /* "fwd tcp 127.0.0.1:40123 -> guest :22" */
#define NET_USER_READY "ready"
#define NET_USER_ERROR "error "
/* Later, if the helper is to tell: the guest answers on the port of this forward, "answers 0". */
#define NET_USER_ANSWERS "answers "

/* The helper's argument that says how frames reach the guest: net/ring.h's rings, or vhost-user. */
#define NET_USER_RINGS "rings"
#define NET_USER_QUEUES "queues"

#endif
