/*
 * qcow2/cache: slices of L2 tables and refcount blocks, as the file has them.
 *
 * Bounded: at max_slices the cache evicts clean slices that were not used lately (second chance: a
 * use sets a flag). If all are dirty, the cache grows a little and asks for a commit (want_commit),
 * which the next change waits for. See qcow2.h for the locking.
 */
#include "devices/backend/qcow2/qcow2_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Dirty slices beyond this share of max_slices ask for a commit: it writes about 4 MiB at most. */
#define DIRTY_SHARE 4u

static struct qcow2_slice **bucket_of(struct qcow2 *q, uint64_t offset)
{
	uint64_t n = offset / q->cache.slice_bytes;

	return &q->cache.bucket[(n * 0x9e3779b97f4a7c15ull) >> 54];
}
_Static_assert(QCOW2_BUCKETS == 1u << (64 - 54), "bucket_of takes 10 bits");

void qcow2_cache_init(struct qcow2 *q)
{
	q->cache.slices.next = q->cache.slices.prev = &q->cache.slices;
	q->cache.slice_bytes = q->file.cluster_bytes < QCOW2_SLICE_BYTES ?
				       (uint32_t)q->file.cluster_bytes :
				       QCOW2_SLICE_BYTES;
	q->cache.max_slices = QCOW2_CACHE_BYTES / q->cache.slice_bytes;
}

static void unlink_slice(struct qcow2_slice *s)
{
	s->prev->next = s->next;
	s->next->prev = s->prev;
}

static void append_slice(struct qcow2 *q, struct qcow2_slice *s)
{
	s->prev = q->cache.slices.prev;
	s->next = &q->cache.slices;
	s->prev->next = s->next->prev = s;
}

static bool clean(const struct qcow2_slice *s)
{
	return !s->loading && !s->writing && s->dirty_lo == s->dirty_hi;
}

static void drop(struct qcow2 *q, struct qcow2_slice *s)
{
	struct qcow2_slice **link = bucket_of(q, s->offset);

	while (*link != s)
		link = &(*link)->hash_next;
	*link = s->hash_next;
	unlink_slice(s);
	if (s->dirty_lo != s->dirty_hi)
		q->cache.ndirty--;
	q->cache.nslices--;
	free(s);
}

void qcow2_cache_free(struct qcow2 *q)
{
	while (q->cache.slices.next && q->cache.slices.next != &q->cache.slices)
		drop(q, q->cache.slices.next);
}

static struct qcow2_slice *find(struct qcow2 *q, uint64_t offset)
{
	struct qcow2_slice *s = *bucket_of(q, offset);

	while (s && (s->offset != offset || s->stale))
		s = s->hash_next;
	return s;
}

static void make_room(struct qcow2 *q)
{
	for (size_t looks = 2 * q->cache.nslices; looks && q->cache.nslices >= q->cache.max_slices;
	     looks--) {
		struct qcow2_slice *s = q->cache.slices.next;

		if (clean(s) && !s->used) {
			drop(q, s);
			continue;
		}
		s->used = false;
		unlink_slice(s);
		append_slice(q, s);
	}
}

static struct qcow2_slice *add(struct qcow2 *q, uint64_t offset, enum qcow2_table table)
{
	struct qcow2_slice *s;

	make_room(q);
	s = malloc(sizeof(*s) + q->cache.slice_bytes);
	if (!s)
		return NULL;
	memset(s, 0, sizeof(*s));
	s->data = (uint8_t *)(s + 1);
	s->offset = offset;
	s->table = table;
	s->hash_next = *bucket_of(q, offset);
	*bucket_of(q, offset) = s;
	append_slice(q, s);
	q->cache.nslices++;
	return s;
}

static int load(struct qcow2 *q, uint64_t offset, enum qcow2_table table)
{
	struct qcow2_slice *s = add(q, offset, table);
	int rc;

	if (!s)
		return -ENOMEM;
	s->loading = true;
	pthread_mutex_unlock(&q->lock);
	rc = qcow2_pread(&q->file, s->data, q->cache.slice_bytes, offset);
	pthread_mutex_lock(&q->lock);
	s->loading = false;
	pthread_cond_broadcast(&q->changed);
	if (rc || s->stale)
		drop(q, s);
	return rc ? rc : 1;
}

/* Loads without waiting. Returns NULL if the page cache does not have the bytes, or no memory. */
static struct qcow2_slice *load_now(struct qcow2 *q, uint64_t offset, enum qcow2_table table)
{
	struct qcow2_slice *s = add(q, offset, table);

	if (s && !qcow2_pread_now(&q->file, s->data, q->cache.slice_bytes, offset)) {
		drop(q, s);
		s = NULL;
	}
	return s;
}

int qcow2_slice_locked(struct qcow2 *q, uint64_t offset, enum qcow2_table table, bool nonblock,
		       struct qcow2_slice **out)
{
	struct qcow2_slice *s;

	offset &= ~(uint64_t)(q->cache.slice_bytes - 1);
	s = find(q, offset);
	if (!s && nonblock)
		s = load_now(q, offset, table);
	if (s && !s->loading) {
		/* One cluster as two kinds of table: an entry that points to it is damaged. */
		if (s->table != table)
			return qcow2_damaged(&q->file,
					     "a cluster is an L2 table and a refcount block",
					     offset);
		s->used = true;
		*out = s;
		return 0;
	}
	if (nonblock)
		return -EAGAIN;
	if (!s)
		return load(q, offset, table);
	pthread_cond_wait(&q->changed, &q->lock);
	return 1;
}

int qcow2_slice_new_locked(struct qcow2 *q, uint64_t offset, enum qcow2_table table,
			   struct qcow2_slice **out)
{
	struct qcow2_slice *s;

	BUG_ON(find(q, offset));
	s = add(q, offset, table);
	if (!s)
		return -ENOMEM;
	memset(s->data, 0, q->cache.slice_bytes);
	*out = s;
	return 0;
}

void qcow2_slice_dirty_locked(struct qcow2 *q, struct qcow2_slice *s, uint32_t lo, uint32_t hi)
{
	if (s->dirty_lo == s->dirty_hi) {
		s->dirty_lo = lo;
		s->dirty_hi = hi;
		q->cache.ndirty++;
	} else {
		if (lo < s->dirty_lo)
			s->dirty_lo = lo;
		if (hi > s->dirty_hi)
			s->dirty_hi = hi;
	}
	if (q->cache.ndirty > q->cache.max_slices / DIRTY_SHARE)
		q->changes.want_commit = true;
}

void qcow2_slice_drop_locked(struct qcow2 *q, uint64_t offset, uint64_t len)
{
	for (uint64_t at = offset; at < offset + len; at += q->cache.slice_bytes) {
		struct qcow2_slice *s = find(q, at);

		if (!s)
			continue;
		BUG_ON(s->writing);
		/* The thread that loads it drops it then, and its caller looks again. */
		if (s->loading)
			s->stale = true;
		else
			drop(q, s);
	}
}
