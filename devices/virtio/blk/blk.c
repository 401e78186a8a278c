/*
 * virtio-blk (virtio 1.2, section 5.2).
 *
 * Theory of operation. A kick pops chains until the queue is empty, turns each into a disk_req
 * whose iovecs point into guest memory, and commits the batch. Requests that complete at once are
 * pushed before the kick returns, the others when the disk calls blk_on_wake. One interrupt
 * decision follows each batch. virtq refuses heads that are in flight, so a queue never has more
 * requests than its size.
 *
 * The loop's thread makes all disk calls (see aio.h); with iothread=on it is the device's own
 * thread. A kick that arrives in another thread wakes the loop by an eventfd. The same eventfd
 * makes the loop return to a queue that had more work than one turn may take, so a guest cannot
 * keep the loop to itself.
 *
 * The rate limit is charged when requests are popped. Requests that it holds back stay in the ring
 * until a timer fires, so a reset has nothing to undo. A read, write or flush counts as one
 * operation, a discard or write-zeroes as one for each range and as no bytes, because it moves
 * none. The queues take turns at being first.
 *
 * Reset: requests in flight hold host pointers to guest memory, so the reset waits for them. They
 * are not answered: after the reset has begun, neither status byte nor ring is written.
 */
#include "devices/virtio/blk/blk_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/core/clock.h"

/* Most requests that one turn of the loop takes from one queue. */
#define TURN_MAX 256u

/* --- requests ---------------------------------------------------------------- */

static struct blk_req *req_get(struct blk *blk)
{
	struct blk_req *req = blk->free;

	if (req)
		blk->free = req->next_free;
	else
		req = malloc(sizeof(*req));
	if (!req)
		return NULL;
	req->blk = blk;
	req->range = NULL;
	req->iov = NULL;
	req->nranges = 0;
	req->flush_after = false;
	req->disk.unmap = req->disk.durable = false;
	return req;
}

static void req_put(struct blk_req *req)
{
	free(req->iov);
	req->next_free = req->blk->free;
	req->blk->free = req;
}

void blk_free_requests(struct blk *blk)
{
	while (blk->free) {
		struct blk_req *req = blk->free;

		blk->free = req->next_free;
		free(req);
	}
}

static void push(struct blk *blk, unsigned queue, uint16_t head, uint32_t written_bytes)
{
	virtq_push(&blk->vdev.queue[queue], head, written_bytes);
	blk->pushed |= 1u << queue;
}

/* Make one interrupt decision for each queue that a batch has touched. */
static void interrupts(struct blk *blk)
{
	while (blk->pushed) {
		unsigned queue = (unsigned)__builtin_ctz(blk->pushed);

		blk->pushed &= blk->pushed - 1;
		virtio_interrupt(&blk->vdev, queue);
	}
}

/* The clock is read once for all requests that begin together, and once for all that end together. */
static uint64_t batch_time(struct blk *blk)
{
	if (!blk->now_ns)
		blk->now_ns = clock_now_ns();
	return blk->now_ns;
}

static void count(struct blk_req *req)
{
	struct blk_count *c = req->what == BLK_READ ? &req->blk->read : &req->blk->written;
	uint64_t us = (batch_time(req->blk) - req->begun_ns + 999) / 1000;

	us += !us;
	counter_add(&c->bytes, req->disk.len_bytes);
	counter_add(&c->sum_us, us);
	if (us < counter_read(&c->min_us) || !counter_read(&c->min_us))
		counter_set(&c->min_us, us);
	if (us > counter_read(&c->max_us))
		counter_set(&c->max_us, us);
	counter_add(&c->ops, 1);
}

static void req_finish(struct blk_req *req, uint8_t status)
{
	struct blk *blk = req->blk;

	blk->inflight--;
	if (status == BLK_S_OK && (req->what == BLK_READ || req->what == BLK_WRITE))
		count(req);
	/* A broken device answers no more requests. */
	if (!blk->aborting && blk->vdev.active) {
		*req->status_at = status;
		push(blk, req->queue, req->head, status == BLK_S_OK ? req->written_bytes : 1);
	}
	free(req->range);
	req_put(req);
	if (blk->aborting && !blk->inflight) {
		blk->aborting = false;
		virtio_reset_done(&blk->vdev);
	}
}

