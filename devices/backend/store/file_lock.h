/*
 * store/file_lock: who may open an image, agreed with other VMs and with QEMU.
 *
 * QEMU (block/file-posix.c) marks each permission i that it uses by a shared
 * lock on byte 100+i, and each that it does not grant to others on byte 200+i;
 * 0 is "consistent read", 1 is "write". We do the same with open file
 * description locks: they belong to the descriptor and go when it is closed.
 */
#ifndef BANTAM_STORE_FILE_LOCK_H
#define BANTAM_STORE_FILE_LOCK_H

#include <stdbool.h>

/*
 * Lock fd (readable) for reading, or for reading and writing; nobody else may
 * write in either case. 0; -EAGAIN: someone else's claim conflicts; another
 * -errno: this file system has no locks.
 */
int store_file_lock(int fd, bool write);
/* Give the lock back. */
void store_file_unlock(int fd);

#endif
