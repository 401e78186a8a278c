/* blk/req: see blk/req.h. */
#include "devices/virtio/blk/req.h"

#include <string.h>

#define RANGE_UNMAP 1u

static void answer(struct blk_cmd *cmd, uint8_t status)
{
	cmd->what = BLK_STATUS;
	cmd->status = status;
}

static void parse_data(struct blk_cmd *cmd, enum blk_what what, uint64_t sector, uint64_t len,
		       const struct blk_limits *limits)
{
	uint64_t nsectors = len / BLK_SECTOR;
	uint64_t capacity = limits->capacity_bytes / BLK_SECTOR;

	if (len % limits->block_bytes || sector % (limits->block_bytes / BLK_SECTOR) ||
	    sector > capacity || nsectors > capacity - sector ||
	    (what == BLK_WRITE && limits->readonly)) {
		answer(cmd, BLK_S_IOERR);
		return;
	}
	if (!len) {
		answer(cmd, BLK_S_OK);
		return;
	}
	cmd->what = what;
	cmd->offset = sector * BLK_SECTOR;
	cmd->len_bytes = len;
}

static void parse_ranges(struct blk_cmd *cmd, enum blk_what what, uint64_t len,
			 const struct blk_limits *limits)
{
	if (!(what == BLK_DISCARD ? limits->discard : limits->write_zeroes)) {
		answer(cmd, BLK_S_UNSUPP);
		return;
	}
	if (limits->readonly || !len || len % sizeof(struct blk_range) ||
	    len / sizeof(struct blk_range) > BLK_MAX_RANGES) {
		answer(cmd, BLK_S_IOERR);
		return;
	}
	cmd->what = what;
	cmd->nranges = (unsigned)(len / sizeof(struct blk_range));
}

void blk_req_parse(const void *hdr_bytes_at, uint32_t hdr_bytes, const struct chain *chain,
		   const struct blk_limits *limits, struct blk_cmd *cmd)
{
	struct blk_hdr hdr;

	memset(cmd, 0, sizeof(*cmd));
	if (hdr_bytes < sizeof(hdr) || chain->readable_bytes < sizeof(hdr)) {
		cmd->why = "a request is shorter than its header";
		return;
	}
	if (!chain->writable_bytes) {
		cmd->why = "a request has no writable byte for its status";
		return;
	}
	memcpy(&hdr, hdr_bytes_at, sizeof(hdr));
	switch (hdr.type) {
	case BLK_T_IN:
		parse_data(cmd, BLK_READ, hdr.sector, chain->writable_bytes - 1, limits);
		break;
	case BLK_T_OUT:
		parse_data(cmd, BLK_WRITE, hdr.sector, chain->readable_bytes - sizeof(hdr), limits);
		break;
	case BLK_T_FLUSH:
		/*
		 * Accepted even if not negotiated: it is harmless, and some firmware sends it
		 * anyway.
		 */
		cmd->what = BLK_FLUSH;
		break;
	case BLK_T_GET_ID:
		cmd->what = BLK_ID;
		break;
	case BLK_T_DISCARD:
		parse_ranges(cmd, BLK_DISCARD, chain->readable_bytes - sizeof(hdr), limits);
		break;
	case BLK_T_WRITE_ZEROES:
		parse_ranges(cmd, BLK_ZERO, chain->readable_bytes - sizeof(hdr), limits);
		break;
	default:
		answer(cmd, BLK_S_UNSUPP);
		break;
	}
}

uint8_t blk_req_range(enum blk_what what, const struct blk_range *range,
		      const struct blk_limits *limits)
{
	uint32_t known = what == BLK_ZERO ? RANGE_UNMAP : 0;
	uint32_t max = what == BLK_ZERO ? BLK_MAX_ZERO_SECTORS : BLK_MAX_DISCARD_SECTORS;
	uint64_t capacity = limits->capacity_bytes / BLK_SECTOR;
	uint64_t block = limits->block_bytes / BLK_SECTOR;

	if (range->flags & ~known)
		return BLK_S_UNSUPP;
	if (range->sector % block || range->nsectors % block || range->nsectors > max ||
	    range->sector > capacity || range->nsectors > capacity - range->sector)
		return BLK_S_IOERR;
	return BLK_S_OK;
}

struct iovec *blk_iov_cut(struct iovec *iov, unsigned *n, uint64_t skip, uint64_t len_bytes)
{
	unsigned used = 0;

	while (skip && skip >= iov->iov_len) {
		skip -= iov->iov_len;
		iov++;
	}
	if (skip) {
		iov->iov_base = (uint8_t *)iov->iov_base + skip;
		iov->iov_len -= skip;
	}
	for (; len_bytes; used++) {
		if (iov[used].iov_len > len_bytes)
			iov[used].iov_len = len_bytes;
		len_bytes -= iov[used].iov_len;
	}
	*n = used;
	return iov;
}
