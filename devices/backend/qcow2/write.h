/* qcow2/write: what else changes the guest's clusters must know of writing. For the engine. */
#ifndef BANTAM_QCOW2_WRITE_H
#define BANTAM_QCOW2_WRITE_H

#include "devices/backend/store/store.h"

struct qcow2;

/* Guest clusters [first, first + n) are being changed by one thread. */
struct qcow2_busy {
	uint64_t first, n;
	struct qcow2_busy *next;
};

/* Before the first change: clears features that would go stale, completes the last cluster. Lock
 * held, also over this I/O. 0 or -errno. */
int qcow2_arm_locked(struct qcow2 *q);
bool qcow2_is_busy_locked(const struct qcow2 *q, uint64_t first, uint64_t n);
/* store_ops.write. */
int qcow2_write(struct store *s, const struct iovec *iov, unsigned niov, uint64_t offset,
		uint64_t len);

#endif
