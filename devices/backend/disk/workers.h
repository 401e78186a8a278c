/*
 * disk/workers: threads that do what would block the loop's: a few, started when there is work.
 *
 * Thread: the loop's for every function; only cfg.run is called in a worker.
 */
#ifndef BANTAM_DISK_WORKERS_H
#define BANTAM_DISK_WORKERS_H

#include <stdbool.h>

#include "vmm/core/err.h"
#include "vmm/core/loop.h"

/* The caller owns it until it is taken back. */
struct disk_work {
	struct disk_work *next;
	int result;
};

struct disk_workers_config {
	struct loop *loop;
	int (*run)(void *opaque, struct disk_work *work); /* a worker's thread: the result */
	void (*wake)(void *opaque); /* the loop's thread: take what is finished */
	void *opaque;
};

struct disk_workers;

int disk_workers_create(const struct disk_workers_config *cfg, struct disk_workers **out,
			struct err *err);
void disk_workers_give(struct disk_workers *w, struct disk_work *work);
/* All that are finished, oldest first; NULL: none. wait: until there is one. */
struct disk_work *disk_workers_take(struct disk_workers *w, bool wait);
/* Nothing is given that was not taken back; accepts NULL. */
void disk_workers_destroy(struct disk_workers *w);

#endif
