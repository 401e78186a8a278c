/*
 * turn: how much work a device does before its loop serves the others.
 *
 * The guest decides what is in a ring, so a device must not work until the ring is empty: meanwhile
 * no other device of the loop is served, a vCPU that needs the device's lock waits, and so does the
 * end of the VM. Work is counted in bytes: those that the loop's thread copies or hands to the host.
 * A device begins a turn when the loop calls it, charges each piece of work to the turn, and begins
 * no further piece when the turn is over. It then leaves the rest where it is, in the ring, and leaves
 * the turn: an event of its own (loop_event_soon) resumes it after the loop has served the others. Until
 * then a device gets no new turn by other calls (kicks of its other queues, events of
 * its sockets), so a device with many of these has no more than its share.
 *
 * No piece may be much larger than a turn: a device cuts a larger request, and notes how far it is.
 * One turn takes well below a millisecond, also with the page faults of memory that is touched for
 * the first time.
 *
 * A turn belongs to one device, which uses it with its lock held. No allocation.
 */
#ifndef BANTAM_TURN_H
#define BANTAM_TURN_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/loop.h"

#define TURN_BYTES (1u << 20)
/*
 * A piece of work counts as so many bytes at least: popping a long chain and a system call for it
 * cost about as much as copying these. So a turn has at most 256 pieces.
 */
#define TURN_PIECE_BYTES 4096u

struct turn {
	uint32_t left;	 /* bytes */
	bool left_early; /* turn_leave was called last */
};

/* The loop calls the device. */
static inline void turn_begin(struct turn *t)
{
	if (!t->left_early)
		t->left = TURN_BYTES;
}

/* The loop calls it by the event of turn_leave. */
static inline void turn_resume(struct turn *t)
{
	t->left_early = false;
	t->left = TURN_BYTES;
}

/* Asks the loop to come back by this event. */
static inline void turn_leave(struct turn *t, struct loop_watch *event)
{
	t->left_early = true;
	loop_event_soon(event);
}

/* The loop was asked to come back, and has not yet. */
static inline bool turn_left(const struct turn *t)
{
	return t->left_early;
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
