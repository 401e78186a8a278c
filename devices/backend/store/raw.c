/*
 * store/raw: a file or block device whose bytes are the disk's bytes. See store.h.
 *
 * It takes no lock: the host's file system has its own, and two writers of the same bytes race as
 * they do on a real disk.
 */
#include "devices/backend/store/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "devices/backend/store/image_file.h"
#include "devices/backend/store/iov.h"
#include "vmm/core/fd_rw.h"
#include "vmm/core/fd_stat.h"

#define IOV_STEP 64u
#define ZERO_BYTES 65536u

struct raw {
	struct store store; /* first */
	struct store_image image;
	int lost_writes; /* as in struct disk; atomic */
};

static const uint8_t zeroes[ZERO_BYTES];

static struct raw *raw_of(struct store *s)
{
	return (struct raw *)s;
}

static bool beyond(const struct store *s, uint64_t offset, uint64_t len_bytes)
{
	return offset > s->size_bytes || len_bytes > s->size_bytes - offset;
}

static int transfer(struct store *s, bool write, const struct iovec *iov, unsigned niov,
		    uint64_t offset, uint64_t len_bytes)
{
	struct raw *raw = raw_of(s);
	/* Buffers of callers have no alignment: use the page cache. */
	int fd = raw->image.cached_fd >= 0 ? raw->image.cached_fd : raw->image.fd;
	uint64_t done = 0;

	if (beyond(s, offset, len_bytes))
		return -EINVAL;
	while (done < len_bytes) {
		struct iovec part[IOV_STEP];
		unsigned n = store_iov_slice(part, IOV_STEP, iov, niov, done, len_bytes - done);
		ssize_t got = write ? fd_rw_pwritev(fd, part, (int)n, (off_t)(offset + done), 0) :
				      fd_rw_preadv(fd, part, (int)n, (off_t)(offset + done), 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got ? -errno : -EIO; /* the file has shrunk */
		done += (uint64_t)got;
	}
	return 0;
}

static int raw_read(struct store *s, const struct iovec *iov, unsigned niov, uint64_t offset,
		    uint64_t len_bytes)
{
	return transfer(s, false, iov, niov, offset, len_bytes);
}

static int raw_write(struct store *s, const struct iovec *iov, unsigned niov, uint64_t offset,
		     uint64_t len_bytes)
{
	return s->readonly ? -EROFS : transfer(s, true, iov, niov, offset, len_bytes);
}

static int raw_zero(struct store *s, uint64_t offset, uint64_t len_bytes, bool unmap)
{
	int fd = raw_of(s)->image.fd;

	if (s->readonly)
		return -EROFS;
	if (beyond(s, offset, len_bytes))
		return -EINVAL;
	if (!len_bytes || (unmap && !fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					       (off_t)offset, (off_t)len_bytes)))
		return 0;
	if (!fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
		       (off_t)len_bytes))
		return 0;
	for (uint64_t done = 0; done < len_bytes;) {
		uint64_t len = len_bytes - done < ZERO_BYTES ? len_bytes - done : ZERO_BYTES;
		struct iovec iov = { (void *)zeroes, len };
		int rc = transfer(s, true, &iov, 1, offset + done, len);

		if (rc)
			return rc;
		done += len;
	}
	return 0;
}

static int raw_discard(struct store *s, uint64_t offset, uint64_t len_bytes)
{
	struct raw *raw = raw_of(s);
	uint64_t range[2] = { offset, len_bytes };

	if (s->readonly)
		return -EROFS;
	if (beyond(s, offset, len_bytes))
		return -EINVAL;
	/* Discard is a hint: if the host cannot do it, that is no failure. */
	if (raw->image.is_block)
		ioctl(raw->image.fd, BLKDISCARD, range);
	else if (len_bytes &&
		 fallocate(raw->image.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			   (off_t)len_bytes) &&
		 errno == EIO)
		return -EIO;
	return 0;
}

