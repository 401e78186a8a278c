/* qcow2/read: reading, and finding where the bytes are; both block. For the engine. */
#ifndef BANTAM_QCOW2_READ_H
#define BANTAM_QCOW2_READ_H

#include "devices/backend/store/store.h"

/* store_ops.read and store_ops.map. */
int qcow2_read(struct store *s, const struct iovec *iov, unsigned niov, uint64_t offset,
	       uint64_t len);
int qcow2_extent(struct store *s, uint64_t offset, uint64_t max, struct store_extent *out);
/* Returns true if [offset, + len) reaches beyond the disk's end. */
bool qcow2_beyond(const struct store *s, uint64_t offset, uint64_t len);

#endif
