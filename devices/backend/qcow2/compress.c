/*
 * qcow2/compress: compressed clusters, raw deflate or zstd.
 *
 * A guest reads a compressed cluster in small pieces, one after the other. The engine keeps the
 * last few clusters decompressed, so that it decompresses each once, and tells them apart by their
 * L2 entries. Freeing a cluster makes it forget all of them (a read-only image frees none).
 */
#include "devices/backend/qcow2/compress.h"
#include "devices/backend/qcow2/qcow2_impl.h"
#include "devices/backend/store/iov.h"

#include <errno.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "vmm/core/log.h"

/* Limit for all kept clusters together, but two clusters at least. */
#define KEPT_BYTES (1u << 20)
#define KEPT_MAX 16u
/* Raw deflate with zlib's largest window. QEMU writes and reads windows of 4 KiB. */
#define WINDOW_BITS_READ (-15)
/*
 * QEMU's frames need no window larger than a cluster, 2 MiB at most. 8 MiB is what RFC 8878 asks
 * decoders to support; zstd's own limit would let an image ask for 128 MiB in each worker.
 */
#define ZSTD_WINDOW_LOG_MAX 23
/* Idle decompressors that are kept for the next cluster, and the memory that each may keep. */
#define SPARE_MAX 8u
#define SPARE_BYTES (512u << 10)

struct kept {
	uint64_t entry; /* 0: none */
	uint64_t used;	/* clock at its last use; the smallest is evicted first */
	unsigned users;
	uint8_t *data;
};

/* One thread uses it at a time. Kept, because building its tables takes a good part of a cluster's
 * time. */
struct unpacker {
	struct libdeflate_decompressor *deflate;
	ZSTD_DCtx *zstd;
	uint8_t *in; /* a cluster as it is in the file */
	uint64_t in_room;
};

struct qcow2_unpacked {
	struct kept kept[KEPT_MAX];
	unsigned n;
	uint64_t clock;
	uint64_t generation; /* grows when qcow2_unpacked_forget_locked forgets all */
	struct unpacker *spare[SPARE_MAX];
	unsigned nspare;
};

/* --- the two methods ---------------------------------------------------------------- */

static int inflate_by_zlib(const uint8_t *in, uint64_t in_len, uint8_t *out, uint64_t out_len)
{
	z_stream z = { .next_in = (uint8_t *)in,
		       .avail_in = (uInt)in_len,
		       .next_out = out,
		       .avail_out = (uInt)out_len };
	int rc;

	if (inflateInit2(&z, WINDOW_BITS_READ) != Z_OK)
		return -ENOMEM;
	rc = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	/* Bytes behind the stream in its last sector do not matter. */
	return (rc == Z_STREAM_END || rc == Z_BUF_ERROR) && !z.avail_out ? 0 : -EIO;
}

/*
 * libdeflate is much faster, but needs a complete stream of exactly out_len bytes. QEMU accepts a
 * stream as soon as the cluster is full, even if the stream goes on or lacks its end; zlib reads
 * such a stream.
 */
static int inflate_cluster(struct unpacker *u, uint64_t in_len, uint8_t *out, uint64_t out_len)
{
	size_t used;

	if (libdeflate_deflate_decompress_ex(u->deflate, u->in, in_len, out, out_len, &used,
					     NULL) == LIBDEFLATE_SUCCESS)
		return 0;
	return inflate_by_zlib(u->in, in_len, out, out_len);
}

static int unzstd_cluster(struct unpacker *u, uint64_t in_len, uint8_t *out, uint64_t out_len)
{
	ZSTD_inBuffer src = { u->in, in_len, 0 };
	ZSTD_outBuffer dst = { out, out_len, 0 };
	int rc = 0;

	ZSTD_DCtx_reset(u->zstd, ZSTD_reset_session_only);
	while (!rc && dst.pos < dst.size) {
		size_t in_before = src.pos, out_before = dst.pos;
		size_t left = ZSTD_decompressStream(u->zstd, &dst, &src);

		if (ZSTD_isError(left) || (src.pos == in_before && dst.pos == out_before))
			rc = -EIO;
	}
	return rc;
}

