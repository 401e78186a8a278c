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
 * thread. A kick that arrives in another thread wakes the loop by an event. The same event
 * makes the loop return to a queue that had more work than one turn may take (turn.h). While too
 * much is in flight, requests stay in the ring until a completion makes room (request.c).
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

#include "vmm/core/clock.h"

/* Make one interrupt decision for each queue that a batch has touched. */
static void interrupts(struct blk *blk)
{
	while (blk->pushed) {
		unsigned queue = (unsigned)__builtin_ctz(blk->pushed);

		blk->pushed &= blk->pushed - 1;
		virtio_interrupt(&blk->vdev, queue);
	}
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
	turn_charge(&blk->turn, 0);
	blk_push(blk, queue, chain->head, written_bytes);
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
	struct blk_req *req = blk_req_get(blk);

	if (!req) {
		answer(blk, queue, chain, BLK_S_IOERR, 1);
		return;
	}
	req->what = cmd->what;
	req->queue = (uint8_t)queue;
	req->head = chain->head;
	req->begun_ns = blk_batch_time(blk);
	req->status_at = status_byte(chain);
	req->written_bytes = 1;
	if (!fill(req, cmd, chain))
		req->status = BLK_S_IOERR;
	blk_start(req);
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

static void run_later(struct blk *blk, uint32_t queues)
{
	blk->next_queues |= queues;
	turn_leave(&blk->turn, blk->again);
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
	blk->limited |= 1u << queue;
	blk->polled &= ~(1u << queue);
	return true;
}

/*
 * Returns true if another request may be popped. If not, its queue is resumed by the rate limit's
 * timer, by a completion or in the next turn.
 */
static bool may_pop(struct blk *blk, unsigned queue)
{
	if (!blk->vdev.active || held_back(blk, queue))
		return false;
	if (!blk_has_room(blk)) {
		blk->full |= 1u << queue;
		blk->polled &= ~(1u << queue);
		return false;
	}
	if (turn_over(&blk->turn))
		run_later(blk, 1u << queue);
	return !turn_over(&blk->turn);
}

static void drain_queue(struct blk *blk, unsigned queue)
{
	struct virtq *q = &blk->vdev.queue[queue];

	blk->now_ns = 0;
	while (may_pop(blk, queue)) {
		struct chain chain;
		int rc = virtq_pop(q, &chain, blk->scratch, blk->queue_size);

		if (rc < 0)
			virtio_broken(&blk->vdev, q->broken_why);
		if (rc <= 0)
			break;
		serve(blk, queue, &chain);
	}
}

/*
 * Start what was submitted, and what waits, as long as the turn lasts. Resume queues for which there
 * is room again.
 */
static void commit(struct blk *blk)
{
	do {
		blk->now_ns = 0;
		blk->disk->ops->commit(blk->disk);
	} while (blk_start_waiting(blk));
	interrupts(blk);
	if (blk->full && blk_has_room(blk)) {
		run_later(blk, blk->full);
		blk->full = 0;
	} else if (blk_waits_for_turn(blk)) {
		run_later(blk, 0);
	}
}

/* Enable the kicks of all polled queues. */
static void stop_polling(struct blk *blk)
{
	while (blk->polled && blk->vdev.active) {
		unsigned queue = (unsigned)__builtin_ctz(blk->polled);

		blk->polled &= blk->polled - 1;
		if (virtq_enable_kicks(&blk->vdev.queue[queue]))
			run_later(blk, 1u << queue);
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
	uint32_t bit = 1u << queue;

	virtq_disable_kicks(&blk->vdev.queue[queue]);
	do {
		drain_queue(blk, queue);
		commit(blk);
	} while (blk->vdev.active && !((blk->next_queues | blk->full | blk->limited) & bit) &&
		 rest_queue(blk, queue));
}

/* Each turn begins with another queue. */
static void run_queues(struct blk *blk, uint32_t queues)
{
	unsigned n = blk->vdev.nqueues, first = blk->first;

	blk->first = (first + 1) % n;
	for (unsigned i = 0; i < n && queues && blk->vdev.active; i++) {
		unsigned queue = (first + i) % n;

		if (queues >> queue & 1)
			run_queue(blk, queue);
	}
}

/* --- the loop's calls: one turn each ---------------------------------------------- */

/*
 * Look at the rings whose kicks are off, and at the disk. Returns true if there was work, and may be
 * more now.
 */
bool blk_poll(void *opaque)
{
	struct blk *blk = opaque;
	unsigned before;
	bool any = false;

	virtio_lock(&blk->vdev);
	turn_begin(&blk->turn);
	before = blk->inflight;
	if (before) {
		blk->now_ns = 0;
		blk->disk->ops->reap(blk->disk);
		commit(blk);
		any = blk->inflight != before;
	}
	for (uint32_t left = blk->polled; left && blk->vdev.active; left &= left - 1) {
		unsigned queue = (unsigned)__builtin_ctz(left);

		if (!virtq_has_more(&blk->vdev.queue[queue]))
			continue;
		any = true;
		run_queue(blk, queue);
	}
	/* The loop must look at its events before this device can do more. */
	any &= !turn_left(&blk->turn);
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

	if (!loop_is_here(vdev->env->loop)) {
		run_later(blk, 1u << queue);
		return;
	}
	turn_begin(&blk->turn);
	run_queue(blk, queue);
}

void blk_on_again(void *opaque)
{
	struct blk *blk = opaque;
	uint32_t queues;

	virtio_lock(&blk->vdev);
	turn_resume(&blk->turn);
	queues = blk->next_queues;
	blk->next_queues = 0;
	if (blk_start_waiting(blk))
		commit(blk);
	run_queues(blk, queues);
	virtio_unlock(&blk->vdev);
}

void blk_on_limit_timer(void *opaque)
{
	struct blk *blk = opaque;
	uint32_t held;

	virtio_lock(&blk->vdev);
	turn_begin(&blk->turn);
	held = blk->limited;
	blk->limited = 0;
	run_queues(blk, held);
	virtio_unlock(&blk->vdev);
}

void blk_on_wake(void *opaque)
{
	struct blk *blk = opaque;

	virtio_lock(&blk->vdev);
	turn_begin(&blk->turn);
	blk->now_ns = 0;
	blk->disk->ops->reap(blk->disk);
	commit(blk);
	virtio_unlock(&blk->vdev);
}
