/*
 * huge_file: a file in memory that has huge pages.
 *
 * It is for memory that processes share. On a stock host a memfd has no huge pages, because
 * /sys/kernel/mm/transparent_hugepage/shmem_enabled is "never" there.
 */
#ifndef BANTAM_HUGE_FILE_H
#define BANTAM_HUGE_FILE_H

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

#endif
