/*
 * store/partitions: the partitions of a disk image, and the content of each.
 *
 * GPT (UEFI specification 2.10, chapter 5: both headers, CRCs, any entry size) and MBR with logical
 * partitions, numbered as Linux numbers them. Every byte of the image is untrusted: each returned
 * range is within the image. One thread.
 */
#ifndef BANTAM_STORE_PARTITIONS_H
#define BANTAM_STORE_PARTITIONS_H

#include "devices/backend/store/store.h"

#define PARTITIONS_MAX 128

enum part_table { PART_TABLE_NONE, PART_TABLE_MBR, PART_TABLE_GPT };
/* The purpose that a GPT type states (UAPI group's Discoverable Partitions Specification). */
enum part_role { PART_ROLE_OTHER, PART_ROLE_ROOT, PART_ROLE_BOOT, PART_ROLE_ESP };

struct partition {
	unsigned number; /* 1 is vda1; 0: the whole disk */
	enum part_role role;
	uint64_t offset;
	uint64_t len_bytes;  /* at least 1 */
	char partuuid[40];   /* as after PARTUUID=; "": none */
	char partlabel[112]; /* the GPT's name of it, in UTF-8; "": none */
};

struct store_partitions {
	enum part_table table;
	uint32_t sector_bytes; /* 512 or 4096 */
	bool from_backup;      /* the first GPT header is damaged */
	unsigned beyond; /* the first partition that reaches beyond the image's end; 0: none */
	unsigned n;
	struct partition part[PARTITIONS_MAX];
};

/*
 * Reads the partition table. A disk without a table is one partition of number 0. Returns 0 or
 * -errno; -EIO: the disk cannot be read; -EINVAL: both copies of its GPT are damaged.
 */
int store_partitions_read(struct store *s, struct store_partitions *out, struct err *err);

/*
 * Returns what begins at offset: "ext4" (also for ext2 and 3), "xfs", "btrfs", "vfat", "LVM",
 * "LUKS", "swap" …, or NULL if that is unknown or cannot be read.
 */
const char *store_partitions_content(struct store *s, uint64_t offset, uint64_t len_bytes);

#endif
