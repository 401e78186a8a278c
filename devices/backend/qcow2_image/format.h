/*
 * qcow2_image/format: the bytes of a qcow2 image, as QEMU's docs/interop/qcow2 describes
 * them. All numbers are big-endian.
 */
#ifndef BANTAM_QCOW2_IMAGE_FORMAT_H
#define BANTAM_QCOW2_IMAGE_FORMAT_H

#include <stdint.h>

#define QCOW2_MAGIC 0x514649fbu
#define QCOW2_V2_HEADER_BYTES 72u
#define QCOW2_V3_HEADER_BYTES 104u
#define QCOW2_MIN_CLUSTER_BITS 9u
#define QCOW2_MAX_CLUSTER_BITS 21u
/* QEMU's limits: it does not open an image that exceeds them. */
#define QCOW2_MAX_L1_BYTES (32u << 20)
#define QCOW2_MAX_REFTABLE_BYTES (8u << 20)
#define QCOW2_MAX_SNAPSHOTS 65536u
#define QCOW2_MAX_NAME 1023u
/* bantam's limit for all snapshots' L1 tables: 32 MiB of memory; with clusters of 64 KiB it allows
 * 64 GiB of tables. */
#define QCOW2_MAX_SNAPSHOT_CLUSTERS (1u << 20)

/* Version 2 has the first 72 bytes only. */
struct qcow2_header {
	uint32_t magic;
	uint32_t version;
	uint64_t backing_offset;
	uint32_t backing_len;
	uint32_t cluster_bits;
	uint64_t size;
	uint32_t crypt_method;
	uint32_t l1_size; /* entries */
	uint64_t l1_offset;
	uint64_t reftable_offset;
	uint32_t reftable_clusters;
	uint32_t nsnapshots;
	uint64_t snapshots_offset;
	uint64_t incompatible;
	uint64_t compatible;
	uint64_t autoclear;
	uint32_t refcount_order;
	uint32_t header_len;
	uint8_t compression_type; /* only if header_len covers it */
	uint8_t padding[7];
} __attribute__((packed));
_Static_assert(sizeof(struct qcow2_header) == 112, "as the specification lays it out");

#define QCOW2_INCOMPAT_DIRTY (1ull << 0)
#define QCOW2_INCOMPAT_CORRUPT (1ull << 1)
#define QCOW2_INCOMPAT_DATA_FILE (1ull << 2)
#define QCOW2_INCOMPAT_COMPRESSION (1ull << 3)
#define QCOW2_INCOMPAT_EXTENDED_L2 (1ull << 4)
#define QCOW2_COMPAT_LAZY_REFCOUNTS (1ull << 0)

#define QCOW2_EXT_END 0u
#define QCOW2_EXT_BACKING_FORMAT 0xe2792acau
#define QCOW2_EXT_FEATURES 0x6803f857u

struct qcow2_extension {
	uint32_t type;
	uint32_t len;
};

struct qcow2_feature {
	uint8_t type; /* 0: incompatible, 1: compatible, 2: autoclear */
	uint8_t bit;
	char name[46]; /* padded with zeroes */
};

/* L1 and L2 entries. */
#define QCOW2_COPIED (1ull << 63)
#define QCOW2_COMPRESSED (1ull << 62)
#define QCOW2_OFFSET_MASK 0x00fffffffffffe00ull
#define QCOW2_ZERO 1ull
/* Must be 0 in a standard entry. */
#define QCOW2_L2_RESERVED 0x3f000000000001feull
#define QCOW2_L1_RESERVED 0x7f000000000001ffull
#define QCOW2_REFTABLE_RESERVED 0x1ffull

struct qcow2_snapshot {
	uint64_t l1_offset;
	uint32_t l1_size;
	uint16_t id_len;
	uint16_t name_len;
	uint32_t seconds;
	uint32_t nanoseconds;
	uint64_t vm_ns;
	uint32_t vm_state_bytes;
	uint32_t extra_len;
} __attribute__((packed));
_Static_assert(sizeof(struct qcow2_snapshot) == 40, "as the specification lays it out");

#endif
