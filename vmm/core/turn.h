/*
 * turn: how much work a device does before its loop serves the others.
 *
 * The guest decides what is in a ring, so a device must not work until the ring is empty: meanwhile
 * no other device of the loop is served, a vCPU that needs the device's lock waits, and so does the
 * end of the VM. Work is counted in bytes: those that the loop's thread copies or hands to the host.
 * A device begins a turn when the loop calls it, charges each piece of work to the turn, and begins
 * no further piece when the turn is over. It then leaves the rest where it is, in the ring, and asks
 * its loop to be called again (an eventfd of its own): the loop serves the others first.
 *
 * No piece may be much larger than a turn: a device cuts a larger request, and notes how far it is.
 * One turn takes well below a millisecond, also with the page faults of memory that is touched for
 * the first time.
 *
 * A turn belongs to one device, which uses it with its lock held. No thread, no allocation.
 */
#ifndef BANTAM_TURN_H
#define BANTAM_TURN_H

#include <stdbool.h>
#include <stdint.h>

#define TURN_BYTES (1u << 20)
/*
 * A piece of work counts as so many bytes at least: popping a long chain and a system call for it
 * cost about as much as copying these. So a turn has at most 256 pieces.
 */
#define TURN_PIECE_BYTES 4096u

struct turn {
	uint32_t left; /* bytes */
};

static inline void turn_begin(struct turn *t)
{
	t->left = TURN_BYTES;
}

static inline bool turn_over(const struct turn *t)
{
	return !t->left;
}

/* Charges one piece of work. The last piece of a turn may have more bytes than are left. */
static inline void turn_charge(struct turn *t, uint64_t bytes)
{
	if (bytes < TURN_PIECE_BYTES)
		bytes = TURN_PIECE_BYTES;
	t->left = bytes < t->left ? t->left - (uint32_t)bytes : 0;
}

/* Ends the turn after a piece of work that costs more than its bytes. */
static inline void turn_end(struct turn *t)
{
	t->left = 0;
}

/* Returns how many of want bytes the next piece may have: at least 1 if want is not 0. */
static inline uint64_t turn_room(const struct turn *t, uint64_t want)
{
	uint64_t room = t->left ? t->left : 1;

	return want < room ? want : room;
}

#endif
