/*
 * disk/qcow2: a qcow2 image as virtio-blk's disk. See disk.h and qcow2.h.
 *
 * Theory of operation. The loop's thread looks up where a request's bytes are, as far as the
 * metadata is in memory, and hands the pieces to a disk_raw on the image's file or on the file of a
 * backing image (each level has a disk_raw, made when it is first needed). On allocated clusters a
 * qcow2 disk is a raw disk with another offset, and uses the engines of disk_raw (io_uring or
 * threads, O_DIRECT). The loop's thread also links new clusters that need no copying. As long as
 * the page cache is quick (write_here.h), the loop's thread itself writes, and copies where a write
 * needs it.
 *
 * A worker (disk/workers.h) does everything else by the synchronous engine: requests that must load
 * metadata, decompress or commit, and those that failed. A request that meets a cluster which a
 * worker is changing waits until a worker has finished.
 */
#include "devices/backend/disk/disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/disk/qcow2_impl.h"
#include "vmm/core/log.h"

static void list_init(struct job_list *l)
{
	l->first = NULL;
	l->last = &l->first;
}

static void list_add(struct job_list *l, struct job *job)
{
	job->work.next = NULL;
	*l->last = job;
	l->last = (struct job **)&job->work.next;
}

static struct job *list_take(struct job_list *l)
{
	struct job *job = l->first;

	if (job) {
		l->first = (struct job *)job->work.next;
		if (!l->first)
			l->last = &l->first;
	}
	return job;
}

static void tell_loss(struct disk_qcow2 *d)
{
	const struct qcow2_file *file = d->level[0].file;
	int error = file ? qcow2_get_lost_writes(file) : 0;

	if (!error || d->disk.lost_writes)
		return;
	d->disk.lost_writes = error;
	log_put_for(file->path, LOG_ERROR, DISK_LOST_WRITES, file->path, strerror(-error));
}

static void finish(struct disk_qcow2 *d, struct job *job, int result)
{
	struct disk_req *req = job->req;

	if (result < 0)
		tell_loss(d);
	job->work.next = (struct disk_work *)d->free;
	d->free = job;
	d->inflight--;
	req->done(req, result);
}

static void settle(struct disk_qcow2 *d, struct job *job, int result)
{
	job->work.result = result;
	list_add(&d->settled, job);
}

/* --- workers ------------------------------------------------------------------------- */

static int run(void *opaque, struct disk_work *work)
{
	struct disk_qcow2 *d = opaque;
	struct disk_req *req = ((struct job *)work)->req;
	struct store *s = d->level[0].store;
	int rc = -EINVAL;

	switch (req->op) {
	case DISK_READ:
		return s->ops->read(s, req->iov, req->niov, req->offset, req->len_bytes);
	case DISK_WRITE:
		rc = s->ops->write(s, req->iov, req->niov, req->offset, req->len_bytes);
		return rc || !req->durable ? rc : s->ops->flush(s);
	case DISK_FLUSH:
		return s->ops->flush(s);
	case DISK_DISCARD:
		return s->ops->discard(s, req->offset, req->len_bytes);
	case DISK_WRITE_ZEROES:
		return s->ops->zero(s, req->offset, req->len_bytes, req->unmap);
	}
	return rc;
}

static void on_wake(void *opaque)
{
	struct disk_qcow2 *d = opaque;

	d->disk.wake(d->disk.wake_opaque);
}

static int make_workers(struct disk_qcow2 *d)
{
	struct disk_workers_config cfg = { d->cfg.loop, run, on_wake, d, d->cfg.id };

	if (d->workers)
		return 0;
	return d->prepared ? -ENOMEM : disk_workers_create(&cfg, &d->workers, NULL);
}

static void give(struct disk_qcow2 *d, struct job *job)
{
	int rc = make_workers(d);

	if (rc) {
		settle(d, job, rc);
		return;
	}
	d->working++;
	disk_workers_give(d->workers, &job->work);
}

/* --- pieces ---------------------------------------------------------------------------- */

static void end_epochs(struct disk_qcow2 *d, struct job *job)
{
	for (unsigned i = 0; i < job->npieces; i++) {
		struct piece *p = &job->piece[i];

		if (p->counted)
			qcow2_io_end(d->level[p->level].q, p->epoch);
		p->counted = false;
	}
}

static void piece_done(struct disk_req *req, int result)
{
	struct piece *p = (struct piece *)req;
	struct job *job = p->job;
	struct disk_qcow2 *d = job->req->backend[0];

	if (p->counted)
		qcow2_io_end(d->level[p->level].q, p->epoch);
	p->counted = false;
	job->failed |= result < 0;
	/* The engine does the request again, but a second flush would report success. */
	if (result < 0 && d->level[p->level].io->lost_writes)
		qcow2_set_lost_writes(d->level[p->level].file, d->level[p->level].io->lost_writes);
	if (--job->left)
		return;
	/* The engine handles errors, and requests that end beyond a file's end. */
	if (job->failed)
		give(d, job);
	else
		finish(d, job, 0);
}

