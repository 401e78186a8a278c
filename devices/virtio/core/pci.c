/*
 * virtio/pci: see pci.h.
 *
 * Locks: the device's lock comes before the PCI host's. The PCI host calls config_written and the
 * BAR handlers without its own lock, so they can take the device's lock first.
 */
#include "devices/virtio/core/pci.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/pci/msix.h"
#include "devices/virtio/core/kicks.h"
#include "vmm/errand/errand.h"
#include "vmm/core/log.h"

/* Section 4.1.4: virtio_pci_cap. */
#define CAP_ID_VENDOR 0x09
enum { CFG_COMMON = 1, CFG_NOTIFY, CFG_ISR, CFG_DEVICE, CFG_PCI };
#define CAP_BAR 4u
#define CAP_OFFSET 8u
#define CAP_LENGTH 12u
#define CAP_DATA 16u

#define ISR_QUEUE 1u
#define ISR_CONFIG 2u

/* Section 4.1.4.3: offsets in virtio_pci_common_cfg. */
enum {
	DEVICE_FEATURE_SELECT = 0x00,
	DEVICE_FEATURE = 0x04,
	DRIVER_FEATURE_SELECT = 0x08,
	DRIVER_FEATURE = 0x0c,
	CONFIG_VECTOR = 0x10,
	NUM_QUEUES = 0x12,
	STATUS = 0x14,
	GENERATION = 0x15,
	QUEUE_SELECT = 0x16,
	QUEUE_SIZE = 0x18,
	QUEUE_VECTOR = 0x1a,
	QUEUE_ENABLE = 0x1c,
	QUEUE_NOTIFY_OFF = 0x1e,
	QUEUE_DESC = 0x20,
	QUEUE_DRIVER = 0x28,
	QUEUE_DEVICE = 0x30,
	/* queue_notify_data and queue_reset (0x38, 0x3a) read 0: not offered. */
};

/*
 * The registers of the transport (4.1.4.3, 4.1.4.5). A snapshot will save exactly this, beside
 * virtio_state and the states of the PCI function and of MSI-X.
 */
struct virtio_pci_state {
	uint32_t device_feature_select; /* a word of 32 features, 0 or 1; others read 0 */
	uint32_t driver_feature_select;
	uint16_t config_vector;		    /* for configuration changes; MSIX_NO_VECTOR: none */
	uint16_t vector[VIRTIO_MAX_QUEUES]; /* for each queue; MSIX_NO_VECTOR: none */
	uint16_t queue_select;		    /* as written; may be the number of no queue */
	uint8_t isr;			    /* ISR_… bits not read yet; MSI-X sets none */
};

struct virtio_pci {
	struct pci_func func;
	struct virtio_device *dev;
	struct pci_msix msix;
	struct virtio_pci_state s;
	unsigned msix_at, pci_cfg_at; /* offsets of these capabilities */
	uint64_t bound_base;	      /* address of the BAR when kicks were bound */
};

static struct virtio_pci *of_dev(const struct virtio_device *dev)
{
	return dev->transport;
}

static struct virtio_pci *of_func(struct pci_func *f)
{
	return (struct virtio_pci *)((char *)f - offsetof(struct virtio_pci, func));
}

/* --- interrupts -------------------------------------------------------------- */

static void update_intx(struct virtio_pci *t)
{
	pci_func_intx(&t->func, t->s.isr && !t->msix.s.enabled);
}

static void interrupt(struct virtio_pci *t, uint16_t vector, uint8_t isr)
{
	if (t->msix.s.enabled) {
		pci_msix_signal(&t->msix, vector);
		return;
	}
	t->s.isr |= isr;
	update_intx(t);
}

static void signal_queue(struct virtio_device *dev, unsigned queue)
{
	struct virtio_pci *t = of_dev(dev);

	interrupt(t, t->s.vector[queue], ISR_QUEUE);
}

static void signal_config(struct virtio_device *dev)
{
	struct virtio_pci *t = of_dev(dev);

	interrupt(t, t->s.config_vector, ISR_CONFIG);
}

/* --- kicks --------------------------------------------------------------------- */

static struct kick kick_at(const struct virtio_device *dev, unsigned queue)
{
	return (struct kick){
		.space = KICK_MMIO,
		.addr = of_dev(dev)->bound_base + VIRTIO_PCI_NOTIFY +
			queue * VIRTIO_PCI_NOTIFY_STEP,
	};
}

