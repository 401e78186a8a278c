/*
 * qcow2/refcount: reference counts, and the allocation of clusters. See refcount.h.
 *
 * Theory of operation.
 *
 * The refcount of cluster number c is entry c mod 2^refblock_bits of a refcount block, and entry
 * c >> refblock_bits of the refcount table says where that block is. Blocks are clusters and are
 * counted like others. Clusters that no block counts are free. Slices of blocks are in the cache;
 * find() gets the slice and the entry of c.
 *
 * qcow2_alloc_locked takes clusters in these stages.
 *
 * 1. Search. find_free goes up from space.free_hint, below which nothing is free, to the first
 *    refcount of 0. So the lowest free cluster is taken first, as in QEMU: freed clusters are used
 *    again before the file grows.
 *
 * 2. A block, if there is none. The free cluster where the search stands becomes the block that
 *    counts it (make_block), and the search goes on behind it. That cluster must read as zeroes,
 *    which makes the block's other entries 0 without a write: if it may hold old bytes,
 *    zero_uncounted writes zeroes first. If the refcount table is too short for an entry,
 *    reftable.c moves it to a larger place. Both release the lock and have the caller look again.
 *
 * 3. A run. free_run counts how many clusters from there on are free in the same slice. is_zeroed
 *    cuts the run where clusters that read as zeroes end, so that one answer holds for all.
 *
 * 4. Room in the file. qcow2_grow_file_locked makes the file longer than needed, by an eighth of it
 *    but by 1 MiB at least and 16 MiB at most, so that few allocations need a system call.
 *
 * 5. A last check. A damaged image may have the refcount 0 for a cluster that holds metadata. Such
 *    a cluster is never allocated: the image is damaged, and nothing more is written.
 *
 * 6. Take. mark_run sets the refcounts to 1, and the clusters are no longer known as zeroes.
 *    Nothing refers to them: the caller links them, or gives them back by qcow2_unalloc_locked.
 *
 * With QCOW2_ALLOC_NOW a stage that would wait, or would give clusters with old bytes, returns
 * -EAGAIN instead.
 *
 * What a crash leaves. All of these changes are in memory. A commit writes the slices of refcounts
 * first, then the table, then the entries that refer to the clusters. So the file's refcounts may
 * be too high (a leak), never too low.
 */
#include "devices/backend/qcow2/qcow2_impl.h"
#include "devices/backend/qcow2_image/refcount_entry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/errand/errand.h"

/* How far the file is grown ahead. */
#define GROW_MIN (1u << 20)
#define GROW_MAX (16u << 20)
static uint64_t get_entry(const struct qcow2 *q, const struct qcow2_slice *s, uint64_t i)
{
	return qcow2_refcount_get(s->data, q->file.refcount_order, i);
}

/* Finds the slice with the refcount of a cluster, and its entry there. *out NULL: no block. */
static int find(struct qcow2 *q, uint64_t cluster, bool nonblock, struct qcow2_slice **out,
		uint64_t *entry)
{
	uint64_t index = cluster >> q->file.refblock_bits;
	uint64_t within = cluster & ((1ull << q->file.refblock_bits) - 1);
	uint64_t block, at;

	*out = NULL;
	if (index >= q->file.reftable.n || !q->file.reftable.entry[index])
		return 0;
	block = q->file.reftable.entry[index];
	if (block & (q->file.cluster_bytes - 1) || block >= q->file.bytes)
		return qcow2_damaged(&q->file, "a refcount table entry is wrong",
				     q->file.reftable.offset + index * 8);
	at = (within << q->file.refcount_order) / 8;
	*entry = within -
		 (((at & ~(uint64_t)(q->cache.slice_bytes - 1)) * 8) >> q->file.refcount_order);
	return qcow2_slice_locked(q, block + at, QCOW2_REFCOUNTS, nonblock, out);
}

