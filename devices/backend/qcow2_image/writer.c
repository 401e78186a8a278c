/* qcow2_image/writer: see qcow2_image/writer.h. */
#include "devices/backend/qcow2_image/writer.h"

#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/backend/qcow2_image/format.h"

#define REFCOUNT_BYTES 2u /* order 4, the only one of version 2 */
#define SHARED_MAX 65535u
#define STEP_BYTES (1u << 20)

struct qcow2_writer {
	int fd;
	unsigned version;
	unsigned cluster_bits;
	uint64_t cluster_bytes;
	unsigned l2_bits;
	uint64_t size_bytes;
	bool zstd, lazy;
	char *backing;
	enum store_format backing_format;
	uint64_t **l2; /* l1_size tables, host byte order; NULL: none */
	uint64_t l1_size;
	uint64_t tail;	    /* clusters taken so far: the number of the next new one */
	uint64_t packed_at; /* where the next compressed cluster begins, if it fits */
	uint64_t packed_end;
	uint16_t *shared; /* refcounts of clusters below nshared; 0 means 1 */
	uint64_t nshared;
};

static uint64_t div_up(uint64_t n, uint64_t by)
{
	return n / by + !!(n % by);
}

/* --- create ------------------------------------------------------------------------ */

bool qcow2_cluster_bytes_ok(uint64_t bytes)
{
	return bytes >= 1u << QCOW2_MIN_CLUSTER_BITS && bytes <= 1u << QCOW2_MAX_CLUSTER_BITS &&
	       !(bytes & (bytes - 1));
}

static int judge(struct qcow2_writer *w, const struct store_create *c, struct err *err)
{
	uint32_t cluster = c->cluster_bytes ? c->cluster_bytes : 65536;
	uint64_t header = sizeof(struct qcow2_header) + 64;
	uint64_t l1_bytes;

	w->version = c->version ? c->version : 3;
	if (w->version != 2 && w->version != 3)
		return err_set(err, EINVAL, "qcow2 version %u: must be 2 or 3", w->version);
	if (!qcow2_cluster_bytes_ok(cluster))
		return err_set(err, EINVAL, "cluster size %u: is not a power of two from 512 to 2M",
			       cluster);
	if (w->version == 2 && (c->zstd || c->lazy_refcounts))
		return err_set(err, EINVAL, "%s: needs version 3 of qcow2",
			       c->zstd ? "zstd compression" : "lazy refcounts");
	w->cluster_bytes = cluster;
	w->cluster_bits = (unsigned)__builtin_ctz(cluster);
	w->l2_bits = w->cluster_bits - 3;
	w->size_bytes = c->size_bytes;
	w->zstd = c->zstd;
	w->lazy = c->lazy_refcounts;
	w->l1_size = div_up(w->size_bytes, w->cluster_bytes << w->l2_bits);
	l1_bytes = w->l1_size * 8;
	if (!w->size_bytes || w->size_bytes > INT64_MAX || l1_bytes > QCOW2_MAX_L1_BYTES)
		return err_set(err, EINVAL,
			       "a qcow2 image with clusters of %u bytes cannot hold a "
			       "disk of %llu bytes%s",
			       cluster, (unsigned long long)c->size_bytes,
			       l1_bytes > QCOW2_MAX_L1_BYTES &&
					       w->cluster_bits < QCOW2_MAX_CLUSTER_BITS ?
				       "; larger clusters can" :
				       "");
	if (c->backing &&
	    (strlen(c->backing) > QCOW2_MAX_NAME || header + strlen(c->backing) > w->cluster_bytes))
		return err_set(err, ENAMETOOLONG,
			       "the backing file's name is too long for the "
			       "image's header (%zu bytes)",
			       strlen(c->backing));
	return 0;
}

int qcow2_writer_create(int fd, const struct store_create *create, struct qcow2_writer **out,
			struct err *err)
{
	struct qcow2_writer *w = calloc(1, sizeof(*w));
	int rc;

	*out = NULL;
	if (!w)
		return err_sys(err, ENOMEM, "qcow2");
	w->fd = fd;
	rc = judge(w, create, err);
	if (rc)
		goto fail;
	w->backing_format = create->backing_format;
	if (create->backing)
		w->backing = strdup(create->backing);
	w->l2 = calloc(w->l1_size, sizeof(*w->l2));
	rc = err_sys(err, ENOMEM, "qcow2");
	if (!w->l2 || (create->backing && !w->backing))
		goto fail;
	w->tail = 1 + div_up(w->l1_size * 8, w->cluster_bytes);
	*out = w;
	return 0;
fail:
	qcow2_writer_destroy(w);
	return rc;
}

void qcow2_writer_destroy(struct qcow2_writer *w)
{
	if (!w)
		return;
	for (uint64_t i = 0; w->l2 && i < w->l1_size; i++)
		free(w->l2[i]);
	free(w->l2);
	free(w->shared);
	free(w->backing);
	free(w);
}

