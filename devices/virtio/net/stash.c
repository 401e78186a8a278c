/*
 * net/stash: chains that virtio-net has taken from a ring and not given back yet.
 *
 * Theory of operation. chain[] is in the order of the ring. iov[] is one array without gaps: chain
 * i has iov[first, first + niov), its neighbour the elements after them. So several buffers that
 * one frame fills are one run of iovecs, which a backend can read into as it is. Only the part of
 * a chain that its queue is for is kept: the writable one of receive buffers, the readable one of
 * frames to send; what a driver puts into the other is ignored.
 *
 * A chain leaves when its head is back in the ring: its owner sets niov to 0, and compact closes
 * the gaps. It moves elements: no pointer into iov[] is good after it.
 */
#include <string.h>

#include "devices/virtio/net/nic_impl.h"

int nic_stash_pop(struct virtio_net *nic, unsigned queue, struct nic_stash *s, bool writable)
{
	struct virtq *q = &nic->vdev.queue[queue];
	struct iovec *iov = &s->iov[s->niov];
	struct nic_chain *c;
	struct chain chain;
	int rc;

	if (s->nchains == NIC_STASH_CHAINS || s->niov + VIRTQ_MAX_SIZE > NIC_STASH_IOVS)
		return 0;
	rc = virtq_pop(q, &chain, iov, VIRTQ_MAX_SIZE);
	if (rc < 0)
		virtio_broken(&nic->vdev, q->broken_why);
	if (rc <= 0)
		return rc;
	c = &s->chain[s->nchains++];
	*c = (struct nic_chain){
		.head = chain.head,
		.first = (uint16_t)s->niov,
		.niov = writable ? chain.nwritable : chain.nreadable,
		.bytes = (uint32_t)(writable ? chain.writable_bytes : chain.readable_bytes),
	};
	/* What a receive buffer's chain has to read is nothing for us: it leaves no gap. */
	if (writable && chain.nreadable)
		memmove(iov, iov + chain.nreadable, c->niov * sizeof(*iov));
	s->niov += c->niov;
	return 1;
}

void nic_stash_compact(struct nic_stash *s)
{
	unsigned n = 0, niov = 0;

	for (unsigned i = 0; i < s->nchains; i++) {
		struct nic_chain c = s->chain[i];

		if (!c.niov)
			continue;
		memmove(&s->iov[niov], &s->iov[c.first], c.niov * sizeof(s->iov[0]));
		c.first = (uint16_t)niov;
		niov += c.niov;
		s->chain[n++] = c;
	}
	s->nchains = n;
	s->niov = niov;
}
