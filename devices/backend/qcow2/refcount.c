/*
 * qcow2/refcount: reference counts, and clusters taken from the free ones. See qcow2.h.
 *
 * The lowest free cluster is taken first, as QEMU does: what was freed is filled before the
 * file grows. A refcount block that is missing is made from the first cluster that it counts.
 */
#include "devices/backend/qcow2/qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How far the file is grown ahead. */
#define GROW_MIN (1u << 20)
#define GROW_MAX (16u << 20)
/* Host offsets have 56 bits. */
#define HOST_MAX (1ull << 56)

/* --- one entry of a slice ----------------------------------------------------------- */

static uint64_t get_entry(const struct qcow2 *q, const uint8_t *data, uint64_t i)
{
	unsigned bits = 1u << q->refcount_order;
	uint16_t v16;
	uint32_t v32;
	uint64_t v64;

	switch (q->refcount_order) {
	case 3:
		return data[i];
	case 4:
		memcpy(&v16, data + i * 2, 2);
		return be16toh(v16);
	case 5:
		memcpy(&v32, data + i * 4, 4);
		return be32toh(v32);
	case 6:
		memcpy(&v64, data + i * 8, 8);
		return be64toh(v64);
	default:
		return (data[i * bits / 8] >> (i * bits % 8)) & q->refcount_max;
	}
}

static void put_entry(const struct qcow2 *q, uint8_t *data, uint64_t i, uint64_t value)
{
	unsigned bits = 1u << q->refcount_order;
	unsigned shift = (unsigned)(i * bits % 8);
	uint16_t v16 = htobe16((uint16_t)value);
	uint32_t v32 = htobe32((uint32_t)value);
	uint64_t v64 = htobe64(value);

	switch (q->refcount_order) {
	case 3:
		data[i] = (uint8_t)value;
		break;
	case 4:
		memcpy(data + i * 2, &v16, 2);
		break;
	case 5:
		memcpy(data + i * 4, &v32, 4);
		break;
	case 6:
		memcpy(data + i * 8, &v64, 8);
		break;
	default:
		data += i * bits / 8;
		*data = (uint8_t)((*data & ~(q->refcount_max << shift)) | value << shift);
		break;
	}
}

/* The slice with the refcount of a cluster, and which entry it is. *out NULL: no block. */
static int find(struct qcow2 *q, uint64_t cluster, bool nonblock, struct qcow2_slice **out,
		uint64_t *entry)
{
	uint64_t index = cluster >> q->refblock_bits;
	uint64_t within = cluster & ((1ull << q->refblock_bits) - 1);
	uint64_t block, at;

	*out = NULL;
	if (index >= q->reftable_size || !q->reftable[index])
		return 0;
	block = q->reftable[index];
	if (block & (q->cluster_bytes - 1) || block >= q->file_bytes)
		return qcow2_damaged(q, "a refcount table entry is wrong",
				     q->reftable_offset + index * 8);
	at = (within << q->refcount_order) / 8;
	*entry = within - (((at & ~(uint64_t)(q->slice_bytes - 1)) * 8) >> q->refcount_order);
	return qcow2_slice_locked(q, block + at, QCOW2_REFCOUNTS, nonblock, out);
}

int qcow2_refcount_locked(struct qcow2 *q, uint64_t cluster, bool nonblock, uint64_t *out)
{
	struct qcow2_slice *s;
	uint64_t entry;
	int rc = find(q, cluster, nonblock, &s, &entry);

	if (!rc)
		*out = s ? get_entry(q, s->data, entry) : 0;
	return rc;
}

static void store_entry(struct qcow2 *q, struct qcow2_slice *s, uint64_t entry, uint64_t value)
{
	uint64_t bit = entry << q->refcount_order;
	uint32_t bytes = q->refcount_order < 3 ? 1u : 1u << (q->refcount_order - 3);

	put_entry(q, s->data, entry, value);
	qcow2_slice_dirty_locked(q, s, (uint32_t)(bit / 8), (uint32_t)(bit / 8) + bytes);
}

int qcow2_refcount_set_locked(struct qcow2 *q, uint64_t cluster, uint64_t value)
{
	struct qcow2_slice *s;
	uint64_t entry;
	int rc = find(q, cluster, false, &s, &entry);

	if (rc)
		return rc;
	if (!s || value > q->refcount_max)
		return -ERANGE;
	store_entry(q, s, entry, value);
	return 0;
}

int qcow2_refcount_run_locked(struct qcow2 *q, uint64_t cluster, bool *free, uint64_t *n)
{
	uint64_t per_slice = ((uint64_t)q->slice_bytes * 8) >> q->refcount_order;
	struct qcow2_slice *s;
	uint64_t entry, count = 0;
	int rc = find(q, cluster, false, &s, &entry);

	if (rc)
		return rc;
	if (!s) {
		*free = true;
		*n = (1ull << q->refblock_bits) - (cluster & ((1ull << q->refblock_bits) - 1));
		return 0;
	}
	*free = !get_entry(q, s->data, entry);
	while (entry + count < per_slice && !get_entry(q, s->data, entry + count) == *free)
		count++;
	*n = count;
	return 0;
}

