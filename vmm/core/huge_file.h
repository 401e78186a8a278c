/*
 * huge_file: files in memory that have huge pages: transparent ones, or those of the host's pool.
 *
 * They are for memory that processes share. On a stock host a memfd has no huge pages, because
 * /sys/kernel/mm/transparent_hugepage/shmem_enabled is "never" there.
 */
#ifndef BANTAM_HUGE_FILE_H
#define BANTAM_HUGE_FILE_H

#include <stdint.h>

#include "vmm/core/err.h"

/*
 * Creates a file without a name, of length 0; the kernel frees it with its last descriptor or
 * mapping. It takes transparent huge pages where a mapping with MADV_HUGEPAGE touches it first;
 * each mapping must ask for itself. It cannot be sealed: a process that has the descriptor can
 * truncate it.
 *
 * Returns its descriptor (close-on-exec), or -errno where this host or the container that we are in
 * does not allow it: the caller needs another way. -ENOTSUP: shmem_enabled is "deny", and no file
 * has huge pages. Any thread; needs no privileges, and has no effect on this process but the new
 * descriptor.
 */
int huge_file_create(void);
/*
 * For root, also of a user namespace, before the process gives up CAP_SYS_ADMIN: mounts now what the next huge_file_create needs. Nothing
 * happens without that right. One thread; takes a descriptor until then.
 */
void huge_file_mount_now(void);
/* The root folder of that mount, -1: none. */
int huge_file_mounted(void);

/*
 * Creates a memfd of length 0 whose pages come from the host's pool (hugetlbfs). *page_bytes is
 * their size, a power of two; 0 becomes the host's default size. A mapping without MAP_NORESERVE
 * reserves its pages, or fails with ENOMEM; then huge_file_pool_short fills err. Returns the
 * descriptor (close-on-exec, can be sealed) or -errno.
 */
int huge_file_create_pool(uint64_t *page_bytes, struct err *err);
/* Says that the pool cannot give total_bytes, how many pages are free, and what to do: -ENOMEM. */
int huge_file_pool_short(uint64_t total_bytes, uint64_t page_bytes, struct err *err);

#endif
