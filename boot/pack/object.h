/*
 * object: what a program or a shared library needs to run: the parts of its program headers and its
 * dynamic section that name other files (System V ABI, chapter 5).
 *
 * Both classes, little-endian, of any processor. Input is hostile: the file is read, never run and never
 * mapped. Internal to boot/pack and its tests. Thread: any.
 */
#ifndef BANTAM_PACK_OBJECT_H
#define BANTAM_PACK_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "boot/pack/source.h"

#define PACK_NEEDED_MAX 512u

struct pack_object {
	bool is64;
	unsigned machine;  /* EM_* */
	char *interpreter; /* PT_INTERP, owned; NULL: none */
	char *strings; /* the dynamic section's, owned, with a NUL behind them; NULL: it has none */
	const char **needed; /* DT_NEEDED in their order, in strings; owned */
	size_t nneeded;
	const char *rpath, *runpath; /* in strings; NULL: none */
};

/* -ENOEXEC: not an ELF program or library, or a damaged one; then *out is empty. */
int pack_object_read(const struct pack_source *source, struct pack_object *out, struct err *err);
void pack_object_free(struct pack_object *object);

#endif
