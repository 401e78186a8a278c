/* copy: see copy.h. */
#include "tools/bantam-image/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "tools/bantam-image/image.h"
#include "vmm/core/clock.h"
#include "vmm/core/fd_rw.h"
#include "vmm/core/thread.h"

#define WINDOW_BYTES (1u << 20)
/* Unit of a raw file's holes, as small as most file systems can make them. */
#define HOLE_BYTES 4096u
#define PARTS 256u
#define SHOW_NS 100000000
#define ALIGN 4096u
#define STACK_BYTES (1u << 20)

enum slot_state { SLOT_FREE, SLOT_FILLING, SLOT_FILLED, SLOT_PLACED, SLOT_WRITING };

struct slot {
	enum slot_state state;
	uint64_t offset, len_bytes; /* of the disk */
	uint8_t *data;		    /* as the guest sees it */
	uint8_t *packed;	    /* compressed clusters, each at its cluster's place */
	uint8_t *base;
	struct qcow2_piece *piece;
	unsigned npieces;
};

struct job {
	const struct copy *what;
	uint32_t window_bytes;
	struct slot *slot; /* ring: window number n of those copied is in n % nslots */
	unsigned nslots;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t cursor;	  /* where the next window begins */
	uint64_t data_end;	  /* if beyond the cursor: there is data up to here */
	uint64_t claimed, placed; /* windows */
	unsigned nrunning;
	int rc; /* the first error */
	struct err err;
	_Atomic uint64_t copied_bytes;
};

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Keeps the first error, which copy_run reports. */
static void give_up_locked(struct job *j, int rc, const struct err *err)
{
	if (j->rc)
		return;
	j->rc = rc;
	if (err)
		j->err = *err;
}

static int read_failed(const struct job *j, int rc, uint64_t offset, struct err *err)
{
	if (rc == -EIO)
		return err_set(err, EIO,
			       "%s: cannot read at %llu: an I/O error, or the image is damaged "
			       "or cut short",
			       j->what->src_path, (unsigned long long)offset);
	return err_sys(err, -rc, "%s: cannot read at %llu", j->what->src_path,
		       (unsigned long long)offset);
}

static int write_failed(const struct job *j, int rc, struct err *err)
{
	if (rc == -EFBIG)
		return err_set(err, EFBIG,
			       "%s: is more than the file system or the limit on file sizes "
			       "(ulimit -f) allows",
			       j->what->dst_path);
	return err_sys(err, -rc, "%s: cannot write", j->what->dst_path);
}

/* --- the next window ------------------------------------------------------------------- */

/* Returns how many bytes of zeroes there are from offset on; 0: there is data, up to *data_end; or
 * -errno. */
static int64_t skippable(struct store *s, uint64_t offset, uint64_t max, uint64_t *data_end)
{
	struct store_extent e;
	int rc;

	if (offset >= s->size_bytes)
		return (int64_t)max;
	rc = s->ops->map(s, offset, min_u64(max, s->size_bytes - offset), &e);
	if (rc)
		return rc;
	if (e.zero)
		return (int64_t)e.len_bytes;
	*data_end = offset + e.len_bytes;
	return 0;
}

/* Moves the cursor to the next byte that must be looked at. */
static int seek_data_locked(struct job *j, struct err *err)
{
	const struct copy *c = j->what;
	uint64_t end = c->src->size_bytes;

	/* The backing file may have data beyond the source's end, which must become zeroes. */
	if (c->base && c->base->size_bytes > end)
		end = min_u64(c->base->size_bytes, c->size_bytes);
	/* Some file systems take long to find where data ends, so do not ask for each window. */
	if (j->cursor < j->data_end)
		return 0;
	while (j->cursor < end) {
		int64_t n = skippable(c->src, j->cursor, end - j->cursor, &j->data_end);

		if (n > 0 && c->base)
			n = skippable(c->base, j->cursor, (uint64_t)n, &j->data_end);
		if (n < 0)
			return read_failed(j, (int)n, j->cursor, err);
		if (!n)
			return 0;
		j->cursor += (uint64_t)n;
	}
	j->cursor = c->size_bytes;
	return 0;
}

