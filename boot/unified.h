/*
 * unified: unified kernel images (UAPI.5): a PE file whose sections hold a kernel (.linux), its
 * initrd (.ucode, .initrd) and its command line (.cmdline).
 *
 * Every byte of the file is hostile. Errors name the file and the reason. Internal to boot.
 * Thread: the builder.
 */
#ifndef BANTAM_BOOT_UNIFIED_H
#define BANTAM_BOOT_UNIFIED_H

#include "boot/kernel.h"

/*
 * Returns 1 if file, whose first n bytes are head, is a unified kernel image: *kernel is its kernel,
 * and k's initrds and command line are set (k->cmdline: the caller frees it). Returns 0 if it is
 * something else, or -errno. Of an image with profiles the first counts.
 */
int unified_open(const struct boot_file *file, const uint8_t *head, uint32_t n,
		 struct boot_file *kernel, struct kernel *k, struct err *err);

#endif
