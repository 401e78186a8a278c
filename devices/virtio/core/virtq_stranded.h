/*
 * virtio/virtq_stranded: which requests of a ring are outstanding when its server has died.
 *
 * Pure functions. avail and used are copies of the heads in the two rings, size entries each, in
 * the ring's own order (entry i at i % size), with the matching indices. Hostile values are
 * allowed: a head of size or more counts as no head.
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
 * Set bit h of set (size bits, zeroed by the caller) for each head that is judged to be
 * outstanding: never more than avail_idx - used_idx. 0, -ENOMEM, or -EINVAL if avail_idx - used_idx
 * or size is out of range.
 *
 * The number of outstanding requests is certain. The heads are certain if the server answered
 * requests in order, or if the rings still show the order in which it answered them. They do not
 * always show it: after size other requests, the rings hold no trace of a request that was never
 * answered. Then the result is a guess.
 */
int virtq_stranded(const struct stranded_rings *rings, uint64_t *set);

#endif
