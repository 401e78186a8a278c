/*
 * guest_end: the guest's end of the helper: frames from it and to it.
 *
 * There are two ways to it, and the monitor says which: rings of frames between the two processes
 * (ring_end.c), or the card's own queues in the guest's memory, where that is shared
 * (queue_end.c). Nothing here blocks. One thread.
 */
#ifndef BANTAM_GUEST_END_H
#define BANTAM_GUEST_END_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_END_POLLS 3u
#define GUEST_END_BATCH 64u /* frames until the host's sockets are looked at again */

/* A frame of the guest, which may change it at any time. */
typedef void (*guest_frame_fn)(const uint8_t *frame, size_t len_bytes);

struct guest_end {
	/* False: there is no room now. A frame that the guest can never take is gone. */
	bool (*send)(const uint8_t *frame, size_t len_bytes);
	/* What was sent and taken is shown to the other end. */
	void (*publish)(void);
	/* At most GUEST_END_BATCH frames; true: there may be more. */
	bool (*take)(guest_frame_fn fn);
	/* Are there frames? Cheap; NULL: rest is. */
	bool (*ready)(void);
	/* We are going to sleep: the descriptors of polls will tell. False: no, there are frames. */
	bool (*rest)(void);
	/* What to poll; returns how many, at most GUEST_END_POLLS. */
	unsigned (*polls)(struct pollfd *out);
	/* They were polled. False: the monitor is gone, or talks nonsense. */
	bool (*polled)(const struct pollfd *p);
};

/* Returns NULL and errno if that cannot be. The descriptors are the end's from now on. */
const struct guest_end *ring_end_open(int rings_fd, int bell_fd, int peer_bell_fd);
const struct guest_end *queue_end_open(int vhost_fd);

#endif