/* --- what is known to read as zeroes -------------------------------------------------- */

/* Zeroes from cluster on? *n is cut where that changes. */
static bool is_zeroed(const struct qcow2 *q, uint64_t cluster, uint64_t *n)
{
	uint64_t virgin = q->virgin >> q->cluster_bits;

	if (cluster >= virgin)
		return true;
	if (*n > virgin - cluster)
		*n = virgin - cluster;
	for (size_t i = 0; i < q->zeroed.n; i++) {
		const struct qcow2_free *f = &q->zeroed.run[i];
		uint64_t first = f->offset >> q->cluster_bits;

		if (cluster >= first && cluster < first + f->nclusters) {
			if (*n > first + f->nclusters - cluster)
				*n = first + f->nclusters - cluster;
			return true;
		}
		if (cluster<first && * n> first - cluster)
			*n = first - cluster;
	}
	return false;
}

void qcow2_unzeroed_locked(struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	size_t i = 0;

	while (i < q->zeroed.n) {
		struct qcow2_free *f = &q->zeroed.run[i];
		uint64_t first = f->offset >> q->cluster_bits, end = first + f->nclusters;

		if (cluster >= end || cluster + n <= first) {
			i++;
		} else if (end <= cluster + n) {
			*f = q->zeroed.run[--q->zeroed.n];
		} else {
			/* What lies before is forgotten: a hint, and rare. */
			f->offset = (cluster + n) << q->cluster_bits;
			f->nclusters = end - (cluster + n);
			i++;
		}
	}
}

/* --- growing -------------------------------------------------------------------------- */

int qcow2_grow_file_locked(struct qcow2 *q, uint64_t end)
{
	uint64_t ahead = q->file_bytes / 8, size;

	if (end > HOST_MAX)
		return -EFBIG;
	if (end <= q->grown_bytes)
		return 0;
	if (q->image.is_block)
		return -ENOSPC;
	ahead = ahead < GROW_MIN ? GROW_MIN : ahead > GROW_MAX ? GROW_MAX : ahead;
	size = qcow2_round_up(q, end + ahead);
	/* A limit on the file's size, or a file system's own, may allow less. */
	if (ftruncate(q->fd, (off_t)size)) {
		size = end;
		if (ftruncate(q->fd, (off_t)size))
			return -errno;
	}
	/* That it cannot, or has no room for all of it, is no error yet. */
	(void)!fallocate(q->fd, 0, (off_t)q->grown_bytes, (off_t)(size - q->grown_bytes));
	q->grown_bytes = size;
	return 0;
}

/* The clusters are the caller's now. */
static void took(struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	uint64_t end = (cluster + n) << q->cluster_bits;

	qcow2_unzeroed_locked(q, cluster, n);
	if (end > q->file_bytes)
		q->file_bytes = end;
	if (end > q->virgin)
		q->virgin = end;
}

int qcow2_new_block_locked(struct qcow2 *q, uint64_t block, uint64_t first, uint64_t n)
{
	uint64_t per_slice = ((uint64_t)q->slice_bytes * 8) >> q->refcount_order;
	uint64_t index = first >> q->refblock_bits;

	for (uint64_t done = 0; done < n;) {
		uint64_t within = (first + done) & ((1ull << q->refblock_bits) - 1);
		uint64_t entry = within % per_slice;
		struct qcow2_slice *s;
		int rc = qcow2_slice_new_locked(q, block + within / per_slice * q->slice_bytes,
						QCOW2_REFCOUNTS, &s);

		if (rc) {
			qcow2_slice_drop_locked(q, block, q->cluster_bytes);
			return rc;
		}
		for (; entry < per_slice && done < n; entry++, done++)
			store_entry(q, s, entry, 1);
	}
	q->reftable[index] = block;
	qcow2_range_add(&q->reftable_dirty, index, index + 1);
	return 0;
}

/* Makes the block that counts cluster of that cluster itself, which is zeroes. */
static int make_block(struct qcow2 *q, uint64_t cluster)
{
	uint64_t block = cluster << q->cluster_bits;
	int rc = qcow2_grow_file_locked(q, block + q->cluster_bytes);

	if (!rc)
		rc = qcow2_meta_add(q, block);
	if (rc)
		return rc == -EEXIST ? qcow2_damaged(q, "metadata has no refcount", block) : rc;
	rc = qcow2_new_block_locked(q, block, cluster, 1);
	if (rc) {
		qcow2_meta_remove(q, block);
		return rc;
	}
	took(q, cluster, 1);
	return 0;
}

