/*
 * qcow2/commit: writes metadata to the medium, in the order of "Crash consistency" in qcow2.h.
 *
 * A commit copies the bytes of all steps under the lock at one moment, so that it writes one
 * consistent state; then it writes them without the lock.
 */
#include "devices/backend/qcow2/qcow2_impl.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct piece {
	struct qcow2_slice *slice;
	uint64_t offset;
	uint32_t len;
	uint8_t *bytes; /* in the snapshot's buffer */
};

/* The header's fields for the refcount table lie side by side. */
struct table_place {
	uint64_t offset;
	uint32_t clusters;
} __attribute__((packed));

/* And for the L1 table. */
struct l1_place {
	uint32_t entries;
	uint64_t offset;
} __attribute__((packed));

struct snapshot {
	struct piece *piece;
	unsigned npieces;
	uint8_t *buf;
	uint64_t *l1, *reftable; /* big-endian */
	struct qcow2_range l1_range, reftable_range;
	uint64_t l1_offset, reftable_offset;
	bool moved, l1_moved;
	struct table_place place;
	struct l1_place l1_place;
	struct qcow2_free_list freed;
};

bool qcow2_dirty_locked(const struct qcow2 *q)
{
	return q->cache.ndirty || q->changes.l1.lo != q->changes.l1.hi ||
	       q->changes.reftable.lo != q->changes.reftable.hi || q->changes.reftable_moved ||
	       q->changes.l1_moved || q->freeing.freed.n || q->freeing.settled.n ||
	       q->freeing.limbo.n || q->changes.committing;
}

/* --- the snapshot ------------------------------------------------------------------- */

static int copy_slices(struct qcow2 *q, struct snapshot *snap)
{
	uint64_t bytes = 0;
	uint8_t *to;

	if (!q->cache.ndirty)
		return 0;
	snap->piece = malloc(q->cache.ndirty * sizeof(*snap->piece));
	for (struct qcow2_slice *s = q->cache.slices.next; s != &q->cache.slices; s = s->next)
		bytes += s->dirty_hi - s->dirty_lo;
	snap->buf = to = malloc(bytes);
	if (!snap->piece || !snap->buf)
		return -ENOMEM;
	for (struct qcow2_slice *s = q->cache.slices.next; s != &q->cache.slices; s = s->next) {
		uint32_t len = s->dirty_hi - s->dirty_lo;

		if (!len)
			continue;
		memcpy(to, s->data + s->dirty_lo, len);
		snap->piece[snap->npieces++] = (struct piece){ s, s->offset + s->dirty_lo, len,
							       to };
		to += len;
	}
	return 0;
}

static int copy_table(const uint64_t *table, struct qcow2_range range, uint64_t **out)
{
	uint64_t n = range.hi - range.lo;
	uint64_t *copy;

	if (!n)
		return 0;
	copy = malloc(n * 8);
	if (!copy)
		return -ENOMEM;
	for (uint64_t i = 0; i < n; i++)
		copy[i] = htobe64(table[range.lo + i]);
	*out = copy;
	return 0;
}

/* The entries to write. Those that do not fit into the file's table wait until it has moved. */
static struct qcow2_range reftable_range(const struct qcow2 *q)
{
	uint64_t room = ((uint64_t)q->file.reftable.clusters << q->file.cluster_bits) / 8;
	struct qcow2_range r = q->changes.reftable;

	if (q->changes.reftable_moved)
		return (struct qcow2_range){ 0, room };
	if (r.hi > room)
		r.hi = room;
	if (r.lo > r.hi)
		r.lo = r.hi;
	return r;
}

static int take_locked(struct qcow2 *q, struct snapshot *snap)
{
	int rc;

	snap->l1_moved = q->changes.l1_moved;
	snap->l1_range = q->changes.l1;
	if (snap->l1_moved)
		snap->l1_range = (struct qcow2_range){ 0, q->file.l1.n };
	snap->l1_offset = q->file.l1.offset;
	snap->l1_place = (struct l1_place){ htobe32(q->file.l1.n), htobe64(q->file.l1.offset) };
	snap->reftable_range = reftable_range(q);
	snap->reftable_offset = q->file.reftable.offset;
	snap->moved = q->changes.reftable_moved;
	snap->place = (struct table_place){ htobe64(q->file.reftable.offset),
					    htobe32(q->file.reftable.clusters) };
	rc = copy_slices(q, snap);
	if (!rc)
		rc = copy_table(q->file.l1.entry, snap->l1_range, &snap->l1);
	if (!rc)
		rc = copy_table(q->file.reftable.entry, snap->reftable_range, &snap->reftable);
	if (rc)
		return rc;
	for (unsigned i = 0; i < snap->npieces; i++) {
		struct qcow2_slice *s = snap->piece[i].slice;

		s->writing = true;
		s->writing_lo = s->dirty_lo;
		s->writing_hi = s->dirty_hi;
		s->dirty_lo = s->dirty_hi = 0;
	}
	q->cache.ndirty = 0;
	q->changes.l1 = (struct qcow2_range){ 0, 0 };
	if (snap->reftable_range.hi == q->changes.reftable.hi || q->changes.reftable_moved)
		q->changes.reftable = (struct qcow2_range){ 0, 0 };
	else
		q->changes.reftable.lo = snap->reftable_range.hi;
	q->changes.reftable_moved = q->changes.l1_moved = false;
	snap->freed = q->freeing.freed;
	q->freeing.freed = (struct qcow2_free_list){ 0 };
	q->freeing.freed_bytes = 0;
	q->changes.want_commit = false;
	return 0;
}

