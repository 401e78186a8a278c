/*
 * vsock/send: packets to the guest.
 *
 * Theory of operation. Connections with something to send stand in one line (vsock.ready). A turn
 * is one control packet, or as much data as one readv returns; then a connection with more to send
 * goes to the end of the line. That is fair to all connections. No data is copied or kept:
 * stash_fill pops the guest's receive buffers into a stash, and the readv puts the socket's bytes
 * directly behind the headers of as many buffers as credit allows.
 *
 * Resets for packets of no connection (strays) wait in a short ring of their own, and go first.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "devices/virtio/vsock/vsock_impl.h"
#include "vmm/core/fd_rw.h"

unsigned vsock_iov_slice(const struct iovec *iov, unsigned n, size_t skip, size_t len_bytes,
			 struct iovec *out)
{
	unsigned used = 0;

	for (unsigned i = 0; i < n && len_bytes; i++) {
		size_t part = iov[i].iov_len;

		if (skip >= part) {
			skip -= part;
			continue;
		}
		part -= skip;
		part = part < len_bytes ? part : len_bytes;
		out[used].iov_base = (uint8_t *)iov[i].iov_base + skip;
		out[used++].iov_len = part;
		len_bytes -= part;
		skip = 0;
	}
	return used;
}

void vsock_run_again(struct vsock *vs)
{
	turn_leave(&vs->rx_turn, vs->again);
}

/* --- one connection ---------------------------------------------------------------------- */

static void put_packet(struct vsock_conn *c, struct vsock_buf *buf, enum vsock_op op,
		       uint32_t len_bytes)
{
	struct vsock *vs = c->vs;
	struct vsock_hdr hdr = { .src_cid = VSOCK_HOST_CID,
				 .dst_cid = vs->s.cid,
				 .src_port = c->s.host_port,
				 .dst_port = c->s.guest_port,
				 .len_bytes = len_bytes,
				 .type = VSOCK_TYPE_STREAM,
				 .op = (uint16_t)op,
				 .flags = op == VSOCK_OP_SHUTDOWN ? c->s.shut : 0,
				 .buf_alloc = c->s.room,
				 .fwd_cnt = c->s.fwd_cnt };
	struct chain chain = { .nwritable = (uint16_t)buf->niov, .iov = buf->iov };

	virtq_chain_write(&chain, 0, &hdr, sizeof(hdr));
	virtq_put(&vs->vdev.queue[VSOCK_RX], buf->head, VSOCK_HDR_BYTES + len_bytes);
	c->s.fwd_told = c->s.fwd_cnt;
	c->s.pending &= (uint16_t) ~(1u << VSOCK_OP_CREDIT_UPDATE);
}

/*
 * Send one packet without data. order is the order in which these packets have to precede each
 * other.
 */
static bool serve_control(struct vsock_conn *c)
{
	static const uint8_t order[] = {
		VSOCK_OP_REQUEST,  VSOCK_OP_RESPONSE,	    VSOCK_OP_RST,
		VSOCK_OP_SHUTDOWN, VSOCK_OP_CREDIT_REQUEST, VSOCK_OP_CREDIT_UPDATE
	};

	for (unsigned i = 0; i < sizeof(order); i++) {
		if (!(c->s.pending >> order[i] & 1))
			continue;
		c->s.pending &= (uint16_t) ~(1u << order[i]);
		put_packet(c, &c->vs->buf[0], order[i], 0);
		return true;
	}
	return false;
}

/*
 * Fill iov with the places where the next readv puts data, *total bytes in all. Returns the
 * elements.
 */