/* Returns the next window's slot; NULL: there is no window left, or an error. */
static struct slot *claim_locked(struct job *j)
{
	struct err err;
	struct slot *s;
	int rc = seek_data_locked(j, &err);

	if (rc)
		give_up_locked(j, rc, &err);
	if (j->rc || j->cursor >= j->what->size_bytes)
		return NULL;
	s = &j->slot[j->claimed++ % j->nslots];
	s->state = SLOT_FILLING;
	s->offset = j->cursor - j->cursor % j->window_bytes;
	s->len_bytes = min_u64(j->window_bytes, j->what->size_bytes - s->offset);
	s->npieces = 0;
	j->cursor = s->offset + s->len_bytes;
	return s;
}

/* --- reading --------------------------------------------------------------------------- */

/* Reads a window of s; bytes beyond its end are zeroes. */
static int load(struct store *s, uint8_t *to, uint64_t room, uint64_t offset, uint64_t len)
{
	uint64_t there = offset < s->size_bytes ? min_u64(len, s->size_bytes - offset) : 0;

	memset(to + there, 0, room - there);
	return there ? store_read(s, to, offset, there) : 0;
}

static void judge_clusters(const struct job *j, struct slot *s, struct qcow2_packer *packer)
{
	const struct copy *c = j->what;
	uint32_t cluster = c->cluster_bytes;

	for (uint64_t at = 0; at < s->len_bytes; at += cluster) {
		struct qcow2_piece *p = &s->piece[s->npieces];

		*p = (struct qcow2_piece){ .cluster = (s->offset + at) / cluster };
		if (c->base && !memcmp(s->data + at, s->base + at, cluster))
			continue;
		if (image_is_zero(s->data + at, cluster)) {
			if (!c->base)
				continue;
			p->kind = QCOW2_PIECE_ZERO;
		} else if (packer) {
			p->len_bytes = qcow2_pack(packer, s->data + at, s->packed + at);
			p->kind = p->len_bytes ? QCOW2_PIECE_PACKED : QCOW2_PIECE_DATA;
		}
		s->npieces++;
	}
}

static int fill(struct job *j, struct slot *s, struct qcow2_packer *packer, struct err *err)
{
	const struct copy *c = j->what;
	int rc = load(c->src, s->data, j->window_bytes, s->offset, s->len_bytes);

	if (rc)
		return read_failed(j, rc, s->offset, err);
	if (c->base)
		rc = load(c->base, s->base, j->window_bytes, s->offset, s->len_bytes);
	if (rc)
		return err_sys(err, -rc, "%s: cannot read its backing file", c->dst_path);
	if (c->writer)
		judge_clusters(j, s, packer);
	atomic_fetch_add(&j->copied_bytes, s->len_bytes);
	return 0;
}

/* --- writing ---------------------------------------------------------------------------- */

static int put(int fd, struct iovec *iov, int n, uint64_t offset)
{
	while (n) {
		ssize_t done = fd_rw_pwritev(fd, iov, n, (off_t)offset, 0);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done ? -errno : -EIO;
		offset += (uint64_t)done;
		while (n && (size_t)done >= iov->iov_len) {
			done -= (ssize_t)iov->iov_len;
			iov++;
			n--;
		}
		if (n) {
			iov->iov_base = (char *)iov->iov_base + done;
			iov->iov_len -= (size_t)done;
		}
	}
	return 0;
}

static int write_raw(const struct job *j, const struct slot *s)
{
	uint64_t at = 0;

	while (at < s->len_bytes) {
		uint64_t begin, n;
		struct iovec iov;
		int rc;

		for (; at < s->len_bytes; at += n) {
			n = min_u64(HOLE_BYTES, s->len_bytes - at);
			if (!image_is_zero(s->data + at, n))
				break;
		}
		for (begin = at; at < s->len_bytes; at += n) {
			n = min_u64(HOLE_BYTES, s->len_bytes - at);
			if (image_is_zero(s->data + at, n))
				break;
		}
		if (at == begin)
			break;
		iov = (struct iovec){ s->data + begin, at - begin };
		rc = put(j->what->fd, &iov, 1, s->offset + begin);
		if (rc)
			return rc;
	}
	return 0;
}

