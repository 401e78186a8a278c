/*
 * boot: see boot.h. boot/ARCH/layout.h lists who owns which address.
 *
 * Theory of operation: boot loads the kernel first, because the kernel file sets
 * the kernel's address, the longest command line and where the initrd may be. The
 * initrd, the command line, the ACPI and the SMBIOS tables follow. Last, the architecture
 * (boot/arch.h) writes the structures that point to all of them.
 */
#include "boot/boot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "boot/arch.h"
#include "boot/cmdline.h"
#include "boot/initrd.h"
#include "boot/smbios.h"

/* A unified image's own command line comes first, so that the user's words win. */
static int write_cmdline(struct mem *mem, const char *cmdline, const struct kernel *k,
			 struct err *err)
{
	char *text = boot_cmdline_join(k->cmdline ? k->cmdline : "", cmdline), *to;
	size_t max = boot_arch_place.cmdline_max, len;
	int rc = 0;

	if (!text)
		return err_sys(err, ENOMEM, "--cmdline");
	if (max > k->cmdline_max)
		max = k->cmdline_max;
	len = strlen(text);
	if (len > max) {
		rc = err_set(err, E2BIG,
			     "--cmdline: %zu bytes%s, but this kernel takes at most %zu", len,
			     k->cmdline && *k->cmdline ? " with the kernel image's own" : "", max);
	} else {
		to = mem_slice(mem, gpa(boot_arch_place.cmdline), len + 1);
		BUG_ON(!to);
		memcpy(to, text, len + 1);
	}
	free(text);
	return rc;
}

/* Puts everything but the kernel into memory. */
static int load_rest(struct mem *mem, const struct boot_request *req, const struct board *board,
		     const struct kernel *k, struct boot_info *info, struct err *err)
{
	const struct boot_place *place = &boot_arch_place;
	int64_t used;
	int ret = 0;

	if (req->initrd || k->ninitrds)
		ret = initrd_load(mem, req, k, &info->initrd_base, &info->initrd_bytes, err);
	if (!ret)
		ret = write_cmdline(mem, req->cmdline, k, err);
	if (ret < 0)
		return ret;
	used = acpi_build(mem, board, gpa(place->acpi), place->acpi_bytes, err);
	if (used >= 0 && req->smbios && place->smbios_bytes)
		used = smbios_build(mem, req->smbios, gpa(place->smbios), place->smbios_bytes, err);
	return used < 0 ? (int)used : 0;
}

int boot_load(struct mem *mem, const struct boot_request *req, const struct board *board,
	      struct boot_info *info, struct err *err)
{
	const struct boot_place *place = &boot_arch_place;
	gpa_t ram = mem->region[0].base;
	struct kernel k;
	int ret;

	memset(info, 0, sizeof(*info));
	if (!mem_slice(mem, ram, place->kernel_min - ram.v))
		return err_set(err, ENOMEM, "--memory: %llu KiB is too little for any kernel",
			       (unsigned long long)mem->total_bytes >> 10);
	ret = kernel_load(mem, req, &k, err);
	if (!ret)
		ret = load_rest(mem, req, board, &k, info, err);
	kernel_close(&k);
	if (ret < 0)
		return ret;
	info->entry = k.entry;
	info->format = k.format;
	info->is_linux = k.is_linux;
	info->entry_addr = k.entry_addr;
	info->kernel_base = k.base;
	info->kernel_bytes = k.end - k.base;
	info->cmdline_base = place->cmdline;
	info->rsdp = place->acpi;
	boot_arch_finish(mem, board, &k, info);
	return 0;
}
