/*
 * qcow2/free: clusters that lose a reference. See "Freeing" in qcow2.h.
 *
 * freed (by changes in memory) -> settled (a commit has written these changes) -> limbo (until
 * the I/O that began before has ended) -> hole punched, refcount decremented, free to be used.
 */
#include "devices/backend/qcow2/qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>

#define ZEROED_MAX 256u
/* So many bytes are worth a commit of their own. */
#define FREED_MAX_BYTES (1ull << 30)

int qcow2_free_entry_locked(struct qcow2 *q, uint64_t entry)
{
	uint64_t offset = entry & QCOW2_OFFSET_MASK, len = q->cluster_bytes;
	uint64_t first, n;

	if (entry & QCOW2_COMPRESSED)
		qcow2_packed_extent(q, entry, &offset, &len);
	else if (!offset)
		return 0;
	first = offset & ~(q->cluster_bytes - 1);
	n = (qcow2_round_up(q, offset + len) - first) >> q->cluster_bits;
	q->freed_bytes += n << q->cluster_bits;
	if (q->freed_bytes > FREED_MAX_BYTES)
		q->want_commit = true;
	/* Without memory to remember it stays a leak. */
	qcow2_free_add(q, &q->freed, first, n);
	return 0;
}

/* Punches holes where the last reference goes; [at, + n) have the refcount 1. */
static void punch(struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	uint64_t offset = cluster << q->cluster_bits;
	bool punched;

	if (q->packed_at && q->packed_at >= offset &&
	    q->packed_at < offset + (n << q->cluster_bits))
		q->packed_at = 0;
	qcow2_unpacked_forget_locked(q);
	for (uint64_t i = 0; i < n; i++) {
		qcow2_meta_remove(q, offset + (i << q->cluster_bits));
		qcow2_slice_drop_locked(q, offset + (i << q->cluster_bits), q->cluster_bytes);
	}
	pthread_mutex_unlock(&q->lock);
	punched = !q->image.is_block &&
		  !fallocate(q->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			     (off_t)(n << q->cluster_bits));
	pthread_mutex_lock(&q->lock);
	if (punched && q->zeroed.n < ZEROED_MAX)
		qcow2_free_add(q, &q->zeroed, offset, n);
}

static int refcount(struct qcow2 *q, uint64_t cluster, uint64_t *out)
{
	int rc;

	do
		rc = qcow2_refcount_locked(q, cluster, false, out);
	while (rc == 1);
	return rc;
}

static int decrement(struct qcow2 *q, uint64_t cluster)
{
	uint64_t count;
	int rc;

	do {
		rc = refcount(q, cluster, &count);
		if (!rc && !count)
			return qcow2_damaged(q, "a cluster in use has the refcount 0",
					     cluster << q->cluster_bits);
		if (!rc)
			rc = qcow2_refcount_set_locked(q, cluster, count - 1);
	} while (rc == 1);
	if (!rc && count == 1 && cluster < q->free_hint)
		q->free_hint = cluster;
	return rc;
}

static int release_run(struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	uint64_t ones = 0, count;
	int rc;

	/* The hole first: nobody takes them before their refcounts are 0. */
	for (uint64_t i = 0; i <= n; i++) {
		count = 0;
		rc = i < n ? refcount(q, cluster + i, &count) : 0;
		if (rc)
			return rc;
		if (i < n && count == 1) {
			ones++;
			continue;
		}
		if (ones)
			punch(q, cluster + i - ones, ones);
		ones = 0;
	}
	for (uint64_t i = 0; i < n; i++) {
		rc = decrement(q, cluster + i);
		if (rc)
			return rc;
	}
	return 0;
}

static int release(struct qcow2 *q)
{
	int rc = 0;

	for (size_t i = 0; i < q->limbo.n && !rc; i++)
		rc = release_run(q, q->limbo.run[i].offset >> q->cluster_bits,
				 q->limbo.run[i].nclusters);
	/* After an error the rest are leaks. */
	q->limbo.n = 0;
	return rc;
}

int qcow2_free_apply_locked(struct qcow2 *q)
{
	struct qcow2_free_list empty;
	int rc = 0;

	/* At most twice: what was in limbo, and what is settled. */
	for (unsigned turn = 0; turn < 2 && !rc; turn++) {
		if (atomic_load_explicit(&q->epoch_io[!q->epoch], memory_order_acquire))
			return 0;
		if (q->limbo.n)
			rc = release(q);
		empty = q->limbo;
		q->limbo = q->settled;
		q->settled = empty;
		/* New I/O counts for the other epoch; the old one drains. */
		if (q->limbo.n)
			q->epoch = !q->epoch;
		else
			break;
	}
	return rc;
}
