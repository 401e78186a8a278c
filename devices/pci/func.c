/* pci functions: see pci.h. */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "devices/pci/pci_impl.h"

#define CAP_NONE 0

static uint32_t get(const uint8_t *at, unsigned size_bytes)
{
	uint32_t val = 0;

	for (unsigned i = 0; i < size_bytes; i++)
		val |= (uint32_t)at[i] << (i * 8);
	return val;
}

static void put(uint8_t *at, unsigned size_bytes, uint32_t val)
{
	for (unsigned i = 0; i < size_bytes; i++)
		at[i] = (uint8_t)(val >> (i * 8));
}

/* --- functions, lock held ------------------------------------------------- */

bool pci_bar_base(const struct pci_func *f, unsigned bar, uint64_t *base)
{
	const struct pci_host_config *cfg = &f->host->cfg;
	uint64_t at = get(f->config + PCI_BAR0 + bar * 4, 4) & ~0xfull;

	if (!f->bar_bytes[bar] || !(f->config[PCI_COMMAND] & PCI_COMMAND_MEMORY) ||
	    at < cfg->mmio_base || at - cfg->mmio_base >= cfg->mmio_bytes)
		return false;
	*base = at;
	return true;
}

void pci_update_line(struct pci_func *f)
{
	const struct device_env *env = f->host->env;
	bool level = f->intx && !(get(f->config + PCI_COMMAND, 2) & PCI_COMMAND_INTX_OFF);

	f->config[PCI_STATUS] &= (uint8_t)~PCI_STATUS_INTX;
	if (f->intx)
		f->config[PCI_STATUS] |= PCI_STATUS_INTX;
	if (level == f->line)
		return;
	f->line = level;
	env->ops->set_line(env->vm, f->host->cfg.gsi[f->slot], f->slot, level);
}

/* --- building a function --------------------------------------------------------- */

void pci_func_init(struct pci_func *f, const struct pci_func_ops *ops, uint16_t vendor,
		   uint16_t device, uint32_t class_code)
{
	f->ops = ops;
	put(f->config + PCI_VENDOR_ID, 2, vendor);
	put(f->config + PCI_DEVICE_ID, 2, device);
	f->config[PCI_REVISION] = 1;
	put(f->config + PCI_CLASS, 3, class_code);
	f->config[PCI_INTERRUPT_PIN] = 1;
	put(f->writable + PCI_COMMAND, 2,
	    PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_OFF);
	f->writable[PCI_INTERRUPT_LINE] = 0xff;
	f->next_cap = PCI_FIRST_CAP;
}

void pci_func_bar(struct pci_func *f, unsigned bar, uint32_t size_bytes)
{
	BUG_ON(bar >= PCI_BARS || size_bytes < 16 || size_bytes & (size_bytes - 1) || f->host);
	f->bar_bytes[bar] = size_bytes;
	/* Sizing works by itself: the low bits of the address cannot be written. */
	put(f->writable + PCI_BAR0 + bar * 4, 4, ~(size_bytes - 1));
}

unsigned pci_func_cap(struct pci_func *f, uint8_t id, const void *body, const void *writable,
		      unsigned body_bytes)
{
	unsigned at = f->next_cap;

	BUG_ON(f->host || at + 2 + body_bytes > PCI_CONFIG_BYTES);
	f->config[at] = id;
	f->config[at + 1] = CAP_NONE;
	memcpy(f->config + at + 2, body, body_bytes);
	if (writable)
		memcpy(f->writable + at + 2, writable, body_bytes);
	f->config[f->last_cap ? f->last_cap + 1 : PCI_CAP_POINTER] = (uint8_t)at;
	f->config[PCI_STATUS] |= PCI_STATUS_CAPS;
	f->last_cap = at;
	f->next_cap = (at + 2 + body_bytes + 3) & ~3u;
	return at;
}

static int place_bars(struct pci_host *host, struct pci_func *f, struct err *err)
{
	uint64_t next = host->next_bar, end = host->cfg.mmio_base + host->cfg.mmio_bytes;

	for (unsigned b = 0; b < PCI_BARS; b++) {
		uint64_t size = f->bar_bytes[b];

		if (!size)
			continue;
		next = (next + size - 1) & ~(size - 1);
		if (next + size > end)
			return err_set(err, ENOSPC, "PCI: no room left for a BAR of %llu KiB",
				       (unsigned long long)(size >> 10));
		put(f->config + PCI_BAR0 + b * 4, 4, (uint32_t)next);
		next += size;
	}
	host->next_bar = next;
	return 0;
}

int pci_func_add(struct pci_host *host, struct pci_func *f, unsigned slot, struct err *err)
{
	int rc;

	BUG_ON(slot >= PCI_SLOTS || f->host);
	if (slot && host->slot[slot])
		return err_set(err, EEXIST, "PCI slot %u is taken", slot);
	for (unsigned s = 1; s < PCI_SLOTS && !slot; s++)
		if (!host->slot[s])
			slot = s;
	if (!slot)
		return err_set(err, ENOSPC, "PCI: all %u slots are taken", PCI_SLOTS - 1);
	rc = place_bars(host, f, err);
	if (rc)
		return rc;
	f->slot = slot;
	f->host = host;
	f->config[PCI_INTERRUPT_LINE] = host->cfg.gsi[slot];
	host->slot[slot] = f;
	return 0;
}

void pci_func_remove(struct pci_func *f)
{
	if (!f->host)
		return;
	pci_func_intx(f, false);
	f->host->slot[f->slot] = NULL;
	f->host = NULL;
}

/* --- for the function's owner ------------------------------------------------------ */

uint32_t pci_func_get(struct pci_func *f, unsigned off, unsigned size_bytes)
{
	uint32_t val;

	pthread_mutex_lock(&f->host->lock);
	val = get(f->config + off, size_bytes);
	pthread_mutex_unlock(&f->host->lock);
	return val;
}

void pci_func_put(struct pci_func *f, unsigned off, unsigned size_bytes, uint32_t val)
{
	pthread_mutex_lock(&f->host->lock);
	put(f->config + off, size_bytes, val);
	pthread_mutex_unlock(&f->host->lock);
}

bool pci_func_bar_base(struct pci_func *f, unsigned bar, uint64_t *base)
{
	bool mapped;

	pthread_mutex_lock(&f->host->lock);
	mapped = pci_bar_base(f, bar, base);
	pthread_mutex_unlock(&f->host->lock);
	return mapped;
}

void pci_func_intx(struct pci_func *f, bool asserted)
{
	pthread_mutex_lock(&f->host->lock);
	if (asserted != f->intx) {
		f->intx = asserted;
		pci_update_line(f);
	}
	pthread_mutex_unlock(&f->host->lock);
}
