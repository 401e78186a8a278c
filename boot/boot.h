/*
 * boot: put kernel, initrd, command line and firmware tables into guest memory
 * and say where the first vCPU starts.
 *
 * The only header of boot that the machine includes, with board.h. Every byte of the
 * kernel file is hostile: each field is checked before use. Errors are the user's:
 * one line that names the file and the reason. Thread: the builder, before the vCPUs
 * run. No KVM is involved: a thread of its own may load while others build the machine
 * around the same memory.
 */
#ifndef BANTAM_BOOT_H
#define BANTAM_BOOT_H

#include <stdbool.h>
#include <stdint.h>

#include "boot/board.h"
#include "vmm/core/err.h"
#include "vmm/core/mem.h"

enum boot_unpack { BOOT_UNPACK_AUTO, BOOT_UNPACK_ON, BOOT_UNPACK_OFF };
enum boot_entry_kind { BOOT_ENTRY_AUTO, BOOT_ENTRY_LINUX64, BOOT_ENTRY_PVH };

struct boot_request {
	const char *kernel; /* path; "-" is not special */
	const char *initrd; /* path or NULL */
	/* If given, they are read from there (and stay open); kernel and initrd only name them. */
	const int *kernel_fd, *initrd_fd;
	/* Of kernel_fd's 32 bytes, for the cache; NULL: not known, then it is not cached. */
	const uint8_t *kernel_sha256;
	const char *cmdline; /* never NULL */
	enum boot_entry_kind entry;
	/*
	 * bzImage: whether to unpack its payload on the host. AUTO leaves to the
	 * guest what cannot be. KASLR works either way (unless entry is PVH).
	 */
	enum boot_unpack unpack;
	/*
	 * Unpacked kernels are kept in its subdirectory "unpacked", which is made
	 * as needed; NULL: not kept. A cache that does not work is no error.
	 */
	const char *cache_dir;
};

/* What the first vCPU has in its registers at entry_addr; vmm/arch/ARCH sets them. */
union boot_regs {
	struct {
		uint64_t rsi;	    /* LINUX64: boot_params */
		uint64_t rbx;	    /* PVH: hvm_start_info */
		uint64_t cr3;	    /* LINUX64: identity map of the first 4 GiB at least */
		uint64_t gdt;	    /* table of gdt_bytes that holds flat segments */
		uint16_t gdt_bytes; /* selector 0x10 code, 0x18 data, 0x20 TSS */
	} x86;
};

struct boot_info {
	enum boot_entry_kind entry; /* not AUTO */
	const char *format;	    /* "bzImage", "bzImage payload (xz, cached)", "ELF" … */
	uint64_t entry_addr;	    /* of the kernel's first instruction */
	union boot_regs regs;
	uint64_t kernel_base, kernel_bytes;
	uint64_t initrd_base, initrd_bytes;
	uint64_t cmdline_base;
	uint64_t rsdp;
};

/*
 * Everything in one call. mem is fresh: zero where nothing was written yet (what
 * a kernel wants zeroed is not written again). Addresses: boot/ARCH/layout.h.
 */
int boot_load(struct mem *mem, const struct boot_request *req, const struct board *board,
	      struct boot_info *info, struct err *err);

/*
 * The memory map as the guest is told it, sorted; returns the count. The numbers are those of
 * x86's e820 map.
 */
enum boot_map_type { BOOT_MAP_RAM = 1, BOOT_MAP_RESERVED = 2 };
struct boot_map_entry {
	uint64_t base;
	uint64_t len_bytes;
	enum boot_map_type type;
};
unsigned boot_memory_map(const struct mem *mem, const struct board *board,
			 struct boot_map_entry *map, unsigned max);

/*
 * ACPI tables at base (at most len_bytes): RSDP first. acpi.c; used by boot_load and by tests.
 * Returns the bytes used, or -errno.
 */
int64_t acpi_build(struct mem *mem, const struct board *board, gpa_t base, uint64_t len_bytes,
		   struct err *err);

#endif