static void blk_limits(const struct blk *blk, struct blk_limits *limits)
{
	*limits = (struct blk_limits){
		.capacity_bytes = blk->disk->size_bytes,
		.readonly = blk->disk->readonly,
		.discard = virtio_has(&blk->vdev, BLK_F_DISCARD),
		.write_zeroes = virtio_has(&blk->vdev, BLK_F_WRITE_ZEROES),
	};
}

/*
 * Submit the next range, if any. Returns BLK_S_OK if one was submitted, or if none was left (*more
 * is false); else the status to answer.
 */
static uint8_t next_range(struct blk_req *req, bool *more)
{
	struct blk *blk = req->blk;
	struct blk_limits limits;

	*more = false;
	blk_limits(blk, &limits);
	while (req->nranges) {
		const struct blk_range *r = &req->range[--req->nranges];
		uint8_t status = blk_req_range(req->what, r, &limits);

		if (status != BLK_S_OK)
			return status;
		if (!r->nsectors)
			continue;
		req->disk.offset = r->sector * BLK_SECTOR;
		req->disk.len_bytes = (uint64_t)r->nsectors * BLK_SECTOR;
		req->disk.unmap = r->flags & 1;
		*more = true;
		blk->disk->ops->submit(blk->disk, &req->disk);
		break;
	}
	return BLK_S_OK;
}

static void on_done(struct disk_req *disk_req, int result)
{
	struct blk_req *req = (struct blk_req *)disk_req;
	struct blk *blk = req->blk;
	uint8_t status = BLK_S_OK;
	bool more = false;

	if (result < 0)
		status = result == -EOPNOTSUPP ? BLK_S_UNSUPP : BLK_S_IOERR;
	if (status == BLK_S_OK && !blk->aborting && req->nranges)
		status = next_range(req, &more);
	if (more)
		return;
	if (status == BLK_S_OK && !blk->aborting && req->flush_after) {
		req->flush_after = false;
		req->disk.op = DISK_FLUSH;
		req->disk.len_bytes = 0;
		blk->disk->ops->submit(blk->disk, &req->disk);
		return;
	}
	req_finish(req, status);
}

/* --- from a chain to a request ------------------------------------------------ */

/*
 * Point the request at the guest's data: len_bytes from skip on in iov[0, n). Returns false if
 * there is no memory.
 */
static bool take_iov(struct blk_req *req, struct iovec *iov, unsigned n, uint64_t skip,
		     uint64_t len_bytes)
{
	struct iovec *data = blk_iov_cut(iov, &n, skip, len_bytes);
	struct iovec *own = req->inline_iov;

	if (n > INLINE_IOVS)
		own = req->iov = malloc(n * sizeof(*own));
	if (!own)
		return false;
	memcpy(own, data, n * sizeof(*own));
	req->disk.iov = own;
	req->disk.niov = n;
	return true;
}

static bool take_ranges(struct blk_req *req, const struct chain *chain, unsigned n)
{
	size_t bytes = n * sizeof(*req->range);

	req->range = malloc(bytes);
	if (!req->range ||
	    virtq_chain_read(chain, sizeof(struct blk_hdr), req->range, bytes) != bytes)
		return false;
	req->nranges = n;
	return true;
}

/* Fill the disk_req. Returns false if there is no memory. */
static bool fill(struct blk_req *req, const struct blk_cmd *cmd, const struct chain *chain)
{
	struct disk_req *disk = &req->disk;

	disk->offset = cmd->offset;
	disk->len_bytes = cmd->len_bytes;
	disk->niov = 0;
	disk->done = on_done;
	switch (cmd->what) {
	case BLK_READ:
		disk->op = DISK_READ;
		req->written_bytes = (uint32_t)chain->writable_bytes;
		return take_iov(req, chain->iov + chain->nreadable, chain->nwritable, 0,
				cmd->len_bytes);
	case BLK_WRITE:
		disk->op = DISK_WRITE;
		disk->durable = !req->blk->s.writeback;
		return take_iov(req, chain->iov, chain->nreadable, sizeof(struct blk_hdr),
				cmd->len_bytes);
	case BLK_FLUSH:
		disk->op = DISK_FLUSH;
		return true;
	default:
		disk->op = cmd->what == BLK_DISCARD ? DISK_DISCARD : DISK_WRITE_ZEROES;
		req->flush_after = !req->blk->s.writeback;
		return take_ranges(req, chain, cmd->nranges);
	}
}

static uint8_t *status_byte(const struct chain *chain)
{
	const struct iovec *last = &chain->iov[chain->nreadable + chain->nwritable - 1];

	return (uint8_t *)last->iov_base + last->iov_len - 1;
}

