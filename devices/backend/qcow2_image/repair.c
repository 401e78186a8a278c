/*
 * qcow2_image/repair: qcow2_check: checks, repairs what it can, and checks again. See check.h.
 *
 * The order of a repair makes it safe to interrupt (=> means fdatasync): raise refcounts => correct
 * COPIED flags => lower refcounts => clear the header's flags. If the refcount table or blocks are
 * damaged or too small: write new ones behind the end of the file => point the header to them.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/qcow2_image/check_impl.h"
#include "devices/backend/qcow2_image/refcount_entry.h"

#define AUTOCLEAR_BITMAPS 1ull

static uint64_t div_up(uint64_t n, uint64_t by)
{
	return n / by + !!(n % by);
}

/* --- in place ----------------------------------------------------------------------------- */

enum direction { RAISE, LOWER };

static int fix_block(struct check *c, uint64_t b, uint8_t *block, enum direction how)
{
	const struct qcow2_file *f = &c->file;
	uint64_t first = b << f->refblock_bits;
	bool changed = false;
	int rc = qcow2_pread(f, block, f->cluster_bytes, c->reftable[b]);

	for (uint64_t i = 0; !rc && i < 1ull << f->refblock_bits && first + i < c->nclusters; i++) {
		uint64_t stored = qcow2_refcount_get(block, f->refcount_order, i);
		uint64_t used = c->refs[first + i];

		if (how == RAISE ? used <= stored : used >= stored)
			continue;
		qcow2_refcount_put(block, f->refcount_order, i, used);
		changed = true;
	}
	return rc || !changed ? rc : qcow2_pwrite(f, block, f->cluster_bytes, c->reftable[b]);
}

static int fix_refcounts(struct check *c, enum direction how)
{
	uint8_t *block = malloc(c->file.cluster_bytes);
	int rc = block ? 0 : -ENOMEM;

	for (uint64_t b = 0;
	     !rc && b < c->reftable_size && b << c->file.refblock_bits < c->nclusters; b++)
		if (c->reftable[b])
			rc = fix_block(c, b, block, how);
	free(block);
	return rc ? rc : qcow2_sync(&c->file);
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
	struct qcow2_file *f = &c->file;
	uint64_t *l2 = malloc(f->cluster_bytes);
	int rc = l2 ? 0 : -ENOMEM;

	for (uint64_t i = 0; !rc && i < f->l1.n; i++) {
		uint64_t offset = qcow2_check_l2_of(c, f->l1.entry[i]);
		bool changed = false;

		if (fix_entry(c, &f->l1.entry[i])) {
			uint64_t be = htobe64(f->l1.entry[i]);

			rc = qcow2_pwrite(f, &be, sizeof(be), f->l1.offset + i * 8);
		}
		if (!rc && offset)
			rc = qcow2_pread(f, l2, f->cluster_bytes, offset);
		for (uint64_t e = 0; !rc && offset && e < 1ull << f->l2_bits; e++) {
			uint64_t entry = be64toh(l2[e]);

			if (!fix_entry(c, &entry))
				continue;
			l2[e] = htobe64(entry);
			changed = true;
		}
		if (!rc && changed)
			rc = qcow2_pwrite(f, l2, f->cluster_bytes, offset);
	}
	free(l2);
	return rc ? rc : qcow2_sync(f);
}

/* --- new refcount tables --------------------------------------------------------------------- */

struct rebuilt {
	uint64_t nblocks, ntable, total; /* clusters */
};

/* Counts the old table and its blocks as unused. */
static void drop_old(struct check *c)
{
	uint64_t table = c->file.reftable.offset >> c->file.cluster_bits;

	for (uint64_t i = 0; i < c->reftable_size; i++)
		if (c->reftable[i])
			c->refs[c->reftable[i] >> c->file.cluster_bits]--;
	for (uint64_t i = 0; c->reftable && i < c->file.reftable.clusters; i++)
		if (table + i < c->nclusters && c->refs[table + i])
			c->refs[table + i]--;
}

static int put_blocks(struct check *c, const struct rebuilt *r)
{
	const struct qcow2_file *f = &c->file;
	uint8_t *block = malloc(f->cluster_bytes);
	int rc = block ? 0 : -ENOMEM;

	for (uint64_t b = 0; !rc && b < r->nblocks; b++) {
		memset(block, 0, f->cluster_bytes);
		for (uint64_t i = 0; i < 1ull << f->refblock_bits; i++) {
			uint64_t cluster = (b << f->refblock_bits) + i;
			uint64_t n = cluster < c->nclusters ? c->refs[cluster] : cluster < r->total;

			qcow2_refcount_put(block, f->refcount_order, i, n);
		}
		rc = qcow2_pwrite(f, block, f->cluster_bytes,
				  (c->nclusters + b) << f->cluster_bits);
	}
	free(block);
	return rc;
}

