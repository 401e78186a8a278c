/*
 * qcow2/free: clusters that lose a reference, and the I/O that may still use them ("Freeing" in
 * qcow2.h). For the engine; lock held.
 */
#ifndef BANTAM_QCOW2_FREE_H
#define BANTAM_QCOW2_FREE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct qcow2;

/* Clusters side by side. */
struct qcow2_free {
	uint64_t offset; /* of the first, in the file */
	uint64_t nclusters;
};

struct qcow2_free_list {
	struct qcow2_free *run;
	size_t n, room;
};

struct qcow2_freeing {
	struct qcow2_free_list freed;	/* by changes that are not committed */
	struct qcow2_free_list settled; /* committed */
	struct qcow2_free_list limbo;	/* I/O of the epoch before may still use them */
	uint64_t freed_bytes;		/* of freed, about */
	unsigned epoch;			/* 0 or 1 */
	_Atomic unsigned
		epoch_io[2]; /* I/O under way that began in that epoch; grows under the lock */
};

/* free_list.c: appends n clusters to one of the engine's lists. Returns 0, or -ENOMEM: the list is
 * as before. */
int qcow2_free_add(struct qcow2 *q, struct qcow2_free_list *list, uint64_t offset, uint64_t n);
/* Frees the clusters that an L1 or L2 entry referred to, once the change is committed. If there is
 * no memory to remember them, they stay leaks. */
void qcow2_free_entry_locked(struct qcow2 *q, uint64_t entry);
/* Decrements the refcounts of clusters that are settled and that no I/O uses any more. The caller
 * has set changes.committing. Releases the lock meanwhile. Returns 0 or -errno: the rest are
 * leaks. */
int qcow2_free_apply_locked(struct qcow2 *q);

#endif
