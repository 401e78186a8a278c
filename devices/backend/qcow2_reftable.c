/*
 * qcow2_reftable: the refcount table when it must grow, and clusters in one piece. See qcow2.h.
 *
 * Both are rare. They take what lies behind all that the file has, so that nothing has to be
 * searched for: first the refcount blocks that the new clusters need, then the clusters.
 */
#include "devices/backend/qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t missing_blocks(const struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	uint64_t missing = 0;

	for (uint64_t i = cluster >> q->refblock_bits; i <= (cluster + n - 1) >> q->refblock_bits;
	     i++)
		missing += i >= q->reftable_size || !q->reftable[i];
	return missing;
}

/* In memory; the commit writes it. */
static int enlarge(struct qcow2 *q, uint64_t entries)
{
	uint64_t bytes = qcow2_round_up(q, entries * 8);
	uint64_t *table;

	if (bytes > QCOW2_MAX_REFTABLE_BYTES)
		return -EFBIG;
	if (entries <= q->reftable_size)
		return 0;
	table = realloc(q->reftable, bytes);
	if (!table)
		return -ENOMEM;
	memset(table + q->reftable_size, 0, bytes - q->reftable_size * 8);
	q->reftable = table;
	q->reftable_size = bytes / 8;
	return 0;
}

static int set_counts(struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		uint64_t old;
		int rc;

		do
			rc = qcow2_refcount_locked(q, cluster + i, false, &old);
		while (rc == 1);
		if (!rc && old)
			rc = qcow2_damaged(q, "clusters behind the file's end have refcounts",
					   (cluster + i) << q->cluster_bits);
		if (!rc)
			rc = qcow2_refcount_set_locked(q, cluster + i, 1);
		if (rc)
			return rc;
	}
	return 0;
}

/* The blocks that count [cluster, + n) are the first of these clusters. */
static int place_blocks(struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	uint64_t at = cluster << q->cluster_bits;

	for (uint64_t i = cluster >> q->refblock_bits; i <= (cluster + n - 1) >> q->refblock_bits;
	     i++) {
		int rc;

		if (q->reftable[i])
			continue;
		rc = qcow2_meta_add(q, at);
		if (rc)
			return rc;
		q->reftable[i] = at;
		qcow2_range_add(&q->reftable_dirty, i, i + 1);
		at += q->cluster_bytes;
	}
	return 0;
}

/* Zeroes on the medium and in no slice; the lock is let go, slow_alloc keeps others away. */
static int prepare(struct qcow2 *q, uint64_t offset, uint64_t len)
{
	int rc;

	if (q->image.is_block && offset + len > q->grown_bytes)
		return -ENOSPC;
	pthread_mutex_unlock(&q->lock);
	rc = q->image.is_block ? qcow2_pzero(q, len, offset) : 0;
	pthread_mutex_lock(&q->lock);
	return rc;
}

/* slow_alloc is set. 1: the refcount table is too small. */
static int alloc_behind(struct qcow2 *q, uint64_t n, uint64_t *host)
{
	uint64_t cluster = q->file_bytes >> q->cluster_bits;
	uint64_t blocks = 0, all, end;
	int rc;

	while (missing_blocks(q, cluster, n + blocks) > blocks)
		blocks = missing_blocks(q, cluster, n + blocks);
	all = n + blocks;
	end = (cluster + all) << q->cluster_bits;
	if ((cluster + all - 1) >> q->refblock_bits >= q->reftable_size)
		return 1;
	rc = qcow2_grow_file_locked(q, end);
	if (!rc)
		rc = prepare(q, cluster << q->cluster_bits, all << q->cluster_bits);
	if (rc)
		return rc;
	/* From here on nobody else finds these clusters, whatever fails. */
	q->file_bytes = end;
	if (q->virgin < end)
		q->virgin = end;
	rc = place_blocks(q, cluster, all);
	if (!rc)
		rc = set_counts(q, cluster, all);
	*host = (cluster + blocks) << q->cluster_bits;
	return rc;
}

static int begin_slow(struct qcow2 *q)
{
	while (q->slow_alloc)
		pthread_cond_wait(&q->changed, &q->lock);
	q->slow_alloc = true;
	return q->unsafe ? -EIO : 0;
}

static void end_slow(struct qcow2 *q)
{
	q->slow_alloc = false;
	pthread_cond_broadcast(&q->changed);
}

/* A table half as large again, at a new place; the commit writes it and lets go of the old. */
static int move_table(struct qcow2 *q, uint64_t cluster)
{
	uint64_t want = (cluster >> q->refblock_bits) + 1, n, host;
	int rc;

	want += want / 2 + 8;
	if (want > QCOW2_MAX_REFTABLE_BYTES / 8)
		want = QCOW2_MAX_REFTABLE_BYTES / 8;
	if (want <= cluster >> q->refblock_bits)
		return -EFBIG;
	rc = enlarge(q, want);
	if (rc)
		return rc;
	n = q->reftable_size * 8 >> q->cluster_bits;
	rc = alloc_behind(q, n, &host);
	if (rc == 1)
		rc = -EFBIG;
	if (!rc)
		rc = qcow2_meta_add_run(q, host, n << q->cluster_bits);
	if (!rc)
		rc = qcow2_free_add(q, &q->freed, q->reftable_offset, q->reftable_clusters);
	if (rc)
		return rc;
	q->reftable_offset = host;
	q->reftable_clusters = (uint32_t)n;
	q->reftable_moved = true;
	return 1;
}

int qcow2_reftable_grow_locked(struct qcow2 *q, uint64_t cluster)
{
	int rc = begin_slow(q);

	if (!rc && cluster >> q->refblock_bits < q->reftable_size)
		rc = 1;
	if (!rc)
		rc = move_table(q, cluster);
	end_slow(q);
	/* Half of it in memory only: nothing of it is referred to. But go no further. */
	if (rc < 0)
		q->unsafe = true;
	return rc;
}

int qcow2_alloc_behind_locked(struct qcow2 *q, uint64_t n, uint64_t *host)
{
	int rc = begin_slow(q);

	if (!rc)
		rc = alloc_behind(q, n, host);
	if (rc == 1) {
		/* Half as many again: room for its blocks, and its own. */
		rc = move_table(q, (q->file_bytes >> q->cluster_bits) + n + n / 2);
		if (rc == 1)
			rc = alloc_behind(q, n, host);
		if (rc == 1)
			rc = -EFBIG;
	}
	end_slow(q);
	if (rc < 0)
		q->unsafe = true;
	return rc;
}
