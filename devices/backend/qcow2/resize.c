/*
 * qcow2/resize: changes the disk's size. See resize.h.
 *
 * Theory of operation. To grow, other threads may go on with the old part of the disk. First, if the L1
 * table becomes too short, a longer one takes its place in memory, under the lock; the next commit
 * writes all of it before the header points to it, and then frees the old one's clusters. Then the new
 * part is zeroed, where it may hold old data, and committed. Last the header gets the new size. So at
 * whatever moment the process dies, the image has the old size or the new one, and the new part reads
 * as zeroes. To shrink, no other thread uses the image.
 */
#include "devices/backend/qcow2/qcow2_impl.h"
#include "devices/backend/qcow2/resize.h"
#include "devices/backend/qcow2/write.h"
#include "devices/backend/qcow2/zero.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static uint64_t l1_entries(const struct qcow2 *q, uint64_t size)
{
	uint64_t per_l2 = q->file.cluster_bytes << q->file.l2_bits;

	return size / per_l2 + !!(size % per_l2);
}

static int write_size(struct qcow2 *q, uint64_t size)
{
	uint64_t be = htobe64(size);
	int rc = qcow2_header_patch(&q->file, offsetof(struct qcow2_header, size), &be, sizeof(be));

	if (!rc) {
		store_set_size(&q->store, size);
		q->file.disk_bytes = size;
	}
	return rc;
}

/* Puts a longer L1 table at a new place, in memory. */
static int grow_l1(struct qcow2 *q, uint64_t entries)
{
	uint64_t bytes = qcow2_round_up(&q->file, entries * 8), host;
	uint64_t *l1 = calloc(1, bytes);
	int rc;

	if (!l1)
		return -ENOMEM;
	pthread_mutex_lock(&q->lock);
	rc = qcow2_alloc_run_locked(q, bytes >> q->file.cluster_bits, &host);
	if (!rc) {
		uint64_t old_bytes = qcow2_round_up(&q->file, (uint64_t)q->file.l1.n * 8);
		uint64_t *old = q->file.l1.entry;

		/* If there is no memory to remember the old table, it stays a leak. */
		qcow2_free_add(q, &q->freeing.freed, q->file.l1.offset,
			       old_bytes >> q->file.cluster_bits);
		memcpy(l1, old, (size_t)q->file.l1.n * 8);
		q->file.l1 = (struct qcow2_l1){ l1, host, (uint32_t)entries };
		q->changes.l1_moved = true;
		l1 = old;
	}
	pthread_mutex_unlock(&q->lock);
	free(l1);
	return rc;
}

/* Zeroes the new part as far as it may hold data that was never the guest's: the rest of the old
 * last cluster, the backing file's data, and clusters behind the old end. */
static int clear_new(struct qcow2 *q, uint64_t old, uint64_t size)
{
	struct store *b = q->store.backing;
	uint64_t end = qcow2_round_up(&q->file, old), l2;

	if (b && b->size_bytes > end)
		end = b->size_bytes;
	/* A shrink that was interrupted may have left clusters behind the disk's end. */
	pthread_mutex_lock(&q->lock);
	l2 = q->file.l1.n;
	while (l2 && !q->file.l1.entry[l2 - 1])
		l2--;
	pthread_mutex_unlock(&q->lock);
	if (l2 << (q->file.l2_bits + q->file.cluster_bits) > end)
		end = l2 << (q->file.l2_bits + q->file.cluster_bits);
	if (end > size)
		end = size;
	return end > old ? qcow2_zero(&q->store, old, end - old, true) : 0;
}

static int grow(struct qcow2 *q, uint64_t size)
{
	uint64_t old = q->store.size_bytes;
	int rc = 0;

	if (l1_entries(q, size) > q->file.l1.n)
		rc = grow_l1(q, l1_entries(q, size));
	if (rc)
		return rc;
	/* Clear and commit first: if the process dies here, the disk still has its old size. */
	store_set_size(&q->store, size);
	rc = clear_new(q, old, size);
	if (!rc)
		rc = qcow2_commit(q);
	store_set_size(&q->store, old);
	return rc ? rc : write_size(q, size);
}

static int shrink(struct qcow2 *q, uint64_t size)
{
	uint64_t old = q->store.size_bytes, from = qcow2_round_up(&q->file, size);
	struct store *backing = q->store.backing;
	int rc = qcow2_commit(q);

	if (!rc)
		rc = write_size(q, size);
	if (rc)
		return rc;
	/*
	 * QEMU, when it grows the image for a commit, expects nothing behind the end: zero the rest of the last cluster, and
	 * free those behind it, which the tables still map. What the backing file has there does not count, since whoever
	 * grows an image zeroes that. Version 2 could not free them otherwise.
	 */
	q->store.size_bytes = old;
	rc = qcow2_zero(&q->store, size, (from < old ? from : old) - size, false);
	q->store.backing = NULL;
	if (!rc && from < old)
		rc = qcow2_discard(&q->store, from, old - from);
	q->store.backing = backing;
	q->store.size_bytes = size;
	return rc ? rc : qcow2_commit(q);
}

int qcow2_resize(struct store *s, uint64_t size, struct err *err)
{
	struct qcow2 *q = qcow2_of(s);
	int rc;

	if (size == s->size_bytes)
		return 0;
	if (size % 512)
		return err_set(err, EINVAL, "disk %s: its size must be a multiple of 512",
			       q->file.path);
	if (size > INT64_MAX || l1_entries(q, size) > QCOW2_MAX_L1_BYTES / 8)
		return err_set(err, EFBIG, "disk %s: %llu bytes are too many for clusters of %llu",
			       q->file.path, (unsigned long long)size,
			       (unsigned long long)q->file.cluster_bytes);
	if (q->file.nsnapshots)
		return err_set(err, ENOTSUP,
			       "disk %s: has internal snapshots; it cannot change its "
			       "size (qemu-img snapshot -d deletes them)",
			       q->file.path);
	pthread_mutex_lock(&q->lock);
	rc = q->armed ? 0 : qcow2_arm_locked(q);
	pthread_mutex_unlock(&q->lock);
	if (!rc)
		rc = size > s->size_bytes ? grow(q, size) : shrink(q, size);
	return rc ? err_sys(err, -rc, "disk %s: cannot resize", q->file.path) : 0;
}
