/* qcow2_image/check_impl: shared by check.c, which finds errors, and repair.c. */
#ifndef BANTAM_QCOW2_IMAGE_CHECK_IMPL_H
#define BANTAM_QCOW2_IMAGE_CHECK_IMPL_H

#include "devices/backend/qcow2_image/check.h"
#include "devices/backend/qcow2_image/file.h"

enum owner {
	OWN_NONE,
	OWN_HEADER,
	OWN_L1,
	OWN_L2,
	OWN_REFTABLE,
	OWN_REFBLOCK,
	OWN_SNAPSHOTS,
	OWN_DATA,
	OWN_SEVERAL
};

struct check {
	struct qcow2_check *out;
	struct qcow2_file file;
	uint64_t nclusters; /* of the file */
	uint32_t *refs;	    /* number of uses of each cluster */
	uint8_t *kind;	    /* its user: enum owner */
	uint8_t *stored;    /* its refcount in the file: 0, 1, or 2 for 2 and more */
	uint64_t *reftable; /* host byte order; invalid entries are 0 */
	uint64_t reftable_size;
	uint64_t corruptions, leaks;
	uint64_t copied_wrong; /* of corruptions: COPIED flags */
	uint64_t too_low;      /* of corruptions: refcounts */
	bool rebuild;	       /* the refcount table or blocks are damaged, or too small */
	bool lost;	       /* some entries could not be followed: their uses are not counted */
	uint64_t reported;
};

/* Finds all errors of the open c->file. Returns 0, or -errno: it could not finish. */
int qcow2_check_pass(struct check *c);
void qcow2_check_pass_end(struct check *c);

/* Returns true if a table entry's COPIED flag agrees with the refcount of its cluster: the stored
 * one, or the number of uses. */
bool qcow2_check_copied_ok(const struct check *c, uint64_t entry, bool stored);
/*
 * Returns the offset of an L1 entry's L2 table. 0 if it has none, or if something else also owns
 * that cluster: then do not read it as a table. Call it after the pass has seen all owners.
 */
uint64_t qcow2_check_l2_of(const struct check *c, uint64_t entry);

#endif
