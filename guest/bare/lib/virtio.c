/* virtio: see virtio.h. */
#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/rt.h"
#include "guest/bare/lib/virtio.h"

/* Common configuration (PCI, section 4.1.4.3) */
#define C_DFSELECT 0x00
#define C_DF 0x04
#define C_GFSELECT 0x08
#define C_GF 0x0c
#define C_STATUS 0x14
#define C_GENERATION 0x15
#define C_QSELECT 0x16
#define C_QSIZE 0x18
#define C_QVECTOR 0x1a
#define C_QENABLE 0x1c
#define C_QNOTIFY 0x1e
#define C_QDESC 0x20
/* Registers (MMIO, section 4.2.2) */
#define M_DF 0x10
#define M_DFSEL 0x14
#define M_GF 0x20
#define M_GFSEL 0x24
#define M_QSEL 0x30
#define M_QMAX 0x34
#define M_QNUM 0x38
#define M_QREADY 0x44
#define M_QNOTIFY 0x50
#define M_ISR 0x60
#define M_ACK 0x64
#define M_STATUS 0x70
#define M_QDESC 0x80
#define M_QAVAIL 0x90
#define M_QUSED 0xa0
#define M_GENERATION 0xfc
#define M_CONFIG 0x100

static bool probe_pci(uint16_t bdf, struct vio *v)
{
	static const unsigned kinds = 5;

	*v = (struct vio){ .is_pci = true, .bdf = bdf };
	for (unsigned cap = pci_find_cap(bdf, PCI_CAP_VENDOR, 0); cap;
	     cap = pci_find_cap(bdf, PCI_CAP_VENDOR, cap)) {
		unsigned kind = pci_read(bdf, cap + 3, 1);
		uint32_t off = pci_read(bdf, cap + 8, 4), len = pci_read(bdf, cap + 12, 4);
		if (kind < 1 || kind >= kinds)
			continue;
		uint64_t bar = pci_bar(bdf, pci_read(bdf, cap + 4, 1), NULL);
		if (!bar)
			return false;
		map_range(bar + off, len);
		if (kind == 1 && !v->common) {
			v->common = bar + off;
			v->common_len = len;
		} else if (kind == 2 && !v->notify) {
			v->notify = bar + off;
			v->notify_mul = pci_read(bdf, cap + 16, 4);
		} else if (kind == 3 && !v->isr) {
			v->isr = bar + off;
		} else if (kind == 4 && !v->cfg) {
			v->cfg = bar + off;
			v->cfg_len = len;
		}
	}
	pci_write(bdf, PCI_COMMAND, 2, pci_read(bdf, PCI_COMMAND, 2) | 6);
	v->has_msix = pci_msix_find(bdf, &v->msix);
	return v->common && v->notify && v->isr;
}

static bool find_pci(uint16_t type, unsigned *nth, struct vio *v)
{
	for (unsigned dev = 0; dev < 32; dev++) {
		uint16_t bdf = (uint16_t)(dev << 3);
		uint32_t id = pci_read(bdf, PCI_VENDOR, 4);
		if (id != (0x1af4u | (0x1040u + type) << 16) || (*nth)--)
			continue;
		return probe_pci(bdf, v);
	}
	return false;
}

static bool find_mmio(uint16_t type, unsigned *nth, struct vio *v)
{
	struct acpi_device d;

	for (unsigned i = 0; acpi_find("LNRO0005", i, &d); i++) {
		map_range(d.base, 0x200);
		if (mmio_r32(d.base) != 0x74726976 || mmio_r32(d.base + 4) != 2 ||
		    mmio_r32(d.base + 8) != type || (*nth)--)
			continue;
		*v = (struct vio){ .mmio = d.base, .gsi = d.gsi, .irq_flags = d.irq_flags };
		v->cfg = d.base + M_CONFIG;
		v->cfg_len = d.len - M_CONFIG;
		return true;
	}
	return false;
}

bool vio_find(uint16_t type, unsigned nth, struct vio *v)
{
	return find_pci(type, &nth, v) || find_mmio(type, &nth, v);
}

uint8_t vio_status(const struct vio *v)
{
	return v->is_pci ? mmio_r8(v->common + C_STATUS) : (uint8_t)mmio_r32(v->mmio + M_STATUS);
}

void vio_set_status(const struct vio *v, uint8_t status)
{
	if (v->is_pci)
		mmio_w8(v->common + C_STATUS, status);
	else
		mmio_w32(v->mmio + M_STATUS, status);
}

bool vio_reset(const struct vio *v)
{
	uint64_t end = now_us() + 5000000;

	vio_set_status(v, 0);
	while (vio_status(v) && now_us() < end)
		relax();
	return vio_status(v) == 0;
}

uint64_t vio_features(const struct vio *v)
{
	uint64_t f = 0;

	for (unsigned word = 0; word < 2; word++) {
		if (v->is_pci) {
			mmio_w32(v->common + C_DFSELECT, word);
			f |= (uint64_t)mmio_r32(v->common + C_DF) << (32 * word);
		} else {
			mmio_w32(v->mmio + M_DFSEL, word);
			f |= (uint64_t)mmio_r32(v->mmio + M_DF) << (32 * word);
		}
	}
	return f;
}

