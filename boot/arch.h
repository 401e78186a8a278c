/*
 * arch: what a CPU architecture supplies to boot. boot/ARCH implements all of it.
 *
 * Internal to boot; only the folder of the architecture that is built for is
 * compiled. Addresses are guest-physical. Thread: the builder.
 */
#ifndef BANTAM_BOOT_ARCH_H
#define BANTAM_BOOT_ARCH_H

#include "boot/kernel.h"
#include "boot/kernel_image.h"
#include "boot/file.h"

/* Where things lie, whatever the kernel. */
struct boot_place {
	uint64_t kernel_min; /* kernels and initrds lie here or above; below is boot's own data */
	uint64_t entry_end;  /* a vCPU starts below this address */
	uint64_t cmdline;
	uint32_t cmdline_max; /* without the NUL */
	uint64_t acpi, acpi_bytes;
};
extern const struct boot_place boot_arch_place;

/* The guest's processor, for messages: "x86-64". */
extern const char boot_arch_name[];
/* Whether the guest's processor runs an ELF of this e_machine. */
bool boot_arch_runs(unsigned machine);

/* True if head (the first n bytes of the file) begins a kernel of the architecture's own format. */
bool boot_arch_detect(const uint8_t *head, uint32_t n);
/* Loads such a kernel, unpacked if req says so and it can be, and fills *k. */
int boot_arch_load(struct mem *mem, const struct boot_request *req, const struct boot_file *file,
		   struct kernel *k, struct err *err);
/*
 * How an ELF is entered: sets entry and entry_addr of *k as wanted, and widens base and end to
 * the segments. Its limits are made up unless k->header_bytes says that its header gave them.
 */
int boot_arch_enter(const struct boot_file *file, const struct kernel_image *image,
		    enum boot_entry_kind want, struct kernel *k, struct err *err);

/*
 * The last step, when info has all but regs: writes what the kernel's entry point is handed, and
 * sets info->regs.
 */
void boot_arch_finish(struct mem *mem, const struct board *board, const struct kernel *k,
		      struct boot_info *info);

#endif
