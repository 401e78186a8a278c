/* qcow2_image/inspect: see qcow2_image/inspect.h. */
#include "devices/backend/qcow2_image/inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Without a lock: a VM may go on writing. */
static int glance(struct store_image *image, const char *path, struct err *err)
{
	struct stat st;
	int rc;

	image->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (image->fd < 0 || fstat(image->fd, &st))
		return err_sys(err, errno, "disk %s", path);
	image->is_block = S_ISBLK(st.st_mode);
	if (!S_ISREG(st.st_mode) && !image->is_block)
		return err_set(err, EINVAL, "disk %s: neither a file nor a block device", path);
	rc = store_image_size(image, &image->size_bytes);
	return rc ? err_sys(err, -rc, "disk %s", path) : 0;
}

int qcow2_inspect(const char *path, enum qcow2_access access, struct qcow2 **out, struct err *err)
{
	struct qcow2 *q = calloc(1, sizeof(*q));
	int rc;

	*out = NULL;
	if (!q)
		return err_sys(err, ENOMEM, "disk %s", path);
	q->image.fd = q->image.cached_fd = -1;
	/* So that a corrupt bit or a broken refcount table is no reason to refuse. */
	q->store.readonly = true;
	q->path = strdup(path);
	if (!q->path)
		rc = err_sys(err, ENOMEM, "disk %s", path);
	else if (access == QCOW2_GLANCE)
		rc = glance(&q->image, path, err);
	else
		rc = store_image_open(&q->image, path, access != QCOW2_LOCK_WRITE, false, err);
	q->fd = q->image.fd;
	if (!rc)
		rc = qcow2_header_load(q, err);
	if (rc)
		qcow2_inspect_end(q);
	else
		*out = q;
	return rc;
}

void qcow2_inspect_end(struct qcow2 *q)
{
	if (!q)
		return;
	store_image_close(&q->image);
	free(q->l1);
	free(q->reftable);
	free(q->backing_name);
	free(q->path);
	free(q);
}
