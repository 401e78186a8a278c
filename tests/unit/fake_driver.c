/* fake_driver: see fake_driver.h. */
#include "tests/unit/fake_driver.h"

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <string.h>

#include "devices/virtio/core/pci.h"

void fake_ring_init(struct fake_ring *r, struct fake_env *f, uint16_t size)
{
	unsigned n = size ? size : 1;

	memset(r, 0, sizeof(*r));
	r->f = f;
	r->size = size;
	r->desc_at = fake_alloc(f, n * 16u);
	r->avail_at = fake_alloc(f, 6 + n * 2u);
	r->used_at = fake_alloc(f, 6 + n * 8u);
	r->desc = fake_at(f, r->desc_at, n * 16u);
	r->avail = fake_at(f, r->avail_at, 6 + n * 2u);
	r->used = fake_at(f, r->used_at, 6 + n * 8u);
}

void fake_ring_offer(struct fake_ring *r, uint16_t head)
{
	r->avail[2 + r->avail[1] % r->size] = head;
	atomic_thread_fence(memory_order_release);
	r->avail[1]++;
}

uint16_t fake_ring_add(struct fake_ring *r, const struct fake_buf *out, unsigned nout,
		       const struct fake_buf *in, unsigned nin)
{
	uint16_t head = r->free;

	for (unsigned i = 0; i < nout + nin; i++) {
		const struct fake_buf *b = i < nout ? &out[i] : &in[i - nout];
		uint16_t next = (uint16_t)((r->free + 1) % r->size);

		r->desc[r->free] = (struct fake_desc){
			b->addr,
			b->len,
			(uint16_t)((i < nout ? 0 : FAKE_F_WRITE) |
				   (i + 1 < nout + nin ? FAKE_F_NEXT : 0)),
			next,
		};
		r->free = next;
	}
	fake_ring_offer(r, head);
	return head;
}

bool fake_ring_take(struct fake_ring *r, struct fake_used_elem *e)
{
	if (r->seen == r->used[1])
		return false;
	atomic_thread_fence(memory_order_acquire);
	memcpy(e, (uint8_t *)r->used + 4 + r->seen % r->size * 8u, 8);
	r->seen++;
	return true;
}

unsigned fake_ring_take_all(struct fake_ring *r)
{
	struct fake_used_elem e;
	unsigned n = 0;

	while (fake_ring_take(r, &e))
		n++;
	return n;
}

void fake_ring_set_used_event(struct fake_ring *r, uint16_t event)
{
	r->avail[2 + r->size] = event;
}

uint16_t fake_ring_avail_event(const struct fake_ring *r)
{
	return r->used[2 + r->size * 4u];
}

static void enable_msix(struct fake_driver *d)
{
	unsigned cap = fake_config_read(d->f, d->slot, PCI_CAP_POINTER, 1);
	unsigned n;

	cr_assert_eq(fake_config_read(d->f, d->slot, cap, 1), 0x11, "MSI-X comes first");
	n = (fake_config_read(d->f, d->slot, cap + 2, 2) & 0x7ff) + 1;
	for (unsigned v = 0; v < n; v++) {
		uint64_t at = d->base + VIRTIO_PCI_MSIX_TABLE + v * 16;

		fake_write(d->f, at, 4, 0xfee00000);
		fake_write(d->f, at + 4, 4, 0);
		fake_write(d->f, at + 8, 4, v);
		fake_write(d->f, at + 12, 4, 0);
	}
	fake_config_write(d->f, d->slot, cap + 2, 2, 0x8000);
}

