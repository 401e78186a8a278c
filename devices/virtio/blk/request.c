/*
 * blk/request: the life of a request, from its chain to its answer.
 *
 * Theory of operation. What the guest asks for has no bound: a ring of 256 chains may ask for 1 TiB.
 * So requests are served in parts. A part is one disk_req: up to BLK_PART_BYTES of a read or write
 * (BLK_DIRECT_PART_BYTES past the page cache), one range of a discard, up to BLK_ZERO_PART_BYTES of a
 * range of zeroes, or a flush. A part is started only if the turn is not over (turn.h) and if less than
 * BLK_FLIGHT_BYTES are in flight; of discards and zeroes RANGES_MAX are in flight at most, and reads and
 * writes pass them.
 *
 * Most requests are one part, and are that disk_req themselves. A longer read or write is a whole:
 * it hands out parts that are blk_reqs of their own, side by side, and is finished with the last. The
 * other requests of several parts do them one after the other. A request with a part still to come
 * stands in a line; each gives out one part, then goes to the end of the line. A completion never
 * starts a part, it only puts the request into its line: what begins is counted in one place,
 * blk_start_waiting.
 *
 * A reset drops the requests of the lines, and waits for the parts in flight. An error ends a request
 * after its parts in flight.
 */
#include "devices/virtio/blk/blk_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/clock.h"

/* Discards and zeroes with the disk: the host does them one after the other anyway. */
#define RANGES_MAX 4u
/* Requests of several parts that are popped: each may have a list of memory of 16 KiB. */
#define WAITING_MAX 256u

/* --- memory, answers ------------------------------------------------------------ */

struct blk_req *blk_req_get(struct blk *blk)
{
	struct blk_req *req = blk->free;

	if (req)
		blk->free = req->next;
	else
		req = malloc(sizeof(*req));
	if (!req)
		return NULL;
	req->blk = blk;
	req->next = req->whole = NULL;
	req->range = NULL;
	req->iov = NULL;
	req->nranges = req->nparts = 0;
	req->todo_bytes = 0;
	req->cut = req->in_line = req->flush_after = false;
	req->status = BLK_S_OK;
	req->disk.unmap = req->disk.durable = false;
	return req;
}

static void req_put(struct blk_req *req)
{
	free(req->range);
	free(req->iov);
	req->next = req->blk->free;
	req->blk->free = req;
}

void blk_free_requests(struct blk *blk)
{
	while (blk->free) {
		struct blk_req *req = blk->free;

		blk->free = req->next;
		free(req);
	}
}

void blk_push(struct blk *blk, unsigned queue, uint16_t head, uint32_t written_bytes)
{
	virtq_push(&blk->vdev.queue[queue], head, written_bytes);
	blk->pushed |= 1u << queue;
}

/* The clock is read once for all requests that begin together, and once for all that end together. */
uint64_t blk_batch_time(struct blk *blk)
{
	if (!blk->now_ns)
		blk->now_ns = clock_now_ns();
	return blk->now_ns;
}

static void count(struct blk_req *req)
{
	struct blk_count *c = req->what == BLK_READ ? &req->blk->read : &req->blk->written;
	uint64_t us = (blk_batch_time(req->blk) - req->begun_ns + 999) / 1000;

	us += !us;
	counter_add(&c->bytes, req->disk.len_bytes);
	counter_add(&c->sum_us, us);
	if (us < counter_read(&c->min_us) || !counter_read(&c->min_us))
		counter_set(&c->min_us, us);
	if (us > counter_read(&c->max_us))
		counter_set(&c->max_us, us);
	counter_add(&c->ops, 1);
}

static void finish(struct blk_req *req)
{
	struct blk *blk = req->blk;
	bool good = req->status == BLK_S_OK;

	blk->inflight--;
	if (good && (req->what == BLK_READ || req->what == BLK_WRITE))
		count(req);
	/* A broken device answers no more requests. */
	if (!blk->aborting && blk->vdev.active) {
		*req->status_at = req->status;
		blk_push(blk, req->queue, req->head, good ? req->written_bytes : 1);
	}
	req_put(req);
	if (blk->aborting && !blk->inflight) {
		blk->aborting = false;
		virtio_reset_done(&blk->vdev);
	}
}

/* --- the lines ------------------------------------------------------------------ */

