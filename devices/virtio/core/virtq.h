/*
 * virtio/virtq: the sole reader and writer of split virtqueues (virtio 1.2, section 2.7).
 *
 * The ring lies in guest memory and is hostile: virtq_pop copies each descriptor once, checks it
 * (index, loops, count, direction order, range), and then uses only the copy. A ring that breaks a
 * rule stays broken: every later pop returns -EPROTO until a reset. Thread: any, with the device's
 * lock held.
 *
 * Where the specification leaves a choice, these break a ring: a descriptor of length 0 (so every
 * iovec of a chain has at least one byte); a direct chain of more descriptors than the queue has;
 * an indirect table of more than VIRTQ_MAX_SIZE (Linux makes tables longer than the queue); a
 * buffer that is not wholly in one memory region; a head that the driver makes available again
 * before the device has returned it.
 */
#ifndef BANTAM_VIRTIO_VIRTQ_H
#define BANTAM_VIRTIO_VIRTQ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/core/mem.h"

#define VIRTQ_MAX_SIZE 1024u

/* One popped chain: readable parts (the device reads them) first, then writable ones. */
struct chain {
	uint16_t head;
	uint16_t nreadable;
	uint16_t nwritable;
	uint64_t readable_bytes; /* sums; each < 2^32 (a longer chain breaks the ring) */
	uint64_t writable_bytes;
	struct iovec *iov; /* the caller's array: nreadable + nwritable used */
};

/*
 * What the driver has set up and how far its ring was served. A snapshot will save exactly this;
 * the wiring (host pointers, copies of what lies in guest memory) is in struct virtq and follows
 * from it. For a queue that is served elsewhere (by the kernel or a vhost-user daemon), the server
 * holds the positions.
 */
struct virtq_state {
	uint16_t size;	      /* entries, a power of two, as the driver chose (2.7) */
	bool ready;	      /* the driver has enabled it (4.1.4.3, 4.2.2) */
	bool event_idx;	      /* EVENT_IDX is negotiated (2.7.7, 2.7.10); final at DRIVER_OK */
	bool broken;	      /* the driver broke a rule: no pop until a reset (2.1.2) */
	bool kicks_off;	      /* virtq_disable_kicks was called last */
	bool signalled_valid; /* signalled_used is less than 2^16 entries old */
	gpa_t desc;	      /* descriptor table (2.7.5) */
	gpa_t avail;	      /* driver area (2.7.6) */
	gpa_t used;	      /* device area (2.7.8) */
	/* Positions count entries, modulo 2^16, as the ring's own indices do. */
	uint16_t next_avail;	 /* position of the next entry to pop */
	uint16_t next_used;	 /* position of the next entry to return */
	uint16_t signalled_used; /* next_used at the last interrupt decision (2.7.7) */
	uint16_t avail_event;	 /* as last published (2.7.10) */
	uint64_t in_flight[VIRTQ_MAX_SIZE / 64]; /* bit n: head n is with the device */
};

struct virtq {
	uint16_t size_max; /* the device's limit, a power of two */
	/* private to virtq.c from here */
	uint16_t avail_idx; /* the driver's index as last read */
	uint16_t last_head; /* the head that unpop gives back, if can_unpop */
	bool can_unpop;
	const struct mem *mem;
	void *desc_host; /* the three parts of the ring, if s.ready */
	void *avail_host;
	void *used_host;
	const char *broken_why;
	/* The transport sets size and addresses before it enables the queue. */
	struct virtq_state s;
};

/*
 * Resolve the ring's addresses and start at index 0. 0, or -EINVAL if the size is 0, no power of
 * two or above size_max, or a part is misaligned or outside memory. mem outlives the queue.
 */
int virtq_enable(struct virtq *q, const struct mem *mem, bool event_idx);
/*
 * Host addresses of the three parts of an enabled queue, for a server elsewhere (the kernel or a
 * vhost-user daemon).
 */
void virtq_host_parts(const struct virtq *q, void **desc, void **avail, void **used);
/* Back to the state before enabling: no addresses, size = size_max. */
void virtq_reset(struct virtq *q);

/*
 * Returns 1 with *chain filled, 0 if the queue is empty or not enabled, -EPROTO if it is broken
 * (q->broken_why says why). A chain of more than iov_max descriptors breaks the ring, so iov_max is
 * at least what the device told the driver.
 */
int virtq_pop(struct virtq *q, struct chain *chain, struct iovec *iov, unsigned iov_max);
/* Returns true if a chain waits, as far as the avail index says: a pop would not return 0. */
bool virtq_has_more(struct virtq *q);
/*
 * Give back the last popped chain, as if it was never popped. Allowed once after a pop, before the
 * next pop or push.
 */
void virtq_unpop(struct virtq *q);

/* Return a popped chain to the driver. Does nothing if the queue was reset meanwhile. */
void virtq_push(struct virtq *q, uint16_t head, uint32_t written_bytes);
/*
 * The same in two steps, for buffers that the driver must see together (a frame in several, section
 * 5.1.6.4) or that are cheaper to return in a batch: put each, then publish.
 */
void virtq_put(struct virtq *q, uint16_t head, uint32_t written_bytes);
void virtq_publish(struct virtq *q);
/*
 * Called after one or more pushes. Returns true if the driver wants an interrupt; false if nothing
 * was pushed since the last call.
 */
bool virtq_wants_interrupt(struct virtq *q);
/*
 * Take over a ring whose previous server (a vhost-user daemon) has died. virtq_pop returns the
 * chains that wait, as for any queue; virtq_pop_outstanding returns the chains that the dead server
 * took and did not return, in no order, one at a time: push each before the next call. See
 * virtq_stranded.h for how they are found. The caller interrupts the driver afterwards. 0, -ENOMEM,
 * or -EPROTO if the ring is broken.
 */
int virtq_take_over(struct virtq *q);
int virtq_pop_outstanding(struct virtq *q, struct chain *chain, struct iovec *iov,
			  unsigned iov_max);

/*
 * Kick suppression. Disable before draining, enable when empty. enable returns true if chains
 * arrived meanwhile: the caller pops again. A device that never disables kicks need not enable
 * them.
 */
void virtq_disable_kicks(struct virtq *q);
bool virtq_enable_kicks(struct virtq *q);

/* Copy between a flat buffer and a chain's iovecs; returns the bytes copied. */
size_t virtq_chain_read(const struct chain *chain, uint64_t off, void *dst, size_t len_bytes);
size_t virtq_chain_write(const struct chain *chain, uint64_t off, const void *src,
			 size_t len_bytes);

#endif
