/*
 * qcow2: what the parts of the qcow2 engine share. Users include store.h.
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

#include <endian.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/backend/store/image_file.h"
#include "devices/backend/qcow2_image/format.h"
#include "devices/backend/store/store.h"

#define QCOW2_SLICE_BYTES 4096u
#define QCOW2_CACHE_BYTES (16u << 20)
#define QCOW2_BUCKETS 1024u

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

/* Entries [lo, hi) of the L1 or the refcount table that are newer than the file. */
struct qcow2_range {
	uint64_t lo, hi;
};

/* Clusters that wait for their references to be gone from the medium. */
struct qcow2_free {
	uint64_t offset;
	uint64_t nclusters;
};

struct qcow2_free_list {
	struct qcow2_free *run;
	size_t n, room;
};

/* Guest clusters [first, first + n) are being changed by one thread. */
struct qcow2_busy {
	uint64_t first, n;
	struct qcow2_busy *next;
};

struct qcow2_unpacked; /* decompressed clusters: qcow2/compress.c */

struct qcow2 {
	struct store store; /* first */
	struct store_image image;
	int fd; /* through the page cache */
	char *path;
	bool writable; /* opened completely, and for writing */
	bool armed;    /* the file is prepared for the first change: qcow2_arm_locked */

	/* As the header says; constant but for resize. */
	unsigned version;
	unsigned cluster_bits;
	uint64_t cluster_bytes;
	unsigned l2_bits; /* log2 of the entries of an L2 table */
	unsigned refcount_order;
	unsigned refblock_bits; /* log2 of the entries of a refcount block */
	uint64_t refcount_max;
	uint32_t slice_bytes;
	uint64_t incompatible, compatible, autoclear;
	bool zstd;
	uint32_t nsnapshots;
	uint64_t snapshots_offset;
	uint64_t snapshots_bytes;	  /* writable images */
	char *backing_name;		  /* as written, NULL: none */
	enum store_format backing_format; /* AUTO: not said */

	pthread_mutex_t lock;
	pthread_cond_t changed; /* a slice was loaded, busy shrank, a commit ended */
	uint64_t *l1;
	uint64_t l1_offset;
	uint32_t l1_size;
	struct qcow2_range l1_dirty;
	uint64_t *reftable;
	uint64_t reftable_offset;
	uint32_t reftable_clusters; /* in the file */
	uint64_t reftable_size;	    /* entries in memory */
	struct qcow2_range reftable_dirty;
	bool reftable_moved; /* offset and clusters are not in the header yet */

	struct qcow2_slice *bucket[QCOW2_BUCKETS];
	struct qcow2_slice slices; /* list head */
	unsigned nslices, max_slices, ndirty;

	uint64_t file_bytes;  /* no mapping may reach beyond; a multiple of clusters */
	uint64_t grown_bytes; /* the file's size: at least file_bytes if we may write */
	uint64_t virgin;      /* from here on the file was never written */
	uint64_t free_hint;   /* cluster number: below it nothing is free */

	struct qcow2_free_list zeroed; /* free clusters below virgin that read as zeroes */
	bool slow_alloc;	       /* a rare allocation works without the lock; others wait */

	struct qcow2_busy *busy;
	struct qcow2_free_list freed;	/* by changes that are not committed */
	struct qcow2_free_list settled; /* committed */
	struct qcow2_free_list limbo;	/* I/O of the epoch before may still use them */
	uint64_t freed_bytes;		/* of freed, about */
	uint64_t packed_at;	      /* where the next compressed cluster may begin; 0: nowhere */
	unsigned epoch;		      /* 0 or 1 */
	_Atomic unsigned epoch_io[2]; /* I/O that began in that epoch; grows under the lock */
	bool committing;
	bool unsafe;	  /* damaged: no more writes */
	bool want_commit; /* too much is dirty or freed */

	/* Open addressing: offsets of clusters that hold metadata, 0: free place. */
	uint64_t *meta;
	size_t meta_n, meta_room;

	struct qcow2_unpacked *unpacked;
	int lost_writes;  /* -errno of the first flush that failed; atomic */
	bool told_packed; /* of one that cannot be decompressed */
};

static inline struct qcow2 *qcow2_of(struct store *s)
{
	return (struct qcow2 *)s;
}

static inline uint64_t qcow2_round_up(const struct qcow2 *q, uint64_t bytes)
{
	return (bytes + q->cluster_bytes - 1) & ~(q->cluster_bytes - 1);
}

