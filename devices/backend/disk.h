/*
 * disk: what virtio-blk asks of an image, whatever its format.
 *
 * Asynchronous: submit returns at once and done is called later, once, in the
 * thread that runs disk_config.loop (never from inside submit). Offsets and lengths are
 * bytes, multiples of 512, already checked against size_bytes by the caller.
 * Thread: submit and close belong to the loop's thread, or to whoever holds the owning
 * device's lock.
 */
#ifndef BANTAM_DISK_H
#define BANTAM_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/core/err.h"
#include "vmm/core/loop.h"

enum disk_op { DISK_READ, DISK_WRITE, DISK_FLUSH, DISK_DISCARD, DISK_WRITE_ZEROES };

struct disk_req;
/* result: 0 or -errno. A short read past the end of a shrunk file is -EIO. */
typedef void (*disk_done_fn)(struct disk_req *req, int result);

/* The caller owns it (and iov) until done; no field changes meanwhile. */
struct disk_req {
	enum disk_op op;
	bool unmap;		/* WRITE_ZEROES: may deallocate */
	uint64_t offset;	/* bytes */
	uint64_t len_bytes;	/* READ, WRITE: the sum of iov */
	const struct iovec *iov;
	unsigned niov;
	disk_done_fn done;
	void *backend[4];	/* the backend's own scratch */
};

struct disk;

struct disk_ops {
	void (*submit)(struct disk *disk, struct disk_req *req);
	/* Submissions may be held back until this: one system call for a batch. */
	void (*commit)(struct disk *disk);
	/* No request is in flight. */
	void (*close)(struct disk *disk);
};

struct disk {
	const struct disk_ops *ops;
	const char *engine;	/* "io_uring", "threads" */
	uint64_t size_bytes;	/* multiple of 512 */
	uint32_t block_bytes;	/* logical block: 512 or 4096 */
	bool readonly;
	bool can_discard;
	bool can_write_zeroes;
	/* Called in the loop's thread when size_bytes has changed; may be NULL. */
	void (*resized)(struct disk *disk, void *opaque);
	void *resized_opaque;
};

struct disk_config {
	const char *path;
	bool readonly;
	bool direct;		/* O_DIRECT */
	unsigned depth;		/* requests in flight at most */
	const char *engine;	/* "auto", "io_uring", "threads" */
	struct loop *loop;
};

/* Opens, locks (against a second writer; QEMU's locks are respected), checks. */
int disk_raw_open(const struct disk_config *cfg, struct disk **out, struct err *err);

static inline void disk_close(struct disk *disk)
{
	if (disk)
		disk->ops->close(disk);
}

#endif
