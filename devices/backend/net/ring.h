/*
 * net/ring: frames through memory that two processes share, one ring for each direction.
 *
 * One producer, one consumer, each a single thread. A record is its length (32 bits) and the
 * frame in one piece, padded to 8 bytes; where it would not fit before the end of the ring,
 * a skip record sends the consumer back to its start. Neither end trusts the other: what
 * the other writes is read once and checked against the ring's size, and anything that a
 * well-meaning end would not write is -EPROTO, after which the ring is not to be used. An
 * end that finds nothing to do says so in the ring, and the other then has to ring its bell
 * (an eventfd); while both are busy there are no system calls.
 */
#ifndef BANTAM_NET_RING_H
#define BANTAM_NET_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define NET_RING_BYTES (256u << 10)
#define NET_RING_FRAME_MAX 65600u /* no frame is longer (but see NET_FRAME_MAX) */

/* As it lies in the shared memory, zeroed at first. Each line has one writer. */
struct net_ring_mem {
	_Atomic uint32_t head;		      /* bytes ever produced, modulo 2^32 */
	_Alignas(64) _Atomic uint32_t tail;   /* … and consumed */
	_Alignas(64) _Atomic uint32_t hungry; /* the consumer waits for frames */
	_Atomic uint32_t stuck;		      /* the producer waits for room */
	_Alignas(64) uint8_t data[NET_RING_BYTES];
};

/* One end's own view; zeroed but for mem. */
struct net_ring {
	struct net_ring_mem *mem;
	uint32_t pos;  /* our end; the other one sees it after publish or release */
	uint32_t seen; /* the other end, as it was when we looked */
};

/* Both directions: a sealed memfd, for to_helper and from_helper. */
struct net_ring_pair {
	struct net_ring_mem to_helper, from_helper;
};

/* 0, or -errno. The mapping is unmapped by the caller. */
int net_ring_create(int *fd_out, struct net_ring_pair **out);
int net_ring_map(int fd, struct net_ring_pair **out);

/* Producer: where len_bytes (1 to NET_RING_FRAME_MAX) may be written. 0: full. -EPROTO. */
int net_ring_room(struct net_ring *r, uint32_t len_bytes, uint8_t **out);
/* What was written there is a frame of that length. */
void net_ring_put(struct net_ring *r, uint32_t len_bytes);
/* The consumer sees what was put. true: its bell has to be rung. */
bool net_ring_publish(struct net_ring *r);
/* After room said full: true: the consumer will ring; false: try again. */
bool net_ring_await_room(struct net_ring *r);

/* Consumer: length of the next frame, at *out until it is released. 0: none. -EPROTO. */
int net_ring_peek(struct net_ring *r, const uint8_t **out);
/* Done with that frame. */
void net_ring_take(struct net_ring *r, uint32_t len_bytes);
/* The producer may use the room of what was taken. true: its bell has to be rung. */
bool net_ring_release(struct net_ring *r);
/* After peek said none: true: the producer will ring; false: there is something now. */
bool net_ring_await_frames(struct net_ring *r);
/* Is there something to peek at? Cheap. */
static inline bool net_ring_has_frames(const struct net_ring *r)
{
	return atomic_load_explicit(&r->mem->head, memory_order_acquire) != r->pos;
}

#endif
