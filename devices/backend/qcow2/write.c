/*
 * qcow2/write: writes, with new clusters where they are needed. See qcow2.h.
 *
 * Theory of operation.
 *
 * qcow2_write cuts a write into pieces: guest clusters of one kind, with their L2 entries in one
 * slice. Each piece goes through these stages.
 *
 * 1. Arm. Before the first change of the open image, qcow2_arm_locked clears the header's autoclear
 *    bits (other programs' bitmaps, for example, no longer match the data) and makes the file a
 *    whole number of clusters long.
 *
 * 2. Look. look() reads the L2 entries. If another thread has one of the guest clusters in q->busy,
 *    the piece waits until that thread is done (the loop's thread does not wait: it gets -EBUSY).
 *
 * 3. Place. place() chooses one of three ways.
 *    In place: the entry has COPIED, so the cluster's refcount is 1 and no snapshot shares it. Its
 *    bytes are overwritten; no metadata changes.
 *    At once: the guest clusters read as zeroes, and so do free clusters of the file. link_now
 *    takes such clusters and sets the entries in memory; the data is written afterwards. A read in
 *    between returns zeroes, as before.
 *    Copy: everything else (the backing file's data, a cluster that a snapshot shares, a compressed
 *    one, a preallocated zero, free clusters with old bytes in them) takes stage 4.
 *
 * 4. Copy. copy_locked does it, without the lock while it reads and writes:
 *    a. The guest clusters enter q->busy: no other thread changes their entries. Readers still find
 *       the old data.
 *    b. get_host takes free clusters: refcount 1, and nothing refers to them. A preallocated zero
 *       has its cluster already.
 *    c. write_copy reads the old bytes before and behind the data, and writes all of it in one go.
 *    d. link_copy sets the entries in memory. Their old clusters are freed after the next commit.
 *    e. The guest clusters leave q->busy, and the threads that wait for them look again.
 *    If something fails, the new clusters are given back and the guest clusters are as before.
 *
 * Between the lock's release and the end of a transfer, qcow2_io_begin_locked keeps the host
 * clusters from being used for something else ("Freeing" in qcow2.h).
 *
 * What a crash leaves. Entries and refcounts change in memory only. A commit writes refcounts, and
 * with the same fdatasync the data, before it writes L2 entries. So after a crash
 * - before the commit: the file has the old entries. A write in place is there, or not, or in part,
 *   as on any disk; the others are not there, and their new clusters are free.
 * - in the middle of the commit: new clusters may be counted and not be referred to. That is a
 *   leak, which costs room only.
 * - after the commit: all writes that had ended before it are there. A write placed "at once" may
 *   be linked although its data has not arrived: the guest reads zeroes, as it did before that
 *   write, whose completion the guest has not seen.
 */
#include "devices/backend/qcow2/link.h"
#include "devices/backend/qcow2/qcow2_impl.h"
#include "devices/backend/qcow2/read.h"
#include "devices/backend/qcow2/write.h"
#include "devices/backend/store/iov.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Bytes of one copying write. */
#define COPY_MAX (2u << 20)
#define PARTS 64u

/* --- busy clusters -------------------------------------------------------------------- */

bool qcow2_is_busy_locked(const struct qcow2 *q, uint64_t first, uint64_t n)
{
	for (const struct qcow2_busy *b = q->busy; b; b = b->next)
		if (first < b->first + b->n && b->first < first + n)
			return true;
	return false;
}

static void busy_begin(struct qcow2 *q, struct qcow2_busy *busy, uint64_t first, uint64_t n)
{
	*busy = (struct qcow2_busy){ first, n, q->busy };
	q->busy = busy;
}

static void busy_end(struct qcow2 *q, struct qcow2_busy *busy)
{
	struct qcow2_busy **link = &q->busy;

	while (*link != busy)
		link = &(*link)->next;
	*link = busy->next;
	pthread_cond_broadcast(&q->changed);
}

/* --- the first change ------------------------------------------------------------------- */

int qcow2_arm_locked(struct qcow2 *q)
{
	uint64_t none = 0;
	int rc = 0;

	if (q->file.autoclear)
		rc = qcow2_header_patch(&q->file, offsetof(struct qcow2_header, autoclear), &none,
					sizeof(none));
	if (rc)
		return rc;
	q->file.autoclear = 0;
	/* Whole clusters, so that no read of a cluster goes beyond the file's end. */
	if (!q->file.image.is_block && q->space.grown_bytes < q->file.bytes)
		rc = qcow2_lengthen_locked(q, q->file.bytes, q->file.bytes);
	q->armed = !rc;
	return rc;
}

