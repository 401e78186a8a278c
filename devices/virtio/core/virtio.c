/*
 * virtio: see virtio.h. The state machine of section 2.1 and 3.1, for both transports.
 *
 * A reset may have to wait for I/O, and the wait releases the lock. Meanwhile another vCPU of a
 * hostile guest may access the same registers: resetting makes every change of status wait until
 * the first reset is complete, and virtio_queue_setup refuses writes to queue registers.
 *
 * What a class or a transport does when a driver starts, stops or moves something is an errand (errand/errand.h) of the
 * vCPU that holds the lock. The wait for I/O is none: it needs the loop.
 */
#include "devices/virtio/core/virtio.h"

#include <errno.h>
#include <string.h>

#include "vmm/errand/errand.h"
#include "vmm/core/fd_rw.h"
#include "vmm/core/log.h"

void virtio_init(struct virtio_device *dev, const struct virtio_class *class,
		 const struct device_env *env, unsigned nqueues, uint16_t queue_size_max,
		 uint64_t offered, uint32_t config_bytes)
{
	BUG_ON(nqueues > VIRTIO_MAX_QUEUES || config_bytes > VIRTIO_CONFIG_MAX);
	BUG_ON(!queue_size_max || queue_size_max > VIRTQ_MAX_SIZE ||
	       queue_size_max & (queue_size_max - 1));
	dev->class = class;
	dev->env = env;
	pthread_mutex_init(&dev->lock, NULL);
	pthread_cond_init(&dev->reset_cond, NULL);
	dev->nqueues = nqueues;
	for (unsigned i = 0; i < nqueues; i++)
		dev->queue[i].s.size = dev->queue[i].size_max = queue_size_max;
	dev->offered = offered | 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_INDIRECT_DESC |
		       1ull << VIRTIO_F_EVENT_IDX;
	dev->config_bytes = config_bytes;
}

/* The lock is held. A daemon may take its time. */
static void errand(struct virtio_device *dev, void (*fn)(void *opaque))
{
	if (dev->relay)
		errand_run_long(fn, dev);
	else
		errand_run(fn, dev);
}

/* --- queues that are served elsewhere --------------------------------------------- */

int virtio_call_fd(struct virtio_device *dev, unsigned queue)
{
	int fd = dev->transport_ops->call_fd ? dev->transport_ops->call_fd(dev, queue) : -1;

	return fd >= 0 ? fd : dev->relay[queue].fd;
}

static void tell_calls(void *opaque)
{
	struct virtio_device *dev = opaque;

	for (unsigned i = 0; i < dev->nqueues; i++)
		if (dev->queue[i].s.ready)
			dev->class->call_changed(dev, i);
}

void virtio_calls_changed(struct virtio_device *dev)
{
	if (dev->elsewhere && dev->active && dev->class->call_changed)
		errand(dev, tell_calls);
}

/* ----------------------------------------------------------------------------------- */

void virtio_describe(struct virtio_device *dev, char *buf, size_t len)
{
	if (dev->transport_ops)
		dev->transport_ops->describe(dev, buf, len);
	else if (len)
		buf[0] = 0;
}

void virtio_lock(struct virtio_device *dev)
{
	pthread_mutex_lock(&dev->lock);
}

void virtio_unlock(struct virtio_device *dev)
{
	bool relayed = dev->relay;

	/* Without a relay the device may be gone from here on: its destroyer waits for this lock at most. */
	pthread_mutex_unlock(&dev->lock);
	if (relayed && atomic_exchange(&dev->missed, false))
		fd_rw_wake(dev->again_fd);
}

/* The second try: the holder may have left between the first one and the note, and not seen it. */
bool virtio_lock_now(struct virtio_device *dev)
{
	if (!dev->relay) {
		virtio_lock(dev);
		return true;
	}
	if (!pthread_mutex_trylock(&dev->lock))
		return true;
	atomic_store(&dev->missed, true);
	return !pthread_mutex_trylock(&dev->lock);
}

void virtio_interrupt(struct virtio_device *dev, unsigned queue)
{
	if (virtq_wants_interrupt(&dev->queue[queue]) && dev->transport_ops)
		dev->transport_ops->signal_queue(dev, queue);
}

