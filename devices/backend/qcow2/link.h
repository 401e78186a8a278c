/* qcow2/link: changes L2 entries, in tables that no snapshot shares. For the engine; lock held. */
#ifndef BANTAM_QCOW2_LINK_H
#define BANTAM_QCOW2_LINK_H

#include <stdint.h>

#include "devices/backend/qcow2/refcount.h"

/*
 * Sets the L2 entries of n guest clusters (all in one slice) to first, first + step, … and frees
 * the clusters that they referred to. n 0: only allocates or copies the table where needed, and
 * loads the slice. Returns 0, 1, -EAGAIN or -errno as in refcount.h.
 */
int qcow2_set_entries_locked(struct qcow2 *q, uint64_t cluster, uint64_t n, uint64_t first,
			     uint64_t step, enum qcow2_alloc how);
/* Returns how many clusters there are from this one to the end of its slice. */
uint64_t qcow2_slice_left(const struct qcow2 *q, uint64_t cluster);

#endif
