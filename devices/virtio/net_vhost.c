/*
 * net_vhost: the data queues of a tap's card, served by the kernel (vhost-net).
 *
 * The control queue, the link and the configuration stay here. A pair is served while
 * the driver uses it and the link is up. The receive filter is the tap's business then, and
 * rate limits are not possible. See struct virtio_device.elsewhere for kicks and interrupts.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/backend/vhost.h"
#include "devices/virtio/net_impl.h"

#define VHOST_NET "/dev/vhost-net"

struct net_vhost {
	struct virtio_net *nic;
	unsigned n;		/* pairs */
	struct loop_watch *err;	/* a ring is broken */
	int err_fd;
	struct {
		struct vhost vhost;
		bool ready, served;
		int call_fd[2];	/* as the kernel was told last */
	} pair[];
};

static void on_err(void *opaque)
{
	struct net_vhost *vh = opaque;

	virtio_lock(&vh->nic->vdev);
	if (vh->nic->vdev.active)
		virtio_broken(&vh->nic->vdev, "vhost-net found a broken ring");
	virtio_unlock(&vh->nic->vdev);
}

static void serve(struct net_vhost *vh, unsigned pair, bool on)
{
	struct virtio_net *nic = vh->nic;
	int fd = on ? nic->net->port[pair].fd : -1;

	if (vh->pair[pair].served == on || !vh->pair[pair].ready)
		return;
	for (unsigned q = 0; q < 2; q++)
		if (vhost_net_serve(&vh->pair[pair].vhost, q, fd) && on)
			virtio_broken(&nic->vdev, "vhost-net refuses the tap");
	vh->pair[pair].served = on;
}

void net_vhost_update(struct virtio_net *nic)
{
	for (unsigned i = 0; nic->vhost && i < nic->vhost->n; i++)
		serve(nic->vhost, i, nic->vdev.started && i < nic->pairs && net_link_up(nic));
}

static int set_pair(struct net_vhost *vh, unsigned pair)
{
	struct virtio_device *vdev = &vh->nic->vdev;
	struct vhost *v = &vh->pair[pair].vhost;
	int rc = vhost_set_features(v, vdev->acked);

	for (unsigned i = 0; i < 2 && !rc; i++) {
		unsigned queue = 2 * pair + i;
		const struct virtq *q = &vdev->queue[queue];
		struct vhost_ring ring = { .size = q->size, .err_fd = vh->err_fd };

		ring.kick_fd = virtio_kick_fd(vdev, queue);
		ring.call_fd = virtio_call_fd(vdev, queue);
		vh->pair[pair].call_fd[i] = ring.call_fd;
		virtq_host_parts(q, &ring.desc, &ring.avail, &ring.used);
		rc = vhost_set_ring(v, i, &ring);
	}
	vh->pair[pair].ready = !rc;
	return rc;
}

int net_vhost_start(struct virtio_net *nic)
{
	struct net_vhost *vh = nic->vhost;
	int rc = 0;

	/* Queue 2 is a receive queue, or the control queue of a driver that does without MQ. */
	for (unsigned i = 0; vh && i < 2 * vh->n; i++)
		virtio_serve(&nic->vdev, i, i != nic->ctrl);
	for (unsigned i = 0; vh && i < vh->n && !rc; i++)
		if (2 * i != nic->ctrl && nic->vdev.queue[2 * i].ready && nic->vdev.queue[2 * i + 1].ready)
			rc = set_pair(vh, i);
	for (unsigned i = 0; vh && i < nic->pairs && !rc && net_link_up(nic); i++)
		serve(vh, i, true);
	return rc;
}

void net_vhost_stop(struct virtio_net *nic)
{
	struct net_vhost *vh = nic->vhost;

	for (unsigned i = 0; vh && i < vh->n; i++) {
		serve(vh, i, false);
		vh->pair[i].ready = false;
	}
}

void net_vhost_call_changed(struct virtio_device *vdev, unsigned queue)
{
	struct net_vhost *vh = virtio_net_of(vdev)->vhost;
	unsigned pair = queue / 2, i = queue % 2;
	int fd;

	if (!vh || pair >= vh->n || !vh->pair[pair].ready)
		return;
	fd = virtio_call_fd(vdev, queue);
	if (fd == vh->pair[pair].call_fd[i])
		return;
	if (vhost_set_call(&vh->pair[pair].vhost, i, fd))
		virtio_broken(vdev, "vhost-net refuses an interrupt");
	vh->pair[pair].call_fd[i] = fd;
}

uint64_t net_vhost_queues(const struct virtio_net *nic)
{
	return nic->vhost ? (1ull << (2 * nic->vhost->n)) - 1 : 0;
}

uint64_t net_vhost_features(const struct virtio_net *nic)
{
	return nic->vhost ? nic->vhost->pair[0].vhost.features : ~0ull;
}

void net_vhost_close(struct virtio_net *nic)
{
	struct net_vhost *vh = nic->vhost;

	if (!vh)
		return;
	for (unsigned i = 0; i < vh->n; i++)
		vhost_close(&vh->pair[i].vhost);
	loop_unwatch(vh->err);
	free(vh);
	nic->vhost = NULL;
}

static int open_vhost(struct virtio_net *nic, const struct device_env *env)
{
	unsigned n = nic->net->nqueues;
	struct net_vhost *vh = calloc(1, sizeof(*vh) + n * sizeof(vh->pair[0]));
	int rc;

	if (!vh)
		return -ENOMEM;
	vh->nic = nic;
	vh->n = n;
	vh->err_fd = -1;
	nic->vhost = vh;
	for (unsigned i = 0; i < n; i++)
		vh->pair[i].vhost.fd = -1;
	rc = loop_watch_event(env->loop, on_err, vh, &vh->err, &vh->err_fd);
	for (unsigned i = 0; i < n && !rc; i++)
		rc = vhost_open(&vh->pair[i].vhost, VHOST_NET, env->mem);
	if (rc)
		net_vhost_close(nic);
	return rc;
}

int net_vhost_choose(struct virtio_net *nic, const struct device_env *env, enum net_vhost_how how,
		     const char *option, struct err *err)
{
	bool limits = ratelimit_on(&nic->rx_limit) || ratelimit_on(&nic->tx_limit);
	int rc;

	if (how == NET_VHOST_OFF)
		return 0;
	if (!nic->net->vnet_hdr_bytes || limits) {
		if (how == NET_VHOST_AUTO)
			return 0;
		return err_set(err, EINVAL, "%s: vhost=on %s", option,
			       limits ? "cannot limit rates" : "needs a tap with vnet headers");
	}
	rc = open_vhost(nic, env);
	if (!rc || how == NET_VHOST_AUTO)
		return 0;
	if (rc == -ENOENT || rc == -ENODEV || rc == -ENXIO)
		return err_set(err, -rc, "%s: vhost=on: /dev/vhost-net is missing; load the module "
			       "vhost_net", option);
	return err_sys(err, -rc, "%s: vhost=on: /dev/vhost-net%s", option,
		       rc == -EACCES ? " (grant read and write on it)" : "");
}