/* --- place ---------------------------------------------------------------------------- */

static int set_entry(struct qcow2_writer *w, uint64_t cluster, uint64_t entry)
{
	uint64_t **l2 = &w->l2[cluster >> w->l2_bits];

	if (!*l2)
		*l2 = calloc(1, w->cluster_bytes);
	if (!*l2)
		return -ENOMEM;
	(*l2)[cluster & ((1ull << w->l2_bits) - 1)] = entry;
	return 0;
}

/* Counts one more compressed cluster (or a part of one) in the clusters from first to last. */
static int share(struct qcow2_writer *w, uint64_t first, uint64_t last)
{
	if (last >= w->nshared) {
		uint64_t n = (last + 1) * 2;
		uint16_t *more = realloc(w->shared, n * sizeof(*more));

		if (!more)
			return -ENOMEM;
		memset(more + w->nshared, 0, (n - w->nshared) * sizeof(*more));
		w->shared = more;
		w->nshared = n;
	}
	for (uint64_t i = first; i <= last; i++)
		w->shared[i]++;
	return 0;
}

static bool share_is_full(const struct qcow2_writer *w, uint64_t at)
{
	uint64_t cluster = at >> w->cluster_bits;

	return cluster < w->nshared && w->shared[cluster] >= SHARED_MAX;
}

/* Places compressed clusters one behind the other; one may span adjoining clusters of the file. */
static int place_packed(struct qcow2_writer *w, struct qcow2_piece *p)
{
	uint64_t room = w->packed_end - w->packed_at, sectors, entry;
	unsigned shift = 62 - (w->cluster_bits - 8);
	int rc;

	if (room < p->len_bytes || share_is_full(w, w->packed_at)) {
		if (!room || w->packed_end != w->tail << w->cluster_bits ||
		    share_is_full(w, w->packed_at)) {
			w->packed_at = w->packed_end = w->tail << w->cluster_bits;
			room = 0;
		}
		w->tail += div_up(p->len_bytes - room, w->cluster_bytes);
		w->packed_end = w->tail << w->cluster_bits;
	}
	p->host = w->packed_at;
	w->packed_at += p->len_bytes;
	sectors = ((w->packed_at - 1) >> 9) - (p->host >> 9);
	entry = QCOW2_COMPRESSED | (sectors << shift) | p->host;
	BUG_ON(p->host >> shift || sectors >> (w->cluster_bits - 8));
	rc = share(w, p->host >> w->cluster_bits, (w->packed_at - 1) >> w->cluster_bits);
	return rc ? rc : set_entry(w, p->cluster, entry);
}

int qcow2_writer_place(struct qcow2_writer *w, struct qcow2_piece *piece, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct qcow2_piece *p = &piece[i];
		int rc;

		BUG_ON(p->cluster >= div_up(w->size_bytes, w->cluster_bytes));
		p->host = 0;
		if (p->kind == QCOW2_PIECE_PACKED) {
			rc = place_packed(w, p);
		} else if (p->kind == QCOW2_PIECE_ZERO && w->version >= 3) {
			rc = set_entry(w, p->cluster, QCOW2_ZERO);
		} else {
			p->host = w->tail++ << w->cluster_bits;
			rc = set_entry(w, p->cluster, p->host | QCOW2_COPIED);
		}
		if (rc)
			return rc;
		if (w->tail << w->cluster_bits > QCOW2_OFFSET_MASK)
			return -EFBIG;
	}
	return 0;
}

/* --- finish ------------------------------------------------------------------------------- */

