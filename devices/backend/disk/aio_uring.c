/*
 * aio by io_uring, and the choice between the engines. See aio.h.
 *
 * The loop watches the ring's own fd: readable means completions. Cached reads complete inside
 * io_uring_enter, so commit looks at the completion ring at once and such a request costs one
 * system call. Before it is enabled, the ring is restricted to a few operations on the registered
 * files: an attacker who takes over the process cannot use it to open anything.
 */
#include "devices/backend/disk/aio.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "vmm/errand/errand.h"

/* A batch larger than this is submitted in parts; 64 bytes each. */
#define SQ_ENTRIES 64
/* At most this many are in flight in the kernel; the rest waits in held. 16 bytes each. */
#define CQ_ENTRIES 256
/* Discards are rare, and each takes long in the device. */
#define DISCARD_THREADS 2u

struct uring {
	struct aio aio;
	struct io_uring ring;
	bool ring_valid;
	bool fixed;	    /* files are registered: sqe->fd is an index */
	bool prepared;	    /* pool stays as it is */
	unsigned in_kernel; /* queued or submitted, no completion seen */
	struct aio_op *held, **held_last;
	struct loop_watch *watch;
	struct aio *pool; /* for what io_uring cannot do; NULL until needed */
};

static void prepare(struct uring *u, struct io_uring_sqe *sqe, struct aio_op *op)
{
	int fd = u->fixed ? (int)op->file : u->aio.cfg.fd[op->file];
	unsigned dsync = op->dsync ? RWF_DSYNC : 0;

	switch (op->kind) {
	case AIO_READ:
		if (op->niov == 1)
			io_uring_prep_read(sqe, fd, op->iov->iov_base, (unsigned)op->iov->iov_len,
					   op->offset);
		else
			io_uring_prep_readv(sqe, fd, op->iov, op->niov, op->offset);
		break;
	case AIO_WRITE:
		if (op->niov == 1)
			io_uring_prep_write(sqe, fd, op->iov->iov_base, (unsigned)op->iov->iov_len,
					    op->offset);
		else
			io_uring_prep_writev(sqe, fd, op->iov, op->niov, op->offset);
		sqe->rw_flags = (int)dsync;
		break;
	case AIO_SYNC:
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
		break;
	default:
		io_uring_prep_fallocate(sqe, fd, op->mode, (off_t)op->offset, (off_t)op->len_bytes);
		break;
	}
	if (u->fixed)
		sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, op);
}

/* An errand: a loop has no call for it. */
static void nap(void *opaque)
{
	struct timespec pause = { .tv_nsec = 1000000 };

	nanosleep(&pause, NULL);
}

/* Hand the queued entries to the kernel. */
static void enter(struct uring *u)
{
	while (io_uring_sq_ready(&u->ring)) {
		int n = io_uring_submit(&u->ring);

		/* EAGAIN, EBUSY: the host is short of memory. Any other error is a bug of ours. */
		BUG_ON(n < 0 && n != -EAGAIN && n != -EBUSY && n != -EINTR && n != -ENOMEM);
		if (n < 0 && n != -EINTR)
			errand_run(nap, NULL);
	}
}

static void hold(struct uring *u, struct aio_op *op)
{
	op->next = NULL;
	*u->held_last = op;
	u->held_last = &op->next;
}

static bool queue(struct uring *u, struct aio_op *op)
{
	struct io_uring_sqe *sqe;

	if (u->in_kernel >= CQ_ENTRIES)
		return false;
	sqe = io_uring_get_sqe(&u->ring);
	if (!sqe) {
		enter(u);
		sqe = io_uring_get_sqe(&u->ring);
		BUG_ON(!sqe);
	}
	prepare(u, sqe, op);
	u->in_kernel++;
	return true;
}

static void pool_done(void *opaque, struct aio_op *op, int64_t result)
{
	struct uring *u = opaque;

	u->aio.inflight--;
	u->aio.cfg.done(u->aio.cfg.opaque, op, result);
}

static void pool_wake(void *opaque)
{
	struct uring *u = opaque;

	u->aio.cfg.wake(u->aio.cfg.opaque);
}

static void make_pool(struct uring *u)
{
	struct aio_config cfg = u->aio.cfg;

	cfg.done = pool_done;
	cfg.wake = pool_wake;
	cfg.opaque = u;
	if (!u->pool && !u->prepared)
		disk_aio_threads_create(&cfg, &u->pool, NULL);
}

static void uring_prepare(struct aio *aio)
{
	struct uring *u = (struct uring *)aio;

	if (aio->cfg.discards)
		make_pool(u);
	if (u->pool)
		disk_aio_threads_fill(u->pool, DISCARD_THREADS);
	u->prepared = true;
}

static void uring_submit(struct aio *aio, struct aio_op *op)
{
	struct uring *u = (struct uring *)aio;

	if (op->kind == AIO_DISCARD) {
		make_pool(u);
		if (u->pool) {
			aio_submit(u->pool, op);
			return;
		}
		/* No memory for a pool: let the ring fail the request, by a bad length. */
		op->kind = AIO_ALLOCATE;
		op->len_bytes = 0;
	}
	if (u->held || !queue(u, op))
		hold(u, op);
}

