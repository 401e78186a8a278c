/*
 * unpack: the compressions that kernels are packed with, as a stream to pull.
 *
 * Working memory is mapped for the decoder alone and given back to the system
 * when it is closed, never more than UNPACK_MEMORY_MAX. Input is hostile.
 * Errors name the file. Internal to boot. Thread: the builder.
 *
 * Formats: gzip (RFC 1952), xz (its file format 1.1), zstd (RFC 8878) and the
 * legacy LZ4 frame (magic 0x184c2102), which is what the kernel's build makes.
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
	/* Known by name only: */
	UNPACK_BZIP2,
	UNPACK_LZMA,
	UNPACK_LZO,
	UNPACK_LZ4_FRAME,
	UNPACK_KINDS
};

/* By the first bytes; n may be small. */
enum unpack_kind unpack_detect(const uint8_t *head, uint32_t n);
const char *unpack_name(enum unpack_kind kind);
bool unpack_supported(enum unpack_kind kind);

struct unpack;

/* The packed bytes are [off, off + len_bytes) of file, which stays open until the close. */
int unpack_open(struct unpack **out, enum unpack_kind kind, const struct boot_file *file,
		uint64_t off, uint64_t len_bytes, struct err *err);
/* Decode up to len_bytes to dst: fewer only at the end of the stream. The count or -errno. */
int64_t unpack_read(struct unpack *unpack, void *dst, uint64_t len_bytes, struct err *err);
/* Accepts NULL. */
void unpack_close(struct unpack *unpack);

#endif