/* --- requests ------------------------------------------------------------ */

static void try_job(struct disk_qcow2 *d, struct job *job)
{
	int rc;

	job->npieces = job->niovs = 0;
	job->failed = false;
	rc = disk_qcow2_split(d, job);
	job->left = job->npieces;
	if (rc) {
		end_epochs(d, job);
		if (rc == -EBUSY)
			list_add(&d->waiting, job);
		else
			give(d, job);
	} else if (!job->left) {
		settle(d, job, 0);
	} else {
		d->submitted = true;
		/* commit calls done at the earliest. */
		for (unsigned i = 0; i < job->npieces; i++) {
			struct disk *io = d->level[job->piece[i].level].io;

			io->ops->submit(io, &job->piece[i].req);
		}
	}
}

/* --- disk_ops ------------------------------------------------------------------------------- */

static int qdisk_start(struct disk *disk, struct err *err)
{
	struct disk_qcow2 *d = (struct disk_qcow2 *)disk;
	int rc = disk_qcow2_get_io(d, 0);

	if (rc)
		return err_sys(err, -rc, "disk");
	rc = d->level[0].io->ops->start(d->level[0].io, err);
	disk->engine = d->level[0].io->engine;
	return rc;
}

/* A level that has no io afterwards is read by the workers. */
static void qdisk_prepare(struct disk *disk)
{
	struct disk_qcow2 *d = (struct disk_qcow2 *)disk;

	for (unsigned i = 0; i < d->nlevels; i++)
		if (!disk_qcow2_get_io(d, i))
			d->level[i].io->ops->prepare(d->level[i].io);
	if (d->level[0].io)
		disk->engine = d->level[0].io->engine;
	if (!make_workers(d))
		disk_workers_fill(d->workers);
	d->prepared = true;
}

static void qdisk_submit(struct disk *disk, struct disk_req *req)
{
	struct disk_qcow2 *d = (struct disk_qcow2 *)disk;
	struct job *job = d->free;

	if (job)
		d->free = (struct job *)job->work.next;
	else
		job = malloc(sizeof(*job));
	d->inflight++;
	if (!job) {
		req->backend[1] = d->refused;
		d->refused = req;
		return;
	}
	job->req = req;
	req->backend[0] = d;
	try_job(d, job);
}

static void hand_settled(struct disk_qcow2 *d)
{
	struct job *job;

	while ((job = list_take(&d->settled)))
		finish(d, job, job->work.result);
	while (d->refused) {
		struct disk_req *req = d->refused;

		d->refused = req->backend[1];
		d->inflight--;
		req->done(req, -ENOMEM);
	}
}

static void qdisk_commit(struct disk *disk)
{
	struct disk_qcow2 *d = (struct disk_qcow2 *)disk;

	d->here_ns = 0;
	/* done may submit more, also to a level that this pass has already committed. */
	do {
		hand_settled(d);
		d->submitted = false;
		for (unsigned i = 0; i < d->nio; i++)
			if (d->level[i].io)
				d->level[i].io->ops->commit(d->level[i].io);
	} while (d->settled.first || d->refused || d->submitted);
}

static void take_finished(struct disk_qcow2 *d, bool wait)
{
	struct disk_work *work = disk_workers_take(d->workers, wait);
	struct job_list again = d->waiting;
	struct job *job;

	if (!work)
		return;
	/* Empty the waiting list first: done may submit more. */
	if (d->waiting.first)
		list_init(&d->waiting);
	else
		list_init(&again);
	while (work) {
		struct disk_work *next = work->next;

		d->working--;
		finish(d, (struct job *)work, work->result);
		work = next;
	}
	while ((job = list_take(&again)))
		try_job(d, job);
}

static void qdisk_reap(struct disk *disk)
{
	struct disk_qcow2 *d = (struct disk_qcow2 *)disk;

	if (d->working)
		take_finished(d, false);
	for (unsigned i = 0; i < d->nio; i++)
		if (d->level[i].io)
			d->level[i].io->ops->reap(d->level[i].io);
	qdisk_commit(disk);
}

static void qdisk_drain(struct disk *disk)
{
	struct disk_qcow2 *d = (struct disk_qcow2 *)disk;

	while (d->inflight) {
		hand_settled(d);
		for (unsigned i = 0; i < d->nio; i++)
			if (d->level[i].io)
				d->level[i].io->ops->drain(d->level[i].io);
		/* Workers may wait for each other, but not for anything else. */
		if (!d->settled.first && !d->refused && d->working)
			take_finished(d, true);
	}
}

