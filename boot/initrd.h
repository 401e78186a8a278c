/*
 * initrd: as high in guest memory as the kernel lets it lie, page aligned.
 *
 * Below both k->initrd_max and the end of the RAM that holds the kernel, clear of the
 * kernel's own memory; in the RAM beyond when it does not fit there and the kernel can. Errors
 * name the file. Internal to boot. Thread: the builder.
 */
#ifndef BANTAM_BOOT_INITRD_H
#define BANTAM_BOOT_INITRD_H

#include <stdint.h>

#include "boot/kernel.h"

int initrd_load(struct mem *mem, const struct boot_request *req, const struct kernel *k,
		uint64_t *base, uint64_t *len_bytes, struct err *err);

#endif