/* Answer a request that needs no disk. */
static void answer(struct blk *blk, unsigned queue, const struct chain *chain, uint8_t status,
		   uint32_t written_bytes)
{
	*status_byte(chain) = status;
	push(blk, queue, chain->head, written_bytes);
}

static void answer_id(struct blk *blk, unsigned queue, const struct chain *chain)
{
	char id[BLK_ID_BYTES] = { 0 };
	uint64_t room = chain->writable_bytes - 1;
	size_t n = room < sizeof(id) ? (size_t)room : sizeof(id);

	memcpy(id, blk->serial, strnlen(blk->serial, sizeof(id)));
	virtq_chain_write(chain, 0, id, n);
	answer(blk, queue, chain, BLK_S_OK, (uint32_t)n + 1);
}

static void charge(struct blk *blk, const struct blk_cmd *cmd)
{
	bool moves = cmd->what == BLK_READ || cmd->what == BLK_WRITE;
	uint64_t bytes = moves ? cmd->len_bytes : 0, ops = cmd->nranges ? cmd->nranges : 1;

	if (blk->group)
		ratelimit_group_charge(blk->group, bytes, ops);
	else
		ratelimit_charge(&blk->limit, bytes, ops);
}

static void start_io(struct blk *blk, unsigned queue, const struct blk_cmd *cmd,
		     const struct chain *chain)
{
	struct blk_req *req = req_get(blk);
	uint8_t status = BLK_S_OK;
	bool more = true;

	if (!req) {
		answer(blk, queue, chain, BLK_S_IOERR, 1);
		return;
	}
	blk->inflight++;
	req->what = cmd->what;
	req->queue = (uint8_t)queue;
	req->head = chain->head;
	req->begun_ns = batch_time(blk);
	req->status_at = status_byte(chain);
	req->written_bytes = 1;
	if (!fill(req, cmd, chain))
		status = BLK_S_IOERR;
	else if (cmd->nranges)
		status = next_range(req, &more);
	else
		blk->disk->ops->submit(blk->disk, &req->disk);
	if (status != BLK_S_OK || !more)
		req_finish(req, status);
}

static void serve(struct blk *blk, unsigned queue, const struct chain *chain)
{
	struct blk_limits limits;
	struct blk_hdr hdr;
	struct blk_cmd cmd;
	size_t n = virtq_chain_read(chain, 0, &hdr, sizeof(hdr));

	blk_limits(blk, &limits);
	blk_req_parse(&hdr, (uint32_t)n, chain, &limits, &cmd);
	switch (cmd.what) {
	case BLK_BROKEN:
		virtio_broken(&blk->vdev, cmd.why);
		break;
	case BLK_STATUS:
		answer(blk, queue, chain, cmd.status, 1);
		break;
	case BLK_ID:
		answer_id(blk, queue, chain);
		break;
	default:
		charge(blk, &cmd);
		start_io(blk, queue, &cmd, chain);
		break;
	}
}

/* --- the queue ------------------------------------------------------------------ */

static void run_later(struct blk *blk, unsigned queue)
{
	uint64_t one = 1;

	blk->again |= 1u << queue;
	(void)!write(blk->again_fd, &one, sizeof(one));
}

static void hold_back(struct blk *blk, unsigned queue)
{
	blk->limited |= 1u << queue;
	blk->polled &= ~(1u << queue);
}

/* Returns true if the limit lets no request start now; the timer then resumes the queue. */
static bool held_back(struct blk *blk, unsigned queue)
{
	uint64_t ns;

	if (!ratelimit_on(&blk->limit))
		return false;
	ns = blk->group ? ratelimit_group_wait_ns(blk->group, clock_now_ns()) :
			  ratelimit_wait_ns(&blk->limit, clock_now_ns());
	if (!ns)
		return false;
	if (!blk->limited)
		loop_timer_arm(blk->limit_timer, ns);
	hold_back(blk, queue);
	return true;
}

/* Pop and start up to max requests. Returns how many were popped. */
static unsigned drain_queue(struct blk *blk, unsigned queue, unsigned max)
{
	struct virtq *q = &blk->vdev.queue[queue];
	unsigned n = 0;

	blk->now_ns = 0;
	while (n < max && blk->vdev.active && !held_back(blk, queue)) {
		struct chain chain;
		int rc = virtq_pop(q, &chain, blk->scratch, blk->queue_size);

		if (rc < 0)
			virtio_broken(&blk->vdev, q->broken_why);
		if (rc <= 0)
			break;
		serve(blk, queue, &chain);
		n++;
	}
	return n;
}

