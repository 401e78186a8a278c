/*
 * source: reads a kernel's bytes, from a plain file or through a decoder.
 *
 * A packed source is a stream: its first SOURCE_HEAD_MAX bytes stay readable, after
 * them positions must not go back. The decoder writes straight to the reader's
 * buffer. Errors name the file. Internal to boot. Thread: the builder.
 */
#ifndef BANTAM_BOOT_SOURCE_H
#define BANTAM_BOOT_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "boot/file.h"

#define SOURCE_HEAD_MAX 65536u

struct unpack;

struct boot_source {
	const struct boot_file *file; /* not owned */
	uint64_t off, len_bytes;      /* of the (packed) bytes in the file */
	struct unpack *unpack;	      /* NULL: not packed */
	uint8_t *head;		      /* packed: the first head_bytes */
	uint32_t head_bytes;
	uint64_t pos;	    /* packed: bytes decoded so far */
	uint64_t max_bytes; /* packed: decoding more is an error (a decompression bomb) */
};

/* The bytes [off, off + len_bytes) of file, not packed. Needs no close. */
void boot_source_plain(struct boot_source *src, const struct boot_file *file, uint64_t off,
		       uint64_t len_bytes);
/*
 * The same for packed bytes; kind is of enum unpack_kind. Unpacking more than max_bytes
 * is an error. The caller calls boot_source_close also after an error.
 */
int boot_source_packed(struct boot_source *src, const struct boot_file *file, uint64_t off,
		       uint64_t len_bytes, int kind, uint64_t max_bytes, struct err *err);
void boot_source_close(struct boot_source *src);

/* Reads exactly len_bytes at pos. Returns 0 or -errno. */
int boot_source_read(struct boot_source *src, uint64_t pos, void *dst, uint64_t len_bytes,
		     struct err *err);
/* Reads up to len_bytes at pos 0, fewer if the source is shorter. Returns the count or -errno. */
int64_t boot_source_head(struct boot_source *src, void *dst, uint32_t len_bytes, struct err *err);
/* Packed: decodes to the end, which verifies the checksums; then src->pos is the length. */
int boot_source_drain(struct boot_source *src, struct err *err);

#endif
