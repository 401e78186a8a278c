/*
 * net_helper: the data queues of a card, served by its backend's own process: net->vhost_fd leads to
 * a vhost-user daemon of ours, which knows all features that we offer.
 *
 * It is not spoken to before the driver is there: the VM's start does not wait for a process that
 * is about to start, too. Its end is told by the backend, as a link that goes down for good; what the
 * guest sends then is swallowed.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/virtio/net_impl.h"
#include "devices/virtio/vhost_front.h"

struct net_helper {
	struct net_server server;	/* first */
	struct vhost_front front;
	bool enabled;
};

static struct net_helper *helper_of(struct virtio_net *nic)
{
	return (struct net_helper *)nic->server;
}

static void helper_update(struct virtio_net *nic)
{
	struct net_helper *h = helper_of(nic);
	bool on = net_link_up(nic);

	if (nic->vdev.started && h->enabled != on)
		vhost_front_enable(&h->front, on);
	h->enabled = on;
}

static int helper_start(struct virtio_net *nic)
{
	struct net_helper *h = helper_of(nic);

	vhost_front_start(&h->front);
	h->enabled = net_link_up(nic);
	if (!h->enabled)
		vhost_front_enable(&h->front, false);
	return 0;
}

static void helper_stop(struct virtio_net *nic)
{
	vhost_front_stop(&helper_of(nic)->front);
}

static void helper_call_changed(struct virtio_net *nic, unsigned queue)
{
	vhost_front_call_changed(&helper_of(nic)->front, queue);
}

static void helper_kick(struct virtio_net *nic, unsigned queue)
{
	vhost_front_kick(&helper_of(nic)->front, queue);
}

static void helper_close(struct virtio_net *nic)
{
	struct net_helper *h = helper_of(nic);

	vhost_front_close(&h->front);
	free(h);
	nic->server = NULL;
}

/* A frame that nobody takes. */
static uint32_t refuse(const struct chain *chain)
{
	return 0;
}

int net_helper_open(struct virtio_net *nic, const struct device_env *env)
{
	struct net_helper *h = calloc(1, sizeof(*h));
	int rc;

	if (!h)
		return -ENOMEM;
	h->server = (struct net_server){ "queues in the helper", 3, ~0ull, helper_start, helper_stop,
					 helper_update, helper_call_changed, helper_kick,
					 helper_close };
	h->front.vdev = &nic->vdev;
	h->front.nqueues = 2;
	h->front.kept = 1;
	h->front.refuse = refuse;
	vhost_user_adopt(&h->front.vu, nic->net->vhost_fd);
	nic->net->vhost_fd = -1;
	nic->server = &h->server;
	rc = vhost_front_watch(&h->front, env->loop);
	if (rc)
		helper_close(nic);
	return rc;
}
