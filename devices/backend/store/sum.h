/*
 * store/sum: the SHA-256 of a disk's bytes as a guest reads them.
 *
 * The same in every format; of a raw file it is what sha256sum prints. Runs of zeroes are not read.
 * Thread: any.
 */
#ifndef BANTAM_STORE_SUM_H
#define BANTAM_STORE_SUM_H

#include "devices/backend/store/store.h"

#define STORE_SUM_BYTES 32u

/*
 * Returns 0 and the sum; or -errno, with *failed_at the place that cannot be read. step may be NULL;
 * it is called before each read, of 256 KiB at most, with its place, and its result, if not 0, ends the function.
 */
int store_sum(struct store *s, int (*step)(void *opaque, uint64_t at), void *opaque,
	      uint8_t sum[STORE_SUM_BYTES], uint64_t *failed_at);

#endif
