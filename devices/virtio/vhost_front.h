/*
 * vhost_front: a virtio device whose queues a vhost-user daemon serves.
 *
 * Written once for every kind of device: fs, and blk and net by vhost-user=S.
 * The page of the device fills its configuration space and offered features, and
 * says how a request is refused; everything else is here. When the daemon is gone,
 * all queues come back, and every request, old and new, is refused: the guest sees
 * errors (a card's link goes down) and the VM lives. Thread: the daemon is talked to with the device's lock
 * held, by whichever thread runs the class function, at most vhost_user_timeout_ms
 * for each message.
 */
#ifndef BANTAM_VHOST_FRONT_H
#define BANTAM_VHOST_FRONT_H

#include "devices/backend/vhost_user.h"
#include "devices/virtio/virtio.h"

#define VHOST_FRONT_MAX_QUEUES 17

struct vhost_front {
	struct virtio_device vdev;	/* first */
	/*
	 * Answer a request that nobody serves any more, as an error; returns the bytes written.
	 * The page's, set before init.
	 */
	uint32_t (*refuse)(const struct chain *chain);
	/* More of the page's, set before init; all may be 0. */
	uint64_t kept;			/* bit n: queue n holds buffers, which are not given back */
	void (*ended)(struct vhost_front *f);	/* the daemon is gone. Loop's thread, lock held */
	const char *loss;		/* what the log says of that; NULL: requests fail */
	unsigned unit;			/* queues that count as one of the daemon's; 0: 1 */
	struct vhost_user vu;		/* fd -1: the daemon is gone */
	char *path;
	struct loop_watch *watch;	/* the connection: hears its end */
	const char *why;		/* we have cut the connection; NULL: no */
	struct {
		bool running;		/* the daemon serves it */
		int call_fd;		/* as the daemon was told last */
	} ring[VHOST_FRONT_MAX_QUEUES];
	struct iovec iov[VIRTQ_MAX_SIZE];	/* of the chain that is refused */
};

/*
 * A class for one kind of device; the functions are vhost_front's.
 */
#define VHOST_FRONT_CLASS(name_, id_, pci_class_)                                              \
	{                                                                                      \
		.name = name_, .device_id = id_, .pci_class = pci_class_,                      \
		.activate = vhost_front_activate, .kick = vhost_front_kick,                    \
		.reset = vhost_front_reset, .call_changed = vhost_front_call_changed,          \
	}

int vhost_front_activate(struct virtio_device *vdev);
void vhost_front_kick(struct virtio_device *vdev, unsigned queue);
bool vhost_front_reset(struct virtio_device *vdev);
void vhost_front_call_changed(struct virtio_device *vdev, unsigned queue);

/*
 * Connect f (zeroed, but for what is the page's) to the daemon at path, prepare nqueues queues and offer
 * wanted & what the daemon offers. On failure f needs vhost_front_destroy all the same. Afterwards
 * the page fills f->vdev.config and calls virtio_attach.
 */
int vhost_front_init(struct vhost_front *f, const struct virtio_class *class,
		     const struct device_env *env, const char *what, const char *path,
		     unsigned nqueues, uint16_t queue_size_max, uint64_t wanted,
		     uint32_t config_bytes, struct err *err);
/* device_ops.destroy of such a device: frees f. */
void vhost_front_destroy(struct device *dev);

#endif