/* --- decompressors ------------------------------------------------------------------ */

static void unpacker_destroy(struct unpacker *u)
{
	if (!u)
		return;
	libdeflate_free_decompressor(u->deflate);
	ZSTD_freeDCtx(u->zstd);
	free(u->in);
	free(u);
}

static struct unpacker *unpacker_create(bool zstd)
{
	struct unpacker *u = calloc(1, sizeof(*u));

	if (!u)
		return NULL;
	if (zstd)
		u->zstd = ZSTD_createDCtx();
	else
		u->deflate = libdeflate_alloc_decompressor();
	if (u->deflate ||
	    (u->zstd && !ZSTD_isError(ZSTD_DCtx_setParameter(u->zstd, ZSTD_d_windowLogMax,
							     ZSTD_WINDOW_LOG_MAX))))
		return u;
	unpacker_destroy(u);
	return NULL;
}

/* Returns a spare decompressor or a new one, with room for len bytes in u->in. NULL: no memory. */
static struct unpacker *unpacker_take(struct qcow2 *q, uint64_t len)
{
	struct unpacker *u = NULL;

	pthread_mutex_lock(&q->lock);
	if (q->unpacked && q->unpacked->nspare)
		u = q->unpacked->spare[--q->unpacked->nspare];
	pthread_mutex_unlock(&q->lock);
	if (!u)
		u = unpacker_create(q->file.zstd);
	if (!u || len <= u->in_room)
		return u;
	free(u->in);
	u->in = malloc(len);
	u->in_room = u->in ? len : 0;
	if (u->in)
		return u;
	unpacker_destroy(u);
	return NULL;
}

static void unpacker_give_back(struct qcow2 *q, struct unpacker *u)
{
	/* A stream may ask zstd for a window of many megabytes. */
	bool small = u->in_room + (u->zstd ? ZSTD_sizeof_DCtx(u->zstd) : 0) <= SPARE_BYTES;

	pthread_mutex_lock(&q->lock);
	if (small && q->unpacked && q->unpacked->nspare < SPARE_MAX) {
		q->unpacked->spare[q->unpacked->nspare++] = u;
		u = NULL;
	}
	pthread_mutex_unlock(&q->lock);
	unpacker_destroy(u);
}

/*
 * Once per image. The metadata is sound and only this cluster's data is lost, so the guest may go
 * on writing to the image.
 */
static void log_unpack_error(struct qcow2 *q, uint64_t offset)
{
	if (__atomic_exchange_n(&q->unpack_error_logged, true, __ATOMIC_RELAXED))
		return;
	log_put_for(q->file.path, LOG_ERROR,
		    "disk %s: a compressed cluster at offset %#llx of the file cannot be "
		    "decompressed; the guest gets I/O errors where it reads it",
		    q->file.path, (unsigned long long)offset);
}

static int unpack_cluster(struct qcow2 *q, uint64_t entry, uint8_t *out)
{
	uint64_t offset, len;
	struct unpacker *u;
	int rc;

	qcow2_packed_extent(&q->file, entry, &offset, &len);
	u = unpacker_take(q, len);
	if (!u)
		return -ENOMEM;
	/* The file's last compressed cluster may claim sectors that were never written. */
	rc = qcow2_pread(&q->file, u->in, len, offset);
	if (!rc) {
		rc = q->file.zstd ? unzstd_cluster(u, len, out, q->file.cluster_bytes) :
				    inflate_cluster(u, len, out, q->file.cluster_bytes);
		if (rc == -EIO)
			log_unpack_error(q, offset);
	}
	unpacker_give_back(q, u);
	return rc;
}

/* --- kept clusters ------------------------------------------------------------------ */

static unsigned room(const struct qcow2 *q)
{
	uint64_t n = KEPT_BYTES >> q->file.cluster_bits;

	return n < 2 ? 2 : n > KEPT_MAX ? KEPT_MAX : (unsigned)n;
}

