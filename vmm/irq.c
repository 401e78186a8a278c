/* irq: see irq.h. */
#include "vmm/irq.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* All vectors of all devices that fit on a bus need far fewer. */
#define IRQ_MAX_ROUTES 2048u

void irq_init(struct irq *irq, const struct kvm *kvm, unsigned npins)
{
	*irq = (struct irq){ .kvm = kvm, .npins = npins };
	pthread_mutex_init(&irq->lock, NULL);
}

void irq_destroy(struct irq *irq)
{
	for (unsigned i = 0; i < irq->nroutes; i++)
		if (irq->route[i].used && irq->route[i].fd >= 0)
			close(irq->route[i].fd);
	free(irq->route);
	free(irq->fixed);
	irq->route = NULL;
	irq->fixed = NULL;
	irq->nfixed = 0;
	irq->nroutes = 0;
	pthread_mutex_destroy(&irq->lock);
}

int irq_set_fixed(struct irq *irq, const struct kvm_irq_routing_entry *fixed, unsigned n)
{
	BUG_ON(irq->fixed || n > IRQ_MAX_FIXED);
	irq->fixed = malloc(n * sizeof(*fixed));
	if (!irq->fixed)
		return -ENOMEM;
	memcpy(irq->fixed, fixed, n * sizeof(*fixed));
	irq->nfixed = n;
	return 0;
}

/* Passes the current table to KVM. Lock held. */
static int commit(struct irq *irq)
{
	struct kvm_irq_routing *table;
	int rc;

	table = calloc(1,
		       sizeof(*table) + (irq->nfixed + irq->nroutes) * sizeof(table->entries[0]));
	if (!table)
		return -ENOMEM;
	for (; table->nr < irq->nfixed; table->nr++)
		table->entries[table->nr] = irq->fixed[table->nr];
	for (unsigned i = 0; i < irq->nroutes; i++) {
		const struct irq_route *r = &irq->route[i];

		if (!r->used)
			continue;
		table->entries[table->nr++] = (struct kvm_irq_routing_entry){
			.gsi = i,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi = { .address_lo = (uint32_t)r->addr,
				   .address_hi = (uint32_t)(r->addr >> 32),
				   .data = r->data },
		};
	}
	rc = kvm_set_routes(irq->kvm, table);
	free(table);
	return rc < 0 ? rc : 0;
}

/* Enlarges the table until it holds gsi. Lock held. */
static int reach(struct irq *irq, unsigned gsi)
{
	unsigned n = irq->nroutes ? irq->nroutes : irq->npins + 8;
	struct irq_route *grown;

	if (gsi < irq->nroutes)
		return 0;
	if (gsi >= IRQ_MAX_ROUTES)
		return -ENOSPC;
	while (n <= gsi)
		n *= 2;
	grown = realloc(irq->route, n * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	memset(grown + irq->nroutes, 0, (n - irq->nroutes) * sizeof(*grown));
	irq->route = grown;
	irq->nroutes = n;
	return 0;
}

static int bind_locked(struct irq *irq, uint64_t addr, uint32_t data, unsigned *id, int *fd)
{
	unsigned gsi = irq->npins;
	struct irq_route *r;
	int rc;

	*fd = -1;
	while (gsi < irq->nroutes && irq->route[gsi].used)
		gsi++;
	rc = reach(irq, gsi);
	if (rc)
		return rc;
	*fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (*fd < 0)
		return -errno;
	r = &irq->route[gsi];
	*r = (struct irq_route){ true, *fd, addr, data };
	rc = commit(irq);
	if (!rc)
		rc = kvm_irqfd(irq->kvm, *fd, gsi, true);
	if (rc < 0) {
		close(*fd);
		*fd = -1;
		*r = (struct irq_route){ .fd = -1 };
		return rc;
	}
	*id = gsi;
	return 0;
}

int irq_msi_bind(struct irq *irq, uint64_t addr, uint32_t data, unsigned *id, int *fd)
{
	int rc;

	pthread_mutex_lock(&irq->lock);
	rc = bind_locked(irq, addr, data, id, fd);
	pthread_mutex_unlock(&irq->lock);
	return rc;
}

/* Changes a route, and passes the table to KVM if the route differs. Lock held. */
static int set(struct irq *irq, unsigned gsi, bool used, uint64_t addr, uint32_t data)
{
	struct irq_route *r = &irq->route[gsi], old = *r;
	int rc;

	if (r->used == used && (!used || (r->addr == addr && r->data == data)))
		return 0;
	*r = (struct irq_route){ used, r->fd, addr, data };
	rc = commit(irq);
	/* Undo a change that KVM refuses: it would make other devices' changes fail too. */
	if (rc)
		*r = old;
	return rc;
}

int irq_msi_update(struct irq *irq, unsigned id, uint64_t addr, uint32_t data)
{
	int rc;

	pthread_mutex_lock(&irq->lock);
	BUG_ON(id >= irq->nroutes || !irq->route[id].used);
	rc = set(irq, id, true, addr, data);
	pthread_mutex_unlock(&irq->lock);
	return rc;
}

void irq_msi_unbind(struct irq *irq, unsigned id)
{
	struct irq_route *r;

	pthread_mutex_lock(&irq->lock);
	BUG_ON(id >= irq->nroutes || !irq->route[id].used);
	r = &irq->route[id];
	kvm_irqfd(irq->kvm, r->fd, id, false);
	close(r->fd);
	/* KVM keeps the stale route, which does no harm, until the next commit. */
	*r = (struct irq_route){ .fd = -1 };
	pthread_mutex_unlock(&irq->lock);
}

int irq_set_pin(struct irq *irq, unsigned pin, uint64_t addr, uint32_t data)
{
	int rc;

	pthread_mutex_lock(&irq->lock);
	BUG_ON(pin >= irq->npins);
	rc = reach(irq, pin);
	if (!rc) {
		irq->route[pin].fd = -1;
		rc = set(irq, pin, data != 0, addr, data);
	}
	pthread_mutex_unlock(&irq->lock);
	return rc;
}
