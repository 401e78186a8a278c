/*
 * disk/raw: a file or block device whose bytes are the disk's bytes. See disk.h.
 *
 * Theory of operation. Each disk_req becomes one aio_op at a time. After a short transfer the rest
 * is submitted again. If the file system cannot do a way of zeroing, the next one is tried (punch a
 * hole, zero the range, write zeroes). With O_DIRECT a second, cached descriptor serves the
 * requests whose alignment the host refuses: the page cache is the bounce buffer, and the kernel
 * keeps both views coherent.
 */
#include "devices/backend/disk/raw_impl.h"

#include <errno.h>
#include <linux/falloc.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/log.h"

/* The source of written zeroes. It is never written to, so it costs no memory. */
#define ZERO_BYTES 65536u
#define ZERO_IOVS 16u
/* EINTR and EAGAIN in a row: the host is in trouble, and endless retries make it worse. */
#define MAX_RETRIES 64u

enum { FILE_MAIN, FILE_CACHED };

static uint8_t zeroes[ZERO_BYTES] __attribute__((aligned(4096)));

static struct disk_req *req_of(struct aio_op *op)
{
	return (struct disk_req *)((char *)op - offsetof(struct disk_req, aio));
}

static void finish(struct disk_req *req, int result)
{
	free(req->rest);
	req->rest = NULL;
	req->done(req, result);
}

static bool aligned(const struct raw *raw, const struct disk_req *req)
{
	uint64_t bits = req->offset;
	uint64_t mem = 0;

	for (unsigned i = 0; i < req->niov; i++) {
		mem |= (uintptr_t)req->iov[i].iov_base;
		bits |= req->iov[i].iov_len;
	}
	return !(bits & (raw->image.offset_align - 1)) && !(mem & (raw->image.mem_align - 1));
}

/* Do this request without O_DIRECT. */
static void use_cache(struct raw *raw, struct disk_req *req)
{
	req->aio.file = FILE_CACHED;
	raw->disk.cached |= req->op != DISK_READ;
}

/* --- zeroing and discarding: which operation is next ------------------------ */

enum zero_step { ZERO_PUNCH, ZERO_RANGE, ZERO_WRITE, ZERO_DONE };

static bool zero_step_possible(const struct raw *raw, const struct disk_req *req)
{
	switch (req->step) {
	case ZERO_PUNCH:
		return req->unmap && !raw->no_punch;
	case ZERO_RANGE:
		return !raw->no_zero_range;
	default:
		return true;
	}
}

static void prepare_zero_write(struct disk_req *req)
{
	uint64_t left = req->aio.len_bytes;
	unsigned n = 0;

	for (; left && n < ZERO_IOVS; n++) {
		uint64_t len = left < ZERO_BYTES ? left : ZERO_BYTES;

		req->rest[n] = (struct iovec){ zeroes, len };
		left -= len;
	}
	req->aio.kind = AIO_WRITE;
	req->aio.iov = req->rest;
	req->aio.niov = n;
}