static bool qdisk_busy_elsewhere(const struct disk *disk)
{
	return ((const struct disk_qcow2 *)disk)->working;
}

/* The size is in the image's header, and only this process may change it. */
static int qdisk_refresh(struct disk *disk, struct err *err)
{
	return 0;
}

static int qdisk_grow(struct disk *disk, uint64_t size_bytes, uint64_t *now, struct err *err)
{
	struct store *s = ((struct disk_qcow2 *)disk)->level[0].store;
	int rc = s->ops->resize(s, size_bytes, err);

	*now = store_size(s);
	return rc;
}

/* No caller is left to return an error to, so log it. */
static void close_store(struct disk_qcow2 *d)
{
	char *path = d->level[0].file ? strdup(d->level[0].file->path) : NULL;
	int rc = store_close(d->level[0].store);

	if (rc)
		log_put_for(path, LOG_ERROR, "disk %s: its last changes could not be written: %s",
			    path ? path : "", strerror(-rc));
	free(path);
}

static void qdisk_close(struct disk *disk)
{
	struct disk_qcow2 *d = (struct disk_qcow2 *)disk;

	disk_workers_destroy(d->workers);
	for (unsigned i = 0; i < d->nio; i++)
		disk_close(d->level[i].io);
	close_store(d);
	while (d->free) {
		struct job *job = d->free;

		d->free = (struct job *)job->work.next;
		free(job);
	}
	free(d);
}

static const struct disk_ops qdisk_ops = {
	.start = qdisk_start,
	.prepare = qdisk_prepare,
	.submit = qdisk_submit,
	.commit = qdisk_commit,
	.reap = qdisk_reap,
	.drain = qdisk_drain,
	.busy_elsewhere = qdisk_busy_elsewhere,
	.refresh = qdisk_refresh,
	.grow = qdisk_grow,
	.close = qdisk_close,
};

static void find_levels(struct disk_qcow2 *d)
{
	for (struct store *s = d->level[0].store; s; s = s->backing) {
		struct level *l = &d->level[d->nlevels++];

		l->store = s;
		l->q = qcow2_is_image(s) ? qcow2_of(s) : NULL;
		l->file = l->q ? qcow2_get_file(l->q) : NULL;
	}
}

static int describe(struct disk_qcow2 *d, struct err *err)
{
	const struct store *s = d->level[0].store;
	struct disk *disk = &d->disk;

	disk_set_blocks(disk, s->image, d->cfg.block_bytes);
	if (s->size_bytes % disk->block_bytes)
		return err_set(err, EINVAL,
			       "disk %s: its size, %llu bytes, is not a multiple of "
			       "%u; bantam image resize makes it one",
			       d->cfg.path, (unsigned long long)s->size_bytes, disk->block_bytes);
	disk->size_bytes = s->size_bytes;
	disk->discard_bytes = disk->block_bytes;
	if (d->level[0].file->cluster_bytes > disk->discard_bytes)
		disk->discard_bytes = (uint32_t)d->level[0].file->cluster_bytes;
	disk->readonly = s->readonly;
	disk->cached = s->image->cached_fd < 0;
	disk->can_discard = disk->can_write_zeroes = !disk->readonly;
	return 0;
}

int disk_qcow2_open(const struct disk_config *cfg, struct disk **out, struct err *err)
{
	struct store_options options = { .path = cfg->path,
					 .format = STORE_QCOW2,
					 .readonly = cfg->readonly,
					 .direct = cfg->direct,
					 .alone = cfg->alone,
					 .dry_run = cfg->dry_run };
	struct disk_qcow2 *d = calloc(1, sizeof(*d));
	int rc;

	*out = NULL;
	if (!d)
		return err_sys(err, ENOMEM, "disk %s", cfg->path);
	d->disk.ops = &qdisk_ops;
	d->piece_done = piece_done;
	d->on_wake = on_wake;
	d->disk.engine = cfg->engine;
	d->cfg = *cfg;
	list_init(&d->settled);
	list_init(&d->waiting);
	rc = store_open(&options, &d->level[0].store, err);
	if (!rc) {
		const struct store_image *image = d->level[0].store->image;

		find_levels(d);
		disk_write_here_init(&d->write_here, image);
		/*
		 * Copying to a block device is allowed here, because a worker would be no quicker;
		 * with O_DIRECT it is not.
		 */
		if (image->cached_fd >= 0)
			d->copy_here.state = WRITE_HERE_NEVER;
		rc = describe(d, err);
	}
	/* The user asked for io_uring by name: fail now if it is not available. */
	if (!rc && cfg->engine == DISK_ENGINE_IO_URING)
		rc = qdisk_start(&d->disk, err);
	d->cfg.path = NULL; /* the caller's: valid only until we return */
	if (rc) {
		qdisk_close(&d->disk);
		return rc;
	}
	*out = &d->disk;
	return 0;
}