/* --- in place, and at once -------------------------------------------------------------- */

static int check_host(struct qcow2 *q, const struct qcow2_run *run)
{
	uint64_t first = run->host & ~(q->file.cluster_bytes - 1);

	for (uint64_t at = first; at < run->host + run->len; at += q->file.cluster_bytes)
		if (qcow2_meta_has(q, at))
			return qcow2_damaged(&q->file, "an L2 entry points to metadata", at);
	return 0;
}

/* Returns true if the guest clusters read as zeroes and have no host clusters. */
static bool bare(const struct qcow2 *q, const struct qcow2_run *run, uint64_t offset)
{
	const struct store *b = q->store.backing;

	if (run->kind == QCOW2_ZEROES)
		return !run->host;
	return run->kind == QCOW2_HOLE &&
	       (!b || (offset & ~(q->file.cluster_bytes - 1)) >= b->size_bytes);
}

static int link_now(struct qcow2 *q, uint64_t offset, enum qcow2_alloc how, struct qcow2_run *run)
{
	uint64_t cluster = offset >> q->file.cluster_bits;
	uint64_t within = offset & (q->file.cluster_bytes - 1);
	uint64_t n = (within + run->len + q->file.cluster_bytes - 1) >> q->file.cluster_bits;
	struct qcow2_got got;
	int rc;

	if (n > qcow2_slice_left(q, cluster))
		n = qcow2_slice_left(q, cluster);
	/* The table and its slice first, so that the steps below cannot fail half-way. */
	rc = qcow2_set_entries_locked(q, cluster, 0, 0, 0, how);
	if (!rc)
		rc = qcow2_alloc_locked(q, n, QCOW2_ALLOC_NOW, &got);
	if (rc)
		return rc;
	rc = qcow2_set_entries_locked(q, cluster, got.n, got.host | QCOW2_COPIED,
				      q->file.cluster_bytes, QCOW2_ALLOC_NOW);
	/* The slice may be gone: refcount slices that were added may have evicted it. */
	if (rc) {
		qcow2_unalloc_locked(q, got.host, got.n);
		return rc == -EAGAIN && how == QCOW2_ALLOC_ANY ? 1 : rc;
	}
	run->kind = QCOW2_DATA;
	run->copied = true;
	run->host = got.host + within;
	if (run->len > (got.n << q->file.cluster_bits) - within)
		run->len = (got.n << q->file.cluster_bits) - within;
	return 0;
}

/* Maps the beginning of [offset, + len), as qcow2_map_locked, if it may be written to now. */
static int look(struct qcow2 *q, uint64_t offset, uint64_t len, enum qcow2_alloc how,
		struct qcow2_run *run)
{
	uint64_t first = offset >> q->file.cluster_bits;
	uint64_t n = ((offset + len - 1) >> q->file.cluster_bits) - first + 1;

	if (q->file.unsafe)
		return -EIO;
	if (!q->armed)
		return -EAGAIN;
	if (q->busy && qcow2_is_busy_locked(q, first, n))
		return -EBUSY;
	return qcow2_map_locked(q, offset, len, how == QCOW2_ALLOC_NOW, run);
}

static int place(struct qcow2 *q, uint64_t offset, uint64_t len, enum qcow2_alloc how,
		 struct qcow2_run *run)
{
	int rc = look(q, offset, len, how, run);

	if (rc)
		return rc;
	if (run->kind == QCOW2_DATA && run->copied)
		return check_host(q, run);
	if (!bare(q, run, offset) || q->changes.want_commit)
		return -EAGAIN;
	return link_now(q, offset, how, run);
}

int qcow2_place_locked(struct qcow2 *q, uint64_t offset, uint64_t len, struct qcow2_run *run)
{
	return place(q, offset, len, QCOW2_ALLOC_NOW, run);
}

/* --- copying ---------------------------------------------------------------------------- */

struct copy {
	uint64_t cluster, n; /* guest clusters */
	uint64_t head, tail; /* bytes before and behind the data, to whole clusters */
	uint64_t len;	     /* data */
	uint64_t host;
	bool own; /* host belongs to the guest cluster already: a preallocated zero */
};

/* Reads the guest's old bytes; beyond the disk's end they are zeroes. */
static int read_old(struct qcow2 *q, uint8_t *buf, uint64_t offset, uint64_t len)
{
	uint64_t there = 0, size = store_size(&q->store);

	if (offset < size)
		there = size - offset;
	if (there > len)
		there = len;
	memset(buf + there, 0, len - there);
	return there ? store_read(&q->store, buf, offset, there) : 0;
}

