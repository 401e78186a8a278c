/*
 * qcow2_image/check: checks that every refcount of a qcow2 image is the number of uses of its
 * cluster and that every pointer leads to a valid place; repairs what it can without a guess.
 *
 * A leak (a refcount is too high) costs space. A refcount that is too low, a pointer out of the
 * file, a cluster with two owners and a wrong COPIED flag are corruptions: a write may destroy
 * data. In a dirty image (lazy refcounts) refcounts that are too low are expected. Backing files
 * are not checked. One thread. Memory: 6 bytes for each cluster that is used; address space: 6
 * bytes for each cluster of the file. The file's size is limited (below), since a sparse file can
 * claim any.
 */
#ifndef BANTAM_QCOW2_IMAGE_CHECK_H
#define BANTAM_QCOW2_IMAGE_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/err.h"

enum qcow2_repair {
	QCOW2_REPAIR_NONE,
	QCOW2_REPAIR_LEAKS, /* and all refcounts of an image that is marked dirty */
	QCOW2_REPAIR_ALL,   /* refcounts and COPIED flags; lost data stays lost */
};

/* Limits, in clusters of the file: 1.5 GiB of memory if all are used; 384 MiB for one at open. */
#define QCOW2_CHECK_MAX (1ull << 28)
#define QCOW2_CHECK_MAX_OPEN (1ull << 26)

struct qcow2_check {
	/* in; at_open: part of opening, not asked for; report: a line for each finding, or NULL */
	enum qcow2_repair repair;
	bool at_open;
	void (*report)(void *opaque, const char *line);
	void *opaque;
	/* out: what the repair left, and what it fixed */
	uint64_t corruptions, leaks;
	uint64_t corruptions_fixed, leaks_fixed;
	uint64_t total_clusters, allocated_clusters, compressed_clusters, fragmented_clusters;
	uint64_t end_bytes; /* end of the last cluster that is used or counted */
	bool dirty_fixed;
};

/* Returns 0, or -errno: it could not check or repair. It keeps the image locked meanwhile. */
int qcow2_check(struct qcow2_check *c, const char *path, struct err *err);

#endif
