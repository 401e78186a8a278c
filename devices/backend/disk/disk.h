/*
 * disk: what virtio-blk asks of an image, whatever its format. For devices/virtio/blk; formats
 * include disk_impl.h.
 *
 * Asynchronous: submit takes a request, commit starts all that were taken, and
 * done is called once for each from inside commit, reap or drain, never from
 * submit. What finishes at once (page-cache hits) is done before commit
 * returns; for the rest disk.wake is called in the loop's thread, and answers by
 * taking its own lock and calling reap.
 *
 * Offsets and lengths are bytes, multiples of 512, already checked against
 * size_bytes by the caller. Thread: the loop's, for every function (the builder
 * before the loop runs); the caller serialises by its device's lock.
 */
#ifndef BANTAM_DISK_H
#define BANTAM_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/backend/disk/aio.h"
#include "devices/backend/store/store.h"
#include "vmm/core/err.h"
#include "vmm/core/loop.h"

enum disk_op { DISK_READ, DISK_WRITE, DISK_FLUSH, DISK_DISCARD, DISK_WRITE_ZEROES };

struct disk_req;
/* result: 0 or -errno. A read past the end of a file that shrank is -EIO. May submit again. */
typedef void (*disk_done_fn)(struct disk_req *req, int result);

/* The caller owns it (and iov) until done; no field above the line changes meanwhile. */
struct disk_req {
	enum disk_op op;
	bool unmap;	    /* WRITE_ZEROES: may deallocate */
	bool durable;	    /* WRITE: on stable storage when done */
	uint64_t offset;    /* bytes */
	uint64_t len_bytes; /* READ, WRITE: the sum of iov; FLUSH: 0 */
	const struct iovec *iov;
	unsigned niov;
	disk_done_fn done;
	/* the backend's own scratch from here */
	struct aio_op aio;
	struct iovec *rest; /* after a short transfer: what is left */
	unsigned step;
	unsigned retries;
	void *backend[2];
};

struct disk;

struct disk_ops {
	/* Create rings and the like now: optional, the first submit does it otherwise. */
	int (*start)(struct disk *disk, struct err *err);
	void (*submit)(struct disk *disk, struct disk_req *req);
	/* Start what submit held back: one system call for a batch. */
	void (*commit)(struct disk *disk);
	void (*reap)(struct disk *disk);
	/* Block until no request is in flight. */
	void (*drain)(struct disk *disk);
	/* Do other threads work on requests? Then whoever waits had better sleep than poll and take
	 * their CPU from them. NULL: never. */
	bool (*busy_elsewhere)(const struct disk *disk);
	/* Ask the host for the size again: 1: size_bytes has changed, 0: not, -errno. */
	int (*refresh)(struct disk *disk, struct err *err);
	/* No request is in flight. */
	void (*close)(struct disk *disk);
};

struct disk {
	const struct disk_ops *ops;
	enum disk_engine engine; /* that serves it; as configured until started */
	uint64_t size_bytes;	 /* multiple of 512 */
	uint32_t block_bytes;	 /* logical block: 512 .. 4096; smaller requests work, slowly */
	uint32_t physical_bytes; /* what the host writes without read-modify-write */
	uint32_t
		discard_bytes; /* parts of such blocks a discard leaves as they are; a power of two */
	bool readonly;
	bool can_discard;
	bool can_write_zeroes;
	/*
	 * -errno once the host has failed to write what it had in its page cache. It says so once and
	 * then takes the pages for clean, so a later flush would succeed with data lost: every flush,
	 * and every durable write, fails with this from then on. 0 for good with O_DIRECT, where
	 * nothing waits in the page cache.
	 */
	int lost_writes;
	/* Set by the owner before the first submit: completions wait, call reap. The loop's
	 * thread, no lock held. */
	void (*wake)(void *opaque);
	void *wake_opaque;
};

struct disk_config {
	const char *path;
	enum store_format format; /* AUTO: as store_open finds it */
	bool readonly;
	bool direct;  /* O_DIRECT */
	bool dry_run; /* as store_options has it; no requests */
	enum disk_engine engine;
	struct loop *loop;
};

/* Opens, locks (against a second writer; QEMU's locks are respected), checks. */
int disk_open(const struct disk_config *cfg, struct disk **out, struct err *err);

static inline void disk_close(struct disk *disk)
{
	if (disk)
		disk->ops->close(disk);
}

#endif
