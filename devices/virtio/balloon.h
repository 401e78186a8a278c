/* balloon: virtio-balloon, memory that the guest gives back (virtio 1.2, section 5.5). */
#ifndef BANTAM_VIRTIO_BALLOON_H
#define BANTAM_VIRTIO_BALLOON_H

#include "devices/device.h"

extern const struct device_type virtio_balloon_type;

/* Section 5.5.6.3, in the order of its tags. Bytes and counts as the driver says. */
enum balloon_stat {
	BALLOON_SWAP_IN,
	BALLOON_SWAP_OUT,
	BALLOON_MAJOR_FAULTS,
	BALLOON_MINOR_FAULTS,
	BALLOON_FREE_BYTES,
	BALLOON_TOTAL_BYTES,
	BALLOON_AVAILABLE_BYTES,
	BALLOON_CACHE_BYTES,
	BALLOON_HUGETLB_ALLOCATIONS,
	BALLOON_HUGETLB_FAILURES,
	BALLOON_NSTATS,
};

struct balloon_info {
	uint64_t target_bytes; /* what the host wants */
	uint64_t actual_bytes; /* what the guest says it has given */
	uint32_t known;	       /* bit n: stat[n] is what the guest said last */
	uint64_t stat[BALLOON_NSTATS];
};

/*
 * Ask the guest to give so many bytes (rounded down to 4 KiB), or to take back what it gave
 * beyond them. It does so when it can. -ERANGE: more than the guest has. Any thread.
 */
int balloon_set_target(struct device *dev, uint64_t bytes);
/* Any thread. */
void balloon_get(struct device *dev, struct balloon_info *out);

#endif
