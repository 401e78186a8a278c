/*
 * net/ring: frames through memory that two processes share, one ring for each direction.
 *
 * One producer, one consumer, each a single thread. A record is its length (32 bits) and the frame
 * in one piece, padded to 8 bytes; if it does not fit before the end of the ring, a skip record
 * sends the consumer back to the start. Neither end trusts the other: each reads the other's values
 * once and checks them against the ring's size. A value that no correct end would write is -EPROTO,
 * after which the ring must not be used. An end that finds nothing to do sets a flag in the ring,
 * and the other end then has to ring its bell; while both are busy there are no system
 * calls.
 */
#ifndef BANTAM_NET_RING_H
#define BANTAM_NET_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define NET_RING_BYTES (256u << 10)
#define NET_RING_FRAME_MAX 65600u /* no frame is longer (but see NET_FRAME_MAX) */

/*
 * The layout of the shared memory, zeroed at first. Each cache line has one writer, except for
 * flags.
 */
struct net_ring_mem {
	_Atomic uint32_t head;		      /* bytes ever produced, modulo 2^32 */
	_Alignas(64) _Atomic uint32_t tail;   /* bytes ever consumed */
	_Alignas(64) _Atomic uint32_t hungry; /* the consumer waits for frames */
	_Atomic uint32_t stuck;		      /* the producer waits for room */
	_Alignas(64) uint8_t data[NET_RING_BYTES];
};

/* One end's own view; zeroed except for mem. */
struct net_ring {
	struct net_ring_mem *mem;
	uint32_t pos;  /* our position; the other end sees it after publish or release */
	uint32_t seen; /* the other end's position, as last read */
};

/* Both directions, in one sealed memfd. */
struct net_ring_pair {
	struct net_ring_mem to_helper, from_helper;
};

/* Create or map a pair. 0 or -errno. The caller unmaps it. */
int net_ring_create(int *fd_out, struct net_ring_pair **out);
int net_ring_map(int fd, struct net_ring_pair **out);

/*
 * Producer: finds room for len_bytes (1 to NET_RING_FRAME_MAX). Returns 1 and the place in *out, 0
 * if the ring is full, or -EPROTO.
 */
int net_ring_room(struct net_ring *r, uint32_t len_bytes, uint8_t **out);
/* The bytes written there are a frame of len_bytes. */
void net_ring_put(struct net_ring *r, uint32_t len_bytes);
/* Shows the consumer what was put. Returns true if the consumer's bell has to be rung. */
bool net_ring_publish(struct net_ring *r);
/* After net_ring_room returned 0. Returns true if the consumer will ring; false: try again. */
bool net_ring_await_room(struct net_ring *r);

/*
 * Consumer: returns the length of the next frame, which stays at *out until it is released; 0:
 * none; or -EPROTO.
 */
int net_ring_peek(struct net_ring *r, const uint8_t **out);
/* The consumer is done with that frame. */
void net_ring_take(struct net_ring *r, uint32_t len_bytes);
/*
 * Gives the room of taken frames to the producer. Returns true if the producer's bell has to be
 * rung.
 */
bool net_ring_release(struct net_ring *r);
/*
 * After net_ring_peek returned 0. Returns true if the producer will ring; false: there are frames
 * now.
 */
bool net_ring_await_frames(struct net_ring *r);
/* Returns true if there is a frame to peek at. Cheap. */
static inline bool net_ring_has_frames(const struct net_ring *r)
{
	return atomic_load_explicit(&r->mem->head, memory_order_acquire) != r->pos;
}

#endif
