/*
 * pci: see pci.h.
 *
 * Theory of operation. The host has two buses of its own beside the VM's: one of configuration
 * spaces, one of the BARs that are decoded. ECAM, the ports and the windows to BARs are ranges on
 * the VM's buses that forward each access to one of these two. So finding a function or a BAR is a
 * lookup without a lock, and a function can be removed while vCPUs access others (bus.h).
 */
#include "devices/pci/pci.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "devices/pci/pci_impl.h"

#define CONFIG_PORT 0xcf8u
#define CONFIG_PORT_ENABLE 0x80000000u
#define RESET_PORT_CPU 0x04u

/* --- configuration space, by ECAM and by ports --------------------------------- */

/* Address on host->configs. index is bus, device and function; only bus 0 has functions. */
static uint64_t config_addr(uint64_t index, uint64_t reg)
{
	return index * PCI_CONFIG_STRIDE + reg;
}

static uint64_t ecam_addr(uint64_t off)
{
	return config_addr(off / PCI_EXT_CONFIG_BYTES, off % PCI_EXT_CONFIG_BYTES);
}

static uint64_t ecam_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	struct pci_host *host = opaque;

	return bus_read(&host->configs, ecam_addr(off), size_bytes);
}

static void ecam_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	struct pci_host *host = opaque;

	bus_write(&host->configs, ecam_addr(off), size_bytes, val);
}

static const struct bus_ops ecam_ops = { ecam_read, ecam_write };

/* Ports 0xcf8-0xcff: mechanism #1. Only a dword at 0xcf8 is the address. */
static struct pci_host_state get_state(struct pci_host *host)
{
	struct pci_host_state state;

	pthread_mutex_lock(&host->lock);
	state = host->state;
	pthread_mutex_unlock(&host->lock);
	return state;
}

/* Address that the data port at off (4 to 7) selects while config_address is addr. */
static uint64_t port_addr(uint32_t addr, uint64_t off)
{
	return config_addr(addr >> 8 & 0xffff, (addr & 0xfc) + off - 4);
}

static uint64_t ports_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	struct pci_host *host = opaque;
	struct pci_host_state state = get_state(host);

	if (off == 0 && size_bytes == 4)
		return state.config_address;
	if (off == 1 && size_bytes == 1)
		return state.reset_control;
	if (off < 4 || off + size_bytes > 8 || !(state.config_address & CONFIG_PORT_ENABLE))
		return bus_ones(size_bytes);
	return bus_read(&host->configs, port_addr(state.config_address, off), size_bytes);
}

static void ports_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	struct pci_host *host = opaque;
	uint32_t addr = get_state(host).config_address;

	if (off == 0 && size_bytes == 4) {
		pthread_mutex_lock(&host->lock);
		host->state.config_address = (uint32_t)val & ~3u;
		pthread_mutex_unlock(&host->lock);
	} else if (off == 1 && size_bytes == 1) {
		pthread_mutex_lock(&host->lock);
		host->state.reset_control = (uint8_t)val;
		pthread_mutex_unlock(&host->lock);
		if (val & RESET_PORT_CPU)
			host->env->ops->event(host->env->vm, VM_EVENT_RESET);
	} else if (off >= 4 && off + size_bytes <= 8 && addr & CONFIG_PORT_ENABLE) {
		bus_write(&host->configs, port_addr(addr, off), size_bytes, val);
	}
}

static const struct bus_ops port_ops = { ports_read, ports_write };

/* --- windows to BARs --------------------------------------------------------------- */

static uint64_t aperture_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	struct pci_aperture *a = opaque;

	return bus_read(a->bars, a->range.base + off, size_bytes);
}

static void aperture_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	struct pci_aperture *a = opaque;

	bus_write(a->bars, a->range.base + off, size_bytes, val);
}

static const struct bus_ops aperture_ops = { aperture_read, aperture_write };

