/*
 * virtio/kicks: see kicks.h.
 *
 * Theory of operation. A queue that this process serves has an eventfd that no other process has: a write to it
 * never waits, since O_NONBLOCK is set and only we can clear it. A server elsewhere (a daemon) gets another
 * eventfd, and shares its O_NONBLOCK and its counter with us: it may clear the one and fill the other, and then a
 * write waits as long as the server likes. So this process never writes that one:
 *
 * - The guest's notify reaches it through KVM (ioeventfd), which never waits.
 * - The kick at the start is the counter's first value.
 * - A notify over the bus (through the configuration window, or where KVM has no room for another address) is
 *   written by the kernel, as the completion of an asynchronous read: see write_in_kernel.
 * - When the queue comes back, the eventfd is closed here, and KVM gets ours instead.
 */
#include "devices/virtio/core/kicks.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmm/errand/errand.h"
#include "vmm/core/fd_rw.h"
#include "vmm/core/thread.h"

static void kicked(void *opaque)
{
	struct virtio_kick *k = opaque;
	struct virtio_device *dev = k->dev;

	k->missed = true;
	if (!virtio_lock_now(dev))
		return;
	k->missed = false;
	/*
	 * The loop may have read this event before virtio_serve gave the queue to a server: the
	 * kick belongs to that server then.
	 */
	if (dev->active && dev->queue[k->index].s.ready && !(dev->elsewhere >> k->index & 1))
		dev->class->kick(dev, k->index);
	virtio_unlock(dev);
}

void virtio_kicks_again(struct virtio_device *dev)
{
	for (unsigned i = 0; i < dev->nqueues; i++)
		if (dev->kick[i].missed)
			kicked(&dev->kick[i]);
}

int virtio_kicks_create(struct virtio_device *dev)
{
	int rc = 0;

	for (unsigned i = 0; i < dev->nqueues && !rc; i++) {
		struct virtio_kick *k = &dev->kick[i];

		*k = (struct virtio_kick){ .dev = dev, .index = i, .lent_fd = -1 };
		rc = loop_watch_event(dev->env->loop, kicked, k, &k->watch, &k->fd);
	}
	return rc;
}

static void close_lent(struct virtio_kick *k)
{
	if (k->lent_fd >= 0)
		close(k->lent_fd);
	k->lent_fd = -1;
}

void virtio_kicks_destroy(struct virtio_device *dev)
{
	for (unsigned i = 0; i < dev->nqueues; i++) {
		if (!dev->kick[i].watch)
			continue;
		close_lent(&dev->kick[i]);
		loop_unwatch(dev->kick[i].watch);
		dev->kick[i].watch = NULL;
	}
}

/* k->at holds the address. */
static void bind(struct virtio_kick *k)
{
	const struct device_env *env = k->dev->env;

	k->at.fd = k->lent_fd >= 0 ? k->lent_fd : k->fd;
	k->bound = !env->ops->bind_kick(env->vm, &k->at);
}

/* Of a device that was never attached, too. */
static void unbind(struct virtio_kick *k)
{
	if (k->bound)
		k->dev->env->ops->unbind_kick(k->dev->env->vm, &k->at);
	k->bound = false;
}

void virtio_kicks_bind(struct virtio_device *dev, virtio_kick_at at)
{
	for (unsigned i = 0; i < dev->nqueues; i++) {
		if (dev->kick[i].bound || !dev->queue[i].s.ready)
			continue;
		dev->kick[i].at = at(dev, i);
		bind(&dev->kick[i]);
	}
}

void virtio_kicks_unbind(struct virtio_device *dev)
{
	for (unsigned i = 0; i < dev->nqueues; i++)
		unbind(&dev->kick[i]);
}

/* --- a server elsewhere ------------------------------------------------------------------ */

int virtio_kick_fd(struct virtio_device *dev, unsigned queue)
{
	struct virtio_kick *k = &dev->kick[queue];
	int fd;

	if (k->lent_fd >= 0)
		return k->lent_fd;
	fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	/* The transport binds the new one when the device is active. */
	unbind(k);
	return k->lent_fd = fd;
}

