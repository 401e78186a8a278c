/* vhost/kernel_queues: see vhost/kernel_queues.h. */
#include "devices/virtio/vhost/kernel_queues.h"

static void on_err(void *opaque)
{
	struct vhost_kernel_queues *q = opaque;

	virtio_lock(q->vdev);
	if (q->vdev->active)
		virtio_broken(q->vdev, "the kernel (vhost) found a broken ring");
	virtio_unlock(q->vdev);
}

int vhost_kernel_queues_open(struct vhost_kernel_queues *q, struct virtio_device *vdev,
			     const struct device_env *env, const char *path, unsigned first)
{
	int rc;

	*q = (struct vhost_kernel_queues){
		.vhost_kernel.fd = -1, .vdev = vdev, .first = first, .err_fd = -1
	};
	rc = vhost_kernel_open(&q->vhost_kernel, path, env->mem);
	return rc ? rc : loop_watch_event(env->loop, on_err, q, &q->err, &q->err_fd);
}

void vhost_kernel_queues_close(struct vhost_kernel_queues *q)
{
	if (!q->vdev)
		return;
	vhost_kernel_close(&q->vhost_kernel);
	loop_unwatch(q->err);
	q->vdev = NULL;
}

int vhost_kernel_queues_start(struct vhost_kernel_queues *q)
{
	int rc = vhost_kernel_set_features(&q->vhost_kernel, q->vdev->s.acked);

	for (unsigned i = 0; i < VHOST_QUEUES && !rc; i++) {
		const struct virtq *vq = &q->vdev->queue[q->first + i];
		struct vhost_kernel_ring ring = { .size = vq->s.size, .err_fd = q->err_fd };

		ring.kick_fd = virtio_kick_fd(q->vdev, q->first + i);
		ring.call_fd = q->call_fd[i] = virtio_call_fd(q->vdev, q->first + i);
		virtq_host_parts(vq, &ring.desc, &ring.avail, &ring.used);
		rc = ring.kick_fd < 0 ? ring.kick_fd :
					vhost_kernel_set_ring(&q->vhost_kernel, i, &ring);
	}
	q->ready = !rc;
	return rc;
}

void vhost_kernel_queues_stop(struct vhost_kernel_queues *q)
{
	q->ready = false;
}

void vhost_kernel_queues_call_changed(struct vhost_kernel_queues *q, unsigned queue)
{
	unsigned i = queue - q->first;
	int fd;

	if (!q->ready || i >= VHOST_QUEUES)
		return;
	fd = virtio_call_fd(q->vdev, queue);
	if (fd == q->call_fd[i])
		return;
	if (vhost_kernel_set_call(&q->vhost_kernel, i, fd))
		virtio_broken(q->vdev, "the kernel (vhost) refuses an interrupt");
	q->call_fd[i] = fd;
}