static int open_aperture(struct pci_host *host, struct pci_aperture *a, const struct pci_window *w)
{
	a->bars = &host->bars;
	a->range = (struct bus_range){ w->base, w->len_bytes, &aperture_ops, a };
	return w->len_bytes ? bus_map(host->env->mmio, &a->range) : 0;
}

/* --- the host ------------------------------------------------------------------ */

static const struct pci_func_ops bridge_ops;

/* The generic PCIe host bridge that Red Hat reserves for QEMU: no driver has quirks for it. */
static int add_bridge(struct pci_host *host)
{
	struct pci_func *f = &host->bridge;

	pci_func_init(f, &bridge_ops, 0x1b36, 0x0008, 0x060000);
	f->state.config[PCI_INTERRUPT_PIN] = 0;
	f->host = host;
	f->config_range = (struct bus_range){ 0, PCI_CONFIG_STRIDE, &pci_config_ops, f };
	host->func[0] = f;
	return bus_map(&host->configs, &f->config_range);
}

int pci_host_create(const struct device_env *env, const struct pci_host_config *cfg,
		    struct pci_host **out, struct err *err)
{
	struct pci_host *host = calloc(1, sizeof(*host));
	uint64_t extra = 0;
	int rc;

	*out = NULL;
	if (!host)
		return err_sys(err, ENOMEM, "PCI host");
	BUG_ON(cfg->mmio_base + cfg->mmio_bytes > 1ull << 32);
	host->env = env;
	host->cfg = *cfg;
	host->window = (struct pci_window){ cfg->mmio_base, cfg->mmio_bytes };
	if (host->window.len_bytes && cfg->decode_base && cfg->decode_base < cfg->mmio_base)
		extra = cfg->mmio_base - cfg->decode_base;
	host->decode = (struct pci_window){ cfg->mmio_base - extra, cfg->mmio_bytes + extra };
	host->window64 = (struct pci_window){ cfg->mmio64_base, cfg->mmio64_bytes };
	pthread_mutex_init(&host->lock, NULL);

	host->ecam = (struct bus_range){ cfg->ecam_base, cfg->ecam_bytes, &ecam_ops, host };
	host->ports = (struct bus_range){ CONFIG_PORT, 8, &port_ops, host };
	rc = add_bridge(host);
	if (!rc && cfg->ecam_bytes)
		rc = bus_map(env->mmio, &host->ecam);
	if (!rc)
		rc = open_aperture(host, &host->low, &host->decode);
	if (!rc)
		rc = open_aperture(host, &host->high, &host->window64);
	if (!rc && env->pio)
		rc = bus_map(env->pio, &host->ports);
	if (rc) {
		err_sys(err, -rc, "PCI host: its address ranges");
		pci_host_destroy(host);
		return rc;
	}
	*out = host;
	return 0;
}

static void close_range(struct bus_range *r)
{
	bus_unmap(r);
	bus_wait(r);
}

void pci_host_destroy(struct pci_host *host)
{
	if (!host)
		return;
	for (unsigned i = 1; i < PCI_SLOTS * PCI_FUNCTIONS; i++)
		BUG_ON(host->func[i]);
	close_range(&host->ecam);
	close_range(&host->low.range);
	close_range(&host->high.range);
	close_range(&host->ports);
	close_range(&host->bridge.config_range);
	pthread_mutex_destroy(&host->lock);
	free(host);
}

uint32_t pci_host_slots(struct pci_host *host)
{
	uint32_t map = 0;

	pthread_mutex_lock(&host->lock);
	for (unsigned i = 0; i < PCI_SLOTS * PCI_FUNCTIONS; i++)
		if (host->func[i])
			map |= 1u << i / PCI_FUNCTIONS;
	pthread_mutex_unlock(&host->lock);
	return map;
}

unsigned pci_host_gsi(const struct pci_host *host, unsigned slot)
{
	return host->cfg.gsi[slot % PCI_SLOTS];
}
