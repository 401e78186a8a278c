/*
 * net/vhost_user: a vhost-user daemon serves the data queues of a card: the daemon at
 * vhost-user=SOCKET, or the user network's helper (net->vhost_user).
 *
 * The card sends no message to a daemon before the driver has started, unless the backend has done
 * so: the start of the VM does not wait for a helper that is itself starting. The pairs that the
 * driver uses are enabled while the link is up. When the daemon ends, the link goes down: frames
 * that the guest sends are dropped, and its receive buffers stay in the ring.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/virtio/net/nic_impl.h"
#include "devices/virtio/vhost/user_front.h"

#define RECEIVE_QUEUES 0x5555555555555555ull

struct nic_vhost_user {
	struct nic_server server; /* first */
	struct vhost_user_front front;
};

static struct vhost_user_front *front_of(struct virtio_net *nic)
{
	return &((struct nic_vhost_user *)nic->server)->front;
}

static void front_update(struct virtio_net *nic)
{
	for (unsigned i = 0; i < 2 * nic->max_pairs; i++)
		vhost_user_front_enable(front_of(nic), i, i / 2 < nic->s.pairs && nic_link_up(nic));
}

static int front_start(struct virtio_net *nic)
{
	struct vhost_user_front *f = front_of(nic);

	/* Without MQ the control queue comes after the first pair. */
	f->nqueues = nic->ctrl;
	for (unsigned i = 0; i < 2 * nic->max_pairs; i++)
		virtio_serve(&nic->vdev, i, i < nic->ctrl && f->vu.fd >= 0);
	vhost_user_front_start(f);
	return 0;
}

static void front_stop(struct virtio_net *nic)
{
	vhost_user_front_stop(front_of(nic));
}

static void front_call_changed(struct virtio_net *nic, unsigned queue)
{
	vhost_user_front_call_changed(front_of(nic), queue);
}

static void front_kick(struct virtio_net *nic, unsigned queue)
{
	vhost_user_front_kick(front_of(nic), queue);
}

static void front_close(struct virtio_net *nic)
{
	vhost_user_front_close(front_of(nic));
	free(nic->server);
	nic->server = NULL;
}

/* Drops a frame: there is no status to write. */
static uint32_t refuse(const struct chain *chain)
{
	return 0;
}

static void ended(struct vhost_user_front *f)
{
	struct virtio_net *nic = virtio_net_of(f->vdev);

	nic->net->up = false;
	nic_update_link(nic);
}

int nic_vhost_user_open(struct virtio_net *nic, const struct device_env *env)
{
	struct nic_vhost_user *n = calloc(1, sizeof(*n));
	struct vhost_user_front *f = &n->front;
	int rc;

	if (!n)
		return -ENOMEM;
	n->server = (struct nic_server){
		.what = "vhost-user",
		/*
		 * A daemon that was not asked is bantam's helper, which supports all that the card
		 * offers.
		 */
		.features = nic->net->vhost_user.agreed ? nic->net->vhost_user.features : ~0ull,
		.start = front_start,
		.stop = front_stop,
		.update = front_update,
		.call_changed = front_call_changed,
		.kick = front_kick,
		.close = front_close,
	};
	f->vdev = &nic->vdev;
	f->nqueues = 2 * nic->max_pairs;
	f->kept = RECEIVE_QUEUES;
	f->refuse = refuse;
	f->ended = nic->net->daemon ? ended : NULL;
	f->who = nic->net->daemon;
	f->loss = "the guest's link is down";
	f->vu = nic->net->vhost_user;
	nic->net->vhost_user.fd = -1;
	nic->server = &n->server;
	rc = vhost_user_front_watch(f, env->loop);
	if (rc)
		front_close(nic);
	return rc;
}
