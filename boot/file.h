/*
 * file: a regular file opened for reading. Its size may change under us.
 *
 * Nothing here maps the file: if another process truncates it while we read, the
 * read fails, without SIGBUS. Errors name the option and the path. Internal to
 * boot. Thread: the builder.
 */
#ifndef BANTAM_BOOT_FILE_H
#define BANTAM_BOOT_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "vmm/core/err.h"

struct boot_file {
	int fd;
	const char *what; /* the option, for errors: "--kernel"; not owned */
	const char *path; /* not owned */
	uint64_t start;	  /* where its bytes begin in fd's file; not 0: a part of another file */
	uint64_t size_bytes;
	struct stat st;	       /* of fd's whole file */
	const uint8_t *sha256; /* of its bytes, or NULL: the cache's key if known; not owned */
};

/* Refuses an empty file and everything but a regular file. On error file->fd is -1. */
int boot_file_open(struct boot_file *file, const char *what, const char *path, struct err *err);
/* The same for a descriptor, which it duplicates; path is only a name for errors. */
int boot_file_open_fd(struct boot_file *file, const char *what, const char *path, int fd,
		      struct err *err);
/*
 * Makes part the len_bytes of file from off on, which must lie within it. part borrows the
 * descriptor: do not close it.
 */
void boot_file_part(const struct boot_file *file, uint64_t off, uint64_t len_bytes,
		    struct boot_file *part);
/* Accepts a file whose fd is -1. */
void boot_file_close(struct boot_file *file);

/* Reads exactly len_bytes at off. A file that ends earlier is an error. */
int boot_file_read(const struct boot_file *file, uint64_t off, void *dst, uint64_t len_bytes,
		   struct err *err);

#endif
