/*
 * qcow2: the engine of an open qcow2 image. For store/open.c, which opens it, and disk/qcow2, which
 * has I/O of its own; all others use store.h. Inside the folder qcow2_impl.h.
 *
 * Theory of operation.
 *
 * Metadata. The L1 table and the refcount table are in memory (host byte order, at most
 * 32 + 8 MiB, usually a few KiB). Of L2 tables and refcount blocks slices of at most 4 KiB are
 * cached as the file has them; a slice of 64 KiB clusters maps 32 MiB of disk. Changes are made
 * in memory only; qcow2_commit writes them.
 *
 * Crash consistency. A commit takes a snapshot of all dirty metadata under the lock and writes
 * it without, in this order, with fdatasync wherever => stands:
 *   refcount slices (and all data that is mapped) => refcount table => header, if the table
 *   has moved => L2 slices => L1 entries => done.
 * So nothing on the medium refers to what is not there yet, whatever moment the process or the
 * host dies at: refcounts may be too high (a leak), never too low. Steps with nothing to write
 * take no fdatasync: overwriting costs one, allocating two. Lazy refcounts would save none of
 * these, so the flag is kept but never used; the dirty bit of others is honoured.
 *
 * Freeing. A cluster that loses its last reference keeps its refcount until the L2 entry (or
 * L1 entry) that dropped it is on the medium, and until all I/O that began before has ended:
 * qcow2_io_begin and _end count I/O by epochs. Only then is the hole punched, the refcount
 * decremented and the cluster used again.
 *
 * Zeroes for free. The file is grown ahead (ftruncate) of allocation. Clusters that lie beyond
 * what the file had at open ("virgin") read as zeroes until written. Where the guest's cluster
 * reads as zeroes anyway, such a cluster is linked before its data is written: there is nothing
 * to copy, nothing that a crash could show, and later writes to it need not wait. The host is
 * asked for room (fallocate) as far as the file is grown: to write there takes a fraction of
 * the time then. Closing gives back what was not needed.
 *
 * Locking. q->lock guards all of it and is never held over I/O that waits, except for the
 * ftruncate and fallocate that grow the file. Functions named _locked want it held. What finds
 * that a slice is not in memory loads it without the lock and answers 1: the world may have
 * changed, look again; with nonblock it takes it from the page cache, or answers -EAGAIN. A
 * guest cluster that is being copied or allocated is entered in q->busy; whoever wants to change
 * the same cluster waits (nonblock: -EBUSY).
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
 * As store_open, of qcow2 images only, and without the backing file: the caller opens that as
 * store.backing_name and backing_format say, and puts it into store.backing.
 */
int qcow2_store_open(const struct store_options *options, struct store **out, struct err *err);

/* --- for disk/qcow2: requests that need no waiting ------------------------------------------ */

static inline bool qcow2_is_image(const struct store *s)
{
	return s->ops->format == STORE_QCOW2;
}

/* s is a qcow2 image. */
static inline struct qcow2 *qcow2_of(struct store *s)
{
	return (struct qcow2 *)s;
}

/* fd, path, the header's constants and lost_writes may be read without the lock. */
struct qcow2_file *qcow2_get_file(struct qcow2 *q);

void qcow2_lock(struct qcow2 *q);
void qcow2_unlock(struct qcow2 *q);

enum qcow2_kind { QCOW2_HOLE, QCOW2_ZEROES, QCOW2_DATA, QCOW2_PACKED };

struct qcow2_run {
	enum qcow2_kind kind; /* HOLE: the backing file's, if there is one */
	uint64_t len;	      /* bytes from the offset asked for */
	uint64_t host;	      /* DATA, preallocated ZEROES: where in the file; else 0 */
	uint64_t entry;	      /* PACKED: the L2 entry; len ends with the cluster */
	bool copied;	      /* DATA, ZEROES: may be written in place */
};

/*
 * How [offset, offset + max) begins; max > 0. Returns 0; 1: look again (not with nonblock);
 * -EAGAIN: not without waiting (only with nonblock); -EIO: damaged; -errno.
 */
int qcow2_map_locked(struct qcow2 *q, uint64_t offset, uint64_t max, bool nonblock,
		     struct qcow2_run *run);
/* Does the file have all bytes of the run, so that a read of it cannot come short? */
bool qcow2_in_file_locked(const struct qcow2 *q, const struct qcow2_run *run);
/* From the clusters that are kept decompressed, as qcow2_unpack. Returns false if it is not among
 * them. */
bool qcow2_unpacked_locked(struct qcow2 *q, uint64_t entry, uint64_t from, const struct iovec *iov,
			   unsigned niov, uint64_t skip, uint64_t len);
/*
 * Where [offset, …) can be written at once, without I/O or waiting: run->len bytes at run->host.
 * New clusters are linked already. -EAGAIN: qcow2_write can; -EBUSY: another thread changes it.
 */
int qcow2_place_locked(struct qcow2 *q, uint64_t offset, uint64_t len, struct qcow2_run *run);
/*
 * Writes the beginning of [offset, + len), *done bytes, to new clusters, which old data is copied
 * to: without loading metadata, decompressing, or waiting for others; the files themselves are read
 * and written (the lock is let go meanwhile). -EAGAIN and -EBUSY as above, and -errno.
 */
int qcow2_copy_now_locked(struct qcow2 *q, const struct iovec *iov, unsigned niov, uint64_t skip,
			  uint64_t offset, uint64_t len, uint64_t *done);
/* Is there metadata that a commit would write, or clusters that it would free? */
bool qcow2_dirty_locked(const struct qcow2 *q);
/* An I/O at clusters that were just mapped or placed begins: they are not used anew before its end.
 * Returns the epoch that qcow2_io_end wants. */
unsigned qcow2_io_begin_locked(struct qcow2 *q);
/* With or without the lock. */
void qcow2_io_end(struct qcow2 *q, unsigned epoch);

#endif
