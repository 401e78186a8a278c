/* store/iov: see iov.h. */
#include "devices/backend/store/iov.h"

#include <string.h>

#include "vmm/core/err.h"

#define PARTS 64u

unsigned store_iov_slice(struct iovec *to, unsigned max, const struct iovec *iov, unsigned niov,
			 uint64_t skip, uint64_t len)
{
	unsigned n = 0;

	for (unsigned i = 0; i < niov && n < max && len; i++) {
		uint64_t part = iov[i].iov_len;

		if (skip >= part) {
			skip -= part;
			continue;
		}
		part -= skip;
		if (part > len)
			part = len;
		to[n++] = (struct iovec){ (char *)iov[i].iov_base + skip, part };
		len -= part;
		skip = 0;
	}
	return n;
}

/* from NULL: zeroes. */
static void copy(const struct iovec *iov, unsigned niov, uint64_t skip, const uint8_t *from,
		 uint64_t len)
{
	while (len) {
		struct iovec part[PARTS];
		unsigned n = store_iov_slice(part, PARTS, iov, niov, skip, len);

		BUG_ON(!n);
		for (unsigned i = 0; i < n; i++) {
			uint64_t bytes = part[i].iov_len;

			if (from) {
				memcpy(part[i].iov_base, from, bytes);
				from += bytes;
			} else {
				memset(part[i].iov_base, 0, bytes);
			}
			len -= bytes;
			skip += bytes;
		}
	}
}

void store_iov_zero(const struct iovec *iov, unsigned niov, uint64_t skip, uint64_t len)
{
	copy(iov, niov, skip, NULL, len);
}

void store_iov_fill(const struct iovec *iov, unsigned niov, uint64_t skip, const void *from,
		    uint64_t len)
{
	copy(iov, niov, skip, from, len);
}
