/*
 * fat/read: reads FAT12, FAT16 and FAT32 with long names, as Microsoft's "FAT: General Overview of On-Disk
 * Format" (version 1.03) and the long names of VFAT describe them.
 *
 * All that is read is hostile: each number is checked against the volume's size, a chain of clusters never
 * gives more than the file's size, or what a folder may have, says; so a circle in it ends. The FAT and
 * folders are read through small buffers: memory does not depend on what the volume claims. Names become
 * UTF-8 without '/', control characters and "." or "..", which come out as '?', so a name is always one
 * component of a path.
 *
 * Thread: any; one volume, one thread. Errors are -errno: -EIO: the volume is damaged there, or the
 * source's own.
 */
#ifndef BANTAM_FAT_READ_H
#define BANTAM_FAT_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAT_READ_NAME_BYTES (255u * 3 + 1)

/* Reads len bytes at offset of the volume. 0 or -errno. */
typedef int (*fat_read_source)(void *opaque, uint64_t offset, void *to, size_t len);

struct fat_volume;

struct fat_item {
	char name[FAT_READ_NAME_BYTES]; /* the long name, or the alias */
	char alias[13 * 3];		/* "NAME.EXT"; UTF-8 */
	bool dir, readonly;
	bool broken;	    /* its first cluster is none of the volume's */
	uint32_t first;	    /* first cluster; 0: an empty file */
	uint32_t len_bytes; /* of a file */
	int64_t mtime_s;    /* UTC */
};

/*
 * Opens the volume of len_bytes. -EINVAL: it is no FAT that can be read, and *why says what is wrong; -ENOMEM;
 * or the source's error. The source must outlive it. On failure *out is NULL.
 */
int fat_volume_open(fat_read_source source, void *opaque, uint64_t len_bytes,
		    struct fat_volume **out, const char **why);
void fat_volume_close(struct fat_volume *v);

/* 12, 16 or 32. */
unsigned fat_volume_bits(const struct fat_volume *v);
/* Clusters have the numbers 2 to this, not included. */
uint32_t fat_volume_end(const struct fat_volume *v);
/* The first cluster of the root: 0 if it has a fixed place. */
uint32_t fat_volume_root(const struct fat_volume *v);
/* The label in the boot sector, "" if none, in ASCII; and the serial number. */
const char *fat_volume_label(const struct fat_volume *v);
uint32_t fat_volume_serial(const struct fat_volume *v);
/* The last system that wrote to it did not unmount it. */
bool fat_volume_dirty(struct fat_volume *v);

/* Return 0, or what is not 0 to end. */
typedef int (*fat_item_fn)(void *opaque, const struct fat_item *item);
typedef int (*fat_bytes_fn)(void *opaque, uint64_t offset, const void *bytes, size_t len);

/* Calls fn for each file and folder of the folder at first (fat_volume_root, or an item's). */
int fat_volume_list(struct fat_volume *v, uint32_t first, fat_item_fn fn, void *opaque);
/* Calls fn with the len_bytes of a file, in order. -EIO: they are not all there. */
int fat_volume_read(struct fat_volume *v, uint32_t first, uint32_t len_bytes, fat_bytes_fn fn,
		    void *opaque);
/* Does the item have this name? FAT does not tell ASCII's capitals from small letters. */
bool fat_item_is(const struct fat_item *item, const char *name, size_t len);

#endif
