/* qcow2/write: writes, and what other code that changes guest clusters needs. For the engine. */
#ifndef BANTAM_QCOW2_WRITE_H
#define BANTAM_QCOW2_WRITE_H

#include "devices/backend/store/store.h"

struct qcow2;

/* One thread is changing guest clusters [first, first + n). */
struct qcow2_busy {
	uint64_t first, n;
	struct qcow2_busy *next;
};

/* Call it before the first change (armed). Clears the features that would go stale, and completes
 * the file's last cluster. Keeps the lock over this I/O. Returns 0 or -errno. */
int qcow2_arm_locked(struct qcow2 *q);
bool qcow2_is_busy_locked(const struct qcow2 *q, uint64_t first, uint64_t n);
/* store_ops.write. */
int qcow2_write(struct store *s, const struct iovec *iov, unsigned niov, uint64_t offset,
		uint64_t len);

#endif