/*
 * While decode is off, kicks stay bound: a driver that sizes a BAR switches decode off for a
 * moment.
 */
static void follow_bar(struct virtio_pci *t)
{
	uint64_t base;

	if (!pci_func_bar_base(&t->func, VIRTIO_PCI_BAR, &base))
		return;
	if (base != t->bound_base) {
		virtio_kicks_unbind(t->dev);
		t->bound_base = base;
	}
	if (t->dev->active)
		virtio_kicks_bind(t->dev, kick_at);
}

static void activated(struct virtio_device *dev)
{
	follow_bar(of_dev(dev));
	virtio_kicks_notify_all(dev);
}

static void reset(struct virtio_device *dev)
{
	struct virtio_pci *t = of_dev(dev);

	virtio_kicks_take_back(dev);
	t->s.device_feature_select = t->s.driver_feature_select = 0;
	t->s.queue_select = 0;
	t->s.config_vector = MSIX_NO_VECTOR;
	for (unsigned i = 0; i < dev->nqueues; i++)
		t->s.vector[i] = MSIX_NO_VECTOR;
	t->s.isr = 0;
	pci_msix_clear_pending(&t->msix);
	update_intx(t);
}

/* --- common configuration ----------------------------------------------------------- */

static uint32_t common_dword(const struct virtio_pci *t, unsigned off)
{
	struct virtio_device *dev = t->dev;
	const struct virtq *q = virtio_queue(dev, t->s.queue_select);

	switch (off) {
	case DEVICE_FEATURE_SELECT:
		return t->s.device_feature_select;
	case DEVICE_FEATURE:
		return virtio_offered_word(dev, t->s.device_feature_select);
	case DRIVER_FEATURE_SELECT:
		return t->s.driver_feature_select;
	case DRIVER_FEATURE:
		return virtio_acked_word(dev, t->s.driver_feature_select);
	case CONFIG_VECTOR: /* and NUM_QUEUES */
		return t->s.config_vector | dev->nqueues << 16;
	case STATUS: /* and GENERATION, QUEUE_SELECT */
		return dev->s.status | (uint32_t)dev->s.config_generation << 8 |
		       (uint32_t)t->s.queue_select << 16;
	}
	/* Section 4.1.4.3.1: a queue that does not exist has size 0. */
	if (!q)
		return off == QUEUE_SIZE ? (uint32_t)MSIX_NO_VECTOR << 16 : 0;
	switch (off) {
	case QUEUE_SIZE: /* and QUEUE_VECTOR */
		return q->s.size | (uint32_t)t->s.vector[t->s.queue_select] << 16;
	case QUEUE_ENABLE: /* and QUEUE_NOTIFY_OFF */
		return q->s.ready | (uint32_t)t->s.queue_select << 16;
	case QUEUE_DESC:
		return (uint32_t)q->s.desc.v;
	case QUEUE_DESC + 4:
		return (uint32_t)(q->s.desc.v >> 32);
	case QUEUE_DRIVER:
		return (uint32_t)q->s.avail.v;
	case QUEUE_DRIVER + 4:
		return (uint32_t)(q->s.avail.v >> 32);
	case QUEUE_DEVICE:
		return (uint32_t)q->s.used.v;
	case QUEUE_DEVICE + 4:
		return (uint32_t)(q->s.used.v >> 32);
	default:
		return 0;
	}
}

static uint16_t vector(const struct virtio_pci *t, uint32_t val)
{
	return val < t->msix.s.nvectors ? (uint16_t)val : MSIX_NO_VECTOR;
}

