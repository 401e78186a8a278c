/*
 * huge_file: a file in memory that has huge pages.
 *
 * For memory that processes share. A memfd has none on a stock host, for there
 * /sys/kernel/mm/transparent_hugepage/shmem_enabled is "never".
 */
#ifndef BANTAM_HUGE_FILE_H
#define BANTAM_HUGE_FILE_H

/*
 * A new file without a name, of length 0, that goes with its last descriptor or mapping. It takes
 * transparent huge pages where it is first touched by a mapping with MADV_HUGEPAGE; every mapping
 * is asked for itself. It cannot be sealed: who has the descriptor can cut it.
 *
 * Returns its descriptor (close-on-exec), or -errno where this host or the container we are in
 * does not let us make one: always have another way. -ENOTSUP: shmem_enabled is "deny", and no
 * file has huge pages. Any thread; needs no privileges, and has no effect on this process but the
 * new descriptor.
 */
int huge_file_create(void);

#endif
