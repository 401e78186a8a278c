/* qcow2/compress: reading compressed clusters, the last few of which are kept. For the engine. */
#ifndef BANTAM_QCOW2_COMPRESS_H
#define BANTAM_QCOW2_COMPRESS_H

#include <stdint.h>
#include <sys/uio.h>

struct qcow2;
struct qcow2_unpacked; /* decompressed clusters, and spare decompressors */

/* Part of the guest cluster that entry describes, [from, from + len), into iov from skip. Without
 * the lock; blocks. 0 or -errno; -EIO: it cannot be decompressed. */
int qcow2_unpack(struct qcow2 *q, uint64_t entry, uint64_t from, const struct iovec *iov,
		 unsigned niov, uint64_t skip, uint64_t len);
/* A cluster was freed, and its entry may come to mean other data. Lock held. */
void qcow2_unpacked_forget_locked(struct qcow2 *q);
void qcow2_unpacked_free(struct qcow2 *q);

#endif
