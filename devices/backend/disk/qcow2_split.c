/*
 * disk/qcow2_split: where the bytes of a request are, as far as that is known without I/O. See
 * disk/qcow2.c.
 */
#include <errno.h>
#include <stddef.h>

#include "devices/backend/disk/qcow2_impl.h"
#include "devices/backend/store/iov.h"

#define PAGE_BYTES 4096u
/* The most time of one turn of the loop for copying: other devices need their turn. */
#define HERE_TURN_NS 1000000u

int disk_qcow2_get_io(struct disk_qcow2 *d, unsigned level)
{
	struct level *l = &d->level[level];
	struct store_image image = *l->store->image;
	int rc;

	if (l->io)
		return 0;
	if (d->prepared)
		return -ENOMEM;
	/*
	 * The engine writes through the page cache. If it dirties a page while a part of the same
	 * page is written past the cache, the next fdatasync fails: so only whole pages are written
	 * past it.
	 */
	if (image.cached_fd >= 0 && image.offset_align < PAGE_BYTES)
		image.offset_align = PAGE_BYTES;
	rc = disk_raw_attach(&d->cfg, &image, &l->io, NULL);
	if (rc)
		return rc;
	l->io->wake = d->on_wake;
	l->io->wake_opaque = d;
	if (level >= d->nio)
		d->nio = level + 1;
	return 0;
}

/*
 * Set *iov to the memory of bytes [skip, + len) of the request. If *iov is not the request's own,
 * it is valid until the next call, or stays if the caller adds *niov to job->niovs. Returns false
 * if there are too many pieces of memory.
 */
static bool part_iov(struct job *job, uint64_t skip, uint64_t len, const struct iovec **iov,
		     unsigned *niov)
{
	struct disk_req *req = job->req;
	struct iovec *part = job->iov + job->niovs;
	uint64_t got = 0;

	*iov = req->iov;
	*niov = req->niov;
	if (len == req->len_bytes)
		return true;
	*iov = part;
	*niov = store_iov_slice(part, MAX_IOVS - job->niovs, req->iov, req->niov, skip, len);
	for (unsigned i = 0; i < *niov; i++)
		got += part[i].iov_len;
	return got == len;
}

/*
 * Add a piece for bytes [skip, + len) of the request, which are at host in that level's file.
 * Returns 0, or -EAGAIN if there are too many.
 */
static int add_piece(struct disk_qcow2 *d, struct job *job, unsigned level, uint64_t host,
		     uint64_t skip, uint64_t len)
{
	struct disk_req *req = job->req;
	struct piece *p = &job->piece[job->npieces];

	if (job->npieces == MAX_PIECES || disk_qcow2_get_io(d, level) ||
	    !part_iov(job, skip, len, &p->req.iov, &p->req.niov))
		return -EAGAIN;
	p->job = job;
	p->level = level;
	p->counted = false;
	p->req.op = req->op;
	p->req.unmap = false;
	p->req.durable = req->durable;
	p->req.offset = host;
	p->req.len_bytes = len;
	p->req.done = d->piece_done;
	if (p->req.iov != req->iov)
		job->niovs += p->req.niov;
	job->npieces++;
	return 0;
}

/*
 * Keep the clusters of the last piece from being used for anything else before it is done. Lock
 * held.
 */
static void count_piece(struct job *job, struct qcow2 *q)
{
	struct piece *p = &job->piece[job->npieces - 1];

	p->epoch = qcow2_io_begin_locked(q);
	p->counted = true;
}

/* --- where a request's bytes are ---------------------------------------------------------- */

/*
 * Read from one qcow2 level; *len becomes the number of bytes that this settles. Returns 1 if the
 * next level has the bytes, 0 or -errno.
 */
static int read_qcow2(struct disk_qcow2 *d, struct job *job, unsigned level, uint64_t skip,
		      uint64_t *len)
{
	struct qcow2 *q = d->level[level].q;
	struct disk_req *req = job->req;
	uint64_t offset = req->offset + skip;
	struct qcow2_run r;
	int rc;

	qcow2_lock(q);
	rc = qcow2_map_locked(q, offset, *len, true, &r);
	if (rc)
		goto out;
	*len = r.len;
	switch (r.kind) {
	case QCOW2_HOLE:
		rc = 1;
		break;
	case QCOW2_ZEROES:
		store_iov_zero(req->iov, req->niov, skip, r.len);
		break;
	case QCOW2_PACKED:
		if (!qcow2_unpacked_locked(q, r.entry,
					   offset & (d->level[level].file->cluster_bytes - 1),
					   req->iov, req->niov, skip, r.len))
			rc = -EAGAIN;
		break;
	case QCOW2_DATA:
		rc = qcow2_in_file_locked(q, &r) ? add_piece(d, job, level, r.host, skip, r.len) :
						   -EAGAIN;
		if (!rc && !d->level[level].store->readonly)
			count_piece(job, q);
		break;
	}
out:
	qcow2_unlock(q);
	return rc;
}

