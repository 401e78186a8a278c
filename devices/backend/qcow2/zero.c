/*
 * qcow2/zero: zeroing and discarding, cluster by cluster in the L2 tables.
 *
 * Where the backing file has no data, an empty entry reads as zeroes in every version. Where it has
 * data, version 3 has a flag for zeroes, and version 2 needs zeroes written (a discard does
 * nothing there: the backing file's older data would come to light).
 */
#include "devices/backend/qcow2/link.h"
#include "devices/backend/qcow2/qcow2_impl.h"
#include "devices/backend/qcow2/read.h"
#include "devices/backend/qcow2/write.h"
#include "devices/backend/qcow2/zero.h"

#include <errno.h>

#define ZERO_BYTES 65536u

static const uint8_t zeroes[ZERO_BYTES];

enum step { STEP_SKIP, STEP_SET, STEP_WRITE };

static bool nothing_below(const struct qcow2 *q, uint64_t offset)
{
	return !q->store.backing || offset >= q->store.backing->size_bytes;
}

/* Returns what to do with the whole clusters of run, from offset on. *first and *step: their new
 * entries. */
static enum step decide(const struct qcow2 *q, const struct qcow2_run *run, uint64_t offset,
			bool discard, bool unmap, uint64_t *first, uint64_t *step)
{
	bool empty = nothing_below(q, offset);

	*step = 0;
	*first = empty ? 0 : QCOW2_ZERO;
	switch (run->kind) {
	case QCOW2_HOLE:
		if (empty || discard)
			return STEP_SKIP;
		break;
	case QCOW2_ZEROES:
		if (!run->host || !unmap)
			return STEP_SKIP;
		break;
	case QCOW2_DATA:
		if (unmap)
			break;
		if (q->file.version < 3)
			return STEP_WRITE;
		if (run->copied) {
			*first = run->host | QCOW2_COPIED | QCOW2_ZERO;
			*step = q->file.cluster_bytes;
			return STEP_SET;
		}
		break;
	case QCOW2_PACKED:
		break;
	}
	if (q->file.version >= 3 || empty)
		return STEP_SET;
	return discard ? STEP_SKIP : STEP_WRITE;
}

static int write_zeroes(struct qcow2 *q, uint64_t offset, uint64_t len)
{
	while (len) {
		uint64_t part = len < ZERO_BYTES ? len : ZERO_BYTES;
		int rc = store_write(&q->store, zeroes, offset, part);

		if (rc)
			return rc;
		offset += part;
		len -= part;
	}
	return 0;
}

/* For a part of a cluster. Returns 0: it reads as zeroes; 1: zeroes must be written; -errno. */
static int part_needs_zeroes(struct qcow2 *q, uint64_t offset, uint64_t len)
{
	struct qcow2_run run;
	unsigned epoch;
	int rc = qcow2_map(q, offset, len, &run, &epoch);

	if (rc)
		return rc;
	qcow2_io_end(q, epoch);
	if (run.kind == QCOW2_ZEROES)
		return 0;
	return !(run.kind == QCOW2_HOLE && nothing_below(q, offset));
}

/*
 * Whole clusters; lock held. Returns 0: *done bytes are changed; 1: look again; 2: the caller must
 * write zeroes to *done bytes, without the lock; -errno.
 */
static int change_locked(struct qcow2 *q, uint64_t offset, uint64_t len, bool discard, bool unmap,
			 uint64_t *done)
{
	uint64_t cluster = offset >> q->file.cluster_bits, n, first, step;
	struct qcow2_run run;
	int rc;

	if (q->file.unsafe)
		return -EIO;
	rc = qcow2_map_locked(q, offset, len, false, &run);
	if (rc)
		return rc;
	n = (run.len + q->file.cluster_bytes - 1) >> q->file.cluster_bits;
	*done = run.len;
	switch (decide(q, &run, offset, discard, unmap, &first, &step)) {
	case STEP_SKIP:
		return 0;
	case STEP_WRITE:
		return 2;
	default:
		break;
	}
	if (n > qcow2_slice_left(q, cluster)) {
		n = qcow2_slice_left(q, cluster);
		*done = n << q->file.cluster_bits;
	}
	if (qcow2_is_busy_locked(q, cluster, n)) {
		pthread_cond_wait(&q->changed, &q->lock);
		return 1;
	}
	return qcow2_set_entries_locked(q, cluster, n, first, step, QCOW2_ALLOC_ANY);
}

static int change_clusters(struct qcow2 *q, uint64_t offset, uint64_t len, bool discard, bool unmap)
{
	while (len) {
		uint64_t done = 0;
		int rc;

		pthread_mutex_lock(&q->lock);
		if (q->changes.want_commit) {
			pthread_mutex_unlock(&q->lock);
			rc = qcow2_commit(q);
			if (rc)
				return rc;
			pthread_mutex_lock(&q->lock);
		}
		rc = q->armed ? 0 : qcow2_arm_locked(q);
		if (!rc)
			rc = change_locked(q, offset, len, discard, unmap, &done);
		pthread_mutex_unlock(&q->lock);
		if (rc == 1)
			continue;
		if (rc == 2)
			rc = write_zeroes(q, offset, done);
		if (rc)
			return rc;
		offset += done;
		len -= done;
	}
	return 0;
}

/* Cuts [offset, + len) into a part of a cluster, whole clusters, and another part. */
static int change(struct store *s, uint64_t offset, uint64_t len, bool discard, bool unmap)
{
	struct qcow2 *q = qcow2_of(s);
	uint64_t mask = q->file.cluster_bytes - 1, end = offset + len;
	uint64_t begin = (offset + mask) & ~mask, last = end & ~mask;
	int rc = 0;

	if (qcow2_beyond(s, offset, len))
		return -EINVAL;
	/* The disk's end need not be a cluster's end: its last cluster counts as a whole one. */
	if (end == store_size(s))
		last = end;
	if (begin >= last) {
		if (discard || !len)
			return 0;
		begin = last = end;
	}
	if (!discard && offset < begin) {
		rc = part_needs_zeroes(q, offset, begin - offset);
		/* Parts of two clusters: rc is about the first one only, so write both. */
		if (!rc &&
		    (offset >> q->file.cluster_bits) != ((begin - 1) >> q->file.cluster_bits))
			rc = 1;
		if (rc == 1)
			rc = write_zeroes(q, offset, begin - offset);
	}
	if (!rc && begin < last)
		rc = change_clusters(q, begin, last - begin, discard, unmap);
	if (!rc && !discard && last < end) {
		rc = part_needs_zeroes(q, last, end - last);
		if (rc == 1)
			rc = write_zeroes(q, last, end - last);
	}
	return rc;
}

int qcow2_zero(struct store *s, uint64_t offset, uint64_t len, bool unmap)
{
	return change(s, offset, len, false, unmap);
}

int qcow2_discard(struct store *s, uint64_t offset, uint64_t len)
{
	return change(s, offset, len, true, true);
}
