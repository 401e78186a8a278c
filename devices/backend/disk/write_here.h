/*
 * disk/write_here: a write to the page cache in the caller's thread, where that is faster.
 *
 * Some file systems (ext4) cannot write to the page cache without the risk of blocking, so io_uring
 * hands each write to a worker thread, which costs many times what the copy does. For these we
 * write in the loop's thread instead: that takes a microsecond or two, unless the host has too many
 * dirty pages or a slow journal. After a write that stalls, all writes go to the workers for many
 * times the length of the stall. So stalls cost the VM's other devices a small share of the time at
 * most.
 */
#ifndef BANTAM_DISK_WRITE_HERE_H
#define BANTAM_DISK_WRITE_HERE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/backend/store/image_file.h"

struct disk_write_here {
	enum { WRITE_HERE_UNKNOWN, WRITE_HERE_NEVER, WRITE_HERE_OFTEN } state;
	uint64_t stalled_until_ns;
};

/*
 * Call it first. This image never writes here if it waits for the medium (O_DIRECT) or can write
 * without blocking (a block device).
 */
void disk_write_here_init(struct disk_write_here *w, const struct store_image *image);

/*
 * For other work of that kind. Returns true if the caller may do it here now; the caller then
 * passes *begin_ns to disk_write_here_took.
 */
bool disk_write_here_may(const struct disk_write_here *w, uint64_t *begin_ns);
/* The work is done. Returns how long it took, in ns. */
uint64_t disk_write_here_took(struct disk_write_here *w, uint64_t begin_ns);

/* Returns true if everything is written; false: write in the usual way. */
bool disk_write_here(struct disk_write_here *w, int fd, const struct iovec *iov, unsigned niov,
		     uint64_t offset, uint64_t len_bytes);

#endif
