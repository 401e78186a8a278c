/*
 * qcow2_image/repair: what qcow2_check found is put right. See qcow2_image/check.h.
 *
 * In an order that is safe to be interrupted in: refcounts grow, => COPIED flags become right,
 * => refcounts shrink, => the header's flags are cleared. If the refcounts' own tables are damaged or
 * too small, new ones are written behind the end of the file, => and the header is turned to them.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/qcow2_image/check_impl.h"

#define AUTOCLEAR_BITMAPS 1ull

static uint64_t div_up(uint64_t n, uint64_t by)
{
	return n / by + !!(n % by);
}

/* --- in place ----------------------------------------------------------------------------- */

enum direction { RAISE, LOWER };

static int fix_block(struct check *c, uint64_t b, uint8_t *block, enum direction how)
{
	const struct qcow2 *q = c->q;
	uint64_t first = b << q->refblock_bits;
	bool changed = false;
	int rc = qcow2_pread(q, block, q->cluster_bytes, c->reftable[b]);

	for (uint64_t i = 0; !rc && i < 1ull << q->refblock_bits && first + i < c->nclusters; i++) {
		uint64_t stored = qcow2_check_refcount_get(block, q->refcount_order, i);
		uint64_t used = c->refs[first + i];

		if (how == RAISE ? used <= stored : used >= stored)
			continue;
		qcow2_check_refcount_set(block, q->refcount_order, i, used);
		changed = true;
	}
	return rc || !changed ? rc : qcow2_pwrite(q, block, q->cluster_bytes, c->reftable[b]);
}

static int fix_refcounts(struct check *c, enum direction how)
{
	uint8_t *block = malloc(c->q->cluster_bytes);
	int rc = block ? 0 : -ENOMEM;

	for (uint64_t b = 0; !rc && b < c->reftable_size && b << c->q->refblock_bits < c->nclusters;
	     b++)
		if (c->reftable[b])
			rc = fix_block(c, b, block, how);
	free(block);
	return rc ? rc : qcow2_sync(c->q);
}

static bool fix_entry(const struct check *c, uint64_t *entry)
{
	if (qcow2_check_copied_ok(c, *entry, false))
		return false;
	*entry ^= QCOW2_COPIED;
	return true;
}

static int fix_copied(struct check *c)
{
	struct qcow2 *q = c->q;
	uint64_t *l2 = malloc(q->cluster_bytes);
	int rc = l2 ? 0 : -ENOMEM;

	for (uint64_t i = 0; !rc && i < q->l1_size; i++) {
		uint64_t offset = qcow2_check_l2_of(c, q->l1[i]);
		bool changed = false;

		if (fix_entry(c, &q->l1[i])) {
			uint64_t be = htobe64(q->l1[i]);

			rc = qcow2_pwrite(q, &be, sizeof(be), q->l1_offset + i * 8);
		}
		if (!rc && offset)
			rc = qcow2_pread(q, l2, q->cluster_bytes, offset);
		for (uint64_t e = 0; !rc && offset && e < 1ull << q->l2_bits; e++) {
			uint64_t entry = be64toh(l2[e]);

			if (!fix_entry(c, &entry))
				continue;
			l2[e] = htobe64(entry);
			changed = true;
		}
		if (!rc && changed)
			rc = qcow2_pwrite(q, l2, q->cluster_bytes, offset);
	}
	free(l2);
	return rc ? rc : qcow2_sync(q);
}

/* --- anew ------------------------------------------------------------------------------------ */

struct rebuilt {
	uint64_t nblocks, ntable, total; /* clusters */
};

/* The old tables are used no more. */
static void drop_old(struct check *c)
{
	uint64_t table = c->q->reftable_offset >> c->q->cluster_bits;

	for (uint64_t i = 0; i < c->reftable_size; i++)
		if (c->reftable[i])
			c->refs[c->reftable[i] >> c->q->cluster_bits]--;
	for (uint64_t i = 0; c->reftable && i < c->q->reftable_clusters; i++)
		if (table + i < c->nclusters && c->refs[table + i])
			c->refs[table + i]--;
}