static struct kept *find_locked(struct qcow2 *q, uint64_t entry)
{
	struct qcow2_unpacked *u = q->unpacked;

	for (unsigned i = 0; u && i < u->n; i++)
		if (u->kept[i].entry == entry)
			return &u->kept[i];
	return NULL;
}

/* Keeps data as entry's decompressed cluster, or frees it. */
static void keep_locked(struct qcow2 *q, uint64_t entry, uint8_t *data)
{
	struct qcow2_unpacked *u = q->unpacked;
	struct kept *oldest = NULL;

	if (find_locked(q, entry)) {
		free(data);
		return;
	}
	if (u->n < room(q)) {
		oldest = &u->kept[u->n++];
	} else {
		for (unsigned i = 0; i < u->n; i++)
			if (!u->kept[i].users && (!oldest || u->kept[i].used < oldest->used))
				oldest = &u->kept[i];
	}
	if (!oldest) {
		free(data);
		return;
	}
	free(oldest->data);
	*oldest = (struct kept){ .entry = entry, .used = ++u->clock, .data = data };
}

void qcow2_unpacked_forget_locked(struct qcow2 *q)
{
	struct qcow2_unpacked *u = q->unpacked;

	if (!u)
		return;
	u->generation++;
	for (unsigned i = 0; i < u->n; i++)
		u->kept[i].entry = 0;
}

void qcow2_unpacked_free(struct qcow2 *q)
{
	if (!q->unpacked)
		return;
	for (unsigned i = 0; i < q->unpacked->n; i++)
		free(q->unpacked->kept[i].data);
	while (q->unpacked->nspare)
		unpacker_destroy(q->unpacked->spare[--q->unpacked->nspare]);
	free(q->unpacked);
	q->unpacked = NULL;
}

/* As qcow2_unpack, from a kept cluster. Returns false if it is not kept. */
static bool from_kept(struct qcow2 *q, uint64_t entry, uint64_t from, const struct iovec *iov,
		      unsigned niov, uint64_t skip, uint64_t len)
{
	struct kept *k;

	pthread_mutex_lock(&q->lock);
	k = find_locked(q, entry);
	if (k) {
		k->used = ++q->unpacked->clock;
		k->users++;
	}
	pthread_mutex_unlock(&q->lock);
	if (!k)
		return false;
	store_iov_fill(iov, niov, skip, k->data + from, len);
	pthread_mutex_lock(&q->lock);
	k->users--;
	pthread_mutex_unlock(&q->lock);
	return true;
}

bool qcow2_unpacked_locked(struct qcow2 *q, uint64_t entry, uint64_t from, const struct iovec *iov,
			   unsigned niov, uint64_t skip, uint64_t len)
{
	struct kept *k = find_locked(q, entry);

	if (!k)
		return false;
	k->used = ++q->unpacked->clock;
	store_iov_fill(iov, niov, skip, k->data + from, len);
	return true;
}

int qcow2_unpack(struct qcow2 *q, uint64_t entry, uint64_t from, const struct iovec *iov,
		 unsigned niov, uint64_t skip, uint64_t len)
{
	uint64_t generation;
	uint8_t *data;
	int rc = 0;

	if (from_kept(q, entry, from, iov, niov, skip, len))
		return 0;
	data = malloc(q->file.cluster_bytes);
	if (!data)
		return -ENOMEM;
	pthread_mutex_lock(&q->lock);
	if (!q->unpacked)
		q->unpacked = calloc(1, sizeof(*q->unpacked));
	generation = q->unpacked ? q->unpacked->generation : 0;
	pthread_mutex_unlock(&q->lock);
	rc = unpack_cluster(q, entry, data);
	if (!rc)
		store_iov_fill(iov, niov, skip, data + from, len);
	pthread_mutex_lock(&q->lock);
	if (!rc && q->unpacked && generation == q->unpacked->generation)
		keep_locked(q, entry, data);
	else
		free(data);
	pthread_mutex_unlock(&q->lock);
	return rc;
}
