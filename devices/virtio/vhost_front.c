/*
 * vhost_front: see vhost_front.h.
 *
 * Theory of operation. All queues are elsewhere (struct virtio_device) from the
 * start: the daemon reads their kicks and writes their interrupts, and nothing
 * passes through here. Activation tells it memory and rings, a reset takes them
 * back and waits for that.
 *
 * The daemon's end is heard by the loop, as the end of the connection. Whoever
 * cannot go on with it earlier (no answer, a wrong one) cuts the connection, so
 * that there is one way to die. Then the rings are ours: what the daemon has not
 * answered is refused, and so is all that comes after.
 */
#include "devices/virtio/vhost_front.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "vmm/core/log.h"

/* Bits that belong to the device type; transport bits are virtio.c's to offer (section 6). */
#define DEVICE_FEATURES 0xffffffull

static struct vhost_front *front_of(struct virtio_device *vdev)
{
	return (struct vhost_front *)vdev;
}

/* The daemon is of no more use: on_end follows. Any thread, lock held. */
static void cut(struct vhost_front *f, int rc)
{
	if (f->why)
		return;
	/* A closed connection is heard of anyway. */
	f->why = rc == -EPIPE || rc == -ECONNRESET ? "it ended" : strerror(-rc);
	(void)shutdown(f->vu.fd, SHUT_RDWR);
}

/* --- the daemon is gone ------------------------------------------------------------- */

static bool refuse(struct vhost_front *f, unsigned queue, const struct chain *chain, int rc)
{
	struct virtq *q = &f->vdev.queue[queue];

	if (rc < 0)
		virtio_broken(&f->vdev, q->broken ? q->broken_why : strerror(-rc));
	if (rc > 0)
		virtq_push(q, chain->head, f->refuse(chain));
	return rc > 0;
}

void vhost_front_kick(struct virtio_device *vdev, unsigned queue)
{
	struct vhost_front *f = front_of(vdev);
	struct virtq *q = &vdev->queue[queue];
	unsigned left = q->size;
	struct chain chain;

	if (f->kept >> queue & 1)
		return;
	/* Not for ever, if the driver adds as fast: others want the loop, too. */
	while (left && refuse(f, queue, &chain, virtq_pop(q, &chain, f->iov, VIRTQ_MAX_SIZE)))
		left--;
	if (!left)
		(void)eventfd_write(virtio_kick_fd(vdev, queue), 1);
	virtio_interrupt(vdev, queue);
}

static void take_over(struct vhost_front *f, unsigned queue)
{
	struct virtq *q = &f->vdev.queue[queue];
	struct chain chain;
	int rc = virtq_take_over(q);

	if (rc)
		refuse(f, queue, NULL, rc);
	while (!rc && refuse(f, queue, &chain,
			     virtq_pop_outstanding(q, &chain, f->iov, VIRTQ_MAX_SIZE)))
		;
	virtio_interrupt(&f->vdev, queue);
}

/* Loop's thread: the connection is at its end. */
static void on_end(void *opaque, uint32_t events)
{
	struct vhost_front *f = opaque;

	virtio_lock(&f->vdev);
	log_put(LOG_ERROR, "%s: vhost-user daemon at %s: %s; %s",
		f->vdev.dev.id[0] ? f->vdev.dev.id : f->vdev.class->name, f->path,
		f->why ? f->why : "it ended",
		f->loss ? f->loss : "the guest's requests fail from now on");
	loop_unwatch(f->watch);
	f->watch = NULL;
	vhost_user_close(&f->vu);
	for (unsigned i = 0; i < f->vdev.nqueues; i++) {
		bool running = f->ring[i].running;

		f->ring[i].running = false;
		virtio_serve(&f->vdev, i, false);
		if (!f->vdev.active || !f->vdev.queue[i].ready || f->kept >> i & 1)
			continue;
		if (running)
			take_over(f, i);
		/* What arrived since, and what a daemon that was never told of the ring left. */
		if (f->vdev.active)
			vhost_front_kick(&f->vdev, i);
	}
	if (f->ended)
		f->ended(f);
	virtio_unlock(&f->vdev);
}

