/*
 * cache: keeps unpacked kernels for the next VM.
 *
 * An entry is one file in DIR/unpacked (0700), named after the device and inode
 * of its kernel file. The entry also holds the kernel file's size, mtime and ctime;
 * if the caller knows the kernel's SHA-256, that replaces all of these but the size.
 * Then come the segments as they are in memory, cut at long runs of zeroes, the bytes
 * that follow the ELF (relocations), and checksums over all of it. Entries appear by
 * rename only. An entry that is truncated, corrupt, of another kernel file or of
 * another owner counts as absent, and the next store replaces it; a store removes the
 * least recently used entries beyond CACHE_MAX_ENTRIES. Nothing here is an error: a
 * cache that does not work only costs time. Internal to boot. Thread: the builder;
 * any number of processes at once.
 */
#ifndef BANTAM_BOOT_CACHE_H
#define BANTAM_BOOT_CACHE_H

#include <stdbool.h>

#include "boot/file.h"
#include "boot/kernel_image.h"
#include "vmm/core/mem.h"

#define CACHE_MAX_ENTRIES 8

/*
 * Returns true if the cache had the kernel: *image is filled and its segments are in mem. If it
 * returns false, mem may hold parts of an entry.
 */
bool boot_cache_load(struct mem *mem, const char *dir, const struct boot_file *file,
		     struct kernel_image *image);
/* Keeps an image. The caller has just loaded it into mem and has not changed it since. */
void boot_cache_store(const struct mem *mem, const char *dir, const struct boot_file *file,
		      const struct kernel_image *image);

#endif
