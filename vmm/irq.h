/*
 * irq: the VM's interrupt routing table. It holds the devices' message-signalled
 * interrupts, and the level-triggered pins of the interrupt controller that bantam
 * emulates, or the pins of one that KVM emulates.
 *
 * Each message has an eventfd, which KVM turns into an interrupt (irqfd) through a
 * GSI route. At each change, KVM replaces the whole table and waits for an SRCU grace
 * period, so irq passes KVM only tables that differ. Any thread; one lock.
 */
#ifndef BANTAM_IRQ_H
#define BANTAM_IRQ_H

#include <pthread.h>
#include <stdint.h>

#include "vmm/kvm.h"

struct kvm_irq_routing_entry; /* <linux/kvm.h> */

#define IRQ_MAX_FIXED 48u

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
	struct kvm_irq_routing_entry *fixed; /* those of irq_set_fixed */
	unsigned nfixed;
};

/* GSIs below npins (arch_traits.npins) are the interrupt controller's; messages use the others. */
void irq_init(struct irq *irq, const struct kvm *kvm, unsigned npins);
void irq_destroy(struct irq *irq);
/*
 * Routes that are part of the table from now on: those that KVM itself has made for its interrupt
 * controller's pins. At most IRQ_MAX_FIXED, which are copied. Returns 0 or -ENOMEM.
 */
int irq_set_fixed(struct irq *irq, const struct kvm_irq_routing_entry *fixed, unsigned n);

/* As in env_ops: return 0 or -errno; irq owns the fd. */
int irq_msi_bind(struct irq *irq, uint64_t addr, uint32_t data, unsigned *id, int *fd);
int irq_msi_update(struct irq *irq, unsigned id, uint64_t addr, uint32_t data);
void irq_msi_unbind(struct irq *irq, unsigned id);

/*
 * Sets the route of a pin. KVM reports the EOI of a level-triggered pin only if the
 * pin has a route. data 0 removes the route. Returns 0 or -errno.
 */
int irq_set_pin(struct irq *irq, unsigned pin, uint64_t addr, uint32_t data);

#endif
