/*
 * disk/workers: threads for work that would block the loop's thread: a few, started when there is
 * work, or before.
 *
 * Thread: the loop's for every function; only cfg.run is called in a worker.
 */
#ifndef BANTAM_DISK_WORKERS_H
#define BANTAM_DISK_WORKERS_H

#include <stdbool.h>

#include "vmm/core/err.h"
#include "vmm/core/loop.h"

/* The caller owns it; workers use it from disk_workers_give until disk_workers_take. */
struct disk_work {
	struct disk_work *next;
	int result;
};

struct disk_workers_config {
	struct loop *loop;
	/* in a worker's thread; returns the result */
	int (*run)(void *opaque, struct disk_work *work);
	void (*wake)(void *opaque); /* in the loop's thread: take what is finished */
	void *opaque;
	const char *id; /* for the names of threads, while the workers exist; "": none */
};

struct disk_workers;

int disk_workers_create(const struct disk_workers_config *cfg, struct disk_workers **out,
			struct err *err);
/* Starts threads now, before the first work: there will be no more of them. */
void disk_workers_fill(struct disk_workers *w);
void disk_workers_give(struct disk_workers *w, struct disk_work *work);
/* Takes all that are finished, oldest first; NULL: none. wait: blocks until there is one. */
struct disk_work *disk_workers_take(struct disk_workers *w, bool wait);
/* All given work must have been taken back; accepts NULL. */
void disk_workers_destroy(struct disk_workers *w);

#endif
