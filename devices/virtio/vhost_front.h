/*
 * vhost_front: a virtio device whose queues a vhost-user daemon serves.
 *
 * Written once for every kind of device: fs, and blk and net by vhost-user=S.
 * The page of the device fills its configuration space and offered features;
 * everything else is here. The daemon's death leaves the device broken
 * (NEEDS_RESET) and the VM alive. Thread: all talk with the daemon happens in
 * the loop's thread.
 */
#ifndef BANTAM_VHOST_FRONT_H
#define BANTAM_VHOST_FRONT_H

#include "devices/backend/vhost_user.h"
#include "devices/virtio/virtio.h"

#define VHOST_FRONT_MAX_QUEUES 17

struct vhost_front {
	struct virtio_device vdev;	/* first */
	struct vhost_user vu;
	char *path;
	struct loop_watch *watch;	/* the connection: hears its end */
	struct {
		struct vhost_front *front;
		unsigned index;
		struct loop_watch *call_watch;
		int call_fd;
		bool running;		/* the daemon serves it */
	} ring[VHOST_FRONT_MAX_QUEUES];
	struct loop_watch *stop_watch;
	int stop_fd;			/* a write: the loop shall stop the daemon, for a reset */
	bool session;			/* features and memory are told */
	bool stopping;			/* a reset waits for the loop to stop the daemon */
};

/*
 * A class for one kind of device; the functions are vhost_front's.
 */
#define VHOST_FRONT_CLASS(name_, id_, pci_class_)                                              \
	{                                                                                      \
		.name = name_, .device_id = id_, .pci_class = pci_class_,                      \
		.activate = vhost_front_activate, .kick = vhost_front_kick,                    \
		.reset = vhost_front_reset,                                                    \
	}

int vhost_front_activate(struct virtio_device *vdev);
void vhost_front_kick(struct virtio_device *vdev, unsigned queue);
bool vhost_front_reset(struct virtio_device *vdev);

/*
 * Connect f (zeroed) to the daemon at path, prepare nqueues queues and offer wanted & what the
 * daemon offers. On failure f needs vhost_front_destroy all the same. Afterwards the page fills
 * f->vdev.config and calls virtio_attach.
 */
int vhost_front_init(struct vhost_front *f, const struct virtio_class *class,
		     const struct device_env *env, const char *what, const char *path,
		     unsigned nqueues, uint16_t queue_size_max, uint64_t wanted,
		     uint32_t config_bytes, struct err *err);
/* device_ops.destroy of such a device: frees f. */
void vhost_front_destroy(struct device *dev);

#endif