/* Writes head, data and tail: in one write if iov has few enough pieces. */
static int write_copy(struct qcow2 *q, const struct copy *c, const struct iovec *iov, unsigned niov,
		      uint64_t skip, uint64_t offset)
{
	uint8_t *buf = malloc(c->head + c->tail + 1);
	struct iovec part[PARTS];
	unsigned n = 0, data;
	int rc;

	if (!buf)
		return -ENOMEM;
	rc = read_old(q, buf, offset - c->head, c->head);
	if (!rc)
		rc = read_old(q, buf + c->head, offset + c->len, c->tail);
	if (!rc && c->head)
		part[n++] = (struct iovec){ buf, c->head };
	data = store_iov_slice(part + n, PARTS - 2, iov, niov, skip, c->len);
	if (!rc) {
		uint64_t bytes = 0, end = c->host + c->head + c->len;

		for (unsigned i = 0; i < data; i++)
			bytes += part[n + i].iov_len;
		n += data;
		if (bytes == c->len && c->tail)
			part[n++] = (struct iovec){ buf + c->head, c->tail };
		if (bytes == c->len) {
			rc = qcow2_pwritev(&q->file, part, n, 0, c->head + c->len + c->tail,
					   c->host);
		} else {
			/* More pieces than part has room for. */
			rc = qcow2_pwrite(&q->file, buf, c->head, c->host);
			if (!rc)
				rc = qcow2_pwritev(&q->file, iov, niov, skip, c->len,
						   c->host + c->head);
			if (!rc)
				rc = qcow2_pwrite(&q->file, buf + c->head, c->tail, end);
		}
	}
	free(buf);
	return rc;
}

static void plan_copy(const struct qcow2 *q, uint64_t offset, uint64_t len, uint64_t n,
		      struct copy *c)
{
	uint64_t begin;

	c->cluster = offset >> q->file.cluster_bits;
	begin = c->cluster << q->file.cluster_bits;
	c->head = offset - begin;
	c->n = n;
	c->len = (n << q->file.cluster_bits) - c->head;
	if (c->len > len)
		c->len = len;
	c->tail = (n << q->file.cluster_bits) - c->head - c->len;
}

/* Finds host clusters for the copy; c->n may become less. */
static int get_host(struct qcow2 *q, const struct qcow2_run *run, uint64_t offset, uint64_t len,
		    enum qcow2_alloc how, struct copy *c)
{
	struct qcow2_got got;
	int rc;

	c->own = run->kind == QCOW2_ZEROES && run->host && run->copied;
	if (c->own) {
		c->host = run->host & ~(q->file.cluster_bytes - 1);
		return check_host(q, run);
	}
	do
		rc = qcow2_alloc_locked(q, c->n, how, &got);
	while (rc == 1);
	if (rc)
		return rc;
	c->host = got.host;
	if (got.n < c->n)
		plan_copy(q, offset, len, got.n, c);
	return 0;
}

static int link_copy(struct qcow2 *q, const struct copy *c, enum qcow2_alloc how)
{
	int rc;

	do
		rc = qcow2_set_entries_locked(q, c->cluster, c->n, c->host | QCOW2_COPIED,
					      q->file.cluster_bytes, how);
	while (rc == 1);
	if (rc && !c->own)
		qcow2_unalloc_locked(q, c->host, c->n);
	return rc;
}

/* The lock is held at entry and exit. *done: bytes written. */
static int copy_locked(struct qcow2 *q, const struct qcow2_run *run, const struct iovec *iov,
		       unsigned niov, uint64_t skip, uint64_t offset, uint64_t len,
		       enum qcow2_alloc how, uint64_t *done)
{
	struct qcow2_busy busy;
	struct copy c = { 0 };
	uint64_t first = offset >> q->file.cluster_bits, n, left = qcow2_slice_left(q, first);
	int rc;

	if (len > COPY_MAX)
		len = COPY_MAX;
	n = ((offset + len - 1) >> q->file.cluster_bits) - first + 1;
	n = n < left ? n : left;
	/* Only clusters of one kind: a cluster behind them may have to be written in place. */
	if (n > ((offset + run->len - 1) >> q->file.cluster_bits) - first + 1)
		n = ((offset + run->len - 1) >> q->file.cluster_bits) - first + 1;
	plan_copy(q, offset, len, n, &c);
	busy_begin(q, &busy, first, n);
	rc = get_host(q, run, offset, len, how, &c);
	if (!rc) {
		unsigned epoch = qcow2_io_begin_locked(q);

		pthread_mutex_unlock(&q->lock);
		rc = write_copy(q, &c, iov, niov, skip, offset);
		pthread_mutex_lock(&q->lock);
		qcow2_io_end(q, epoch);
		if (!rc)
			rc = link_copy(q, &c, how);
		else if (!c.own)
			qcow2_unalloc_locked(q, c.host, c.n);
	}
	busy_end(q, &busy);
	*done = c.len;
	return rc;
}

