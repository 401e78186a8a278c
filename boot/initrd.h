/*
 * initrd: loads the initrd, page aligned, as high in guest memory as the kernel allows.
 *
 * It goes below both k->initrd_max and the end of the RAM region that holds the kernel, and does
 * not overlap the kernel's own memory. If it does not fit there, it goes anywhere in RAM up to
 * k->initrd_far, the highest place first. Without req->initrd it is the one in the kernel's file.
 * Errors name the file. Internal to boot. Thread: the builder.
 */
#ifndef BANTAM_BOOT_INITRD_H
#define BANTAM_BOOT_INITRD_H

#include <stdint.h>

#include "boot/kernel.h"

int initrd_load(struct mem *mem, const struct boot_request *req, const struct kernel *k,
		uint64_t *base, uint64_t *len_bytes, struct err *err);

#endif
