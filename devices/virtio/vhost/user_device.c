/* vhost/user_device: see vhost/user_device.h. */
#include "devices/virtio/vhost/user_device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Bits that belong to the device type; virtio.c offers the transport's bits (section 6). */
#define DEVICE_FEATURES 0xffffffull

static struct vhost_user_front *front_of(struct virtio_device *vdev)
{
	return &((struct vhost_user_device *)vdev)->front;
}

int vhost_user_device_activate(struct virtio_device *vdev)
{
	vhost_user_front_start(front_of(vdev));
	return 0;
}

void vhost_user_device_kick(struct virtio_device *vdev, unsigned queue)
{
	vhost_user_front_kick(front_of(vdev), queue);
}

bool vhost_user_device_reset(struct virtio_device *vdev)
{
	vhost_user_front_stop(front_of(vdev));
	return true;
}

void vhost_user_device_call_changed(struct virtio_device *vdev, unsigned queue)
{
	vhost_user_front_call_changed(front_of(vdev), queue);
}

int vhost_user_device_init(struct vhost_user_device *d, const struct virtio_class *class,
			   const struct device_env *env, const char *what, const char *path,
			   unsigned nqueues, uint16_t queue_size_max, uint64_t wanted,
			   uint32_t config_bytes, struct err *err)
{
	struct vhost_user_front *f = &d->front;
	int rc;

	BUG_ON(nqueues > VHOST_FRONT_MAX_QUEUES || !f->refuse);
	f->vdev = &d->vdev;
	f->nqueues = nqueues;
	f->vu.fd = -1;
	f->who = d->path = strdup(path);
	if (!d->path)
		return err_sys(err, ENOMEM, "%s", what);
	if (env->dry_run) {
		/* Do not connect: many daemons serve one connection and exit. */
		virtio_init(&d->vdev, class, env, nqueues, queue_size_max, wanted & DEVICE_FEATURES,
			    config_bytes);
		return 0;
	}
	rc = vhost_user_open(&f->vu, path, what, err);
	if (rc)
		return rc;
	if (f->vu.queues_max && f->vu.queues_max < nqueues)
		return err_set(err, ENOTSUP, "%s: %s: the daemon serves %llu queues, not %u", what,
			       path, (unsigned long long)f->vu.queues_max, nqueues);
	virtio_init(&d->vdev, class, env, nqueues, queue_size_max,
		    wanted & f->vu.features & DEVICE_FEATURES, config_bytes);
	d->vdev.elsewhere = (1ull << nqueues) - 1;
	/* Drop what virtio_init added if the daemon does not offer it. */
	d->vdev.offered &= f->vu.features;
	if (!(d->vdev.offered >> VIRTIO_F_VERSION_1 & 1))
		return err_set(err, ENOTSUP, "%s: %s: the daemon does not support virtio 1", what,
			       path);
	rc = vhost_user_front_watch(f, env->loop);
	return rc ? err_sys(err, -rc, "%s", what) : 0;
}

void vhost_user_device_destroy(struct device *dev)
{
	struct vhost_user_device *d = (struct vhost_user_device *)dev;

	if (d->vdev.class)
		virtio_detach(&d->vdev);
	vhost_user_front_close(&d->front);
	free(d->path);
	free(d);
}
