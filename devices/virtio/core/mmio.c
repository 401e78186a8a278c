/* virtio/mmio: see mmio.h. */
#include "devices/virtio/core/mmio.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/core/kicks.h"

#define MAGIC_VALUE 0x74726976u /* "virt" */
#define VERSION_VALUE 2u
#define VENDOR_VALUE 0x1af4u

/* Section 4.2.2. */
enum {
	MAGIC = 0x000,
	VERSION = 0x004,
	DEVICE_ID = 0x008,
	VENDOR_ID = 0x00c,
	DEVICE_FEATURES = 0x010,
	DEVICE_FEATURES_SEL = 0x014,
	DRIVER_FEATURES = 0x020,
	DRIVER_FEATURES_SEL = 0x024,
	QUEUE_SEL = 0x030,
	QUEUE_NUM_MAX = 0x034,
	QUEUE_NUM = 0x038,
	QUEUE_READY = 0x044,
	QUEUE_NOTIFY = 0x050,
	INTERRUPT_STATUS = 0x060,
	INTERRUPT_ACK = 0x064,
	STATUS = 0x070,
	QUEUE_DESC = 0x080,
	QUEUE_DRIVER = 0x090,
	QUEUE_DEVICE = 0x0a0,
	SHM_LEN = 0x0b0,
	SHM_BASE = 0x0b8,
	CONFIG_GENERATION = 0x0fc,
};

#define INT_QUEUE 1u
#define INT_CONFIG 2u

/* The registers of the transport (4.2.2). A snapshot will save exactly this, beside virtio_state. */
struct virtio_mmio_state {
	uint32_t device_features_sel; /* a word of 32 features, 0 or 1; others read 0 */
	uint32_t driver_features_sel;
	uint32_t queue_sel;	   /* as written; may be the number of no queue */
	uint32_t interrupt_status; /* INT_… bits not acknowledged yet */
};

struct virtio_mmio {
	struct virtio_device *dev;
	struct virtio_mmio_state s;
	uint64_t base; /* guest address of the window */
	unsigned gsi;
	bool on_bus;
};

static struct virtio_mmio *of_dev(const struct virtio_device *dev)
{
	return dev->transport;
}

/*
 * Pulse the line at each interrupt, also if the bit is still set: an edge that comes while the pin
 * is masked is lost, and a later interrupt must produce an edge again.
 */
static void interrupt(struct virtio_mmio *t, uint32_t bit)
{
	const struct device_env *env = t->dev->env;

	t->s.interrupt_status |= bit;
	env->ops->set_line(env->vm, t->gsi, 0, true);
	env->ops->set_line(env->vm, t->gsi, 0, false);
}

static void signal_queue(struct virtio_device *dev, unsigned queue)
{
	interrupt(of_dev(dev), INT_QUEUE);
}

static void signal_config(struct virtio_device *dev)
{
	interrupt(of_dev(dev), INT_CONFIG);
}

/* --- kicks --------------------------------------------------------------------- */

static struct kick kick_at(const struct virtio_device *dev, unsigned queue)
{
	return (struct kick){
		.space = KICK_MMIO,
		.addr = of_dev(dev)->base + QUEUE_NOTIFY,
		.len_bytes = 4,
		.match = true,
		.value = queue,
	};
}

static void activated(struct virtio_device *dev)
{
	virtio_kicks_bind(dev, kick_at);
	virtio_kicks_notify_all(dev);
}

static void reset(struct virtio_device *dev)
{
	struct virtio_mmio *t = of_dev(dev);

	virtio_kicks_take_back(dev);
	t->s.device_features_sel = t->s.driver_features_sel = t->s.queue_sel = 0;
	t->s.interrupt_status = 0;
}

/* --- registers, device's lock held ------------------------------------------------ */

static uint32_t register_read(struct virtio_mmio *t, unsigned off)
{
	struct virtio_device *dev = t->dev;
	const struct virtq *q = virtio_queue(dev, t->s.queue_sel);

	switch (off) {
	case MAGIC:
		return MAGIC_VALUE;
	case VERSION:
		return VERSION_VALUE;
	case DEVICE_ID:
		return dev->class->device_id;
	case VENDOR_ID:
		return VENDOR_VALUE;
	case DEVICE_FEATURES:
		return virtio_offered_word(dev, t->s.device_features_sel);
	case QUEUE_NUM_MAX:
		return q ? q->size_max : 0;
	case QUEUE_READY:
		return q && q->s.ready;
	case INTERRUPT_STATUS:
		return t->s.interrupt_status;
	case STATUS:
		return dev->s.status;
	case SHM_LEN:
	case SHM_LEN + 4:
	case SHM_BASE:
	case SHM_BASE + 4:
		/* Section 4.2.2: a region that does not exist has length -1. */
		return 0xffffffff;
	case CONFIG_GENERATION:
		return dev->s.config_generation;
	default:
		return 0;
	}
}

