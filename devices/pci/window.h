/*
 * window: allocates the guest addresses of BARs out of one range.
 *
 * First fit: each piece lies at the lowest address that has room and is a multiple of its size. The
 * pieces themselves form the list of what is taken, so pci_window_take allocates no memory. A
 * window does not follow a BAR that the guest moves later. Thread: the caller holds the owner's
 * lock in every call.
 */
#ifndef BANTAM_PCI_WINDOW_H
#define BANTAM_PCI_WINDOW_H

#include <stdint.h>

/* Embedded in its owner's struct; a zeroed piece is not taken. */
struct pci_window_piece {
	uint64_t base, len_bytes;
	struct pci_window_piece *next;
};

/*
 * The owner sets base and length and zeroes the rest. The range ends before the last byte of the
 * address space.
 */
struct pci_window {
	uint64_t base, len_bytes;	/* 0: there is no window; nothing fits */
	struct pci_window_piece *taken; /* by ascending base */
};

/* len_bytes is a power of two. 0 or -ENOSPC; after an error the piece is unchanged. */
int pci_window_take(struct pci_window *w, struct pci_window_piece *piece, uint64_t len_bytes);
/* Does nothing to a piece that is not taken, or that another window holds. */
void pci_window_give_back(struct pci_window *w, struct pci_window_piece *piece);

#endif
