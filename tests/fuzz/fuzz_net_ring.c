/*
 * fuzz_net_ring: a ring whose peer writes anything.
 *
 * Input: the ring's position (32 bits), the peer's index relative to it (32 bits),
 * the length of a frame to put (32 bits), and the ring's content from the position on. All that
 * the consumer gets must be inside the ring, and in total no more than the index allows;
 * the range that the producer may write must be inside the ring, too.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/backend/net/ring.h"

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void fill(uint8_t *data, uint32_t at, const uint8_t *from, size_t n)
{
	for (size_t i = 0; i < n && i < NET_RING_BYTES; i++)
		data[(at + i) % NET_RING_BYTES] = from[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t n)
{
	static struct net_ring_mem *mem;
	static uint8_t copy[NET_RING_FRAME_MAX];
	struct net_ring r;
	uint32_t word[3], begin;
	const uint8_t *from;
	uint8_t *to;
	int len, rc;

	if (n < sizeof(word))
		return 0;
	memcpy(word, in, sizeof(word));
	in += sizeof(word);
	n -= sizeof(word);
	if (!mem)
		mem = aligned_alloc(64, sizeof(*mem));
	memset(mem, 0, sizeof(*mem) - NET_RING_BYTES);
	begin = word[0] & ~7u;
	fill(mem->data, begin, in, n);

	r = (struct net_ring){ .mem = mem, .pos = begin, .seen = begin };
	atomic_store(&mem->head, begin + word[1]);
	while ((len = net_ring_peek(&r, &from)) > 0) {
		check(len <= (int)NET_RING_FRAME_MAX);
		check(from >= mem->data && from + len <= mem->data + NET_RING_BYTES);
		memcpy(copy, from, (size_t)len);
		net_ring_take(&r, (uint32_t)len);
		check(r.pos - begin <= word[1]);
	}
	check(len < 0 || r.pos == begin + word[1]);
	net_ring_release(&r);

	r = (struct net_ring){ .mem = mem, .pos = begin, .seen = begin - NET_RING_BYTES };
	atomic_store(&mem->tail, begin - word[1]);
	len = 1 + (int)(word[2] % NET_RING_FRAME_MAX);
	rc = net_ring_room(&r, (uint32_t)len, &to);
	if (rc > 0) {
		check(to >= mem->data && to + len <= mem->data + NET_RING_BYTES);
		check(r.pos - begin + (uint32_t)len + 4 + word[1] <= NET_RING_BYTES);
		memset(to, 0xa5, (size_t)len);
		net_ring_put(&r, (uint32_t)len);
		net_ring_publish(&r);
	}
	return 0;
}
