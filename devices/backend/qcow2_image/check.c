/* qcow2_image/check: see qcow2_image/check.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/qcow2_image/check_impl.h"
#include "devices/backend/qcow2_image/refcount_entry.h"

#define REPORTED_MAX 40u

static const char *const owner_names[] = { "nothing",
					   "the header",
					   "an L1 table",
					   "an L2 table",
					   "the refcount table",
					   "a refcount block",
					   "the snapshot table",
					   "data",
					   "several things" };

static void report(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void report(struct check *c, const char *fmt, ...)
{
	char line[200];
	va_list ap;

	if (!c->out->report || c->reported++ > REPORTED_MAX)
		return;
	if (c->reported > REPORTED_MAX) {
		c->out->report(c->out->opaque, "… and further findings, which are not shown");
		return;
	}
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	c->out->report(c->out->opaque, line);
}

/* --- uses of clusters ----------------------------------------------------------------- */

static void use_cluster(struct check *c, uint64_t i, enum owner who)
{
	bool may_share = who == OWN_DATA || who == OWN_L2;

	if (c->refs[i] < UINT32_MAX)
		c->refs[i]++;
	if (c->kind[i] == OWN_NONE) {
		c->kind[i] = (uint8_t)who;
	} else if (c->kind[i] != who || !may_share) {
		report(c, "ERROR cluster %" PRIu64 " is used for %s and for %s", i,
		       owner_names[c->kind[i]], owner_names[who]);
		c->corruptions++;
		/* No way to tell which of the two is the owner. */
		c->kind[i] = OWN_SEVERAL;
		c->lost = true;
	}
}

/* Counts a use of [offset, + len) of the file. Returns 0, or -EIO: not all of it is in the file. */
static int use(struct check *c, uint64_t offset, uint64_t len, enum owner who, const char *what,
	       uint64_t number)
{
	unsigned bits = c->file.cluster_bits;

	if (!len)
		return 0;
	if (offset >> bits >= c->nclusters || (len - 1) >> bits >= c->nclusters ||
	    (offset + len - 1) >> bits >= c->nclusters) {
		report(c, "ERROR %s %" PRIu64 " points out of the file: %#" PRIx64, what, number,
		       offset);
		c->corruptions++;
		return -EIO;
	}
	for (uint64_t i = offset >> bits; i <= (offset + len - 1) >> bits; i++)
		use_cluster(c, i, who);
	return 0;
}

static void wrong(struct check *c, const char *what, uint64_t number, const char *why,
		  uint64_t entry)
{
	report(c, "ERROR %s %" PRIu64 " %s: %#" PRIx64, what, number, why, entry);
	c->corruptions++;
}

static bool misaligned(const struct check *c, uint64_t offset)
{
	return offset & (c->file.cluster_bytes - 1);
}

/* --- data ------------------------------------------------------------------------------- */

/* Counts fragmentation as QEMU does: how often the guest's next cluster is not the file's next. */
static void count_data(struct check *c, uint64_t host, bool packed, uint64_t *next)
{
	c->out->allocated_clusters++;
	if (packed) {
		c->out->compressed_clusters++;
		c->out->fragmented_clusters++;
		return;
	}
	if (*next && host != *next)
		c->out->fragmented_clusters++;
	*next = host + c->file.cluster_bytes;
}

