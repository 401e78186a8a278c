/*
 * qcow2/qcow2_impl: an open image, for the sources of the engine alone. Each part is explained by
 * the header that declares it.
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
	struct qcow2_file file; /* tables, features and sizes: under the lock once others run */
	bool writable;		/* opened completely, and for writing */
	bool armed;		/* the file is prepared for the first change: qcow2_arm_locked */

	pthread_mutex_t lock;	/* all that follows, and the tables of file */
	pthread_cond_t changed; /* a slice was loaded, busy shrank, a commit ended */
	struct qcow2_cache cache;
	struct qcow2_space space;
	struct qcow2_freeing freeing;
	struct qcow2_changes changes;
	struct qcow2_meta meta;
	struct qcow2_busy *busy;
	struct qcow2_unpacked *unpacked; /* NULL until the first compressed cluster is read */
	bool told_packed; /* atomic: that a cluster cannot be decompressed is logged */
};

/* map.c: qcow2_map_locked, blocking, without the lock; begins an I/O: *epoch is for qcow2_io_end. */
int qcow2_map(struct qcow2 *q, uint64_t offset, uint64_t max, struct qcow2_run *run,
	      unsigned *epoch);

#endif