static unsigned gather(const struct vsock_conn *c, struct iovec *iov, uint32_t *total)
{
	struct vsock *vs = c->vs;
	uint32_t room = vsock_conn_credit(c), n = 0;

	*total = 0;
	for (unsigned i = 0; i < vs->nbufs && room; i++) {
		const struct vsock_buf *buf = &vs->buf[i];
		uint32_t part = buf->bytes - VSOCK_HDR_BYTES;

		part = part < VSOCK_PACKET_BYTES ? part : VSOCK_PACKET_BYTES;
		part = part < room ? part : room;
		n += vsock_iov_slice(buf->iov, buf->niov, VSOCK_HDR_BYTES, part, iov + n);
		room -= part;
		*total += part;
	}
	return n;
}

static unsigned put_data(struct vsock_conn *c, uint32_t len_bytes)
{
	unsigned i = 0;

	while (len_bytes) {
		struct vsock_buf *buf = &c->vs->buf[i++];
		uint32_t part = buf->bytes - VSOCK_HDR_BYTES;

		part = part < VSOCK_PACKET_BYTES ? part : VSOCK_PACKET_BYTES;
		part = part < len_bytes ? part : len_bytes;
		c->s.tx_cnt += part;
		len_bytes -= part;
		put_packet(c, buf, VSOCK_OP_RW, part);
	}
	return i;
}

static unsigned serve_data(struct vsock_conn *c)
{
	struct iovec iov[VSOCK_STASH_IOVS];
	uint32_t total;
	unsigned niov = gather(c, iov, &total), used = 0;
	ssize_t n;

	if (!niov) /* buffers without room for data, or no credit */
		return 0;
	do {
		n = fd_rw_readv(c->fd, iov, (int)niov);
	} while (n < 0 && errno == EINTR);
	/* The program closed its socket before it read all: what it sent is delivered. */
	if (n < 0 && errno == ECONNRESET) {
		vsock_conn_finish(c);
		return 0;
	}
	if (n < 0 && errno != EAGAIN) {
		vsock_conn_reset(c);
		return 0;
	}
	if (n > 0) {
		used = put_data(c, (uint32_t)n);
		turn_charge(&c->vs->rx_turn, (uint64_t)n);
	}
	c->readable = n == (ssize_t)total;
	if (!n) {
		c->eof = true;
		c->s.shut |= VSOCK_SHUT_SEND;
		if (c->hup) {
			vsock_conn_finish(c);
			return 0;
		}
		vsock_conn_send(c, VSOCK_OP_SHUTDOWN);
	}
	c->muted = c->readable && c->muted;
	vsock_conn_update(c);
	return used;
}

static unsigned serve(struct vsock_conn *c)
{
	unsigned used = 0;

	if (serve_control(c)) {
		used = 1;
		if (c->s.stage == VSOCK_DYING && !c->s.pending) {
			vsock_conn_free(c);
			return used;
		}
	} else if (c->readable && c->s.stage == VSOCK_OPEN && vsock_conn_credit(c)) {
		used = serve_data(c);
		/* c is not freed here: only control packets end a connection. */
	}
	if (c->readable && c->s.stage == VSOCK_OPEN && !vsock_conn_credit(c) && !c->s.asked) {
		c->s.asked = true;
		vsock_conn_send(c, VSOCK_OP_CREDIT_REQUEST);
	}
	if (c->s.pending || (c->readable && c->s.stage == VSOCK_OPEN && vsock_conn_credit(c)))
		vsock_conn_link(c);
	return used;
}

/* --- all of them ------------------------------------------------------------------------- */

/* Pop one buffer into the stash. Returns false if there is none, or the stash is full. */
static bool stash_one(struct vsock *vs)
{
	struct virtq *q = &vs->vdev.queue[VSOCK_RX];
	struct vsock_buf *buf = &vs->buf[vs->nbufs];
	struct chain chain;
	int rc;

	if (vs->nbufs == VSOCK_STASH || VSOCK_STASH_IOVS - vs->npool < VSOCK_QUEUE_SIZE)
		return false;
	rc = virtq_pop(q, &chain, vs->pool + vs->npool, VSOCK_QUEUE_SIZE);
	if (rc < 0)
		virtio_broken(&vs->vdev, q->broken_why);
	if (rc <= 0)
		return false;
	if (chain.writable_bytes <= VSOCK_HDR_BYTES) {
		virtio_broken(&vs->vdev, "a receive buffer has no room for a packet");
		return false;
	}
	buf->head = chain.head;
	buf->bytes = (uint32_t)chain.writable_bytes;
	buf->iov = vs->pool + vs->npool + chain.nreadable;
	buf->niov = chain.nwritable;
	vs->npool += chain.nreadable + chain.nwritable;
	vs->nbufs++;
	return true;
}

