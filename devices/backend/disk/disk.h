/*
 * disk: what virtio-blk requires of an image, whatever its format. For devices/virtio/blk; formats
 * include disk_impl.h.
 *
 * Asynchronous: submit takes a request, commit starts all that were taken, and done is called once
 * for each from inside commit, reap or drain, never from submit. Requests that finish at once
 * (page-cache hits) are done before commit returns. For the rest, the loop's thread calls
 * disk.wake, which takes the device's lock and calls reap.
 *
 * Offsets and lengths are bytes, multiples of 512, which the caller has checked against size_bytes.
 * Thread: the loop's, for every function (the builder's before the loop runs); the caller
 * serialises calls by its device's lock.
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
#include "vmm/core/thread.h"

enum disk_op { DISK_READ, DISK_WRITE, DISK_FLUSH, DISK_DISCARD, DISK_WRITE_ZEROES };

struct disk_req;
/* result: 0 or -errno. A read past the end of a file that has shrunk is -EIO. May submit again. */
typedef void (*disk_done_fn)(struct disk_req *req, int result);

/*
 * The caller owns the request (and iov) until done; the fields above aio do not change meanwhile.
 */
struct disk_req {
	enum disk_op op;
	bool unmap;	    /* WRITE_ZEROES: may deallocate */
	bool durable;	    /* WRITE: on stable storage when done */
	uint64_t offset;    /* bytes */
	uint64_t len_bytes; /* READ, WRITE: the sum of iov; FLUSH: 0 */
	const struct iovec *iov;
	unsigned niov;
	disk_done_fn done;
	/* scratch space of the back end from here on */
	struct aio_op aio;
	struct iovec *rest; /* after a short transfer: what is left */
	unsigned step;
	unsigned retries;
	void *backend[2];
};

struct disk;

struct disk_ops {
	/* Creates rings and the like now. Optional: otherwise the first submit does it. */
	int (*start)(struct disk *disk, struct err *err);
	/*
	 * Optional: starts all that any later request may need, threads too. From then on no request makes a ring
	 * or starts a thread; what could not be made now fails the requests that need it.
	 */
	void (*prepare)(struct disk *disk);
	void (*submit)(struct disk *disk, struct disk_req *req);
	/* Starts what submit has queued: one system call for a batch. */
	void (*commit)(struct disk *disk);
	void (*reap)(struct disk *disk);
	/* Blocks until no request is in flight. */
	void (*drain)(struct disk *disk);
	/*
	 * Returns true if other threads work on requests. A waiting caller should then sleep,
	 * because polling takes CPU time from them. NULL: never.
	 */
	bool (*busy_elsewhere)(const struct disk *disk);
	/*
	 * Reads the size from the host again. Returns 1 if size_bytes has changed, 0 if not, or
	 * -errno.
	 */
	int (*refresh)(struct disk *disk, struct err *err);
	/*
	 * Makes the image size_bytes long: a multiple of 512, at most INT64_MAX, not less than now.
	 * Only the size of a block device is read again. In any case *now, the size that the caller
	 * knows, becomes the image's; the caller then sets disk.size_bytes under its lock, and the
	 * new part reads as zeroes. 0 or -errno; err does not name the disk. NULL: this disk never changes. Any thread
	 * but the loop's, one at a time, without the lock: requests go on meanwhile.
	 */
	int (*grow)(struct disk *disk, uint64_t size_bytes, uint64_t *now, struct err *err);
	/* No request may be in flight. */
	void (*close)(struct disk *disk);
};

struct disk {
	const struct disk_ops *ops;
	enum disk_engine engine; /* the engine in use; as configured until started */
	uint64_t size_bytes;	 /* multiple of 512 */
	uint32_t block_bytes;	 /* logical block: 512 .. 4096; smaller requests work, slowly */
	uint32_t physical_bytes; /* what the host writes without read-modify-write */
	/* a discard leaves parts of such blocks as they are; a power of two */
	uint32_t discard_bytes;
	bool readonly;
	bool in_memory; /* bantam made it: there is no file that could grow */
	bool can_discard;
	bool can_write_zeroes;
	/*
	 * Requests go through the page cache, or some write may have done so: a request may copy its bytes
	 * in the thread that commits it.
	 */
	bool cached;
	/*
	 * -errno once the host has failed to write what it had in its page cache. The host reports
	 * that once and then regards the pages as clean, so a later flush would succeed with data
	 * lost: every flush, and every durable write, fails with this from then on. Always 0 with
	 * O_DIRECT, where nothing waits in the page cache.
	 */
	int lost_writes;
	/*
	 * Set by the owner before the first submit. Called when completions wait, so that the owner
	 * calls reap; in the loop's thread, without a lock.
	 */
	void (*wake)(void *opaque);
	void *wake_opaque;
};

struct disk_config {
	const char *path;
	enum store_format format; /* AUTO: as store_choose_format decides */
	bool readonly;
	enum store_direct direct;
	uint32_t block_bytes; /* the guest's logical block; 0: that of the host's device, or 512 */
	bool alone;	      /* as in store_options */
	bool dry_run;	      /* the same; no requests follow */
	bool for_vmconfig;    /* messages name the fields of a VmConfig, not --disk's keys */
	enum disk_engine engine;
	struct loop *loop;
	char id[THREAD_NAME_BYTES]; /* the device's, for the names of threads; cut if it is long */
};

/* Opens, locks (against a second writer; QEMU's locks are respected) and checks. 0 or -errno. */
int disk_open(const struct disk_config *cfg, struct disk **out, struct err *err);

static inline void disk_close(struct disk *disk)
{
	if (disk)
		disk->ops->close(disk);
}

/* --- new.c: disks that bantam makes itself; the machine's thread, as it creates devices ---- */

/* The most data that a seed in memory may hold. */
#define DISK_SEED_MAX_BYTES (1ull << 30)

/*
 * Makes a FAT file system (fat.h) of the files that are in dir now, in sealed memory; the guest
 * cannot write to it. label may be NULL. Of cfg, only loop and engine count.
 */
int disk_seed_open(const struct disk_config *cfg, const char *dir, const char *label,
		   struct disk **out, struct err *err);

/*
 * If nothing is at path, makes an image there. The image appears whole or not at all, even if this
 * process is killed. Returns 1 if it was made, 0 if path exists, or -errno. dry_run: makes nothing
 * and returns the same.
 */
int disk_make(const char *path, enum store_format format, uint64_t size_bytes, bool dry_run,
	      struct err *err);

/* Opens a disk of zeroes in memory, in place of an image that a dry run does not make. */
int disk_blank_open(const struct disk_config *cfg, uint64_t size_bytes, struct disk **out,
		    struct err *err);

#endif
