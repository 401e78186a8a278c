/*
 * window: a range of guest addresses that BARs are taken from and given back to.
 *
 * First fit: each piece lies at the lowest address that has room and is a multiple of its
 * size. The list of what is taken runs through the pieces themselves, so taking allocates
 * nothing. What a guest does with a BAR afterwards does not come here. Thread: the
 * owner's lock is held in every call.
 */
#ifndef BANTAM_PCI_WINDOW_H
#define BANTAM_PCI_WINDOW_H

#include <stdint.h>

/* In its owner's memory; zeroed: not taken. */
struct pci_window_piece {
	uint64_t base, len_bytes;
	struct pci_window_piece *next;
};

/* Set base and length, the rest zero. It does not reach the last byte of the address space. */
struct pci_window {
	uint64_t base, len_bytes;	/* 0 bytes: there is no such window, and nothing fits */
	struct pci_window_piece *taken; /* by ascending base */
};

/* len_bytes is a power of two. 0 or -ENOSPC; then the piece stays as it was. */
int pci_window_take(struct pci_window *w, struct pci_window_piece *piece, uint64_t len_bytes);
/* A piece that is not taken, or taken from another window: nothing. */
void pci_window_give_back(struct pci_window *w, struct pci_window_piece *piece);

#endif