static void wait_in_line(struct blk_req *req)
{
	struct blk *blk = req->blk;
	struct blk_line *line = req->cut ? &blk->cut : &blk->ranges;

	req->in_line = true;
	req->next = NULL;
	if (line->first)
		line->last->next = req;
	else
		line->first = req;
	line->last = req;
	blk->nwaiting++;
}

static struct blk_req *take_from_line(struct blk *blk, struct blk_line *line)
{
	struct blk_req *req = line->first;

	line->first = req->next;
	req->in_line = false;
	blk->nwaiting--;
	return req;
}

static void drop_line(struct blk *blk, struct blk_line *line)
{
	while (line->first) {
		struct blk_req *req = take_from_line(blk, line);

		req->todo_bytes = 0;
		if (req->nparts)
			continue; /* the last part finishes it */
		blk->inflight--;
		req_put(req);
	}
}

void blk_drop_waiting(struct blk *blk)
{
	drop_line(blk, &blk->cut);
	drop_line(blk, &blk->ranges);
}

bool blk_has_room(const struct blk *blk)
{
	return blk->flight_bytes < BLK_FLIGHT_BYTES && blk->nwaiting < WAITING_MAX;
}

/* A line whose next part the disk can take. */
static struct blk_line *next_line(struct blk *blk)
{
	if (blk->cut.first && blk->flight_bytes < BLK_FLIGHT_BYTES)
		return &blk->cut;
	return blk->ranges.first && blk->nranges < RANGES_MAX ? &blk->ranges : NULL;
}

bool blk_waits_for_turn(struct blk *blk)
{
	return blk->vdev.active && turn_over(&blk->turn) && next_line(blk);
}

/* --- parts ---------------------------------------------------------------------- */

static uint64_t part_bytes(const struct blk *blk)
{
	return blk->disk->cached ? BLK_PART_BYTES : BLK_DIRECT_PART_BYTES;
}

static bool moves(const struct disk_req *disk)
{
	return disk->op == DISK_READ || disk->op == DISK_WRITE;
}

static void submit(struct blk_req *req)
{
	struct blk *blk = req->blk;

	if (moves(&req->disk))
		blk->flight_bytes += req->disk.len_bytes;
	else
		blk->nranges += !!req->range;
	turn_charge(&blk->turn, moves(&req->disk) ? req->disk.len_bytes : 0);
	blk->disk->ops->submit(blk->disk, &req->disk);
}

static void on_done(struct disk_req *disk, int result);

/*
 * Point part at the next bytes of the whole's memory. Returns false if there is no memory for the
 * list.
 */
static bool slice(struct blk_req *whole, struct blk_req *part, uint64_t bytes)
{
	const struct iovec *iov = whole->disk.iov + whole->iov_at;
	uint64_t got = iov->iov_len - whole->iov_skip;
	struct iovec *own = part->inline_iov;
	unsigned n = 1;

	while (got < bytes)
		got += iov[n++].iov_len;
	if (n > INLINE_IOVS)
		own = part->iov = malloc(n * sizeof(*own));
	if (!own)
		return false;
	memcpy(own, iov, n * sizeof(*own));
	own[0].iov_base = (uint8_t *)own[0].iov_base + whole->iov_skip;
	own[0].iov_len -= whole->iov_skip;
	own[n - 1].iov_len -= got - bytes;
	part->disk.iov = own;
	part->disk.niov = n;
	whole->iov_skip = iov[n - 1].iov_len - (got - bytes);
	whole->iov_at += n - (got > bytes);
	if (got == bytes)
		whole->iov_skip = 0;
	return true;
}

/* Start the next part of a long read or write. The whole goes back into the line if more is to do. */
static void start_cut(struct blk_req *whole)
{
	struct blk *blk = whole->blk;
	uint64_t most = part_bytes(blk),
		 bytes = whole->todo_bytes < most ? whole->todo_bytes : most;
	struct blk_req *part = bytes ? blk_req_get(blk) : NULL;

	if (part && !slice(whole, part, bytes)) {
		req_put(part);
		part = NULL;
	}
	if (!part) {
		/* An earlier part failed, or there is no memory. */
		if (whole->status == BLK_S_OK)
			whole->status = BLK_S_IOERR;
		whole->todo_bytes = 0;
		if (!whole->nparts)
			finish(whole);
		return;
	}
	part->whole = whole;
	part->disk.op = whole->disk.op;
	part->disk.durable = whole->disk.durable;
	part->disk.offset = whole->disk.offset + (whole->disk.len_bytes - whole->todo_bytes);
	part->disk.len_bytes = bytes;
	part->disk.done = on_done;
	whole->nparts++;
	whole->todo_bytes -= bytes;
	if (whole->todo_bytes)
		wait_in_line(whole);
	submit(part);
}

