/*
 * store/iov: parts of an iovec: len bytes of it, from skip bytes in. For image formats. Pure.
 *
 * The iovec has at least skip + len bytes.
 */
#ifndef BANTAM_STORE_IOV_H
#define BANTAM_STORE_IOV_H

#include <stdint.h>
#include <sys/uio.h>

/* Writes the pieces to to[], at most max; returns how many. Fewer than all if max is too small. */
unsigned store_iov_slice(struct iovec *to, unsigned max, const struct iovec *iov, unsigned niov,
			 uint64_t skip, uint64_t len);
void store_iov_zero(const struct iovec *iov, unsigned niov, uint64_t skip, uint64_t len);
void store_iov_fill(const struct iovec *iov, unsigned niov, uint64_t skip, const void *from,
		    uint64_t len);

#endif
