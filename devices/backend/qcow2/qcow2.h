/*
 * qcow2: the engine of an open qcow2 image. store/open.c opens images with it; disk/qcow2, which
 * does I/O of its own, uses the rest; all other code uses store.h. The engine's own sources use
 * qcow2_impl.h.
 *
 * Theory of operation.
 *
 * Metadata. The L1 table and the refcount table are in memory (host byte order, at most
 * 32 + 8 MiB, usually a few KiB). A cache holds slices (4 KiB at most) of L2 tables and refcount
 * blocks, in the file's byte order; with clusters of 64 KiB a slice of an L2 table maps 32 MiB of
 * disk. The engine changes metadata in memory only; qcow2_commit writes it.
 *
 * Crash consistency. A commit takes a snapshot of all dirty metadata under the lock and writes
 * it without the lock, in this order (=> means fdatasync):
 *   refcount slices (and all data that is mapped) => refcount table => header, if the table
 *   has moved => L2 slices => L1 entries => header, if the L1 table has moved => done.
 * So nothing on the medium refers to a table or data that is not there yet, at whatever moment
 * the process or the host dies: refcounts may be too high (a leak), never too low. Steps with
 * nothing to write take no fdatasync: overwriting costs one, allocating two. Lazy refcounts would
 * save none of these, so the engine keeps that flag but makes no use of it; it honours the dirty
 * bit that other programs set.
 *
 * Freeing. A cluster that loses its last reference keeps its refcount until the L2 entry (or
 * L1 entry) that dropped it is on the medium, and until all I/O that began before has ended:
 * qcow2_io_begin and _end count I/O by epochs. Only then does the engine punch the hole, decrement
 * the refcount and use the cluster again.
 *
 * Zeroes for free. The engine grows the file ahead of allocation. Clusters beyond the
 * end that the file had at open ("virgin") read as zeroes until written. If the guest's cluster
 * reads as zeroes anyway, the engine links such a cluster before it writes the data: there is
 * nothing to copy, a crash shows no old data, and later writes to the cluster need not wait. It
 * does so by asking the host for room (fallocate): a write there then takes a fraction of the
 * time. Closing gives back the room that was not needed.
 *
 * Locking. q->lock guards all of it. No thread waits for the disk with it held, except to grow the
 * file, in qcow2_arm_locked (write.h), and where a write to the page cache
 * stalls (write.c). The lock of a backing image is taken under its overlay's. The caller of a
 * function named _locked holds it. A function that finds that a slice is not in memory loads it
 * without the lock and returns 1: other threads may have changed anything, so the caller looks
 * again. With nonblock it takes the slice from the page cache, or returns -EAGAIN. A guest cluster
 * that a thread copies or allocates is in q->busy; another thread that wants to change the same
 * cluster waits (nonblock: -EBUSY).
 */
#ifndef BANTAM_QCOW2_H
#define BANTAM_QCOW2_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/backend/qcow2_image/file.h"
#include "devices/backend/store/store.h"

struct qcow2;

/*
 * As store_open, but for qcow2 images only, and without opening the backing file: the caller opens
 * the file that store.backing_name and backing_format describe, and sets store.backing.
 */
int qcow2_store_open(const struct store_options *options, struct store **out, struct err *err);

/* --- for disk/qcow2: requests that need no waiting ------------------------------------------ */

static inline bool qcow2_is_image(const struct store *s)
{
	return s->ops->format == STORE_QCOW2;
}

/* s must be a qcow2 image. */
static inline struct qcow2 *qcow2_of(struct store *s)
{
	return (struct qcow2 *)s;
}

/* The caller may read fd, path, the header's constants and lost_writes without the lock. */
struct qcow2_file *qcow2_get_file(struct qcow2 *q);

void qcow2_lock(struct qcow2 *q);
void qcow2_unlock(struct qcow2 *q);

enum qcow2_kind { QCOW2_HOLE, QCOW2_ZEROES, QCOW2_DATA, QCOW2_PACKED };

struct qcow2_run {
	enum qcow2_kind kind; /* HOLE: the backing file has the bytes, if there is one */
	uint64_t len;	      /* bytes from the offset asked for */
	uint64_t host;	      /* DATA, preallocated ZEROES: offset in the file; else 0 */
	uint64_t entry;	      /* PACKED: the L2 entry; len ends with the cluster */
	bool copied;	      /* DATA, ZEROES: may be written in place */
};

/*
 * Sets *run to the first part of [offset, offset + max) that is of one kind; max > 0. Returns 0;
 * 1: the lock was released, so the caller looks again (never with nonblock); -EAGAIN: it would have
 * to wait (only with nonblock); -EIO: the image is damaged; another -errno.
 */
int qcow2_map_locked(struct qcow2 *q, uint64_t offset, uint64_t max, bool nonblock,
		     struct qcow2_run *run);
/* Returns true if the file has all bytes of the run: a read of them cannot be short. */
bool qcow2_in_file_locked(const struct qcow2 *q, const struct qcow2_run *run);
/* As qcow2_unpack, but only from the clusters that are kept decompressed. Returns false if this one
 * is not among them. */
bool qcow2_unpacked_locked(struct qcow2 *q, uint64_t entry, uint64_t from, const struct iovec *iov,
			   unsigned niov, uint64_t skip, uint64_t len);
/*
 * Finds where [offset, + len) can be written at once, without I/O or waiting: run->len bytes at
 * run->host. New clusters are linked already. Returns 0 or -errno; -EAGAIN: qcow2_write can do it;
 * -EBUSY: another thread is changing a cluster of it.
 */
int qcow2_place_locked(struct qcow2 *q, uint64_t offset, uint64_t len, struct qcow2_run *run);
/*
 * Writes the beginning of [offset, + len), *done bytes, to new clusters, and copies the old data
 * around it. It loads no metadata, decompresses nothing and waits for no other thread, but it reads
 * and writes the files' data, with the lock released. -EAGAIN and -EBUSY as above, or another
 * -errno.
 */
int qcow2_copy_now_locked(struct qcow2 *q, const struct iovec *iov, unsigned niov, uint64_t skip,
			  uint64_t offset, uint64_t len, uint64_t *done);
/* Returns true if a commit runs, or would have metadata to write or clusters to free. */
bool qcow2_dirty_locked(const struct qcow2 *q);
/* Begins an I/O at clusters that were just mapped or placed: they are not used anew before its end.
 * Returns the epoch, for qcow2_io_end. */
unsigned qcow2_io_begin_locked(struct qcow2 *q);
/* Ends an I/O; with or without the lock. */
void qcow2_io_end(struct qcow2 *q, unsigned epoch);

#endif
