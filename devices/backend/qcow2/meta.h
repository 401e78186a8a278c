/*
 * qcow2/meta: the set of clusters that hold metadata. With it no damaged entry can make the engine
 * write guest data there. The header's cluster is always in it. For the engine; lock held.
 */
#ifndef BANTAM_QCOW2_META_H
#define BANTAM_QCOW2_META_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct qcow2;

/* Open addressing: offsets of clusters in the file; 0: a free place. */
struct qcow2_meta {
	uint64_t *place;
	size_t n, room;
};

/* offset may lie anywhere in the cluster. */
bool qcow2_meta_has(const struct qcow2 *q, uint64_t offset);
/* offset: a cluster's first byte. Returns 0, -EEXIST or -ENOMEM. */
int qcow2_meta_add(struct qcow2 *q, uint64_t offset);
/* All clusters of [offset, + len). After an error some of them are in the set. */
int qcow2_meta_add_run(struct qcow2 *q, uint64_t offset, uint64_t len);
void qcow2_meta_remove(struct qcow2 *q, uint64_t offset);

#endif