/* Write a register of the selected queue. */
static void queue_write(struct virtio_pci *t, unsigned off, uint32_t val)
{
	struct virtq *q = virtio_queue(t->dev, t->s.queue_select);

	if (!q)
		return;
	if (off == QUEUE_VECTOR) {
		t->s.vector[t->s.queue_select] = vector(t, val);
		virtio_calls_changed(t->dev);
		return;
	}
	q = virtio_queue_setup(t->dev, t->s.queue_select);
	if (!q)
		return;
	switch (off) {
	case QUEUE_SIZE:
		q->s.size = (uint16_t)val;
		break;
	case QUEUE_ENABLE:
		if (val == 1)
			virtio_queue_enable(t->dev, t->s.queue_select);
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

/*
 * Section 4.1.3.1: a driver accesses each field with the field's own width; other writes are
 * dropped.
 */
static unsigned field_bytes(unsigned off)
{
	if (off == STATUS || off == GENERATION)
		return 1;
	if (off >= QUEUE_DESC || off < CONFIG_VECTOR)
		return 4;
	return 2;
}

static void common_write(struct virtio_pci *t, unsigned off, unsigned size_bytes, uint32_t val)
{
	if (size_bytes != field_bytes(off))
		return;
	switch (off) {
	case DEVICE_FEATURE_SELECT:
		t->s.device_feature_select = val;
		break;
	case DRIVER_FEATURE_SELECT:
		t->s.driver_feature_select = val;
		break;
	case DRIVER_FEATURE:
		virtio_set_features(t->dev, t->s.driver_feature_select, val);
		break;
	case CONFIG_VECTOR:
		t->s.config_vector = vector(t, val);
		break;
	case STATUS:
		virtio_set_status(t->dev, (uint8_t)val);
		break;
	case QUEUE_SELECT:
		t->s.queue_select = (uint16_t)val;
		break;
	default:
		queue_write(t, off, val);
	}
}

/* --- the BAR, device's lock held ------------------------------------------------------ */

static uint8_t isr_read(struct virtio_pci *t)
{
	uint8_t isr = t->s.isr;

	t->s.isr = 0;
	update_intx(t);
	return isr;
}

/* Read up to 4 bytes of the first page. Common registers may be read at any width and offset. */
static uint32_t config_page_read(struct virtio_pci *t, uint64_t off, unsigned size_bytes)
{
	uint32_t val = 0;

	if (off >= VIRTIO_PCI_DEVICE)
		return virtio_config_read(t->dev, off - VIRTIO_PCI_DEVICE, size_bytes);
	if (off == VIRTIO_PCI_ISR)
		return isr_read(t);
	for (unsigned i = 0; i < size_bytes; i++, off++)
		if (off < VIRTIO_PCI_COMMON_BYTES)
			val |= (common_dword(t, off & ~3u) >> (off % 4 * 8) & 0xff) << (i * 8);
	return val;
}

static uint64_t locked_read(struct virtio_pci *t, uint64_t off, unsigned size_bytes)
{
	if (off >= VIRTIO_PCI_MSIX_PBA)
		return pci_msix_pba_read(&t->msix, off - VIRTIO_PCI_MSIX_PBA, size_bytes);
	if (off >= VIRTIO_PCI_MSIX_TABLE)
		return pci_msix_table_read(&t->msix, off - VIRTIO_PCI_MSIX_TABLE, size_bytes);
	if (off >= VIRTIO_PCI_NOTIFY)
		return 0;
	if (size_bytes == 8)
		return config_page_read(t, off, 4) | (uint64_t)config_page_read(t, off + 4, 4)
							     << 32;
	return config_page_read(t, off, size_bytes);
}

static void config_page_write(struct virtio_pci *t, uint64_t off, unsigned size_bytes, uint32_t val)
{
	if (off >= VIRTIO_PCI_DEVICE)
		virtio_config_write(t->dev, off - VIRTIO_PCI_DEVICE, size_bytes, val);
	else if (off < VIRTIO_PCI_COMMON_BYTES)
		common_write(t, (unsigned)off, size_bytes, val);
}

static void locked_write(struct virtio_pci *t, uint64_t off, unsigned size_bytes, uint64_t val)
{
	if (off >= VIRTIO_PCI_MSIX_PBA)
		return;
	if (off >= VIRTIO_PCI_MSIX_TABLE) {
		pci_msix_table_write(&t->msix, off - VIRTIO_PCI_MSIX_TABLE, size_bytes, val);
		virtio_calls_changed(t->dev);
		return;
	}
	config_page_write(t, off, size_bytes < 4 ? size_bytes : 4, (uint32_t)val);
	if (size_bytes == 8)
		config_page_write(t, off + 4, 4, (uint32_t)(val >> 32));
}

static uint64_t bar_read(struct pci_func *f, unsigned bar, uint64_t off, unsigned size_bytes)
{
	struct virtio_pci *t = of_func(f);
	uint64_t val;

	virtio_lock(t->dev);
	val = locked_read(t, off, size_bytes);
	virtio_unlock(t->dev);
	return val;
}

static void bar_write(struct pci_func *f, unsigned bar, uint64_t off, unsigned size_bytes,
		      uint64_t val)
{
	struct virtio_pci *t = of_func(f);

	if (off >= VIRTIO_PCI_NOTIFY && off < VIRTIO_PCI_MSIX_TABLE) {
		uint64_t queue = (off - VIRTIO_PCI_NOTIFY) / VIRTIO_PCI_NOTIFY_STEP;

		if (queue < t->dev->nqueues)
			virtio_kicks_notify(t->dev, queue);
		return;
	}
	virtio_lock(t->dev);
	locked_write(t, off, size_bytes, val);
	virtio_unlock(t->dev);
}

/* --- configuration space ---------------------------------------------------------------- */

/*
 * Section 4.1.4.9: the window through which a driver reaches the BAR without mapping it. The guest
 * chose bar, offset and length. Returns false if they name no valid access.
 */
static bool pci_cfg_target(struct virtio_pci *t, unsigned off, unsigned size_bytes, uint64_t *at,
			   unsigned *len)
{
	unsigned data = t->pci_cfg_at + CAP_DATA;

	if (off + size_bytes <= data || off >= data + 4)
		return false;
	*at = pci_func_get(&t->func, t->pci_cfg_at + CAP_OFFSET, 4);
	*len = pci_func_get(&t->func, t->pci_cfg_at + CAP_LENGTH, 4);
	return pci_func_get(&t->func, t->pci_cfg_at + CAP_BAR, 1) == VIRTIO_PCI_BAR &&
	       (*len == 1 || *len == 2 || *len == 4) && *at % *len == 0 &&
	       *at < VIRTIO_PCI_BAR_BYTES;
}

static uint32_t config_read(struct pci_func *f, unsigned off, unsigned size_bytes)
{
	struct virtio_pci *t = of_func(f);
	unsigned len;
	uint64_t at;

	if (pci_cfg_target(t, off, size_bytes, &at, &len))
		pci_func_put(f, t->pci_cfg_at + CAP_DATA, len,
			     (uint32_t)bar_read(f, VIRTIO_PCI_BAR, at, len));
	return pci_func_get(f, off, size_bytes);
}

/* Returns true if what was written concerns only the registers. */
static bool config_same(struct virtio_pci *t, uint16_t control)
{
	uint64_t base;

	return pci_msix_has_control(&t->msix, control) &&
	       (!pci_func_bar_base(&t->func, VIRTIO_PCI_BAR, &base) || base == t->bound_base);
}

static void follow_config(void *opaque)
{
	struct virtio_pci *t = opaque;

	pci_msix_set_control(&t->msix,
			     (uint16_t)pci_func_get(&t->func, t->msix_at + MSIX_CAP_CONTROL, 2));
	virtio_calls_changed(t->dev);
	update_intx(t);
	follow_bar(t);
}

static void config_written(struct pci_func *f, unsigned off, unsigned size_bytes)
{
	struct virtio_pci *t = of_func(f);
	unsigned len;
	uint64_t at;

	if (pci_cfg_target(t, off, size_bytes, &at, &len)) {
		bar_write(f, VIRTIO_PCI_BAR, at, len,
			  pci_func_get(f, t->pci_cfg_at + CAP_DATA, len));
		return;
	}
	virtio_lock(t->dev);
	if (!config_same(t, (uint16_t)pci_func_get(f, t->msix_at + MSIX_CAP_CONTROL, 2))) {
		if (t->dev->relay)
			errand_run_long(follow_config, t);
		else
			errand_run(follow_config, t);
	}
	virtio_unlock(t->dev);
}

static const struct pci_func_ops func_ops = {
	.bar_read = bar_read,
	.bar_write = bar_write,
	.config_read = config_read,
	.config_written = config_written,
};

/*
 * Add a struct virtio_pci_cap; the body leaves out its first two bytes. extra, if not NULL, follows
 * the struct. Returns the capability's offset.
 */
static unsigned add_cap(struct virtio_pci *t, uint8_t type, uint32_t off, uint32_t len,
			const uint32_t *extra, const void *writable)
{
	uint8_t body[18] = { 0 };

	body[0] = extra ? 20 : 16; /* cap_len */
	body[1] = type;
	body[2] = VIRTIO_PCI_BAR;
	memcpy(body + 6, &off, 4);
	memcpy(body + 10, &len, 4);
	if (extra)
		memcpy(body + 14, extra, 4);
	return pci_func_cap(&t->func, CAP_ID_VENDOR, body, writable, body[0] - 2u);
}

static void build_function(struct virtio_pci *t)
{
	const struct virtio_class *class = t->dev->class;
	const uint32_t step = VIRTIO_PCI_NOTIFY_STEP, zero = 0;
	/* The driver may write bar, offset, length and data of the access window. */
	static const uint8_t window[18] = {
		[2] = 0xff,  [6] = 0xff,  [7] = 0xff,  [8] = 0xff,  [9] = 0xff,
		[10] = 0xff, [11] = 0xff, [12] = 0xff, [13] = 0xff, [14] = 0xff,
		[15] = 0xff, [16] = 0xff, [17] = 0xff
	};
	struct pci_func *f = &t->func;

	pci_func_init(f, &func_ops, VIRTIO_PCI_VENDOR,
		      (uint16_t)(VIRTIO_PCI_DEVICE_BASE + class->device_id), class->pci_class);
	/* Section 4.1.2.1: 0x40 or higher. */
	pci_func_subsystem(f, VIRTIO_PCI_VENDOR, (uint8_t)(0x40 + class->device_id));
	pci_func_bar(f, VIRTIO_PCI_BAR, VIRTIO_PCI_BAR_BYTES, 0);
	t->msix_at = pci_msix_cap(&t->msix, f, VIRTIO_PCI_BAR, VIRTIO_PCI_MSIX_TABLE,
				  VIRTIO_PCI_MSIX_PBA);
	add_cap(t, CFG_COMMON, 0, VIRTIO_PCI_COMMON_BYTES, NULL, NULL);
	add_cap(t, CFG_NOTIFY, VIRTIO_PCI_NOTIFY, t->dev->nqueues * step, &step, NULL);
	add_cap(t, CFG_ISR, VIRTIO_PCI_ISR, 1, NULL, NULL);
	if (t->dev->config_bytes)
		add_cap(t, CFG_DEVICE, VIRTIO_PCI_DEVICE, t->dev->config_bytes, NULL, NULL);
	t->pci_cfg_at = add_cap(t, CFG_PCI, 0, 0, &zero, window);
}

static void destroy(struct virtio_device *dev)
{
	struct virtio_pci *t = of_dev(dev);

	/*
	 * First remove what vCPUs can reach: a vCPU that is still in a callback may use the rest.
	 */
	pci_func_remove(&t->func);
	dev->dev.pci = NULL;
	virtio_kicks_destroy(dev);
	pci_msix_destroy(&t->msix);
	free(t);
}

static int call_fd(struct virtio_device *dev, unsigned queue)
{
	return pci_msix_fd(&of_dev(dev)->msix, of_dev(dev)->s.vector[queue]);
}

static void describe(struct virtio_device *dev, char *buf, size_t len)
{
	const struct virtio_pci *t = of_dev(dev);

	snprintf(buf, len, "PCI 00:%02x.0, GSI %u", t->func.slot,
		 pci_host_gsi(t->func.host, t->func.slot));
}

static const struct virtio_transport_ops transport_ops = {
	.signal_queue = signal_queue,
	.signal_config = signal_config,
	.activated = activated,
	.reset = reset,
	.destroy = destroy,
	.call_fd = call_fd,
	.describe = describe,
};

int virtio_pci_attach(struct virtio_device *dev, struct pci_host *host, struct err *err)
{
	struct virtio_pci *t = calloc(1, sizeof(*t));
	int rc;

	if (!t)
		return err_sys(err, ENOMEM, "%s", dev->class->name);
	t->dev = dev;
	dev->transport = t;
	t->s.config_vector = MSIX_NO_VECTOR;
	rc = pci_msix_init(&t->msix, dev->env, dev->nqueues + 1);
	for (unsigned i = 0; i < dev->nqueues; i++)
		t->s.vector[i] = MSIX_NO_VECTOR;
	if (!rc)
		rc = virtio_kicks_create(dev);
	if (rc) {
		err_sys(err, -rc, "%s: queues", dev->class->name);
		goto fail;
	}
	build_function(t);
	rc = pci_func_add(host, &t->func, dev->env->slot, 0, err);
	if (rc)
		goto fail;
	dev->transport_ops = &transport_ops;
	dev->dev.pci = &t->func;
	return 0;
fail:
	destroy(dev);
	dev->transport = NULL;
	return rc;
}