/* An entry that cannot be followed sets lost: a cluster that seems unused may belong to it. */
static void check_entry(struct check *c, uint64_t entry, uint64_t number, bool active,
			uint64_t *next)
{
	const struct qcow2_file *f = &c->file;
	uint64_t offset, len;

	if (entry & QCOW2_COMPRESSED) {
		if (entry & QCOW2_COPIED)
			wrong(c, "L2 entry", number, "is compressed and says COPIED", entry);
		qcow2_packed_extent(f, entry, &offset, &len);
		/* The last compressed cluster need not fill the sectors that it claims. */
		if (offset < c->nclusters << f->cluster_bits &&
		    len > (c->nclusters << f->cluster_bits) - offset)
			len = (c->nclusters << f->cluster_bits) - offset;
		if (use(c, offset, len, OWN_DATA, "L2 entry", number))
			c->lost = true;
		else if (active)
			count_data(c, offset, true, next);
		return;
	}
	if (entry & QCOW2_L2_RESERVED || (entry & QCOW2_ZERO && f->version < 3))
		wrong(c, "L2 entry", number, "has reserved bits set", entry);
	offset = entry & QCOW2_OFFSET_MASK;
	if (!offset)
		return;
	if (misaligned(c, offset)) {
		wrong(c, "L2 entry", number, "is not aligned", entry);
		c->lost = true;
	} else if (use(c, offset, f->cluster_bytes, OWN_DATA, "L2 entry", number)) {
		c->lost = true;
	} else if (active) {
		count_data(c, offset, false, next);
	}
}

/* Checks an L1 table in memory (host byte order), its L2 tables, and the clusters that they map. */
static int check_l1(struct check *c, const uint64_t *l1, uint64_t n, bool active)
{
	const struct qcow2_file *f = &c->file;
	uint64_t *l2 = malloc(f->cluster_bytes);
	int rc = l2 ? 0 : -ENOMEM;

	for (uint64_t i = 0; !rc && i < n; i++) {
		uint64_t offset = l1[i] & QCOW2_OFFSET_MASK, next = 0;

		if (l1[i] & QCOW2_L1_RESERVED)
			wrong(c, "L1 entry", i, "has reserved bits set", l1[i]);
		else if (l1[i] && !offset)
			wrong(c, "L1 entry", i, "has flags and points nowhere", l1[i]);
		if (!offset)
			continue;
		if (misaligned(c, offset)) {
			wrong(c, "L1 entry", i, "is not aligned", l1[i]);
			c->lost = true;
			continue;
		}
		if (use(c, offset, f->cluster_bytes, OWN_L2, "L1 entry", i)) {
			c->lost = true;
			continue;
		}
		rc = qcow2_pread(f, l2, f->cluster_bytes, offset);
		for (uint64_t e = 0; !rc && e < 1ull << f->l2_bits; e++)
			if (l2[e])
				check_entry(c, be64toh(l2[e]), (i << f->l2_bits) + e, active,
					    &next);
	}
	free(l2);
	return rc;
}

/* --- snapshots ---------------------------------------------------------------------------- */

static int check_snapshot_l1(struct check *c, const struct qcow2_snapshot *s, uint32_t number)
{
	uint64_t offset = be64toh(s->l1_offset), len = (uint64_t)be32toh(s->l1_size) * 8;
	uint64_t *l1;
	int rc;

	if (len > QCOW2_MAX_L1_BYTES || misaligned(c, offset)) {
		wrong(c, "snapshot", number, "has an invalid L1 table", offset);
		c->lost = true;
		return 0;
	}
	if (use(c, offset, len, OWN_L1, "snapshot", number)) {
		c->lost = true;
		return 0;
	}
	l1 = malloc(len ? len : 8);
	if (!l1)
		return -ENOMEM;
	rc = qcow2_pread(&c->file, l1, len, offset);
	for (uint64_t i = 0; i < len / 8; i++)
		l1[i] = be64toh(l1[i]);
	if (!rc)
		rc = check_l1(c, l1, len / 8, false);
	free(l1);
	return rc;
}

static int check_snapshots(struct check *c)
{
	uint64_t at = c->file.snapshots_offset;

	for (uint32_t i = 0; i < c->file.nsnapshots; i++) {
		struct qcow2_snapshot s;
		int rc;

		at = (at + 7) & ~7ull;
		if (at + sizeof(s) > c->nclusters << c->file.cluster_bits) {
			wrong(c, "snapshot", i, "lies outside the file", at);
			c->lost = true;
			break;
		}
		rc = qcow2_pread(&c->file, &s, sizeof(s), at);
		if (!rc)
			rc = check_snapshot_l1(c, &s, i);
		if (rc)
			return rc;
		at += sizeof(s) + be32toh(s.extra_len) + be16toh(s.id_len) + be16toh(s.name_len);
	}
	if (c->file.nsnapshots && use(c, c->file.snapshots_offset, at - c->file.snapshots_offset,
				      OWN_SNAPSHOTS, "the snapshot table", 0))
		c->lost = true;
	return 0;
}

