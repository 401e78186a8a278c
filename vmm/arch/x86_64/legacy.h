/*
 * legacy: two 8259s, an 8254 and an I/O APIC in the host kernel, for guests that do without the
 * I/O APIC, the local APIC or its timer (noapic, nolapic, nolapic_timer …).
 *
 * Such a VM has KVM's whole interrupt controller instead of the split one: bantam's own I/O APIC
 * (ioapic.h) is not there, and KVM routes the pins. Threads: the builder creates, any thread sets
 * lines; one lock.
 */
#ifndef BANTAM_LEGACY_H
#define BANTAM_LEGACY_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/arch/arch.h"
#include "vmm/arch/x86_64/ioapic.h"

struct legacy {
	const struct kvm *kvm;
	pthread_mutex_t lock;	    /* line */
	uint32_t line[IOAPIC_PINS]; /* bit n: holder n drives the pin, as in struct ioapic_state */
};

/* Does this host's KVM have these chips? */
bool legacy_possible(const struct kvm *kvm);
/*
 * Creates the chips, right after the VM. Bit n of level_irqs: IRQ n (below 16) is level-triggered,
 * as a BIOS sets it in the ELCR. Returns 0 or -errno with a message.
 */
int legacy_create(const struct kvm *kvm, uint16_t level_irqs, struct err *err);

/* Returns 0 or -ENOMEM. */
int legacy_init(struct legacy *legacy, const struct kvm *kvm, struct irq *irq);
void legacy_destroy(struct legacy *legacy);
void legacy_set_line(struct legacy *legacy, unsigned pin, unsigned holder, bool level);
/* Returns true if any pin of the 8259s or of the I/O APIC is unmasked. */
bool legacy_live(const struct legacy *legacy);

#endif
