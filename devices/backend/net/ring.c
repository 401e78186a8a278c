/* net/ring: see net/ring.h. */
#include "devices/backend/net/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MASK (NET_RING_BYTES - 1)
#define LEN_BYTES 4u
#define SKIP UINT32_MAX

int net_ring_map(int fd, struct net_ring_pair **out)
{
	void *p = mmap(NULL, sizeof(**out), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	*out = p;
	return 0;
}

int net_ring_create(int *fd_out, struct net_ring_pair **out)
{
	int fd = memfd_create("net-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING), rc = 0;

	if (fd < 0)
		return -errno;
	/* Sealed: the other end cannot truncate the memory under us. */
	if (ftruncate(fd, sizeof(**out)) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		rc = -errno;
	if (!rc)
		rc = net_ring_map(fd, out);
	if (rc) {
		close(fd);
		return rc;
	}
	*fd_out = fd;
	return 0;
}

static uint32_t record_bytes(uint32_t len)
{
	return (LEN_BYTES + len + 7) & ~7u;
}

/*
 * Lengths are aligned: each is read in one access, and the other end cannot change it after the
 * check.
 */
static _Atomic uint32_t *length_at(struct net_ring *r, uint32_t off)
{
	return (_Atomic uint32_t *)(void *)(r->mem->data + off);
}

/* --- producer ----------------------------------------------------------------------- */

int net_ring_room(struct net_ring *r, uint32_t len_bytes, uint8_t **out)
{
	uint32_t need = record_bytes(len_bytes), off = r->pos & MASK;
	uint32_t skip = need > NET_RING_BYTES - off ? NET_RING_BYTES - off : 0;

	if (NET_RING_BYTES - (r->pos - r->seen) < skip + need) {
		uint32_t tail = atomic_load_explicit(&r->mem->tail, memory_order_acquire);

		if (r->pos - tail > NET_RING_BYTES)
			return -EPROTO;
		r->seen = tail;
		if (NET_RING_BYTES - (r->pos - tail) < skip + need)
			return 0;
	}
	if (skip) {
		atomic_store_explicit(length_at(r, off), SKIP, memory_order_relaxed);
		r->pos += skip;
	}
	*out = r->mem->data + (r->pos & MASK) + LEN_BYTES;
	return 1;
}

void net_ring_put(struct net_ring *r, uint32_t len_bytes)
{
	atomic_store_explicit(length_at(r, r->pos & MASK), len_bytes, memory_order_relaxed);
	r->pos += record_bytes(len_bytes);
}

/* Store our index, then look at the other end's flag. The other end does the reverse (await). */
static bool advance(_Atomic uint32_t *index, uint32_t pos, _Atomic uint32_t *flag)
{
	atomic_store_explicit(index, pos, memory_order_release);
	atomic_thread_fence(memory_order_seq_cst);
	return atomic_load_explicit(flag, memory_order_relaxed) && atomic_exchange(flag, 0);
}

static bool await(_Atomic uint32_t *index, uint32_t old, _Atomic uint32_t *flag)
{
	atomic_store_explicit(flag, 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(index, memory_order_relaxed) == old)
		return true;
	atomic_store_explicit(flag, 0, memory_order_relaxed);
	return false;
}

bool net_ring_publish(struct net_ring *r)
{
	return advance(&r->mem->head, r->pos, &r->mem->hungry);
}

bool net_ring_await_room(struct net_ring *r)
{
	return await(&r->mem->tail, r->seen, &r->mem->stuck);
}

/* --- consumer ----------------------------------------------------------------------- */

int net_ring_peek(struct net_ring *r, const uint8_t **out)
{
	for (unsigned skips = 0; skips < 2; skips++) {
		uint32_t off = r->pos & MASK, have, len;

		if (r->pos == r->seen)
			r->seen = atomic_load_explicit(&r->mem->head, memory_order_acquire);
		have = r->seen - r->pos;
		if (!have)
			return 0;
		if (have > NET_RING_BYTES || have % 8)
			return -EPROTO;
		len = atomic_load_explicit(length_at(r, off), memory_order_relaxed);
		if (len == SKIP) {
			if (have < NET_RING_BYTES - off)
				return -EPROTO;
			r->pos += NET_RING_BYTES - off;
			continue;
		}
		if (!len || len > NET_RING_FRAME_MAX || record_bytes(len) > have ||
		    record_bytes(len) > NET_RING_BYTES - off)
			return -EPROTO;
		*out = r->mem->data + off + LEN_BYTES;
		return (int)len;
	}
	return -EPROTO;
}

void net_ring_take(struct net_ring *r, uint32_t len_bytes)
{
	r->pos += record_bytes(len_bytes);
}

bool net_ring_release(struct net_ring *r)
{
	return advance(&r->mem->tail, r->pos, &r->mem->stuck);
}

bool net_ring_await_frames(struct net_ring *r)
{
	return await(&r->mem->head, r->pos, &r->mem->hungry);
}
