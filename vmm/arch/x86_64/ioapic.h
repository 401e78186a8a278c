/*
 * ioapic: the I/O APIC (Intel 82093AA, plus the EOI register of version 0x20).
 *
 * 24 pins. A pin that fires becomes a message to the local APICs in the kernel;
 * the EOI of a level-triggered vector comes back as an exit. Register accesses
 * come from vCPU threads, set_line from any; one lock.
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
	/* Level-triggered pin: report EOIs of this message, now (data 0: no more). May repeat. */
	void (*watch_eoi)(void *opaque, unsigned pin, uint64_t addr, uint32_t data);
};

/*
 * What the guest can see or set; a snapshot will save exactly this. line is part of it: a
 * device that drives its line again afterwards changes nothing, so no edge is made up.
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
	uint32_t watched; /* bit n: EOIs of pin n are reported; what watch_eoi was told last */
	const struct ioapic_ops *ops;
	void *opaque;
};

void ioapic_init(struct ioapic *io, const struct ioapic_ops *ops, void *opaque);
void ioapic_destroy(struct ioapic *io);

extern const struct bus_ops ioapic_bus_ops; /* opaque: the struct ioapic; 4 KiB */

void ioapic_set_line(struct ioapic *io, unsigned pin, unsigned holder, bool level);
/* Is any pin unmasked? */
bool ioapic_live(struct ioapic *io);
void ioapic_eoi(struct ioapic *io, uint8_t vector);

#endif