static int put_blocks(struct check *c, const struct rebuilt *r)
{
	const struct qcow2 *q = c->q;
	uint8_t *block = malloc(q->cluster_bytes);
	int rc = block ? 0 : -ENOMEM;

	for (uint64_t b = 0; !rc && b < r->nblocks; b++) {
		memset(block, 0, q->cluster_bytes);
		for (uint64_t i = 0; i < 1ull << q->refblock_bits; i++) {
			uint64_t cluster = (b << q->refblock_bits) + i;
			uint64_t n = cluster < c->nclusters ? c->refs[cluster] : cluster < r->total;

			qcow2_check_refcount_set(block, q->refcount_order, i, n);
		}
		rc = qcow2_pwrite(q, block, q->cluster_bytes,
				  (c->nclusters + b) << q->cluster_bits);
	}
	free(block);
	return rc;
}

static int put_table(struct check *c, const struct rebuilt *r)
{
	struct qcow2 *q = c->q;
	uint64_t offset = (c->nclusters + r->nblocks) << q->cluster_bits;
	uint64_t bytes = r->ntable << q->cluster_bits;
	struct {
		uint64_t offset;
		uint32_t clusters;
	} __attribute__((packed)) field = { htobe64(offset), htobe32((uint32_t)r->ntable) };
	uint64_t *table = calloc(1, bytes);
	int rc;

	if (!table)
		return -ENOMEM;
	for (uint64_t b = 0; b < r->nblocks; b++)
		table[b] = htobe64((c->nclusters + b) << q->cluster_bits);
	rc = qcow2_pwrite(q, table, bytes, offset);
	free(table);
	if (!rc)
		rc = qcow2_sync(q);
	_Static_assert(offsetof(struct qcow2_header, reftable_clusters) ==
			       offsetof(struct qcow2_header, reftable_offset) + 8,
		       "one write");
	return rc ? rc :
		    qcow2_header_patch(q, offsetof(struct qcow2_header, reftable_offset), &field,
				       sizeof(field));
}

static int rebuild(struct check *c)
{
	const struct qcow2 *q = c->q;
	struct rebuilt r = { 0 };
	int rc;

	do {
		r.total = c->nclusters + r.nblocks + r.ntable;
		r.nblocks = div_up(r.total, 1ull << q->refblock_bits);
		r.ntable = div_up(r.nblocks * 8, q->cluster_bytes);
	} while (r.total != c->nclusters + r.nblocks + r.ntable);
	if (r.ntable << q->cluster_bits > QCOW2_MAX_REFTABLE_BYTES)
		return -EFBIG;
	drop_old(c);
	rc = put_blocks(c, &r);
	return rc ? rc : put_table(c, &r);
}

/* --- which of it ------------------------------------------------------------------------------- */

static bool fits(const struct check *c)
{
	for (uint64_t i = 0; i < c->nclusters; i++)
		if (c->refs[i] > c->q->refcount_max)
			return false;
	return true;
}

static int fix(struct check *c, bool all)
{
	int rc = 0;

	if (all && c->rebuild) {
		rc = rebuild(c);
		/* COPIED still is as it was, and now the counts are right. */
		return rc || !c->copied_wrong ? rc : fix_copied(c);
	}
	if (all && c->too_low)
		rc = fix_refcounts(c, RAISE);
	if (!rc && all && c->copied_wrong)
		rc = fix_copied(c);
	/* While something is wrong beyond repair, what nobody seems to use may be in use. */
	if (!rc && c->leaks && !c->lost)
		rc = fix_refcounts(c, LOWER);
	return rc;
}

