/* qcow2_image/file_open: opens and closes an image's file. See file.h. */
#include "devices/backend/qcow2_image/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/core/fd_stat.h"

/* Opens the image without a lock: a VM may be writing to it. */
static int glance(struct store_image *image, const char *path, const char *via, struct err *err)
{
	struct stat st;
	int rc;

	image->fd = open(via ? via : path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (image->fd < 0 || fd_stat(image->fd, &st))
		return err_sys(err, errno, "disk %s", path);
	image->is_block = S_ISBLK(st.st_mode);
	if (!S_ISREG(st.st_mode) && !image->is_block)
		return err_set(err, EINVAL, "disk %s: neither a file nor a block device", path);
	rc = store_image_size(image, &image->size_bytes);
	return rc ? err_sys(err, -rc, "disk %s", path) : 0;
}

int qcow2_file_open(struct qcow2_file *f, const char *path, const char *via,
		    enum qcow2_access access, enum store_direct direct, struct err *err)
{
	bool readonly = access == QCOW2_GLANCE || access == QCOW2_READ;
	int rc;

	*f = (struct qcow2_file){ .will_write = access == QCOW2_WRITE,
				  .image = { .fd = -1, .cached_fd = -1 } };
	f->path = strdup(path);
	if (!f->path)
		rc = err_sys(err, ENOMEM, "disk %s", path);
	else if (access == QCOW2_GLANCE)
		rc = glance(&f->image, path, via, err);
	else
		rc = store_image_open(&f->image, path, via, readonly, direct, err);
	f->fd = f->image.cached_fd >= 0 ? f->image.cached_fd : f->image.fd;
	if (!rc)
		rc = qcow2_header_load(f, err);
	if (rc)
		qcow2_file_close(f);
	return rc;
}

void qcow2_file_close(struct qcow2_file *f)
{
	/* A *f of all zeroes was never opened: its fd 0 is not the image's. */
	if (f->path)
		store_image_close(&f->image);
	free(f->l1.entry);
	free(f->reftable.entry);
	free(f->backing_name);
	free(f->path);
	*f = (struct qcow2_file){ .image = { .fd = -1, .cached_fd = -1 } };
}
