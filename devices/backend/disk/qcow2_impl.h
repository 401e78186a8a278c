/*
 * disk/qcow2_impl: what disk/qcow2.c (requests and their life) and disk/qcow2_split.c (where
 * their bytes are) share. Nobody else includes it.
 */
#ifndef BANTAM_DISK_QCOW2_IMPL_H
#define BANTAM_DISK_QCOW2_IMPL_H

#include "devices/backend/disk/disk_impl.h"
#include "devices/backend/disk/workers.h"
#include "devices/backend/qcow2/qcow2.h"
#include "devices/backend/disk/write_here.h"

#define MAX_PIECES 6u
#define MAX_IOVS 64u

struct job;

/* A part of a request, by disk_raw. */
struct piece {
	struct disk_req req; /* first */
	struct job *job;
	unsigned level;
	unsigned epoch;
	bool counted; /* epoch is to be ended */
};

struct job {
	struct disk_work work; /* first; work.next also links the other lists */
	struct disk_req *req;
	unsigned left; /* pieces that are not done */
	bool failed;   /* one went wrong: a worker does it all again */
	unsigned npieces, niovs;
	struct piece piece[MAX_PIECES];
	struct iovec iov[MAX_IOVS];
};

struct job_list {
	struct job *first, **last;
};

/* An image of the chain; 0 is the top. */
struct level {
	struct store *store;
	struct qcow2 *q;	 /* NULL: raw */
	struct qcow2_file *file; /* of q */
	struct disk *io;	 /* NULL until needed */
};

struct disk_qcow2 {
	struct disk disk; /* first */
	struct disk_config cfg;
	struct level level[STORE_CHAIN_MAX + 1];
	unsigned nlevels;
	unsigned nio;		      /* levels [0, nio) may have io */
	struct disk_workers *workers; /* NULL until needed */
	unsigned working;	      /* jobs that workers have */
	unsigned inflight;	      /* requests */
	struct job *free;
	struct job_list settled;	   /* work.result waits for commit */
	struct job_list waiting;	   /* for a busy cluster */
	struct disk_req *refused;	   /* no memory; linked by backend[1] */
	struct disk_write_here write_here; /* to clusters that are ours, in the loop's thread */
	struct disk_write_here copy_here;  /* and copying to new ones */
	uint64_t here_ns;		   /* so long since commit, for copying */
	bool submitted;			   /* to some disk_raw, since commit looked */
	/* What split gives to the pieces and the disks below. */
	disk_done_fn piece_done;
	void (*on_wake)(void *opaque);
};

/* disk/qcow2_split.c: the disk_raw of that level exists then. 0 or -errno. */
int disk_qcow2_get_io(struct disk_qcow2 *d, unsigned level);
/*
 * Cut the job's request into pieces (none: it is done), which are not submitted yet. Other than
 * 0: -EBUSY: a worker changes it; -EAGAIN and all else: the engine must do it.
 */
int disk_qcow2_split(struct disk_qcow2 *d, struct job *job);

#endif
