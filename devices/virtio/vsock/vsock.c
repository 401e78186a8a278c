/*
 * vsock: virtio-vsock, stream sockets between guest and host (virtio 1.2, section 5.10).
 *
 * Theory of operation. The guest's packets (queue 1) go to their connection, which
 * writes them to its Unix socket at once. To the guest (queue 0) whoever has
 * something to send stands in one line, and one turn is one packet of control or
 * one readv; that keeps connections fair to each other. The guest's buffers are popped
 * ahead into a stash, so that a readv can fill several. Resets for packets of no
 * connection wait in a short ring of their own: while it is full, the guest's packets wait,
 * which only a guest without receive buffers can bring about.
 */
#include <string.h>
#include <unistd.h>

#include "devices/virtio/vsock/vsock_impl.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"

/* What one turn of the loop does, so that a guest cannot keep the loop to itself. */
#define TURN_PACKETS 256u
#define TURN_SERVES 128u

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
	uint64_t one = 1;

	if (write(vs->again_fd, &one, sizeof(one)) < 0)
		return; /* the counter is full: it is coming anyway */
}

/* --- to the guest --------------------------------------------------------------------------- */

/* Pop one buffer into the stash: false if there is none, or no room. */
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

/* Fill the stash: false if it stays empty; a kick tells when it need not. */
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

/* The first n buffers are used. */
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
	const struct vsock_stray *stray = &vs->stray[vs->stray_at];
	struct vsock_hdr hdr = { .src_cid = stray->src_cid,
				 .dst_cid = vs->cid,
				 .src_port = stray->src_port,
				 .dst_port = stray->dst_port,
				 .type = stray->type,
				 .op = VSOCK_OP_RST };
	struct chain chain = { .nwritable = (uint16_t)vs->buf[0].niov, .iov = vs->buf[0].iov };

	virtq_chain_write(&chain, 0, &hdr, sizeof(hdr));
	virtq_put(&vs->vdev.queue[VSOCK_RX], vs->buf[0].head, VSOCK_HDR_BYTES);
	vs->stray_at = (vs->stray_at + 1) % VSOCK_MAX_STRAYS;
	vs->nstrays--;
	stash_drop(vs, 1);
}

static void run_rx(struct vsock *vs)
{
	unsigned left = TURN_SERVES;
	bool any = false;

	while (left && (vs->nstrays || !TAILQ_EMPTY(&vs->ready)) && stash_fill(vs)) {
		struct vsock_conn *c = TAILQ_FIRST(&vs->ready);

		left--;
		any = true;
		if (vs->nstrays) {
			serve_stray(vs);
			continue;
		}
		TAILQ_REMOVE(&vs->ready, c, ready);
		c->linked = false;
		stash_drop(vs, vsock_conn_serve(c));
	}
	if (!any || !vs->vdev.active)
		return;
	virtq_publish(&vs->vdev.queue[VSOCK_RX]);
	virtio_interrupt(&vs->vdev, VSOCK_RX);
	if (!left)
		vsock_run_again(vs);
}

/* --- from the guest --------------------------------------------------------------------------- */

static void answer_reset(struct vsock *vs, const struct vsock_hdr *hdr)
{
	if (hdr->op == VSOCK_OP_RST)
		return;
	vs->stray[(vs->stray_at + vs->nstrays++) % VSOCK_MAX_STRAYS] = (struct vsock_stray){
		.src_cid = hdr->dst_cid,
		.src_port = hdr->dst_port,
		.dst_port = hdr->src_port,
		.type = hdr->type
	};
}

