/* qcow2/snapshots: internal snapshots, as far as a writer must spare them. For the engine. */
#ifndef BANTAM_QCOW2_SNAPSHOTS_H
#define BANTAM_QCOW2_SNAPSHOTS_H

struct qcow2;

/* Adds what belongs to snapshots to the metadata, at open. 0, -EEXIST (something overlaps), -ENOMEM,
 * -EINVAL (the table makes no sense), -E2BIG (more than QCOW2_MAX_SNAPSHOT_CLUSTERS), -errno. */
int qcow2_snapshots_know(struct qcow2 *q);

#endif
