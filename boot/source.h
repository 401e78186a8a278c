/*
 * source: a kernel's bytes, either as they lie in a file or unpacked on the way.
 *
 * A packed source is a stream: after its first SOURCE_HEAD_MAX bytes, which
 * stay readable, positions must not go back. Bytes are decoded straight to
 * where they are wanted. Errors name the file. Thread: the builder.
 */
#ifndef BANTAM_BOOT_SOURCE_H
#define BANTAM_BOOT_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "boot/file.h"

#define SOURCE_HEAD_MAX 65536u

struct unpack;

struct source {
	const struct file *file; /* not owned */
	uint64_t off, len_bytes; /* of the (packed) bytes in the file */
	struct unpack *unpack;	 /* NULL: not packed */
	uint8_t *head;		 /* packed: the first head_bytes */
	uint32_t head_bytes;
	uint64_t pos;	    /* packed: bytes decoded so far */
	uint64_t max_bytes; /* packed: more than that is a bomb */
};

/* The bytes [off, off + len_bytes) of file as they are. Needs no close. */
void source_plain(struct source *src, const struct file *file, uint64_t off, uint64_t len_bytes);
/*
 * The same, unpacked; kind is of enum unpack_kind. Reading beyond max_bytes
 * unpacked is an error. Close with source_close in any case.
 */
int source_packed(struct source *src, const struct file *file, uint64_t off, uint64_t len_bytes,
		  int kind, uint64_t max_bytes, struct err *err);
void source_close(struct source *src);

/* Exactly len_bytes at pos, or an error. */
int source_read(struct source *src, uint64_t pos, void *dst, uint64_t len_bytes, struct err *err);
/* Up to len_bytes at pos 0: fewer if the source is shorter. Returns the count or -errno. */
int64_t source_head(struct source *src, void *dst, uint32_t len_bytes, struct err *err);
/* Packed: decode to the end, so that checksums are verified. src->pos is the length then. */
int source_drain(struct source *src, struct err *err);

#endif
