/* qcow2/snapshots: the metadata of internal snapshots. See snapshots.h. */
#include "devices/backend/qcow2/qcow2_impl.h"
#include "devices/backend/qcow2/snapshots.h"

#include <errno.h>
#include <stdlib.h>

struct snapshot_l1 {
	uint64_t l1_offset;
	uint32_t l1_size;
};

/* QEMU allows 1 KiB of extra data and 64 KiB of names for each snapshot. */
#define TABLE_MAX (64u << 20)

static int load_one(struct qcow2 *q, uint64_t *at, struct snapshot_l1 *out)
{
	struct qcow2_snapshot s;
	uint64_t offset = q->file.snapshots_offset + *at;
	int rc;

	if (offset + sizeof(s) > q->file.bytes || *at > TABLE_MAX)
		return -EINVAL;
	rc = qcow2_pread(&q->file, &s, sizeof(s), offset);
	if (rc)
		return rc;
	out->l1_offset = be64toh(s.l1_offset);
	out->l1_size = be32toh(s.l1_size);
	*at += sizeof(s) + (uint64_t)be32toh(s.extra_len) + be16toh(s.id_len) + be16toh(s.name_len);
	*at = (*at + 7) & ~7ull;
	/* The caller remembers each cluster of the table, so a false length must not pass. */
	if (*at > TABLE_MAX || *at > q->file.bytes - q->file.snapshots_offset)
		return -EINVAL;
	if ((uint64_t)out->l1_size * 8 > QCOW2_MAX_L1_BYTES ||
	    out->l1_offset & (q->file.cluster_bytes - 1) || out->l1_offset >= q->file.bytes ||
	    (uint64_t)out->l1_size * 8 > q->file.bytes - out->l1_offset)
		return -EINVAL;
	return 0;
}

/* Reads the places of the snapshots' L1 tables into *out, which the caller frees, and the length of
 * the snapshot table. */
static int load(struct qcow2 *q, struct snapshot_l1 **out, uint64_t *table_bytes)
{
	struct snapshot_l1 *list;
	uint64_t at = 0;
	int rc = 0;

	*out = NULL;
	*table_bytes = 0;
	if (!q->file.nsnapshots)
		return 0;
	list = calloc(q->file.nsnapshots, sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (uint32_t i = 0; !rc && i < q->file.nsnapshots; i++)
		rc = load_one(q, &at, &list[i]);
	if (rc) {
		free(list);
		return rc;
	}
	*out = list;
	*table_bytes = at;
	return 0;
}

int qcow2_snapshots_know(struct qcow2 *q)
{
	struct snapshot_l1 *list;
	uint64_t bytes, clusters = 0;
	int rc = load(q, &list, &bytes);

	/* The set has an entry for each cluster, so their number is limited. */
	for (uint32_t i = 0; !rc && i < q->file.nsnapshots; i++)
		clusters += qcow2_round_up(&q->file, (uint64_t)list[i].l1_size * 8) >>
			    q->file.cluster_bits;
	if (clusters > QCOW2_MAX_SNAPSHOT_CLUSTERS)
		rc = -E2BIG;
	if (!rc && bytes)
		rc = qcow2_meta_add_run(q, q->file.snapshots_offset, bytes);
	for (uint32_t i = 0; !rc && i < q->file.nsnapshots; i++)
		rc = qcow2_meta_add_run(q, list[i].l1_offset, (uint64_t)list[i].l1_size * 8);
	free(list);
	return rc;
}
