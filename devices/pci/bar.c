/* pci BARs: where pci_func_add places them, and where they are decoded. */
#include <errno.h>

#include "devices/pci/pci_impl.h"
#include "vmm/core/bytes.h"

static uint8_t *reg_of(struct pci_func *f, unsigned bar)
{
	return f->state.config + PCI_BAR0 + bar * 4;
}

static bool in_window(const struct pci_window *w, uint64_t at)
{
	return at >= w->base && at - w->base < w->len_bytes;
}

void pci_func_bar(struct pci_func *f, unsigned bar, uint64_t len_bytes, unsigned flags)
{
	uint64_t mask = ~(len_bytes - 1);
	bool wide = flags & PCI_BAR_64;

	BUG_ON(f->host || bar + wide >= PCI_BARS || flags & ~(PCI_BAR_64 | PCI_BAR_PREFETCH));
	BUG_ON(len_bytes < 16 || len_bytes & (len_bytes - 1) || (!wide && len_bytes > 1u << 31));
	f->bar[bar].func = f;
	f->bar[bar].len_bytes = len_bytes;
	f->bar[bar].flags = flags;
	put_le32(reg_of(f, bar), flags);
	/* Sizing needs no code: the low bits of the address are read-only. */
	put_le32(f->writable + PCI_BAR0 + bar * 4, (uint32_t)mask);
	if (wide)
		put_le32(f->writable + PCI_BAR0 + bar * 4 + 4, (uint32_t)(mask >> 32));
}

/* --- where pci_func_add puts them ------------------------------------------------------- */

static int place(struct pci_host *host, struct pci_bar *b)
{
	int rc = -ENOSPC;

	if (b->flags & PCI_BAR_64)
		rc = pci_window_take(&host->window64, &b->piece, b->len_bytes);
	return rc ? pci_window_take(&host->window, &b->piece, b->len_bytes) : 0;
}

int pci_bars_place(struct pci_host *host, struct pci_func *f, struct err *err)
{
	for (unsigned n = 0; n < PCI_BARS; n++) {
		struct pci_bar *b = &f->bar[n];

		if (!b->len_bytes)
			continue;
		if (place(host, b)) {
			pci_bars_give_back(host, f);
			return err_set(err, ENOSPC, "PCI: no room left for a BAR of %llu KiB",
				       (unsigned long long)(b->len_bytes >> 10));
		}
		put_le32(reg_of(f, n), (uint32_t)b->piece.base | b->flags);
		if (b->flags & PCI_BAR_64)
			put_le32(reg_of(f, n + 1), (uint32_t)(b->piece.base >> 32));
	}
	return 0;
}

void pci_bars_give_back(struct pci_host *host, struct pci_func *f)
{
	for (unsigned n = 0; n < PCI_BARS; n++) {
		struct pci_bar *b = &f->bar[n];

		if (!b->len_bytes)
			continue;
		pci_window_give_back(&host->window, &b->piece);
		pci_window_give_back(&host->window64, &b->piece);
		put_le32(reg_of(f, n), b->flags);
		if (b->flags & PCI_BAR_64)
			put_le32(reg_of(f, n + 1), 0);
	}
}

/* --- where the guest has them ------------------------------------------------------------ */

bool pci_bar_base(const struct pci_func *f, unsigned bar, uint64_t *base)
{
	const uint8_t *reg = f->state.config + PCI_BAR0 + bar * 4;
	const struct pci_bar *b = &f->bar[bar];
	uint64_t at;

	if (!b->len_bytes || !(f->state.config[PCI_COMMAND] & PCI_COMMAND_MEMORY))
		return false;
	at = get_le32(reg) & ~0xfull;
	if (b->flags & PCI_BAR_64)
		at |= (uint64_t)get_le32(reg + 4) << 32;
	if (!in_window(&f->host->decode, at) && !in_window(&f->host->window64, at))
		return false;
	*base = at;
	return true;
}

static uint64_t bar_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	struct pci_bar *b = opaque;

	return b->func->ops->bar_read(b->func, (unsigned)(b - b->func->bar), off, size_bytes);
}

static void bar_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	struct pci_bar *b = opaque;

	b->func->ops->bar_write(b->func, (unsigned)(b - b->func->bar), off, size_bytes, val);
}

static const struct bus_ops bar_ops = { bar_read, bar_write };

static void unmap_moved(struct pci_func *f)
{
	for (unsigned n = 0; n < PCI_BARS; n++) {
		struct bus_range *r = &f->bar[n].range;
		uint64_t base;

		if (r->bus && (f->leaving || !pci_bar_base(f, n, &base) || base != r->base))
			bus_unmap(r);
	}
}

/*
 * bus_map refuses a BAR that overlaps another one (-EEXIST): try it again whenever a BAR changes.
 */
static void map_waiting(struct pci_func *f)
{
	for (unsigned n = 0; n < PCI_BARS; n++) {
		struct pci_bar *b = &f->bar[n];
		uint64_t base;

		if (b->range.bus || !pci_bar_base(f, n, &base))
			continue;
		b->range = (struct bus_range){ base, b->len_bytes, &bar_ops, b, NULL, false };
		(void)bus_map(&f->host->bars, &b->range);
	}
}

void pci_bars_follow(struct pci_func *f)
{
	struct pci_host *host = f->host;

	unmap_moved(f);
	for (unsigned i = 0; i < PCI_SLOTS * PCI_FUNCTIONS; i++)
		if (host->func[i] && !host->func[i]->leaving)
			map_waiting(host->func[i]);
}
