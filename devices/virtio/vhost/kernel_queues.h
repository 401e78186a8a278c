/*
 * vhost/kernel_queues: queues of a virtio device that the kernel serves; shared by vhost-net and
 * vhost-vsock.
 *
 * One object is one open /dev/vhost-… and two queues of the device, first and first + 1, which the
 * kernel calls 0 and 1. The device sets their bits in virtio_device.elsewhere, and starts and stops
 * the kernel itself: each kind of device has its own ioctl. If the kernel finds a ring broken, the
 * device breaks. Thread: the builder opens and closes; any thread calls the rest, lock held.
 */
#ifndef BANTAM_VHOST_KERNEL_QUEUES_H
#define BANTAM_VHOST_KERNEL_QUEUES_H

#include "devices/backend/vhost/kernel.h"
#include "devices/virtio/core/virtio.h"

#define VHOST_QUEUES 2u

struct vhost_kernel_queues {
	struct vhost_kernel vhost_kernel;
	struct virtio_device *vdev;
	unsigned first;
	bool ready;		/* the kernel knows the rings */
	struct loop_watch *err; /* watches err_fd: the kernel found a broken ring */
	int err_fd;
	int call_fd[VHOST_QUEUES]; /* as last passed to the kernel */
};

/*
 * path as for vhost_kernel_open. 0 or -errno; the caller calls close also after an error. close
 * accepts a zeroed object.
 */
int vhost_kernel_queues_open(struct vhost_kernel_queues *q, struct virtio_device *vdev,
			     const struct device_env *env, const char *path, unsigned first);
void vhost_kernel_queues_close(struct vhost_kernel_queues *q);

/*
 * Called in activate, with both queues ready: passes features and rings to the kernel, which does
 * not serve them yet. 0 or -errno.
 */
int vhost_kernel_queues_start(struct vhost_kernel_queues *q);
/* Called when the kernel no longer serves the rings: forget them. */
void vhost_kernel_queues_stop(struct vhost_kernel_queues *q);
/* For class->call_changed; queues that are not q's are ignored. */
void vhost_kernel_queues_call_changed(struct vhost_kernel_queues *q, unsigned queue);

#endif
