/*
 * net/rx: from the backend to the guest (virtio 1.2, section 5.1.6.3 and .4).
 *
 * Theory of operation. The card pops the guest's buffers before there is a frame for them, and the
 * backend reads frames straight into them. The length of a frame is known only after it was read.
 * One turn of a pair (nic_run_rx) works in batches (serve), each in five stages:
 *
 * 1. refill pops what the guest has made available into the pair's stash (see stash.c). A buffer is
 *    one chain of descriptors.
 * 2. prepare cuts the stash into shares, one for each frame of the batch. A share has room for the
 *    longest frame (frame_max): with MRG_RXBUF as many buffers as that takes, without it one
 *    buffer. Where the guest's buffers end too early, the pair's spill buffer is the last piece of
 *    the share. There is one of those, so such a frame is the only one of its batch.
 * 3. recv reads as many frames as the backend has, and says how long each is.
 * 4. received looks at length and destination. A frame that the driver filters out leaves its share
 *    in the stash. Of the others, deliver puts the buffers that the frame fills into the used ring
 *    and writes their number into the frame's header (5.1.6.4); buffers of the share that the frame
 *    does not reach stay in the stash, for the next batch.
 * 5. After its last batch, the turn publishes the used index: the driver sees each frame whole or
 *    not at all. One interrupt decision follows.
 *
 * A frame that ends in the spill buffer. Without MRG_RXBUF the frame fits no buffer and is dropped.
 * With MRG_RXBUF the frame's first bytes lie in guest buffers at the head of the stash, which are
 * not returned yet, and the rest in the spill buffer. The pair receives nothing else until stage 1
 * has popped enough buffers; then deliver_spill copies the rest behind the first bytes. A frame
 * that does not fit all the buffers that a ring can hold is dropped, and the buffers stay.
 *
 * A pair waits for a buffer of the guest (blocked; kicks are on, and the loop does not watch the
 * backend), for the rate limit's timer (limited), for its next turn (more), or else for a frame. A
 * reset empties stash and spill buffer; no guest memory is written after it.
 */
#include <string.h>

#include "devices/virtio/net/nic_impl.h"
#include "vmm/core/bytes.h"
#include "vmm/core/clock.h"

/* A frame's share of the stash. */
struct share {
	unsigned first, nchains;
	uint32_t room; /* bytes of guest buffers; with the header that rx.c adds, if any */
};

/* The frames of one call of the backend. NIC_BATCH keeps it small enough for the thread's stack. */
struct batch {
	unsigned n;
	struct share share[NIC_BATCH];
	struct net_frame frame[NIC_BATCH];
	bool spills; /* the last frame ends in the spill buffer */
};

static void put(const struct nic_stash *s, const struct share *sh, uint64_t off, const void *from,
		size_t len)
{
	const struct nic_chain *c = &s->chain[sh->first];
	const struct nic_chain *last = &s->chain[sh->first + sh->nchains - 1];
	struct chain all = { .nwritable = (uint16_t)(last->first + last->niov - c->first),
			     .iov = (struct iovec *)&s->iov[c->first] };

	virtq_chain_write(&all, off, from, len);
}

/* Read bytes of a frame as they came; zeroes beyond the share's buffers. */
static void get(const struct nic_stash *s, const struct share *sh, uint64_t off, void *to,
		size_t len)
{
	const struct nic_chain *c = &s->chain[sh->first];
	const struct nic_chain *last = &s->chain[sh->first + sh->nchains - 1];
	struct chain all = { .nreadable = (uint16_t)(last->first + last->niov - c->first),
			     .iov = (struct iovec *)&s->iov[c->first] };

	memset(to, 0, len);
	virtq_chain_read(&all, off, to, len);
}

/* Pop buffers into the stash. Returns false if the ring or a buffer is broken. */
static bool refill(struct virtio_net *nic, unsigned pair, struct nic_stash *s)
{
	int rc;

	do {
		rc = nic_stash_pop(nic, 2 * pair, s, true);
		if (rc > 0 && s->chain[s->nchains - 1].bytes < NET_HDR_BYTES) {
			virtio_broken(&nic->vdev, "a receive buffer shorter than a header");
			return false;
		}
	} while (rc > 0);
	return rc >= 0;
}

/* Returns the chains from first on that make room for one frame. */
static struct share take(const struct virtio_net *nic, const struct nic_stash *s, unsigned first)
{
	bool mergeable = virtio_has(&nic->vdev, NET_F_MRG_RXBUF);
	struct share sh = { .first = first };
	unsigned niov = 0;

	for (unsigned i = first; i < s->nchains; i++) {
		/* One iovec is reserved for the spill buffer. */
		if (niov + s->chain[i].niov > NET_IOV_MAX - 1 && sh.nchains)
			break;
		niov += s->chain[i].niov;
		sh.room += s->chain[i].bytes;
		sh.nchains++;
		if (sh.room >= nic->frame_max || !mergeable)
			break;
	}
	return sh;
}

