/*
 * disk/new: disks that bantam makes itself: a folder's files in memory (--disk seed=),
 * and an image at its first start (--disk create=). See disk.h for what they then are.
 *
 * Thread: the builder's.
 */
#ifndef BANTAM_DISK_NEW_H
#define BANTAM_DISK_NEW_H

#include "devices/backend/disk/disk.h"
#include "devices/backend/store/store.h"

/* What a seed in memory may hold. */
#define DISK_SEED_MAX_BYTES (1ull << 30)

/*
 * A FAT file system (fat.h) of the files in dir as they are now, in sealed memory; the guest
 * cannot write. label may be NULL. cfg: loop and engine alone count.
 */
int disk_seed_open(const struct disk_config *cfg, const char *dir, const char *label,
		   struct disk **out, struct err *err);

/*
 * If nothing is at path, makes an image there, whole or not at all, also when we are killed:
 * 1 if it was made, 0 if there is one. dry_run: only says so.
 */
int disk_make(const char *path, enum store_format format, uint64_t size_bytes, bool dry_run,
	      struct err *err);

/* A disk of zeroes in memory, for what a dry run does not make. */
int disk_blank_open(const struct disk_config *cfg, uint64_t size_bytes, struct disk **out,
		    struct err *err);

#endif
