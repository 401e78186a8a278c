/* qcow2/snapshots: the metadata of internal snapshots, which no write may hit. For the engine. */
#ifndef BANTAM_QCOW2_SNAPSHOTS_H
#define BANTAM_QCOW2_SNAPSHOTS_H

struct qcow2;

/* Adds the snapshot table and the snapshots' L1 tables to the set of metadata (meta.h), at open.
 * Returns 0, -EEXIST (tables overlap), -ENOMEM, -EINVAL (the snapshot table is damaged), -E2BIG
 * (more than QCOW2_MAX_SNAPSHOT_CLUSTERS), or another -errno. */
int qcow2_snapshots_know(struct qcow2 *q);

#endif
