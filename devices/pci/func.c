/*
 * pci functions: see pci.h.
 *
 * pci_func_remove works in three steps. It takes the function's configuration space and BARs off
 * the buses, so no new access finds the function. It waits until the callbacks that are running
 * have returned; until then they may use the function as before, except that its BARs stay
 * undecoded. Then it gives back line, BARs and slot, so no later function shares them with such a
 * callback.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "devices/pci/pci_impl.h"
#include "vmm/core/bytes.h"
#include "vmm/errand/errand.h"

#define CAP_NONE 0
#define NO_SLOT 0u

/* --- lock held -------------------------------------------------------------------------- */

static unsigned space_bytes(const struct pci_func *f)
{
	return f->ext ? PCI_EXT_CONFIG_BYTES : PCI_CONFIG_BYTES;
}

static uint8_t *config_at(struct pci_func *f, unsigned off)
{
	return off < PCI_CONFIG_BYTES ? &f->state.config[off] :
					&f->ext->s.config[off - PCI_CONFIG_BYTES];
}

static uint8_t writable_at(const struct pci_func *f, unsigned off)
{
	return off < PCI_CONFIG_BYTES ? f->writable[off] : f->ext->writable[off - PCI_CONFIG_BYTES];
}

/* Update the status bit and the slot's line from intx and the command register. */
static void update_line(struct pci_func *f)
{
	struct pci_host *host = f->host;
	const struct device_env *env = host->env;
	uint32_t bit = 1u << f->slot;
	bool level = false;

	f->line = f->state.intx &&
		  !(get_le16(f->state.config + PCI_COMMAND) & PCI_COMMAND_INTX_OFF);
	f->state.config[PCI_STATUS] &= (uint8_t)~PCI_STATUS_INTX;
	if (f->state.intx)
		f->state.config[PCI_STATUS] |= PCI_STATUS_INTX;
	for (unsigned n = 0; n < PCI_FUNCTIONS; n++) {
		const struct pci_func *other = host->func[f->slot * PCI_FUNCTIONS + n];

		level |= other && other->line;
	}
	if (level == !!(host->lines & bit))
		return;
	host->lines ^= bit;
	env->ops->set_line(env->vm, host->cfg.gsi[f->slot], f->slot, level);
}

/* --- configuration space ------------------------------------------------------------------ */

static uint32_t read_dword(struct pci_func *f, unsigned reg, unsigned size_bytes)
{
	/* No extended space: a first header of 0 says that there are no extended capabilities. */
	if (reg + size_bytes > space_bytes(f))
		return 0;
	if (f->ops->config_read)
		return f->ops->config_read(f, reg, size_bytes);
	return pci_func_get(f, reg, size_bytes);
}

static uint64_t config_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	unsigned reg = (unsigned)off;

	if (size_bytes == 8)
		return read_dword(opaque, reg, 4) | (uint64_t)read_dword(opaque, reg + 4, 4) << 32;
	return read_dword(opaque, reg, size_bytes);
}

struct config_change {
	struct pci_func *f;
	unsigned reg, size_bytes;
	uint32_t val;
};

/* Lock held. */
static void change_locked(const struct config_change *c)
{
	struct pci_func *f = c->f;

	for (unsigned i = 0; i < c->size_bytes; i++) {
		uint8_t *at = config_at(f, c->reg + i), mask = writable_at(f, c->reg + i);

		*at = (uint8_t)((*at & ~mask) | ((uint8_t)(c->val >> (i * 8)) & mask));
	}
	if (c->reg < PCI_BAR0 + PCI_BARS * 4)
		pci_bars_follow(f);
	update_line(f);
}

static void change(void *opaque)
{
	const struct config_change *c = opaque;

	pthread_mutex_lock(&c->f->host->lock);
	change_locked(c);
	pthread_mutex_unlock(&c->f->host->lock);
}

/* Lock held. Returns false if no BAR can move on the bus: a driver that sizes them has switched decoding off. */
static bool may_move(const struct pci_func *f, unsigned reg)
{
	return reg < PCI_BAR0 + PCI_BARS * 4 &&
	       (reg < PCI_BAR0 || f->state.config[PCI_COMMAND] & PCI_COMMAND_MEMORY);
}

static void write_dword(struct pci_func *f, unsigned reg, unsigned size_bytes, uint32_t val)
{
	struct config_change c = { f, reg, size_bytes, val };
	bool move;

	if (reg + size_bytes > space_bytes(f))
		return;
	pthread_mutex_lock(&f->host->lock);
	move = may_move(f, reg);
	if (!move)
		change_locked(&c);
	pthread_mutex_unlock(&f->host->lock);
	/* The bus makes a table and waits for other threads. */
	if (move)
		errand_run(change, &c);
	if (f->ops->config_written)
		f->ops->config_written(f, reg, size_bytes);
}

