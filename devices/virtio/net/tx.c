/*
 * net/tx: from the guest to the backend (virtio 1.2, section 5.1.6.2).
 *
 * Theory of operation. nic_run_tx pops chains into the stash, sends them as one batch and returns
 * them. Chains that the backend cannot take wait in the stash, and nic_run_tx pops no more until
 * the backend can take them: the guest's ring fills up, and the guest waits. A backend that
 * understands the header gets it as the guest wrote it (the kernel checks it); for other backends
 * the header is cut off. Kicks are off while nic_run_tx or net/poll.c looks at the ring.
 */
#include <string.h>

#include "devices/virtio/net/nic_impl.h"
#include "vmm/core/clock.h"

/* Cut bytes off the chain's front. Returns false if the chain has no more than that. */
static bool skip(struct nic_stash *s, struct nic_chain *c, uint32_t bytes)
{
	if (c->bytes <= bytes)
		return false;
	c->bytes -= bytes;
	while (bytes >= s->iov[c->first].iov_len) {
		bytes -= (uint32_t)s->iov[c->first].iov_len;
		c->first++;
		c->niov--;
	}
	s->iov[c->first].iov_base = (uint8_t *)s->iov[c->first].iov_base + bytes;
	s->iov[c->first].iov_len -= bytes;
	return true;
}

/* Returns false for a chain that no backend can send: too short, too long, in too many pieces. */
static bool sendable(struct virtio_net *nic, struct nic_stash *s, struct nic_chain *c)
{
	uint32_t hdr = nic->net->vnet_hdr_bytes;

	if (c->bytes < NET_HDR_BYTES + NET_ETH_BYTES || c->bytes > NET_HDR_BYTES + NET_FRAME_MAX)
		return false;
	return skip(s, c, NET_HDR_BYTES - hdr) && c->niov <= NET_IOV_MAX;
}

/*
 * Fill the stash up to max chains, as long as the turn lasts. *dropped counts the chains returned
 * unsent. Returns false if the ring is broken.
 */
static bool fill(struct virtio_net *nic, unsigned queue, struct nic_stash *s, unsigned max,
		 unsigned *dropped)
{
	struct virtq *q = &nic->vdev.queue[queue];
	int rc = 1;

	while (s->nchains < max && !turn_over(&nic->tx_turn)) {
		struct nic_chain *c;

		rc = nic_stash_pop(nic, queue, s, false);
		if (rc <= 0)
			break;
		c = &s->chain[s->nchains - 1];
		turn_charge(&nic->tx_turn, c->bytes < NET_FRAME_MAX ? c->bytes : 0);
		if (sendable(nic, s, c) && nic_link_up(nic))
			continue;
		virtq_put(q, c->head, 0);
		++*dropped;
		s->nchains--;
		s->niov = s->nchains ? (unsigned)(c[-1].first + c[-1].niov) : 0;
	}
	return rc >= 0;
}

/* Send the stash and return the chains that were sent. Returns their number. */
static unsigned flush(struct virtio_net *nic, unsigned pair, struct nic_stash *s)
{
	struct virtq *q = &nic->vdev.queue[2 * pair + 1];
	struct net_frame frame[NIC_BATCH];
	uint64_t bytes = 0;
	unsigned sent;

	for (unsigned i = 0; i < s->nchains; i++)
		frame[i] = (struct net_frame){ &s->iov[s->chain[i].first], s->chain[i].niov,
					       s->chain[i].bytes };
	sent = nic->net->ops->send(nic->net, pair, frame, s->nchains);
	for (unsigned i = 0; i < sent; i++) {
		virtq_put(q, s->chain[i].head, 0);
		bytes += s->chain[i].bytes - nic->net->vnet_hdr_bytes;
		s->chain[i].niov = 0;
	}
	ratelimit_charge(&nic->tx_limit, bytes, sent);
	counter_add(&nic->sent.bytes, bytes);
	counter_add(&nic->sent.frames, sent);
	if (sent == s->nchains)
		s->nchains = s->niov = 0;
	else
		nic_stash_compact(s);
	return sent;
}

/* Returns true if the rate limit forbids sending now; the timer then resumes the queue. */
static bool limited(struct virtio_net *nic, struct nic_queue *tx)
{
	uint64_t ns;

	if (!ratelimit_on(&nic->tx_limit))
		return false;
	ns = ratelimit_wait_ns(&nic->tx_limit, clock_now_ns());
	tx->limited = ns;
	if (ns)
		loop_timer_arm(nic->tx_timer, ns);
	return ns;
}

/* Serve one batch. Returns false if there is nothing more to do now. */
static bool serve(struct virtio_net *nic, unsigned pair)
{
	struct nic_queue *tx = &nic->pair[pair].tx;
	struct virtq *q = &nic->vdev.queue[2 * pair + 1];
	unsigned dropped = 0, sent = 0, max = ratelimit_on(&nic->tx_limit) ? 1 : NIC_BATCH;

	if (limited(nic, tx))
		return false;
	if (!fill(nic, 2 * pair + 1, &tx->stash, max, &dropped))
		return false;
	if (tx->stash.nchains) {
		sent = flush(nic, pair, &tx->stash);
		tx->blocked = tx->stash.nchains;
	}
	if (!sent && !dropped)
		return false;
	virtq_publish(q);
	return !tx->blocked;
}

void nic_run_tx(struct virtio_net *nic, unsigned pair)
{
	struct nic_queue *tx = &nic->pair[pair].tx;
	struct virtq *q = &nic->vdev.queue[2 * pair + 1];
	struct turn *turn = &nic->tx_turn;

	if (tx->limited || !q->s.ready)
		return;
	tx->more = false;
	nic->polled &= ~(1u << pair);
	virtq_disable_kicks(q);
	do {
		while (!turn_over(turn) && nic->vdev.active && serve(nic, pair))
			;
	} while (!turn_over(turn) && nic->vdev.active && !tx->blocked && !tx->limited &&
		 nic_rest(nic, pair));
	if (!nic->vdev.active)
		return;
	virtio_interrupt(&nic->vdev, 2 * pair + 1);
	if (turn_over(turn) && !tx->blocked && !tx->limited) {
		tx->more = true;
		nic_again(nic, turn);
	}
	nic_watch(nic, pair);
}