int qcow2_refcount_locked(struct qcow2 *q, uint64_t cluster, bool nonblock, uint64_t *out)
{
	struct qcow2_slice *s;
	uint64_t entry;
	int rc = find(q, cluster, nonblock, &s, &entry);

	if (!rc)
		*out = s ? get_entry(q, s, entry) : 0;
	return rc;
}

static void store_entry(struct qcow2 *q, struct qcow2_slice *s, uint64_t entry, uint64_t value)
{
	uint64_t bit = entry << q->file.refcount_order;
	uint32_t bytes = q->file.refcount_order < 3 ? 1u : 1u << (q->file.refcount_order - 3);

	qcow2_refcount_put(s->data, q->file.refcount_order, entry, value);
	qcow2_slice_dirty_locked(q, s, (uint32_t)(bit / 8), (uint32_t)(bit / 8) + bytes);
}

int qcow2_refcount_set_locked(struct qcow2 *q, uint64_t cluster, uint64_t value)
{
	struct qcow2_slice *s;
	uint64_t entry;
	int rc = find(q, cluster, false, &s, &entry);

	if (rc)
		return rc;
	if (!s || value > q->file.refcount_max)
		return -ERANGE;
	store_entry(q, s, entry, value);
	return 0;
}

int qcow2_refcount_run_locked(struct qcow2 *q, uint64_t cluster, bool *free, uint64_t *n)
{
	uint64_t per_slice = ((uint64_t)q->cache.slice_bytes * 8) >> q->file.refcount_order;
	struct qcow2_slice *s;
	uint64_t entry, count = 0;
	int rc = find(q, cluster, false, &s, &entry);

	if (rc)
		return rc;
	if (!s) {
		*free = true;
		*n = (1ull << q->file.refblock_bits) -
		     (cluster & ((1ull << q->file.refblock_bits) - 1));
		return 0;
	}
	*free = !get_entry(q, s, entry);
	while (entry + count < per_slice && !get_entry(q, s, entry + count) == *free)
		count++;
	*n = count;
	return 0;
}

/* --- clusters known to read as zeroes ------------------------------------------------- */

/* Returns true if the clusters from this one on read as zeroes; cuts *n where that changes. */
static bool is_zeroed(const struct qcow2 *q, uint64_t cluster, uint64_t *n)
{
	uint64_t virgin = q->space.virgin >> q->file.cluster_bits;

	if (cluster >= virgin)
		return true;
	if (*n > virgin - cluster)
		*n = virgin - cluster;
	for (size_t i = 0; i < q->space.zeroed.n; i++) {
		const struct qcow2_free *f = &q->space.zeroed.run[i];
		uint64_t first = f->offset >> q->file.cluster_bits;

		if (cluster >= first && cluster < first + f->nclusters) {
			if (*n > first + f->nclusters - cluster)
				*n = first + f->nclusters - cluster;
			return true;
		}
		if (first > cluster && *n > first - cluster)
			*n = first - cluster;
	}
	return false;
}

void qcow2_unzeroed_locked(struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	size_t i = 0;

	while (i < q->space.zeroed.n) {
		struct qcow2_free *f = &q->space.zeroed.run[i];
		uint64_t first = f->offset >> q->file.cluster_bits, end = first + f->nclusters;

		if (cluster >= end || cluster + n <= first) {
			i++;
		} else if (end <= cluster + n) {
			*f = q->space.zeroed.run[--q->space.zeroed.n];
		} else {
			/* Forgets the part before cluster, too: rare, and only a hint. */
			f->offset = (cluster + n) << q->file.cluster_bits;
			f->nclusters = end - (cluster + n);
			i++;
		}
	}
}

/* --- growing -------------------------------------------------------------------------- */

struct length {
	const struct qcow2 *q;
	uint64_t size, least;
	int rc;
};

/*
 * No ftruncate, which a worker may not call: it could cut the file, too. If the file system cannot give room, or has
 * too little, a new last byte makes the file longer.
 */
static int extend(const struct qcow2 *q, uint64_t size)
{
	uint64_t from = q->space.grown_bytes;

	if (size > from && !fallocate(q->file.fd, 0, (off_t)from, (off_t)(size - from)))
		return 0;
	return size > from ? qcow2_pwrite(&q->file, "", 1, size - 1) : 0;
}

