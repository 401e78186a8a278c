/*
 * source: a kernel's bytes, either as they lie in a file or unpacked on the way.
 *
 * A packed source is a stream: after its first SOURCE_HEAD_MAX bytes, which
 * stay readable, positions must not go back. Bytes are decoded straight to
 * where they are wanted. Errors name the file. Internal to boot. Thread: the
 * builder.
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
	uint64_t max_bytes; /* packed: more than that is a bomb */
};

/* The bytes [off, off + len_bytes) of file as they are. Needs no close. */
void boot_source_plain(struct boot_source *src, const struct boot_file *file, uint64_t off,
		       uint64_t len_bytes);
/*
 * The same, unpacked; kind is of enum unpack_kind. Reading beyond max_bytes
 * unpacked is an error. Close with boot_source_close in any case.
 */
int boot_source_packed(struct boot_source *src, const struct boot_file *file, uint64_t off,
		       uint64_t len_bytes, int kind, uint64_t max_bytes, struct err *err);
void boot_source_close(struct boot_source *src);

/* Exactly len_bytes at pos, or an error. */
int boot_source_read(struct boot_source *src, uint64_t pos, void *dst, uint64_t len_bytes,
		     struct err *err);
/* Up to len_bytes at pos 0: fewer if the source is shorter. Returns the count or -errno. */
int64_t boot_source_head(struct boot_source *src, void *dst, uint32_t len_bytes, struct err *err);
/* Packed: decode to the end, so that checksums are verified. src->pos is the length then. */
int boot_source_drain(struct boot_source *src, struct err *err);

#endif