/* --- refcounts ------------------------------------------------------------------------------ */

/* Checks the refcount table, and counts the clusters of the table and of its blocks. */
static int check_reftable(struct check *c)
{
	const struct qcow2_file *f = &c->file;
	uint64_t bytes = (uint64_t)f->reftable.clusters << f->cluster_bits;
	int rc;

	c->rebuild = true;
	if (!bytes || bytes > QCOW2_MAX_REFTABLE_BYTES || misaligned(c, f->reftable.offset) ||
	    !f->reftable.offset) {
		wrong(c, "the refcount table", 0, "has an invalid place or size",
		      f->reftable.offset);
		return 0;
	}
	if (use(c, f->reftable.offset, bytes, OWN_REFTABLE, "the refcount table", 0))
		return 0;
	c->rebuild = false;
	c->reftable = malloc(bytes);
	if (!c->reftable)
		return -ENOMEM;
	c->reftable_size = bytes / 8;
	rc = qcow2_pread(f, c->reftable, bytes, f->reftable.offset);
	for (uint64_t i = 0; !rc && i < c->reftable_size; i++) {
		uint64_t offset = be64toh(c->reftable[i]);
		uint64_t cluster = offset >> f->cluster_bits;

		c->reftable[i] = 0;
		if (!offset)
			continue;
		if (offset & QCOW2_REFTABLE_RESERVED || misaligned(c, offset)) {
			wrong(c, "refcount block", i, "is not aligned, or has reserved bits set",
			      offset);
			c->rebuild = true;
		} else if (cluster < c->nclusters && c->refs[cluster]) {
			/* The block and the cluster's other owner overwrote each other. */
			wrong(c, "refcount block", i, "is in a cluster with another use", offset);
			c->rebuild = true;
		} else if (use(c, offset, f->cluster_bytes, OWN_REFBLOCK, "refcount block", i)) {
			c->rebuild = true;
		} else {
			c->reftable[i] = offset;
		}
	}
	return rc;
}

static void compare(struct check *c, uint64_t i, uint64_t stored)
{
	if (stored)
		c->stored[i] = stored > 2 ? 2 : (uint8_t)stored;
	if (stored || c->refs[i])
		c->out->end_bytes = (i + 1) << c->file.cluster_bits;
	if (stored == c->refs[i])
		return;
	report(c, "%s cluster %" PRIu64 " refcount=%" PRIu64 " reference=%u",
	       stored > c->refs[i] ? "Leaked" : "ERROR", i, stored, c->refs[i]);
	if (stored > c->refs[i]) {
		c->leaks++;
	} else {
		c->corruptions++;
		c->too_low++;
	}
}

static int compare_refcounts(struct check *c)
{
	const struct qcow2_file *f = &c->file;
	uint64_t per_block = 1ull << f->refblock_bits;
	uint8_t *block = malloc(f->cluster_bytes);
	int rc = block ? 0 : -ENOMEM;

	for (uint64_t first = 0; !rc && first < c->nclusters; first += per_block) {
		uint64_t b = first >> f->refblock_bits;
		uint64_t offset = b < c->reftable_size ? c->reftable[b] : 0;
		uint64_t before = c->too_low;

		if (offset)
			rc = qcow2_pread(f, block, f->cluster_bytes, offset);
		else
			memset(block, 0, f->cluster_bytes);
		for (uint64_t i = 0; !rc && i < per_block && first + i < c->nclusters; i++)
			compare(c, first + i, qcow2_refcount_get(block, f->refcount_order, i));
		if (!offset && c->too_low != before)
			c->rebuild = true;
	}
	free(block);
	return rc;
}