static void set_length(void *opaque)
{
	struct length *l = opaque;

	l->rc = extend(l->q, l->size);
	/* A limit (RLIMIT_FSIZE, the file system's) may allow less. */
	if (l->rc) {
		l->size = l->least;
		l->rc = extend(l->q, l->size);
	}
}

/* An errand if a loop's thread does it, which links clusters, but has no call for this. */
int qcow2_lengthen_locked(struct qcow2 *q, uint64_t size, uint64_t least)
{
	struct length l = { q, size, least, 0 };

	errand_run(set_length, &l);
	if (!l.rc)
		q->space.grown_bytes = l.size;
	return l.rc;
}

int qcow2_grow_file_locked(struct qcow2 *q, uint64_t end)
{
	uint64_t ahead = q->file.bytes / 8, size;

	if (end > QCOW2_HOST_MAX)
		return -EFBIG;
	if (end <= q->space.grown_bytes)
		return 0;
	if (q->file.image.is_block)
		return -ENOSPC;
	ahead = ahead < GROW_MIN ? GROW_MIN : ahead > GROW_MAX ? GROW_MAX : ahead;
	size = qcow2_round_up(&q->file, end + ahead);
	return qcow2_lengthen_locked(q, size, end);
}

/* Notes that the caller takes the clusters. */
static void took(struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	uint64_t end = (cluster + n) << q->file.cluster_bits;

	qcow2_unzeroed_locked(q, cluster, n);
	if (end > q->file.bytes)
		q->file.bytes = end;
	if (end > q->space.virgin)
		q->space.virgin = end;
}

int qcow2_new_block_locked(struct qcow2 *q, uint64_t block, uint64_t first, uint64_t n)
{
	uint64_t per_slice = ((uint64_t)q->cache.slice_bytes * 8) >> q->file.refcount_order;
	uint64_t index = first >> q->file.refblock_bits;

	for (uint64_t done = 0; done < n;) {
		uint64_t within = (first + done) & ((1ull << q->file.refblock_bits) - 1);
		uint64_t entry = within % per_slice;
		struct qcow2_slice *s;
		int rc = qcow2_slice_new_locked(q,
						block + within / per_slice * q->cache.slice_bytes,
						QCOW2_REFCOUNTS, &s);

		if (rc) {
			qcow2_slice_drop_locked(q, block, q->file.cluster_bytes);
			return rc;
		}
		for (; entry < per_slice && done < n; entry++, done++)
			store_entry(q, s, entry, 1);
	}
	q->file.reftable.entry[index] = block;
	qcow2_range_add(&q->changes.reftable, index, index + 1);
	return 0;
}

/* Turns cluster, which reads as zeroes, into the block that counts it. */
static int make_block(struct qcow2 *q, uint64_t cluster)
{
	uint64_t block = cluster << q->file.cluster_bits;
	int rc = qcow2_grow_file_locked(q, block + q->file.cluster_bytes);

	if (!rc)
		rc = qcow2_meta_add(q, block);
	if (rc)
		return rc == -EEXIST ? qcow2_damaged(&q->file, "metadata has no refcount", block) :
				       rc;
	rc = qcow2_new_block_locked(q, block, cluster, 1);
	if (rc) {
		qcow2_meta_remove(q, block);
		return rc;
	}
	took(q, cluster, 1);
	return 0;
}

/* Writes zeroes to a free cluster that no refcount block counts; releases the lock meanwhile. */
static int zero_uncounted(struct qcow2 *q, uint64_t cluster)
{
	struct qcow2_free run = { cluster << q->file.cluster_bits, 1 };
	int rc = qcow2_grow_file_locked(q, run.offset + q->file.cluster_bytes);

	if (rc)
		return rc;
	if (qcow2_meta_has(q, run.offset))
		return qcow2_damaged(&q->file, "metadata has no refcount", run.offset);
	q->space.slow_alloc = true;
	pthread_mutex_unlock(&q->lock);
	rc = qcow2_pzero(&q->file, q->file.cluster_bytes, run.offset);
	pthread_mutex_lock(&q->lock);
	q->space.slow_alloc = false;
	pthread_cond_broadcast(&q->changed);
	if (!rc)
		rc = qcow2_free_add(q, &q->space.zeroed, run.offset, 1);
	return rc ? rc : 1;
}