static void config_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	unsigned reg = (unsigned)off;

	write_dword(opaque, reg, size_bytes < 4 ? size_bytes : 4, (uint32_t)val);
	if (size_bytes == 8)
		write_dword(opaque, reg + 4, 4, (uint32_t)(val >> 32));
}

const struct bus_ops pci_config_ops = { config_read, config_write };

/* --- building a function --------------------------------------------------------- */

void pci_func_init(struct pci_func *f, const struct pci_func_ops *ops, uint16_t vendor,
		   uint16_t device, uint32_t class_code)
{
	uint8_t *config = f->state.config;

	f->ops = ops;
	put_le16(config + PCI_VENDOR_ID, vendor);
	put_le16(config + PCI_DEVICE_ID, device);
	config[PCI_REVISION] = 1;
	config[PCI_CLASS] = (uint8_t)class_code;
	put_le16(config + PCI_CLASS + 1, (uint16_t)(class_code >> 8));
	config[PCI_INTERRUPT_PIN] = 1;
	put_le16(f->writable + PCI_COMMAND,
		 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_OFF);
	f->writable[PCI_INTERRUPT_LINE] = 0xff;
	f->next_cap = PCI_FIRST_CAP;
	f->next_ext = PCI_CONFIG_BYTES;
}

void pci_func_subsystem(struct pci_func *f, uint16_t vendor, uint16_t id)
{
	put_le16(f->state.config + PCI_SUBSYSTEM_VENDOR, vendor);
	put_le16(f->state.config + PCI_SUBSYSTEM_ID, id);
}

unsigned pci_func_cap(struct pci_func *f, uint8_t id, const void *body, const void *writable,
		      unsigned body_bytes)
{
	uint8_t *config = f->state.config;
	unsigned at = f->next_cap;

	BUG_ON(f->host || at + 2 + body_bytes > PCI_CONFIG_BYTES);
	config[at] = id;
	config[at + 1] = CAP_NONE;
	memcpy(config + at + 2, body, body_bytes);
	if (writable)
		memcpy(f->writable + at + 2, writable, body_bytes);
	config[f->last_cap ? f->last_cap + 1 : PCI_CAP_POINTER] = (uint8_t)at;
	config[PCI_STATUS] |= PCI_STATUS_CAPS;
	f->last_cap = at;
	f->next_cap = (at + 2 + body_bytes + 3) & ~3u;
	return at;
}

int pci_func_ext_cap(struct pci_func *f, uint16_t id, unsigned version, const void *body,
		     const void *writable, unsigned body_bytes)
{
	unsigned at = f->next_ext;

	BUG_ON(f->host || version > 0xf || at + 4 + body_bytes > PCI_EXT_CONFIG_BYTES);
	if (!f->ext)
		f->ext = calloc(1, sizeof(*f->ext));
	if (!f->ext)
		return -ENOMEM;
	/* id in bits 0-15, version in 16-19, next in 20-31 (0: this is the last one). */
	put_le32(config_at(f, at), id | version << 16);
	memcpy(config_at(f, at) + 4, body, body_bytes);
	if (writable)
		memcpy(&f->ext->writable[at + 4 - PCI_CONFIG_BYTES], writable, body_bytes);
	if (f->last_ext) {
		uint8_t *last = config_at(f, f->last_ext);

		put_le32(last, get_le32(last) | at << 20);
	}
	f->last_ext = at;
	f->next_ext = (at + 4 + body_bytes + 3) & ~3u;
	return (int)at;
}

/* --- added and removed, lock held ------------------------------------------------------------ */

/* Bit 7 of the header type: software looks for more functions only if it is set. */
static void mark_multifunction(struct pci_host *host, unsigned slot)
{
	struct pci_func **func = &host->func[slot * PCI_FUNCTIONS];
	bool several = false;

	for (unsigned n = 1; n < PCI_FUNCTIONS; n++)
		several |= func[n] != NULL;
	for (unsigned n = 0; n < PCI_FUNCTIONS; n++) {
		if (!func[n])
			continue;
		func[n]->state.config[PCI_HEADER_TYPE] &= (uint8_t)~PCI_HEADER_MULTI;
		if (several)
			func[n]->state.config[PCI_HEADER_TYPE] |= PCI_HEADER_MULTI;
	}
}

static bool is_empty(const struct pci_host *host, unsigned slot)
{
	for (unsigned n = 0; n < PCI_FUNCTIONS; n++)
		if (host->func[slot * PCI_FUNCTIONS + n])
			return false;
	return true;
}

