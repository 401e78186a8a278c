/*
 * net/poll: polls the rings instead of waiting for kicks (loop.h, busy polling).
 *
 * Theory of operation. A guest that has just sent a frame often sends another soon, or waits for an
 * answer. If polling pays, the card leaves the kicks of its transmit queue off for some
 * microseconds and looks at the ring again and again. It does the same with a backend that can tell
 * cheaply whether it has frames (net_ops.ready): its other end sends no wakeups meanwhile. Other
 * backends wake the loop by their watch, which the loop also checks while it polls. If nothing
 * came, idle enables kicks and wakeups again before the loop sleeps.
 */
#include "devices/virtio/net/nic_impl.h"

static bool can_receive(const struct virtio_net *nic, unsigned pair)
{
	return nic->vdev.active && nic->net->ops->ready && nic->net->port[pair].want_read;
}

static bool poll_rings(void *opaque)
{
	struct virtio_net *nic = opaque;
	bool any = false;

	virtio_lock(&nic->vdev);
	turn_begin(&nic->rx_turn);
	turn_begin(&nic->tx_turn);
	for (unsigned i = 0; i < nic->s.pairs && nic->vdev.active; i++) {
		if (nic->polled >> i & 1 && virtq_has_more(&nic->vdev.queue[2 * i + 1])) {
			nic_run_tx(nic, i);
			any |= !turn_left(&nic->tx_turn);
		}
		if (can_receive(nic, i) && nic->net->ops->ready(nic->net, i)) {
			nic_run_rx(nic, i);
			any |= !turn_left(&nic->rx_turn);
		}
	}
	virtio_unlock(&nic->vdev);
	return any;
}

static void idle(void *opaque)
{
	struct virtio_net *nic = opaque;

	virtio_lock(&nic->vdev);
	turn_begin(&nic->rx_turn);
	turn_begin(&nic->tx_turn);
	nic->net->polled = false;
	for (unsigned i = 0; i < nic->max_pairs && nic->vdev.active; i++) {
		bool was_polled = nic->polled >> i & 1;

		nic->polled &= ~(1u << i);
		/* The driver may have reduced the number of pairs since. */
		if (was_polled && virtq_enable_kicks(&nic->vdev.queue[2 * i + 1]) &&
		    i < nic->s.pairs)
			nic_run_tx(nic, i);
		/*
		 * recv asks the other end for wakeups again; frames that came before would not
		 * cause one.
		 */
		if (i < nic->s.pairs && can_receive(nic, i))
			nic_run_rx(nic, i);
	}
	virtio_unlock(&nic->vdev);
}

void nic_poll_init(struct virtio_net *nic)
{
	nic->poller = (struct loop_poller){ poll_rings, idle, nic };
}

void nic_poll_close(struct virtio_net *nic)
{
	if (nic->poller.armed)
		loop_poll_disarm(nic->vdev.env->loop, &nic->poller);
}
