/* qcow2/open: opens and closes a qcow2 image. See qcow2.h. No file of this folder calls it. */
#include "devices/backend/qcow2/compress.h"
#include "devices/backend/qcow2/qcow2_impl.h"
#include "devices/backend/qcow2/read.h"
#include "devices/backend/qcow2/resize.h"
#include "devices/backend/qcow2/snapshots.h"
#include "devices/backend/qcow2/write.h"
#include "devices/backend/qcow2/zero.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/backend/qcow2_image/check.h"
#include "vmm/core/log.h"

/* Writes everything to the medium, frees clusters, and cuts the file to the length it needs. */
static int settle(struct qcow2 *q)
{
	int rc = qcow2_commit(q);

	/* The first commit freed clusters, which changes refcounts once more. */
	if (!rc)
		rc = qcow2_commit(q);
	if (!rc && !q->file.image.is_block && q->space.grown_bytes > q->file.bytes &&
	    ftruncate(q->file.fd, (off_t)q->file.bytes))
		rc = -errno;
	return rc;
}

static int qcow2_close(struct store *s)
{
	struct qcow2 *q = qcow2_of(s);
	int rc = q->writable && q->armed ? settle(q) : 0;

	store_close(s->backing);
	qcow2_cache_free(q);
	qcow2_unpacked_free(q);
	pthread_mutex_destroy(&q->lock);
	pthread_cond_destroy(&q->changed);
	free(q->freeing.freed.run);
	free(q->freeing.settled.run);
	free(q->freeing.limbo.run);
	free(q->space.zeroed.run);
	free(q->meta.place);
	qcow2_file_close(&q->file);
	free(q);
	return rc;
}

static int qcow2_readonly_write(struct store *s, const struct iovec *iov, unsigned niov,
				uint64_t offset, uint64_t len)
{
	return -EROFS;
}

static int qcow2_readonly_zero(struct store *s, uint64_t offset, uint64_t len, bool unmap)
{
	return -EROFS;
}

static int qcow2_readonly_discard(struct store *s, uint64_t offset, uint64_t len)
{
	return -EROFS;
}

static int qcow2_readonly_flush(struct store *s)
{
	return 0;
}

static int qcow2_readonly_resize(struct store *s, uint64_t size, struct err *err)
{
	return err_set(err, EROFS, "disk %s: is open read-only", qcow2_of(s)->file.path);
}

static const struct store_ops qcow2_readonly_ops = {
	.format = STORE_QCOW2,
	.read = qcow2_read,
	.write = qcow2_readonly_write,
	.zero = qcow2_readonly_zero,
	.discard = qcow2_readonly_discard,
	.flush = qcow2_readonly_flush,
	.map = qcow2_extent,
	.resize = qcow2_readonly_resize,
	.close = qcow2_close,
};

static int qcow2_flush(struct store *s)
{
	return qcow2_commit(qcow2_of(s));
}

static const struct store_ops qcow2_ops = {
	.format = STORE_QCOW2,
	.read = qcow2_read,
	.write = qcow2_write,
	.zero = qcow2_zero,
	.discard = qcow2_discard,
	.flush = qcow2_flush,
	.map = qcow2_extent,
	.resize = qcow2_resize,
	.close = qcow2_close,
};

/* --- opening ------------------------------------------------------------------------- */

/* Adds all clusters that hold metadata to the set (meta.h). Fails if two tables share a cluster. */
static int know_metadata(struct qcow2 *q, struct err *err)
{
	int rc = qcow2_meta_add_run(q, q->file.reftable.offset,
				    (uint64_t)q->file.reftable.clusters << q->file.cluster_bits);

	if (!rc)
		rc = qcow2_meta_add_run(q, q->file.l1.offset, (uint64_t)q->file.l1.n * 8);
	for (uint64_t i = 0; !rc && i < q->file.reftable.n; i++)
		if (q->file.reftable.entry[i])
			rc = qcow2_meta_add(q, q->file.reftable.entry[i]);
	for (uint32_t i = 0; !rc && i < q->file.l1.n; i++)
		if (q->file.l1.entry[i] & QCOW2_OFFSET_MASK)
			rc = qcow2_meta_add(q, q->file.l1.entry[i] & QCOW2_OFFSET_MASK);
	if (!rc)
		rc = qcow2_snapshots_know(q);
	if (rc == -ENOMEM)
		return err_sys(err, ENOMEM, "disk %s", q->file.path);
	if (rc == -E2BIG)
		return err_set(err, E2BIG,
			       "disk %s: the L1 tables of its snapshots have more than %u "
			       "clusters; qemu-img snapshot -d deletes some",
			       q->file.path, QCOW2_MAX_SNAPSHOT_CLUSTERS);
	return rc ? err_set(err, EINVAL,
			    "disk %s: damaged qcow2 image: its tables overlap; open it "
			    "ro, or repair it with qemu-img check -r all",
			    q->file.path) :
		    0;
}

