/* balloon: virtio-balloon, memory that the guest gives back (virtio 1.2, section 5.5). */
#ifndef BANTAM_VIRTIO_BALLOON_H
#define BANTAM_VIRTIO_BALLOON_H

#include "devices/device.h"

extern const struct device_type virtio_balloon_type;

/* Section 5.5.6.3, in the order of its tags. Bytes and counts as the driver reports them. */
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
	uint64_t actual_bytes; /* what the guest reports to have given */
	uint32_t known;	       /* bit n: stat[n] is the guest's last report */
	uint64_t stat[BALLOON_NSTATS];
};

/*
 * Ask the guest to give so many bytes in all (rounded down to 4 KiB), or to take back what it has
 * given beyond that. The guest does so when it can. 0, or -ERANGE if the guest has less memory.
 * Thread: any.
 */
int balloon_set_target(struct device *dev, uint64_t bytes);
/* Thread: any. */
void balloon_get(struct device *dev, struct balloon_info *out);
/* Returns actual_bytes. Thread: any; takes no lock, so it never waits for the guest's pages. */
uint64_t balloon_held_bytes(const struct device *dev);

#endif