/* qcow2_image/header.c: read and judge the header; q->fd is open. On success fills everything that
 * the header says, l1 and reftable (writable images). */
int qcow2_header_load(struct qcow2 *q, struct err *err);
/* Patch len bytes of the header at offset (on the medium when it returns). */
int qcow2_header_patch(struct qcow2 *q, uint64_t offset, const void *bytes, uint64_t len);
/* Set or clear incompatible feature bits in the file. */
int qcow2_header_incompatible(struct qcow2 *q, uint64_t features);

/* qcow2_image/file.c: whole transfers of the image file; 0 or -errno. Reads beyond the end of the
 * file give zeroes. */
int qcow2_pread(const struct qcow2 *q, void *buf, uint64_t len, uint64_t offset);
/* False: not without waiting, if at all. */
bool qcow2_pread_now(const struct qcow2 *q, void *buf, uint64_t len, uint64_t offset);
int qcow2_pwrite(const struct qcow2 *q, const void *buf, uint64_t len, uint64_t offset);
int qcow2_preadv(const struct qcow2 *q, const struct iovec *iov, unsigned niov, uint64_t skip,
		 uint64_t len, uint64_t offset);
int qcow2_pwritev(const struct qcow2 *q, const struct iovec *iov, unsigned niov, uint64_t skip,
		  uint64_t len, uint64_t offset);
int qcow2_pzero(const struct qcow2 *q, uint64_t len, uint64_t offset);
/*
 * What the host failed to write back once, it forgets: the pages count as clean, the next fdatasync
 * succeeds, and data is lost. So the first failure is remembered, until the image is closed.
 */
int qcow2_sync(struct qcow2 *q);
static inline int qcow2_get_lost_writes(const struct qcow2 *q)
{
	return __atomic_load_n(&q->lost_writes, __ATOMIC_RELAXED);
}

/* Somebody else's flush of the file failed. */
void qcow2_set_lost_writes(struct qcow2 *q, int error);
/* Parts of an iovec, from skip bytes in. */
void qcow2_iov_zero(const struct iovec *iov, unsigned niov, uint64_t skip, uint64_t len);
void qcow2_iov_fill(const struct iovec *iov, unsigned niov, uint64_t skip, const void *from,
		    uint64_t len);
void qcow2_iov_take(const struct iovec *iov, unsigned niov, uint64_t skip, void *to, uint64_t len);
/* At most max parts; returns how many. */
unsigned qcow2_iov_slice(struct iovec *to, unsigned max, const struct iovec *iov, unsigned niov,
			 uint64_t skip, uint64_t len);

/* qcow2/cache.c */
void qcow2_cache_init(struct qcow2 *q);
void qcow2_cache_free(struct qcow2 *q);
/* The slice that holds the byte at offset: 0; 1: loaded, but look again; -EAGAIN; -errno.
 * *out is good until the lock is released. */
int qcow2_slice_locked(struct qcow2 *q, uint64_t offset, enum qcow2_table table, bool nonblock,
		       struct qcow2_slice **out);
/* As if loaded: the cluster there is new, and zeroes. */
int qcow2_slice_new_locked(struct qcow2 *q, uint64_t offset, enum qcow2_table table,
			   struct qcow2_slice **out);
void qcow2_slice_dirty_locked(struct qcow2 *q, struct qcow2_slice *s, uint32_t lo, uint32_t hi);
/* Forget the slices of a cluster that is being freed or used anew. */
void qcow2_slice_drop_locked(struct qcow2 *q, uint64_t offset, uint64_t len);

/* qcow2/map.c */
enum qcow2_kind { QCOW2_HOLE, QCOW2_ZEROES, QCOW2_DATA, QCOW2_PACKED };

struct qcow2_run {
	enum qcow2_kind kind; /* HOLE: the backing file's, if there is one */
	uint64_t len;	      /* bytes from the offset asked for */
	uint64_t host;	      /* DATA, preallocated ZEROES: where in the file; else 0 */
	uint64_t entry;	      /* PACKED: the L2 entry; len ends with the cluster */
	bool copied;	      /* DATA, ZEROES: may be written in place */
};

/* How [offset, offset + max) begins; max > 0. 0, 1, -EAGAIN, -EIO, … as above. */
int qcow2_map_locked(struct qcow2 *q, uint64_t offset, uint64_t max, bool nonblock,
		     struct qcow2_run *run);
