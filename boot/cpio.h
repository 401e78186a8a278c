/*
 * cpio: write archives of the kind an initrd is made of ("newc", magic 070701;
 * Documentation/driver-api/early-userspace/buffer-format.rst of Linux).
 *
 * For tools/mkinitrd; boot itself does not use it. Pure: bytes go to a FILE (a buffer by open_memstream), nothing is read from
 * the file system; owner 0:0 and time 0 throughout, so that the same calls give
 * the same bytes. Names are relative to the root, leading slashes are dropped.
 *
 * Every function returns 0 or -errno: -EINVAL for a name that is empty, has a
 * component "." or "..", or is longer than the kernel unpacks (PATH_MAX with its
 * NUL); -EFBIG for contents over 4 GiB - 1; what stdio failed with. The first
 * error sticks: later calls return it and write nothing. Parents have to be
 * added before children. One thread.
 */
#ifndef BANTAM_CPIO_H
#define BANTAM_CPIO_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct cpio {
	FILE *out;
	uint64_t len_bytes; /* written so far */
	uint32_t ino;	    /* of the last entry */
	int error;	    /* 0 or the first -errno */
};

void cpio_init(struct cpio *cpio, FILE *out);

/* perm: the lower 12 bits of a mode */
int cpio_add_dir(struct cpio *cpio, const char *name, unsigned perm);
int cpio_add_file(struct cpio *cpio, const char *name, unsigned perm, const void *data,
		  uint64_t len_bytes);
int cpio_add_chardev(struct cpio *cpio, const char *name, unsigned perm, unsigned major,
		     unsigned minor);

/* The trailer, padding to 512 bytes (so that archives can be put one after another), a flush. */
int cpio_finish(struct cpio *cpio);

#endif
