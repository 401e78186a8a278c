/*
 * volume: reads the file systems of an image: ext2 to ext4 with libext2fs, FAT with our own reader.
 *
 * Read-only. Like GRUB, it does not replay a journal: the last writes before a
 * crash may be missing, and volume.dirty says so. Paths stay within the volume: ".." stops
 * at its root and symbolic links never lead out. All input is hostile, and libext2fs is not
 * trusted either: this code runs in a process that has given up all but its open images.
 * One thread.
 */
#ifndef BANTAM_FS_VOLUME_H
#define BANTAM_FS_VOLUME_H

#include <ext2fs/ext2fs.h>

#include "devices/backend/fat/read.h"
#include "devices/backend/store/partitions.h"

#define VOLUME_PATH_MAX 4096u

struct volume {
	struct partition part;
	const char *content;	/* "ext4", "xfs" …; NULL: unknown */
	ext2_filsys fs;		/* NULL: no ext2 to ext4, or we cannot read it */
	struct fat_volume *fat; /* NULL: no FAT, or we cannot read it; never a root */
	struct store *store;	/* of a FAT */
	char why[200];		/* why an ext4 or FAT cannot be read; else "" */
	char uuid[37];		/* "" if none */
	char label[17];
	bool dirty;		     /* its journal needs a replay */
	ext2fs_inode_bitmap entered; /* directories that volume_enter saw; NULL: none yet */
	uint8_t *fat_entered;	     /* the same by cluster */
};

struct volumes {
	enum part_table table;
	uint32_t sector_bytes; /* of the table */
	unsigned beyond;       /* as in struct store_partitions */
	unsigned n;
	struct volume v[PARTITIONS_MAX];
};

/* Finds all volumes and opens those it can. The store must outlive them. Returns 0 or -errno. */
int volumes_open(struct store *s, struct volumes *out, struct err *err);
/* Writes and returns text like "partition 1: vfat, partition 2: xfs". */
const char *volumes_text(const struct volumes *all, char *text, size_t len);
/*
 * Chooses a volume by number (0: the whole disk), or with -1 the only volume, or the one
 * that looks like a root file system; a FAT only if there is no other. Returns 0 or -errno.
 */
int volumes_choose(struct volumes *all, int number, struct volume **out, struct err *err);

struct node {
	ext2_ino_t ino;
	struct ext2_inode inode;
};

/* One entry of a directory. */
struct entry {
	char *name;
	struct node node;
	bool broken; /* its inode cannot be read */
};

struct entries {
	struct entry *e;
	size_t n;
};

/*
 * With follow, also follows a symbolic link at the end. Returns 0, -ENOENT, -ENOTDIR, -ELOOP …;
 * err names path.
 */
int volume_find(struct volume *v, const char *path, bool follow, struct node *out, struct err *err);
bool volume_has(struct volume *v, const char *path);
/* Lists dir sorted by name, without "." and "..". Call volume_free_entries in any case. */
int volume_list(struct volume *v, const struct node *dir, const char *path, struct entries *out,
		struct err *err);
void volume_free_entries(struct entries *entries);
/*
 * A caller that walks a whole tree calls this before each directory. Returns -ELOOP if the walk
 * was in dir before. A valid directory has one parent; a directory that holds itself twice, or a
 * chain of directories that each hold the next twice, would make the walk endless.
 */
int volume_enter(struct volume *v, const struct node *dir, const char *path, struct err *err);
/* Reads the target of a symbolic link; len must be at least VOLUME_PATH_MAX. */
int volume_read_link(struct volume *v, const struct node *node, char *target, size_t len);

/*
 * A sink gets the bytes of a file in ascending order; the ranges left out are holes, which read
 * as zero. It returns 0, or -errno to end the reading.
 */
typedef int (*volume_sink)(void *opaque, uint64_t offset, const void *bytes, size_t len);
int volume_read(struct volume *v, const struct node *node, const char *path, volume_sink sink,
		void *opaque, struct err *err);
/* Returns a whole small file, NUL-terminated, for free(); NULL if unreadable or above 1 MiB. */
char *volume_read_small(struct volume *v, const struct node *node, const char *path);
/* The same for a path; NULL also if there is no such file. */
char *volume_read_text(struct volume *v, const char *path);

/* fat.c: the same for FAT, for volume.c and read.c. A name is found without regard to case. */
void volume_fat_open(struct store *s, struct volume *v);
void volume_fat_root(struct volume *v, struct node *out);
int volume_fat_lookup(struct volume *v, const struct node *dir, const char *name, size_t len,
		      struct node *out);
int volume_fat_list(struct volume *v, const struct node *dir, struct entries *out);
int volume_fat_read(struct volume *v, const struct node *node, volume_sink sink, void *opaque);
/* 0, -ELOOP or -ENOMEM. */
int volume_fat_enter(struct volume *v, const struct node *dir);

/* ext_io.c: libext2fs's only way to the image. Its next open gets these len_bytes of s. */
void ext_io_next(struct store *s, uint64_t offset, uint64_t len_bytes);
extern struct struct_io_manager ext_io_manager;
/* Reads len_bytes, skip_bytes after the start of block, past the cache. Returns 0 or -errno. */
int ext_io_read(ext2_filsys fs, uint64_t block, uint64_t skip_bytes, void *to, size_t len);

#endif
