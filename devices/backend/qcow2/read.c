/* qcow2/read: reads, through the chain of backing files. See read.h. */
#include "devices/backend/qcow2/compress.h"
#include "devices/backend/qcow2/qcow2_impl.h"
#include "devices/backend/qcow2/read.h"
#include "devices/backend/store/iov.h"

#include <errno.h>

#define PARTS 64u

bool qcow2_beyond(const struct store *s, uint64_t offset, uint64_t len)
{
	uint64_t size = store_size(s);

	return offset > size || len > size - offset;
}

/* Reads from the backing file; beyond its end, or without one, all bytes are zeroes. */
static int read_backing(struct qcow2 *q, const struct iovec *iov, unsigned niov, uint64_t skip,
			uint64_t offset, uint64_t len)
{
	struct store *b = q->store.backing;
	uint64_t there = 0;

	if (b && offset < b->size_bytes)
		there = len < b->size_bytes - offset ? len : b->size_bytes - offset;
	store_iov_zero(iov, niov, skip + there, len - there);
	while (there) {
		struct iovec part[PARTS];
		unsigned n = store_iov_slice(part, PARTS, iov, niov, skip, there);
		uint64_t bytes = 0;
		int rc;

		for (unsigned i = 0; i < n; i++)
			bytes += part[i].iov_len;
		rc = b->ops->read(b, part, n, offset, bytes);
		if (rc)
			return rc;
		skip += bytes;
		offset += bytes;
		there -= bytes;
	}
	return 0;
}

static int read_run(struct qcow2 *q, const struct qcow2_run *run, const struct iovec *iov,
		    unsigned niov, uint64_t skip, uint64_t offset)
{
	switch (run->kind) {
	case QCOW2_HOLE:
		return read_backing(q, iov, niov, skip, offset, run->len);
	case QCOW2_ZEROES:
		store_iov_zero(iov, niov, skip, run->len);
		return 0;
	case QCOW2_DATA:
		return qcow2_preadv(&q->file, iov, niov, skip, run->len, run->host);
	case QCOW2_PACKED:
		return qcow2_unpack(q, run->entry, offset & (q->file.cluster_bytes - 1), iov, niov,
				    skip, run->len);
	}
	return -EIO;
}

int qcow2_read(struct store *s, const struct iovec *iov, unsigned niov, uint64_t offset,
	       uint64_t len)
{
	struct qcow2 *q = qcow2_of(s);
	uint64_t done = 0;

	if (qcow2_beyond(s, offset, len))
		return -EINVAL;
	while (done < len) {
		struct qcow2_run run;
		unsigned epoch;
		int rc = qcow2_map(q, offset + done, len - done, &run, &epoch);

		if (rc)
			return rc;
		rc = read_run(q, &run, iov, niov, done, offset + done);
		qcow2_io_end(q, epoch);
		if (rc)
			return rc;
		done += run.len;
	}
	return 0;
}

/* --- map ------------------------------------------------------------------------- */

static int extent_of_hole(struct qcow2 *q, uint64_t offset, struct store_extent *out)
{
	struct store *b = q->store.backing;
	uint64_t len = out->len_bytes;
	int rc;

	out->zero = true;
	if (!b || offset >= b->size_bytes)
		return 0;
	if (len > b->size_bytes - offset)
		len = b->size_bytes - offset;
	rc = b->ops->map(b, offset, len, out);
	out->depth++;
	return rc;
}

int qcow2_extent(struct store *s, uint64_t offset, uint64_t max, struct store_extent *out)
{
	struct qcow2 *q = qcow2_of(s);
	struct qcow2_run run;
	unsigned epoch;
	int rc;

	if (!max || qcow2_beyond(s, offset, max))
		return -EINVAL;
	rc = qcow2_map(q, offset, max, &run, &epoch);
	if (rc)
		return rc;
	qcow2_io_end(q, epoch);
	*out = (struct store_extent){ .len_bytes = run.len,
				      .fd = -1,
				      .present = run.kind != QCOW2_HOLE };
	switch (run.kind) {
	case QCOW2_HOLE:
		return extent_of_hole(q, offset, out);
	case QCOW2_ZEROES:
		out->zero = true;
		break;
	case QCOW2_DATA:
		out->data = out->in_place = true;
		out->fd = q->file.fd;
		out->offset = run.host;
		break;
	case QCOW2_PACKED:
		out->data = out->compressed = true;
		break;
	}
	return 0;
}