/* Prepare the next way of zeroing. 0, or -errno if it cannot be tried. */
static int prepare_zeroes(struct raw *raw, struct disk_req *req)
{
	while (!zero_step_possible(raw, req))
		req->step++;
	req->aio.kind = AIO_ALLOCATE;
	req->aio.mode = FALLOC_FL_KEEP_SIZE |
			(req->step == ZERO_PUNCH ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
	if (req->step != ZERO_WRITE)
		return 0;
	if (!req->rest)
		req->rest = malloc(ZERO_IOVS * sizeof(*req->rest));
	if (!req->rest)
		return -ENOMEM;
	/* Use the cached descriptor: O_DIRECT would restrict the alignment. */
	if (raw->image.cached_fd >= 0)
		use_cache(raw, req);
	prepare_zero_write(req);
	return 0;
}

/* Reduce a discard to what the block device can do: whole blocks. */
static void prepare_discard(struct raw *raw, struct disk_req *req)
{
	uint64_t mask = raw->image.block_bytes - 1;
	uint64_t start = (req->offset + mask) & ~mask;
	uint64_t end = (req->offset + req->len_bytes) & ~mask;

	req->aio.kind = AIO_ALLOCATE;
	req->aio.mode = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE;
	if (!raw->image.is_block)
		return;
	req->aio.kind = AIO_DISCARD;
	req->aio.offset = start;
	req->aio.len_bytes = end > start ? end - start : 0;
}

static bool transient(struct disk_req *req, int64_t result)
{
	return (result == -EINTR || result == -EAGAIN) && ++req->retries < MAX_RETRIES;
}

static bool unsupported(int64_t result)
{
	return result == -EOPNOTSUPP || result == -ENOTTY || result == -ENOSYS || result == -ENODEV;
}

/* --- submission and completion ---------------------------------------------- */

static int prepare(struct raw *raw, struct disk_req *req)
{
	struct aio_op *op = &req->aio;

	*op = (struct aio_op){
		.file = FILE_MAIN,
		.dsync = req->durable,
		.iov = req->iov,
		.niov = req->niov,
		.offset = req->offset,
		.len_bytes = req->len_bytes,
	};
	req->rest = NULL;
	req->step = req->retries = 0;
	switch (req->op) {
	case DISK_READ:
	case DISK_WRITE:
		op->kind = req->op == DISK_READ ? AIO_READ : AIO_WRITE;
		if (raw->image.cached_fd >= 0 && !aligned(raw, req))
			use_cache(raw, req);
		return req->durable ? raw->disk.lost_writes : 0;
	case DISK_FLUSH:
		if (raw->disk.lost_writes)
			return raw->disk.lost_writes;
		op->kind = AIO_SYNC;
		req->step = raw->writes;
		return 0;
	case DISK_DISCARD:
		prepare_discard(raw, req);
		return 0;
	case DISK_WRITE_ZEROES:
		return prepare_zeroes(raw, req);
	}
	return -EINVAL;
}

/*
 * n bytes are done: set op to the rest. A short transfer is rare, so it may cost an allocation. 0
 * or -ENOMEM.
 */
static int advance(struct raw *raw, struct disk_req *req, uint64_t n)
{
	struct aio_op *op = &req->aio;
	unsigned i = 0;

	op->offset += n;
	op->len_bytes -= n;
	/* The rest may start at any alignment. */
	if (raw->image.cached_fd >= 0)
		use_cache(raw, req);
	if (req->op == DISK_WRITE_ZEROES) {
		prepare_zero_write(req);
		return 0;
	}
	if (!req->rest) {
		req->rest = malloc(req->niov * sizeof(*req->rest));
		if (!req->rest)
			return -ENOMEM;
		memcpy(req->rest, req->iov, req->niov * sizeof(*req->rest));
		op->iov = req->rest;
	}
	/* op->iov points into rest from here on. */
	struct iovec *iov = (struct iovec *)op->iov;

	while (n && n >= iov[i].iov_len)
		n -= iov[i++].iov_len;
	if (n) {
		iov[i].iov_base = (uint8_t *)iov[i].iov_base + n;
		iov[i].iov_len -= n;
	}
	op->iov += i;
	op->niov -= i;
	return 0;
}

/*
 * Handle the result of a data transfer. Returns 1 to submit op again as it now is, else the
 * request's result.
 */
static int transferred(struct raw *raw, struct disk_req *req, int64_t result)
{
	struct aio_op *op = &req->aio;
	int rc;

	if (transient(req, result))
		return 1;
	if (result == -EINVAL && raw->image.cached_fd >= 0 && op->file == FILE_MAIN) {
		/* O_DIRECT has restrictions that the host has not reported. */
		use_cache(raw, req);
		return 1;
	}
	if (result < 0)
		return (int)result;
	/* End of file: the file has shrunk. Or nothing could be written. */
	if (result == 0 && op->len_bytes)
		return -EIO;
	if ((uint64_t)result >= op->len_bytes)
		return 0;
	rc = advance(raw, req, (uint64_t)result);
	return rc ? rc : 1;
}

static int zeroed(struct raw *raw, struct disk_req *req, int64_t result)
{
	int rc;

	if (req->aio.kind == AIO_WRITE)
		return transferred(raw, req, result);
	if (transient(req, result))
		return 1;
	/* Block devices refuse ranges that are not whole blocks with EINVAL. */
	if (!unsupported(result) && !(result == -EINVAL && raw->image.is_block))
		return (int)result;
	if (unsupported(result) && req->step == ZERO_PUNCH)
		raw->no_punch = true;
	if (unsupported(result) && req->step == ZERO_RANGE)
		raw->no_zero_range = true;
	req->step++;
	rc = prepare_zeroes(raw, req);
	return rc ? rc : 1;
}

static int discarded(struct disk_req *req, int64_t result)
{
	if (transient(req, result))
		return 1;
	/* Discard is a hint: if the host cannot do it, that is no failure. */
	return unsupported(result) ? 0 : (int)result;
}

/*
 * Sets lost_writes if earlier requests' pages may be lost: after a failed flush, or a failed
 * durable write. A durable write that only found no room does not count.
 */
static void judge_loss(struct raw *raw, const struct disk_req *req, int rc)
{
	bool full = rc == -ENOSPC || rc == -EDQUOT || rc == -EFBIG;

	if (!(req->op == DISK_FLUSH || (req->durable && !full)) || !raw->disk.cached ||
	    raw->disk.lost_writes)
		return;
	raw->disk.lost_writes = rc;
	/* The owner of an attached disk logs it with the path. */
	if (raw->path)
		log_put_for(raw->path, LOG_ERROR, DISK_LOST_WRITES, raw->path, strerror(-rc));
}

static void raw_done(void *opaque, struct aio_op *op, int64_t result)
{
	struct raw *raw = opaque;
	struct disk_req *req = req_of(op);
	int rc;

	switch (req->op) {
	case DISK_READ:
	case DISK_WRITE:
		rc = transferred(raw, req, result);
		break;
	case DISK_WRITE_ZEROES:
		rc = zeroed(raw, req, result);
		break;
	case DISK_DISCARD:
		rc = discarded(req, result);
		break;
	default:
		rc = transient(req, result) ? 1 : (int)result;
		break;
	}
	if (rc > 0) {
		aio_submit(raw->aio, op);
		return;
	}
	if (rc < 0)
		judge_loss(raw, req, rc);
	if (req->op == DISK_FLUSH && !rc)
		raw->flushed = req->step;
	else if (req->op != DISK_READ)
		raw->writes++;
	finish(req, rc);
}

static void raw_wake(void *opaque)
{
	struct raw *raw = opaque;

	raw->disk.wake(raw->disk.wake_opaque);
}

int disk_raw_start(struct disk *disk, struct err *err)
{
	struct raw *raw = (struct raw *)disk;
	struct aio_config cfg = {
		.loop = raw->cfg.loop,
		.fd = { raw->image.fd, raw->image.cached_fd },
		.done = raw_done,
		.wake = raw_wake,
		.opaque = raw,
		.id = raw->cfg.id,
		.discards = raw->image.is_block && raw->disk.can_discard,
	};
	int rc;

	if (raw->aio || raw->no_aio)
		return raw->no_aio;
	rc = disk_aio_create(&cfg, raw->cfg.engine, &raw->aio, err);
	if (!rc)
		disk->engine = raw->aio->ops->engine;
	return rc;
}

void disk_raw_prepare(struct disk *disk)
{
	struct raw *raw = (struct raw *)disk;

	raw->no_aio = disk_raw_start(disk, NULL);
	if (raw->aio)
		aio_prepare(raw->aio);
}

/* A result that needs no I/O waits for commit: done is never called from submit. */
static void settle(struct raw *raw, struct disk_req *req, int result)
{
	req->aio.result = result;
	req->aio.next = NULL;
	*raw->settled_last = &req->aio;
	raw->settled_last = &req->aio.next;
}

void disk_raw_submit(struct disk *disk, struct disk_req *req)
{
	struct raw *raw = (struct raw *)disk;
	int rc = disk_raw_start(disk, NULL);

	if (!rc)
		rc = prepare(raw, req);
	if (rc)
		settle(raw, req, rc);
	else if (req->op == DISK_WRITE && !req->durable &&
		 disk_write_here(&raw->here, raw->image.fd, req->iov, req->niov, req->offset,
				 req->len_bytes))
		settle(raw, req, 0);
	else if (req->aio.kind == AIO_DISCARD && !req->aio.len_bytes)
		settle(raw, req, 0);
	else
		aio_submit(raw->aio, &req->aio);
}

static void hand_settled(struct raw *raw)
{
	while (raw->settled) {
		struct aio_op *op = raw->settled;

		raw->settled = op->next;
		if (!raw->settled)
			raw->settled_last = &raw->settled;
		raw->writes += req_of(op)->op != DISK_READ;
		finish(req_of(op), (int)op->result);
	}
}

void disk_raw_commit(struct disk *disk)
{
	struct raw *raw = (struct raw *)disk;

	do {
		hand_settled(raw);
		if (raw->aio)
			aio_commit(raw->aio);
	} while (raw->settled);
}

void disk_raw_reap(struct disk *disk)
{
	struct raw *raw = (struct raw *)disk;

	if (raw->aio)
		aio_reap(raw->aio);
	if (raw->settled)
		disk_raw_commit(disk);
}

void disk_raw_drain(struct disk *disk)
{
	struct raw *raw = (struct raw *)disk;

	do {
		hand_settled(raw);
		while (raw->aio && raw->aio->inflight)
			aio_wait(raw->aio);
	} while (raw->settled);
}
