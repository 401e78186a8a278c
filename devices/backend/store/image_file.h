/*
 * store/image_file: an image file on the host: opened, locked, and checked.
 *
 * What every disk format needs before it reads a byte. Loop's thread or the builder's; no function
 * blocks for longer than open does.
 */
#ifndef BANTAM_STORE_IMAGE_FILE_H
#define BANTAM_STORE_IMAGE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/err.h"

/* O_DIRECT. IF_POSSIBLE: if the file system cannot do it, a warning, and the page cache. */
enum store_direct { STORE_CACHED, STORE_DIRECT, STORE_DIRECT_IF_POSSIBLE };

struct store_image {
	int fd;
	int cached_fd; /* with direct: the same file without O_DIRECT, else -1 */
	bool is_block;
	uint64_t size_bytes;	 /* at open; not always a multiple of 512 */
	uint32_t block_bytes;	 /* logical block of a device; 512 of a file */
	uint32_t physical_bytes; /* what the host writes without read-modify-write */
	uint32_t mem_align;	 /* alignment that O_DIRECT needs, powers of two; without: 1 */
	uint32_t offset_align;
};

/*
 * Open and lock (against a second writer; QEMU's locks are respected). via: what is opened in place
 * of path, which messages still name (backing.h); NULL: path. 0 or -errno; on failure err has the
 * reason in one line and *image holds nothing open.
 */
int store_image_open(struct store_image *image, const char *path, const char *via, bool readonly,
		     enum store_direct direct, struct err *err);
/*
 * Takes over image, which is open for writing, and unlocks it. From now on store_image_open of this path (the same text,
 * which the caller keeps) for writing takes its descriptor, and opens no file: for a program that gives up the right to
 * open files for writing before it reads the first byte. One image in a process, one thread.
 */
void store_image_keep(struct store_image *image, const char *path);
/* Accepts an image whose store_image_open failed, and a second call. */
void store_image_close(struct store_image *image);
/*
 * Warns if the partitions of the raw disk in image need more than its size, or if its GPT has sectors
 * of another size than the guest's blocks.
 */
void store_warn_partitions(const struct store_image *image, const char *path, uint32_t block_bytes);
/* Reads the current size. 0 or -errno. */
int store_image_size(const struct store_image *image, uint64_t *size_bytes);

#endif