/*
 * Returns the iovecs of a share, without the header if the backend has none. Sets sh->room to the
 * bytes of those that fit into NET_IOV_MAX iovecs.
 */
static struct net_frame frame_of(const struct virtio_net *nic, struct nic_stash *s,
				 struct share *sh, struct iovec *out)
{
	uint32_t hidden = NET_HDR_BYTES - nic->net->vnet_hdr_bytes, skip = hidden;
	const struct nic_chain *c = &s->chain[sh->first];
	const struct nic_chain *last = &s->chain[sh->first + sh->nchains - 1];
	struct net_frame f = { .iov = out };

	for (unsigned i = c->first; i < (unsigned)last->first + last->niov; i++) {
		struct iovec v = s->iov[i];

		if (skip >= v.iov_len) {
			skip -= (uint32_t)v.iov_len;
			continue;
		}
		v.iov_base = (uint8_t *)v.iov_base + skip;
		v.iov_len -= skip;
		skip = 0;
		if (f.niov == NET_IOV_MAX - 1)
			break;
		f.len_bytes += (uint32_t)v.iov_len;
		out[f.niov++] = v;
	}
	sh->room = f.len_bytes + hidden;
	return f;
}

/* Fill the batch with as many frames as the stash has room for, at most max. */
static void prepare(struct virtio_net *nic, unsigned pair, unsigned max, struct batch *b)
{
	struct nic_stash *s = &nic->pair[pair].rx.stash;
	struct nic_spill *spill = &nic->pair[pair].spill;
	unsigned first = 0, niov = 0;

	b->n = 0;
	b->spills = false;
	while (b->n < max && first < s->nchains && !b->spills) {
		struct share sh = take(nic, s, first);
		struct net_frame f;

		/* There is one spill buffer: a frame that may need it is alone in its batch. */
		if (sh.room < nic->frame_max && b->n)
			break;
		f = frame_of(nic, s, &sh, &nic->iov[niov]);
		if (sh.room < nic->frame_max) {
			f.iov[f.niov++] = (struct iovec){ spill->buf, sizeof(spill->buf) };
			f.len_bytes += (uint32_t)sizeof(spill->buf);
			b->spills = true;
		}
		niov += f.niov;
		b->share[b->n] = sh;
		b->frame[b->n++] = f;
		first += sh.nchains;
	}
}

/*
 * A whole frame of so many bytes (header included) is in the share's buffers: return them to the
 * guest.
 */
static void deliver(struct virtio_net *nic, unsigned pair, const struct share *sh, uint32_t bytes)
{
	struct nic_stash *s = &nic->pair[pair].rx.stash;
	struct virtq *q = &nic->vdev.queue[2 * pair];
	uint32_t left = bytes;
	unsigned used = 0;
	uint8_t num[2];

	while (left) {
		struct nic_chain *c = &s->chain[sh->first + used++];
		uint32_t part = left < c->bytes ? left : c->bytes;

		virtq_put(q, c->head, part);
		left -= part;
	}
	/*
	 * Write num_buffers while the iovecs are valid; the driver sees nothing until
	 * virtq_publish.
	 */
	put_le16(num, (uint16_t)used);
	put(s, sh, NET_HDR_NUM_BUFFERS, num, sizeof(num));
	for (unsigned i = 0; i < used; i++)
		s->chain[sh->first + i].niov = 0;
	counter_add(&nic->received.bytes, bytes - NET_HDR_BYTES);
	counter_add(&nic->received.frames, 1);
}

/* Write the header, for a backend that has none. */
static void put_header(struct virtio_net *nic, unsigned pair, const struct share *sh)
{
	uint8_t hdr[NET_HDR_BYTES] = { 0 };

	if (nic->net->csum_good && virtio_has(&nic->vdev, NET_F_GUEST_CSUM))
		hdr[0] = NET_HDR_DATA_VALID;
	put(&nic->pair[pair].rx.stash, sh, 0, hdr, sizeof(hdr));
}

