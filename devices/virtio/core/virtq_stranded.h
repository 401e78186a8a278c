/*
 * virtio/virtq_stranded: which requests of a ring are outstanding when its server has died.
 *
 * Pure. avail and used are copies of the rings' heads, size entries each, in the ring's own
 * order (entry i at i % size), with the indices that go with them. Hostile values are fine:
 * heads of size or more are taken for none.
 */
#ifndef BANTAM_VIRTIO_VIRTQ_STRANDED_H
#define BANTAM_VIRTIO_VIRTQ_STRANDED_H

#include <stdint.h>

struct stranded_rings {
	uint16_t size;		      /* a power of two */
	uint16_t avail_idx, used_idx; /* avail_idx - used_idx <= size */
	const uint16_t *avail, *used;
};

/*
 * Set bit h of set (size bits, zeroed by the caller) for each head that is taken to be
 * outstanding: never more than avail_idx - used_idx. -ENOMEM.
 *
 * The number is known, and so are the heads when requests were answered in the order that they
 * came, or out of it in a way that the rings still tell. They do not always: after size others,
 * nothing is left of a request that was never answered. Then it is a guess.
 */
int virtq_stranded(const struct stranded_rings *rings, uint64_t *set);

#endif
