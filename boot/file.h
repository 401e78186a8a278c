/*
 * file: a regular file opened for reading, whose size is known and may lie.
 *
 * Nothing here maps the file: one that is truncated while we read gives an
 * error and no SIGBUS. Errors name the option and the path. Internal to boot.
 * Thread: the builder.
 */
#ifndef BANTAM_BOOT_FILE_H
#define BANTAM_BOOT_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "vmm/core/err.h"

struct boot_file {
	int fd;
	const char *what; /* "--kernel": how errors call it; not owned */
	const char *path; /* not owned */
	uint64_t size_bytes;
	struct stat st;
	const uint8_t *sha256; /* of its bytes, if known: what the cache goes by; not owned */
};

/* Refuses what is no regular file, and an empty one. On error file->fd is -1. */
int boot_file_open(struct boot_file *file, const char *what, const char *path, struct err *err);
/* The same for a descriptor, of which a copy is made; path is only a name. */
int boot_file_open_fd(struct boot_file *file, const char *what, const char *path, int fd,
		      struct err *err);
/* Accepts one whose fd is -1. */
void boot_file_close(struct boot_file *file);

/* Exactly len_bytes at off, or an error (also when the file ends before). */
int boot_file_read(const struct boot_file *file, uint64_t off, void *dst, uint64_t len_bytes,
		   struct err *err);

#endif
