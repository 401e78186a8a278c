/* qcow2/compress: reading compressed clusters, the last few of which are kept. For the engine. */
#ifndef BANTAM_QCOW2_COMPRESS_H
#define BANTAM_QCOW2_COMPRESS_H

#include <stdint.h>
#include <sys/uio.h>

struct qcow2;
struct qcow2_unpacked; /* decompressed clusters, and spare decompressors */

/* Copies bytes [from, from + len) of the guest cluster that entry describes to iov, behind its
 * first skip bytes. Without the lock; blocks. Returns 0 or -errno; -EIO: cannot decompress the
 * cluster. */
int qcow2_unpack(struct qcow2 *q, uint64_t entry, uint64_t from, const struct iovec *iov,
		 unsigned niov, uint64_t skip, uint64_t len);
/* Forgets all decompressed clusters. For a cluster that was freed: the same entry may describe
 * other data later. Lock held. */
void qcow2_unpacked_forget_locked(struct qcow2 *q);
void qcow2_unpacked_free(struct qcow2 *q);

#endif
