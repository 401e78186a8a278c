/* disk/write_here: see write_here.h. */
#include "devices/backend/disk/write_here.h"

#include <errno.h>

#include "vmm/core/clock.h"
#include "vmm/core/fd_rw.h"

#define HERE_MAX_BYTES (256u * 1024u)
#define STALL_NS 1000000u
#define STALL_FACTOR 20u

void disk_write_here_init(struct disk_write_here *w, const struct store_image *image)
{
	bool never = image->cached_fd >= 0 || image->is_block;

	*w = (struct disk_write_here){ never ? WRITE_HERE_NEVER : WRITE_HERE_UNKNOWN, 0 };
}

bool disk_write_here_may(const struct disk_write_here *w, uint64_t *begin_ns)
{
	*begin_ns = clock_now_ns();
	return w->state != WRITE_HERE_NEVER && *begin_ns >= w->stalled_until_ns;
}

uint64_t disk_write_here_took(struct disk_write_here *w, uint64_t begin_ns)
{
	uint64_t end = clock_now_ns(), took = end - begin_ns;

	if (took > STALL_NS)
		w->stalled_until_ns = end + STALL_FACTOR * took;
	return took;
}

bool disk_write_here(struct disk_write_here *w, int fd, const struct iovec *iov, unsigned niov,
		     uint64_t offset, uint64_t len_bytes)
{
	uint64_t begin;
	ssize_t n;

	if (len_bytes > HERE_MAX_BYTES || w->state == WRITE_HERE_NEVER)
		return false;
	if (w->state == WRITE_HERE_UNKNOWN) {
		n = fd_rw_pwritev(fd, iov, (int)niov, (off_t)offset, RWF_NOWAIT);
		w->state = n < 0 && errno == EOPNOTSUPP ? WRITE_HERE_OFTEN : WRITE_HERE_NEVER;
		if (w->state == WRITE_HERE_NEVER)
			return n >= 0 && (uint64_t)n == len_bytes;
	}
	if (!disk_write_here_may(w, &begin))
		return false;
	n = fd_rw_pwritev(fd, iov, (int)niov, (off_t)offset, 0);
	disk_write_here_took(w, begin);
	/* Errors and short writes are rare: the usual path writes again, and handles them. */
	return n >= 0 && (uint64_t)n == len_bytes;
}
