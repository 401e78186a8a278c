/* blk: see blk.h. */
#include "guest/bare/lib/blk.h"
#include "guest/bare/lib/rt.h"

bool blk_find(struct blk *b, unsigned nth)
{
	if (!vio_find(VIRTIO_BLK, nth, &b->v))
		return false;
	b->offered = vio_features(&b->v);
	b->nsectors = vio_config(&b->v, 0, 8);
	return true;
}

bool blk_start(struct blk *b, uint64_t features, unsigned size, unsigned vector)
{
	if (!vio_negotiate(&b->v, features))
		return false;
	ring_init(&b->r, 0, size);
	ring_enable(&b->v, &b->r, 0, vector);
	vio_set_status(&b->v, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	return !(vio_status(&b->v) & S_NEEDS_RESET);
}

int blk_io(struct blk *b, uint32_t type, uint64_t sector, void *data, uint32_t len_bytes)
{
	bool in = type == BLK_IN || type == BLK_GET_ID;
	unsigned n = 0;

	b->header = (struct blk_header){ .type = type, .sector = sector };
	b->status = 0xee;
	ring_desc(&b->r, n, &b->header, sizeof(b->header), D_NEXT, 1);
	n++;
	if (len_bytes) {
		ring_desc(&b->r, n, data, len_bytes, D_NEXT | (in ? D_WRITE : 0), 2);
		n++;
	}
	ring_desc(&b->r, n, &b->status, 1, D_WRITE, 0);
	ring_offer(&b->r, 0);
	ring_kick(&b->v, &b->r);
	return ring_wait(&b->r, 5000, NULL, NULL) ? b->status : BLK_NO_ANSWER;
}
