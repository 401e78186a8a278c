/*
 * qcow2/refcount: reference counts, and clusters taken from the free ones. For the engine; lock
 * held. refcount.c has what happens all the time, reftable.c what is rare.
 *
 * Where nothing else is said, functions return 0, 1 (the lock was let go: look again), -EAGAIN
 * (only with nonblock or QCOW2_ALLOC_NOW), or -errno, as qcow2_slice_locked does.
 */
#ifndef BANTAM_QCOW2_REFCOUNT_H
#define BANTAM_QCOW2_REFCOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/backend/qcow2/free.h"

/* Host offsets have 56 bits. */
#define QCOW2_HOST_MAX (1ull << 56)

/* NOW: without I/O, and zeroes only; else -EAGAIN. */
enum qcow2_alloc { QCOW2_ALLOC_ANY, QCOW2_ALLOC_NOW };

struct qcow2_got {
	uint64_t host;
	uint64_t n;  /* clusters: 1 .. want */
	bool zeroed; /* they read as zeroes */
};

/* The room in the file, beyond what refcounts say. */
struct qcow2_space {
	uint64_t grown_bytes;	       /* the file's size: at least file.bytes if we may write */
	uint64_t virgin;	       /* from here on the file was never written */
	uint64_t free_hint;	       /* cluster number: below it nothing is free */
	struct qcow2_free_list zeroed; /* free clusters below virgin that read as zeroes */
	bool slow_alloc;	       /* a rare allocation works without the lock; others wait */
};

/* --- refcount.c ------------------------------------------------------------------------- */

/* A cluster without a refcount block has the refcount 0. */
int qcow2_refcount_locked(struct qcow2 *q, uint64_t cluster, bool nonblock, uint64_t *out);
/* -ERANGE: there is no block, or value is too large for the image. */
int qcow2_refcount_set_locked(struct qcow2 *q, uint64_t cluster, uint64_t value);
/* Is the cluster free (or without a block), and how many from there on are as it is? At least 1,
 * as far as one look tells. */
int qcow2_refcount_run_locked(struct qcow2 *q, uint64_t cluster, bool *free, uint64_t *n);
/* A new block at offset block, zeroes in the file, where [first, + n), all of which it counts, have
 * the refcount 1. 0 or -ENOMEM, then nothing has changed. */
int qcow2_new_block_locked(struct qcow2 *q, uint64_t block, uint64_t first, uint64_t n);

/* Up to want clusters side by side; their refcounts are 1 then, and nothing refers to them. */
int qcow2_alloc_locked(struct qcow2 *q, uint64_t want, enum qcow2_alloc how, struct qcow2_got *out);
/* Gives back what was never linked. */
void qcow2_unalloc_locked(struct qcow2 *q, uint64_t host, uint64_t n);
/* They may be written to from now on: forget that they read as zeroes. */
void qcow2_unzeroed_locked(struct qcow2 *q, uint64_t cluster, uint64_t n);
/* The file is at least end bytes long then. 0 or -errno; holds the lock over ftruncate. */
int qcow2_grow_file_locked(struct qcow2 *q, uint64_t end);

/* --- reftable.c ------------------------------------------------------------------------- */

/* The refcount table can count cluster then: 1: done, look again; -errno: nothing has changed. */
int qcow2_reftable_grow_locked(struct qcow2 *q, uint64_t cluster);
/* n clusters in one piece, zeroes, for metadata; lets the lock go. 0 or -errno. */
int qcow2_alloc_run_locked(struct qcow2 *q, uint64_t n, uint64_t *host);

#endif