/* Writes pieces that adjoin in the file with one system call. */
static int write_pieces(const struct job *j, const struct slot *s)
{
	uint32_t cluster = j->what->cluster_bytes;
	struct iovec iov[PARTS];
	uint64_t first = 0, next = 0;
	int n = 0, rc = 0;

	for (unsigned i = 0; !rc && i < s->npieces; i++) {
		const struct qcow2_piece *p = &s->piece[i];
		uint64_t at = p->cluster * cluster - s->offset;
		bool packed = p->kind == QCOW2_PIECE_PACKED;

		if (!p->host)
			continue;
		if (n && (p->host != next || n == PARTS)) {
			rc = put(j->what->fd, iov, n, first);
			n = 0;
		}
		if (!n)
			first = p->host;
		iov[n] = (struct iovec){ (packed ? s->packed : s->data) + at,
					 packed ? p->len_bytes : cluster };
		next = p->host + iov[n++].iov_len;
	}
	return rc ? rc : put(j->what->fd, iov, n, first);
}

static int write_out(struct job *j, const struct slot *s, struct err *err)
{
	int rc = j->what->writer ? write_pieces(j, s) : write_raw(j, s);

	if (rc)
		return write_failed(j, rc, err);
	/* Starts the write to the medium, so that the final fsync finds little to do. */
	if (j->what->writeback && !j->what->writer)
		sync_file_range(j->what->fd, (off_t)s->offset, (off_t)s->len_bytes,
				SYNC_FILE_RANGE_WRITE);
	return 0;
}

/* --- threads ------------------------------------------------------------------------------ */

/* Places the windows that are filled, in order. */
static void place_locked(struct job *j)
{
	while (!j->rc && j->placed < j->claimed) {
		struct slot *s = &j->slot[j->placed % j->nslots];
		struct err err;
		int rc = 0;

		if (s->state != SLOT_FILLED)
			break;
		if (j->what->writer)
			rc = qcow2_writer_place(j->what->writer, s->piece, s->npieces);
		if (rc) {
			write_failed(j, rc, &err);
			give_up_locked(j, rc, &err);
			break;
		}
		s->state = SLOT_PLACED;
		j->placed++;
	}
}

static struct slot *to_write_locked(struct job *j)
{
	for (unsigned i = 0; i < j->nslots; i++)
		if (j->slot[i].state == SLOT_PLACED)
			return &j->slot[i];
	return NULL;
}

static bool slot_is_free_locked(const struct job *j)
{
	return j->slot[j->claimed % j->nslots].state == SLOT_FREE;
}

static void work_on(struct job *j, struct slot *s, struct qcow2_packer *packer)
{
	bool fills = s->state == SLOT_FILLING;
	struct err err = { "" };
	int rc;

	pthread_mutex_unlock(&j->lock);
	rc = fills ? fill(j, s, packer, &err) : write_out(j, s, &err);
	pthread_mutex_lock(&j->lock);
	s->state = fills ? SLOT_FILLED : SLOT_FREE;
	if (rc)
		give_up_locked(j, rc, &err);
	place_locked(j);
	pthread_cond_broadcast(&j->changed);
}

/* Works until all is written, or an error occurs. */
static void work_locked(struct job *j, struct qcow2_packer *packer)
{
	while (!j->rc) {
		struct slot *s = to_write_locked(j);

		if (image_stopped()) {
			give_up_locked(j, -EINTR, NULL);
			return;
		}
		if (s) {
			s->state = SLOT_WRITING;
		} else if (j->cursor < j->what->size_bytes && slot_is_free_locked(j)) {
			s = claim_locked(j);
		} else if (j->cursor >= j->what->size_bytes && j->placed == j->claimed) {
			return;
		} else {
			pthread_cond_wait(&j->changed, &j->lock);
			continue;
		}
		if (s)
			work_on(j, s, packer);
	}
}

