/*
 * source: the bytes of one file that goes into an initrd, or of a piece of memory.
 *
 * A module may be compressed (.ko.gz, .ko.xz, .ko.zst; the magic number tells, not the name): it is
 * unpacked into a mapping of its own then, of at most PACK_MODULE_MAX bytes. Every other file is
 * read where it lies, never mapped. Input is hostile. Errors name the file. Internal to boot/pack
 * and its tests.
 */
#ifndef BANTAM_PACK_SOURCE_H
#define BANTAM_PACK_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "boot/file.h"
#include "vmm/core/err.h"

#define PACK_MODULE_MAX (256ull << 20)

struct pack_source {
	struct boot_file file;
	const uint8_t *bytes; /* or NULL: in the file */
	uint64_t size_bytes;
	uint8_t *map; /* what to unmap, or NULL */
	size_t map_bytes;
};

/* A regular file, which may be empty. path stays the caller's until close. */
int pack_source_open(struct pack_source *source, const char *path, bool module, struct err *err);
/* Memory that the caller keeps; name stands for it in errors. Needs no close. */
struct pack_source pack_source_of(const void *data, size_t len_bytes, const char *name);
void pack_source_close(struct pack_source *source);

/* Reads exactly len_bytes at off. -EINVAL: they are not all within the source. */
int pack_source_read(const struct pack_source *source, uint64_t off, void *dst, size_t len_bytes,
		     struct err *err);

#endif
