/*
 * virtio-config: accesses registers with every width at every offset of every
 * virtio device: reads, writes of all ones and of zero, aligned or not. The
 * machine survives, and the disk works after a reset.
 */
#include "guest/bare/lib/acpi.h"
#include "guest/bare/lib/apic.h"
#include "guest/bare/lib/blk.h"
#include "guest/bare/lib/rt.h"

static struct blk b;
static uint8_t buf[512];

static uint64_t read_wide(uint64_t a, unsigned size)
{
	switch (size) {
	case 1:
		return mmio_r8(a);
	case 2:
		return mmio_r16(a);
	case 4:
		return mmio_r32(a);
	default:
		return *(volatile uint64_t *)a;
	}
}

static void write_wide(uint64_t a, unsigned size, uint64_t v)
{
	switch (size) {
	case 1:
		mmio_w8(a, v);
		break;
	case 2:
		mmio_w16(a, v);
		break;
	case 4:
		mmio_w32(a, v);
		break;
	default:
		*(volatile uint64_t *)a = v;
	}
}

/* Accesses [base, base + len) every step bytes; writes only if writes is set. */
static void sweep(uint64_t base, uint64_t len, unsigned step, bool writes)
{
	for (unsigned size = 1; size <= 8; size *= 2)
		for (uint64_t off = 0; off + size <= len; off += step) {
			uint64_t v = read_wide(base + off, size);
			if (!writes)
				continue;
			write_wide(base + off, size, ~0ull);
			write_wide(base + off, size, 0);
			write_wide(base + off, size, v);
		}
}

static bool works(void)
{
	return blk_start(&b, b.offered & ~F_EVENT_IDX, 8, NO_VECTOR) &&
	       blk_io(&b, BLK_IN, 0, buf, 512) == BLK_S_OK;
}

/* Checks that reads of the device configuration in one, two and four bytes agree. */
static bool widths_agree(const struct vio *v, unsigned len)
{
	for (unsigned i = 0; i + 4 <= len; i += 4) {
		uint32_t d = mmio_r32(v->cfg + i), w = 0, by = 0;
		for (unsigned k = 0; k < 2; k++)
			w |= (uint32_t)mmio_r16(v->cfg + i + 2 * k) << (16 * k);
		for (unsigned k = 0; k < 4; k++)
			by |= (uint32_t)mmio_r8(v->cfg + i + k) << (8 * k);
		if (d != w || d != by)
			return false;
	}
	return true;
}

static void sweep_device(const struct vio *v, uint16_t type)
{
	uint64_t cfg_len = v->cfg_len < 256 ? v->cfg_len : 256;

	if (v->cfg && cfg_len)
		ok(widths_agree(v, (unsigned)(cfg_len < 60 ? cfg_len : 60)),
		   "type %u: bytes, words and dwords of the configuration agree", type);
	if (v->is_pci) {
		sweep(v->common, v->common_len < 64 ? v->common_len : 64, 1, true);
		sweep(v->isr, 8, 1, true);
		if (v->cfg)
			sweep(v->cfg, cfg_len, 1, true);
		if (v->has_msix) {
			sweep(v->msix.table, 16ull * v->msix.count, 3, true);
			sweep(v->msix.pba, 16, 1, true);
			for (unsigned i = 0; i < v->msix.count; i++)
				pci_msix_set(&v->msix, i, 0x5f, true);
		}
		sweep(v->notify, 64, 1, true);
		for (unsigned bar = 0; bar < 6; bar++) {
			uint64_t len, base = pci_bar(v->bdf, bar, &len);
			if (base && len)
				sweep(base, len, len > 4096 ? 251 : 61, true);
		}
	} else {
		sweep(v->mmio, 0x180, 1, true);
	}
	ok(vio_reset(v), "type %u: every width at every offset, then reset", type);
}

void main(void)
{
	static const uint16_t types[] = { VIRTIO_BLK, VIRTIO_RNG, VIRTIO_CONSOLE, VIRTIO_NET };
	struct vio v;
	unsigned found = 0;

	lapic_enable();
	if (blk_find(&b, 0))
		ok(works(), "the disk works at first");
	for (unsigned t = 0; t < 4; t++)
		for (unsigned n = 0; vio_find(types[t], n, &v); n++) {
			found++;
			sweep_device(&v, types[t]);
		}
	if (!ok(found > 0, "%u virtio devices", found))
		return;
	if (b.v.cfg)
		ok(works(), "the disk works afterwards");
	/* An access where no device is reads all ones and breaks nothing. */
	bool ones = true;
	for (uint64_t a = 0xfec01000; a < 0xfec02000; a += 508)
		ones = ones && mmio_r32(a) == 0xffffffff;
	ok(ones, "unclaimed MMIO reads as all ones");
	for (unsigned p = 0; p < 0x10000; p += 4093)
		if (p != acpi.sleep_control.addr && p != acpi.reset.addr && p > 0x1000)
			(void)inl((uint16_t)p);
	ok(inb(0x4f) == 0xff, "an unclaimed port reads as all ones");
}
