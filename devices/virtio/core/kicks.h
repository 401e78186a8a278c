/*
 * virtio/kicks: the eventfds by which a driver notifies its queues, the same on every transport.
 *
 * One eventfd a queue, watched by the device's loop. At DRIVER_OK the transport
 * binds each to the guest's notify address (no exit to userspace); a notify that
 * arrives by the bus instead writes the eventfd. Of a queue that is served
 * elsewhere, its server reads the eventfd. Lock held, but for create and destroy.
 */
#ifndef BANTAM_VIRTIO_KICKS_H
#define BANTAM_VIRTIO_KICKS_H

#include "devices/virtio/core/virtio.h"

/* -errno; destroy frees a half-made set too. Builder; destroy in the loop's thread or builder. */
int virtio_kicks_create(struct virtio_device *dev);
void virtio_kicks_destroy(struct virtio_device *dev);

/* Where a notify of queue is written; the eventfd is filled in by the caller. */
typedef struct kick (*virtio_kick_at)(const struct virtio_device *dev, unsigned queue);

/* Bind every ready queue that is not bound. One that cannot be comes by the bus, only slower. */
void virtio_kicks_bind(struct virtio_device *dev, virtio_kick_at at);
void virtio_kicks_unbind(struct virtio_device *dev);

/* As if the driver had notified queue. */
void virtio_kicks_notify(struct virtio_device *dev, unsigned queue);
/* The same for every ready queue. */
void virtio_kicks_notify_all(struct virtio_device *dev);

#endif
