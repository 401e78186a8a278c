/*
 * fake_net: a network back end with several queues. To the card it looks like a tap (vnet headers,
 * offloads, frames cut silently), but it needs no privileges: each queue is one end of a seqpacket
 * socket pair, and the test has the other end. For unit tests and fuzz targets.
 */
#ifndef BANTAM_FAKE_NET_H
#define BANTAM_FAKE_NET_H

#include "devices/backend/net/net.h"

struct fake_net {
	struct net net;		   /* first */
	int wire[NET_MAX_QUEUES];  /* the test's ends; net's close closes them */
	unsigned offloads, queues; /* the last values set */
};

/* Aborts on failure. */
struct fake_net *fake_net_create(struct loop *loop, unsigned nqueues);

#endif