/* --- COPIED ----------------------------------------------------------------------------------- */

bool qcow2_check_copied_ok(const struct check *c, uint64_t entry, bool stored)
{
	uint64_t i = (entry & QCOW2_OFFSET_MASK) >> c->file.cluster_bits;

	if (entry & QCOW2_COMPRESSED || !(entry & QCOW2_OFFSET_MASK) || i >= c->nclusters ||
	    misaligned(c, entry & QCOW2_OFFSET_MASK))
		return true;
	return !(entry & QCOW2_COPIED) == ((stored ? c->stored[i] : c->refs[i]) != 1);
}

static void check_copied_entry(struct check *c, const char *what, uint64_t number, uint64_t entry)
{
	uint64_t i = (entry & QCOW2_OFFSET_MASK) >> c->file.cluster_bits;

	if (qcow2_check_copied_ok(c, entry, true))
		return;
	report(c, "ERROR COPIED flag of %s %" PRIu64 ": entry=%#" PRIx64 " refcount=%s%u", what,
	       number, entry, c->stored[i] > 1 ? "at least " : "", c->stored[i]);
	c->corruptions++;
	c->copied_wrong++;
}

uint64_t qcow2_check_l2_of(const struct check *c, uint64_t entry)
{
	uint64_t offset = entry & QCOW2_OFFSET_MASK, i = offset >> c->file.cluster_bits;

	return misaligned(c, offset) || i >= c->nclusters || c->kind[i] != OWN_L2 ? 0 : offset;
}

static int check_copied(struct check *c)
{
	const struct qcow2_file *f = &c->file;
	uint64_t *l2 = malloc(f->cluster_bytes);
	int rc = l2 ? 0 : -ENOMEM;

	for (uint64_t i = 0; !rc && i < f->l1.n; i++) {
		uint64_t offset = qcow2_check_l2_of(c, f->l1.entry[i]);

		check_copied_entry(c, "L1 entry", i, f->l1.entry[i]);
		if (!offset)
			continue;
		rc = qcow2_pread(f, l2, f->cluster_bytes, offset);
		for (uint64_t e = 0; !rc && e < 1ull << f->l2_bits; e++)
			check_copied_entry(c, "L2 entry", (i << f->l2_bits) + e, be64toh(l2[e]));
	}
	free(l2);
	return rc;
}

/* --- one pass --------------------------------------------------------------------------------- */

int qcow2_check_pass(struct check *c)
{
	struct qcow2_file *f = &c->file;
	int rc;

	c->nclusters = f->bytes >> f->cluster_bits;
	c->refs = calloc(c->nclusters, sizeof(*c->refs));
	c->kind = calloc(c->nclusters, sizeof(*c->kind));
	c->stored = calloc(c->nclusters, sizeof(*c->stored));
	if (!c->refs || !c->kind || !c->stored)
		return -ENOMEM;
	c->out->total_clusters = f->disk_bytes / f->cluster_bytes +
				 !!(f->disk_bytes % f->cluster_bytes);
	c->out->allocated_clusters = c->out->compressed_clusters = c->out->fragmented_clusters = 0;
	c->out->end_bytes = 0;
	use_cluster(c, 0, OWN_HEADER);
	if (use(c, f->l1.offset, (uint64_t)f->l1.n * 8, OWN_L1, "the L1 table", 0))
		c->lost = true;
	rc = check_l1(c, f->l1.entry, f->l1.n, true);
	if (!rc)
		rc = check_snapshots(c);
	if (!rc)
		rc = check_reftable(c);
	if (!rc)
		rc = compare_refcounts(c);
	return rc ? rc : check_copied(c);
}

void qcow2_check_pass_end(struct check *c)
{
	free(c->refs);
	free(c->kind);
	free(c->stored);
	free(c->reftable);
	qcow2_file_close(&c->file);
	*c = (struct check){ .out = c->out };
}