static int put_table(struct check *c, const struct rebuilt *r)
{
	struct qcow2_file *f = &c->file;
	uint64_t offset = (c->nclusters + r->nblocks) << f->cluster_bits;
	uint64_t bytes = r->ntable << f->cluster_bits;
	struct {
		uint64_t offset;
		uint32_t clusters;
	} __attribute__((packed)) field = { htobe64(offset), htobe32((uint32_t)r->ntable) };
	uint64_t *table = calloc(1, bytes);
	int rc;

	if (!table)
		return -ENOMEM;
	for (uint64_t b = 0; b < r->nblocks; b++)
		table[b] = htobe64((c->nclusters + b) << f->cluster_bits);
	rc = qcow2_pwrite(f, table, bytes, offset);
	free(table);
	if (!rc)
		rc = qcow2_sync(f);
	_Static_assert(offsetof(struct qcow2_header, reftable_clusters) ==
			       offsetof(struct qcow2_header, reftable_offset) + 8,
		       "one write");
	return rc ? rc :
		    qcow2_header_patch(f, offsetof(struct qcow2_header, reftable_offset), &field,
				       sizeof(field));
}

static int rebuild(struct check *c)
{
	const struct qcow2_file *f = &c->file;
	struct rebuilt r = { 0 };
	int rc;

	do {
		r.total = c->nclusters + r.nblocks + r.ntable;
		r.nblocks = div_up(r.total, 1ull << f->refblock_bits);
		r.ntable = div_up(r.nblocks * 8, f->cluster_bytes);
	} while (r.total != c->nclusters + r.nblocks + r.ntable);
	if (r.ntable << f->cluster_bits > QCOW2_MAX_REFTABLE_BYTES)
		return -EFBIG;
	drop_old(c);
	rc = put_blocks(c, &r);
	return rc ? rc : put_table(c, &r);
}

/* --- the choice of repairs -------------------------------------------------------------------- */

static bool fits(const struct check *c)
{
	for (uint64_t i = 0; i < c->nclusters; i++)
		if (c->refs[i] > c->file.refcount_max)
			return false;
	return true;
}

static int fix(struct check *c, bool all)
{
	int rc = 0;

	if (all && c->rebuild) {
		rc = rebuild(c);
		/* The rebuilt refcounts are right, but no COPIED flag has changed yet. */
		return rc || !c->copied_wrong ? rc : fix_copied(c);
	}
	if (all && c->too_low)
		rc = fix_refcounts(c, RAISE);
	if (!rc && all && c->copied_wrong)
		rc = fix_copied(c);
	/* If an entry could not be followed, its cluster may be among those that seem unused. */
	if (!rc && c->leaks && !c->lost)
		rc = fix_refcounts(c, LOWER);
	return rc;
}

static int repair(struct check *c, struct err *err)
{
	struct qcow2_file *f = &c->file;
	bool dirty = f->incompatible & QCOW2_INCOMPAT_DIRTY;
	bool all = c->out->repair == QCOW2_REPAIR_ALL || dirty;
	bool whole;
	int rc;

	if (!fits(c))
		return err_set(err, EOVERFLOW,
			       "disk %s: a cluster is used more often than refcounts of "
			       "%u bits can count",
			       f->path, 1u << f->refcount_order);
	if (c->lost && all && c->rebuild)
		return err_set(err, EIO,
			       "disk %s: is too damaged to repair; bantam image convert saves "
			       "what can be read",
			       f->path);
	rc = fix(c, all);
	/* True if every corruption was of a kind that fix repairs. */
	whole = !c->lost && (all ? c->corruptions == c->too_low + c->copied_wrong || c->rebuild :
				   !c->corruptions);
	if (!rc && whole && f->incompatible & (QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT))
		rc = qcow2_header_incompatible(f, f->incompatible & ~(QCOW2_INCOMPAT_DIRTY |
								      QCOW2_INCOMPAT_CORRUPT));
	return rc ? err_sys(err, -rc, "disk %s: cannot repair", f->path) : 0;
}

/* --- qcow2_check ------------------------------------------------------------------------------ */

/* Limits memory: a sparse file can be huge at no cost to its maker. */
static int check_size(const struct check *c, struct err *err)
{
	uint64_t n = c->file.bytes >> c->file.cluster_bits;
	bool more = c->out->at_open && n <= QCOW2_CHECK_MAX;

	if (n <= (c->out->at_open ? QCOW2_CHECK_MAX_OPEN : QCOW2_CHECK_MAX))
		return 0;
	return err_set(err, EFBIG,
		       "disk %s: its file has %llu clusters of %llu bytes, too many to count "
		       "their uses%s",
		       c->file.path, (unsigned long long)n,
		       (unsigned long long)c->file.cluster_bytes,
		       more ? " whenever it is opened; bantam image check --repair does it" :
			      "; if it can be read, convert it with larger clusters");
}

static int begin(struct check *c, const char *path, bool write, struct err *err)
{
	int rc = qcow2_file_open(&c->file, path, NULL, write ? QCOW2_REPAIR : QCOW2_READ, false,
				 err);

	if (rc)
		return rc;
	if (c->file.autoclear & AUTOCLEAR_BITMAPS)
		return err_set(err, ENOTSUP,
			       "disk %s: has dirty bitmaps, which are not supported; "
			       "use qemu-img check",
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
	dirty = !rc && c.file.incompatible & (QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT);
	if (!rc && wanted && (c.corruptions || c.leaks || dirty)) {
		rc = repair(&c, err);
		qcow2_check_pass_end(&c);
		/* A second pass finds what the repair left. Its findings are reported already. */
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
			out->dirty_fixed = dirty &&
					   !(c.file.incompatible &
					     (QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT));
		}
	}
	qcow2_check_pass_end(&c);
	return rc;
}
