/* qcow2/map: finds where the guest's bytes are. See qcow2.h. */
#include "devices/backend/qcow2/qcow2_impl.h"

struct qcow2_file *qcow2_get_file(struct qcow2 *q)
{
	return &q->file;
}

void qcow2_lock(struct qcow2 *q)
{
	pthread_mutex_lock(&q->lock);
}

void qcow2_unlock(struct qcow2 *q)
{
	pthread_mutex_unlock(&q->lock);
}

unsigned qcow2_io_begin_locked(struct qcow2 *q)
{
	atomic_fetch_add_explicit(&q->freeing.epoch_io[q->freeing.epoch], 1, memory_order_relaxed);
	return q->freeing.epoch;
}

void qcow2_io_end(struct qcow2 *q, unsigned epoch)
{
	unsigned was = atomic_fetch_sub_explicit(&q->freeing.epoch_io[epoch], 1,
						 memory_order_release);

	BUG_ON(!was);
}

/* --- one entry ------------------------------------------------------------------- */

/* Returns true if host is a cluster's offset inside the file, and not the header's. */
static bool host_ok(const struct qcow2 *q, uint64_t host)
{
	return !(host & (q->file.cluster_bytes - 1)) && host && host < q->file.bytes;
}

static int judge(struct qcow2 *q, uint64_t entry, uint64_t at, struct qcow2_run *run)
{
	uint64_t offset, len;

	run->entry = entry;
	run->host = 0;
	run->copied = entry & QCOW2_COPIED;
	if (entry & QCOW2_COMPRESSED) {
		run->kind = QCOW2_PACKED;
		qcow2_packed_extent(&q->file, entry, &offset, &len);
		if (offset < q->file.cluster_bytes || offset >= q->file.bytes)
			return qcow2_damaged(&q->file, "a compressed cluster lies outside the file",
					     at);
		return 0;
	}
	if (entry & QCOW2_L2_RESERVED || (entry & QCOW2_ZERO && q->file.version < 3))
		return qcow2_damaged(&q->file, "reserved bits are set in an L2 entry", at);
	run->host = entry & QCOW2_OFFSET_MASK;
	if (run->host && !host_ok(q, run->host))
		return qcow2_damaged(&q->file, "an L2 entry points outside the file", at);
	if (entry & QCOW2_ZERO)
		run->kind = QCOW2_ZEROES;
	else
		run->kind = run->host ? QCOW2_DATA : QCOW2_HOLE;
	return 0;
}

/* Returns true if entry, the next one, continues run, which has nclusters so far. */
static bool continues(const struct qcow2 *q, uint64_t entry, const struct qcow2_run *run,
		      uint64_t nclusters)
{
	uint64_t next;

	if (run->kind == QCOW2_PACKED)
		return false;
	if (run->kind == QCOW2_HOLE)
		return entry == run->entry;
	if (!run->host)
		return entry == run->entry;
	next = run->entry + (nclusters << q->file.cluster_bits);
	return entry == next &&
	       run->host + ((nclusters + 1) << q->file.cluster_bits) <= q->file.bytes;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static int map_slice(struct qcow2 *q, uint64_t offset, uint64_t max, const struct qcow2_slice *s,
		     uint64_t at, struct qcow2_run *run)
{
	uint64_t within = offset & (q->file.cluster_bytes - 1);
	const uint64_t *entry = (const uint64_t *)s->data;
	unsigned i = (unsigned)((at - s->offset) / 8), first = i;
	int rc = judge(q, be64toh(entry[i]), at, run);

	if (rc)
		return rc;
	run->len = q->file.cluster_bytes - within;
	while (run->len < max && ++i < q->cache.slice_bytes / 8 &&
	       continues(q, be64toh(entry[i]), run, i - first))
		run->len += q->file.cluster_bytes;
	run->len = min_u64(run->len, max);
	if (run->host)
		run->host += within;
	return 0;
}

int qcow2_map_locked(struct qcow2 *q, uint64_t offset, uint64_t max, bool nonblock,
		     struct qcow2_run *run)
{
	uint64_t cluster = offset >> q->file.cluster_bits;
	uint64_t l1_index = cluster >> q->file.l2_bits;
	uint64_t l2_index = cluster & ((1ull << q->file.l2_bits) - 1);
	uint64_t l2_reach = ((l1_index + 1) << (q->file.l2_bits + q->file.cluster_bits)) - offset;
	struct qcow2_slice *s;
	uint64_t l2;
	int rc;

	BUG_ON(l1_index >= q->file.l1.n);
	l2 = q->file.l1.entry[l1_index] & QCOW2_OFFSET_MASK;
	if (q->file.l1.entry[l1_index] & QCOW2_L1_RESERVED || (l2 && !host_ok(q, l2)))
		return qcow2_damaged(&q->file, "an L1 entry is wrong",
				     q->file.l1.offset + l1_index * 8);
	if (!l2) {
		*run = (struct qcow2_run){ .kind = QCOW2_HOLE, .len = min_u64(max, l2_reach) };
		return 0;
	}
	rc = qcow2_slice_locked(q, l2 + l2_index * 8, QCOW2_L2, nonblock, &s);
	if (rc)
		return rc;
	return map_slice(q, offset, max, s, l2 + l2_index * 8, run);
}

bool qcow2_in_file_locked(const struct qcow2 *q, const struct qcow2_run *run)
{
	uint64_t end = q->armed ? q->space.grown_bytes : q->file.image.size_bytes;

	return run->host <= end && run->len <= end - run->host;
}

int qcow2_map(struct qcow2 *q, uint64_t offset, uint64_t max, struct qcow2_run *run,
	      unsigned *epoch)
{
	int rc;

	pthread_mutex_lock(&q->lock);
	do
		rc = qcow2_map_locked(q, offset, max, false, run);
	while (rc == 1);
	if (!rc)
		*epoch = qcow2_io_begin_locked(q);
	pthread_mutex_unlock(&q->lock);
	return rc;
}