static int put(const struct qcow2_writer *w, const void *bytes, uint64_t len, uint64_t offset)
{
	const char *p = bytes;

	while (len) {
		ssize_t n = pwrite(w->fd, p, len < STEP_BYTES ? len : STEP_BYTES, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		p += n;
		offset += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* Writes the L2 tables in the guest's order, and the L1 table of their places. */
static int put_l2(struct qcow2_writer *w)
{
	uint64_t *l1 = calloc(w->l1_size, sizeof(*l1));
	int rc = l1 ? 0 : -ENOMEM;

	for (uint64_t i = 0; !rc && i < w->l1_size; i++) {
		uint64_t *l2 = w->l2[i], host = w->tail << w->cluster_bits;

		if (!l2)
			continue;
		for (uint64_t e = 0; e < 1ull << w->l2_bits; e++)
			l2[e] = htobe64(l2[e]);
		rc = put(w, l2, w->cluster_bytes, host);
		l1[i] = htobe64(host | QCOW2_COPIED);
		w->tail++;
		free(l2);
		w->l2[i] = NULL;
	}
	if (!rc)
		rc = put(w, l1, w->l1_size * 8, w->cluster_bytes);
	free(l1);
	return rc;
}

static int put_blocks(const struct qcow2_writer *w, uint64_t first, uint64_t nblocks,
		      uint64_t total)
{
	uint64_t per_block = w->cluster_bytes / REFCOUNT_BYTES;
	uint16_t *block = malloc(w->cluster_bytes);
	int rc = block ? 0 : -ENOMEM;

	for (uint64_t b = 0; !rc && b < nblocks; b++) {
		for (uint64_t i = 0; i < per_block; i++) {
			uint64_t cluster = b * per_block + i;
			uint16_t count = cluster < w->nshared ? w->shared[cluster] : 0;

			block[i] = htobe16(cluster >= total ? 0 : count ? count : 1);
		}
		rc = put(w, block, w->cluster_bytes, (first + b) << w->cluster_bits);
	}
	free(block);
	return rc;
}

/* Writes blocks that also count themselves and the table, and the table of all blocks. */
static int put_refcounts(struct qcow2_writer *w, uint64_t *table_offset, uint32_t *nclusters)
{
	uint64_t per_block = w->cluster_bytes / REFCOUNT_BYTES;
	uint64_t nblocks = 0, ntable = 0, total, first = w->tail;
	uint64_t *table;
	int rc;

	do {
		total = w->tail + nblocks + ntable;
		nblocks = div_up(total, per_block);
		ntable = div_up(nblocks * 8, w->cluster_bytes);
	} while (total != w->tail + nblocks + ntable);
	if (ntable << w->cluster_bits > QCOW2_MAX_REFTABLE_BYTES)
		return -EFBIG;
	rc = put_blocks(w, first, nblocks, total);
	if (rc)
		return rc;
	table = calloc(ntable, w->cluster_bytes);
	if (!table)
		return -ENOMEM;
	for (uint64_t i = 0; i < nblocks; i++)
		table[i] = htobe64((first + i) << w->cluster_bits);
	*table_offset = (first + nblocks) << w->cluster_bits;
	*nclusters = (uint32_t)ntable;
	rc = put(w, table, ntable << w->cluster_bits, *table_offset);
	w->tail = total;
	free(table);
	return rc;
}

static uint8_t *put_extension(uint8_t *at, uint32_t type, const void *bytes, size_t len)
{
	struct qcow2_extension ext = { htobe32(type), htobe32((uint32_t)len) };

	memcpy(at, &ext, sizeof(ext));
	memcpy(at + sizeof(ext), bytes, len);
	return at + sizeof(ext) + ((len + 7) & ~(size_t)7);
}

static int put_header(const struct qcow2_writer *w, uint64_t reftable, uint32_t reftable_clusters)
{
	uint8_t *first = calloc(1, w->cluster_bytes), *at;
	struct qcow2_header *h = (void *)first;
	uint32_t len = w->version < 3 ? QCOW2_V2_HEADER_BYTES :
		       w->zstd	      ? sizeof(*h) :
					QCOW2_V3_HEADER_BYTES;
	int rc;

	if (!first)
		return -ENOMEM;
	*h = (struct qcow2_header){
		.magic = htobe32(QCOW2_MAGIC),
		.version = htobe32(w->version),
		.cluster_bits = htobe32(w->cluster_bits),
		.size = htobe64(w->size_bytes),
		.l1_size = htobe32((uint32_t)w->l1_size),
		.l1_offset = htobe64(w->cluster_bytes),
		.reftable_offset = htobe64(reftable),
		.reftable_clusters = htobe32(reftable_clusters),
	};
	if (w->version >= 3) {
		h->incompatible = htobe64(w->zstd ? QCOW2_INCOMPAT_COMPRESSION : 0);
		h->compatible = htobe64(w->lazy ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0);
		h->refcount_order = htobe32(4);
		h->header_len = htobe32(len);
		h->compression_type = w->zstd;
	}
	at = first + len;
	if (w->backing && w->backing_format != STORE_AUTO) {
		const char *name = store_format_name(w->backing_format);

		at = put_extension(at, QCOW2_EXT_BACKING_FORMAT, name, strlen(name));
	}
	at = put_extension(at, QCOW2_EXT_END, "", 0);
	if (w->backing) {
		h->backing_offset = htobe64((uint64_t)(at - first));
		h->backing_len = htobe32((uint32_t)strlen(w->backing));
		memcpy(at, w->backing, strlen(w->backing));
	}
	rc = put(w, first, w->cluster_bytes, 0);
	free(first);
	return rc;
}

int qcow2_writer_finish(struct qcow2_writer *w)
{
	uint64_t reftable = 0;
	uint32_t nclusters = 0;
	int rc = put_l2(w);

	if (!rc)
		rc = put_refcounts(w, &reftable, &nclusters);
	/* The file must include all sectors that the last compressed cluster claims. */
	if (!rc && ftruncate(w->fd, (off_t)(w->tail << w->cluster_bits)))
		rc = -errno;
	return rc ? rc : put_header(w, reftable, nclusters);
}