static void reap_ring(struct uring *u)
{
	struct io_uring_cqe *cqe;

	/* A peek enters the kernel only if the ring reports waiting task work. */
	while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
		struct aio_op *op = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		io_uring_cqe_seen(&u->ring, cqe);
		u->in_kernel--;
		u->aio.inflight--;
		u->aio.cfg.done(u->aio.cfg.opaque, op, res);
	}
	while (u->held && u->in_kernel < CQ_ENTRIES) {
		struct aio_op *op = u->held;

		u->held = op->next;
		if (!u->held)
			u->held_last = &u->held;
		BUG_ON(!queue(u, op));
	}
}

static void uring_commit(struct aio *aio)
{
	struct uring *u = (struct uring *)aio;

	if (u->pool)
		aio_commit(u->pool);
	do {
		enter(u);
		reap_ring(u);
	} while (io_uring_sq_ready(&u->ring));
}

static void uring_reap(struct aio *aio)
{
	struct uring *u = (struct uring *)aio;

	if (u->pool)
		aio_reap(u->pool);
	reap_ring(u);
	uring_commit(aio);
}

static void uring_wait(struct aio *aio)
{
	struct uring *u = (struct uring *)aio;
	struct io_uring_cqe *cqe;

	if (u->in_kernel) {
		enter(u);
		while (io_uring_wait_cqe(&u->ring, &cqe) == -EINTR)
			;
	} else if (u->pool && u->pool->inflight) {
		aio_wait(u->pool);
	}
	uring_reap(aio);
}

static void uring_destroy(struct aio *aio)
{
	struct uring *u = (struct uring *)aio;

	BUG_ON(aio->inflight);
	aio_destroy(u->pool);
	loop_unwatch(u->watch);
	/*
	 * The kernel frees a ring some time after it is closed; unregister the files to close them
	 * now.
	 */
	if (u->fixed)
		io_uring_unregister_files(&u->ring);
	if (u->ring_valid)
		io_uring_queue_exit(&u->ring);
	free(u);
}

static const struct aio_ops uring_ops = {
	.engine = DISK_ENGINE_IO_URING,
	.prepare = uring_prepare,
	.submit = uring_submit,
	.commit = uring_commit,
	.reap = uring_reap,
	.wait = uring_wait,
	.destroy = uring_destroy,
};

/*
 * Cooperative task work (5.19): a completion waits for our next system call instead of interrupting
 * us. Deferred task work would wait until we ask for it, but then epoll does not report that the
 * ring has completions (seen on 6.18).
 */
static int setup(struct uring *u)
{
	static const unsigned flags[] = {
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
		0,
	};
	int rc = -ENOSYS;

	for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		struct io_uring_params p = {
			.flags = flags[i] | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE,
			.cq_entries = CQ_ENTRIES,
		};

		rc = io_uring_queue_init_params(SQ_ENTRIES, &u->ring, &p);
		if (rc != -EINVAL)
			break;
	}
	u->ring_valid = !rc;
	return rc;
}

static int restrict_ring(struct uring *u)
{
	static const uint8_t allowed[] = {
		IORING_OP_READ,	  IORING_OP_WRITE, IORING_OP_READV,
		IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE,
	};
	const unsigned n = sizeof(allowed);
	struct io_uring_restriction r[sizeof(allowed) + 3];
	int nfiles = u->aio.cfg.fd[1] >= 0 ? 2 : 1;
	int rc;

	u->fixed = io_uring_register_files(&u->ring, u->aio.cfg.fd, (unsigned)nfiles) == 0;
	memset(r, 0, sizeof(r));
	for (unsigned i = 0; i < n; i++) {
		r[i].opcode = IORING_RESTRICTION_SQE_OP;
		r[i].sqe_op = allowed[i];
	}
	r[n].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	r[n].sqe_flags = u->fixed ? IOSQE_FIXED_FILE : 0;
	r[n + 1].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
	r[n + 1].sqe_flags = u->fixed ? IOSQE_FIXED_FILE : 0;
	r[n + 2].opcode = IORING_RESTRICTION_REGISTER_OP;
	r[n + 2].register_op = IORING_UNREGISTER_FILES;
	rc = io_uring_register_restrictions(&u->ring, r, n + 3);
	if (rc)
		return rc;
	return io_uring_enable_rings(&u->ring);
}

static void on_ring(void *opaque, uint32_t events)
{
	struct uring *u = opaque;

	u->aio.cfg.wake(u->aio.cfg.opaque);
}

static int create_ring(const struct aio_config *cfg, struct aio **out, struct err *err)
{
	struct uring *u = calloc(1, sizeof(*u));
	int rc;

	*out = NULL;
	if (!u)
		return err_sys(err, ENOMEM, "io_uring");
	u->aio.ops = &uring_ops;
	u->aio.cfg = *cfg;
	u->held_last = &u->held;
	rc = setup(u);
	if (!rc)
		rc = restrict_ring(u);
	if (!rc)
		rc = loop_watch_fd(cfg->loop, u->ring.ring_fd, EPOLLIN, on_ring, u, &u->watch);
	if (rc) {
		err_sys(err, -rc, "io_uring is not usable on this host; use engine=threads");
		uring_destroy(&u->aio);
		return rc;
	}
	*out = &u->aio;
	return 0;
}

int disk_aio_create(const struct aio_config *cfg, enum disk_engine engine, struct aio **out,
		    struct err *err)
{
	if (engine == DISK_ENGINE_THREADS)
		return disk_aio_threads_create(cfg, out, err);
	if (engine == DISK_ENGINE_IO_URING)
		return create_ring(cfg, out, err);
	if (create_ring(cfg, out, NULL) == 0)
		return 0;
	return disk_aio_threads_create(cfg, out, err);
}