/* The same, blocking, without the lock; begins an I/O: *epoch is for qcow2_io_end. */
int qcow2_map(struct qcow2 *q, uint64_t offset, uint64_t max, struct qcow2_run *run,
	      unsigned *epoch);
unsigned qcow2_io_begin_locked(struct qcow2 *q);
/* With or without the lock. */
void qcow2_io_end(struct qcow2 *q, unsigned epoch);
/* The file does not make sense at offset: says so, returns -EIO. */
int qcow2_damaged(struct qcow2 *q, const char *what, uint64_t offset);

/* qcow2/meta.c: clusters that hold metadata; the header always does. */
bool qcow2_meta_has(const struct qcow2 *q, uint64_t offset);
/* 0, -EEXIST, -ENOMEM. */
int qcow2_meta_add(struct qcow2 *q, uint64_t offset);
int qcow2_meta_add_run(struct qcow2 *q, uint64_t offset, uint64_t len);
void qcow2_meta_remove(struct qcow2 *q, uint64_t offset);

/* qcow2/refcount.c: 0, 1 (look again), -errno, as qcow2_slice_locked. */
int qcow2_refcount_locked(struct qcow2 *q, uint64_t cluster, bool nonblock, uint64_t *out);
/* Its block must exist: -ERANGE. */
int qcow2_refcount_set_locked(struct qcow2 *q, uint64_t cluster, uint64_t value);
/* Is the cluster free (or without a block), and how many from there on are as it is? At least 1,
 * as far as one look tells. */
int qcow2_refcount_run_locked(struct qcow2 *q, uint64_t cluster, bool *free, uint64_t *n);
/* A new block, zeroes in the file, where [first, + n), all of which it counts, have the refcount
 * 1. 0 or -ENOMEM, then nothing has changed. */
int qcow2_new_block_locked(struct qcow2 *q, uint64_t block, uint64_t first, uint64_t n);

/* NOW: without I/O, and zeroes only; else -EAGAIN. */
enum qcow2_alloc { QCOW2_ALLOC_ANY, QCOW2_ALLOC_NOW };

struct qcow2_got {
	uint64_t host;
	uint64_t n;  /* clusters: 1 .. want */
	bool zeroed; /* they read as zeroes */
};

/* The refcounts are 1 then. */
int qcow2_alloc_locked(struct qcow2 *q, uint64_t want, enum qcow2_alloc how, struct qcow2_got *out);
/* Give back what was never linked. */
void qcow2_unalloc_locked(struct qcow2 *q, uint64_t host, uint64_t n);
/* They may be written to from now on. */
void qcow2_unzeroed_locked(struct qcow2 *q, uint64_t cluster, uint64_t n);
/* The file is at least end bytes long then. */
int qcow2_grow_file_locked(struct qcow2 *q, uint64_t end);

/* qcow2/reftable.c. 1: done, look again; -errno: nothing has changed. */
int qcow2_reftable_grow_locked(struct qcow2 *q, uint64_t cluster);
/* n clusters in one piece, zeroes, for metadata; blocks, lets the lock go. */
int qcow2_alloc_run_locked(struct qcow2 *q, uint64_t n, uint64_t *host);

/* qcow2/commit.c */
static inline void qcow2_range_add(struct qcow2_range *r, uint64_t lo, uint64_t hi)
{
	if (r->lo == r->hi) {
		*r = (struct qcow2_range){ lo, hi };
		return;
	}
	r->lo = lo < r->lo ? lo : r->lo;
	r->hi = hi > r->hi ? hi : r->hi;
}

/* All changes that were made before are on the medium then, and what they refer to. */
int qcow2_commit(struct qcow2 *q);
/* Is there anything for it to write? */
bool qcow2_dirty_locked(const struct qcow2 *q);

/* qcow2/free.c */
int qcow2_free_add(struct qcow2 *q, struct qcow2_free_list *list, uint64_t offset, uint64_t n);
/* What an L2 entry referred to, once the change is committed. */
int qcow2_free_entry_locked(struct qcow2 *q, uint64_t entry);
/* Decrement what is settled and no longer in use; q->committing is the caller's. */
int qcow2_free_apply_locked(struct qcow2 *q);

