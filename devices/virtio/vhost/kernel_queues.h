/*
 * vhost/kernel_queues: queues of a virtio device that the kernel serves; what vhost-net and vhost-vsock
 * have in common.
 *
 * One object is one open /dev/vhost-… and two queues of the device, first and first + 1, which
 * the kernel calls 0 and 1. The device names them in virtio_device.elsewhere, and says itself
 * when the kernel begins and ends: each kind has its own way. A ring that the kernel finds
 * broken breaks the device. Thread: the builder opens and closes; the rest: any, lock held.
 */
#ifndef BANTAM_VHOST_KERNEL_QUEUES_H
#define BANTAM_VHOST_KERNEL_QUEUES_H

#include "devices/backend/vhost/kernel.h"
#include "devices/virtio/core/virtio.h"

#define VHOST_QUEUES 2u

struct vhost_kernel_queues {
	struct vhost_kernel vhost;
	struct virtio_device *vdev;
	unsigned first;
	bool ready;		/* the kernel knows the rings */
	struct loop_watch *err; /* a ring is broken */
	int err_fd;
	int call_fd[VHOST_QUEUES]; /* as the kernel was told last */
};

/* path as for vhost_kernel_open. -errno; close is due in every case, and accepts a zeroed object. */
int vhost_kernel_queues_open(struct vhost_kernel_queues *q, struct virtio_device *vdev,
			     const struct device_env *env, const char *path, unsigned first);
void vhost_kernel_queues_close(struct vhost_kernel_queues *q);

/* In activate, both queues ready: features and rings. The kernel serves nothing yet. */
int vhost_kernel_queues_start(struct vhost_kernel_queues *q);
/* The kernel serves them no more: forget the rings. */
void vhost_kernel_queues_stop(struct vhost_kernel_queues *q);
/* For class->call_changed; queues that are not q's are ignored. */
void vhost_kernel_queues_call_changed(struct vhost_kernel_queues *q, unsigned queue);

#endif
