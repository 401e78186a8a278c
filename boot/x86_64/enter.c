/* enter: chooses an ELF's entry on x86, Linux's 64-bit entry or PVH. See boot/arch.h. */
#include <errno.h>

#include "boot/arch.h"
#include "boot/x86_64/layout.h"

/* The limits of Linux x86 without a setup header: COMMAND_LINE_SIZE, initrd_addr_max. */
#define LINUX_CMDLINE_MAX 2047u
#define OTHER_CMDLINE_MAX 4095u
#define LINUX_INITRD_MAX 0x7fffffffull

int boot_arch_enter(const struct boot_file *file, const struct kernel_image *elf,
		    enum boot_entry_kind want, struct kernel *k, struct err *err)
{
	if (elf->doubt != KERNEL_DOUBT_NONE && want == BOOT_ENTRY_AUTO && !k->header_bytes)
		return err_set(err, ENOEXEC,
			       "%s %s: %s, and no kernel that bantam enters: it has neither "
			       "Linux's notes nor a PVH entry; if it is one, give --entry linux64",
			       file->what, file->path,
			       elf->doubt == KERNEL_DOUBT_PROGRAM ?
				       "a program for an operating system" :
				       "a Multiboot kernel, which GRUB starts");
	k->is_linux = k->is_linux || elf->is_linux || !elf->has_pvh;
	/*
	 * Both entries start Linux equally fast; the 64-bit entry takes all that boot_params
	 * can hold. e_entry of another kernel may mean anything.
	 */
	if (want == BOOT_ENTRY_AUTO)
		want = elf->entry_ok && k->is_linux ? BOOT_ENTRY_LINUX64 : BOOT_ENTRY_PVH;
	if (want == BOOT_ENTRY_PVH && !elf->has_pvh)
		return err_set(err, ENOEXEC, "%s %s: no %s: no PVH note (Linux: CONFIG_PVH)%s",
			       file->what, file->path,
			       elf->entry_ok ? "PVH entry" : "entry that bantam knows",
			       elf->entry_ok ?
				       "" :
				       ", and e_entry is no physical address of 64-bit code in it");
	if (want == BOOT_ENTRY_LINUX64 && !elf->entry_ok)
		return err_set(
			err, ENOEXEC,
			"%s %s: no 64-bit entry: e_entry %#llx is no physical address of 64-bit code in it",
			file->what, file->path, (unsigned long long)elf->entry);
	k->entry = want;
	k->entry_addr = want == BOOT_ENTRY_PVH ? elf->pvh_entry : elf->entry;
	if (!k->end)
		k->base = UINT64_MAX;
	for (unsigned i = 0; i < elf->nsegs; i++) {
		const struct kernel_segment *s = &elf->seg[i];

		if (s->paddr < k->base)
			k->base = s->paddr;
		if (s->paddr + s->mem_bytes > k->end)
			k->end = s->paddr + s->mem_bytes;
	}
	if (!k->header_bytes) {
		k->cmdline_max = k->is_linux ? LINUX_CMDLINE_MAX : OTHER_CMDLINE_MAX;
		k->initrd_max = k->is_linux ? LINUX_INITRD_MAX : LAYOUT_4G - 1;
		k->initrd_far = k->is_linux ? UINT64_MAX : k->initrd_max;
	}
	/* Linux reads a PVH module's address and size as 32 bits. */
	if (want == BOOT_ENTRY_PVH)
		k->initrd_far = LAYOUT_4G - 1;
	return 0;
}
