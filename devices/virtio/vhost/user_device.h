/*
 * vhost/user_device: a virtio device whose queues are all served by a vhost-user daemon: fs, and
 * blk with vhost-user=SOCKET.
 *
 * The device's file fills the configuration space and the offered features, and supplies the
 * function that refuses requests; everything else is here and in user_front.
 */
#ifndef BANTAM_VHOST_USER_DEVICE_H
#define BANTAM_VHOST_USER_DEVICE_H

#include "devices/virtio/vhost/user_front.h"

struct vhost_user_device {
	struct virtio_device vdev;     /* first */
	struct vhost_user_front front; /* refuse is set by the device's file before init */
	char *path;		       /* the daemon's socket */
};

/* The class of one kind of device; its functions are the four below. */
#define VHOST_USER_DEVICE_CLASS(name_, id_, pci_class_)                                            \
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
 * Connect d (zeroed, except front.refuse, vdev.dev.type and vdev.dev.ops) to the daemon at path,
 * prepare nqueues queues, and offer the features of wanted that the daemon offers too. 0 or -errno;
 * after an error the caller still calls vhost_user_device_destroy. After success the caller fills
 * d->vdev.s.config and calls virtio_attach.
 */
int vhost_user_device_init(struct vhost_user_device *d, const struct virtio_class *class,
			   const struct device_env *env, const char *what, const char *path,
			   unsigned nqueues, uint16_t queue_size_max, uint64_t wanted,
			   uint32_t config_bytes, struct err *err);
/* device_ops.destroy of such a device: frees d. */
void vhost_user_device_destroy(struct device *dev);

#endif
