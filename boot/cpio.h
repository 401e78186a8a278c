/*
 * cpio: writes the archives that an initrd consists of ("newc", magic 070701;
 * Documentation/driver-api/early-userspace/buffer-format.rst of Linux).
 *
 * For boot/pack; boot itself does not use it. Pure: it writes to a FILE (a
 * buffer with open_memstream) and reads nothing from the file system. Owner is 0:0 and
 * time 0 in all entries, so the same calls give the same bytes. Names are relative to
 * the root; leading slashes are dropped.
 *
 * Every function returns 0 or -errno: -EINVAL for a name that is empty, has a
 * component "." or "..", or is longer than the kernel unpacks (PATH_MAX with its
 * NUL); -EFBIG for contents over 4 GiB - 1; stdio's error. The first error sticks:
 * later calls return it and write nothing. Contents in parts that are not exactly as
 * long as cpio_begin_file was told are -EINVAL, too. The caller adds parents before children.
 * One thread.
 */
#ifndef BANTAM_CPIO_H
#define BANTAM_CPIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct cpio {
	FILE *out;
	uint64_t len_bytes;  /* written so far */
	uint64_t left_bytes; /* of the contents that cpio_begin_file announced */
	uint32_t ino;	     /* of the last entry */
	int error;	     /* 0 or the first -errno */
};

void cpio_init(struct cpio *cpio, FILE *out);

/* perm: the lower 12 bits of a mode */
int cpio_add_dir(struct cpio *cpio, const char *name, unsigned perm);
int cpio_add_file(struct cpio *cpio, const char *name, unsigned perm, const void *data,
		  uint64_t len_bytes);
int cpio_add_chardev(struct cpio *cpio, const char *name, unsigned perm, unsigned major,
		     unsigned minor);
int cpio_add_blockdev(struct cpio *cpio, const char *name, unsigned perm, unsigned major,
		      unsigned minor);
/* A symbolic link; target is at most PATH_MAX long with its NUL, and not empty. */
int cpio_add_link(struct cpio *cpio, const char *name, const char *target);

/*
 * A file whose contents come in parts: begin, then write all of the len_bytes (one call with nothing
 * for an empty file).
 */
int cpio_begin_file(struct cpio *cpio, const char *name, unsigned perm, uint64_t len_bytes);
int cpio_write(struct cpio *cpio, const void *data, size_t len_bytes);

/* Whether an entry may have that name, which has no leading slash. */
bool cpio_name_ok(const char *name);

/* Writes the trailer, pads to 512 bytes (so another archive can follow), and flushes. */
int cpio_finish(struct cpio *cpio);

#endif