static int need_block(struct qcow2 *q, uint64_t cluster, bool nonblock)
{
	uint64_t n = 1;
	int rc;

	if (cluster >> q->file.refblock_bits >= q->file.reftable.n)
		return nonblock ? -EAGAIN : qcow2_reftable_grow_locked(q, cluster);
	if (is_zeroed(q, cluster, &n)) {
		rc = make_block(q, cluster);
		return rc ? rc : 1;
	}
	return nonblock ? -EAGAIN : zero_uncounted(q, cluster);
}

/* --- taking ----------------------------------------------------------------------------- */

/* Moves q->space.free_hint to the first free cluster at or after it. */
static int find_free(struct qcow2 *q, bool nonblock)
{
	struct qcow2_slice *s;
	uint64_t entry, per_slice = ((uint64_t)q->cache.slice_bytes * 8) >> q->file.refcount_order;
	int rc;

	for (;;) {
		rc = find(q, q->space.free_hint, nonblock, &s, &entry);
		if (rc)
			return rc;
		if (!s) {
			rc = need_block(q, q->space.free_hint, nonblock);
			if (rc == 1 && nonblock)
				continue;
			return rc;
		}
		for (; entry < per_slice; entry++, q->space.free_hint++)
			if (!get_entry(q, s, entry))
				return 0;
	}
}

/* Returns how many clusters from free_hint on are free: want at most, and those of one slice. */
static uint64_t free_run(struct qcow2 *q, uint64_t want)
{
	uint64_t per_slice = ((uint64_t)q->cache.slice_bytes * 8) >> q->file.refcount_order;
	struct qcow2_slice *s;
	uint64_t entry, n = 0;

	if (find(q, q->space.free_hint, true, &s, &entry) || !s)
		return 0;
	while (n < want && entry + n < per_slice && !get_entry(q, s, entry + n))
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

	if (q->file.unsafe)
		return -EIO;
	if (q->space.slow_alloc) {
		if (nonblock)
			return -EAGAIN;
		pthread_cond_wait(&q->changed, &q->lock);
		return 1;
	}
	rc = find_free(q, nonblock);
	if (rc)
		return rc;
	cluster = q->space.free_hint;
	n = free_run(q, want);
	BUG_ON(!n);
	out->zeroed = is_zeroed(q, cluster, &n);
	if (nonblock && !out->zeroed)
		return -EAGAIN;
	rc = qcow2_grow_file_locked(q, (cluster + n) << q->file.cluster_bits);
	if (rc)
		return rc;
	for (uint64_t i = 0; i < n; i++)
		if (qcow2_meta_has(q, (cluster + i) << q->file.cluster_bits))
			return qcow2_damaged(&q->file, "metadata has the refcount 0",
					     (cluster + i) << q->file.cluster_bits);
	mark_run(q, cluster, n);
	q->space.free_hint = cluster + n;
	out->host = cluster << q->file.cluster_bits;
	out->n = n;
	return 0;
}

/* Nothing ever referred to these clusters, so they are free without waiting for a commit. */
void qcow2_unalloc_locked(struct qcow2 *q, uint64_t host, uint64_t n)
{
	uint64_t cluster = host >> q->file.cluster_bits;

	for (uint64_t i = 0; i < n; i++) {
		struct qcow2_slice *s;
		uint64_t entry;

		/* Its slice has left memory: the cluster stays a leak until the next check. */
		if (find(q, cluster + i, true, &s, &entry) || !s)
			continue;
		store_entry(q, s, entry, 0);
		if (cluster + i < q->space.free_hint)
			q->space.free_hint = cluster + i;
	}
}
