/*
 * vhost/user_front: see vhost/user_front.h.
 *
 * Theory of operation. The queues are served elsewhere (struct virtio_device) from the start: the
 * daemon reads their kicks and writes their interrupts, and nothing passes through here.
 *
 * 1. start, at DRIVER_OK: the daemon is told the memory, the features and each ring that is ready.
 * 2. While it serves, a change of a ring (enabled, its interrupt masked or moved) is one message.
 * 3. stop, at a reset: each ring is taken back. The daemon's answer says that it touches the ring
 *    no more.
 *
 * The death of a daemon. The loop hears the end of the connection (on_end). A daemon that does not
 * answer in time, or answers nonsense, is cut: its connection is shut down, which the loop hears
 * as an end. So there is one way to die. From cut to on_end no message is sent, and the guest's
 * requests wait in their rings.
 *
 * 4. on_end closes the connection and takes each queue back: the loop hears its kicks from now on.
 * 5. A ring that the daemon served is taken over: what it has popped and not returned shows in the
 *    ring only (virtq_stranded.h). These chains are refused, one by one.
 * 6. What waits in the rings is refused, and so is all that comes after, at each kick, also after
 *    a reset: no daemon is started again. The buffers of a kept queue (a card's receive queue)
 *    stay where they are.
 * 7. The page hears of it (ended): a card's link goes down.
 *
 * A daemon that was cut may live on, and has the guest's memory mapped. What it writes there is
 * judged as the guest's own writes are.
 */
#include "devices/virtio/vhost/user_front.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "vmm/core/log.h"

/* The daemon is of no more use: on_end follows. Any thread, lock held. */
static void cut(struct vhost_user_front *f, int rc)
{
	if (f->why)
		return;
	/* A closed connection is heard of anyway. */
	f->why = rc == -EPIPE || rc == -ECONNRESET ? "it ended" : strerror(-rc);
	(void)shutdown(f->vu.fd, SHUT_RDWR);
}

/* --- the daemon is gone ------------------------------------------------------------- */

static bool refuse(struct vhost_user_front *f, unsigned queue, const struct chain *chain, int rc)
{
	struct virtq *q = &f->vdev->queue[queue];

	if (rc < 0)
		virtio_broken(f->vdev, q->s.broken ? q->broken_why : strerror(-rc));
	if (rc > 0)
		virtq_push(q, chain->head, f->refuse(chain));
	return rc > 0;
}

void vhost_user_front_kick(struct vhost_user_front *f, unsigned queue)
{
	struct virtq *q = &f->vdev->queue[queue];
	unsigned left = q->s.size;
	struct chain chain;

	if (f->kept >> queue & 1)
		return;
	/* Not for ever, if the driver adds as fast: others want the loop, too. */
	while (left && refuse(f, queue, &chain, virtq_pop(q, &chain, f->iov, VIRTQ_MAX_SIZE)))
		left--;
	if (!left)
		(void)eventfd_write(virtio_kick_fd(f->vdev, queue), 1);
	virtio_interrupt(f->vdev, queue);
}

static void take_over(struct vhost_user_front *f, unsigned queue)
{
	struct virtq *q = &f->vdev->queue[queue];
	struct chain chain;
	int rc = virtq_take_over(q);

	if (rc)
		refuse(f, queue, NULL, rc);
	while (!rc &&
	       refuse(f, queue, &chain, virtq_pop_outstanding(q, &chain, f->iov, VIRTQ_MAX_SIZE)))
		;
	virtio_interrupt(f->vdev, queue);
}

