/*
 * net/nic: what the parts of a card share: what the card waits for, its status field, its pairs and
 * offloads, and when it polls its rings (see net/poll.c).
 */
#include "devices/virtio/net/nic_impl.h"
#include "vmm/core/bytes.h"

#define BIT(n) (1ull << (n))

void nic_again(struct virtio_net *nic, struct turn *turn)
{
	turn_leave(turn, nic->again);
}

void nic_watch(struct virtio_net *nic, unsigned pair)
{
	const struct nic_queue *rx = &nic->pair[pair].rx, *tx = &nic->pair[pair].tx;
	bool on = nic->vdev.active && pair < nic->s.pairs && !nic->server;

	net_want(nic->net, pair,
		 on && nic->s.link && !rx->blocked && !rx->limited &&
			 nic->vdev.queue[2 * pair].s.ready,
		 on && tx->blocked);
}

uint16_t nic_status(const struct virtio_net *nic)
{
	return get_le16(nic->vdev.s.config + NET_CONFIG_STATUS);
}

void nic_set_status(struct virtio_net *nic, uint16_t status)
{
	put_le16(nic->vdev.s.config + NET_CONFIG_STATUS, status);
}

void nic_set_pairs(struct virtio_net *nic, unsigned pairs)
{
	nic->s.pairs = pairs;
	if (nic->net->ops->set_queues)
		nic->net->ops->set_queues(nic->net, pairs);
	if (nic->server)
		nic->server->update(nic);
}

void nic_set_offloads(struct virtio_net *nic, uint64_t features)
{
	unsigned offloads = 0;

	nic->s.offloads = features;
	offloads |= features & BIT(NET_F_GUEST_CSUM) ? NET_CSUM : 0u;
	offloads |= features & BIT(NET_F_GUEST_TSO4) ? NET_TSO4 : 0u;
	offloads |= features & BIT(NET_F_GUEST_TSO6) ? NET_TSO6 : 0u;
	offloads |= features & BIT(NET_F_GUEST_ECN) ? NET_ECN : 0u;
	offloads |= features & BIT(NET_F_GUEST_UFO) ? NET_UFO : 0u;
	if (nic->net->ops->set_offloads)
		nic->net->ops->set_offloads(nic->net, offloads);
}

/* --- polling ---------------------------------------------------------------------------- */

/* Returns false if polling does not pay now. */
static bool begin(struct virtio_net *nic, unsigned pair)
{
	struct loop *loop = nic->vdev.env->loop;

	/* The host may switch the link in another thread, which cannot arm the loop's poller. */
	if (!loop_is_here(loop) || !loop_poll_arm(loop, &nic->poller))
		return false;
	nic->polled |= 1u << pair;
	nic->net->polled = true;
	return true;
}

bool nic_rest(struct virtio_net *nic, unsigned pair)
{
	struct virtq *q = &nic->vdev.queue[2 * pair + 1];

	return begin(nic, pair) ? virtq_has_more(q) : virtq_enable_kicks(q);
}

void nic_expect(struct virtio_net *nic, unsigned pair)
{
	const struct nic_queue *tx = &nic->pair[pair].tx;
	struct virtq *q = &nic->vdev.queue[2 * pair + 1];

	if (q->s.ready && !tx->blocked && !tx->limited && !tx->more && begin(nic, pair))
		virtq_disable_kicks(q);
}