/* Before DRIVER_OK the driver does not expect configuration interrupts (section 2.1.2). */
static void signal_config(struct virtio_device *dev)
{
	if (dev->s.status & VIRTIO_STATUS_DRIVER_OK && dev->transport_ops)
		dev->transport_ops->signal_config(dev);
}

void virtio_config_changed(struct virtio_device *dev)
{
	dev->s.config_generation++;
	signal_config(dev);
}

void virtio_broken(struct virtio_device *dev, const char *why)
{
	dev->active = false;
	if (dev->s.status & VIRTIO_STATUS_NEEDS_RESET)
		return;
	dev->s.status |= VIRTIO_STATUS_NEEDS_RESET;
	log_put_for(dev->dev.id, LOG_WARN, "%s%s%s: stopped until its driver resets it: %s",
		    dev->class->name, dev->dev.id[0] ? " " : "", dev->dev.id, why);
	signal_config(dev);
}

void virtio_reset_done(struct virtio_device *dev)
{
	dev->io_pending = false;
	pthread_cond_broadcast(&dev->reset_cond);
	if (dev->detaching)
		loop_stop(dev->env->loop);
}

/* Wait until no I/O is in flight. A vCPU sleeps; the loop's own thread (in_loop) runs the loop. */
static void wait_for_io(struct virtio_device *dev, bool in_loop)
{
	while (dev->io_pending) {
		if (!in_loop) {
			pthread_cond_wait(&dev->reset_cond, &dev->lock);
			continue;
		}
		virtio_unlock(dev);
		BUG_ON(loop_run(dev->env->loop));
		virtio_lock(dev);
	}
}

static void reset_class(void *opaque)
{
	struct virtio_device *dev = opaque;

	dev->io_pending = true;
	if (dev->class->reset(dev))
		dev->io_pending = false;
}

static void stop(struct virtio_device *dev, bool in_loop)
{
	dev->active = false;
	if (dev->started) {
		dev->started = false;
		errand(dev, reset_class);
	}
	/* Another thread may have stopped the device: wait in that case too. */
	wait_for_io(dev, in_loop);
	for (unsigned i = 0; i < dev->nqueues; i++)
		virtq_reset(&dev->queue[i]);
}

void virtio_stop_last(struct virtio_device *dev)
{
	virtio_lock(dev);
	dev->detaching = true;
	dev->resetting = true;
	/* Wake the vCPUs that wait for a reset, so they return: bus_wait waits for them. */
	pthread_cond_broadcast(&dev->reset_cond);
	stop(dev, true);
	virtio_unlock(dev);
}

static void tell_stopped(void *opaque)
{
	struct virtio_device *dev = opaque;

	dev->env->ops->driver(dev->env->vm, dev->dev.id, false);
}

static void reset_transport(void *opaque)
{
	struct virtio_device *dev = opaque;

	if (dev->transport_ops)
		dev->transport_ops->reset(dev);
}

static void reset(struct virtio_device *dev)
{
	bool started = dev->started;

	dev->resetting = true;
	stop(dev, false);
	if (started)
		errand(dev, tell_stopped);
	dev->s.acked = 0;
	/* Without relays it only changes registers and a line. */
	if (dev->relay)
		errand(dev, reset_transport);
	else
		reset_transport(dev);
	dev->s.status = 0;
	dev->resetting = dev->detaching;
	pthread_cond_broadcast(&dev->reset_cond);
}

static void activate(void *opaque)
{
	struct virtio_device *dev = opaque;
	int rc = dev->class->activate(dev);

	if (rc) {
		virtio_broken(dev, strerror(-rc));
		return;
	}
	dev->started = true;
	dev->env->ops->driver(dev->env->vm, dev->dev.id, true);
	if (dev->s.status & VIRTIO_STATUS_NEEDS_RESET)
		return;
	dev->active = true;
	if (dev->transport_ops)
		dev->transport_ops->activated(dev);
}

