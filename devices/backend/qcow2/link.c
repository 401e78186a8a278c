/* qcow2/link: makes L2 tables that no snapshot shares, and changes their entries. See link.h. */
#include "devices/backend/qcow2/link.h"
#include "devices/backend/qcow2/qcow2_impl.h"

#include <errno.h>
#include <stdlib.h>

uint64_t qcow2_slice_left(const struct qcow2 *q, uint64_t cluster)
{
	uint64_t per_slice = q->cache.slice_bytes / 8;

	return per_slice - (cluster & (per_slice - 1));
}

static void set_l1(struct qcow2 *q, uint64_t l1_index, uint64_t host)
{
	q->file.l1.entry[l1_index] = host | QCOW2_COPIED;
	qcow2_range_add(&q->changes.l1, l1_index, l1_index + 1);
}

/* Fills the new table: zeroes, or a copy of one that a snapshot shares. Without the lock. */
static int fill_table(struct qcow2 *q, uint64_t from, uint64_t to)
{
	void *buf;
	int rc;

	if (!from)
		return qcow2_pzero(&q->file, q->file.cluster_bytes, to);
	buf = malloc(q->file.cluster_bytes);
	if (!buf)
		return -ENOMEM;
	rc = qcow2_pread(&q->file, buf, q->file.cluster_bytes, from);
	if (!rc)
		rc = qcow2_pwrite(&q->file, buf, q->file.cluster_bytes, to);
	free(buf);
	return rc;
}

/* Makes sure that the L1 entry has an L2 table that no snapshot shares. 0, 1, -EAGAIN, -errno. */
static int own_l2(struct qcow2 *q, uint64_t l1_index, enum qcow2_alloc how)
{
	uint64_t was = q->file.l1.entry[l1_index];
	uint64_t old = was & QCOW2_OFFSET_MASK;
	struct qcow2_got got;
	int rc;

	if (old && was & QCOW2_COPIED)
		return 0;
	if (old && how == QCOW2_ALLOC_NOW)
		return -EAGAIN;
	rc = qcow2_alloc_locked(q, 1, how, &got);
	if (rc)
		return rc;
	qcow2_slice_drop_locked(q, got.host, q->file.cluster_bytes);
	rc = qcow2_meta_add(q, got.host);
	if (!rc && (old || !got.zeroed)) {
		pthread_mutex_unlock(&q->lock);
		rc = fill_table(q, old, got.host);
		pthread_mutex_lock(&q->lock);
		/* Another thread may have made the table meanwhile. */
		if (!rc && q->file.l1.entry[l1_index] != was)
			rc = 1;
		if (rc)
			qcow2_meta_remove(q, got.host);
	}
	if (rc) {
		qcow2_unalloc_locked(q, got.host, 1);
		return rc;
	}
	set_l1(q, l1_index, got.host);
	if (old)
		qcow2_free_entry_locked(q, old);
	return old || !got.zeroed ? 1 : 0;
}

/* A damaged entry must not make the engine free metadata. */
static int check_freed(struct qcow2 *q, uint64_t entry, uint64_t at)
{
	uint64_t offset = entry & QCOW2_OFFSET_MASK, len = q->file.cluster_bytes;

	if (entry & QCOW2_COMPRESSED)
		qcow2_packed_extent(&q->file, entry, &offset, &len);
	else if (!offset)
		return 0;
	for (uint64_t c = offset & ~(q->file.cluster_bytes - 1); c < offset + len;
	     c += q->file.cluster_bytes)
		if (qcow2_meta_has(q, c))
			return qcow2_damaged(&q->file, "an L2 entry points to metadata", at);
	return 0;
}

/* Returns true if the change drops the old cluster; a change of flags alone keeps it. */
static bool frees(uint64_t old, uint64_t new)
{
	return old & QCOW2_COMPRESSED || (old ^ new) & QCOW2_OFFSET_MASK;
}

int qcow2_set_entries_locked(struct qcow2 *q, uint64_t cluster, uint64_t n, uint64_t first,
			     uint64_t step, enum qcow2_alloc how)
{
	uint64_t l1_index = cluster >> q->file.l2_bits;
	uint64_t at = (cluster & ((1ull << q->file.l2_bits) - 1)) * 8;
	uint64_t *entry;
	struct qcow2_slice *s;
	uint32_t i;
	int rc;

	rc = own_l2(q, l1_index, how);
	if (rc)
		return rc;
	at += q->file.l1.entry[l1_index] & QCOW2_OFFSET_MASK;
	rc = qcow2_slice_locked(q, at, QCOW2_L2, how == QCOW2_ALLOC_NOW, &s);
	if (rc)
		return rc;
	i = (uint32_t)((at - s->offset) / 8);
	entry = (uint64_t *)s->data;
	for (uint64_t k = 0; k < n && !rc; k++)
		if (frees(be64toh(entry[i + k]), first + k * step))
			rc = check_freed(q, be64toh(entry[i + k]), at + k * 8);
	if (rc)
		return rc;
	for (uint64_t k = 0; k < n; k++) {
		uint64_t old = be64toh(entry[i + k]), new = first + (k * step);

		entry[i + k] = htobe64(new);
		if (frees(old, new))
			qcow2_free_entry_locked(q, old);
	}
	qcow2_slice_dirty_locked(q, s, i * 8, (i + (uint32_t)n) * 8);
	return 0;
}