static int read_part(struct disk_qcow2 *d, struct job *job, uint64_t skip, uint64_t *len)
{
	struct disk_req *req = job->req;

	for (unsigned i = 0; i < d->nlevels; i++) {
		uint64_t size = store_size(d->level[i].store), offset = req->offset + skip;
		int rc;

		if (offset >= size)
			break;
		if (*len > size - offset)
			*len = size - offset;
		if (!d->level[i].q)
			return add_piece(d, job, i, offset, skip, *len);
		rc = read_qcow2(d, job, i, skip, len);
		if (rc <= 0)
			return rc;
	}
	store_iov_zero(req->iov, req->niov, skip, *len);
	return 0;
}

/*
 * Writes to new clusters, with the old data around the write copied where needed. This mostly takes
 * about 10 us in the page cache; a hand-over to a worker would double that. Lock held. Returns
 * -EAGAIN if not now.
 */
static int copy_here(struct disk_qcow2 *d, struct job *job, uint64_t skip, uint64_t *len)
{
	struct disk_req *req = job->req;
	uint64_t begin, done = 0;
	int rc;

	if (req->durable || d->here_ns > HERE_TURN_NS ||
	    !disk_write_here_may(&d->copy_here, &begin))
		return -EAGAIN;
	rc = qcow2_copy_now_locked(d->level[0].q, req->iov, req->niov, skip, req->offset + skip,
				   *len, &done);
	d->here_ns += disk_write_here_took(&d->copy_here, begin);
	if (!rc)
		*len = done;
	return rc;
}

/*
 * Write to a cluster of this image here. disk_raw would do the same if it is faster, but a write
 * under the lock needs neither a piece nor an epoch. A stall, which is rare, also holds up the
 * workers. Lock held. Returns true if everything is written.
 */
static bool write_in_place(struct disk_qcow2 *d, struct job *job, const struct qcow2_run *r,
			   uint64_t skip)
{
	const struct iovec *iov;
	unsigned niov;

	return !job->req->durable && part_iov(job, skip, r->len, &iov, &niov) &&
	       disk_write_here(&d->write_here, d->level[0].file->fd, iov, niov, r->host, r->len);
}

static int write_part(struct disk_qcow2 *d, struct job *job, uint64_t skip, uint64_t *len)
{
	struct qcow2 *q = d->level[0].q;
	struct qcow2_run r;
	int rc;

	qcow2_lock(q);
	rc = qcow2_place_locked(q, job->req->offset + skip, *len, &r);
	/* A durable write needs more than its data on the medium then. */
	if (!rc && job->req->durable &&
	    (qcow2_dirty_locked(q) || qcow2_get_lost_writes(d->level[0].file)))
		rc = -EAGAIN;
	if (rc == -EAGAIN) {
		rc = copy_here(d, job, skip, len);
		goto out;
	}
	if (rc)
		goto out;
	*len = r.len;
	if (write_in_place(d, job, &r, skip))
		goto out;
	rc = add_piece(d, job, 0, r.host, skip, r.len);
	if (!rc)
		count_piece(job, q);
out:
	qcow2_unlock(q);
	return rc;
}

static int transfer(struct disk_qcow2 *d, struct job *job)
{
	struct disk_req *req = job->req;
	int rc = 0;

	for (uint64_t done = 0; !rc && done < req->len_bytes;) {
		uint64_t len = req->len_bytes - done;

		rc = req->op == DISK_READ ? read_part(d, job, done, &len) :
					    write_part(d, job, done, &len);
		done += len;
	}
	return rc;
}

static int flush(struct disk_qcow2 *d, struct job *job)
{
	struct qcow2 *q = d->level[0].q;
	bool dirty;

	if (!q)
		return -EAGAIN;
	qcow2_lock(q);
	dirty = qcow2_dirty_locked(q) || d->level[0].file->unsafe ||
		qcow2_get_lost_writes(d->level[0].file);
	qcow2_unlock(q);
	return dirty ? -EAGAIN : add_piece(d, job, 0, 0, 0, 0);
}

int disk_qcow2_split(struct disk_qcow2 *d, struct job *job)
{
	switch (job->req->op) {
	case DISK_READ:
		return transfer(d, job);
	case DISK_WRITE:
		return d->disk.readonly ? -EAGAIN : transfer(d, job);
	case DISK_FLUSH:
		return flush(d, job);
	default:
		return -EAGAIN;
	}
}
