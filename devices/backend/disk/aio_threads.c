/*
 * aio by threads: for hosts that forbid io_uring, and for the few operations that io_uring cannot
 * do. See aio.h.
 *
 * A thread starts if there is more work than idle threads, or all of them before the first operation
 * (aio_prepare). Reads and writes are first tried in the
 * loop's thread with RWF_NOWAIT: what the page cache can serve costs one system call and no thread
 * switch.
 */
#include "devices/backend/disk/aio.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/core/fd_rw.h"
#include "vmm/core/thread.h"
#include "vmm/errand/errand.h"

#define POOL_THREADS 8
/* Enough for libc's own needs (TLS) and a few shallow calls. */
#define POOL_STACK_BYTES (64 * 1024)

struct op_list {
	struct aio_op *first, **last;
};

struct pool {
	struct aio aio;
	struct loop_watch *watch;
	int event_fd;
	/* the loop's thread only */
	struct op_list batch; /* submitted, not yet committed */
	struct op_list ready; /* finished without a thread */
	pthread_t thread[POOL_THREADS];
	unsigned nthreads, most; /* threads that run, that may */
	bool no_nowait;		 /* this file system cannot write with RWF_NOWAIT */
	bool handing; /* inside done: what is submitted now is the rest of a short transfer */
	/* under lock */
	pthread_mutex_t lock;
	pthread_cond_t more; /* todo grew, or stop */
	pthread_cond_t some; /* finished grew */
	struct op_list todo;
	struct op_list finished;
	unsigned ntodo;
	unsigned idle;
	bool stop;
};

static void list_init(struct op_list *l)
{
	l->first = NULL;
	l->last = &l->first;
}

static void list_add(struct op_list *l, struct aio_op *op)
{
	op->next = NULL;
	*l->last = op;
	l->last = &op->next;
}

static struct aio_op *list_take(struct op_list *l)
{
	struct aio_op *op = l->first;

	if (op) {
		l->first = op->next;
		if (!l->first)
			l->last = &l->first;
	}
	return op;
}

static int64_t transfer(int fd, const struct aio_op *op, int flags)
{
	if (op->kind == AIO_READ)
		return fd_rw_preadv(fd, op->iov, (int)op->niov, (off_t)op->offset, flags);
	return fd_rw_pwritev(fd, op->iov, (int)op->niov, (off_t)op->offset,
			     flags | (op->dsync ? RWF_DSYNC : 0));
}

