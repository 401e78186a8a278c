/*
 * volume: the file systems of an image, read by libext2fs.
 *
 * Read-only; a journal is not replayed, as GRUB does not: what was written last before a
 * crash may be missing, and volume.dirty says so. Paths are resolved within the volume: ".." stops
 * at its root and symbolic links never lead out. Everything read is hostile, libext2fs
 * included: this runs in a process that has given up everything but its open images.
 * One thread.
 */
#ifndef BANTAM_FS_VOLUME_H
#define BANTAM_FS_VOLUME_H

#include <ext2fs/ext2fs.h>

#include "devices/backend/store/partitions.h"

#define VOLUME_PATH_MAX 4096u

struct volume {
	struct partition part;
	const char *content; /* "ext4", "xfs" …; NULL: unknown */
	ext2_filsys fs;	     /* NULL: cannot be read */
	char why[200];	     /* ext4, and still cannot be read */
	char uuid[37];	     /* "": none */
	char label[17];
	bool dirty;		     /* its journal has to be replayed */
	ext2fs_inode_bitmap entered; /* NULL: none yet */
};

struct volumes {
	enum part_table table;
	unsigned n;
	struct volume v[PARTITIONS_MAX];
};

/* Finds and opens what can be. The store must outlive it. */
int volumes_open(struct store *s, struct volumes *out, struct err *err);
/* "partition 1: vfat, partition 2: xfs". */
const char *volumes_text(const struct volumes *all, char *text, size_t len);
/*
 * The one that is meant: by number (0: the whole disk), or with -1 the only one, or the one
 * that looks like a root file system.
 */
int volumes_choose(struct volumes *all, int number, struct volume **out, struct err *err);

struct node {
	ext2_ino_t ino;
	struct ext2_inode inode;
};

/* One name of a directory. */
struct entry {
	char *name;
	struct node node;
	bool broken; /* its inode cannot be read */
};

struct entries {
	struct entry *e;
	size_t n;
};

/* follow: also a symbolic link at the end. -ENOENT, -ENOTDIR, -ELOOP …; the err names path. */
int volume_find(struct volume *v, const char *path, bool follow, struct node *out, struct err *err);
bool volume_has(struct volume *v, const char *path);
/* Sorted by name, without "." and "..". volume_free_entries in any case. */
int volume_list(struct volume *v, const struct node *dir, const char *path, struct entries *out,
		struct err *err);
void volume_free_entries(struct entries *entries);
/*
 * For who walks a whole tree, before each directory: -ELOOP if the walk was in it before. A
 * directory has one parent; one that holds itself twice, or a chain of them that each hold
 * the next twice, is a tree without end.
 */
int volume_enter(struct volume *v, const struct node *dir, const char *path, struct err *err);
/* The target of a symbolic link; len at least VOLUME_PATH_MAX. */
int volume_read_link(struct volume *v, const struct node *node, char *target, size_t len);

/*
 * Bytes of a file in order; what is not handed out (holes) is zero. A sink returns 0
 * or -errno, which ends it.
 */
typedef int (*volume_sink)(void *opaque, uint64_t offset, const void *bytes, size_t len);
int volume_read(struct volume *v, const struct node *node, const char *path, volume_sink sink,
		void *opaque, struct err *err);
/* A whole small file, NUL-terminated; the caller frees it. NULL: unreadable, or above 1 MiB. */
char *volume_read_small(struct volume *v, const struct node *node, const char *path);
/* The same of a path; NULL also if there is no such file. */
char *volume_read_text(struct volume *v, const char *path);

/* ext_io.c: the only way libext2fs reaches the image. Reads [offset, offset + len_bytes) of s. */
void ext_io_next(struct store *s, uint64_t offset, uint64_t len_bytes);
extern struct struct_io_manager ext_io_manager;
/* The same bytes for volume.c: len_bytes at block. */
int ext_io_read(ext2_filsys fs, uint64_t block, uint64_t skip_bytes, void *to, size_t len);

#endif
