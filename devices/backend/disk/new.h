/*
 * disk/new: disks that bantam makes itself: a folder's files in memory (--disk seed=), and an image
 * at its first start (--disk create=). They then work as disk.h describes.
 *
 * Thread: the builder's.
 */
#ifndef BANTAM_DISK_NEW_H
#define BANTAM_DISK_NEW_H

#include "devices/backend/disk/disk.h"
#include "devices/backend/store/store.h"

/* The most data that a seed in memory may hold. */
#define DISK_SEED_MAX_BYTES (1ull << 30)

/*
 * Makes a FAT file system (fat.h) of the files that are in dir now, in sealed memory; the guest
 * cannot write to it. label may be NULL. Of cfg, only loop and engine count.
 */
int disk_seed_open(const struct disk_config *cfg, const char *dir, const char *label,
		   struct disk **out, struct err *err);

/*
 * If nothing is at path, makes an image there. The image appears whole or not at all, even if this
 * process is killed. Returns 1 if it was made, 0 if path exists, or -errno. dry_run: makes nothing
 * and returns the same.
 */
int disk_make(const char *path, enum store_format format, uint64_t size_bytes, bool dry_run,
	      struct err *err);

/* Opens a disk of zeroes in memory, in place of an image that a dry run does not make. */
int disk_blank_open(const struct disk_config *cfg, uint64_t size_bytes, struct disk **out,
		    struct err *err);

#endif