static void packet(struct vsock *vs, const struct chain *chain)
{
	struct iovec iov[VSOCK_QUEUE_SIZE];
	struct vsock_conn *c = NULL;
	struct vsock_hdr hdr;
	unsigned n;

	if (virtq_chain_read(chain, 0, &hdr, sizeof(hdr)) < sizeof(hdr)) {
		log_guest("virtio-vsock: a packet is shorter than its header");
		return;
	}
	/* Nobody could be sent an answer. */
	if (hdr.src_cid != vs->cid) {
		log_guest("virtio-vsock: a packet from CID %llu, which the guest is not",
			  (unsigned long long)hdr.src_cid);
		return;
	}
	if (hdr.op != VSOCK_OP_RW)
		hdr.len_bytes = 0;
	if (hdr.dst_cid == VSOCK_HOST_CID && hdr.type == VSOCK_TYPE_STREAM)
		c = vsock_conn_find(vs, hdr.src_port, hdr.dst_port);
	if (hdr.len_bytes > chain->readable_bytes - VSOCK_HDR_BYTES) {
		log_guest("virtio-vsock: a packet has less data than it says");
		hdr.op = 0;
		hdr.len_bytes = 0;
	}
	n = vsock_iov_slice(chain->iov, chain->nreadable, VSOCK_HDR_BYTES, hdr.len_bytes, iov);
	if (c)
		vsock_conn_packet(c, &hdr, iov, n);
	else if (hdr.op != VSOCK_OP_REQUEST || hdr.dst_cid != VSOCK_HOST_CID ||
		 hdr.type != VSOCK_TYPE_STREAM || !vsock_host_dial(vs, &hdr))
		answer_reset(vs, &hdr);
}

static bool serve_tx(struct vsock *vs)
{
	struct virtq *q = &vs->vdev.queue[VSOCK_TX];
	struct iovec iov[VSOCK_QUEUE_SIZE];
	struct chain chain;
	int rc = virtq_pop(q, &chain, iov, VSOCK_QUEUE_SIZE);

	if (rc < 0)
		virtio_broken(&vs->vdev, q->broken_why);
	if (rc <= 0)
		return false;
	packet(vs, &chain);
	virtq_push(q, chain.head, 0);
	return true;
}

void vsock_run_tx(struct vsock *vs)
{
	struct virtq *q = &vs->vdev.queue[VSOCK_TX];
	unsigned left = TURN_PACKETS;

	virtq_disable_kicks(q);
	do {
		while (left && vs->nstrays < VSOCK_MAX_STRAYS && serve_tx(vs))
			left--;
		vs->tx_blocked = vs->nstrays == VSOCK_MAX_STRAYS;
	} while (left && vs->vdev.active && !vs->tx_blocked && virtq_enable_kicks(q));
	if (!vs->vdev.active)
		return;
	virtio_interrupt(&vs->vdev, VSOCK_TX);
	if (!left)
		vsock_run_again(vs);
}

void vsock_run(struct vsock *vs)
{
	if (vs->vdev.active && vs->vdev.queue[VSOCK_RX].ready)
		run_rx(vs);
	if (vs->vdev.active && vs->tx_blocked && vs->nstrays < VSOCK_MAX_STRAYS)
		vsock_run_again(vs);
}

/* --- time ---------------------------------------------------------------------------------------- */

void vsock_arm_tick(struct vsock *vs, uint64_t delay_ns)
{
	uint64_t at = clock_now_ns() + delay_ns;

	/* Never put off, or it would not come while new deadlines do. */
	if (vs->tick_ns && vs->tick_ns <= at)
		return;
	vs->tick_ns = at;
	loop_timer_arm(vs->tick, delay_ns);
}

void vsock_on_tick(void *opaque)
{
	struct vsock *vs = opaque;
	uint64_t now = clock_now_ns(), soonest = UINT64_MAX;
	struct vsock_conn *c, *next;

	virtio_lock(&vs->vdev);
	vs->tick_ns = 0;
	for (c = LIST_FIRST(&vs->conns); c && vs->ntimed; c = next) {
		next = LIST_NEXT(c, all);
		if (c->deadline_ns && c->deadline_ns <= now) {
			vsock_conn_expire(c);
			continue;
		}
		if (c->state == VSOCK_DIALING)
			vsock_host_redial(c);
		if (c->deadline_ns && c->deadline_ns < soonest)
			soonest = c->deadline_ns;
	}
	vsock_host_listen_again(vs);
	if (soonest != UINT64_MAX)
		vsock_arm_tick(vs, soonest - now > VSOCK_TICK_NS ? soonest - now : VSOCK_TICK_NS);
	vsock_run(vs);
	virtio_unlock(&vs->vdev);
}
