/* qcow2/link: changing L2 entries, in tables that are ours alone. For the engine; lock held. */
#ifndef BANTAM_QCOW2_LINK_H
#define BANTAM_QCOW2_LINK_H

#include <stdint.h>

#include "devices/backend/qcow2/refcount.h"

/*
 * Sets the L2 entries of n guest clusters (all in one slice) to first, first + step, … What they
 * referred to before is freed. n 0: only makes the table ours, and has the slice in memory.
 * 0, 1, -EAGAIN, -errno as in refcount.h.
 */
int qcow2_set_entries_locked(struct qcow2 *q, uint64_t cluster, uint64_t n, uint64_t first,
			     uint64_t step, enum qcow2_alloc how);
/* Clusters from this one to its slice's end. */
uint64_t qcow2_slice_left(const struct qcow2 *q, uint64_t cluster);

#endif
