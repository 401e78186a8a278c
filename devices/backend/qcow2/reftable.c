/*
 * qcow2/reftable: grows the refcount table, and allocates clusters in one piece. See refcount.h.
 *
 * Both are rare. The search begins at the end of a file, which can grow. A block device cannot, and
 * the search goes through its refcounts from the first free cluster. The first clusters of the run
 * that is found become the refcount blocks that it needs.
 *
 * 1. begin_slow: one such allocation at a time. The others wait, so that the lock can be released.
 * 2. find_run looks for clusters that are free, side by side: as many as are asked for, and one for
 *    each refcount block that counting them needs and that does not exist.
 * 3. prepare makes them part of the file and zeroes.
 * 4. count sets the refcounts of those that have a block. If a commit writes them before 5 is done,
 *    and then the process dies, they are a leak.
 * 5. take adds the run to the set of metadata and enters the new blocks, which count the rest of
 *    the run, into the table. It needs memory only, and undoes its changes if there is none.
 * 6. move_table, if the table itself must grow: it enlarges the table in memory and finds a place
 *    for it in the file by 2 to 5. The next commit writes it there, and then the header's pointer
 *    to it; the old table's clusters are freed like others.
 *
 * If 2 to 4 fail, they have changed no more than zeroes in free clusters and refcounts that are too
 * high. Other threads see the new clusters only after 5, which runs under the lock. So a failure
 * (no space, no memory, a limit) leaves the image as good as before, and the next try begins anew.
 */
#include "devices/backend/qcow2/qcow2_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct run {
	uint64_t first;	     /* cluster */
	uint64_t nblocks, n; /* clusters: refcount blocks, and behind them those asked for */
};

static uint64_t missing_blocks(const struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	uint64_t missing = 0;

	for (uint64_t i = cluster >> q->file.refblock_bits;
	     i <= (cluster + n - 1) >> q->file.refblock_bits; i++)
		missing += i >= q->file.reftable.n || !q->file.reftable.entry[i];
	return missing;
}

/* Makes the table longer in memory; a commit writes it. */
static int enlarge(struct qcow2 *q, uint64_t entries)
{
	uint64_t bytes = qcow2_round_up(&q->file, entries * 8);
	uint64_t *table;

	if (bytes > QCOW2_MAX_REFTABLE_BYTES)
		return -EFBIG;
	if (entries <= q->file.reftable.n)
		return 0;
	/* No realloc: a worker's list of system calls has no mremap. */
	table = calloc(1, bytes);
	if (!table)
		return -ENOMEM;
	memcpy(table, q->file.reftable.entry, q->file.reftable.n * 8);
	free(q->file.reftable.entry);
	q->file.reftable.entry = table;
	q->file.reftable.n = bytes / 8;
	return 0;
}

/* --- a run of free clusters --------------------------------------------------------- */

static int look(struct qcow2 *q, uint64_t cluster, bool *free, uint64_t *n)
{
	int rc;

	do
		rc = qcow2_refcount_run_locked(q, cluster, free, n);
	while (rc == 1);
	return rc;
}

static void with_blocks(const struct qcow2 *q, struct run *r)
{
	r->nblocks = 0;
	while (missing_blocks(q, r->first, r->n + r->nblocks) > r->nblocks)
		r->nblocks = missing_blocks(q, r->first, r->n + r->nblocks);
}

/* Finds where r->n clusters and their blocks are free. Releases the lock meanwhile; slow_alloc is
 * set. */
static int find_run(struct qcow2 *q, struct run *r)
{
	uint64_t limit = (q->file.image.is_block ? q->space.grown_bytes : QCOW2_HOST_MAX) >>
			 q->file.cluster_bits;
	uint64_t have = 0;

	r->first = q->file.image.is_block ? q->space.free_hint :
					    q->file.bytes >> q->file.cluster_bits;
	for (;;) {
		uint64_t n;
		bool free;
		int rc;

		with_blocks(q, r);
		if (r->first + r->nblocks + r->n > limit)
			return -ENOSPC;
		if (have >= r->nblocks + r->n)
			break;
		rc = look(q, r->first + have, &free, &n);
		if (rc)
			return rc;
		if (!free)
			r->first += have + n;
		have = free ? have + n : 0;
	}
	for (uint64_t i = 0; i < r->nblocks + r->n; i++)
		if (qcow2_meta_has(q, (r->first + i) << q->file.cluster_bits))
			return qcow2_damaged(&q->file, "metadata has the refcount 0",
					     (r->first + i) << q->file.cluster_bits);
	return 0;
}

/* Makes sure that the file has the run's clusters and that they are zeroes. Releases the lock
 * meanwhile. */
static int prepare(struct qcow2 *q, const struct run *r)
{
	uint64_t offset = r->first << q->file.cluster_bits;
	uint64_t len = (r->nblocks + r->n) << q->file.cluster_bits;
	int rc;

	if (!q->file.image.is_block)
		return qcow2_grow_file_locked(q, offset + len);
	pthread_mutex_unlock(&q->lock);
	rc = qcow2_pzero(&q->file, len, offset);
	pthread_mutex_lock(&q->lock);
	return rc;
}

/* --- taking it ------------------------------------------------------------------------ */

/* Sets the refcounts of the clusters that have a block already. Releases the lock meanwhile. */
static int count(struct qcow2 *q, const struct run *r)
{
	int rc = 0;

	for (uint64_t i = 0; !rc && i < r->nblocks + r->n; i++) {
		if (!q->file.reftable.entry[(r->first + i) >> q->file.refblock_bits])
			continue;
		do
			rc = qcow2_refcount_set_locked(q, r->first + i, 1);
		while (rc == 1);
	}
	return rc;
}