/* --- the daemon serves -------------------------------------------------------------- */

static int start_ring(struct vhost_front *f, unsigned queue)
{
	struct virtio_device *vdev = &f->vdev;
	const struct virtq *q = &vdev->queue[queue];
	struct vhost_user_ring ring = { .index = queue, .size = q->size, .desc = q->desc,
					.avail = q->avail, .used = q->used,
					.kick_fd = virtio_kick_fd(vdev, queue),
					.call_fd = virtio_call_fd(vdev, queue) };

	f->ring[queue].call_fd = ring.call_fd;
	f->ring[queue].running = true;
	return vhost_user_start_ring(&f->vu, vdev->env->mem, &ring);
}

int vhost_front_activate(struct virtio_device *vdev)
{
	struct vhost_front *f = front_of(vdev);
	int rc;

	if (f->vu.fd < 0 || f->why)
		return 0;
	rc = vhost_user_start(&f->vu, vdev->env->mem, vdev->acked);
	for (unsigned i = 0; i < vdev->nqueues && !rc; i++)
		if (vdev->queue[i].ready)
			rc = start_ring(f, i);
	if (rc)
		cut(f, rc);
	return 0;
}

void vhost_front_call_changed(struct virtio_device *vdev, unsigned queue)
{
	struct vhost_front *f = front_of(vdev);
	int fd, rc;

	if (!f->ring[queue].running || f->why)
		return;
	fd = virtio_call_fd(vdev, queue);
	if (fd == f->ring[queue].call_fd)
		return;
	f->ring[queue].call_fd = fd;
	rc = vhost_user_set_call(&f->vu, queue, fd);
	if (rc)
		cut(f, rc);
}

bool vhost_front_reset(struct virtio_device *vdev)
{
	struct vhost_front *f = front_of(vdev);

	for (unsigned i = 0; i < vdev->nqueues; i++) {
		int rc = 0;

		if (f->ring[i].running && !f->why)
			rc = vhost_user_stop_ring(&f->vu, i);
		if (rc)
			cut(f, rc);
		f->ring[i].running = false;
	}
	return true;
}

/* --- life and death ----------------------------------------------------------------- */

int vhost_front_init(struct vhost_front *f, const struct virtio_class *class,
		     const struct device_env *env, const char *what, const char *path,
		     unsigned nqueues, uint16_t queue_size_max, uint64_t wanted,
		     uint32_t config_bytes, struct err *err)
{
	unsigned units = f->unit ? nqueues / f->unit : nqueues;
	int rc;

	BUG_ON(nqueues > VHOST_FRONT_MAX_QUEUES || !f->refuse);
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
	if (f->vu.queues_max && f->vu.queues_max < units)
		return err_set(err, ENOTSUP, "%s: %s: the daemon serves %llu queues, not %u", what,
			       path, (unsigned long long)f->vu.queues_max, units);
	virtio_init(&f->vdev, class, env, nqueues, queue_size_max,
		    wanted & f->vu.features & DEVICE_FEATURES, config_bytes);
	f->vdev.elsewhere = (1ull << nqueues) - 1;
	/* What virtio_init adds must be the daemon's too. */
	f->vdev.offered &= f->vu.features;
	if (!(f->vdev.offered >> VIRTIO_F_VERSION_1 & 1))
		return err_set(err, ENOTSUP, "%s: %s: the daemon knows no virtio 1", what, path);
	/* It says nothing unasked, but that it ends. */
	rc = loop_watch_fd(env->loop, f->vu.fd, EPOLLRDHUP, on_end, f, &f->watch);
	return rc ? err_sys(err, -rc, "%s", what) : 0;
}

void vhost_front_destroy(struct device *dev)
{
	struct vhost_front *f = (struct vhost_front *)dev;

	if (f->vdev.class)
		virtio_detach(&f->vdev);
	loop_unwatch(f->watch);
	vhost_user_close(&f->vu);
	free(f->path);
	free(f);
}
