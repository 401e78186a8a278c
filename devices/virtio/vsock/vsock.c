/*
 * vsock: virtio-vsock, stream sockets between guest and host (virtio 1.2, section 5.10).
 *
 * The guest's packets (queue 1) and the tick. Each packet goes to its connection, which writes the
 * data to the Unix socket at once (stream.c), or begins a connection (host.c), or gets a reset as
 * the answer. While the ring of these resets is full, the guest's packets wait; only a guest
 * without receive buffers can cause that. conn.c describes the life of a connection.
 */
#include "devices/virtio/vsock/vsock_impl.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"

static void answer_reset(struct vsock *vs, const struct vsock_hdr *hdr)
{
	if (hdr->op == VSOCK_OP_RST)
		return;
	vs->s.stray[(vs->s.stray_at + vs->s.nstrays++) % VSOCK_MAX_STRAYS] = (struct vsock_stray){
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
		log_put(LOG_WARN, "virtio-vsock: a packet is shorter than its header");
		return;
	}
	/* No answer: the source CID is not the guest's. */
	if (hdr.src_cid != vs->s.cid) {
		log_put(LOG_WARN, "virtio-vsock: a packet from CID %llu, which is not the guest's",
			(unsigned long long)hdr.src_cid);
		return;
	}
	if (hdr.op != VSOCK_OP_RW)
		hdr.len_bytes = 0;
	if (hdr.dst_cid == VSOCK_HOST_CID && hdr.type == VSOCK_TYPE_STREAM)
		c = vsock_conn_find(vs, hdr.src_port, hdr.dst_port);
	if (hdr.len_bytes > chain->readable_bytes - VSOCK_HDR_BYTES) {
		log_put(LOG_WARN, "virtio-vsock: a packet has less data than it says");
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
	turn_charge(&vs->tx_turn, chain.readable_bytes);
	packet(vs, &chain);
	virtq_push(q, chain.head, 0);
	return true;
}

void vsock_run_tx(struct vsock *vs)
{
	struct virtq *q = &vs->vdev.queue[VSOCK_TX];
	struct turn *turn = &vs->tx_turn;

	turn_begin(turn);
	virtq_disable_kicks(q);
	do {
		while (!turn_over(turn) && vs->s.nstrays < VSOCK_MAX_STRAYS && serve_tx(vs))
			;
		vs->s.tx_blocked = vs->s.nstrays == VSOCK_MAX_STRAYS;
	} while (!turn_over(turn) && vs->vdev.active && !vs->s.tx_blocked && virtq_enable_kicks(q));
	if (!vs->vdev.active)
		return;
	virtio_interrupt(&vs->vdev, VSOCK_TX);
	if (turn_over(turn))
		turn_leave(turn, vs->again);
}

/* --- time ---------------------------------------------------------------------------------------- */

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
		if (c->s.stage == VSOCK_DIALING)
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