void fake_driver_find(struct fake_driver *d, struct fake_env *f, unsigned n, bool msix)
{
	memset(d, 0, sizeof(*d));
	d->f = f;
	d->pci = f->env.pci;
	if (!d->pci) {
		d->base = virtio_mmio_window(&f->slots, n);
		d->gsi = f->slots.gsi[n];
		cr_assert_eq(fake_read(f, d->base, 4), 0x74726976);
		return;
	}
	d->slot = n + 1;
	d->gsi = pci_host_gsi(f->env.pci, d->slot);
	cr_assert_eq(fake_config_read(f, d->slot, 0, 2), VIRTIO_PCI_VENDOR);
	d->base = fake_config_read(f, d->slot, PCI_BAR0, 4) & ~0xfu;
	fake_config_write(f, d->slot, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	if (msix)
		enable_msix(d);
}

/* Register offsets on the two transports. */
static uint64_t reg(const struct fake_driver *d, unsigned pci, unsigned mmio)
{
	return d->base + (d->pci ? pci : mmio);
}

void fake_driver_set_status(struct fake_driver *d, uint8_t status)
{
	fake_write(d->f, reg(d, 0x14, 0x70), d->pci ? 1 : 4, status);
}

uint8_t fake_driver_status(struct fake_driver *d)
{
	return (uint8_t)fake_read(d->f, reg(d, 0x14, 0x70), d->pci ? 1 : 4);
}

uint64_t fake_driver_offered(struct fake_driver *d)
{
	uint64_t features = 0;

	for (unsigned w = 0; w < 2; w++) {
		fake_write(d->f, reg(d, 0x00, 0x14), 4, w);
		features |= fake_read(d->f, reg(d, 0x04, 0x10), 4) << (w * 32);
	}
	return features;
}

void fake_driver_accept(struct fake_driver *d, uint64_t features)
{
	for (unsigned w = 0; w < 2; w++) {
		fake_write(d->f, reg(d, 0x08, 0x24), 4, w);
		fake_write(d->f, reg(d, 0x0c, 0x20), 4, (uint32_t)(features >> (w * 32)));
	}
}

uint32_t fake_driver_config(struct fake_driver *d, uint64_t off, unsigned size_bytes)
{
	return (uint32_t)fake_read(d->f, reg(d, VIRTIO_PCI_DEVICE, VIRTIO_MMIO_CONFIG) + off,
				   size_bytes);
}

void fake_driver_set_config(struct fake_driver *d, uint64_t off, unsigned size_bytes, uint32_t val)
{
	fake_write(d->f, reg(d, VIRTIO_PCI_DEVICE, VIRTIO_MMIO_CONFIG) + off, size_bytes, val);
}

uint8_t fake_driver_generation(struct fake_driver *d)
{
	return (uint8_t)fake_read(d->f, reg(d, 0x15, 0xfc), d->pci ? 1 : 4);
}

static void write_addr(struct fake_driver *d, unsigned pci, unsigned mmio, gpa_t at)
{
	fake_write(d->f, reg(d, pci, mmio), 4, (uint32_t)at.v);
	fake_write(d->f, reg(d, pci, mmio) + 4, 4, at.v >> 32);
}

void fake_driver_enable_queue(struct fake_driver *d, unsigned q, const struct fake_ring *r)
{
	fake_write(d->f, reg(d, 0x16, 0x30), d->pci ? 2 : 4, q);
	fake_write(d->f, reg(d, 0x18, 0x38), d->pci ? 2 : 4, r->size);
	write_addr(d, 0x20, 0x80, r->desc_at);
	write_addr(d, 0x28, 0x90, r->avail_at);
	write_addr(d, 0x30, 0xa0, r->used_at);
	if (d->pci)
		fake_write(d->f, d->base + 0x1a, 2, q + 1);
	fake_write(d->f, reg(d, 0x1c, 0x44), d->pci ? 2 : 4, 1);
}

void fake_driver_setup_queue(struct fake_driver *d, unsigned q, uint16_t size)
{
	fake_ring_init(&d->ring[q], d->f, size);
	fake_driver_enable_queue(d, q, &d->ring[q]);
}

void fake_driver_set_up(struct fake_driver *d, uint64_t features, unsigned nqueues, uint16_t size)
{
	fake_driver_set_status(d, 0);
	fake_driver_set_status(d, VIRTIO_STATUS_ACKNOWLEDGE);
	fake_driver_set_status(d, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
	fake_driver_accept(d, features | 1ull << VIRTIO_F_VERSION_1);
	fake_driver_set_status(d, 11);
	cr_assert_eq(fake_driver_status(d), 11, "the device refuses these features");
	if (d->pci)
		fake_write(d->f, d->base + 0x10, 2, 0);
	for (unsigned q = 0; q < nqueues; q++)
		fake_driver_setup_queue(d, q, size);
	fake_driver_set_status(d, 15);
	cr_assert_eq(fake_driver_status(d), 15, "the device does not start");
}

void fake_driver_start(struct fake_driver *d, uint64_t features, unsigned nqueues, uint16_t size)
{
	fake_driver_set_up(d, features, nqueues, size);
	fake_run(d->f);
}

void fake_driver_kick(struct fake_driver *d, unsigned q)
{
	if (d->pci)
		fake_write(d->f, d->base + VIRTIO_PCI_NOTIFY + q * VIRTIO_PCI_NOTIFY_STEP, 2, q);
	else
		fake_write(d->f, d->base + 0x50, 4, q);
	fake_run(d->f);
}

static unsigned line_irqs(struct fake_driver *d)
{
	if (d->pci)
		(void)fake_read(d->f, d->base + VIRTIO_PCI_ISR, 1);
	else
		fake_write(d->f, d->base + 0x64, 4, fake_read(d->f, d->base + 0x60, 4));
	return fake_take_rises(d->f, d->gsi);
}

static bool has_msix(struct fake_driver *d)
{
	unsigned cap = d->pci ? fake_config_read(d->f, d->slot, PCI_CAP_POINTER, 1) : 0;

	return d->pci && fake_config_read(d->f, d->slot, cap + 2, 2) & 0x8000;
}

unsigned fake_driver_irqs(struct fake_driver *d, unsigned q)
{
	return has_msix(d) ? fake_take_msis(d->f, q + 1) : line_irqs(d);
}

unsigned fake_driver_config_irqs(struct fake_driver *d)
{
	return has_msix(d) ? fake_take_msis(d->f, 0) : line_irqs(d);
}
