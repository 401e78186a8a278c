/*
 * net/stash: chains that virtio-net has taken from a ring and not given back yet.
 *
 * Theory of operation. chain[] is in the order of the ring. iov[] is one array without gaps: chain
 * i has iov[first, first + niov), its neighbour the elements after them. So several buffers that
 * one frame fills are one run of iovecs, which a backend can read into as it is. The stash keeps
 * only the part of a chain that its queue is for: the writable part of receive buffers, the
 * readable part of frames to send. What a driver puts into the other part is ignored.
 *
 * When the head of a chain is back in the ring, rx.c or tx.c sets the chain's niov to 0, and
 * nic_stash_compact removes it and closes the gaps. That moves elements: a pointer into iov[] is
 * invalid afterwards.
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
	/* Receiving does not use the readable part: close its gap. */
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