static unsigned first_empty_slot(const struct pci_host *host)
{
	for (unsigned s = 1; s < PCI_SLOTS; s++)
		if (is_empty(host, s))
			return s;
	return NO_SLOT;
}

static int add(struct pci_host *host, struct pci_func *f, unsigned slot, unsigned function,
	       struct err *err)
{
	uint8_t line = f->state.config[PCI_INTERRUPT_LINE];
	unsigned index;
	int rc;

	if (!slot)
		slot = first_empty_slot(host);
	if (slot == NO_SLOT)
		return err_set(err, ENOSPC, "PCI: all %u slots are taken", PCI_SLOTS - 1);
	index = slot * PCI_FUNCTIONS + function;
	if (host->func[index])
		return err_set(err, EEXIST, "PCI slot %u, function %u is taken", slot, function);
	rc = pci_bars_place(host, f, err);
	if (rc)
		return rc;
	f->slot = slot;
	f->function = function;
	f->host = host;
	f->state.config[PCI_INTERRUPT_LINE] = host->cfg.gsi[slot];
	f->config_range = (struct bus_range){ (uint64_t)index * PCI_CONFIG_STRIDE,
					      PCI_CONFIG_STRIDE, &pci_config_ops, f };
	rc = bus_map(&host->configs, &f->config_range);
	if (rc) {
		pci_bars_give_back(host, f);
		f->config_range = (struct bus_range){ 0 };
		f->state.config[PCI_INTERRUPT_LINE] = line;
		f->host = NULL;
		f->slot = f->function = 0;
		return err_sys(err, -rc, "PCI slot %u", slot);
	}
	host->func[index] = f;
	mark_multifunction(host, slot);
	return 0;
}

int pci_func_add(struct pci_host *host, struct pci_func *f, unsigned slot, unsigned function,
		 struct err *err)
{
	int rc;

	BUG_ON(slot >= PCI_SLOTS || function >= PCI_FUNCTIONS || f->host || f->leaving);
	pthread_mutex_lock(&host->lock);
	rc = add(host, f, slot, function, err);
	pthread_mutex_unlock(&host->lock);
	return rc;
}

static void hide(struct pci_func *f)
{
	pthread_mutex_lock(&f->host->lock);
	f->leaving = true;
	bus_unmap(&f->config_range);
	pci_bars_follow(f);
	pthread_mutex_unlock(&f->host->lock);
}

static void give_back(struct pci_func *f)
{
	struct pci_host *host = f->host;

	pthread_mutex_lock(&host->lock);
	f->state.intx = false;
	update_line(f);
	pci_bars_give_back(host, f);
	host->func[pci_func_index(f)] = NULL;
	mark_multifunction(host, f->slot);
	pthread_mutex_unlock(&host->lock);
	f->host = NULL;
}

void pci_func_remove(struct pci_func *f)
{
	if (f->host) {
		hide(f);
		bus_wait(&f->config_range);
		for (unsigned n = 0; n < PCI_BARS; n++)
			bus_wait(&f->bar[n].range);
		give_back(f);
	}
	free(f->ext);
	f->ext = NULL;
}

/* --- for the function's owner ------------------------------------------------------ */

uint32_t pci_func_get(struct pci_func *f, unsigned off, unsigned size_bytes)
{
	uint32_t val = 0;

	BUG_ON(off + size_bytes > space_bytes(f));
	pthread_mutex_lock(&f->host->lock);
	for (unsigned i = 0; i < size_bytes; i++)
		val |= (uint32_t)*config_at(f, off + i) << (i * 8);
	pthread_mutex_unlock(&f->host->lock);
	return val;
}

void pci_func_put(struct pci_func *f, unsigned off, unsigned size_bytes, uint32_t val)
{
	BUG_ON(off + size_bytes > space_bytes(f));
	pthread_mutex_lock(&f->host->lock);
	for (unsigned i = 0; i < size_bytes; i++)
		*config_at(f, off + i) = (uint8_t)(val >> (i * 8));
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

struct pci_place pci_func_place(struct pci_func *f, unsigned bar)
{
	struct pci_place place = { .slot = f->slot,
				   .function = f->function,
				   .bar_bytes = f->bar[bar].len_bytes };

	pthread_mutex_lock(&f->host->lock);
	if (!pci_bar_base(f, bar, &place.bar_base))
		place.bar_base = f->bar[bar].piece.base;
	pthread_mutex_unlock(&f->host->lock);
	return place;
}

void pci_func_intx(struct pci_func *f, bool asserted)
{
	pthread_mutex_lock(&f->host->lock);
	if (asserted != f->state.intx) {
		f->state.intx = asserted;
		update_line(f);
	}
	pthread_mutex_unlock(&f->host->lock);
}