void blk_limits(const struct blk *blk, struct blk_limits *limits)
{
	*limits = (struct blk_limits){
		.capacity_bytes = blk->disk->size_bytes,
		/* A driver that does not read blk_size cannot know it. */
		.block_bytes = virtio_has(&blk->vdev, BLK_F_BLK_SIZE) ? blk->disk->block_bytes :
									BLK_SECTOR,
		.readonly = blk->disk->readonly,
		.discard = virtio_has(&blk->vdev, BLK_F_DISCARD),
		.write_zeroes = virtio_has(&blk->vdev, BLK_F_WRITE_ZEROES),
	};
}

/* Take the next piece of the ranges. Returns false if there is none, or if one is not valid. */
static bool next_range(struct blk_req *req)
{
	struct blk_limits limits;

	blk_limits(req->blk, &limits);
	while (req->nranges) {
		struct blk_range *r = &req->range[req->nranges - 1];
		uint64_t nsectors = r->nsectors;

		req->status = blk_req_range(req->what, r, &limits);
		if (req->status != BLK_S_OK)
			return false;
		/* Zeroes may have to be written: cut where no cluster of an image is cut. */
		if (req->what == BLK_ZERO) {
			uint64_t room = BLK_ZERO_PART_BYTES / BLK_SECTOR;

			room -= r->sector % room;
			nsectors = nsectors < room ? nsectors : room;
		}
		req->disk.offset = r->sector * BLK_SECTOR;
		req->disk.len_bytes = nsectors * BLK_SECTOR;
		req->disk.unmap = r->flags & 1;
		r->sector += nsectors;
		r->nsectors -= (uint32_t)nsectors;
		req->nranges -= !r->nsectors;
		if (nsectors)
			return true;
	}
	return false;
}

static void start_next(struct blk_req *req)
{
	if (req->cut) {
		start_cut(req);
		return;
	}
	if (!next_range(req)) {
		if (req->status != BLK_S_OK || !req->flush_after) {
			finish(req);
			return;
		}
		req->flush_after = false;
		req->disk.op = DISK_FLUSH;
		req->disk.len_bytes = 0;
	}
	submit(req);
}

bool blk_start_waiting(struct blk *blk)
{
	struct blk_line *line;
	bool any = false;

	while (blk->vdev.active && !turn_over(&blk->turn) && (line = next_line(blk))) {
		start_next(take_from_line(blk, line));
		any = true;
	}
	return any;
}

void blk_start(struct blk_req *req)
{
	struct blk *blk = req->blk;

	blk->inflight++;
	req->disk.done = on_done;
	req->cut = moves(&req->disk) && req->disk.len_bytes > part_bytes(blk);
	if (req->status != BLK_S_OK) {
		finish(req);
	} else if (req->cut || req->nranges) {
		req->todo_bytes = req->cut ? req->disk.len_bytes : 0;
		req->iov_at = 0;
		req->iov_skip = 0;
		wait_in_line(req);
		turn_charge(&blk->turn, 0);
	} else {
		submit(req);
	}
}

/* --- completions ---------------------------------------------------------------- */

/* Returns the request that has got its last part, or NULL. */
static struct blk_req *part_done(struct blk_req *part)
{
	struct blk_req *whole = part->whole;

	whole->nparts--;
	if (part->status != BLK_S_OK) {
		/* No further part; if it stands in the line, start_cut finds that. */
		whole->status = part->status;
		whole->todo_bytes = 0;
	}
	req_put(part);
	return whole->in_line || whole->nparts ? NULL : whole;
}

static void on_done(struct disk_req *disk, int result)
{
	struct blk_req *req = (struct blk_req *)disk;
	struct blk *blk = req->blk;

	if (moves(disk))
		blk->flight_bytes -= disk->len_bytes;
	else
		blk->nranges -= !!req->range;
	if (result < 0)
		req->status = result == -EOPNOTSUPP ? BLK_S_UNSUPP : BLK_S_IOERR;
	if (req->whole)
		req = part_done(req);
	else if (req->status == BLK_S_OK && (req->nranges || req->flush_after) && !blk->aborting &&
		 blk->vdev.active) {
		wait_in_line(req);
		return;
	}
	if (req)
		finish(req);
}