/* Handle the frame of got bytes that the backend read into one share. */
static void received(struct virtio_net *nic, unsigned pair, const struct share *sh, uint32_t got,
		     bool spills)
{
	struct nic_spill *spill = &nic->pair[pair].spill;
	struct nic_stash *s = &nic->pair[pair].rx.stash;
	uint32_t bytes = got + NET_HDR_BYTES - nic->net->vnet_hdr_bytes;
	uint8_t dst[NET_MAC_BYTES];

	if (bytes < NET_HDR_BYTES + NET_ETH_BYTES || bytes > NET_FRAME_MAX + NET_HDR_BYTES)
		return;
	if (bytes > sh->room && !(spills && virtio_has(&nic->vdev, NET_F_MRG_RXBUF)))
		return;
	if (nic->s.filter.on) {
		get(s, sh, NET_HDR_BYTES, dst, sizeof(dst));
		/*
		 * If the share ends within the address, deliver the frame: the filter is no
		 * boundary.
		 */
		if (sh->room >= NET_HDR_BYTES + NET_MAC_BYTES && !nic_filter_wants(nic, dst))
			return;
	}
	if (!nic->net->vnet_hdr_bytes)
		put_header(nic, pair, sh);
	if (bytes > sh->room) {
		spill->frame_bytes = bytes;
		spill->room = sh->room;
		return;
	}
	deliver(nic, pair, sh, bytes);
}

/*
 * A frame waits for buffers. Returns true if it was delivered, or dropped because it can never fit.
 */
static bool deliver_spill(struct virtio_net *nic, unsigned pair)
{
	struct nic_spill *spill = &nic->pair[pair].spill;
	struct nic_stash *s = &nic->pair[pair].rx.stash;
	struct share sh = { 0 };

	while (sh.nchains < s->nchains && sh.room < spill->frame_bytes)
		sh.room += s->chain[sh.nchains++].bytes;
	if (sh.room >= spill->frame_bytes) {
		put(s, &sh, spill->room, spill->buf, spill->frame_bytes - spill->room);
		deliver(nic, pair, &sh, spill->frame_bytes);
		nic_stash_compact(s);
	} else if (s->nchains < nic->vdev.queue[2 * pair].s.size && s->nchains < NIC_STASH_CHAINS &&
		   s->niov + VIRTQ_MAX_SIZE <= NIC_STASH_IOVS) {
		return false;
	}
	spill->frame_bytes = 0;
	return true;
}

/* Returns how many frames a batch has: no more than a turn takes, however long they are. */
static unsigned batch_max(const struct virtio_net *nic)
{
	unsigned n = TURN_BYTES / nic->frame_max;

	if (ratelimit_on(&nic->rx_limit))
		return 1;
	return n < NIC_BATCH ? n : NIC_BATCH;
}

/* Serve one batch. Returns false if there is nothing more to do now. */
static bool serve(struct virtio_net *nic, unsigned pair)
{
	struct nic_queue *rx = &nic->pair[pair].rx;
	struct batch b;
	unsigned got;

	if (ratelimit_on(&nic->rx_limit)) {
		uint64_t ns = ratelimit_wait_ns(&nic->rx_limit, clock_now_ns());

		rx->limited = ns;
		if (ns)
			loop_timer_arm(nic->rx_timer, ns);
		if (ns)
			return false;
	}
	if (!refill(nic, pair, &rx->stash))
		return false;
	if (nic->pair[pair].spill.frame_bytes && !deliver_spill(nic, pair)) {
		rx->blocked = true;
		return false;
	}
	prepare(nic, pair, batch_max(nic), &b);
	rx->blocked = !b.n;
	if (!b.n)
		return false;
	got = nic->net->ops->recv(nic->net, pair, b.frame, b.n);
	for (unsigned i = 0; i < got; i++) {
		ratelimit_charge(&nic->rx_limit, b.frame[i].len_bytes - nic->net->vnet_hdr_bytes,
				 1);
		turn_charge(&nic->rx_turn, b.frame[i].len_bytes);
		received(nic, pair, &b.share[i], b.frame[i].len_bytes, b.spills);
	}
	rx->any |= got;
	if (got && !nic->pair[pair].spill.frame_bytes)
		nic_stash_compact(&rx->stash);
	return got == b.n;
}

void nic_run_rx(struct virtio_net *nic, unsigned pair)
{
	struct nic_queue *rx = &nic->pair[pair].rx;
	struct virtq *q = &nic->vdev.queue[2 * pair];
	struct turn *turn = &nic->rx_turn;

	if (rx->limited || !q->s.ready || !nic_link_up(nic)) {
		nic_watch(nic, pair);
		return;
	}
	rx->more = rx->any = rx->blocked = false;
	virtq_disable_kicks(q);
	do {
		while (!turn_over(turn) && nic->vdev.active && serve(nic, pair))
			;
		/* Enable kicks only if guest buffers are what is missing. */
	} while (!turn_over(turn) && nic->vdev.active && rx->blocked && virtq_enable_kicks(q));
	if (!nic->vdev.active)
		return;
	virtq_publish(q);
	virtio_interrupt(&nic->vdev, 2 * pair);
	if (rx->any)
		nic_expect(nic, pair);
	if (turn_over(turn) && !rx->blocked && !rx->limited) {
		rx->more = true;
		nic_again(nic, turn);
	}
	nic_watch(nic, pair);
}
