/* qcow2/open: opening and closing a qcow2 image. See qcow2.h. Nobody in this folder calls it. */
#include "devices/backend/qcow2/qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/backend/qcow2_image/check.h"
#include "vmm/core/log.h"

/* Everything to the medium, freed clusters given back, the file cut to what it needs. */
static int settle(struct qcow2 *q)
{
	int rc = qcow2_commit(q);

	/* What that let go of changes refcounts once more. */
	if (!rc)
		rc = qcow2_commit(q);
	if (!rc && !q->image.is_block && q->grown_bytes > q->file_bytes &&
	    ftruncate(q->fd, (off_t)q->file_bytes))
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
	store_image_close(&q->image);
	free(q->freed.run);
	free(q->settled.run);
	free(q->limbo.run);
	free(q->zeroed.run);
	free(q->l1);
	free(q->reftable);
	free(q->meta);
	free(q->backing_name);
	free(q->path);
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
	return err_set(err, EROFS, "disk %s: is open read-only", qcow2_of(s)->path);
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

/* Which clusters hold metadata; nothing may be two things. */
static int know_metadata(struct qcow2 *q, struct err *err)
{
	int rc = qcow2_meta_add_run(q, q->reftable_offset,
				    (uint64_t)q->reftable_clusters << q->cluster_bits);

	if (!rc)
		rc = qcow2_meta_add_run(q, q->l1_offset, (uint64_t)q->l1_size * 8);
	for (uint64_t i = 0; !rc && i < q->reftable_size; i++)
		if (q->reftable[i])
			rc = qcow2_meta_add(q, q->reftable[i]);
	for (uint32_t i = 0; !rc && i < q->l1_size; i++)
		if (q->l1[i] & QCOW2_OFFSET_MASK)
			rc = qcow2_meta_add(q, q->l1[i] & QCOW2_OFFSET_MASK);
	if (!rc)
		rc = qcow2_snapshots_know(q);
	if (rc == -ENOMEM)
		return err_sys(err, ENOMEM, "disk %s", q->path);
	if (rc == -E2BIG)
		return err_set(err, E2BIG,
			       "disk %s: the L1 tables of its snapshots have more than %u "
			       "clusters; qemu-img snapshot -d deletes some",
			       q->path, QCOW2_MAX_SNAPSHOT_CLUSTERS);
	return rc ? err_set(err, EINVAL,
			    "disk %s: damaged qcow2 image: its tables overlap; open it "
			    "ro, or repair it with qemu-img check -r all",
			    q->path) :
		    0;
}

/* Whoever wrote last, with lazy refcounts, did not come to write them. q is closed. */
static int repair(const char *path, struct err *err)
{
	struct qcow2_check check = { .repair = QCOW2_REPAIR_ALL, .at_open = true };
	int rc;

	log_put(LOG_INFO, "disk %s: was not closed cleanly; its refcounts are made anew", path);
	rc = qcow2_check(&check, path, err);
	if (rc || !check.corruptions)
		return rc;
	return err_set(err, EINVAL,
		       "disk %s: was not closed cleanly, and has damage that cannot be "
		       "repaired; open it ro (bantam image check tells what it is)",
		       path);
}

static int begin_writing(struct qcow2 *q, struct err *err)
{
	int rc;

	q->virgin = q->file_bytes;
	q->grown_bytes = q->image.size_bytes;
	rc = know_metadata(q, err);
	if (rc)
		return rc;
	q->store.ops = &qcow2_ops;
	q->writable = true;
	return 0;
}

/* The file and what its header says. */
static int open_file(const struct store_options *options, struct qcow2 **out, struct err *err)
{
	struct qcow2 *q = calloc(1, sizeof(*q));
	int rc;

	*out = NULL;
	if (!q)
		return err_sys(err, ENOMEM, "disk %s", options->path);
	q->store.ops = &qcow2_readonly_ops;
	q->store.readonly = options->readonly;
	q->store.image = &q->image;
	q->image.fd = q->image.cached_fd = -1;
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->changed, NULL);
	q->path = strdup(options->path);
	rc = q->path ? store_image_open(&q->image, options->path, options->readonly,
					options->direct, err) :
		       err_sys(err, ENOMEM, "disk %s", options->path);
	if (!rc) {
		q->fd = q->image.cached_fd >= 0 ? q->image.cached_fd : q->image.fd;
		rc = qcow2_header_load(q, err);
	}
	if (rc) {
		qcow2_close(&q->store);
		return rc;
	}
	qcow2_cache_init(q);
	*out = q;
	return 0;
}

static int open_clean_file(const struct store_options *options, struct qcow2 **out, struct err *err)
{
	int rc = open_file(options, out, err);

	if (rc || options->readonly || !((*out)->incompatible & QCOW2_INCOMPAT_DIRTY))
		return rc;
	if (options->dry_run) {
		log_put(LOG_INFO,
			"disk %s: was not closed cleanly; its refcounts are made anew when it "
			"is used",
			options->path);
		return 0;
	}
	qcow2_close(&(*out)->store);
	*out = NULL;
	rc = repair(options->path, err);
	if (!rc)
		rc = open_file(options, out, err);
	if (rc || !((*out)->incompatible & QCOW2_INCOMPAT_DIRTY))
		return rc;
	qcow2_close(&(*out)->store);
	*out = NULL;
	return err_set(err, EAGAIN, "disk %s: another program has just begun to write to it",
		       options->path);
}

int qcow2_store_open(const struct store_options *options, struct store **out, struct err *err)
{
	struct qcow2 *q;
	int rc = open_clean_file(options, &q, err);

	*out = NULL;
	if (rc)
		return rc;
	/* Still dirty: in a dry run alone. */
	if (!options->readonly && !(q->incompatible & QCOW2_INCOMPAT_DIRTY))
		rc = begin_writing(q, err);
	if (rc) {
		qcow2_close(&q->store);
		return rc;
	}
	q->store.backing_name = q->backing_name;
	q->store.backing_format = q->backing_format;
	*out = &q->store;
	return 0;
}
