/* qcow2_image/check_impl: what finding (qcow2_image/check.c) and repairing (qcow2_image/repair.c) share. */
#ifndef BANTAM_QCOW2_IMAGE_CHECK_IMPL_H
#define BANTAM_QCOW2_IMAGE_CHECK_IMPL_H

#include "devices/backend/qcow2_image/check.h"
#include "devices/backend/qcow2_image/file.h"

enum owner {
	OWN_NOBODY,
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
	uint32_t *refs;	    /* how often each is used */
	uint8_t *kind;	    /* by what: enum owner */
	uint8_t *stored;    /* refcounts as the file has them; 2: or more */
	uint64_t *reftable; /* host byte order; entries that make no sense are 0 */
	uint64_t reftable_size;
	uint64_t corruptions, leaks;
	uint64_t copied_wrong; /* of corruptions: COPIED flags */
	uint64_t too_low;      /* of corruptions: refcounts */
	bool rebuild;	       /* the refcounts' own tables are damaged, or too small */
	bool lost;	       /* something could not be followed: not everything is counted */
	uint64_t reported;
};

/* One pass. 0 or -errno: it could not be finished. */
int qcow2_check_pass(struct check *c);
void qcow2_check_pass_end(struct check *c);

/* Is COPIED of a table entry what the refcount of its cluster asks for; the stored one, or what
 * it should be? */
bool qcow2_check_copied_ok(const struct check *c, uint64_t entry, bool stored);
/* Where the L2 table of an L1 entry is; 0: there is none, or it lies where no L2 table can be,
 * and nobody may take what is there for one. After the pass has seen all owners. */
uint64_t qcow2_check_l2_of(const struct check *c, uint64_t entry);

#endif
