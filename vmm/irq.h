/*
 * irq: the VM's interrupt routing table: message-signalled interrupts of
 * devices, and the level-triggered pins of an interrupt controller that bantam
 * keeps itself.
 *
 * Each message is an eventfd that KVM turns into an interrupt (irqfd) by way of
 * a GSI route. KVM replaces the whole table at each change and waits for an
 * SRCU grace period, so nothing is sent that is not needed. Any thread; one lock.
 */
#ifndef BANTAM_IRQ_H
#define BANTAM_IRQ_H

#include <pthread.h>
#include <stdint.h>

#include "vmm/kvm.h"

struct irq_route {
	bool used;
	int fd; /* -1 for pins */
	uint64_t addr;
	uint32_t data;
};

struct irq {
	const struct kvm *kvm;
	pthread_mutex_t lock;
	struct irq_route *route; /* index = GSI; the pins first */
	unsigned nroutes;
	unsigned npins;
};

/* GSIs below npins are the interrupt controller's (arch_traits.npins); messages take those from there. */
void irq_init(struct irq *irq, const struct kvm *kvm, unsigned npins);
void irq_destroy(struct irq *irq);

/* As env_ops: -errno on failure; the fd belongs to irq. */
int irq_msi_bind(struct irq *irq, uint64_t addr, uint32_t data, unsigned *id, int *fd);
int irq_msi_update(struct irq *irq, unsigned id, uint64_t addr, uint32_t data);
void irq_msi_unbind(struct irq *irq, unsigned id);

/*
 * An unmasked level-triggered pin needs a route for KVM to report its EOI;
 * data 0 takes it out.
 */
int irq_set_pin(struct irq *irq, unsigned pin, uint64_t addr, uint32_t data);

#endif
