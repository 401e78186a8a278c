/* blk: what the rest of bantam may ask of a virtio-blk device. */
#ifndef BANTAM_BLK_H
#define BANTAM_BLK_H

#include "devices/backend/disk/disk.h"
#include "devices/device.h"

extern const struct device_type virtio_blk_type;

struct virtio_blk_config {
	const char *id;	    /* NULL: none */
	const char *serial; /* NULL: none; at most 20 bytes */
	unsigned nqueues;
	uint16_t queue_size; /* a power of two from 4 on */
	bool discard;	     /* offer it if the disk can */
	/* Together for reads and writes, 0: no limit; a burst of 0: see ratelimit.h. */
	uint64_t bytes_per_s, bytes_burst, ops_per_s, ops_burst;
};

/* A device on an open disk, which it owns from now on, also when this fails. */
int blk_create(const struct device_env *env, const struct virtio_blk_config *cfg, struct disk *disk,
	       struct device **out, struct err *err);

#endif
