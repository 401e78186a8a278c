/*
 * guest_end: the helper's side towards the guest: frames from and to the guest.
 *
 * There are two ways, and the monitor chooses one: rings of frames between the two processes
 * (ring_end.c), or the card's own queues in the guest's memory, if that is shared
 * (queue_end.c). Nothing here blocks. One thread.
 */
#ifndef BANTAM_GUEST_END_H
#define BANTAM_GUEST_END_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_END_POLLS 3u
#define GUEST_END_BATCH 64u /* frames between two polls of the host's sockets */

/* Handles a frame of the guest. The guest may change the frame at any time. */
typedef void (*guest_frame_fn)(const uint8_t *frame, size_t len_bytes);

struct guest_end {
	/*
	 * Returns false if there is no room now; then a part of the frame may be with the guest, and
	 * the caller sends the same frame next, or calls cut. Drops a frame that the guest can never
	 * take.
	 */
	bool (*send)(const uint8_t *frame, size_t len_bytes);
	/* The frame that was refused does not come again: ends its part. NULL: there are no parts. */
	void (*cut)(void);
	/* Makes the frames sent and taken since the last call visible to the other end. */
	void (*publish)(void);
	/* Passes at most GUEST_END_BATCH frames to fn. Returns true if there may be more. */
	bool (*take)(guest_frame_fn fn);
	/* Returns true if there are frames. Cheap. NULL: the busy loop is not used. */
	bool (*ready)(void);
	/* Prepares for sleep: now the descriptors of polls wake us. False: there are frames. */
	bool (*rest)(void);
	/* Writes the descriptors to poll. Returns how many, at most GUEST_END_POLLS. */
	unsigned (*polls)(struct pollfd *out);
	/* Handles the polled descriptors. False: the monitor is gone or broke the protocol. */
	bool (*polled)(const struct pollfd *p);
};

/* Both take ownership of the descriptors. Return NULL and errno on failure. */
const struct guest_end *ring_end_open(int rings_fd, int bell_fd, int peer_bell_fd);
const struct guest_end *queue_end_open(int vhost_user_fd);

#endif
