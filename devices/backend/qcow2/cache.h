/*
 * qcow2/cache: slices of L2 tables and refcount blocks, as the file has them. For the engine.
 *
 * All functions want the engine's lock, but for init and free, which run alone.
 */
#ifndef BANTAM_QCOW2_CACHE_H
#define BANTAM_QCOW2_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#define QCOW2_SLICE_BYTES 4096u
#define QCOW2_CACHE_BYTES (16u << 20)
#define QCOW2_BUCKETS 1024u

struct qcow2;

enum qcow2_table { QCOW2_L2, QCOW2_REFCOUNTS };

struct qcow2_slice {
	uint64_t offset; /* in the file */
	struct qcow2_slice *hash_next;
	struct qcow2_slice *prev, *next; /* the next to be given up first */
	uint32_t dirty_lo, dirty_hi;	 /* bytes; equal: clean */
	uint32_t writing_lo, writing_hi; /* taken by the commit that runs */
	enum qcow2_table table;
	bool used; /* since it was last looked at whether to give it up */
	bool loading;
	bool stale; /* while loading: the cluster was freed */
	bool writing;
	uint8_t *data; /* slice_bytes, behind this */
};

struct qcow2_cache {
	struct qcow2_slice *bucket[QCOW2_BUCKETS];
	struct qcow2_slice slices; /* list head */
	uint32_t slice_bytes;	   /* QCOW2_SLICE_BYTES, or a cluster if that is smaller */
	unsigned nslices, max_slices, ndirty;
};

/* The header is loaded. */
void qcow2_cache_init(struct qcow2 *q);
/* Accepts one that was not initialised (all zeroes). */
void qcow2_cache_free(struct qcow2 *q);
/*
 * The slice that holds the byte at offset. Returns 0: *out is good until the lock is released.
 * 1: it is loaded now, or another thread has loaded it; the lock was let go, so look again at what
 * led here. -EAGAIN: only with nonblock, it cannot be had without waiting. -EIO: the cluster is
 * known as a table of the other kind. -errno: cannot be read.
 */
int qcow2_slice_locked(struct qcow2 *q, uint64_t offset, enum qcow2_table table, bool nonblock,
		       struct qcow2_slice **out);
/* As if loaded: the cluster there is new, and zeroes. 0 or -ENOMEM. */
int qcow2_slice_new_locked(struct qcow2 *q, uint64_t offset, enum qcow2_table table,
			   struct qcow2_slice **out);
/* Bytes [lo, hi) of the slice differ from the file. May ask for a commit. */
void qcow2_slice_dirty_locked(struct qcow2 *q, struct qcow2_slice *s, uint32_t lo, uint32_t hi);
/* Forgets the slices of [offset, + len), clusters that are being freed or used anew. */
void qcow2_slice_drop_locked(struct qcow2 *q, uint64_t offset, uint64_t len);

#endif