/* qcow2/link.c */
/* The L2 table for that L1 entry exists and is ours alone. 0, 1, -EAGAIN, -errno. */
int qcow2_own_l2_locked(struct qcow2 *q, uint64_t l1_index, enum qcow2_alloc how);
/* Set the L2 entries of n guest clusters (all in one slice): first, first + step, …
 * What they referred to before is freed. 0, 1, -errno. */
int qcow2_set_entries_locked(struct qcow2 *q, uint64_t cluster, uint64_t n, uint64_t first,
			     uint64_t step, enum qcow2_alloc how);
/* Clusters from this one to its slice's end. */
uint64_t qcow2_slice_left(const struct qcow2 *q, uint64_t cluster);

/* qcow2/write.c */
/* Before the first change: clears features that would go stale, completes the last cluster. */
int qcow2_arm_locked(struct qcow2 *q);
int qcow2_write(struct store *s, const struct iovec *iov, unsigned niov, uint64_t offset,
		uint64_t len);
/*
 * Where [offset, …) can be written at once, without I/O or waiting: run->len bytes at run->host.
 * New clusters are linked already. -EAGAIN: qcow2_write can; -EBUSY: another thread changes it.
 */
int qcow2_place_locked(struct qcow2 *q, uint64_t offset, uint64_t len, struct qcow2_run *run);
/*
 * Writes the beginning of [offset, + len), *done bytes, to new clusters, which old data is copied to:
 * without loading metadata, decompressing, or waiting for others; the files themselves are read
 * and written (the lock is let go meanwhile). -EAGAIN and -EBUSY as above, and -errno.
 */
int qcow2_copy_now_locked(struct qcow2 *q, const struct iovec *iov, unsigned niov, uint64_t skip,
			  uint64_t offset, uint64_t len, uint64_t *done);
void qcow2_busy_begin_locked(struct qcow2 *q, struct qcow2_busy *busy, uint64_t first, uint64_t n);
void qcow2_busy_end_locked(struct qcow2 *q, struct qcow2_busy *busy);
bool qcow2_is_busy_locked(const struct qcow2 *q, uint64_t first, uint64_t n);

/* qcow2/zero.c */
int qcow2_zero(struct store *s, uint64_t offset, uint64_t len, bool unmap);
int qcow2_discard(struct store *s, uint64_t offset, uint64_t len);

/* qcow2/compress.c */
/* Part of the guest cluster that entry describes, [from, from + len), into iov from skip. */
int qcow2_unpack(struct qcow2 *q, uint64_t entry, uint64_t from, const struct iovec *iov,
		 unsigned niov, uint64_t skip, uint64_t len);
/* From the clusters that are kept decompressed; false: it is not among them. Lock held. */
bool qcow2_unpacked_locked(struct qcow2 *q, uint64_t entry, uint64_t from, const struct iovec *iov,
			   unsigned niov, uint64_t skip, uint64_t len);
void qcow2_unpacked_forget_locked(struct qcow2 *q);
void qcow2_unpacked_free(struct qcow2 *q);
/* Bytes of the file that a compressed cluster's sectors take: [*offset, *offset + *len). */
void qcow2_packed_extent(const struct qcow2 *q, uint64_t entry, uint64_t *offset, uint64_t *len);

/* qcow2/read.c */
int qcow2_read(struct store *s, const struct iovec *iov, unsigned niov, uint64_t offset,
	       uint64_t len);
int qcow2_extent(struct store *s, uint64_t offset, uint64_t max, struct store_extent *out);
bool qcow2_beyond(const struct store *s, uint64_t offset, uint64_t len);

/* qcow2/resize.c */
int qcow2_resize(struct store *s, uint64_t size, struct err *err);

/* qcow2/snapshots.c */
struct qcow2_snapshot_l1 {
	uint64_t l1_offset;
	uint32_t l1_size;
};
/* The L1 tables of the snapshots (free them), and the bytes of the snapshot table. */
int qcow2_snapshots_load(struct qcow2 *q, struct qcow2_snapshot_l1 **out, uint64_t *table_bytes);
/* Add what belongs to snapshots to the metadata. -E2BIG: more than anybody shall remember. */
int qcow2_snapshots_know(struct qcow2 *q);

/* qcow2/open.c */
/* As store_open, of qcow2 images only, and without the backing file: the caller opens that as
 * store.backing_name and backing_format say, and puts it into store.backing. */
int qcow2_store_open(const struct store_options *options, struct store **out, struct err *err);

static inline bool qcow2_is_image(const struct store *s)
{
	return s->ops->format == STORE_QCOW2;
}

#endif
