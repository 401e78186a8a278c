/*
 * fake_net: what lies behind a card with several queues, as a tap looks to it (vnet headers,
 * offloads, frames cut silently) but without any rights: each queue is one end of a seqpacket
 * socket pair, and the test has the other. For unit tests and fuzz targets.
 */
#ifndef BANTAM_FAKE_NET_H
#define BANTAM_FAKE_NET_H

#include "devices/backend/net/net.h"

struct fake_net {
	struct net net;		   /* first */
	int wire[NET_MAX_QUEUES];  /* a frame with its header each; closed with net */
	unsigned offloads, queues; /* as set last */
};

/* Aborts where that cannot be made. */
struct fake_net *fake_net_create(struct loop *loop, unsigned nqueues);

#endif
