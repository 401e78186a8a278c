/* pci: see pci.h. */
#include "devices/pci/pci.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "devices/pci/pci_impl.h"

#define CONFIG_PORT 0xcf8u
#define CONFIG_PORT_ENABLE 0x80000000u
#define RESET_PORT_CPU 0x04u
#define ECAM_FUNC_BYTES 4096u

static uint64_t ones(unsigned size_bytes)
{
	return size_bytes >= 8 ? ~0ull : (1ull << (size_bytes * 8)) - 1;
}

/* --- configuration space --------------------------------------------------- */

/* The function that answers at bus/device/function, or NULL. Slots never change while vCPUs run. */
static struct pci_func *at_bdf(struct pci_host *host, uint32_t bdf)
{
	return bdf < PCI_SLOTS * 8 && bdf % 8 == 0 ? host->slot[bdf / 8] : NULL;
}

static uint32_t config_read(struct pci_host *host, uint32_t bdf, unsigned reg, unsigned size_bytes)
{
	struct pci_func *f = at_bdf(host, bdf);

	if (!f)
		return (uint32_t)ones(size_bytes);
	/* Extended capabilities: a first header of 0 says that there are none. */
	if (reg + size_bytes > PCI_CONFIG_BYTES)
		return 0;
	if (f->ops->config_read)
		f->ops->config_read(f, reg, size_bytes);
	return pci_func_get(f, reg, size_bytes);
}

static void config_write(struct pci_host *host, uint32_t bdf, unsigned reg, unsigned size_bytes,
			 uint32_t val)
{
	struct pci_func *f = at_bdf(host, bdf);

	if (!f || reg + size_bytes > PCI_CONFIG_BYTES)
		return;
	pthread_mutex_lock(&host->lock);
	for (unsigned i = 0; i < size_bytes; i++) {
		uint8_t mask = f->writable[reg + i];

		f->config[reg + i] = (uint8_t)((f->config[reg + i] & ~mask) |
					       ((uint8_t)(val >> (i * 8)) & mask));
	}
	pci_update_line(f);
	pthread_mutex_unlock(&host->lock);
	if (f->ops->config_written)
		f->ops->config_written(f, reg, size_bytes);
}

static uint64_t ecam_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	uint32_t bdf = (uint32_t)(off / ECAM_FUNC_BYTES);
	unsigned reg = (unsigned)(off % ECAM_FUNC_BYTES);

	if (size_bytes == 8)
		return config_read(opaque, bdf, reg, 4) |
		       (uint64_t)config_read(opaque, bdf, reg + 4, 4) << 32;
	return config_read(opaque, bdf, reg, size_bytes);
}

static void ecam_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	uint32_t bdf = (uint32_t)(off / ECAM_FUNC_BYTES);
	unsigned reg = (unsigned)(off % ECAM_FUNC_BYTES);

	config_write(opaque, bdf, reg, size_bytes < 4 ? size_bytes : 4, (uint32_t)val);
	if (size_bytes == 8)
		config_write(opaque, bdf, reg + 4, 4, (uint32_t)(val >> 32));
}

static const struct bus_ops ecam_ops = { ecam_read, ecam_write };

/* Ports 0xcf8-0xcff: mechanism #1. Only a dword at 0xcf8 is the address. */
static uint32_t config_address(struct pci_host *host)
{
	uint32_t addr;

	pthread_mutex_lock(&host->lock);
	addr = host->config_address;
	pthread_mutex_unlock(&host->lock);
	return addr;
}

static uint64_t ports_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	struct pci_host *host = opaque;
	uint32_t addr = config_address(host);

	if (off == 0 && size_bytes == 4)
		return addr;
	if (off == 1 && size_bytes == 1) {
		uint8_t val;

		pthread_mutex_lock(&host->lock);
		val = host->reset_control;
		pthread_mutex_unlock(&host->lock);
		return val;
	}
	if (off < 4 || off + size_bytes > 8 || !(addr & CONFIG_PORT_ENABLE))
		return ones(size_bytes);
	return config_read(host, addr >> 8 & 0xffff, (addr & 0xfc) + (unsigned)off - 4, size_bytes);
}

static void ports_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	struct pci_host *host = opaque;
	uint32_t addr = config_address(host);

	if (off == 0 && size_bytes == 4) {
		pthread_mutex_lock(&host->lock);
		host->config_address = (uint32_t)val & ~3u;
		pthread_mutex_unlock(&host->lock);
	} else if (off == 1 && size_bytes == 1) {
		pthread_mutex_lock(&host->lock);
		host->reset_control = (uint8_t)val;
		pthread_mutex_unlock(&host->lock);
		if (val & RESET_PORT_CPU)
			host->env->ops->event(host->env->vm, VM_EVENT_RESET);
	} else if (off >= 4 && off + size_bytes <= 8 && addr & CONFIG_PORT_ENABLE) {
		config_write(host, addr >> 8 & 0xffff, (addr & 0xfc) + (unsigned)off - 4,
			     size_bytes, (uint32_t)val);
	}
}

