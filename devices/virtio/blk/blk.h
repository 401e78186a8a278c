/* blk: virtio-blk, as seen from outside this folder. */
#ifndef BANTAM_BLK_H
#define BANTAM_BLK_H

#include "devices/backend/disk/disk.h"
#include "devices/device.h"
#include "vmm/core/ratelimit.h"

extern const struct device_type virtio_blk_type;

struct virtio_blk_config {
	const char *id;	    /* NULL: none */
	const char *serial; /* NULL: none; at most 20 bytes */
	unsigned nqueues;
	uint16_t queue_size;	       /* a power of two, 4 or more */
	bool discard;		       /* offer it if the disk can */
	struct ratelimit_config limit; /* of reads and writes together */
	const char *what;	       /* for --dry-run: file and format; NULL: not told */
	const char *group;	       /* the disks that share the limit; NULL: this one alone */
};

/* Create a device on an open disk. The device owns disk from now on, also if this fails. */
int blk_create(const struct device_env *env, const struct virtio_blk_config *cfg, struct disk *disk,
	       struct device **out, struct err *err);

#endif
