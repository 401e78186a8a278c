/*
 * boot: puts the kernel, the initrd, the command line and the firmware tables into
 * guest memory, and returns where the first vCPU starts.
 *
 * The machine includes this header and board.h, and no other header of boot. Every
 * byte of the kernel file is hostile: boot checks each field before use. Errors are
 * for the user: one line that names the file and the reason. Thread: the builder,
 * before the vCPUs run. boot does not use KVM, so it may load in a thread of its own
 * while other threads build the machine around the same memory.
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

/*
 * What a guest learns about the system that it runs on (DMTF DSP0134). NULL or "": not specified.
 * uuid is 36 characters, as RFC 4122 writes it. Guests read oem_string in this order; none is "".
 */
struct boot_smbios {
	const char *manufacturer, *product, *version, *serial, *uuid, *sku, *family;
	const char *asset_tag; /* of the chassis */
	char *const *oem_string;
	unsigned noem_strings;
};

struct boot_request {
	const char *kernel; /* path; "-" is not special */
	const char *initrd; /* path or NULL */
	/*
	 * If not NULL: boot reads from this descriptor and leaves it open; kernel or
	 * initrd is then only a name.
	 */
	const int *kernel_fd, *initrd_fd;
	/* The SHA-256 (32 bytes) of what kernel_fd holds: the cache's key. NULL: no caching. */
	const uint8_t *kernel_sha256;
	const char *cmdline; /* never NULL */
	enum boot_entry_kind entry;
	/*
	 * bzImage: whether the host unpacks the payload. With AUTO, the guest unpacks a
	 * payload that the host cannot. KASLR works either way (unless entry is PVH).
	 */
	enum boot_unpack unpack;
	/*
	 * boot keeps unpacked kernels in its subdirectory "unpacked", and creates that
	 * if needed; NULL: keeps none. A cache that does not work is not an error.
	 */
	const char *cache_dir;
	const struct boot_smbios *smbios; /* NULL: the guest gets no SMBIOS tables */
};

/* The first vCPU's registers at entry_addr; vmm/arch/ARCH sets them. */
union boot_regs {
	struct {
		uint64_t rsi;	    /* LINUX64: boot_params */
		uint64_t rbx;	    /* PVH: hvm_start_info */
		uint64_t cr3;	    /* LINUX64: identity map of the first 4 GiB at least */
		uint64_t gdt;	    /* a table of gdt_bytes with flat segments */
		uint16_t gdt_bytes; /* selector 0x10 code, 0x18 data, 0x20 TSS */
	} x86;
};

struct boot_info {
	enum boot_entry_kind entry; /* not AUTO */
	const char *format;	    /* "bzImage", "bzImage payload (xz, cached)", "ELF" … */
	bool is_linux;
	uint64_t entry_addr; /* of the kernel's first instruction */
	union boot_regs regs;
	uint64_t kernel_base, kernel_bytes;
	uint64_t initrd_base, initrd_bytes;
	uint64_t cmdline_base;
	uint64_t rsdp;
};

/*
 * Loads everything and fills *info. mem is fresh, so its bytes are zero: boot does not
 * clear the memory that a kernel wants zeroed. Addresses: boot/ARCH/layout.h.
 * Returns 0 or -errno.
 */
int boot_load(struct mem *mem, const struct boot_request *req, const struct board *board,
	      struct boot_info *info, struct err *err);

/*
 * Fills map (room for max entries) with the guest's memory map, sorted by address, and returns the
 * number of entries. The types have the numbers of x86's e820 map.
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
 * Writes the ACPI tables at base, the RSDP first. In boot/acpi/acpi.c; boot_load and tests call
 * it. Returns the bytes used (at most len_bytes), or -errno.
 */
int64_t acpi_build(struct mem *mem, const struct board *board, gpa_t base, uint64_t len_bytes,
		   struct err *err);

#endif
