/*
 * net/daemon: a vhost-user daemon at a socket (passt, Open vSwitch, DPDK), which serves the card's
 * queues itself (net.vhost_user): no frame passes through this file.
 */
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <string.h>

#include "devices/backend/net/net_impl.h"

static const struct net_ops daemon_ops = {
	.close = net_free,
};

/* The NET_ offloads for feature bits of one direction. */
static unsigned offloads(uint64_t features, unsigned csum, unsigned tso4, unsigned tso6,
			 unsigned ecn, unsigned ufo)
{
	const unsigned bit[] = { csum, tso4, tso6, ecn, ufo };
	static const unsigned offload[] = { NET_CSUM, NET_TSO4, NET_TSO6, NET_ECN, NET_UFO };
	unsigned all = 0;

	for (unsigned i = 0; i < sizeof(bit) / sizeof(bit[0]); i++)
		all |= features >> bit[i] & 1 ? offload[i] : 0;
	return all;
}

static int connect_daemon(struct net *net, const struct net_config *cfg, struct err *err)
{
	struct vhost_user *vu = &net->vhost_user;
	uint64_t pairs;
	int rc = cfg->daemon_connects ? vhost_user_accept(vu, cfg->daemon, cfg->option, err) :
					vhost_user_open(vu, cfg->daemon, cfg->option, err);

	if (rc)
		return rc;
	/* Without MQ the daemon does not report a number: then it is one. */
	pairs = vu->queues_max ? vu->queues_max : 1;
	if (pairs < net->nqueues)
		return err_set(err, ENOTSUP, "%s: %s: the daemon serves %llu queues, not %u",
			       cfg->option, cfg->daemon, (unsigned long long)pairs, net->nqueues);
	if (!(vu->features >> VIRTIO_F_VERSION_1 & 1))
		return err_set(err, ENOTSUP, "%s: %s: the daemon does not support virtio 1",
			       cfg->option, cfg->daemon);
	net->offloads_in = offloads(vu->features, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4,
				    VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_ECN,
				    VIRTIO_NET_F_GUEST_UFO);
	net->offloads_out = offloads(vu->features, VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4,
				     VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_ECN,
				     VIRTIO_NET_F_HOST_UFO);
	return 0;
}

int net_daemon_open(const struct net_config *cfg, struct net **out, struct err *err)
{
	unsigned queues = cfg->queues ? cfg->queues : 1;
	struct net *net;
	int rc;

	/* Do not connect: many daemons serve one connection and end. */
	if (cfg->dry_run) {
		rc = net_describe(cfg, out, err, "daemon at %s", cfg->daemon);
		if (!rc)
			(*out)->nqueues = queues;
		return rc;
	}
	net = net_new(&daemon_ops, cfg, sizeof(*net));
	if (!net)
		return err_sys(err, ENOMEM, "%s", cfg->option);
	net->nqueues = queues;
	net->daemon = strdup(cfg->daemon);
	snprintf(net->what, sizeof(net->what), "daemon at %s", cfg->daemon);
	rc = net->daemon ? connect_daemon(net, cfg, err) : err_sys(err, ENOMEM, "%s", cfg->option);
	if (rc)
		net_free(net);
	else
		*out = net;
	return rc;
}
