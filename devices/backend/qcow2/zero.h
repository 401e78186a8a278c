/* qcow2/zero: zeroing and discarding. For the engine. */
#ifndef BANTAM_QCOW2_ZERO_H
#define BANTAM_QCOW2_ZERO_H

#include "devices/backend/store/store.h"

/* store_ops.zero and store_ops.discard. */
int qcow2_zero(struct store *s, uint64_t offset, uint64_t len, bool unmap);
int qcow2_discard(struct store *s, uint64_t offset, uint64_t len);

#endif
