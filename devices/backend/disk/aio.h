/*
 * disk/aio: asynchronous operations on one or two open files, by io_uring or by a pool of threads.
 *
 * submit queues an operation. commit starts all queued ones (one io_uring_enter for a batch) and
 * hands back at once those that are already finished. reap hands back those that have finished
 * since. wait blocks for at least one. Only commit, reap and wait call cfg.done, which may submit
 * again. The loop calls cfg.wake when there is something to reap.
 *
 * Thread: all functions belong to the loop's thread, because the kernel completes a request in the
 * context of the thread that submitted it, and a vCPU should run the guest.
 */
#ifndef BANTAM_DISK_AIO_H
#define BANTAM_DISK_AIO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/core/err.h"
#include "vmm/core/loop.h"

/* In the order of the choices. */
#define DISK_ENGINE_CHOICES "auto|io_uring|threads"
enum disk_engine {
	DISK_ENGINE_AUTO, /* io_uring if the host allows it, else threads */
	DISK_ENGINE_IO_URING,
	DISK_ENGINE_THREADS,
};

enum aio_kind {
	AIO_READ,
	AIO_WRITE,
	AIO_SYNC,     /* fdatasync */
	AIO_ALLOCATE, /* fallocate with mode */
	AIO_DISCARD,  /* BLKDISCARD: block devices */
};

struct aio;

/* The caller owns the operation and iov until done, and fills all but the private fields. */
struct aio_op {
	enum aio_kind kind;
	unsigned file; /* index into cfg.fd */
	bool dsync;    /* WRITE: as with O_DSYNC */
	int mode;      /* ALLOCATE: FALLOC_FL_… */
	const struct iovec *iov;
	unsigned niov;
	uint64_t offset; /* bytes */
	uint64_t len_bytes;
	/* private */
	int64_t result;
	struct aio_op *next;
};

struct aio_config {
	struct loop *loop;
	int fd[2]; /* owned by the caller, open until aio_destroy; [1] may be -1 */
	void (*done)(void *opaque, struct aio_op *op, int64_t result); /* bytes, 0 or -errno */
	void (*wake)(void *opaque); /* loop's thread: call aio_reap */
	void *opaque;
	const char *id; /* for the names of threads, while the aio exists; "": none */
	bool discards;	/* AIO_DISCARD may come */
};

struct aio_ops {
	enum disk_engine engine; /* not AUTO */
	/* Starts all threads that an operation may ever need: there will be no more of them. */
	void (*prepare)(struct aio *aio);
	void (*submit)(struct aio *aio, struct aio_op *op);
	void (*commit)(struct aio *aio);
	void (*reap)(struct aio *aio);
	void (*wait)(struct aio *aio);
	void (*destroy)(struct aio *aio);
};

struct aio {
	const struct aio_ops *ops;
	struct aio_config cfg;
	unsigned inflight; /* submitted and not yet done */
};

int disk_aio_create(const struct aio_config *cfg, enum disk_engine engine, struct aio **out,
		    struct err *err);
int disk_aio_threads_create(const struct aio_config *cfg, struct aio **out, struct err *err);
/* prepare for a pool, with at most so many threads. */
void disk_aio_threads_fill(struct aio *aio, unsigned nthreads);

/* Before the first operation; afterwards no operation starts a thread. */
static inline void aio_prepare(struct aio *aio)
{
	aio->ops->prepare(aio);
}

static inline void aio_submit(struct aio *aio, struct aio_op *op)
{
	aio->inflight++;
	aio->ops->submit(aio, op);
}

static inline void aio_commit(struct aio *aio)
{
	aio->ops->commit(aio);
}

static inline void aio_reap(struct aio *aio)
{
	aio->ops->reap(aio);
}

/* At least one operation must be in flight. */
static inline void aio_wait(struct aio *aio)
{
	BUG_ON(!aio->inflight);
	aio->ops->wait(aio);
}

/* No operation may be in flight; accepts NULL. */
static inline void aio_destroy(struct aio *aio)
{
	if (aio)
		aio->ops->destroy(aio);
}

#endif
