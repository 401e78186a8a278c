/*
 * strip: takes the debug information out of a kernel module, as `strip --strip-debug` does (the kernel's
 * INSTALL_MOD_STRIP). It is most of a module in a folder where a kernel was built, and no kernel loads it.
 *
 * A signed module stays whole: its signature would not be right any more. Input is hostile. Internal to
 * boot/pack and its tests. Thread: any.
 */
#ifndef BANTAM_PACK_STRIP_H
#define BANTAM_PACK_STRIP_H

#include <stddef.h>
#include <stdint.h>

#include "boot/pack/source.h"

/*
 * Returns 0 with the smaller module in *out, which the caller frees, or with NULL: it is to be used as it
 * is, because it has no such information, is signed, or is damaged (whoever loads it says how). -errno:
 * it cannot be read, or there is no memory.
 */
int pack_strip_debug(const struct pack_source *module, uint8_t **out, size_t *len_bytes,
		     struct err *err);

#endif