static int repair(struct check *c, struct err *err)
{
	struct qcow2 *q = c->q;
	bool dirty = q->incompatible & QCOW2_INCOMPAT_DIRTY;
	bool all = c->out->repair == QCOW2_REPAIR_ALL || dirty;
	bool whole;
	int rc;

	if (!fits(c))
		return err_set(err, EOVERFLOW,
			       "disk %s: a cluster is used more often than refcounts of "
			       "%u bits can tell",
			       q->path, 1u << q->refcount_order);
	if (c->lost && all && c->rebuild)
		return err_set(err, EIO,
			       "disk %s: too much is damaged to be repaired; convert it, to save "
			       "what can be read",
			       q->path);
	rc = fix(c, all);
	/* All that was wrong is right now, if it was of these kinds. */
	whole = !c->lost && (all ? c->corruptions == c->too_low + c->copied_wrong || c->rebuild :
				   !c->corruptions);
	if (!rc && whole && q->incompatible & (QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT))
		rc = qcow2_header_incompatible(q, q->incompatible & ~(QCOW2_INCOMPAT_DIRTY |
								      QCOW2_INCOMPAT_CORRUPT));
	return rc ? err_sys(err, -rc, "disk %s: cannot repair", q->path) : 0;
}

/* --- all of it ---------------------------------------------------------------------------------- */

/* A sparse file costs its maker nothing, and must not cost us more. */
static int check_size(const struct check *c, struct err *err)
{
	uint64_t n = c->q->file_bytes >> c->q->cluster_bits;
	bool more = c->out->at_open && n <= QCOW2_CHECK_MAX;

	if (n <= (c->out->at_open ? QCOW2_CHECK_MAX_OPEN : QCOW2_CHECK_MAX))
		return 0;
	return err_set(err, EFBIG,
		       "disk %s: its file has %llu clusters of %llu bytes, too many to count "
		       "their uses%s",
		       c->q->path, (unsigned long long)n, (unsigned long long)c->q->cluster_bytes,
		       more ? " whenever it is opened; bantam image check --repair does it" :
			      "; if it can be read, convert it with larger clusters");
}

static int begin(struct check *c, const char *path, bool write, struct err *err)
{
	int rc = qcow2_inspect(path, write ? QCOW2_LOCK_WRITE : QCOW2_LOCK_READ, &c->q, err);

	if (rc)
		return rc;
	if (c->q->autoclear & AUTOCLEAR_BITMAPS)
		return err_set(err, ENOTSUP,
			       "disk %s: has dirty bitmaps, which are not supported; "
			       "qemu-img check knows them",
			       path);
	rc = check_size(c, err);
	if (rc)
		return rc;
	rc = qcow2_check_pass(c);
	return rc ? err_sys(err, -rc, "disk %s: cannot read all of its tables", path) : 0;
}

int qcow2_check(struct qcow2_check *out, const char *path, struct err *err)
{
	struct check c = { .out = out };
	bool wanted = out->repair != QCOW2_REPAIR_NONE, dirty;
	int rc = begin(&c, path, wanted, err);

	out->corruptions = c.corruptions;
	out->leaks = c.leaks;
	out->corruptions_fixed = out->leaks_fixed = 0;
	dirty = !rc && c.q->incompatible & (QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT);
	if (!rc && wanted && (c.corruptions || c.leaks || dirty)) {
		rc = repair(&c, err);
		qcow2_check_pass_end(&c);
		/* What the repair achieved is what a second look finds; its lines are known. */
		out->report = NULL;
		if (!rc)
			rc = begin(&c, path, false, err);
		if (!rc) {
			out->corruptions_fixed = out->corruptions > c.corruptions ?
							 out->corruptions - c.corruptions :
							 0;
			out->leaks_fixed = out->leaks > c.leaks ? out->leaks - c.leaks : 0;
			out->corruptions = c.corruptions;
			out->leaks = c.leaks;
			out->dirty_fixed = dirty && !(c.q->incompatible & (QCOW2_INCOMPAT_DIRTY |
									   QCOW2_INCOMPAT_CORRUPT));
		}
	}
	qcow2_check_pass_end(&c);
	return rc;
}
