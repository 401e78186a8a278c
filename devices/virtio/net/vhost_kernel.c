/*
 * net/vhost_kernel: the kernel (vhost-net) serves the data queues of a card on a tap.
 *
 * The kernel serves a pair while the driver uses it and the link is up.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/virtio/net/nic_impl.h"
#include "devices/virtio/vhost/kernel_queues.h"
#include "vmm/core/busypoll.h"
#include "vmm/errand/errand.h"

#define VHOST_NET "/dev/vhost-net"
/* As the loop does: the next frame often comes soon, and a wakeup takes as long. */
#define POLL_US (BUSYPOLL_MAX_NS / 1000u)

struct nic_vhost {
	struct nic_server server; /* first */
	struct virtio_net *nic;
	unsigned n; /* pairs */
	struct {
		struct vhost_kernel_queues queues;
		bool served;
	} pair[];
};

static struct nic_vhost *vhost_of(struct virtio_net *nic)
{
	return (struct nic_vhost *)nic->server;
}

static void serve(struct nic_vhost *vh, unsigned pair, bool on)
{
	struct virtio_net *nic = vh->nic;
	int fd = on ? nic->net->port[pair].fd : -1;

	if (vh->pair[pair].served == on || !vh->pair[pair].queues.ready)
		return;
	for (unsigned q = 0; q < 2; q++) {
		struct vhost_kernel *v = &vh->pair[pair].queues.vhost_kernel;

		if (on)
			vhost_kernel_net_poll(v, q, POLL_US);
		if (vhost_kernel_net_serve(v, q, fd) && on)
			virtio_broken(&nic->vdev, "vhost-net refuses the tap");
	}
	vh->pair[pair].served = on;
}

static void update(void *opaque)
{
	struct virtio_net *nic = opaque;
	struct nic_vhost *vh = vhost_of(nic);

	for (unsigned i = 0; i < vh->n; i++)
		serve(vh, i, nic->vdev.started && i < nic->s.pairs && nic_link_up(nic));
}

/* The card's loop: the guest's number of pairs, or the link, has changed. */
static void kernel_update(struct virtio_net *nic)
{
	errand_run(update, nic);
}

static int kernel_start(struct virtio_net *nic)
{
	struct nic_vhost *vh = vhost_of(nic);
	int rc = 0;

	/* Queue 2 is a receive queue, or the control queue of a driver that does not use MQ. */
	for (unsigned i = 0; i < 2 * vh->n; i++)
		virtio_serve(&nic->vdev, i, i != nic->ctrl);
	for (unsigned i = 0; i < vh->n && !rc; i++)
		if (2 * i != nic->ctrl && nic->vdev.queue[2 * i].s.ready &&
		    nic->vdev.queue[2 * i + 1].s.ready)
			rc = vhost_kernel_queues_start(&vh->pair[i].queues);
	for (unsigned i = 0; i < nic->s.pairs && !rc && nic_link_up(nic); i++)
		serve(vh, i, true);
	return rc;
}

static void kernel_stop(struct virtio_net *nic)
{
	struct nic_vhost *vh = vhost_of(nic);

	for (unsigned i = 0; i < vh->n; i++) {
		serve(vh, i, false);
		vhost_kernel_queues_stop(&vh->pair[i].queues);
	}
}

static void kernel_call_changed(struct virtio_net *nic, unsigned queue)
{
	struct nic_vhost *vh = vhost_of(nic);

	if (queue / 2 < vh->n)
		vhost_kernel_queues_call_changed(&vh->pair[queue / 2].queues, queue);
}

static void kernel_close(struct virtio_net *nic)
{
	struct nic_vhost *vh = vhost_of(nic);

	for (unsigned i = 0; i < vh->n; i++)
		vhost_kernel_queues_close(&vh->pair[i].queues);
	free(vh);
	nic->server = NULL;
}

static int open_vhost(struct virtio_net *nic, const struct device_env *env)
{
	unsigned n = nic->net->nqueues;
	struct nic_vhost *vh = calloc(1, sizeof(*vh) + n * sizeof(vh->pair[0]));
	int rc = 0;

	if (!vh)
		return -ENOMEM;
	vh->server = (struct nic_server){
		.what = "vhost",
		.start = kernel_start,
		.stop = kernel_stop,
		.update = kernel_update,
		.call_changed = kernel_call_changed,
		.close = kernel_close,
		.counted_below = true,
	};
	vh->nic = nic;
	vh->n = n;
	nic->server = &vh->server;
	for (unsigned i = 0; i < n && !rc; i++)
		rc = vhost_kernel_queues_open(&vh->pair[i].queues, &nic->vdev, env, VHOST_NET,
					      2 * i);
	if (rc)
		kernel_close(nic);
	else
		vh->server.features = vh->pair[0].queues.vhost_kernel.features;
	return rc;
}

int nic_vhost_kernel_choose(struct virtio_net *nic, const struct device_env *env,
			    enum nic_served_how how, const char *option, struct err *err)
{
	bool limits = ratelimit_on(&nic->rx_limit) || ratelimit_on(&nic->tx_limit);
	int rc;

	if (how == NIC_SERVED_OFF)
		return 0;
	if (!nic->net->vnet_hdr_bytes || limits) {
		if (how == NIC_SERVED_AUTO)
			return 0;
		return err_set(err, EINVAL, "%s: vhost=on %s", option,
			       limits ? "cannot limit rates" : "needs a tap with vnet headers");
	}
	rc = open_vhost(nic, env);
	if (!rc || how == NIC_SERVED_AUTO)
		return 0;
	return vhost_kernel_refused(option, VHOST_NET, rc, err);
}