/* Repairs an image whose last writer used lazy refcounts and did not write them. It is not open. */
static int repair(const char *path, struct err *err)
{
	struct qcow2_check check = { .repair = QCOW2_REPAIR_ALL, .at_open = true };
	int rc;

	log_put_for(path, LOG_WARN, "disk %s: was not closed cleanly; rebuilding its refcounts",
		    path);
	rc = qcow2_check(&check, path, err);
	if (rc || !check.corruptions)
		return rc;
	return err_set(err, EINVAL,
		       "disk %s: was not closed cleanly, and has damage that cannot be "
		       "repaired; open it ro (bantam image check describes it)",
		       path);
}

static int begin_writing(struct qcow2 *q, struct err *err)
{
	int rc;

	q->space.virgin = q->file.bytes;
	q->space.grown_bytes = q->file.image.size_bytes;
	rc = know_metadata(q, err);
	if (rc)
		return rc;
	q->store.ops = &qcow2_ops;
	q->writable = true;
	return 0;
}

/* Opens the file and reads its header and tables. */
static int open_file(const struct store_options *options, struct qcow2 **out, struct err *err)
{
	struct qcow2 *q = calloc(1, sizeof(*q));
	int rc;

	*out = NULL;
	if (!q)
		return err_sys(err, ENOMEM, "disk %s", options->path);
	rc = qcow2_file_open(&q->file, options->path, options->via,
			     options->readonly ? QCOW2_READ : QCOW2_WRITE, options->direct, err);
	if (rc) {
		free(q);
		return rc;
	}
	q->store = (struct store){ .ops = &qcow2_readonly_ops,
				   .size_bytes = q->file.disk_bytes,
				   .readonly = options->readonly,
				   .backing_name = q->file.backing_name,
				   .backing_format = q->file.backing_format,
				   .image = &q->file.image };
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->changed, NULL);
	qcow2_cache_init(q);
	*out = q;
	return 0;
}

static int open_clean_file(const struct store_options *options, struct qcow2 **out, struct err *err)
{
	int rc = open_file(options, out, err);

	if (rc || options->readonly || !((*out)->file.incompatible & QCOW2_INCOMPAT_DIRTY))
		return rc;
	if (options->dry_run) {
		log_put_for(options->path, LOG_INFO,
			    "disk %s: was not closed cleanly; its refcounts are rebuilt when it is "
			    "opened for writing",
			    options->path);
		return 0;
	}
	qcow2_close(&(*out)->store);
	*out = NULL;
	rc = repair(options->path, err);
	if (!rc)
		rc = open_file(options, out, err);
	if (rc || !((*out)->file.incompatible & QCOW2_INCOMPAT_DIRTY))
		return rc;
	qcow2_close(&(*out)->store);
	*out = NULL;
	return err_set(err, EBUSY, "disk %s: another program has just begun to write to it",
		       options->path);
}

int qcow2_store_open(const struct store_options *options, struct store **out, struct err *err)
{
	struct qcow2 *q;
	int rc = open_clean_file(options, &q, err);

	*out = NULL;
	if (rc)
		return rc;
	/* The image is still dirty only in a dry run. */
	if (!options->readonly && !(q->file.incompatible & QCOW2_INCOMPAT_DIRTY))
		rc = begin_writing(q, err);
	if (rc) {
		qcow2_close(&q->store);
		return rc;
	}
	*out = &q->store;
	return 0;
}
