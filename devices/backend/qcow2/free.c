/*
 * qcow2/free: clusters that lose a reference. See "Freeing" in qcow2.h.
 *
 * freed (by changes in memory) -> settled (a commit has written these changes) -> limbo (until
 * the I/O that began before has ended) -> hole punched, refcount decremented, free to be used.
 */
#include "devices/backend/qcow2/compress.h"
#include "devices/backend/qcow2/qcow2_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>

#define ZEROED_MAX 256u
/* More freed bytes than this ask for a commit. */
#define FREED_MAX_BYTES (1ull << 30)

void qcow2_free_entry_locked(struct qcow2 *q, uint64_t entry)
{
	uint64_t offset = entry & QCOW2_OFFSET_MASK, len = q->file.cluster_bytes;
	uint64_t first, n;

	if (entry & QCOW2_COMPRESSED)
		qcow2_packed_extent(&q->file, entry, &offset, &len);
	else if (!offset)
		return;
	first = offset & ~(q->file.cluster_bytes - 1);
	n = (qcow2_round_up(&q->file, offset + len) - first) >> q->file.cluster_bits;
	q->freeing.freed_bytes += n << q->file.cluster_bits;
	if (q->freeing.freed_bytes > FREED_MAX_BYTES)
		q->changes.want_commit = true;
	qcow2_free_add(q, &q->freeing.freed, first, n);
}

/* Punches a hole for n clusters from cluster on, which lose their last reference. Releases the lock
 * meanwhile. */
static void punch(struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	uint64_t offset = cluster << q->file.cluster_bits;
	bool punched;

	qcow2_unpacked_forget_locked(q);
	for (uint64_t i = 0; i < n; i++) {
		qcow2_meta_remove(q, offset + (i << q->file.cluster_bits));
		qcow2_slice_drop_locked(q, offset + (i << q->file.cluster_bits),
					q->file.cluster_bytes);
	}
	pthread_mutex_unlock(&q->lock);
	punched = !q->file.image.is_block &&
		  !fallocate(q->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			     (off_t)(n << q->file.cluster_bits));
	pthread_mutex_lock(&q->lock);
	if (punched && q->space.zeroed.n < ZEROED_MAX)
		qcow2_free_add(q, &q->space.zeroed, offset, n);
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
			return qcow2_damaged(&q->file, "a cluster in use has the refcount 0",
					     cluster << q->file.cluster_bits);
		if (!rc)
			rc = qcow2_refcount_set_locked(q, cluster, count - 1);
	} while (rc == 1);
	if (!rc && count == 1 && cluster < q->space.free_hint)
		q->space.free_hint = cluster;
	return rc;
}

static int release_run(struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	uint64_t ones = 0, count;
	int rc;

	/* The hole first: as long as the refcounts are not 0, the clusters cannot be allocated. */
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

	for (size_t i = 0; i < q->freeing.limbo.n && !rc; i++)
		rc = release_run(q, q->freeing.limbo.run[i].offset >> q->file.cluster_bits,
				 q->freeing.limbo.run[i].nclusters);
	/* After an error the rest are leaks. */
	q->freeing.limbo.n = 0;
	return rc;
}

int qcow2_free_apply_locked(struct qcow2 *q)
{
	struct qcow2_free_list empty;
	int rc = 0;

	/* At most twice: what was in limbo, and what is settled. */
	for (unsigned turn = 0; turn < 2 && !rc; turn++) {
		if (atomic_load_explicit(&q->freeing.epoch_io[!q->freeing.epoch],
					 memory_order_acquire))
			return 0;
		if (q->freeing.limbo.n)
			rc = release(q);
		empty = q->freeing.limbo;
		q->freeing.limbo = q->freeing.settled;
		q->freeing.settled = empty;
		/* New I/O counts for the other epoch; the old one drains. */
		if (q->freeing.limbo.n)
			q->freeing.epoch = !q->freeing.epoch;
		else
			break;
	}
	return rc;
}
