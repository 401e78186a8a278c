/*
 * ioapic: the I/O APIC (Intel 82093AA, plus the EOI register of version 0x20).
 *
 * It has 24 pins. When a pin fires, the IOAPIC sends a message to the local APICs in
 * the host kernel. The EOI of a level-triggered vector comes back as a vCPU exit.
 * Thread: vCPU threads access the registers, any thread calls ioapic_set_line; one
 * lock protects the state.
 */
#ifndef BANTAM_IOAPIC_H
#define BANTAM_IOAPIC_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/bus.h"

#define IOAPIC_PINS 24

struct ioapic_ops {
	/* Deliver a message now. */
	void (*message)(void *opaque, uint64_t addr, uint32_t data);
	/*
	 * Report EOIs of this level-triggered pin's message from now on; data 0: stop. The
	 * IOAPIC may repeat a call.
	 */
	void (*watch_eoi)(void *opaque, unsigned pin, uint64_t addr, uint32_t data);
};

/*
 * The state that the guest can see or set, which a snapshot would save. line is part of it: when
 * a device sets its line again after a restore, the level does not change and no edge occurs.
 */
struct ioapic_state {
	uint8_t select;		     /* IOREGSEL */
	uint8_t id;		     /* bits 27:24 of IOAPICID */
	uint64_t entry[IOAPIC_PINS]; /* redirection table, with remote IRR (bit 14) */
	uint32_t line[IOAPIC_PINS];  /* bit n: holder n drives the pin; holders are devices */
};

struct ioapic {
	pthread_mutex_t lock; /* s and watched */
	struct ioapic_state s;
	uint32_t watched; /* bit n: the last watch_eoi call of pin n turned its EOI reports on */
	const struct ioapic_ops *ops;
	void *opaque;
};

void ioapic_init(struct ioapic *io, const struct ioapic_ops *ops, void *opaque);
void ioapic_destroy(struct ioapic *io);

extern const struct bus_ops ioapic_bus_ops; /* opaque: the struct ioapic; 4 KiB */

void ioapic_set_line(struct ioapic *io, unsigned pin, unsigned holder, bool level);
/* Returns true if any pin is unmasked. */
bool ioapic_live(struct ioapic *io);
void ioapic_eoi(struct ioapic *io, uint8_t vector);

#endif
