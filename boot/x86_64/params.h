/*
 * params: writes the structures that the first vCPU reads when it starts.
 *
 * linux64: boot_params (Linux Documentation/arch/x86/zero-page.rst), 4 GiB of
 * identity page tables, a GDT. PVH: hvm_start_info version 1 (Xen
 * public/arch-x86/hvm/start_info.h), a GDT. Addresses are those of layout.h; the
 * caller has checked that guest memory is there. Thread: the builder.
 */
#ifndef BANTAM_X86_64_PARAMS_H
#define BANTAM_X86_64_PARAMS_H

#include <stdint.h>

#include "boot/boot.h"
#include "boot/kernel.h"

#define PARAMS_MAX_MAP 32

struct params {
	const struct kernel *kernel;
	uint64_t cmdline;
	uint64_t initrd, initrd_bytes; /* 0: none */
	uint64_t rsdp;
	struct boot_map_entry map[PARAMS_MAX_MAP];
	unsigned nmap;
};

void params_write_linux64(struct mem *mem, const struct params *params);
void params_write_pvh(struct mem *mem, const struct params *params);
void params_write_page_tables(struct mem *mem);
void params_write_gdt(struct mem *mem, enum boot_entry_kind entry);

#endif