/* Enable the kicks of all polled queues. */
static void stop_polling(struct blk *blk)
{
	while (blk->polled && blk->vdev.active) {
		unsigned queue = (unsigned)__builtin_ctz(blk->polled);

		blk->polled &= blk->polled - 1;
		if (virtq_enable_kicks(&blk->vdev.queue[queue]))
			run_later(blk, queue);
	}
}

/*
 * The queue is empty: poll it for a while if the loop finds that this pays, else enable the
 * driver's kicks. Returns true if there are more requests already.
 */
static bool rest_queue(struct blk *blk, unsigned queue)
{
	struct virtq *q = &blk->vdev.queue[queue];
	const struct disk_ops *ops = blk->disk->ops;

	if (ops->busy_elsewhere && ops->busy_elsewhere(blk->disk)) {
		loop_poll_disarm(blk->vdev.env->loop, &blk->poller);
		blk->polled &= ~(1u << queue);
		stop_polling(blk);
		return virtq_enable_kicks(q);
	}
	if (!loop_poll_arm(blk->vdev.env->loop, &blk->poller))
		return virtq_enable_kicks(q);
	blk->polled |= 1u << queue;
	return virtq_has_more(q);
}

static void run_queue(struct blk *blk, unsigned queue)
{
	struct virtq *q = &blk->vdev.queue[queue];
	unsigned left = TURN_MAX;

	virtq_disable_kicks(q);
	if (blk->limited) {
		hold_back(blk, queue);
		return;
	}
	do {
		unsigned n = drain_queue(blk, queue, left);

		left -= n;
		blk->now_ns = 0;
		blk->disk->ops->commit(blk->disk);
		interrupts(blk);
	} while (left && blk->vdev.active && !blk->limited && rest_queue(blk, queue));
	if (!left && blk->vdev.active && !blk->limited)
		run_later(blk, queue);
}

/* Look at the rings whose kicks are off, and at the disk. Returns true if there was work. */
bool blk_poll(void *opaque)
{
	struct blk *blk = opaque;
	unsigned before;
	bool any = false;

	virtio_lock(&blk->vdev);
	before = blk->inflight;
	if (before) {
		blk->now_ns = 0;
		blk->disk->ops->reap(blk->disk);
		any = blk->inflight != before;
	}
	for (uint32_t left = blk->polled; left && blk->vdev.active; left &= left - 1) {
		unsigned queue = (unsigned)__builtin_ctz(left);

		if (!virtq_has_more(&blk->vdev.queue[queue]))
			continue;
		any = true;
		run_queue(blk, queue);
	}
	interrupts(blk);
	virtio_unlock(&blk->vdev);
	return any;
}

void blk_poll_idle(void *opaque)
{
	struct blk *blk = opaque;

	virtio_lock(&blk->vdev);
	stop_polling(blk);
	virtio_unlock(&blk->vdev);
}

void blk_kick(struct virtio_device *vdev, unsigned queue)
{
	struct blk *blk = blk_of(vdev);

	if (loop_is_here(vdev->env->loop))
		run_queue(blk, queue);
	else
		run_later(blk, queue);
}

void blk_on_again(void *opaque)
{
	struct blk *blk = opaque;
	uint32_t again;

	virtio_lock(&blk->vdev);
	again = blk->again;
	blk->again = 0;
	for (; again && blk->vdev.active; again &= again - 1)
		run_queue(blk, (unsigned)__builtin_ctz(again));
	virtio_unlock(&blk->vdev);
}

void blk_on_limit_timer(void *opaque)
{
	struct blk *blk = opaque;
	unsigned first = blk->limit_first, n = blk->vdev.nqueues;
	uint32_t held;

	virtio_lock(&blk->vdev);
	held = blk->limited;
	blk->limited = 0;
	blk->limit_first = (first + 1) % n;
	for (unsigned i = 0; i < n && blk->vdev.active; i++)
		if (held >> (first + i) % n & 1)
			run_queue(blk, (first + i) % n);
	virtio_unlock(&blk->vdev);
}

void blk_on_wake(void *opaque)
{
	struct blk *blk = opaque;

	virtio_lock(&blk->vdev);
	blk->now_ns = 0;
	blk->disk->ops->reap(blk->disk);
	interrupts(blk);
	virtio_unlock(&blk->vdev);
}
