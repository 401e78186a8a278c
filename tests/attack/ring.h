/* ring: what an attacker can ask of a disk's io_uring that is there: by operations in its memory, which no filter sees. */
#ifndef ATTACK_RING_H
#define ATTACK_RING_H

#include "tests/attack/inject.h"

struct ring_outcome {
	unsigned tried, refused;
	bool works; /* the disk can be read: so the test speaks the ring's language */
};

/*
 * Makes a request of each operation, in the stopped thread v of the process. The first of the disk's own operations is a
 * read; with a descriptor that is not registered it is an attack, too. Returns false if the process has no ring.
 */
bool ring_attack(const struct victim *v, struct ring_outcome *out);

#endif
