/*
 * fake_driver: the guest's side of a virtio device, on either transport.
 *
 * A driver that starts a device and puts chains on its queues. Tests that misbehave
 * have direct access to every byte of the rings.
 */
#ifndef BANTAM_FAKE_DRIVER_H
#define BANTAM_FAKE_DRIVER_H

#include "tests/unit/fake_env.h"

#define FAKE_F_NEXT 1
#define FAKE_F_WRITE 2
#define FAKE_F_INDIRECT 4

struct fake_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

struct fake_used_elem {
	uint32_t id;
	uint32_t len;
};

/* A split ring in guest memory, and the driver's position in it. */
struct fake_ring {
	struct fake_env *f;
	uint16_t size;
	gpa_t desc_at, avail_at, used_at;
	struct fake_desc *desc;
	uint16_t *avail; /* flags, idx, ring[size], used_event */
	uint16_t *used;	 /* flags, idx, then elements, avail_event */
	uint16_t free;	 /* the next descriptor to use, round robin */
	uint16_t seen;	 /* number of used elements taken */
};

struct fake_driver {
	struct fake_env *f;
	bool pci;
	unsigned slot; /* PCI */
	uint64_t base; /* address of the BAR or the window */
	unsigned gsi;
	struct fake_ring ring[VIRTIO_MAX_QUEUES];
};

struct fake_buf {
	uint64_t addr;
	uint32_t len;
};

void fake_ring_init(struct fake_ring *r, struct fake_env *f, uint16_t size);
/* Makes a chain of direct descriptors available. Returns its head. */
uint16_t fake_ring_add(struct fake_ring *r, const struct fake_buf *out, unsigned nout,
		       const struct fake_buf *in, unsigned nin);
/* Makes a head available, valid or not. */
void fake_ring_offer(struct fake_ring *r, uint16_t head);
/* Takes the next used element. Returns false if there is none. */
bool fake_ring_take(struct fake_ring *r, struct fake_used_elem *e);
/* Takes all that there are now. Returns how many. */
unsigned fake_ring_take_all(struct fake_ring *r);
void fake_ring_set_used_event(struct fake_ring *r, uint16_t event);
uint16_t fake_ring_avail_event(const struct fake_ring *r);

/*
 * Finds the n-th device (from 0) of the transport and switches decoding on. On PCI, with msix,
 * every queue q gets MSI-X vector q + 1 with data q + 1 (configuration: 0).
 */
void fake_driver_find(struct fake_driver *d, struct fake_env *f, unsigned n, bool msix);
/* Access to the registers, the same on both transports. */
void fake_driver_set_status(struct fake_driver *d, uint8_t status);
uint8_t fake_driver_status(struct fake_driver *d);
uint64_t fake_driver_offered(struct fake_driver *d);
void fake_driver_accept(struct fake_driver *d, uint64_t features);
uint32_t fake_driver_config(struct fake_driver *d, uint64_t off, unsigned size_bytes);
void fake_driver_set_config(struct fake_driver *d, uint64_t off, unsigned size_bytes, uint32_t val);
uint8_t fake_driver_generation(struct fake_driver *d);
/* Allocates ring q of this size and enables it. */
void fake_driver_setup_queue(struct fake_driver *d, unsigned q, uint16_t size);
/* Enables queue q with the addresses and size in *r. */
void fake_driver_enable_queue(struct fake_driver *d, unsigned q, const struct fake_ring *r);
/* From reset to DRIVER_OK, with these features (plus VERSION_1) and nqueues rings. Any thread. */
void fake_driver_set_up(struct fake_driver *d, uint64_t features, unsigned nqueues, uint16_t size);
/* The same, then a turn of the loop. */
void fake_driver_start(struct fake_driver *d, uint64_t features, unsigned nqueues, uint16_t size);
/* Notifies the queue, and runs the loop. */
void fake_driver_kick(struct fake_driver *d, unsigned q);
/* Counts and acknowledges queue q's interrupts since the last call (MMIO and INTx: of any kind). */
unsigned fake_driver_irqs(struct fake_driver *d, unsigned q);
unsigned fake_driver_config_irqs(struct fake_driver *d);

#endif
