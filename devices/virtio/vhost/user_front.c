/*
 * vhost/user_front: see vhost/user_front.h.
 *
 * Theory of operation. The queues are served elsewhere (struct virtio_device) from the start: the
 * daemon reads their kicks and writes their interrupts without this process.
 *
 * 1. start, at DRIVER_OK: sends the daemon the memory, the features and each ring that is ready.
 * 2. While the daemon serves, a change of a ring (enabled, its interrupt masked or moved) is one
 *    message.
 * 3. stop, at a reset: takes each ring back. With its answer the daemon no longer touches the ring.
 *
 * The end of a daemon. The loop calls on_end when the connection ends. If a daemon does not answer
 * in time, or its answer is invalid, cut shuts the connection down, which again makes the loop call
 * on_end. So all ends take one path. Between cut and on_end no message is sent, and the guest's
 * requests wait in their rings.
 *
 * 4. on_end closes the connection and takes each queue back: the loop reads its kicks from now on.
 * 5. take_over takes over each ring that the daemon served. The chains that the daemon has popped
 *    and not returned can be found only in the ring (virtq_stranded.h). take_over refuses them one
 *    by one.
 * 6. vhost_user_front_kick refuses what waits in the rings, and at each kick all that comes later,
 *    also after a reset: there is no new connection to a daemon. The buffers of a kept queue (a
 *    card's receive queue) stay in the ring.
 * 7. on_end calls ended: a card's link goes down.
 *
 * Who waits. Messages of a start, a stop and a vector are exchanged in the vCPU's thread, with the device's lock
 * held, for at most vhost_user_timeout_ms in all. The device's loop, which serves other devices, waits for neither:
 * its callbacks come back when the lock is free (virtio_lock_now), and what it tells the daemon (a ring is enabled)
 * asks for no answer. At the end of the machine all devices share env->stop_by_ms. The loop never sends or receives: all
 * messages are errands.
 *
 * A daemon that was cut may still run, with the guest's memory mapped. What it writes there is
 * checked like the guest's own writes.
 */
#include "devices/virtio/vhost/user_front.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "vmm/core/clock.h"
#include "vmm/core/log.h"
#include "vmm/errand/errand.h"

#define HELPER_START_MS 5000u
#define STOP_MIN_MS 100u

/* Give the daemon up because of rc: on_end follows. Thread: any, lock held. */
static void cut(struct vhost_user_front *f, int rc)
{
	if (f->why)
		return;
	/* The loop reports the end of a closed connection anyway. */
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
	/*
	 * At most one queue's size per turn: a driver that adds requests as fast must not keep the
	 * loop to itself.
	 */
	while (left && refuse(f, queue, &chain, virtq_pop(q, &chain, f->iov, VIRTQ_MAX_SIZE)))
		left--;
	if (!left)
		virtio_kick_again(f->vdev, queue);
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

/* The connection has ended. Thread: the loop's. */
static void on_end(void *opaque, uint32_t events)
{
	struct vhost_user_front *f = opaque;

	f->has_ended = true;
	if (!virtio_lock_now(f->vdev))
		return;
	f->has_ended = false;
	if (f->who)
		log_put_for(f->who, LOG_ERROR, "%s: vhost-user daemon at %s: %s; %s",
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
		/*
		 * Refuse what has arrived since, and what waits in a ring that was never sent to
		 * the daemon.
		 */
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

	f->has_err = true;
	if (!virtio_lock_now(f->vdev))
		return;
	f->has_err = false;
	if (f->vdev->active)
		virtio_broken(f->vdev, "the daemon found a broken ring");
	virtio_unlock(f->vdev);
}

/* The device's lock is free again. */
static void again(void *opaque)
{
	struct vhost_user_front *f = opaque;

	if (f->has_err)
		on_err(f);
	if (f->has_ended)
		on_end(f, 0);
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

	if (ring.kick_fd < 0)
		return ring.kick_fd;
	f->ring[queue].call_fd = ring.call_fd;
	f->ring[queue].running = true;
	return vhost_user_start_ring(&f->vu, vdev->env->mem, &ring);
}

void vhost_user_front_start(struct vhost_user_front *f)
{
	int rc;

	if (f->vu.fd < 0 || f->why)
		return;
	/* Before the first message a helper may still be starting: bantam has just started it. */
	vhost_user_limit(&f->vu, f->vu.agreed ? vhost_user_timeout_ms : HELPER_START_MS);
	rc = vhost_user_start(&f->vu, f->vdev->env->mem, f->vdev->s.acked);
	for (unsigned i = 0; i < f->nqueues && !rc; i++)
		if (f->vdev->queue[i].s.ready)
			rc = start_ring(f, i);
	if (rc)
		cut(f, rc);
}

struct enable {
	struct vhost_user_front *f;
	unsigned queue;
};

static void tell_enabled(void *opaque)
{
	const struct enable *e = opaque;
	struct vhost_user_front *f = e->f;
	int rc = vhost_user_enable_ring(&f->vu, e->queue, !f->ring[e->queue].disabled);

	if (rc && rc != -EOPNOTSUPP)
		cut(f, rc);
}

void vhost_user_front_enable(struct vhost_user_front *f, unsigned queue, bool on)
{
	struct enable e = { f, queue };

	if (f->ring[queue].disabled == !on)
		return;
	f->ring[queue].disabled = !on;
	/* Not a long errand: a loop would wait for the daemon of another device, too. */
	if (f->ring[queue].running && !f->why)
		errand_run(tell_enabled, &e);
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
	vhost_user_limit(&f->vu, vhost_user_timeout_ms);
	rc = vhost_user_set_call(&f->vu, queue, fd);
	if (rc)
		cut(f, rc);
}

/* All devices share the time that the end of the machine leaves; the last ones get a little in any case. */
static unsigned stop_limit_ms(const struct vhost_user_front *f)
{
	const uint64_t *stop_by_ms = f->vdev->env->stop_by_ms;
	uint64_t now = clock_now_ms(), left;

	if (!stop_by_ms || !*stop_by_ms)
		return vhost_user_timeout_ms;
	left = *stop_by_ms > now + STOP_MIN_MS ? *stop_by_ms - now : STOP_MIN_MS;
	return left < vhost_user_timeout_ms ? (unsigned)left : vhost_user_timeout_ms;
}

void vhost_user_front_stop(struct vhost_user_front *f)
{
	vhost_user_limit(&f->vu, stop_limit_ms(f));
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
	/* The daemon sends nothing on its own; only its end is an event, which comes once. */
	int rc = loop_watch_fd(loop, f->vu.fd, EPOLLRDHUP | EPOLLET, on_end, f, &f->watch);

	f->vdev->again = again;
	f->vdev->again_opaque = f;
	return rc ? rc : loop_watch_event(loop, on_err, f, &f->err, &f->err_fd);
}

void vhost_user_front_close(struct vhost_user_front *f)
{
	loop_unwatch(f->watch);
	loop_unwatch(f->err);
	f->watch = f->err = NULL;
	vhost_user_close(&f->vu);
}
