/*
 * virtio: the driver's side of modern PCI and MMIO (virtio 1.2, sections 4.1 and 4.2),
 * with rings that a test may fill with any wrong content.
 */
#ifndef GUEST_VIRTIO_H
#define GUEST_VIRTIO_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/bare/lib/pci.h"

#define VIRTIO_NET 1
#define VIRTIO_BLK 2
#define VIRTIO_CONSOLE 3
#define VIRTIO_RNG 4
#define VIRTIO_BALLOON 5
#define VIRTIO_VSOCK 19
#define VIRTIO_FS 26

#define F_INDIRECT (1ull << 28)
#define F_EVENT_IDX (1ull << 29)
#define F_VERSION_1 (1ull << 32)

#define S_ACK 1
#define S_DRIVER 2
#define S_DRIVER_OK 4
#define S_FEATURES_OK 8
#define S_NEEDS_RESET 64

#define NO_VECTOR 0xffff

struct vio {
	bool is_pci;
	uint16_t bdf;
	uint64_t common, notify, isr, cfg; /* PCI: structures in BARs */
	uint64_t common_len, cfg_len;
	uint32_t notify_mul;
	struct pci_msix msix;
	bool has_msix;
	uint64_t mmio; /* MMIO: the register window */
	uint32_t gsi;
	uint8_t irq_flags;
};

/* Finds the nth device of this type, PCI first, then MMIO. Returns false if there is none. */
bool vio_find(uint16_t type, unsigned nth, struct vio *v);

uint8_t vio_status(const struct vio *v);
void vio_set_status(const struct vio *v, uint8_t status);
/* Writes status 0 and waits until it reads back as 0. */
bool vio_reset(const struct vio *v);
uint64_t vio_features(const struct vio *v);
void vio_set_features(const struct vio *v, uint64_t features);
/* Reset, ACKNOWLEDGE, DRIVER, features (masked by the offer), FEATURES_OK. False if refused. */
bool vio_negotiate(const struct vio *v, uint64_t want);
uint32_t vio_isr(const struct vio *v); /* reading acknowledges the interrupt */
uint8_t vio_generation(const struct vio *v);
uint64_t vio_config(const struct vio *v, unsigned off, unsigned size);
unsigned vio_queue_max(const struct vio *v, unsigned q);

/* --- rings ------------------------------------------------------------------ */
#define D_NEXT 1
#define D_WRITE 2
#define D_INDIRECT 4
struct vdesc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};
struct vavail {
	uint16_t flags, idx, ring[];
};
struct vused {
	uint16_t flags, idx;
	struct {
		uint32_t id, len;
	} ring[];
};

#define RING_MAX 1024
struct ring {
	struct vdesc *desc;
	volatile struct vavail *avail;
	volatile struct vused *used;
	unsigned size;
	unsigned queue;
	uint16_t last_used;
	uint64_t notify; /* address of the queue's notify register */
};

/* Lays the ring out, zeroed, in memory slot n (0 … 3). Does not touch the device. */
void ring_init(struct ring *r, unsigned n, unsigned size);
/* Enables the queue with this ring; vector is an MSI-X entry or NO_VECTOR. */
void ring_enable(const struct vio *v, struct ring *r, unsigned queue, unsigned vector);
/* Like ring_enable, with any size and addresses, as a hostile driver does. */
void ring_enable_raw(const struct vio *v, unsigned queue, unsigned size, uint64_t desc,
		     uint64_t avail, uint64_t used, unsigned vector);
void ring_desc(struct ring *r, unsigned i, const volatile void *addr, uint32_t len, uint16_t flags,
	       uint16_t next);
void ring_offer(struct ring *r, uint16_t head);
void ring_kick(const struct vio *v, const struct ring *r);
/* Waits for one more used element. Returns false after timeout_ms. */
bool ring_wait(struct ring *r, unsigned timeout_ms, uint32_t *id, uint32_t *len);

#endif