static void *thread_main(void *opaque)
{
	struct job *j = opaque;
	struct qcow2_packer *packer = NULL;
	struct err err;

	if (j->what->compress)
		packer = qcow2_packer_create(j->what->zstd, j->what->cluster_bytes);
	pthread_mutex_lock(&j->lock);
	if (j->what->compress && !packer) {
		err_sys(&err, ENOMEM, "image convert");
		give_up_locked(j, -ENOMEM, &err);
	} else {
		work_locked(j, packer);
	}
	j->nrunning--;
	pthread_cond_broadcast(&j->changed);
	pthread_mutex_unlock(&j->lock);
	qcow2_packer_destroy(packer);
	return NULL;
}

/* Shows the progress while the threads work. */
static void watch(struct job *j, struct progress *progress)
{
	pthread_mutex_lock(&j->lock);
	while (j->nrunning) {
		uint64_t position = j->cursor, at_ns = clock_now_ns() + SHOW_NS;
		struct timespec until = { .tv_sec = (time_t)(at_ns / CLOCK_NS_PER_S),
					  .tv_nsec = (long)(at_ns % CLOCK_NS_PER_S) };

		/* Each finished window wakes this thread; it shows progress only every SHOW_NS. */
		while (j->nrunning &&
		       pthread_cond_timedwait(&j->changed, &j->lock, &until) != ETIMEDOUT)
			;
		if (!j->nrunning)
			break;
		pthread_mutex_unlock(&j->lock);
		progress_show(progress, position, atomic_load(&j->copied_bytes));
		pthread_mutex_lock(&j->lock);
	}
	pthread_mutex_unlock(&j->lock);
}

static int make_slots(struct job *j)
{
	const struct copy *c = j->what;

	j->slot = calloc(j->nslots, sizeof(*j->slot));
	if (!j->slot)
		return -ENOMEM;
	for (unsigned i = 0; i < j->nslots; i++) {
		struct slot *s = &j->slot[i];

		s->data = aligned_alloc(ALIGN, j->window_bytes);
		if (c->compress)
			s->packed = aligned_alloc(ALIGN, j->window_bytes);
		if (c->base)
			s->base = aligned_alloc(ALIGN, j->window_bytes);
		if (c->writer)
			s->piece = calloc(j->window_bytes / c->cluster_bytes, sizeof(*s->piece));
		if (!s->data || (c->compress && !s->packed) || (c->base && !s->base) ||
		    (c->writer && !s->piece))
			return -ENOMEM;
	}
	return 0;
}

static void free_slots(struct job *j)
{
	for (unsigned i = 0; j->slot && i < j->nslots; i++) {
		free(j->slot[i].data);
		free(j->slot[i].packed);
		free(j->slot[i].base);
		free(j->slot[i].piece);
	}
	free(j->slot);
}

int copy_run(const struct copy *what, struct progress *progress, struct err *err)
{
	pthread_condattr_t attr;
	struct job j = { .what = what,
			 .window_bytes = WINDOW_BYTES,
			 .nslots = 2 * what->nthreads + 1 };
	pthread_t thread[64];
	unsigned n = 0;
	int rc;

	BUG_ON(!what->nthreads || what->nthreads > 64);
	if (what->writer && what->cluster_bytes > j.window_bytes)
		j.window_bytes = what->cluster_bytes;
	pthread_mutex_init(&j.lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); /* clock.h's */
	pthread_cond_init(&j.changed, &attr);
	pthread_condattr_destroy(&attr);
	rc = make_slots(&j);
	if (rc)
		err_sys(err, -rc, "image convert");
	pthread_mutex_lock(&j.lock);
	while (!rc && n < what->nthreads &&
	       !thread_start(&thread[n], THREAD_WORKER, "copy", STACK_BYTES, thread_main, &j))
		n++;
	j.nrunning = n;
	pthread_mutex_unlock(&j.lock);
	if (!rc && !n)
		rc = err_sys(err, EAGAIN, "image convert: cannot start a thread");
	if (!rc)
		watch(&j, progress);
	for (unsigned i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
	if (!rc && j.rc) {
		rc = j.rc;
		*err = j.err;
	}
	free_slots(&j);
	pthread_mutex_destroy(&j.lock);
	pthread_cond_destroy(&j.changed);
	return rc;
}
