/*
 * qcow2/cache: slices of L2 tables and refcount blocks, as the file has them. For the engine.
 *
 * The caller holds the engine's lock, except for init and free, which run alone.
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
	struct qcow2_slice *prev, *next; /* the first is the next to be evicted */
	uint32_t dirty_lo, dirty_hi;	 /* bytes; equal: clean */
	uint32_t writing_lo, writing_hi; /* the running commit writes these */
	enum qcow2_table table;
	bool used; /* since the cache last considered evicting it */
	bool loading;
	bool stale; /* while loading: the cluster was freed */
	bool writing;
	uint8_t *data; /* slice_bytes bytes, behind this struct */
};

struct qcow2_cache {
	struct qcow2_slice *bucket[QCOW2_BUCKETS];
	struct qcow2_slice slices; /* list head */
	uint32_t slice_bytes;	   /* QCOW2_SLICE_BYTES, or a cluster if that is smaller */
	unsigned nslices, max_slices, ndirty;
};

/* Call it when the header is loaded. */
void qcow2_cache_init(struct qcow2 *q);
/* Accepts a cache that was not initialised (all zeroes). */
void qcow2_cache_free(struct qcow2 *q);
/*
 * Finds the slice that holds the byte at offset. Returns 0: *out is valid until the lock is
 * released. 1: this or another thread has loaded it; the lock was released, so the caller looks
 * again at the entries that led here. -EAGAIN: only with nonblock, it would have to wait. -EIO: the
 * cluster is known as a table of the other kind. Another -errno: cannot read it.
 */
int qcow2_slice_locked(struct qcow2 *q, uint64_t offset, enum qcow2_table table, bool nonblock,
		       struct qcow2_slice **out);
/* Adds a slice of zeroes without reading the file: the cluster there is new. 0 or -ENOMEM. */
int qcow2_slice_new_locked(struct qcow2 *q, uint64_t offset, enum qcow2_table table,
			   struct qcow2_slice **out);
/* Marks bytes [lo, hi) of the slice as newer than the file. May ask for a commit (want_commit). */
void qcow2_slice_dirty_locked(struct qcow2 *q, struct qcow2_slice *s, uint32_t lo, uint32_t hi);
/* Forgets the slices of [offset, + len): the caller frees these clusters or uses them anew. */
void qcow2_slice_drop_locked(struct qcow2 *q, uint64_t offset, uint64_t len);

#endif
