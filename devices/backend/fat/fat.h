/*
 * fat: writes a FAT file system (FAT12, FAT16 or FAT32) with given files in it.
 *
 * First fat_add_… takes the names: host folders, host files and texts. Then fat_layout decides
 * where everything goes, which settles the size. Then fat_write copies the data straight from its
 * sources. A finished file system cannot be changed.
 *
 * The same input gives the same bytes: names are sorted, files follow one another without gaps, the
 * serial number is a checksum of the content, times are UTC, and the clock is never read. The
 * number of clusters decides which FAT it is, as in Microsoft's "FAT: General Overview of On-Disk
 * Format" (version 1.03); the number stays 16 away from either limit, as the specification advises.
 *
 * The owner of a folder may change it meanwhile, and even exchange it for a link: no link that was
 * not there by the user's choice leads out of it (source.c).
 *
 * Names that FAT cannot hold are refused, and so are two that differ in case only, symbolic links
 * (unless followed), devices, sockets and pipes. Errors name the file.
 *
 * Thread: any; one fat, one thread.
 */
#ifndef BANTAM_FAT_H
#define BANTAM_FAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "vmm/core/err.h"

#define FAT_LABEL_MAX 11u
#define FAT_FILE_MAX 0xffffffffull /* bytes */

struct fat;

enum fat_times {
	FAT_TIMES_KEPT, /* those of the host's files, but none later than latest_s */
	FAT_TIMES_ONE,	/* all are latest_s */
};

struct fat_options {
	const char *label;  /* 1 to 11 characters; NULL: none */
	uint64_t min_bytes; /* the least size of the image */
	bool follow;	    /* symbolic links are replaced by their targets */
	enum fat_times times;
	int64_t latest_s; /* Unix time; fat_latest() */
	/* Unless NULL: called now and then by fat_write; done_bytes: how far it is in the data_bytes. */
	void (*progress)(void *opaque, uint64_t done_bytes);
	void *opaque;
};

struct fat_info {
	unsigned bits; /* 12, 16, 32 */
	unsigned cluster_bytes;
	uint32_t clusters;
	uint64_t size_bytes;	 /* of the image: a multiple of 16 KiB */
	uint64_t data_bytes;	 /* of all files together */
	unsigned files, folders; /* without the root */
};

/* The options are copied. On failure *out is NULL. */
int fat_create(const struct fat_options *options, struct fat **out, struct err *err);
/* Accepts NULL. */
void fat_destroy(struct fat *fat);

/* Adds everything in a host folder to folder name of the root; NULL: to the root itself. */
int fat_add_tree(struct fat *fat, const char *name, const char *host_dir, struct err *err);
/*
 * Adds one file to the root. Links in host_path are followed, but one that belongs neither to root
 * nor to the user leads only to what belongs to the link's owner. The same holds for host_dir above.
 */
int fat_add_file(struct fat *fat, const char *name, const char *host_path, struct err *err);
/* Adds one file to the root, with these bytes, which are copied. */
int fat_add_data(struct fat *fat, const char *name, const void *data, size_t len, struct err *err);
/*
 * Opens what the user named, a file, pipe or device, for reading, as fat_add_file does. Returns a
 * descriptor or -errno.
 */
int fat_open_named(const char *path, struct err *err);
/* The file st must not be among the sources: it is the image itself. */
void fat_forbid(struct fat *fat, const struct stat *st);

/* Decides where everything goes. Nothing can be added afterwards. */
int fat_layout(struct fat *fat, struct err *err);
/* After fat_layout. */
void fat_get_info(const struct fat *fat, struct fat_info *info);

/*
 * After fat_layout: writes all bytes into fd, an empty file, which becomes size_bytes long and has
 * holes where there is no data. where names fd in errors. Returns 0 or -errno; -ESTALE: a source
 * has changed since it was added.
 */
int fat_write(struct fat *fat, int fd, const char *where, struct err *err);

/*
 * Sets *latest_s to the environment's SOURCE_DATE_EPOCH, or to unset if there is none. 0 or -errno.
 */
int fat_latest(int64_t unset, int64_t *latest_s, struct err *err);
#define FAT_EPOCH_S 315532800 /* 1980-01-01, the first day that FAT knows */
#define FAT_LAST_S 4354819198 /* 2107-12-31 23:59:58 */

#endif