void vio_set_features(const struct vio *v, uint64_t features)
{
	for (unsigned word = 0; word < 2; word++) {
		if (v->is_pci) {
			mmio_w32(v->common + C_GFSELECT, word);
			mmio_w32(v->common + C_GF, features >> (32 * word));
		} else {
			mmio_w32(v->mmio + M_GFSEL, word);
			mmio_w32(v->mmio + M_GF, features >> (32 * word));
		}
	}
}

bool vio_negotiate(const struct vio *v, uint64_t want)
{
	if (!vio_reset(v))
		return false;
	vio_set_status(v, S_ACK);
	vio_set_status(v, S_ACK | S_DRIVER);
	vio_set_features(v, (want | F_VERSION_1) & vio_features(v));
	vio_set_status(v, S_ACK | S_DRIVER | S_FEATURES_OK);
	return vio_status(v) & S_FEATURES_OK;
}

uint32_t vio_isr(const struct vio *v)
{
	if (v->is_pci)
		return mmio_r8(v->isr);
	uint32_t isr = mmio_r32(v->mmio + M_ISR);
	mmio_w32(v->mmio + M_ACK, isr);
	return isr;
}

uint8_t vio_generation(const struct vio *v)
{
	return v->is_pci ? mmio_r8(v->common + C_GENERATION) :
			   (uint8_t)mmio_r32(v->mmio + M_GENERATION);
}

uint64_t vio_config(const struct vio *v, unsigned off, unsigned size)
{
	if (size == 8)
		return mmio_r32(v->cfg + off) | (uint64_t)mmio_r32(v->cfg + off + 4) << 32;
	return size == 1 ? mmio_r8(v->cfg + off) :
	       size == 2 ? mmio_r16(v->cfg + off) :
			   mmio_r32(v->cfg + off);
}

static void select_queue(const struct vio *v, unsigned q)
{
	if (v->is_pci)
		mmio_w16(v->common + C_QSELECT, q);
	else
		mmio_w32(v->mmio + M_QSEL, q);
}

unsigned vio_queue_max(const struct vio *v, unsigned q)
{
	select_queue(v, q);
	return v->is_pci ? mmio_r16(v->common + C_QSIZE) : mmio_r32(v->mmio + M_QMAX);
}

void ring_init(struct ring *r, unsigned n, unsigned size)
{
	static struct vdesc desc[4][RING_MAX] __attribute__((aligned(4096)));
	static uint16_t avail[4][RING_MAX + 3 + 5] __attribute__((aligned(64)));
	static uint64_t used[4][RING_MAX + 2] __attribute__((aligned(64)));

	*r = (struct ring){ .desc = desc[n], .size = size };
	/* Clear only the part in use: a software KVM clears a few bytes per microsecond. */
	memset(desc[n], 0, sizeof(desc[n][0]) * size);
	memset(avail[n], 0, 6 + 2 * size);
	memset(used[n], 0, 6 + 8 * size);
	r->avail = (void *)avail[n];
	r->used = (void *)used[n];
}

static void put64(uint64_t addr, uint64_t v)
{
	mmio_w32(addr, v);
	mmio_w32(addr + 4, v >> 32);
}

void ring_enable_raw(const struct vio *v, unsigned queue, unsigned size, uint64_t desc,
		     uint64_t avail, uint64_t used, unsigned vector)
{
	select_queue(v, queue);
	if (v->is_pci) {
		mmio_w16(v->common + C_QSIZE, size);
		mmio_w16(v->common + C_QVECTOR, vector);
		put64(v->common + C_QDESC, desc);
		put64(v->common + C_QDESC + 8, avail);
		put64(v->common + C_QDESC + 16, used);
		mmio_w16(v->common + C_QENABLE, 1);
	} else {
		mmio_w32(v->mmio + M_QNUM, size);
		put64(v->mmio + M_QDESC, desc);
		put64(v->mmio + M_QAVAIL, avail);
		put64(v->mmio + M_QUSED, used);
		mmio_w32(v->mmio + M_QREADY, 1);
	}
}

void ring_enable(const struct vio *v, struct ring *r, unsigned queue, unsigned vector)
{
	r->queue = queue;
	ring_enable_raw(v, queue, r->size, (uint64_t)r->desc, (uint64_t)r->avail, (uint64_t)r->used,
			vector);
	r->notify = v->is_pci ?
			    v->notify + (uint64_t)mmio_r16(v->common + C_QNOTIFY) * v->notify_mul :
			    v->mmio + M_QNOTIFY;
}

void ring_desc(struct ring *r, unsigned i, const volatile void *addr, uint32_t len, uint16_t flags,
	       uint16_t next)
{
	r->desc[i] = (struct vdesc){ (uint64_t)addr, len, flags, next };
}

void ring_offer(struct ring *r, uint16_t head)
{
	r->avail->ring[r->avail->idx % r->size] = head;
	barrier();
	r->avail->idx++;
}

void ring_kick(const struct vio *v, const struct ring *r)
{
	fence();
	if (v->is_pci)
		mmio_w16(r->notify, r->queue);
	else
		mmio_w32(r->notify, r->queue);
}

bool ring_wait(struct ring *r, unsigned timeout_ms, uint32_t *id, uint32_t *len)
{
	uint64_t end = now_us() + 1000ull * timeout_ms;

	while (r->used->idx == r->last_used)
		if (now_us() >= end)
			return false;
		else
			relax();
	barrier();
	if (id)
		*id = r->used->ring[r->last_used % r->size].id;
	if (len)
		*len = r->used->ring[r->last_used % r->size].len;
	r->last_used++;
	return true;
}