static const struct bus_ops port_ops = { ports_read, ports_write };

/* --- BARs ------------------------------------------------------------------- */

/* The function and BAR that decode [addr, addr + size); *off is relative to the BAR. */
static struct pci_func *at_addr(struct pci_host *host, uint64_t addr, unsigned size_bytes,
				unsigned *bar, uint64_t *off)
{
	struct pci_func *found = NULL;

	pthread_mutex_lock(&host->lock);
	for (unsigned s = 1; s < PCI_SLOTS && !found; s++) {
		struct pci_func *f = host->slot[s];

		for (unsigned b = 0; f && b < PCI_BARS; b++) {
			uint64_t base;

			if (!pci_bar_base(f, b, &base) || addr < base ||
			    addr - base >= f->bar_bytes[b] ||
			    size_bytes > f->bar_bytes[b] - (addr - base))
				continue;
			found = f;
			*bar = b;
			*off = addr - base;
			break;
		}
	}
	pthread_mutex_unlock(&host->lock);
	return found;
}

static uint64_t window_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	struct pci_host *host = opaque;
	unsigned bar;
	struct pci_func *f = at_addr(host, host->cfg.mmio_base + off, size_bytes, &bar, &off);

	return f ? f->ops->bar_read(f, bar, off, size_bytes) : ones(size_bytes);
}

static void window_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	struct pci_host *host = opaque;
	unsigned bar;
	struct pci_func *f = at_addr(host, host->cfg.mmio_base + off, size_bytes, &bar, &off);

	if (f)
		f->ops->bar_write(f, bar, off, size_bytes, val);
}

static const struct bus_ops window_ops = { window_read, window_write };

/* --- the host ------------------------------------------------------------------ */

static const struct pci_func_ops bridge_ops;

int pci_host_create(const struct device_env *env, const struct pci_host_config *cfg,
		    struct pci_host **out, struct err *err)
{
	struct pci_host *host = calloc(1, sizeof(*host));
	int rc;

	*out = NULL;
	if (!host)
		return err_sys(err, ENOMEM, "PCI host");
	BUG_ON(cfg->mmio_base + cfg->mmio_bytes > 1ull << 32);
	host->env = env;
	host->cfg = *cfg;
	host->next_bar = cfg->mmio_base;
	pthread_mutex_init(&host->lock, NULL);

	/* The generic PCIe host bridge that Red Hat reserves for QEMU: no driver has quirks for it. */
	pci_func_init(&host->bridge, &bridge_ops, 0x1b36, 0x0008, 0x060000);
	host->bridge.config[PCI_INTERRUPT_PIN] = 0;
	host->bridge.host = host;
	host->slot[0] = &host->bridge;

	if (cfg->ecam_bytes) {
		rc = bus_add(env->mmio, cfg->ecam_base, cfg->ecam_bytes, &ecam_ops, host);
		if (rc)
			goto fail;
		host->has_ecam = true;
	}
	rc = bus_add(env->mmio, cfg->mmio_base, cfg->mmio_bytes, &window_ops, host);
	if (rc)
		goto fail;
	host->has_window = true;
	if (env->pio) {
		rc = bus_add(env->pio, CONFIG_PORT, 8, &port_ops, host);
		if (rc)
			goto fail;
		host->has_ports = true;
	}
	*out = host;
	return 0;
fail:
	err_sys(err, -rc, "PCI host: its address ranges");
	pci_host_destroy(host);
	return rc;
}

void pci_host_destroy(struct pci_host *host)
{
	if (!host)
		return;
	for (unsigned s = 1; s < PCI_SLOTS; s++)
		BUG_ON(host->slot[s]);
	if (host->has_ecam)
		bus_remove(host->env->mmio, host->cfg.ecam_base);
	if (host->has_window)
		bus_remove(host->env->mmio, host->cfg.mmio_base);
	if (host->has_ports)
		bus_remove(host->env->pio, CONFIG_PORT);
	pthread_mutex_destroy(&host->lock);
	free(host);
}

uint32_t pci_host_slots(const struct pci_host *host)
{
	uint32_t map = 0;

	for (unsigned s = 0; s < PCI_SLOTS; s++)
		if (host->slot[s])
			map |= 1u << s;
	return map;
}

unsigned pci_host_gsi(const struct pci_host *host, unsigned slot)
{
	return host->cfg.gsi[slot % PCI_SLOTS];
}

const struct pci_host_config *pci_host_config(const struct pci_host *host)
{
	return &host->cfg;
}