static void uncount(struct qcow2 *q, const struct run *r)
{
	qcow2_unalloc_locked(q, r->first << q->file.cluster_bits, r->nblocks + r->n);
}

/* Adds the run to the set of metadata and makes its new blocks, in memory only. No I/O. */
static int take(struct qcow2 *q, const struct run *r)
{
	uint64_t end = r->first + r->nblocks + r->n, at = r->first, known = r->first;
	uint64_t first = r->first >> q->file.refblock_bits,
		 last = (end - 1) >> q->file.refblock_bits, i;
	int rc = 0;

	for (; known < end; known++) {
		rc = qcow2_meta_add(q, known << q->file.cluster_bits);
		if (rc)
			goto fail;
	}
	for (i = first; i <= last; i++) {
		uint64_t from = i << q->file.refblock_bits, to = (i + 1) << q->file.refblock_bits;

		if (q->file.reftable.entry[i])
			continue;
		from = from < r->first ? r->first : from;
		to = to > end ? end : to;
		qcow2_slice_drop_locked(q, at << q->file.cluster_bits, q->file.cluster_bytes);
		rc = qcow2_new_block_locked(q, at << q->file.cluster_bits, from, to - from);
		if (rc)
			goto fail;
		at++;
	}
	if (q->file.bytes < end << q->file.cluster_bits)
		q->file.bytes = end << q->file.cluster_bits;
	if (q->space.virgin < end << q->file.cluster_bits)
		q->space.virgin = end << q->file.cluster_bits;
	qcow2_unzeroed_locked(q, r->first, end - r->first);
	return 0;
fail:
	for (i = first; i <= last; i++) {
		uint64_t block = q->file.reftable.entry[i] >> q->file.cluster_bits;

		if (block < r->first || block >= at)
			continue;
		qcow2_slice_drop_locked(q, q->file.reftable.entry[i], q->file.cluster_bytes);
		q->file.reftable.entry[i] = 0;
	}
	while (known-- > r->first)
		qcow2_meta_remove(q, known << q->file.cluster_bits);
	return rc;
}

/* slow_alloc is set. Returns 0; 1: the refcount table is too short to count clusters up to *host;
 * -errno. */
static int alloc_run(struct qcow2 *q, uint64_t n, uint64_t *host)
{
	struct run r = { .n = n };
	uint64_t last;
	int rc = find_run(q, &r);

	if (rc)
		return rc;
	last = r.first + r.nblocks + n - 1;
	*host = last << q->file.cluster_bits;
	if (last >> q->file.refblock_bits >= q->file.reftable.n)
		return 1;
	rc = prepare(q, &r);
	if (rc)
		return rc;
	rc = count(q, &r);
	if (!rc)
		rc = take(q, &r);
	if (rc)
		uncount(q, &r);
	*host = (r.first + r.nblocks) << q->file.cluster_bits;
	return rc;
}

/* --- the two operations --------------------------------------------------------------- */

static int begin_slow(struct qcow2 *q)
{
	while (q->space.slow_alloc)
		pthread_cond_wait(&q->changed, &q->lock);
	q->space.slow_alloc = true;
	return q->file.unsafe ? -EIO : 0;
}

static void end_slow(struct qcow2 *q)
{
	q->space.slow_alloc = false;
	pthread_cond_broadcast(&q->changed);
}

/* Makes the table half as large again, at a new place. The next commit writes it and frees the old
 * one. Returns 1 or -errno. */
static int move_table(struct qcow2 *q, uint64_t cluster)
{
	uint64_t want = (cluster >> q->file.refblock_bits) + 1, was = q->file.reftable.n, n, host;
	int rc;

	want += want / 2 + 8;
	if (want > QCOW2_MAX_REFTABLE_BYTES / 8)
		want = QCOW2_MAX_REFTABLE_BYTES / 8;
	if (want <= cluster >> q->file.refblock_bits)
		return -EFBIG;
	rc = enlarge(q, want);
	if (rc)
		return rc;
	n = q->file.reftable.n * 8 >> q->file.cluster_bits;
	rc = alloc_run(q, n, &host);
	if (rc) {
		/* The file has no room for the new entries: they could never be written. */
		q->file.reftable.n = was;
		return rc == 1 ? -EFBIG : rc;
	}
	/* If there is no memory to remember the old table, it stays a leak. */
	qcow2_free_add(q, &q->freeing.freed, q->file.reftable.offset, q->file.reftable.clusters);
	q->file.reftable.offset = host;
	q->file.reftable.clusters = (uint32_t)n;
	q->changes.reftable_moved = true;
	return 1;
}

int qcow2_reftable_grow_locked(struct qcow2 *q, uint64_t cluster)
{
	int rc = begin_slow(q);

	if (!rc && cluster >> q->file.refblock_bits < q->file.reftable.n)
		rc = 1;
	if (!rc)
		rc = move_table(q, cluster);
	end_slow(q);
	return rc;
}

int qcow2_alloc_run_locked(struct qcow2 *q, uint64_t n, uint64_t *host)
{
	int rc = begin_slow(q);

	if (!rc)
		rc = alloc_run(q, n, host);
	if (rc == 1) {
		/* Half as many again: room for the run's blocks, and for the table itself. */
		rc = move_table(q, (*host >> q->file.cluster_bits) + n / 2);
		if (rc == 1)
			rc = alloc_run(q, n, host);
		if (rc == 1)
			rc = -EFBIG;
	}
	end_slow(q);
	return rc;
}
