/*
 * virtio/kicks: the eventfds by which a driver notifies its queues, the same on every transport.
 *
 * One eventfd for each queue, watched by the device's loop. At DRIVER_OK the transport binds each
 * eventfd to the guest's notify address (no exit to userspace); a notify that arrives over the bus
 * instead makes the transport write the eventfd. The server of a queue that is served elsewhere has an
 * eventfd of its own, and reads it itself. The caller holds the device's lock, except in create, destroy and
 * notify.
 */
#ifndef BANTAM_VIRTIO_KICKS_H
#define BANTAM_VIRTIO_KICKS_H

#include "devices/virtio/core/virtio.h"

/*
 * 0 or -errno; destroy also frees a set that create left half-made, and finds all unbound. Thread:
 * the builder creates; the loop's thread or the builder destroys.
 */
int virtio_kicks_create(struct virtio_device *dev);
void virtio_kicks_destroy(struct virtio_device *dev);

/* Returns the guest address of queue's notify; the caller fills in the eventfd. */
typedef struct kick (*virtio_kick_at)(const struct virtio_device *dev, unsigned queue);

/*
 * Bind every ready queue that is not bound. Kicks of a queue that KVM cannot bind arrive over the
 * bus, only slower.
 */
void virtio_kicks_bind(struct virtio_device *dev, virtio_kick_at at);
void virtio_kicks_unbind(struct virtio_device *dev);
/* Serve the kicks that came while the lock was taken. */
void virtio_kicks_again(struct virtio_device *dev);
/* No server has a queue any more. */
void virtio_kicks_take_back(struct virtio_device *dev);

/*
 * Makes now what the first notify over the bus of a queue elsewhere would make, because a confined vCPU cannot. Best
 * effort. Any thread.
 */
void virtio_kicks_prepare(void);

/* The driver has notified queue over the bus. Takes the lock if a server has the queue. Never waits for one. */
void virtio_kicks_notify(struct virtio_device *dev, unsigned queue);
/* Kick every ready queue that this process serves. A server has its first kick (virtio_kick_fd). */
void virtio_kicks_notify_all(struct virtio_device *dev);

#endif