/* Write a register of the selected queue. */
static void queue_write(struct virtio_mmio *t, unsigned off, uint32_t val)
{
	struct virtio_device *dev = t->dev;
	struct virtq *q = virtio_queue(dev, t->s.queue_sel);

	/* The driver may disable a queue only before DRIVER_OK; after that, only a reset does. */
	if (off == QUEUE_READY && !val) {
		if (q && !dev->resetting && !(dev->s.status & VIRTIO_STATUS_DRIVER_OK))
			q->s.ready = false;
		return;
	}
	q = virtio_queue_setup(dev, t->s.queue_sel);
	if (!q)
		return;
	switch (off) {
	case QUEUE_NUM:
		/* A value too large for the field is stored as 0; virtio_queue_enable rejects 0. */
		q->s.size = val > UINT16_MAX ? 0 : (uint16_t)val;
		break;
	case QUEUE_READY:
		if (val == 1)
			virtio_queue_enable(dev, t->s.queue_sel);
		break;
	case QUEUE_DESC:
	case QUEUE_DESC + 4:
		virtio_set_half(&q->s.desc, (off - QUEUE_DESC) / 4, val);
		break;
	case QUEUE_DRIVER:
	case QUEUE_DRIVER + 4:
		virtio_set_half(&q->s.avail, (off - QUEUE_DRIVER) / 4, val);
		break;
	case QUEUE_DEVICE:
	case QUEUE_DEVICE + 4:
		virtio_set_half(&q->s.used, (off - QUEUE_DEVICE) / 4, val);
		break;
	}
}

static void register_write(struct virtio_mmio *t, unsigned off, uint32_t val)
{
	switch (off) {
	case DEVICE_FEATURES_SEL:
		t->s.device_features_sel = val;
		break;
	case DRIVER_FEATURES:
		virtio_set_features(t->dev, t->s.driver_features_sel, val);
		break;
	case DRIVER_FEATURES_SEL:
		t->s.driver_features_sel = val;
		break;
	case QUEUE_SEL:
		t->s.queue_sel = val;
		break;
	case INTERRUPT_ACK:
		t->s.interrupt_status &= ~val;
		break;
	case STATUS:
		virtio_set_status(t->dev, (uint8_t)val);
		break;
	default:
		queue_write(t, off, val);
	}
}

/*
 * Section 4.2.2.2: registers are aligned dwords; device configuration may be accessed at any width.
 */
static uint64_t mmio_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	struct virtio_mmio *t = opaque;
	uint64_t val = 0;

	virtio_lock(t->dev);
	if (off >= VIRTIO_MMIO_CONFIG) {
		off -= VIRTIO_MMIO_CONFIG;
		val = virtio_config_read(t->dev, off, size_bytes);
		if (size_bytes == 8)
			val |= (uint64_t)virtio_config_read(t->dev, off + 4, 4) << 32;
	} else if (size_bytes == 4 && off % 4 == 0) {
		val = register_read(t, (unsigned)off);
	}
	virtio_unlock(t->dev);
	return val;
}

static void mmio_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	struct virtio_mmio *t = opaque;

	if (off == QUEUE_NOTIFY && size_bytes == 4) {
		if (val < t->dev->nqueues)
			virtio_kicks_notify(t->dev, (unsigned)val);
		return;
	}
	virtio_lock(t->dev);
	if (off >= VIRTIO_MMIO_CONFIG) {
		off -= VIRTIO_MMIO_CONFIG;
		virtio_config_write(t->dev, off, size_bytes, (uint32_t)val);
		if (size_bytes == 8)
			virtio_config_write(t->dev, off + 4, 4, (uint32_t)(val >> 32));
	} else if (size_bytes == 4 && off % 4 == 0) {
		register_write(t, (unsigned)off, (uint32_t)val);
	}
	virtio_unlock(t->dev);
}

static const struct bus_ops mmio_ops = { mmio_read, mmio_write };

/* --- attach and detach -------------------------------------------------------------- */

static void destroy(struct virtio_device *dev)
{
	struct virtio_mmio *t = of_dev(dev);

	/*
	 * First remove what vCPUs can reach: a vCPU that is still in a callback may use the rest.
	 */
	if (t->on_bus)
		bus_remove(dev->env->mmio, t->base);
	virtio_kicks_destroy(dev);
	free(t);
}

static void describe(struct virtio_device *dev, char *buf, size_t len)
{
	const struct virtio_mmio *t = of_dev(dev);

	snprintf(buf, len, "MMIO 0x%llx, GSI %u", (unsigned long long)t->base, t->gsi);
}

static const struct virtio_transport_ops transport_ops = {
	.signal_queue = signal_queue,
	.signal_config = signal_config,
	.activated = activated,
	.reset = reset,
	.destroy = destroy,
	.describe = describe,
};

int virtio_mmio_attach(struct virtio_device *dev, struct virtio_mmio_slots *slots, struct err *err)
{
	struct virtio_mmio *t;
	int rc;

	BUG_ON(slots->stride_bytes < VIRTIO_MMIO_MIN_STRIDE || slots->stride_bytes % 4 ||
	       slots->count > VIRTIO_MMIO_MAX_SLOTS);
	if (slots->used == slots->count)
		return err_set(err, ENOSPC, "virtio-mmio: all %u slots are taken", slots->count);
	t = calloc(1, sizeof(*t));
	if (!t)
		return err_sys(err, ENOMEM, "%s", dev->class->name);
	t->dev = dev;
	t->base = virtio_mmio_window(slots, slots->used);
	t->gsi = slots->gsi[slots->used];
	dev->transport = t;
	rc = virtio_kicks_create(dev);
	if (!rc)
		rc = bus_add(dev->env->mmio, t->base, slots->stride_bytes, &mmio_ops, t);
	if (rc) {
		err_sys(err, -rc, "%s: queues and registers", dev->class->name);
		destroy(dev);
		dev->transport = NULL;
		return rc;
	}
	t->on_bus = true;
	slots->used++;
	dev->transport_ops = &transport_ops;
	return 0;
}
