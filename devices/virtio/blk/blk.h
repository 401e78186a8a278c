/* blk: virtio-blk, as seen from outside this folder. */
#ifndef BANTAM_BLK_H
#define BANTAM_BLK_H

#include "devices/backend/disk/disk.h"
#include "devices/device.h"

extern const struct device_type virtio_blk_type;

struct virtio_blk_config {
	const char *id;	    /* NULL: none */
	const char *serial; /* NULL: none; at most 20 bytes */
	unsigned nqueues;
	uint16_t queue_size; /* a power of two, 4 or more */
	bool discard;	     /* offer it if the disk can */
	/* For reads and writes together. 0: no limit; a burst of 0: see ratelimit.h. */
	uint64_t bytes_per_s, bytes_burst, ops_per_s, ops_burst;
};

/* Create a device on an open disk. The device owns disk from now on, also if this fails. */
int blk_create(const struct device_env *env, const struct virtio_blk_config *cfg, struct disk *disk,
	       struct device **out, struct err *err);

#endif