/* Fill the stash. Returns false if it stays empty; a kick then announces new buffers. */
static bool stash_fill(struct vsock *vs)
{
	struct virtq *q = &vs->vdev.queue[VSOCK_RX];

	while (stash_one(vs))
		;
	if (!vs->vdev.active || vs->nbufs)
		return vs->vdev.active;
	if (virtq_enable_kicks(q)) {
		virtq_disable_kicks(q);
		while (stash_one(vs))
			;
	}
	return vs->vdev.active && vs->nbufs;
}

/* Remove the first n buffers, which are used. */
static void stash_drop(struct vsock *vs, unsigned n)
{
	unsigned at = 0;

	vs->nbufs -= n;
	memmove(vs->buf, vs->buf + n, vs->nbufs * sizeof(vs->buf[0]));
	for (unsigned i = 0; i < vs->nbufs; i++) {
		struct vsock_buf *buf = &vs->buf[i];

		memmove(vs->pool + at, buf->iov, buf->niov * sizeof(buf->iov[0]));
		buf->iov = vs->pool + at;
		at += buf->niov;
	}
	vs->npool = at;
}

static void serve_stray(struct vsock *vs)
{
	const struct vsock_stray *stray = &vs->s.stray[vs->s.stray_at];
	struct vsock_hdr hdr = { .src_cid = stray->src_cid,
				 .dst_cid = vs->s.cid,
				 .src_port = stray->src_port,
				 .dst_port = stray->dst_port,
				 .type = stray->type,
				 .op = VSOCK_OP_RST };
	struct chain chain = { .nwritable = (uint16_t)vs->buf[0].niov, .iov = vs->buf[0].iov };

	virtq_chain_write(&chain, 0, &hdr, sizeof(hdr));
	virtq_put(&vs->vdev.queue[VSOCK_RX], vs->buf[0].head, VSOCK_HDR_BYTES);
	vs->s.stray_at = (vs->s.stray_at + 1) % VSOCK_MAX_STRAYS;
	vs->s.nstrays--;
	stash_drop(vs, 1);
}

static void run_rx(struct vsock *vs)
{
	struct turn *turn = &vs->rx_turn;
	bool any = false;

	turn_begin(turn);
	while (!turn_over(turn) && (vs->s.nstrays || !TAILQ_EMPTY(&vs->ready)) && stash_fill(vs)) {
		struct vsock_conn *c = TAILQ_FIRST(&vs->ready);

		turn_charge(turn, 0);
		any = true;
		if (vs->s.nstrays) {
			serve_stray(vs);
			continue;
		}
		TAILQ_REMOVE(&vs->ready, c, ready);
		c->linked = false;
		stash_drop(vs, serve(c));
	}
	if (!any || !vs->vdev.active)
		return;
	virtq_publish(&vs->vdev.queue[VSOCK_RX]);
	virtio_interrupt(&vs->vdev, VSOCK_RX);
	if (turn_over(turn))
		vsock_run_again(vs);
}

void vsock_run(struct vsock *vs)
{
	if (vs->vdev.active && vs->vdev.queue[VSOCK_RX].s.ready)
		run_rx(vs);
	if (vs->vdev.active && vs->s.tx_blocked && vs->s.nstrays < VSOCK_MAX_STRAYS)
		vsock_run_again(vs);
}