/* From now on KVM writes our own eventfd. */
static void take_back(struct virtio_kick *k)
{
	bool bound = k->bound && k->lent_fd >= 0;

	/* No watch: the kicks are not created yet, or not any more. */
	if (!k->watch || k->lent_fd < 0)
		return;
	unbind(k);
	close_lent(k);
	if (bound && k->dev->active)
		bind(k);
}

void virtio_kicks_take_back(struct virtio_device *dev)
{
	for (unsigned i = 0; dev->relay && i < dev->nqueues; i++)
		take_back(&dev->kick[i]);
}

void virtio_serve(struct virtio_device *dev, unsigned queue, bool elsewhere)
{
	uint64_t bit = 1ull << queue;

	if (!!(dev->elsewhere & bit) == elsewhere)
		return;
	dev->elsewhere ^= bit;
	if (elsewhere)
		return;
	take_back(&dev->kick[queue]);
	virtio_kick_again(dev, queue);
}

static pthread_mutex_t aio_lock = PTHREAD_MUTEX_INITIALIZER; /* a leaf; protects the next two */
static aio_context_t aio_context;
static int null_fd = -1;

/* 0 or -errno; aio_lock held. What is there already stays. */
static int prepare_aio(void)
{
	if (null_fd < 0)
		null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (null_fd < 0 || (!aio_context && syscall(SYS_io_setup, 1, &aio_context)))
		return -errno;
	return 0;
}

void virtio_kicks_prepare(void)
{
	pthread_mutex_lock(&aio_lock);
	(void)prepare_aio();
	pthread_mutex_unlock(&aio_lock);
}

struct kernel_write {
	int fd, rc;
};

/*
 * Adds 1 to fd's counter without waiting, whatever its flags and its counter are. Only the kernel's own calls of
 * eventfd_signal do that; the one that a program can cause is the end of an asynchronous operation (IOCB_FLAG_RESFD).
 * The operation is a read of /dev/null, which has ended when io_submit returns. rc: 0 or -errno.
 */
static void write_in_kernel(void *opaque)
{
	struct kernel_write *write = opaque;
	struct timespec now = { 0 };
	struct io_event done;
	struct iocb read = { .aio_lio_opcode = IOCB_CMD_PREAD,
			     .aio_flags = IOCB_FLAG_RESFD,
			     .aio_resfd = (uint32_t)write->fd },
		    *list = &read;
	int rc;

	pthread_mutex_lock(&aio_lock);
	/* A confined thread may not make what the host refused at the start (fs.aio-max-nr). */
	rc = aio_context ? 0 : thread_confines() ? -EAGAIN : prepare_aio();
	read.aio_fildes = (uint32_t)null_fd;
	if (!rc && syscall(SYS_io_submit, aio_context, 1, &list) != 1)
		rc = -errno;
	else if (!rc)
		syscall(SYS_io_getevents, aio_context, 0, 1, &done, &now);
	pthread_mutex_unlock(&aio_lock);
	write->rc = rc;
}

/* --- notifies ---------------------------------------------------------------------------- */

void virtio_kick_again(struct virtio_device *dev, unsigned queue)
{
	fd_rw_wake(dev->kick[queue].fd);
}

void virtio_kicks_notify(struct virtio_device *dev, unsigned queue)
{
	struct virtio_kick *k = &dev->kick[queue];
	struct kernel_write write = { 0 };

	/* A device without relays has no queue elsewhere. */
	if (!dev->relay) {
		virtio_kick_again(dev, queue);
		return;
	}
	virtio_lock(dev);
	write.fd = k->lent_fd;
	if (k->lent_fd < 0)
		virtio_kick_again(dev, queue);
	else if (dev->active)
		errand_run(write_in_kernel, &write);
	if (write.rc)
		virtio_broken(dev, "its server cannot be notified: this host's kernel has no "
				   "asynchronous I/O left (see fs.aio-max-nr)");
	virtio_unlock(dev);
}

void virtio_kicks_notify_all(struct virtio_device *dev)
{
	for (unsigned i = 0; i < dev->nqueues; i++)
		if (dev->queue[i].s.ready && dev->kick[i].lent_fd < 0)
			virtio_kick_again(dev, i);
}
