/*
 * virtio/attach: puts a device on its transport, PCI or MMIO, and takes it off. See virtio.h.
 *
 * Only this file knows which transports exist: virtio.c and the devices see a virtio_transport_ops.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "devices/virtio/core/kicks.h"
#include "devices/virtio/core/mmio.h"
#include "devices/virtio/core/pci.h"
#include "devices/virtio/core/virtio.h"
#include "vmm/errand/errand.h"
#include "vmm/core/thread.h"

/* --- interrupts of queues that are served elsewhere ------------------------------- */

static void on_relay(void *opaque)
{
	struct virtio_relay *r = opaque;

	r->missed = true;
	if (!virtio_lock_now(r->dev))
		return;
	r->missed = false;
	if (r->dev->active && r->dev->transport_ops)
		r->dev->transport_ops->signal_queue(r->dev, r->queue);
	virtio_unlock(r->dev);
}

/* The lock is free again. */
static void on_again(void *opaque)
{
	struct virtio_device *dev = opaque;

	virtio_kicks_again(dev);
	for (unsigned i = 0; i < dev->nqueues; i++)
		if (dev->relay[i].missed)
			on_relay(&dev->relay[i]);
	if (dev->again)
		dev->again(dev->again_opaque);
	if (dev->late)
		loop_event_soon(dev->late);
	dev->late = NULL;
}

static int create_relays(struct virtio_device *dev)
{
	int rc;

	if (!dev->elsewhere)
		return 0;
	dev->relay = calloc(dev->nqueues, sizeof(*dev->relay));
	if (!dev->relay)
		return -ENOMEM;
	errands_expect_long();
	if (thread_confines())
		virtio_kicks_prepare();
	rc = loop_watch_event(dev->env->loop, on_again, dev, &dev->again_watch, &dev->again_fd);
	for (unsigned i = 0; i < dev->nqueues && !rc; i++) {
		struct virtio_relay *r = &dev->relay[i];

		*r = (struct virtio_relay){ .dev = dev, .queue = i, .fd = -1 };
		rc = loop_watch_event(dev->env->loop, on_relay, r, &r->watch, &r->fd);
	}
	return rc;
}

static void destroy_relays(struct virtio_device *dev)
{
	for (unsigned i = 0; dev->relay && i < dev->nqueues; i++)
		loop_unwatch(dev->relay[i].watch);
	if (dev->relay)
		loop_unwatch(dev->again_watch);
	free(dev->relay);
	dev->relay = NULL;
}

/* ----------------------------------------------------------------------------------- */

int virtio_attach(struct virtio_device *dev, struct err *err)
{
	int rc = create_relays(dev);

	/* A guest that runs may use the device at once, and the VM then tells which one. */
	if (dev->env->id)
		snprintf(dev->dev.id, sizeof(dev->dev.id), "%s", dev->env->id);
	if (rc)
		return err_sys(err, -rc, "%s: queues", dev->class->name);
	if (dev->env->pci)
		return virtio_pci_attach(dev, dev->env->pci, err);
	BUG_ON(!dev->env->mmio_slots);
	return virtio_mmio_attach(dev, dev->env->mmio_slots, err);
}

void virtio_detach(struct virtio_device *dev)
{
	if (!dev->class)
		return;
	virtio_stop_last(dev);
	/* Before the transport gives the notify addresses back: another device may get them. */
	virtio_lock(dev);
	virtio_kicks_unbind(dev);
	virtio_unlock(dev);
	if (dev->transport_ops)
		dev->transport_ops->destroy(dev);
	dev->transport_ops = NULL;
	dev->transport = NULL;
	destroy_relays(dev);
	pthread_cond_destroy(&dev->reset_cond);
	pthread_mutex_destroy(&dev->lock);
	dev->class = NULL;
}
