/*
 * blk/req: what a virtio-blk request asks for (virtio 1.2, section 5.2.6).
 *
 * For this folder, its test and its fuzz target; others include blk.h. Pure: no I/O and no
 * state, so that it can be tested and fuzzed by itself.
 * The header and the ranges are copied from guest memory once; only the copies
 * are judged. Sizes and offsets are bytes unless a name says sectors (512).
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
/* 2 GiB less 2 MiB: a driver cuts here, and a cut inside a cluster of any size leaves it whole. */
#define BLK_MAX_DISCARD_SECTORS 0x3ff000u
#define BLK_MAX_ZERO_SECTORS 0x40000u /* 128 MiB: zeroes may have to be written */

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
	bool readonly;
	bool discard, write_zeroes; /* negotiated */
};

enum blk_what {
	BLK_BROKEN, /* no header or nowhere to put the status: why says */
	BLK_STATUS, /* nothing to do but to answer status */
	BLK_READ,   /* [offset, offset + len) into the writable part, less the status byte */
	BLK_WRITE,  /* from the readable part, less the header */
	BLK_FLUSH,
	BLK_ID,
	BLK_DISCARD, /* nranges, by blk_req_range */
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
 * hdr: the chain's first hdr_bytes readable bytes (at most 16), by whatever
 * descriptors. Only the chain's byte counts are looked at.
 */
void blk_req_parse(const void *hdr, uint32_t hdr_bytes, const struct chain *chain,
		   const struct blk_limits *limits, struct blk_cmd *cmd);

/* One range of a discard or write-zeroes: BLK_S_OK, or the status to answer. */
uint8_t blk_req_range(enum blk_what what, const struct blk_range *range,
		      const struct blk_limits *limits);

/*
 * Cut iov[0, n) down to [skip, skip + len) of its bytes, in place; returns the
 * first element and sets *n. The caller knows that there are enough bytes.
 */
struct iovec *blk_iov_cut(struct iovec *iov, unsigned *n, uint64_t skip, uint64_t len_bytes);

#endif
