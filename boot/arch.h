/*
 * arch: what a CPU architecture supplies to boot. boot/ARCH implements all of it.
 *
 * Internal to boot. The build compiles only the folder of the guest's architecture.
 * Addresses are guest-physical. Thread: the builder.
 */
#ifndef BANTAM_BOOT_ARCH_H
#define BANTAM_BOOT_ARCH_H

#include "boot/kernel.h"
#include "boot/kernel_image.h"
#include "boot/file.h"

/* The addresses that do not depend on the kernel. */
struct boot_place {
	uint64_t kernel_min; /* kernels and initrds start here or above; boot's own data is below */
	uint64_t entry_end;  /* a vCPU starts below this address */
	uint64_t cmdline;
	uint32_t cmdline_max; /* without the NUL */
	uint64_t acpi, acpi_bytes;
	uint64_t smbios, smbios_bytes; /* where kernels look for the entry point; 0: they do not */
};
extern const struct boot_place boot_arch_place;

/* The name of the guest's processor in messages: "x86-64". */
extern const char boot_arch_name[];
/* Returns true if the guest's processor runs an ELF of this e_machine. */
bool boot_arch_runs(unsigned machine);

/* Returns true if head (the file's first n bytes) begins a kernel of the architecture's format. */
bool boot_arch_detect(const uint8_t *head, uint32_t n);
/* Loads such a kernel and fills *k. Unpacks it first if req asks for this and boot can do it. */
int boot_arch_load(struct mem *mem, const struct boot_request *req, const struct boot_file *file,
		   struct kernel *k, struct err *err);
/*
 * Chooses how the vCPU enters an ELF: sets entry and entry_addr of *k according to want, and
 * widens base and end to cover the segments. Without a header (k->header_bytes is 0) it also sets
 * the limits of the initrd and the command line to the architecture's defaults.
 */
int boot_arch_enter(const struct boot_file *file, const struct kernel_image *image,
		    enum boot_entry_kind want, struct kernel *k, struct err *err);

/*
 * The last step, when only regs is missing in info: writes the structures that the kernel's entry
 * point expects, and sets info->regs.
 */
void boot_arch_finish(struct mem *mem, const struct board *board, const struct kernel *k,
		      struct boot_info *info);

#endif
