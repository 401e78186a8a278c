/*
 * vhost_front: see vhost_front.h.
 *
 * Theory of operation. Activation tells the daemon nothing yet: every ready
 * queue is kicked soon after, in the loop's thread, and the first kick of a
 * queue hands it over. From then on its kick eventfd is read by the daemon; the
 * daemon's calls come back as an eventfd that the loop turns into an interrupt.
 * A reset comes from a vCPU: it asks the loop by an eventfd, which cannot fail,
 * to stop the daemon, and waits.
 */
#include "devices/virtio/vhost_front.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "vmm/core/log.h"

/* Bits that belong to the device type; transport bits are virtio.c's to offer (section 6). */
#define DEVICE_FEATURES 0xffffffull

static struct vhost_front *front_of(struct virtio_device *vdev)
{
	return (struct vhost_front *)vdev;
}

/* The daemon is of no more use. Lock held. */
static void lose(struct vhost_front *f, const char *why)
{
	if (f->vu.fd < 0)
		return;
	loop_unwatch(f->watch);
	f->watch = NULL;
	vhost_user_close(&f->vu);
	f->session = false;
	for (unsigned i = 0; i < f->vdev.nqueues; i++)
		f->ring[i].running = false;
	log_put(LOG_ERROR, "%s: vhost-user daemon at %s: %s; the device is dead", f->vdev.dev.id,
		f->path, why);
	if (f->vdev.active)
		virtio_broken(&f->vdev, "its vhost-user daemon is gone");
}

static void on_connection(void *opaque, uint32_t events)
{
	struct vhost_front *f = opaque;

	virtio_lock(&f->vdev);
	/* Nothing comes unasked but the end. */
	lose(f, events & (EPOLLHUP | EPOLLERR) ? "it ended" : "it speaks out of turn");
	virtio_unlock(&f->vdev);
}

static void on_call(void *opaque)
{
	struct vhost_front *f = *(struct vhost_front **)opaque;
	unsigned i;

	for (i = 0; &f->ring[i].front != opaque; i++)
		;
	virtio_lock(&f->vdev);
	virtio_interrupt_always(&f->vdev, i);
	virtio_unlock(&f->vdev);
}

int vhost_front_activate(struct virtio_device *vdev)
{
	return front_of(vdev)->vu.fd < 0 ? -ENOTCONN : 0;
}

void vhost_front_kick(struct virtio_device *vdev, unsigned queue)
{
	struct vhost_front *f = front_of(vdev);
	const struct virtq *q = &vdev->queue[queue];
	struct vhost_user_ring ring = { .index = queue, .size = q->size, .desc = q->desc,
					.avail = q->avail, .used = q->used,
					.call_fd = f->ring[queue].call_fd };
	int rc = 0;

	if (f->vu.fd < 0 || f->ring[queue].running || !q->ready || f->stopping)
		return;
	if (!f->session)
		rc = vhost_user_start(&f->vu, vdev->env->mem, vdev->acked);
	f->session = !rc;
	if (!rc) {
		ring.kick_fd = virtio_take_kicks(vdev, queue);
		rc = vhost_user_start_ring(&f->vu, vdev->env->mem, &ring);
		/* The kick that brought us here was for the daemon. */
		eventfd_write(ring.kick_fd, 1);
	}
	f->ring[queue].running = !rc;
	if (rc)
		lose(f, strerror(-rc));
}

/* Loop's thread: the daemon lets go of every ring. */
static void stop(void *opaque)
{
	struct vhost_front *f = opaque;
	int rc = 0;

	virtio_lock(&f->vdev);
	if (!f->stopping) {
		virtio_unlock(&f->vdev);
		return;
	}
	for (unsigned i = 0; i < f->vdev.nqueues; i++) {
		if (f->ring[i].running && !rc)
			rc = vhost_user_stop_ring(&f->vu, i);
		f->ring[i].running = false;
		virtio_return_kicks(&f->vdev, i);
	}
	f->session = false;
	if (rc)
		lose(f, strerror(-rc));
	f->stopping = false;
	virtio_reset_done(&f->vdev);
	virtio_unlock(&f->vdev);
}

bool vhost_front_reset(struct virtio_device *vdev)
{
	struct vhost_front *f = front_of(vdev);

	f->stopping = true;
	(void)eventfd_write(f->stop_fd, 1);
	return false;
}

int vhost_front_init(struct vhost_front *f, const struct virtio_class *class,
		     const struct device_env *env, const char *what, const char *path,
		     unsigned nqueues, uint16_t queue_size_max, uint64_t wanted,
		     uint32_t config_bytes, struct err *err)
{
	int rc;

	BUG_ON(nqueues > VHOST_FRONT_MAX_QUEUES);
	f->vu.fd = -1;
	f->path = strdup(path);
	if (!f->path)
		return err_sys(err, ENOMEM, "%s", what);
	if (env->dry_run) {
		/* Many a daemon serves one connection and ends. */
		virtio_init(&f->vdev, class, env, nqueues, queue_size_max, wanted & DEVICE_FEATURES,
			    config_bytes);
		return 0;
	}
	rc = vhost_user_open(&f->vu, path, what, err);
	if (rc)
		return rc;
	if (f->vu.queues_max && f->vu.queues_max < nqueues)
		return err_set(err, ENOTSUP, "%s: %s: the daemon serves %llu queues, not %u", what,
			       path, (unsigned long long)f->vu.queues_max, nqueues);
	virtio_init(&f->vdev, class, env, nqueues, queue_size_max,
		    wanted & f->vu.features & DEVICE_FEATURES, config_bytes);
	/* What virtio_init adds must be the daemon's too. */
	f->vdev.offered &= f->vu.features;
	if (!(f->vdev.offered >> VIRTIO_F_VERSION_1 & 1))
		return err_set(err, ENOTSUP, "%s: %s: the daemon knows no virtio 1", what, path);
	rc = loop_watch_event(env->loop, stop, f, &f->stop_watch, &f->stop_fd);
	if (!rc)
		rc = loop_watch_fd(env->loop, f->vu.fd, EPOLLIN, on_connection, f,
				   &f->watch);
	for (unsigned i = 0; !rc && i < nqueues; i++) {
		f->ring[i].front = f;
		rc = loop_watch_event(env->loop, on_call, &f->ring[i].front,
				      &f->ring[i].call_watch, &f->ring[i].call_fd);
	}
	return rc ? err_sys(err, -rc, "%s", what) : 0;
}

void vhost_front_destroy(struct device *dev)
{
	struct vhost_front *f = (struct vhost_front *)dev;

	if (f->vdev.class)
		virtio_detach(&f->vdev);
	loop_unwatch(f->watch);
	loop_unwatch(f->stop_watch);
	for (unsigned i = 0; i < VHOST_FRONT_MAX_QUEUES; i++)
		loop_unwatch(f->ring[i].call_watch);
	vhost_user_close(&f->vu);
	free(f->path);
	free(f);
}