/* Writes zeroes to a free cluster that no refcount block counts; the lock is let go. */
static int zero_uncounted(struct qcow2 *q, uint64_t cluster)
{
	struct qcow2_free run = { cluster << q->cluster_bits, 1 };
	int rc = qcow2_grow_file_locked(q, run.offset + q->cluster_bytes);

	if (rc)
		return rc;
	if (qcow2_meta_has(q, run.offset))
		return qcow2_damaged(q, "metadata has no refcount", run.offset);
	q->slow_alloc = true;
	pthread_mutex_unlock(&q->lock);
	rc = qcow2_pzero(q, q->cluster_bytes, run.offset);
	pthread_mutex_lock(&q->lock);
	q->slow_alloc = false;
	pthread_cond_broadcast(&q->changed);
	if (!rc)
		rc = qcow2_free_add(q, &q->zeroed, run.offset, 1);
	return rc ? rc : 1;
}

static int need_block(struct qcow2 *q, uint64_t cluster, bool nonblock)
{
	uint64_t n = 1;
	int rc;

	if (cluster >> q->refblock_bits >= q->reftable_size)
		return nonblock ? -EAGAIN : qcow2_reftable_grow_locked(q, cluster);
	if (is_zeroed(q, cluster, &n)) {
		rc = make_block(q, cluster);
		return rc ? rc : 1;
	}
	return nonblock ? -EAGAIN : zero_uncounted(q, cluster);
}

/* --- taking ----------------------------------------------------------------------------- */

/* The first free cluster at or after q->free_hint. */
static int find_free(struct qcow2 *q, bool nonblock)
{
	struct qcow2_slice *s;
	uint64_t entry, per_slice = ((uint64_t)q->slice_bytes * 8) >> q->refcount_order;
	int rc;

	for (;;) {
		rc = find(q, q->free_hint, nonblock, &s, &entry);
		if (rc)
			return rc;
		if (!s) {
			rc = need_block(q, q->free_hint, nonblock);
			if (rc == 1 && nonblock)
				continue;
			return rc;
		}
		for (; entry < per_slice; entry++, q->free_hint++)
			if (!get_entry(q, s->data, entry))
				return 0;
	}
}

/* How many of want are free from free_hint on, as far as one slice tells. */
static uint64_t free_run(struct qcow2 *q, uint64_t want)
{
	uint64_t per_slice = ((uint64_t)q->slice_bytes * 8) >> q->refcount_order;
	struct qcow2_slice *s;
	uint64_t entry, n = 0;

	if (find(q, q->free_hint, true, &s, &entry) || !s)
		return 0;
	while (n < want && entry + n < per_slice && !get_entry(q, s->data, entry + n))
		n++;
	return n;
}

static void mark_run(struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	struct qcow2_slice *s;
	uint64_t entry;

	BUG_ON(find(q, cluster, true, &s, &entry) || !s);
	for (uint64_t i = 0; i < n; i++)
		store_entry(q, s, entry + i, 1);
	took(q, cluster, n);
}

int qcow2_alloc_locked(struct qcow2 *q, uint64_t want, enum qcow2_alloc how, struct qcow2_got *out)
{
	bool nonblock = how == QCOW2_ALLOC_NOW;
	uint64_t cluster, n;
	int rc;

	if (q->unsafe)
		return -EIO;
	if (q->slow_alloc) {
		if (nonblock)
			return -EAGAIN;
		pthread_cond_wait(&q->changed, &q->lock);
		return 1;
	}
	rc = find_free(q, nonblock);
	if (rc)
		return rc;
	cluster = q->free_hint;
	n = free_run(q, want);
	BUG_ON(!n);
	out->zeroed = is_zeroed(q, cluster, &n);
	if (nonblock && !out->zeroed)
		return -EAGAIN;
	rc = qcow2_grow_file_locked(q, (cluster + n) << q->cluster_bits);
	if (rc)
		return rc;
	for (uint64_t i = 0; i < n; i++)
		if (qcow2_meta_has(q, (cluster + i) << q->cluster_bits))
			return qcow2_damaged(q, "metadata has the refcount 0",
					     (cluster + i) << q->cluster_bits);
	mark_run(q, cluster, n);
	q->free_hint = cluster + n;
	out->host = cluster << q->cluster_bits;
	out->n = n;
	return 0;
}

/* Clusters that nothing ever referred to: no commit need pass. */
void qcow2_unalloc_locked(struct qcow2 *q, uint64_t host, uint64_t n)
{
	uint64_t cluster = host >> q->cluster_bits;

	for (uint64_t i = 0; i < n; i++) {
		struct qcow2_slice *s;
		uint64_t entry;

		/* Not in memory any more: it stays a leak until the next check. */
		if (find(q, cluster + i, true, &s, &entry) || !s)
			continue;
		store_entry(q, s, entry, 0);
		if (cluster + i < q->free_hint)
			q->free_hint = cluster + i;
	}
}
