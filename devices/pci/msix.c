/* msix: see pci/msix.h. */
#include "devices/pci/msix.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/fd_rw.h"
#include "vmm/core/log.h"

#define CAP_ID_MSIX 0x11
#define CONTROL_ENABLE 0x8000u
#define CONTROL_MASK 0x4000u
#define VECTOR_MASKED 1u
#define VECTOR_BYTES 16u

enum { ADDR_LOW, ADDR_HIGH, DATA, CONTROL };

int pci_msix_init(struct pci_msix *m, const struct device_env *env, unsigned nvectors)
{
	BUG_ON(!nvectors || nvectors > MSIX_MAX_VECTORS);
	m->env = env;
	m->binding = calloc(nvectors, sizeof(*m->binding));
	if (!m->binding)
		return -ENOMEM;
	m->s.nvectors = nvectors;
	for (unsigned i = 0; i < nvectors; i++)
		m->s.table[i].word[CONTROL] = VECTOR_MASKED;
	return 0;
}

void pci_msix_destroy(struct pci_msix *m)
{
	for (unsigned i = 0; i < m->s.nvectors; i++)
		if (m->binding[i].bound)
			m->env->ops->msi_unbind(m->env->vm, m->binding[i].id);
	free(m->binding);
	memset(m, 0, sizeof(*m));
}

unsigned pci_msix_cap(const struct pci_msix *m, struct pci_func *f, unsigned bar,
		      uint32_t table_off, uint32_t pba_off)
{
	uint32_t table = table_off | bar, pba = pba_off | bar;
	uint16_t control = (uint16_t)(m->s.nvectors - 1);
	uint16_t writable_control = CONTROL_ENABLE | CONTROL_MASK;
	uint8_t body[10], writable[10] = { 0 };

	memcpy(body, &control, 2);
	memcpy(body + 2, &table, 4);
	memcpy(body + 6, &pba, 4);
	memcpy(writable, &writable_control, 2);
	return pci_func_cap(f, CAP_ID_MSIX, body, writable, sizeof(body));
}

/* Bind the vector to the message that the table holds now, or update its binding. 0 or -errno. */
static int bring_up_to_date(struct pci_msix *m, unsigned vector)
{
	const struct device_env *env = m->env;
	const uint32_t *word = m->s.table[vector].word;
	struct pci_msix_binding *b = &m->binding[vector];
	uint64_t addr = (uint64_t)word[ADDR_HIGH] << 32 | word[ADDR_LOW];
	uint32_t data = word[DATA];
	int rc;

	if (b->bound && addr == b->addr && data == b->data)
		return 0;
	rc = b->bound ? env->ops->msi_update(env->vm, b->id, addr, data) :
			env->ops->msi_bind(env->vm, addr, data, &b->id, &b->fd);
	if (rc)
		return rc;
	b->bound = true;
	b->addr = addr;
	b->data = data;
	return 0;
}

static void fire(struct pci_msix *m, unsigned vector)
{
	int rc = bring_up_to_date(m, vector);

	if (rc) {
		log_put(LOG_ERROR, "cannot route a message-signalled interrupt: %s", strerror(-rc));
		return;
	}
	/*
	 * Of an eventfd that another process has, O_NONBLOCK and the counter are that process's as much as
	 * ours: a write could wait for ever. For one of our own, EAGAIN means that an interrupt is already on
	 * its way.
	 */
	if (m->binding[vector].lent)
		m->env->ops->msi_send(m->env->vm, m->binding[vector].addr, m->binding[vector].data);
	else
		fd_rw_wake(m->binding[vector].fd);
}

static bool is_masked(const struct pci_msix *m, unsigned i)
{
	return m->s.masked || m->s.table[i].word[CONTROL] & VECTOR_MASKED;
}

void pci_msix_signal(struct pci_msix *m, unsigned vector)
{
	if (!m->s.enabled || vector >= m->s.nvectors)
		return;
	if (is_masked(m, vector))
		m->s.pending |= 1ull << vector;
	else
		fire(m, vector);
}

int pci_msix_fd(struct pci_msix *m, unsigned vector)
{
	if (!m->s.enabled || vector >= m->s.nvectors || is_masked(m, vector) ||
	    bring_up_to_date(m, vector))
		return -1;
	m->binding[vector].lent = true;
	return m->binding[vector].fd;
}

static void fire_pending(struct pci_msix *m)
{
	if (!m->s.enabled)
		return;
	for (unsigned i = 0; m->s.pending && i < m->s.nvectors; i++) {
		if (!(m->s.pending >> i & 1) || is_masked(m, i))
			continue;
		m->s.pending &= ~(1ull << i);
		fire(m, i);
	}
}

void pci_msix_clear_pending(struct pci_msix *m)
{
	m->s.pending = 0;
}

bool pci_msix_has_control(const struct pci_msix *m, uint16_t control)
{
	return m->s.enabled == !!(control & CONTROL_ENABLE) &&
	       m->s.masked == !!(control & CONTROL_MASK);
}

void pci_msix_set_control(struct pci_msix *m, uint16_t control)
{
	bool enabled = control & CONTROL_ENABLE;

	if (m->s.enabled && !enabled)
		m->s.pending = 0;
	m->s.enabled = enabled;
	m->s.masked = control & CONTROL_MASK;
	fire_pending(m);
}

/* Returns one dword of the table; NULL if off is beyond the table or not aligned. */
static const uint32_t *word(const struct pci_msix *m, uint64_t off)
{
	if (off % 4 || off / VECTOR_BYTES >= m->s.nvectors)
		return NULL;
	return &m->s.table[off / VECTOR_BYTES].word[off % VECTOR_BYTES / 4];
}

uint64_t pci_msix_table_read(const struct pci_msix *m, uint64_t off, unsigned size_bytes)
{
	unsigned shift = (unsigned)(off % 4);
	const uint32_t *at = word(m, off - shift);
	uint64_t val = at ? *at : 0;

	if (size_bytes == 8 && !shift) {
		at = word(m, off + 4);
		return val | (uint64_t)(at ? *at : 0) << 32;
	}
	return val >> (shift * 8);
}

/* Software writes dwords and qwords only (section 6.8.2); other widths are dropped. */
void pci_msix_table_write(struct pci_msix *m, uint64_t off, unsigned size_bytes, uint64_t val)
{
	unsigned field = (unsigned)(off % VECTOR_BYTES / 4);
	if (size_bytes == 8) {
		pci_msix_table_write(m, off, 4, (uint32_t)val);
		pci_msix_table_write(m, off + 4, 4, val >> 32);
		return;
	}
	if (size_bytes != 4 || !word(m, off))
		return;
	if (field == ADDR_LOW)
		val &= ~3ull;
	if (field == CONTROL)
		val &= VECTOR_MASKED;
	m->s.table[off / VECTOR_BYTES].word[field] = (uint32_t)val;
	if (field == CONTROL)
		fire_pending(m);
}

uint64_t pci_msix_pba_read(const struct pci_msix *m, uint64_t off, unsigned size_bytes)
{
	return off < 8 && size_bytes <= 8 ? m->s.pending >> (off * 8) : 0;
}
