/*
 * vhost/user_device: a virtio device all of whose queues a vhost-user daemon serves: fs, and blk by
 * vhost-user=S.
 *
 * The page fills the configuration space and the offered features, and says how requests are
 * refused; everything else is here and in user_front.
 */
#ifndef BANTAM_VHOST_USER_DEVICE_H
#define BANTAM_VHOST_USER_DEVICE_H

#include "devices/virtio/vhost/user_front.h"

struct vhost_user_device {
	struct virtio_device vdev;     /* first */
	struct vhost_user_front front; /* refuse: the page's, set before init */
	char *path;		       /* the daemon's socket */
};

/*
 * A class for one kind of device; the functions are this module's.
 */
#define VHOST_DEVICE_CLASS(name_, id_, pci_class_)                                                 \
	{                                                                                          \
		.name = name_, .device_id = id_, .pci_class = pci_class_,                          \
		.activate = vhost_user_device_activate, .kick = vhost_user_device_kick,            \
		.reset = vhost_user_device_reset, .call_changed = vhost_user_device_call_changed,  \
	}

int vhost_user_device_activate(struct virtio_device *vdev);
void vhost_user_device_kick(struct virtio_device *vdev, unsigned queue);
bool vhost_user_device_reset(struct virtio_device *vdev);
void vhost_user_device_call_changed(struct virtio_device *vdev, unsigned queue);

/*
 * Connect d (zeroed, but for what is the page's) to the daemon at path, prepare nqueues queues and
 * offer wanted & what the daemon offers. On failure d needs vhost_user_device_destroy all the same.
 * Afterwards the page fills d->vdev.s.config and calls virtio_attach.
 */
int vhost_user_device_init(struct vhost_user_device *d, const struct virtio_class *class,
			   const struct device_env *env, const char *what, const char *path,
			   unsigned nqueues, uint16_t queue_size_max, uint64_t wanted,
			   uint32_t config_bytes, struct err *err);
/* device_ops.destroy of such a device: frees d. */
void vhost_user_device_destroy(struct device *dev);

#endif
