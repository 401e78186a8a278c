/*
 * disk/disk_impl: how open.c and new.c make a disk of each format, and what the formats share. For
 * this folder and its tests.
 */
#ifndef BANTAM_DISK_IMPL_H
#define BANTAM_DISK_IMPL_H

#include "devices/backend/disk/disk.h"

/* The log line when lost_writes is set. */
#define DISK_LOST_WRITES                                                                           \
	"disk %s: the host could not write what it had in memory: %s; it is "                      \
	"unknown what is lost, so every flush fails from now on"

/* The block sizes that the guest sees of image. block_bytes: disk_config's. */
static inline void disk_set_blocks(struct disk *disk, const struct store_image *image,
				   uint32_t block_bytes)
{
	disk->block_bytes = block_bytes ? block_bytes : image->block_bytes;
	disk->physical_bytes = image->physical_bytes > disk->block_bytes ? image->physical_bytes :
									   disk->block_bytes;
}

/* Open one format; cfg->format is ignored. */
int disk_raw_open(const struct disk_config *cfg, struct disk **out, struct err *err);
int disk_qcow2_open(const struct disk_config *cfg, struct disk **out, struct err *err);
/*
 * Does I/O on a file that another format has opened: no size, no lock, and close leaves the file
 * open and unflushed. Of cfg, engine and loop count. image is copied.
 */
int disk_raw_attach(const struct disk_config *cfg, const struct store_image *image,
		    struct disk **out, struct err *err);

#endif
