/*
 * qcow2_image/check: is every cluster of a qcow2 image counted as often as it is used, and does every
 * pointer lead to where it may? And repair of what can be repaired without a guess.
 *
 * Leaks (a refcount is too high) cost space. A refcount that is too low, a pointer out of the file,
 * two owners of one cluster, a wrong COPIED flag are corruptions: a write may destroy data.
 * Corruptions of dirty images (lazy refcounts) are what the dirty bit announces. Backing files
 * are not looked at. One thread; memory: 6 bytes for each cluster that is used, 6 for each of the
 * file of address space. What a sparse file pretends to be is bounded.
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

/* Clusters of the file: 1.5 GiB of memory, if all are used; 384 MiB for who only opens it. */
#define QCOW2_CHECK_MAX (1ull << 28)
#define QCOW2_CHECK_MAX_OPEN (1ull << 26)

struct qcow2_check {
	/* in; at_open: nobody asked for it; report: a line for each finding, or NULL */
	enum qcow2_repair repair;
	bool at_open;
	void (*report)(void *opaque, const char *line);
	void *opaque;
	/* out: what is left after the repair */
	uint64_t corruptions, leaks;
	uint64_t corruptions_fixed, leaks_fixed;
	uint64_t total_clusters, allocated_clusters, compressed_clusters, fragmented_clusters;
	uint64_t end_bytes; /* behind the last cluster that is used */
	bool dirty_fixed;
};

/* 0: checked; -errno: it could not be, or not be repaired. The image is locked meanwhile. */
int qcow2_check(struct qcow2_check *c, const char *path, struct err *err);

#endif
