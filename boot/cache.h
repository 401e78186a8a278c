/*
 * cache: unpacked kernels kept for the next VM.
 *
 * An entry is one file in DIR/unpacked (0700), named after the device and inode
 * of the kernel file that it was made from. It holds that file's size, mtime
 * and ctime too (for a kernel that is known by its SHA-256 that takes the place of all but
 * the size), the segments as they lie in memory, cut at long runs of
 * zeroes, what followed the ELF (relocations), and checksums over all of it.
 * Entries appear by rename only. One that is truncated, corrupt, of another
 * kernel file or of another owner counts as absent, and is written anew; the
 * oldest beyond CACHE_MAX_ENTRIES go. Nothing here is an error: a cache that
 * does not work costs time only. Internal to boot. Thread: the builder; any number
 * of processes.
 */
#ifndef BANTAM_BOOT_CACHE_H
#define BANTAM_BOOT_CACHE_H

#include <stdbool.h>

#include "boot/file.h"
#include "boot/kernel_image.h"
#include "vmm/core/mem.h"

#define CACHE_MAX_ENTRIES 8

/* True: *image is filled and its segments are in mem. Else mem may have been written to. */
bool boot_cache_load(struct mem *mem, const char *dir, const struct boot_file *file,
		     struct kernel_image *image);
/* Keep the image that was just loaded into mem, as it was loaded. */
void boot_cache_store(const struct mem *mem, const char *dir, const struct boot_file *file,
		      const struct kernel_image *image);

#endif
