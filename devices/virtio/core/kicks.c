/* virtio/kicks: see kicks.h. */
#include "devices/virtio/core/kicks.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

static void kicked(void *opaque)
{
	struct virtio_kick *k = opaque;
	struct virtio_device *dev = k->dev;

	virtio_lock(dev);
	/*
	 * The loop may have read this event before virtio_serve gave the queue to a server: the
	 * kick belongs to that server then.
	 */
	if (dev->active && dev->queue[k->index].s.ready && !(dev->elsewhere >> k->index & 1))
		dev->class->kick(dev, k->index);
	virtio_unlock(dev);
}

int virtio_kicks_create(struct virtio_device *dev)
{
	int rc = 0;

	for (unsigned i = 0; i < dev->nqueues && !rc; i++) {
		struct virtio_kick *k = &dev->kick[i];

		*k = (struct virtio_kick){ .dev = dev, .index = i };
		rc = loop_watch_event(dev->env->loop, kicked, k, &k->watch, &k->fd);
		if (!rc && dev->elsewhere >> i & 1)
			loop_watch_events(k->watch, 0);
	}
	return rc;
}

void virtio_kicks_destroy(struct virtio_device *dev)
{
	for (unsigned i = 0; i < dev->nqueues; i++) {
		loop_unwatch(dev->kick[i].watch);
		dev->kick[i].watch = NULL;
	}
}

void virtio_kicks_bind(struct virtio_device *dev, virtio_kick_at at)
{
	for (unsigned i = 0; i < dev->nqueues; i++) {
		struct virtio_kick *k = &dev->kick[i];

		if (k->bound || !dev->queue[i].s.ready)
			continue;
		k->at = at(dev, i);
		k->at.fd = k->fd;
		k->bound = !dev->env->ops->bind_kick(dev->env->vm, &k->at);
	}
}

void virtio_kicks_unbind(struct virtio_device *dev)
{
	for (unsigned i = 0; i < dev->nqueues; i++) {
		struct virtio_kick *k = &dev->kick[i];

		if (k->bound)
			dev->env->ops->unbind_kick(dev->env->vm, &k->at);
		k->bound = false;
	}
}

void virtio_kicks_notify(struct virtio_device *dev, unsigned queue)
{
	(void)eventfd_write(dev->kick[queue].fd, 1);
}

void virtio_kicks_notify_all(struct virtio_device *dev)
{
	for (unsigned i = 0; i < dev->nqueues; i++)
		if (dev->queue[i].s.ready)
			virtio_kicks_notify(dev, i);
}

void virtio_serve(struct virtio_device *dev, unsigned queue, bool elsewhere)
{
	uint64_t bit = 1ull << queue;

	if (!!(dev->elsewhere & bit) == elsewhere)
		return;
	dev->elsewhere ^= bit;
	loop_watch_events(dev->kick[queue].watch, elsewhere ? 0 : EPOLLIN);
}
