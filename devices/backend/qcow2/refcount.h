/*
 * qcow2/refcount: reference counts, and the allocation of clusters. For the engine; lock held.
 * refcount.c has the common operations, reftable.c the rare ones.
 *
 * Unless a comment says otherwise, functions return 0, 1 (the lock was released: the caller looks
 * again), -EAGAIN (only with nonblock or QCOW2_ALLOC_NOW), or -errno, as qcow2_slice_locked does.
 */
#ifndef BANTAM_QCOW2_REFCOUNT_H
#define BANTAM_QCOW2_REFCOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/backend/qcow2/free.h"

/* Host offsets have 56 bits. */
#define QCOW2_HOST_MAX (1ull << 56)

/* NOW: without I/O, and only clusters that read as zeroes; else -EAGAIN. */
enum qcow2_alloc { QCOW2_ALLOC_ANY, QCOW2_ALLOC_NOW };

struct qcow2_got {
	uint64_t host;
	uint64_t n;  /* clusters: 1 .. want */
	bool zeroed; /* they read as zeroes */
};

/* The room in the file, besides the refcounts. */
struct qcow2_space {
	uint64_t grown_bytes;	       /* the file's size: at least file.bytes once armed */
	uint64_t virgin;	       /* from this offset on the file was never written */
	uint64_t free_hint;	       /* cluster number: below it nothing is free */
	struct qcow2_free_list zeroed; /* free clusters below virgin that read as zeroes */
	bool slow_alloc;	       /* a rare allocation runs without the lock; others wait */
};

/* --- refcount.c ------------------------------------------------------------------------- */

/* A cluster without a refcount block has the refcount 0. */
int qcow2_refcount_locked(struct qcow2 *q, uint64_t cluster, bool nonblock, uint64_t *out);
/* -ERANGE: there is no block, or value is too large for the image. */
int qcow2_refcount_set_locked(struct qcow2 *q, uint64_t cluster, uint64_t value);
/* Sets *free to whether the cluster is free (or has no block), and *n to how many clusters from it
 * on are the same: at least 1, and only those of one slice or of one missing block. */
int qcow2_refcount_run_locked(struct qcow2 *q, uint64_t cluster, bool *free, uint64_t *n);
/* Enters a new block into the table. The cluster at offset block reads as zeroes; the block counts
 * all of [first, + n), and they get the refcount 1. Returns 0, or -ENOMEM: nothing has changed. */
int qcow2_new_block_locked(struct qcow2 *q, uint64_t block, uint64_t first, uint64_t n);

/* Takes up to want clusters side by side: sets their refcounts to 1. Nothing refers to them yet. */
int qcow2_alloc_locked(struct qcow2 *q, uint64_t want, enum qcow2_alloc how, struct qcow2_got *out);
/* Gives back clusters that were never linked. */
void qcow2_unalloc_locked(struct qcow2 *q, uint64_t host, uint64_t n);
/* Forgets that the clusters read as zeroes: the caller may write to them now. */
void qcow2_unzeroed_locked(struct qcow2 *q, uint64_t cluster, uint64_t n);
/* Makes the file at least end bytes long. Returns 0 or -errno; keeps the lock over the system
 * calls. */
int qcow2_grow_file_locked(struct qcow2 *q, uint64_t end);
/* Makes it size bytes long, or if the host does not permit that, least; more than grown_bytes, which it sets. 0 or -errno. */
int qcow2_lengthen_locked(struct qcow2 *q, uint64_t size, uint64_t least);

/* --- reftable.c ------------------------------------------------------------------------- */

/* Makes the refcount table long enough to count cluster. Returns 1: done, the caller looks again;
 * -errno: the table is as before. */
int qcow2_reftable_grow_locked(struct qcow2 *q, uint64_t cluster);
/* Takes n clusters side by side, which read as zeroes, for metadata; releases the lock meanwhile.
 * Returns 0 or -errno. */
int qcow2_alloc_run_locked(struct qcow2 *q, uint64_t n, uint64_t *host);

#endif
