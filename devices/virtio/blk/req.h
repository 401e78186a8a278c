/*
 * blk/req: parses virtio-blk requests (virtio 1.2, section 5.2.6).
 *
 * For this folder, its test and its fuzz target; other code includes blk.h. Pure functions: no I/O
 * and no state, so they can be tested and fuzzed alone. The caller copies the header and the ranges
 * from guest memory once; these functions see only the copies. Sizes and offsets are bytes unless a
 * name says sectors (512 bytes).
 */
#ifndef BANTAM_BLK_REQ_H
#define BANTAM_BLK_REQ_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/core/virtq.h"

#define BLK_SECTOR 512u
#define BLK_ID_BYTES 20u

#define BLK_T_IN 0
#define BLK_T_OUT 1
#define BLK_T_FLUSH 4
#define BLK_T_GET_ID 8
#define BLK_T_DISCARD 11
#define BLK_T_WRITE_ZEROES 13

#define BLK_S_OK 0
#define BLK_S_IOERR 1
#define BLK_S_UNSUPP 2

#define BLK_MAX_RANGES 32u
/* 2 GiB minus 2 MiB: a driver splits a larger discard here, a boundary of clusters of any size. */
#define BLK_MAX_DISCARD_SECTORS 0x3ff000u
#define BLK_MAX_ZERO_SECTORS 0x40000u /* 128 MiB: the disk may have to write the zeroes */

struct blk_hdr {
	uint32_t type;
	uint32_t reserved;
	uint64_t sector;
};

struct blk_range {
	uint64_t sector;
	uint32_t nsectors;
	uint32_t flags; /* bit 0: unmap */
};

struct blk_limits {
	uint64_t capacity_bytes;
	uint32_t block_bytes; /* what a request has to be aligned to; 512 or more, a power of two */
	bool readonly;
	bool discard, write_zeroes; /* negotiated */
};

enum blk_what {
	BLK_BROKEN, /* no header, or no byte for the status; why says which */
	BLK_STATUS, /* only answer with status */
	BLK_READ,   /* [offset, offset + len_bytes) to the writable part without the status */
	BLK_WRITE,  /* from the readable part without the header */
	BLK_FLUSH,
	BLK_ID,
	BLK_DISCARD, /* nranges ranges; check each with blk_req_range */
	BLK_ZERO,
};

struct blk_cmd {
	enum blk_what what;
	const char *why;
	uint8_t status;
	unsigned nranges;
	uint64_t offset;
	uint64_t len_bytes;
};

/*
 * Fill *cmd. hdr: the chain's first hdr_bytes readable bytes (at most 16), whatever its descriptors
 * are. Of chain only the byte counts are used.
 */
void blk_req_parse(const void *hdr, uint32_t hdr_bytes, const struct chain *chain,
		   const struct blk_limits *limits, struct blk_cmd *cmd);

/* Check one range of a discard or write-zeroes. Returns BLK_S_OK, or the status to answer. */
uint8_t blk_req_range(enum blk_what what, const struct blk_range *range,
		      const struct blk_limits *limits);

/*
 * Cut iov[0, *n) in place to [skip, skip + len_bytes) of its bytes. Returns the first element and
 * sets *n. The caller ensures that there are enough bytes.
 */
struct iovec *blk_iov_cut(struct iovec *iov, unsigned *n, uint64_t skip, uint64_t len_bytes);

#endif
