/*
 * elf: ELF executables (System V ABI, chapters 4 and 5) and their notes.
 *
 * Internal to boot. Every byte of the file is hostile. Guest memory is fresh and
 * so zero: the loader does not write the bytes that an ELF wants zeroed. Errors
 * name the file and the reason. Thread: the builder.
 */
#ifndef BANTAM_BOOT_ELF_H
#define BANTAM_BOOT_ELF_H

#include "boot/kernel_image.h"
#include "boot/source.h"
#include "vmm/core/mem.h"

/* Returns true if head (the file's first n bytes) begins an ELF. */
bool elf_detect(const uint8_t *head, uint32_t n);
/* Loads the segments of an ELF. boot_arch_enter chooses its entry later. */
int elf_load(struct mem *mem, struct boot_source *src, struct kernel_image *image, struct err *err);
/* Checks that the segments are in guest memory, where kernels may be, and do not overlap. */
int elf_check_segments(const struct mem *mem, const struct boot_file *file,
		       const struct kernel_image *image, struct err *err);
/* Returns true if addr is in a segment and a vCPU can start there. */
bool elf_entry_ok(const struct kernel_image *image, uint64_t addr);

#endif
