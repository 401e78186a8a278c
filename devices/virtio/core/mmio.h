/*
 * virtio/mmio: a virtio device as memory-mapped registers, version 2 (virtio 1.2, section 4.2).
 *
 * A slot is a window of stride bytes (0x200 or more: registers, then the device's configuration
 * from 0x100) and an edge-triggered interrupt of its own. The transport binds kicks by queue index
 * at DRIVER_OK; they stay bound across a reset (see pci.h).
 *
 * Thread: the builder fills slots; any vCPU accesses the registers, under the device's lock.
 */
#ifndef BANTAM_VIRTIO_MMIO_H
#define BANTAM_VIRTIO_MMIO_H

#include "devices/virtio/core/virtio.h"

#define VIRTIO_MMIO_MAX_SLOTS 32
#define VIRTIO_MMIO_CONFIG 0x100u
#define VIRTIO_MMIO_MIN_STRIDE (VIRTIO_MMIO_CONFIG + VIRTIO_CONFIG_MAX)

/* Plain data. The machine fills it, with used = 0; it outlives the devices. */
struct virtio_mmio_slots {
	uint64_t base;
	uint64_t stride_bytes; /* a multiple of 4, VIRTIO_MMIO_MIN_STRIDE or more */
	unsigned count;	       /* number of slots */
	uint8_t gsi[VIRTIO_MMIO_MAX_SLOTS];
	unsigned used; /* slots 0 … used-1 hold (or held) a device */
};

static inline uint64_t virtio_mmio_window(const struct virtio_mmio_slots *slots, unsigned slot)
{
	return slots->base + slot * slots->stride_bytes;
}

/* Called by virtio_attach: put dev into the next slot. Thread and errors as virtio_pci_attach. */
int virtio_mmio_attach(struct virtio_device *dev, struct virtio_mmio_slots *slots, struct err *err);

#endif
