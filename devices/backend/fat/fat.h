/*
 * fat: writes a FAT file system (FAT12, FAT16 or FAT32) with given files in it.
 *
 * First the names: fat_add_… takes host folders, host files and texts. Then
 * fat_layout decides where all of it goes, which settles the size. Then fat_write
 * copies the data straight from its sources. There is no way to change one later.
 *
 * The same input gives the same bytes: names are sorted, files lie one after the other,
 * the serial number is a checksum of what is in there, times are UTC, and the clock is
 * never asked. Which FAT it is follows from the number of clusters as Microsoft's
 * "FAT: General Overview of On-Disk Format" (version 1.03) counts them, 16 away from
 * either limit as it advises.
 *
 * Names that FAT cannot hold are refused, and so are two that differ in case only,
 * symbolic links (unless followed), devices, sockets and pipes. Errors name the file.
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
	FAT_TIMES_KEPT, /* of the host's files, but none later than latest_s */
	FAT_TIMES_ONE,	/* all are latest_s */
};

struct fat_options {
	const char *label;  /* 1 to 11 characters; NULL: none */
	uint64_t min_bytes; /* the image is at least so large */
	bool follow;	    /* symbolic links count as what they lead to */
	enum fat_times times;
	int64_t latest_s; /* Unix time; fat_latest() */
};

struct fat_info {
	unsigned bits; /* 12, 16, 32 */
	unsigned cluster_bytes;
	uint32_t clusters;
	uint64_t size_bytes;	 /* of the image: a multiple of 16 KiB */
	uint64_t data_bytes;	 /* of all files together */
	unsigned files, folders; /* the root is none */
};

/* The options are copied. On failure *out is NULL. */
int fat_create(const struct fat_options *options, struct fat **out, struct err *err);
/* Accepts NULL. */
void fat_destroy(struct fat *fat);

/* All that is in a host folder, into folder name of the root; NULL: into the root itself. */
int fat_add_tree(struct fat *fat, const char *name, const char *host_dir, struct err *err);
/* One file in the root. A symbolic link that is named here is followed. */
int fat_add_file(struct fat *fat, const char *name, const char *host_path, struct err *err);
/* One file in the root that holds these bytes, which are copied. */
int fat_add_data(struct fat *fat, const char *name, const void *data, size_t len, struct err *err);
/* A file that must not be among the sources: the image's own. */
void fat_forbid(struct fat *fat, const struct stat *st);

/* Nothing can be added any more. */
int fat_layout(struct fat *fat, struct err *err);
/* After fat_layout. */
void fat_get_info(const struct fat *fat, struct fat_info *info);

/*
 * After fat_layout: all bytes into fd, an empty file, which becomes size_bytes long and
 * has holes where there is nothing. where names it in errors. A source that is not what
 * it was when it was added is -ESTALE.
 */
int fat_write(struct fat *fat, int fd, const char *where, struct err *err);

/* The environment's SOURCE_DATE_EPOCH, or unset when there is none. */
int fat_latest(int64_t unset, int64_t *latest_s, struct err *err);
#define FAT_EPOCH_S 315532800 /* 1980-01-01, the first day that FAT knows */
#define FAT_LAST_S 4354819198 /* 2107-12-31 23:59:58 */

#endif
