/*
 * qcow2/qcow2_impl: an open image. Only the engine's sources include this. The header that
 * declares a part explains it.
 */
#ifndef BANTAM_QCOW2_IMPL_H
#define BANTAM_QCOW2_IMPL_H

#include <pthread.h>

#include "devices/backend/qcow2/cache.h"
#include "devices/backend/qcow2/commit.h"
#include "devices/backend/qcow2/free.h"
#include "devices/backend/qcow2/meta.h"
#include "devices/backend/qcow2/qcow2.h"
#include "devices/backend/qcow2/refcount.h"

struct qcow2_busy;     /* write.h */
struct qcow2_unpacked; /* compress.h */

struct qcow2 {
	struct store store;	/* first */
	struct qcow2_file file; /* tables, features and sizes */
	bool writable;		/* opened completely, and for writing */
	bool armed;		/* the file is prepared for the first change: qcow2_arm_locked */

	pthread_mutex_t lock;	/* guards all fields below, and the tables of file */
	pthread_cond_t changed; /* a slice was loaded, busy shrank, a commit ended */
	struct qcow2_cache cache;
	struct qcow2_space space;
	struct qcow2_freeing freeing;
	struct qcow2_changes changes;
	struct qcow2_meta meta;
	struct qcow2_busy *busy;
	struct qcow2_unpacked *unpacked; /* NULL until the first compressed cluster is read */
	bool unpack_error_logged;	 /* atomic */
};

/* map.c: as qcow2_map_locked, but blocks, and the caller does not hold the lock. If it returns 0,
 * it has begun an I/O, which the caller ends by qcow2_io_end(q, *epoch). */
int qcow2_map(struct qcow2 *q, uint64_t offset, uint64_t max, struct qcow2_run *run,
	      unsigned *epoch);

#endif