/* Run one operation in this thread. Returns bytes, 0 or -errno. */
static int64_t run_op(int fd, const struct aio_op *op)
{
	uint64_t range[2] = { op->offset, op->len_bytes };
	int64_t n;

	do {
		switch (op->kind) {
		case AIO_READ:
		case AIO_WRITE:
			n = transfer(fd, op, 0);
			break;
		case AIO_SYNC:
			n = fdatasync(fd);
			break;
		case AIO_ALLOCATE:
			n = fallocate(fd, op->mode, (off_t)op->offset, (off_t)op->len_bytes);
			break;
		case AIO_DISCARD:
			n = ioctl(fd, BLKDISCARD, range);
			break;
		default:
			return -EINVAL;
		}
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static void *pool_main(void *opaque)
{
	struct pool *pool = opaque;

	thread_confine();
	pthread_mutex_lock(&pool->lock);
	for (;;) {
		struct aio_op *op = list_take(&pool->todo);
		bool first;

		if (!op && pool->stop)
			break;
		if (!op) {
			pool->idle++;
			pthread_cond_wait(&pool->more, &pool->lock);
			pool->idle--;
			continue;
		}
		pool->ntodo--;
		pthread_mutex_unlock(&pool->lock);
		op->result = run_op(pool->aio.cfg.fd[op->file], op);
		pthread_mutex_lock(&pool->lock);
		first = !pool->finished.first;
		list_add(&pool->finished, op);
		pthread_cond_signal(&pool->some);
		/* One wake-up for all that finish before the loop looks. */
		if (first)
			fd_rw_wake(pool->event_fd);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

static void start_thread(struct pool *pool)
{
	char name[THREAD_NAME_BYTES];

	thread_name_of(pool->aio.cfg.id, "_aio", name);
	if (!thread_start(&pool->thread[pool->nthreads], THREAD_WORKER, name, POOL_STACK_BYTES,
			  pool_main, pool))
		pool->nthreads++;
}

void disk_aio_threads_fill(struct aio *aio, unsigned nthreads)
{
	struct pool *pool = (struct pool *)aio;

	for (unsigned i = pool->nthreads; i < nthreads && i < POOL_THREADS; i++)
		start_thread(pool);
	pool->most = pool->nthreads;
}

static void pool_prepare(struct aio *aio)
{
	disk_aio_threads_fill(aio, POOL_THREADS);
}

static void pool_submit(struct aio *aio, struct aio_op *op)
{
	struct pool *pool = (struct pool *)aio;

	/* A short transfer ended where the page cache ends, so its rest is for a thread. */
	if (!pool->handing &&
	    (op->kind == AIO_READ || (op->kind == AIO_WRITE && !op->dsync && !pool->no_nowait))) {
		int64_t n = transfer(aio->cfg.fd[op->file], op, RWF_NOWAIT);

		if (n < 0 && errno == EOPNOTSUPP && op->kind == AIO_WRITE)
			pool->no_nowait = true;

		if (n > 0) {
			op->result = n;
			list_add(&pool->ready, op);
			return;
		}
	}
	list_add(&pool->batch, op);
}

struct here {
	int fd;
	struct aio_op *op;
};

static void run_here(void *opaque)
{
	struct here *here = opaque;

	here->op->result = run_op(here->fd, here->op);
}

static void pool_start_batch(struct pool *pool)
{
	struct aio_op *op;
	unsigned want;

	if (!pool->batch.first)
		return;
	pthread_mutex_lock(&pool->lock);
	while ((op = list_take(&pool->batch))) {
		list_add(&pool->todo, op);
		pool->ntodo++;
		pthread_cond_signal(&pool->more);
	}
	want = pool->ntodo > pool->idle ? pool->ntodo - pool->idle : 0;
	pthread_mutex_unlock(&pool->lock);
	while (want-- && pool->nthreads < pool->most)
		start_thread(pool);
	if (pool->nthreads)
		return;
	/* No thread could be started: the work is an errand, which is slow, but correct. */
	while ((op = list_take(&pool->todo))) {
		struct here here = { pool->aio.cfg.fd[op->file], op };

		pool->ntodo--;
		errand_run(run_here, &here);
		list_add(&pool->ready, op);
	}
}

static void hand_back(struct pool *pool, struct op_list *l)
{
	struct aio_op *op;

	pool->handing = true;
	while ((op = list_take(l))) {
		pool->aio.inflight--;
		pool->aio.cfg.done(pool->aio.cfg.opaque, op, op->result);
	}
	pool->handing = false;
}

static void pool_commit(struct aio *aio)
{
	struct pool *pool = (struct pool *)aio;

	/* done may submit again. */
	do {
		pool_start_batch(pool);
		hand_back(pool, &pool->ready);
	} while (pool->batch.first);
}

static void pool_reap(struct aio *aio)
{
	struct pool *pool = (struct pool *)aio;
	struct op_list l;

	list_init(&l);
	pthread_mutex_lock(&pool->lock);
	if (pool->finished.first) {
		l = pool->finished;
		list_init(&pool->finished);
	}
	pthread_mutex_unlock(&pool->lock);
	hand_back(pool, &l);
	pool_commit(aio);
}

static void pool_wait(struct aio *aio)
{
	struct pool *pool = (struct pool *)aio;

	pool_start_batch(pool);
	if (!pool->ready.first) {
		pthread_mutex_lock(&pool->lock);
		while (!pool->finished.first)
			pthread_cond_wait(&pool->some, &pool->lock);
		pthread_mutex_unlock(&pool->lock);
	}
	pool_reap(aio);
}

static void pool_destroy(struct aio *aio)
{
	struct pool *pool = (struct pool *)aio;

	BUG_ON(aio->inflight);
	pthread_mutex_lock(&pool->lock);
	pool->stop = true;
	pthread_cond_broadcast(&pool->more);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->nthreads; i++)
		pthread_join(pool->thread[i], NULL);
	loop_unwatch(pool->watch);
	pthread_mutex_destroy(&pool->lock);
	pthread_cond_destroy(&pool->more);
	pthread_cond_destroy(&pool->some);
	free(pool);
}

static const struct aio_ops pool_ops = {
	.engine = DISK_ENGINE_THREADS,
	.prepare = pool_prepare,
	.submit = pool_submit,
	.commit = pool_commit,
	.reap = pool_reap,
	.wait = pool_wait,
	.destroy = pool_destroy,
};

int disk_aio_threads_create(const struct aio_config *cfg, struct aio **out, struct err *err)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	int rc;

	*out = NULL;
	if (!pool)
		return err_sys(err, ENOMEM, "disk threads");
	pool->most = POOL_THREADS;
	pool->aio.ops = &pool_ops;
	pool->aio.cfg = *cfg;
	list_init(&pool->batch);
	list_init(&pool->ready);
	list_init(&pool->todo);
	list_init(&pool->finished);
	rc = loop_watch_event(cfg->loop, cfg->wake, cfg->opaque, &pool->watch, &pool->event_fd);
	if (rc) {
		free(pool);
		return err_sys(err, -rc, "disk threads");
	}
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->more, NULL);
	pthread_cond_init(&pool->some, NULL);
	*out = &pool->aio;
	return 0;
}
