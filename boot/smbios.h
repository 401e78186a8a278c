/*
 * smbios: tables that name the system to the guest (DMTF DSP0134, System Management BIOS 3.2).
 *
 * The tables are types 0 (says that this is a virtual machine), 1 (system), 3 (chassis), 11 (OEM
 * strings, if there are any) and 127. Internal to boot. Thread: the builder.
 */
#ifndef BANTAM_BOOT_SMBIOS_H
#define BANTAM_BOOT_SMBIOS_H

#include "boot/boot.h"

/*
 * Writes the 64-bit entry point at base (16-byte aligned, below 1 MiB: kernels without EFI look for
 * it from 0xf0000 on), and the tables behind it. Returns the bytes used, or -EINVAL (no UUID, an
 * empty OEM string, more than 255 of them) or -ENOSPC with a message.
 */
int64_t smbios_build(struct mem *mem, const struct boot_smbios *smbios, gpa_t base,
		     uint64_t len_bytes, struct err *err);

#endif