static void start(struct virtio_device *dev)
{
	if (!(dev->s.status & VIRTIO_STATUS_FEATURES_OK)) {
		log_put_for(dev->dev.id, LOG_WARN, "%s: DRIVER_OK without FEATURES_OK is ignored",
			    dev->class->name);
		return;
	}
	dev->s.status |= VIRTIO_STATUS_DRIVER_OK;
	if (dev->s.status & VIRTIO_STATUS_NEEDS_RESET) {
		signal_config(dev);
		return;
	}
	/* A driver may have enabled a queue before its features were final. */
	for (unsigned i = 0; i < dev->nqueues; i++)
		dev->queue[i].s.event_idx = virtio_has(dev, VIRTIO_F_EVENT_IDX);
	errand(dev, activate);
}

void virtio_set_status(struct virtio_device *dev, uint8_t status)
{
	uint8_t added;

	while (dev->resetting && !dev->detaching)
		pthread_cond_wait(&dev->reset_cond, &dev->lock);
	if (dev->detaching)
		return;
	if (!status) {
		reset(dev);
		return;
	}
	/* Section 2.1.1: the driver only adds bits. */
	added = status & (uint8_t)~dev->s.status;
	dev->s.status |= added &
			 (VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FAILED);
	/*
	 * Section 3.1.1: the driver reads FEATURES_OK back to learn whether the device accepts
	 * them.
	 */
	if (added & VIRTIO_STATUS_FEATURES_OK && !(dev->s.acked & ~dev->offered) &&
	    virtio_has(dev, VIRTIO_F_VERSION_1))
		dev->s.status |= VIRTIO_STATUS_FEATURES_OK;
	if (added & VIRTIO_STATUS_DRIVER_OK)
		start(dev);
}

void virtio_set_features(struct virtio_device *dev, unsigned word, uint32_t bits)
{
	if (dev->resetting || dev->s.status & VIRTIO_STATUS_FEATURES_OK || word > 1)
		return;
	dev->s.acked &= ~(0xffffffffull << (word * 32));
	dev->s.acked |= (uint64_t)bits << (word * 32);
}

uint32_t virtio_offered_word(const struct virtio_device *dev, uint32_t word)
{
	return word > 1 ? 0 : (uint32_t)(dev->offered >> (word * 32));
}

uint32_t virtio_acked_word(const struct virtio_device *dev, uint32_t word)
{
	return word > 1 ? 0 : (uint32_t)(dev->s.acked >> (word * 32));
}

uint32_t virtio_config_read(struct virtio_device *dev, uint64_t off, unsigned size_bytes)
{
	uint32_t val = 0;

	for (unsigned i = 0; i < size_bytes && i < 4; i++)
		if (off < dev->config_bytes && i < dev->config_bytes - off)
			val |= (uint32_t)dev->s.config[off + i] << (i * 8);
	return val;
}

void virtio_config_write(struct virtio_device *dev, uint64_t off, unsigned size_bytes, uint32_t val)
{
	unsigned i;

	if (!dev->class->write_config || dev->resetting || off >= dev->config_bytes)
		return;
	for (i = 0; i < size_bytes && i < 4 && i < dev->config_bytes - off; i++)
		dev->s.config[off + i] = (uint8_t)(val >> (i * 8));
	if (i)
		dev->class->write_config(dev, (uint32_t)off, i);
}

struct virtq *virtio_queue(struct virtio_device *dev, uint32_t queue)
{
	return queue < dev->nqueues ? &dev->queue[queue] : NULL;
}

struct virtq *virtio_queue_setup(struct virtio_device *dev, uint32_t queue)
{
	struct virtq *q = virtio_queue(dev, queue);

	if (!q || q->s.ready || dev->resetting || dev->s.status & VIRTIO_STATUS_DRIVER_OK)
		return NULL;
	return q;
}

void virtio_queue_enable(struct virtio_device *dev, uint32_t queue)
{
	struct virtq *q = virtio_queue_setup(dev, queue);

	if (q && virtq_enable(q, dev->env->mem, virtio_has(dev, VIRTIO_F_EVENT_IDX)))
		virtio_broken(dev, "a queue of a bad size or address");
}

void virtio_set_half(gpa_t *addr, unsigned half, uint32_t val)
{
	addr->v &= ~(0xffffffffull << (half * 32));
	addr->v |= (uint64_t)val << (half * 32);
}
