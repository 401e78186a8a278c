/* window: see window.h. */
#include "devices/pci/window.h"

#include <errno.h>

#include "vmm/core/err.h"

int pci_window_take(struct pci_window *w, struct pci_window_piece *piece, uint64_t len_bytes)
{
	struct pci_window_piece **at = &w->taken;
	uint64_t from = w->base, align = len_bytes - 1;

	BUG_ON(!len_bytes || len_bytes & align || piece->len_bytes);
	BUG_ON(w->base + w->len_bytes < w->base);
	for (;;) {
		uint64_t end = *at ? (*at)->base : w->base + w->len_bytes;
		uint64_t base = (from + align) & ~align;

		/* Aligning may pass the end of the gap, or wrap past the last address. */
		if (base >= from && base <= end && end - base >= len_bytes) {
			*piece = (struct pci_window_piece){ base, len_bytes, *at };
			*at = piece;
			return 0;
		}
		if (!*at)
			return -ENOSPC;
		from = (*at)->base + (*at)->len_bytes;
		at = &(*at)->next;
	}
}

void pci_window_give_back(struct pci_window *w, struct pci_window_piece *piece)
{
	for (struct pci_window_piece **at = &w->taken; *at; at = &(*at)->next) {
		if (*at != piece)
			continue;
		*at = piece->next;
		*piece = (struct pci_window_piece){ 0 };
		return;
	}
}