static int raw_flush(struct store *s)
{
	struct raw *raw = raw_of(s);
	int rc = __atomic_load_n(&raw->lost_writes, __ATOMIC_RELAXED);

	if (!rc && fdatasync(raw->image.fd)) {
		rc = -errno;
		__atomic_store_n(&raw->lost_writes, rc, __ATOMIC_RELAXED);
	}
	return rc;
}

static int raw_map(struct store *s, uint64_t offset, uint64_t max_bytes, struct store_extent *out)
{
	struct raw *raw = raw_of(s);
	off_t data, hole;
	struct stat st;

	if (!max_bytes || beyond(s, offset, max_bytes))
		return -EINVAL;
	*out = (struct store_extent){ .len_bytes = max_bytes,
				      .data = true,
				      .present = true,
				      .fd = raw->image.fd,
				      .in_place = true,
				      .offset = offset };
	/* Block devices, and file systems without holes, have all data. */
	data = lseek(raw->image.fd, (off_t)offset, SEEK_DATA);
	if (data < 0 && errno != ENXIO)
		return 0;
	/* Either a hole reaches to the end, or the file has shrunk: lost bytes are not zeroes. */
	if (data < 0 && !raw->image.is_block &&
	    (fd_stat(raw->image.fd, &st) || (uint64_t)st.st_size < s->size_bytes))
		return -EIO;
	if (data < 0 || (uint64_t)data > offset) {
		out->data = false;
		out->zero = true;
		if (data > 0 && (uint64_t)data - offset < max_bytes)
			out->len_bytes = (uint64_t)data - offset;
		return 0;
	}
	hole = lseek(raw->image.fd, (off_t)offset, SEEK_HOLE);
	if (hole > 0 && (uint64_t)hole - offset < max_bytes)
		out->len_bytes = (uint64_t)hole - offset;
	return 0;
}

static int raw_resize(struct store *s, uint64_t size_bytes, struct err *err)
{
	struct raw *raw = raw_of(s);

	if (raw->image.is_block)
		return err_set(err, EINVAL, "a block device keeps its size");
	if (ftruncate(raw->image.fd, (off_t)size_bytes))
		return err_sys(err, errno, "cannot resize to %llu bytes",
			       (unsigned long long)size_bytes);
	s->size_bytes = size_bytes;
	return 0;
}

static int raw_close(struct store *s)
{
	store_image_close(&raw_of(s)->image);
	free(s);
	return 0;
}

static const struct store_ops raw_ops = {
	.format = STORE_RAW,
	.read = raw_read,
	.write = raw_write,
	.zero = raw_zero,
	.discard = raw_discard,
	.flush = raw_flush,
	.map = raw_map,
	.resize = raw_resize,
	.close = raw_close,
};

int store_raw_open(const struct store_options *options, struct store **out, struct err *err)
{
	struct raw *raw = calloc(1, sizeof(*raw));
	int rc;

	*out = NULL;
	if (!raw)
		return err_sys(err, ENOMEM, "disk %s", options->path);
	rc = store_image_open(&raw->image, options->path, options->via, options->readonly,
			      options->direct, err);
	if (rc) {
		free(raw);
		return rc;
	}
	raw->store = (struct store){ .ops = &raw_ops,
				     .size_bytes = raw->image.size_bytes,
				     .readonly = options->readonly,
				     .image = &raw->image };
	*out = &raw->store;
	return 0;
}

int store_raw_create(const struct store_create *create, struct err *err)
{
	int fd = open(create->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, STORE_NEW_MODE);
	int rc = 0;

	if (fd < 0)
		return err_sys(err, errno, "disk %s: cannot create", create->path);
	if (ftruncate(fd, (off_t)create->size_bytes))
		rc = err_sys(err, errno, "disk %s: cannot make it %llu bytes", create->path,
			     (unsigned long long)create->size_bytes);
	if (close(fd) && !rc)
		rc = err_sys(err, errno, "disk %s: cannot create", create->path);
	if (rc)
		unlink(create->path);
	return rc;
}
