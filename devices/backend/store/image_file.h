/*
 * store/image_file: an image file as the host has it: opened, locked, and judged.
 *
 * What every disk format needs before it looks at a byte. Loop's thread or the
 * builder's; nothing here blocks for longer than open does.
 */
#ifndef BANTAM_STORE_IMAGE_FILE_H
#define BANTAM_STORE_IMAGE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/err.h"

struct store_image {
	int fd;
	int cached_fd; /* with direct: the same file without O_DIRECT, else -1 */
	bool is_block;
	uint64_t size_bytes;	 /* as it was at open; any number */
	uint32_t block_bytes;	 /* logical block of a device; 512 of a file */
	uint32_t physical_bytes; /* what the host writes without read-modify-write */
	uint32_t mem_align;	 /* O_DIRECT's demands, powers of two; without: 1 */
	uint32_t offset_align;
};

/*
 * Open and lock (against a second writer; QEMU's locks are respected). On
 * failure *err says why in one line and *image holds nothing open.
 */
int store_image_open(struct store_image *image, const char *path, bool readonly, bool direct,
		     struct err *err);
/* Accepts what store_image_open failed on, and a second call. */
void store_image_close(struct store_image *image);
/* The size now; 0 or -errno. */
int store_image_size(const struct store_image *image, uint64_t *size_bytes);

#endif