/* Loop's thread: the connection is at its end. */
static void on_end(void *opaque, uint32_t events)
{
	struct vhost_user_front *f = opaque;

	virtio_lock(f->vdev);
	if (f->who)
		log_put(LOG_ERROR, "%s: vhost-user daemon at %s: %s; %s",
			f->vdev->dev.id[0] ? f->vdev->dev.id : f->vdev->class->name, f->who,
			f->why ? f->why : "it ended",
			f->loss ? f->loss : "the guest's requests fail from now on");
	loop_unwatch(f->watch);
	f->watch = NULL;
	vhost_user_close(&f->vu);
	for (unsigned i = 0; i < f->nqueues; i++) {
		bool running = f->ring[i].running;

		f->ring[i].running = false;
		virtio_serve(f->vdev, i, false);
		if (!f->vdev->active || !f->vdev->queue[i].s.ready || f->kept >> i & 1)
			continue;
		if (running)
			take_over(f, i);
		/* What arrived since, and what a daemon that was never told of the ring left. */
		if (f->vdev->active)
			vhost_user_front_kick(f, i);
	}
	if (f->ended)
		f->ended(f);
	virtio_unlock(f->vdev);
}

static void on_err(void *opaque)
{
	struct vhost_user_front *f = opaque;

	virtio_lock(f->vdev);
	if (f->vdev->active)
		virtio_broken(f->vdev, "the daemon found a broken ring");
	virtio_unlock(f->vdev);
}

/* --- the daemon serves -------------------------------------------------------------- */

static int start_ring(struct vhost_user_front *f, unsigned queue)
{
	struct virtio_device *vdev = f->vdev;
	const struct virtq *q = &vdev->queue[queue];
	struct vhost_user_ring ring = { .index = queue,
					.size = q->s.size,
					.desc = q->s.desc,
					.avail = q->s.avail,
					.used = q->s.used,
					.kick_fd = virtio_kick_fd(vdev, queue),
					.call_fd = virtio_call_fd(vdev, queue),
					.err_fd = f->err_fd,
					.disabled = f->ring[queue].disabled };

	f->ring[queue].call_fd = ring.call_fd;
	f->ring[queue].running = true;
	return vhost_user_start_ring(&f->vu, vdev->env->mem, &ring);
}

void vhost_user_front_start(struct vhost_user_front *f)
{
	int rc;

	if (f->vu.fd < 0 || f->why)
		return;
	rc = vhost_user_start(&f->vu, f->vdev->env->mem, f->vdev->s.acked);
	for (unsigned i = 0; i < f->nqueues && !rc; i++)
		if (f->vdev->queue[i].s.ready)
			rc = start_ring(f, i);
	if (rc)
		cut(f, rc);
}

void vhost_user_front_enable(struct vhost_user_front *f, unsigned queue, bool on)
{
	int rc = 0;

	if (f->ring[queue].disabled == !on)
		return;
	f->ring[queue].disabled = !on;
	if (f->ring[queue].running && !f->why)
		rc = vhost_user_enable_ring(&f->vu, queue, on);
	if (rc && rc != -EOPNOTSUPP)
		cut(f, rc);
}

void vhost_user_front_call_changed(struct vhost_user_front *f, unsigned queue)
{
	int fd, rc;

	if (queue >= f->nqueues || !f->ring[queue].running || f->why)
		return;
	fd = virtio_call_fd(f->vdev, queue);
	if (fd == f->ring[queue].call_fd)
		return;
	f->ring[queue].call_fd = fd;
	rc = vhost_user_set_call(&f->vu, queue, fd);
	if (rc)
		cut(f, rc);
}

void vhost_user_front_stop(struct vhost_user_front *f)
{
	for (unsigned i = 0; i < f->nqueues; i++) {
		int rc = 0;

		if (f->ring[i].running && !f->why)
			rc = vhost_user_stop_ring(&f->vu, i);
		if (rc)
			cut(f, rc);
		f->ring[i].running = false;
	}
}

/* --- life and death ----------------------------------------------------------------- */

int vhost_user_front_watch(struct vhost_user_front *f, struct loop *loop)
{
	/* It says nothing unasked, but that it ends. */
	int rc = loop_watch_fd(loop, f->vu.fd, EPOLLRDHUP, on_end, f, &f->watch);

	return rc ? rc : loop_watch_event(loop, on_err, f, &f->err, &f->err_fd);
}

void vhost_user_front_close(struct vhost_user_front *f)
{
	loop_unwatch(f->watch);
	loop_unwatch(f->err);
	f->watch = f->err = NULL;
	vhost_user_close(&f->vu);
}
