/*
 * elf: ELF executables (System V ABI, chapters 4 and 5) and their notes.
 *
 * Internal to boot. Every byte of the file is hostile. Guest memory is fresh,
 * that is zero: what an ELF wants zeroed is not written. Errors name the file
 * and the reason. Thread: the builder.
 */
#ifndef BANTAM_BOOT_ELF_H
#define BANTAM_BOOT_ELF_H

#include "boot/kernel_image.h"
#include "boot/source.h"
#include "vmm/core/mem.h"

/* True if head (the first n bytes of the file) begins an ELF. */
bool elf_detect(const uint8_t *head, uint32_t n);
/* Loads the segments of an ELF. Nothing is decided about its entry yet. */
int elf_load(struct mem *mem, struct boot_source *src, struct kernel_image *image, struct err *err);
/* Checks that the segments lie in guest memory, where kernels may be, and apart from each other. */
int elf_check_segments(const struct mem *mem, const struct boot_file *file,
		       const struct kernel_image *image, struct err *err);
/* True if addr lies in a segment, and where a vCPU can start. */
bool elf_entry_ok(const struct kernel_image *image, uint64_t addr);

#endif
