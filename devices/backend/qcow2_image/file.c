/* qcow2_image/file: whole transfers of the image file. See file.h. */
#include "devices/backend/qcow2_image/file.h"
#include "devices/backend/store/iov.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <unistd.h>

#include "vmm/core/fd_rw.h"
#include "vmm/core/log.h"

#define PARTS 64u
#define ZERO_BYTES 65536u

static const uint8_t zeroes[ZERO_BYTES];

int qcow2_preadv(const struct qcow2_file *f, const struct iovec *iov, unsigned niov, uint64_t skip,
		 uint64_t len, uint64_t offset)
{
	while (len) {
		struct iovec part[PARTS];
		unsigned n = store_iov_slice(part, PARTS, iov, niov, skip, len);
		ssize_t got = fd_rw_preadv(f->fd, part, (int)n, (off_t)offset, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got) {
			/* The file's last cluster may be incomplete: the rest is zeroes. */
			store_iov_zero(iov, niov, skip, len);
			return 0;
		}
		skip += (uint64_t)got;
		offset += (uint64_t)got;
		len -= (uint64_t)got;
	}
	return 0;
}

int qcow2_pwritev(const struct qcow2_file *f, const struct iovec *iov, unsigned niov, uint64_t skip,
		  uint64_t len, uint64_t offset)
{
	while (len) {
		struct iovec part[PARTS];
		unsigned n = store_iov_slice(part, PARTS, iov, niov, skip, len);
		ssize_t put = fd_rw_pwritev(f->fd, part, (int)n, (off_t)offset, 0);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put ? -errno : -EIO;
		skip += (uint64_t)put;
		offset += (uint64_t)put;
		len -= (uint64_t)put;
	}
	return 0;
}

int qcow2_pread(const struct qcow2_file *f, void *buf, uint64_t len, uint64_t offset)
{
	struct iovec iov = { buf, len };

	return qcow2_preadv(f, &iov, 1, 0, len, offset);
}

bool qcow2_pread_now(const struct qcow2_file *f, void *buf, uint64_t len, uint64_t offset)
{
	struct iovec iov = { buf, len };

	return fd_rw_preadv(f->fd, &iov, 1, (off_t)offset, RWF_NOWAIT) == (ssize_t)len;
}

int qcow2_pwrite(const struct qcow2_file *f, const void *buf, uint64_t len, uint64_t offset)
{
	struct iovec iov = { (void *)buf, len };

	return qcow2_pwritev(f, &iov, 1, 0, len, offset);
}

int qcow2_pzero(const struct qcow2_file *f, uint64_t len, uint64_t offset)
{
	if (!len || !fallocate(f->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			       (off_t)len))
		return 0;
	while (len) {
		uint64_t part = len < ZERO_BYTES ? len : ZERO_BYTES;
		int rc = qcow2_pwrite(f, zeroes, part, offset);

		if (rc)
			return rc;
		offset += part;
		len -= part;
	}
	return 0;
}

void qcow2_set_lost_writes(struct qcow2_file *f, int error)
{
	int none = 0;

	__atomic_compare_exchange_n(&f->lost_writes, &none, error, false, __ATOMIC_RELAXED,
				    __ATOMIC_RELAXED);
}

int qcow2_sync(struct qcow2_file *f)
{
	int error = qcow2_get_lost_writes(f);

	if (!error && fdatasync(f->fd)) {
		error = -errno;
		qcow2_set_lost_writes(f, error);
	}
	return error;
}

int qcow2_damaged(struct qcow2_file *f, const char *what, uint64_t offset)
{
	/* A guest can cause this as often as it likes, so it is logged once. */
	if (!f->unsafe)
		log_put_for(f->path, LOG_ERROR,
			    "disk %s: damaged at offset %#llx of the file: %s; the guest "
			    "gets I/O errors there; qemu-img check lists the damage",
			    f->path, (unsigned long long)offset, what);
	f->unsafe = true;
	return -EIO;
}
