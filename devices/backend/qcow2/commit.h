/* qcow2/commit: writes metadata to the medium ("Crash consistency" in qcow2.h). For the engine. */
#ifndef BANTAM_QCOW2_COMMIT_H
#define BANTAM_QCOW2_COMMIT_H

#include <stdbool.h>
#include <stdint.h>

struct qcow2;

/* Entries [lo, hi) of a table; equal: none. */
struct qcow2_range {
	uint64_t lo, hi;
};

/* What is newer in memory than in the file, besides the cache's dirty slices. */
struct qcow2_changes {
	struct qcow2_range l1, reftable;
	bool reftable_moved; /* the header does not have its new offset and size yet */
	bool l1_moved;	     /* the same of the L1 table */
	bool committing;     /* a commit runs; others wait */
	bool want_commit;    /* too much is dirty or freed: the next change waits for a commit */
};

static inline void qcow2_range_add(struct qcow2_range *r, uint64_t lo, uint64_t hi)
{
	if (r->lo == r->hi) {
		*r = (struct qcow2_range){ lo, hi };
		return;
	}
	r->lo = lo < r->lo ? lo : r->lo;
	r->hi = hi > r->hi ? hi : r->hi;
}

/*
 * Writes all changes made before the call to the medium, and the data that they refer to. Without
 * the lock. One commit runs at a time; other callers wait. Returns 0 or -errno: metadata that was
 * not written stays dirty.
 */
int qcow2_commit(struct qcow2 *q);

#endif
