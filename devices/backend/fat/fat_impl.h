/*
 * fat/fat_impl: what fat.c (the tree), name.c, layout.c (geometry) and write.c (bytes) share. Tests
 * include it too; other code does not.
 */
#ifndef BANTAM_FAT_IMPL_H
#define BANTAM_FAT_IMPL_H

#include <sys/types.h>

#include "devices/backend/fat/fat.h"

#define FAT_NAME_MAX 255u /* UTF-16 units */
#define FAT_ALIAS 11u	  /* an 8.3 name as directories store it, padded with spaces */
#define FAT_ENTRY_BYTES 32u
#define FAT_SECTOR 512u
#define FAT_DIR_MAX 65520u	/* entries of a folder: the limit of Linux and of a FAT16 root */
#define FAT_UNITS_PER_ENTRY 13u /* of a long name */

/* A file or folder of the host, found but not opened for reading. */
struct fat_source {
	int fd; /* O_PATH; -1: none */
	struct stat st;
	bool foreign; /* with -EACCES: a link of another user leads to what is not that user's */
};

struct fat_node {
	char *name;		    /* UTF-8; the root's: "" */
	char *path;		    /* of the host's file or folder; NULL: the bytes are in data */
	struct fat_source source;   /* open if the user named the file or folder; else fd is -1 */
	const struct fat_node *top; /* of a name found in a folder: the one that the user named */
	void *data;
	bool dir;
	bool has_long; /* the alias alone does not give the name */
	uint8_t alias[FAT_ALIAS];
	unsigned nwide; /* UTF-16 units of the name */
	int64_t mtime_s;
	uint64_t len_bytes; /* of a file */
	struct stat was;    /* the host's file when it was added */
	struct fat_node *parent;
	struct fat_node **child; /* sorted by fat_layout */
	size_t nchild, child_room;
	uint32_t nentries;	     /* a folder's, of 32 bytes */
	uint32_t cluster, nclusters; /* 0, 0: none */
};

struct fat_geometry {
	unsigned bits;
	uint32_t cluster_sectors;
	uint32_t reserved;     /* sectors before the first FAT */
	uint32_t fat_sectors;  /* of each of the two FATs */
	uint32_t root_entries; /* 0 with FAT32 */
	uint32_t data_start;   /* sector */
	uint32_t clusters;
	uint64_t sectors;
};

struct fat {
	struct fat_options options;
	char label[FAT_LABEL_MAX + 1]; /* "": none */
	struct fat_node *root;
	struct fat_node **order; /* all nodes that have clusters, in the order of their clusters */
	size_t norder;
	unsigned files, folders;
	uint64_t data_bytes;
	bool forbidden_set;
	struct stat forbidden;
	struct fat_geometry geo;
	uint32_t used; /* clusters */
};

/* --- fat/source.c -------------------------------------------------------------- */

/* Finds what the user named, through links that can be trusted. Returns 0 or -errno. */
int fat_source_named(const char *path, struct fat_source *out);
/*
 * Finds rel beneath the folder top. Without follow no link is followed: the result may be a link,
 * and a link on the way is -ELOOP or -ENOTDIR. Returns 0 or -errno.
 */
int fat_source_beneath(int top, const char *rel, bool follow, struct fat_source *out);
/* Finds node, which was seen in a folder, beneath the folder that the user named. */
int fat_source_find(const struct fat *fat, const struct fat_node *node, struct fat_source *out);
/* Opens a source for reading. Returns a descriptor or -errno. more: 0 or O_NONBLOCK. */
int fat_source_read(const struct fat_source *source, int more);
/* The same of a file or folder; -EINVAL: it is neither. */
int fat_source_read_plain(const struct fat_source *source);
void fat_source_close(struct fat_source *source);

/* --- fat/name.c ---------------------------------------------------------------- */

/*
 * Converts name to UTF-16 in wide[FAT_NAME_MAX]. Returns its length; or 0, and in *why what FAT
 * cannot hold: "has a colon …".
 */
unsigned fat_name_wide(const char *name, uint16_t *wide, const char **why);
/* Returns NULL if label is valid, else what is wrong with it. */
const char *fat_label_fault(const char *label);
/* Formats name for messages: one line of at most len bytes; of a longer name, its end. */
const char *fat_name_print(const char *name, char *buf, size_t len);
/* The checksum that ties long names to their alias (section "Long Directory Entries"). */
uint8_t fat_alias_sum(const uint8_t *alias);
/* Checks and sorts a folder's names and gives each an alias. */
int fat_name_folder(struct fat_node *dir, struct err *err);

/* --- fat/layout.c -------------------------------------------------------------- */

/*
 * Finds the smallest fitting geometry; -EFBIG if there is none. need returns the clusters for
 * everything but a fixed root.
 */
int fat_geometry_find(struct fat_geometry *geo, uint64_t min_sectors, uint32_t root_entries,
		      uint64_t (*need)(const void *opaque, uint32_t cluster_bytes, bool root),
		      const void *opaque);

#endif
