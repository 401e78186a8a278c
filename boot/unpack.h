/*
 * unpack: decoders for the compressions that kernels use, as a stream to read from.
 *
 * A decoder maps working memory of its own, at most UNPACK_MEMORY_MAX, and unmaps it
 * on close. Input is hostile. Errors name the file. Internal to boot. Thread: the
 * builder.
 *
 * Formats: gzip (RFC 1952), xz (its file format 1.1), zstd (RFC 8878) and the
 * legacy LZ4 frame (magic 0x184c2102), the one that the kernel's build writes.
 */
#ifndef BANTAM_BOOT_UNPACK_H
#define BANTAM_BOOT_UNPACK_H

#include <stdbool.h>
#include <stdint.h>

#include "boot/file.h"

#define UNPACK_MEMORY_MAX (256ull << 20)

enum unpack_kind {
	UNPACK_NONE, /* no compression that we know */
	UNPACK_GZIP,
	UNPACK_XZ,
	UNPACK_ZSTD,
	UNPACK_LZ4,
	/* Detected, but not supported: */
	UNPACK_BZIP2,
	UNPACK_LZMA,
	UNPACK_LZO,
	UNPACK_LZ4_FRAME,
	UNPACK_KINDS
};

/* Detects the compression from the first n bytes; n may be small. */
enum unpack_kind unpack_detect(const uint8_t *head, uint32_t n);
const char *unpack_name(enum unpack_kind kind);
bool unpack_supported(enum unpack_kind kind);

struct unpack;

/*
 * Opens a decoder for the bytes [off, off + len_bytes) of file; the caller keeps file open until
 * unpack_close. Returns 0 or -errno; *out needs unpack_close also after an error.
 */
int unpack_open(struct unpack **out, enum unpack_kind kind, const struct boot_file *file,
		uint64_t off, uint64_t len_bytes, struct err *err);
/* Decodes up to len_bytes to dst, fewer only at the stream's end. Returns the count or -errno. */
int64_t unpack_read(struct unpack *unpack, void *dst, uint64_t len_bytes, struct err *err);
/* Accepts NULL. */
void unpack_close(struct unpack *unpack);

#endif