/* --- copying, in the caller's thread ------------------------------------------------------- */

/* Returns true if a read of [offset, + len) loads no metadata and decompresses nothing. */
static bool plain(struct store *s, uint64_t offset, uint64_t len)
{
	for (; s && qcow2_is_image(s) && offset < s->size_bytes; s = s->backing) {
		struct qcow2 *q = qcow2_of(s);
		struct qcow2_run run;
		int rc;

		if (len > s->size_bytes - offset)
			len = s->size_bytes - offset;
		pthread_mutex_lock(&q->lock);
		rc = qcow2_map_locked(q, offset, len, true, &run);
		pthread_mutex_unlock(&q->lock);
		if (rc || run.len < len || run.kind == QCOW2_PACKED)
			return false;
		if (run.kind != QCOW2_HOLE)
			return true;
	}
	return true;
}

int qcow2_copy_now_locked(struct qcow2 *q, const struct iovec *iov, unsigned niov, uint64_t skip,
			  uint64_t offset, uint64_t len, uint64_t *done)
{
	uint64_t first = offset >> q->file.cluster_bits, begin = first << q->file.cluster_bits;
	uint64_t n = ((offset + len - 1) >> q->file.cluster_bits) - first + 1;
	uint64_t end = (first + n) << q->file.cluster_bits;
	struct qcow2_run run;
	int rc;

	rc = look(q, offset, len, QCOW2_ALLOC_NOW, &run);
	if (rc)
		return rc;
	if (q->changes.want_commit || run.kind == QCOW2_PACKED ||
	    (run.kind == QCOW2_DATA && run.copied))
		return -EAGAIN;
	/* Clusters that are overwritten as a whole need no reading. */
	if (run.kind == QCOW2_HOLE && (begin != offset || end != offset + len) &&
	    !plain(q->store.backing, begin, end - begin))
		return -EAGAIN;
	/* The table and its slice first: most likely they are still in memory after the copy. */
	rc = qcow2_set_entries_locked(q, first, 0, 0, 0, QCOW2_ALLOC_NOW);
	return rc ? rc : copy_locked(q, &run, iov, niov, skip, offset, len, QCOW2_ALLOC_NOW, done);
}

/* --- a write ------------------------------------------------------------------------------ */

static int write_piece(struct qcow2 *q, const struct iovec *iov, unsigned niov, uint64_t skip,
		       uint64_t offset, uint64_t len, uint64_t *done)
{
	struct qcow2_run run;
	unsigned epoch;
	int rc = q->armed ? 0 : qcow2_arm_locked(q);

	if (!rc)
		rc = place(q, offset, len, QCOW2_ALLOC_ANY, &run);
	if (rc == -EBUSY) {
		pthread_cond_wait(&q->changed, &q->lock);
		return 1;
	}
	if (rc == -EAGAIN && q->changes.want_commit) {
		pthread_mutex_unlock(&q->lock);
		rc = qcow2_commit(q);
		pthread_mutex_lock(&q->lock);
		return rc ? rc : 1;
	}
	if (rc == -EAGAIN)
		return copy_locked(q, &run, iov, niov, skip, offset, len, QCOW2_ALLOC_ANY, done);
	if (rc)
		return rc;
	epoch = qcow2_io_begin_locked(q);
	pthread_mutex_unlock(&q->lock);
	rc = qcow2_pwritev(&q->file, iov, niov, skip, run.len, run.host);
	pthread_mutex_lock(&q->lock);
	qcow2_io_end(q, epoch);
	*done = run.len;
	return rc;
}

int qcow2_write(struct store *s, const struct iovec *iov, unsigned niov, uint64_t offset,
		uint64_t len)
{
	struct qcow2 *q = qcow2_of(s);
	uint64_t at = 0;
	int rc = 0;

	if (qcow2_beyond(s, offset, len))
		return -EINVAL;
	pthread_mutex_lock(&q->lock);
	while (at < len && rc >= 0) {
		uint64_t done = 0;

		rc = write_piece(q, iov, niov, at, offset + at, len - at, &done);
		if (!rc)
			at += done;
	}
	pthread_mutex_unlock(&q->lock);
	return rc < 0 ? rc : 0;
}