static void free_snapshot(struct snapshot *snap)
{
	free(snap->piece);
	free(snap->buf);
	free(snap->l1);
	free(snap->reftable);
	free(snap->freed.run);
}

/* --- writing it ----------------------------------------------------------------------- */

/* Sets *any if it writes something. */
static int write_slices(struct qcow2 *q, const struct snapshot *snap, enum qcow2_table table,
			bool *any)
{
	for (unsigned i = 0; i < snap->npieces; i++) {
		const struct piece *p = &snap->piece[i];
		int rc;

		if (p->slice->table != table)
			continue;
		rc = qcow2_pwrite(&q->file, p->bytes, p->len, p->offset);
		if (rc)
			return rc;
		*any = true;
	}
	return 0;
}

static int write_table(struct qcow2 *q, const uint64_t *copy, struct qcow2_range r, uint64_t offset)
{
	return r.lo == r.hi ? 0 :
			      qcow2_pwrite(&q->file, copy, (r.hi - r.lo) * 8, offset + r.lo * 8);
}

static int write_refcounts(struct qcow2 *q, const struct snapshot *snap, bool *any)
{
	int rc = write_slices(q, snap, QCOW2_REFCOUNTS, any);

	if (rc || !snap->reftable)
		return rc;
	/* The blocks before the table, the table before the header. */
	rc = qcow2_sync(&q->file);
	if (!rc)
		rc = write_table(q, snap->reftable, snap->reftable_range, snap->reftable_offset);
	*any = true;
	if (rc || !snap->moved)
		return rc;
	rc = qcow2_sync(&q->file);
	return rc ? rc :
		    qcow2_pwrite(&q->file, &snap->place, sizeof(snap->place),
				 offsetof(struct qcow2_header, reftable_offset));
}

static int write_out(struct qcow2 *q, const struct snapshot *snap)
{
	bool refcounts = false, l2 = false;
	int rc = write_refcounts(q, snap, &refcounts);

	/* Even without new refcounts: this also syncs the data that the L2 entries refer to. */
	if (!rc)
		rc = qcow2_sync(&q->file);
	if (!rc)
		rc = write_slices(q, snap, QCOW2_L2, &l2);
	if (!rc && l2)
		rc = qcow2_sync(&q->file);
	if (!rc && snap->l1)
		rc = write_table(q, snap->l1, snap->l1_range, snap->l1_offset);
	if (!rc && snap->l1)
		rc = qcow2_sync(&q->file);
	/* The whole table before the header. */
	if (!rc && snap->l1_moved)
		rc = qcow2_header_patch(&q->file, offsetof(struct qcow2_header, l1_size),
					&snap->l1_place, sizeof(snap->l1_place));
	return rc;
}

/* --- afterwards ------------------------------------------------------------------------ */

/* After a failure nothing is known to be written: all of it is dirty again. */
static void restore_locked(struct qcow2 *q, struct snapshot *snap)
{
	for (unsigned i = 0; i < snap->npieces; i++) {
		struct qcow2_slice *s = snap->piece[i].slice;

		qcow2_slice_dirty_locked(q, s, s->writing_lo, s->writing_hi);
	}
	if (snap->l1)
		qcow2_range_add(&q->changes.l1, snap->l1_range.lo, snap->l1_range.hi);
	if (snap->reftable)
		qcow2_range_add(&q->changes.reftable, snap->reftable_range.lo,
				snap->reftable_range.hi);
	q->changes.reftable_moved |= snap->moved;
	q->changes.l1_moved |= snap->l1_moved;
	for (size_t i = 0; i < snap->freed.n; i++)
		qcow2_free_add(q, &q->freeing.freed, snap->freed.run[i].offset,
			       snap->freed.run[i].nclusters);
	/* Else writes might wait for ever for a commit that succeeds; flushes report the error. */
	q->changes.want_commit = false;
}

static void finish_locked(struct qcow2 *q, struct snapshot *snap, int rc)
{
	for (unsigned i = 0; i < snap->npieces; i++)
		snap->piece[i].slice->writing = false;
	if (rc) {
		restore_locked(q, snap);
		return;
	}
	for (size_t i = 0; i < snap->freed.n; i++)
		qcow2_free_add(q, &q->freeing.settled, snap->freed.run[i].offset,
			       snap->freed.run[i].nclusters);
}

static int mark_corrupt(struct qcow2 *q)
{
	if (!q->file.unsafe || q->file.incompatible & QCOW2_INCOMPAT_CORRUPT)
		return 0;
	return qcow2_header_incompatible(&q->file, q->file.incompatible | QCOW2_INCOMPAT_CORRUPT);
}

int qcow2_commit(struct qcow2 *q)
{
	struct snapshot snap = { 0 };
	int rc, applied;

	pthread_mutex_lock(&q->lock);
	while (q->changes.committing)
		pthread_cond_wait(&q->changed, &q->lock);
	if (!qcow2_dirty_locked(q)) {
		pthread_mutex_unlock(&q->lock);
		rc = qcow2_sync(&q->file);
		return rc ? rc : mark_corrupt(q);
	}
	q->changes.committing = true;
	rc = take_locked(q, &snap);
	if (!rc) {
		pthread_mutex_unlock(&q->lock);
		rc = write_out(q, &snap);
		pthread_mutex_lock(&q->lock);
		finish_locked(q, &snap, rc);
	}
	applied = qcow2_free_apply_locked(q);
	q->changes.committing = false;
	pthread_cond_broadcast(&q->changed);
	pthread_mutex_unlock(&q->lock);
	free_snapshot(&snap);
	if (!rc)
		rc = applied;
	if (!rc)
		rc = mark_corrupt(q);
	return rc;
}
