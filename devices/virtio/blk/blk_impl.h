/*
 * blk/blk_impl: what the parts of virtio-blk share, from the top down: device.c (--disk), life.c
 * (configuration space, creation, destruction), vhost_user.c, blk.c (queues), and request.c (requests
 * and their parts). Outside this folder only tests include this header. Every function is called in
 * the device's loop or with its lock held, as blk.c says; the loop callbacks take the lock.
 */
#ifndef BANTAM_BLK_IMPL_H
#define BANTAM_BLK_IMPL_H

#include <pthread.h>

#include "devices/backend/disk/disk.h"
#include "devices/virtio/blk/req.h"
#include "devices/virtio/core/virtio.h"
#include "vmm/core/counter.h"
#include "vmm/core/ratelimit.h"
#include "vmm/core/turn.h"

#define BLK_F_SEG_MAX 2
#define BLK_F_RO 5
#define BLK_F_BLK_SIZE 6
#define BLK_F_FLUSH 9
#define BLK_F_TOPOLOGY 10
#define BLK_F_CONFIG_WCE 11
#define BLK_F_MQ 12
#define BLK_F_DISCARD 13
#define BLK_F_WRITE_ZEROES 14

/* Data segments that a request holds without a second allocation. */
#define INLINE_IOVS 4u

/*
 * The most that one operation of the disk moves: if it copies, and if it does not; and zeroes, which
 * the host may have to write.
 */
#define BLK_PART_BYTES TURN_BYTES
#define BLK_DIRECT_PART_BYTES (2u << 20)
#define BLK_ZERO_PART_BYTES (16u << 20)
/*
 * While so much is with the disk, nothing more is started: the rest waits in the ring. An end or a
 * reset waits for no more than this. It is more than any disk needs to reach its full speed.
 */
#define BLK_FLIGHT_BYTES (64u << 20)

struct blk;

/*
 * What the guest has read, or written: requests that succeeded. A latency is the time from the moment
 * when the batch that has the request was begun until the batch that answers it; less than 1 us
 * counts as 1.
 */
struct blk_count {
	struct counter bytes, ops;
	struct counter sum_us, min_us, max_us; /* latencies; 0 while there was no request */
};

struct blk_req {
	struct disk_req disk; /* first; of a request that is cut, all of it */
	struct blk *blk;
	struct blk_req *next;  /* in a line, or in blk.free */
	struct blk_req *whole; /* of a part: the request that was cut; NULL: this is a request */
	uint8_t *status_at;
	uint64_t begun_ns;
	uint32_t written_bytes; /* bytes that success writes, with the status */
	uint16_t head;
	uint8_t queue;
	uint8_t status;	  /* BLK_S_OK, or what has failed */
	bool cut;	  /* a read or write in parts, which are blk_reqs of their own */
	bool in_line;	  /* a part is still to be started */
	bool flush_after; /* write-through: flush before the request is done */
	enum blk_what what;
	struct blk_range *range; /* DISCARD, ZERO: the ranges that are left */
	unsigned nranges;
	/* if cut: parts that are with the disk; bytes that no part has yet, and where they begin in disk.iov */
	unsigned nparts;
	unsigned iov_at;
	uint64_t iov_skip, todo_bytes;
	struct iovec *iov; /* allocated, or NULL: inline_iov */
	struct iovec inline_iov[INLINE_IOVS];
};

/*
 * A snapshot will save exactly this beside virtio_state. Requests are not part of it: the snapshot
 * first waits for them, as a reset does.
 */
struct blk_state {
	bool writeback; /* cache mode; false: a write is done when it is on the medium (5.2.5.1) */
};

/* Requests with a part to start. */
struct blk_line {
	struct blk_req *first, *last;
};

struct blk {
	struct virtio_device vdev; /* first; vdev.dev is the device */
	struct blk_state s;
	struct disk *disk;
	struct blk_req *free;
	unsigned inflight;     /* requests that are popped and not answered */
	uint64_t flight_bytes; /* reads and writes with the disk, at most about BLK_FLIGHT_BYTES */
	unsigned nranges;      /* parts of discards and zeroes with the disk */
	unsigned nwaiting;     /* in both lines */
	struct blk_line cut, ranges;
	struct turn turn;
	bool aborting;	      /* a reset waits for inflight to become 0 */
	bool discard;	      /* offered */
	uint32_t pushed;      /* queues with pushes since their last interrupt decision */
	uint32_t next_queues; /* that blk_on_again serves */
	uint32_t full;	      /* queues that wait until less is in flight; their kicks are off */
	unsigned first;	      /* the queue that the next turn serves first */
	uint32_t polled;      /* queues whose kicks are off while the loop polls them */
	struct loop_poller poller;
	struct loop_watch *again;
	/* of reads and writes together; a reset does not refill it. With a group the group's counts */
	struct ratelimit limit;
	struct ratelimit_group *group;
	uint32_t limited; /* queues that wait for limit_timer; their kicks are off */
	struct loop_watch *limit_timer;
	uint64_t now_ns; /* the time of this batch; 0: the clock was not read for it yet */
	struct blk_count read, written;
	uint16_t queue_size;
	struct iovec *scratch; /* queue_size iovecs of the chain that is being parsed */
	char serial[BLK_ID_BYTES + 1];
	char *what; /* in a dry run: the disk's file and format; else NULL */
};

static inline struct blk *blk_of(struct virtio_device *vdev)
{
	return (struct blk *)vdev;
}

/* virtio_class.kick. */
void blk_kick(struct virtio_device *vdev, unsigned queue);
/* Loop callbacks: the next turn (turn_leave); the limit lets more pass; the disk has completions. */
void blk_on_again(void *opaque);
void blk_on_limit_timer(void *opaque);
void blk_on_wake(void *opaque);
/* loop_poller's functions. */
bool blk_poll(void *opaque);
void blk_poll_idle(void *opaque);

/* --- blk/request.c ----------------------------------------------------------------- */

/* What the driver may ask for now. */
void blk_limits(const struct blk *blk, struct blk_limits *limits);
/* An empty request, or NULL. The caller fills it from the chain and gives it to blk_start. */
struct blk_req *blk_req_get(struct blk *blk);
/*
 * From here on the request is answered by itself. Starts it, or puts it into the line if it is of
 * several parts. A status that is not BLK_S_OK is the answer.
 */
void blk_start(struct blk_req *req);
/* Starts parts of the waiting requests, as many as the turn allows. Returns true if it started any. */
bool blk_start_waiting(struct blk *blk);
/* Returns true if the turn's end keeps a waiting request from starting. */
bool blk_waits_for_turn(struct blk *blk);
/* Returns true if there is room for another request of any kind. */
bool blk_has_room(const struct blk *blk);
/* The device ends or is reset: forget the requests that have no part with the disk. */
void blk_drop_waiting(struct blk *blk);
/* Free the memory of requests; none is in flight. */
void blk_free_requests(struct blk *blk);
/* Return a chain; an interrupt decision has to follow. */
void blk_push(struct blk *blk, unsigned queue, uint16_t head, uint32_t written_bytes);
uint64_t blk_batch_time(struct blk *blk);

/*
 * blk/vhost_user.c: a disk that the vhost-user daemon at path serves. The caller sets the device's
 * type.
 */
int blk_vhost_user_create(const struct device_env *env, const char *option, const char *path,
			  unsigned nqueues, uint16_t queue_size, struct device **out,
			  struct err *err);

#endif
