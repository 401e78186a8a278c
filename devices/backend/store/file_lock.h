/*
 * store/file_lock: locks by which bantam and QEMU agree who may open an image.
 *
 * QEMU (block/file-posix.c) marks each permission i that it uses by a shared lock on byte 100+i,
 * and each that it does not grant to others by one on byte 200+i; 0 is "consistent read", 1 is
 * "write". We do the same with open file description locks: they belong to the descriptor and end
 * when it is closed.
 */
#ifndef BANTAM_STORE_FILE_LOCK_H
#define BANTAM_STORE_FILE_LOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * Lock fd (readable) for reading, or for reading and writing; other processes may not write in
 * either case. Returns 0; -EAGAIN: another process's claim conflicts; another -errno: this file
 * system has no locks.
 */
int store_file_lock(int fd, bool write);
/*
 * After store_file_lock(fd, write) has returned -EAGAIN: writes into text whose lock it is, as
 * "process 12 (qemu-img) of user 1000", or "" if that process is of another user and hidden from
 * us. Returns its process id, or 0. For messages: it looks through /proc.
 */
pid_t store_file_lock_holder(int fd, bool write, char *text, size_t len);
/* Release the lock. */
void store_file_unlock(int fd);

#endif
