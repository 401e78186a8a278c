/*
 * disk/qcow2_impl: what disk/qcow2.c (requests and their life) and disk/qcow2_split.c (where their
 * bytes are) share. Only they include it.
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

/* A part of a request, which disk_raw does. */
struct piece {
	struct disk_req req; /* first */
	struct job *job;
	unsigned level;
	unsigned epoch;
	bool counted; /* epoch has to be ended */
};

struct job {
	struct disk_work work; /* first; work.next also links the other lists */
	struct disk_req *req;
	unsigned left; /* pieces that are not done */
	bool failed;   /* a piece failed: a worker does the whole request again */
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
	struct disk_workers *workers; /* NULL until needed, or prepare */
	bool prepared;		      /* no level gets io, and no workers are made, any more */
	unsigned working;	      /* jobs given to workers */
	unsigned inflight;	      /* requests */
	struct job *free;
	struct job_list settled;  /* done; commit hands out work.result */
	struct job_list waiting;  /* for a busy cluster */
	struct disk_req *refused; /* no memory; linked by backend[1] */
	/* writes in the loop's thread to clusters of this image */
	struct disk_write_here write_here;
	struct disk_write_here copy_here; /* and copies to new clusters */
	/* time spent copying in the loop since the last commit */
	uint64_t here_ns;
	/* a piece was submitted to a disk_raw since commit looked */
	bool submitted;
	/* Callbacks that split sets in the pieces and in the disks below. */
	disk_done_fn piece_done;
	void (*on_wake)(void *opaque);
};

/* disk/qcow2_split.c: makes sure that level has its disk_raw. 0 or -errno. */
int disk_qcow2_get_io(struct disk_qcow2 *d, unsigned level);
/*
 * Cuts the job's request into pieces, which are not submitted yet; no pieces: the request is done.
 * Returns 0; -EBUSY: a worker is changing a cluster of it; -EAGAIN or another -errno: the engine
 * must do the request.
 */
int disk_qcow2_split(struct disk_qcow2 *d, struct job *job);

#endif
