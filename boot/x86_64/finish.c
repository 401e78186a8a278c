/* finish: writes a kernel's tables, its registers and a reset vector. See boot/arch.h. */
#include "boot/arch.h"
#include "boot/x86_64/layout.h"
#include "boot/x86_64/mptable.h"
#include "boot/x86_64/params.h"

/*
 * Linux on a hardware-reduced board restarts by EFI. Without EFI, Linux goes to real mode and
 * jumps to the BIOS's reset vector; it tries neither the ACPI reset register nor the 8042. The
 * code here, at that vector, writes the ACPI reset register.
 */
static void write_reset_vector(struct mem *mem, const struct board *board)
{
	const uint8_t code[] = {
		0xba,
		(uint8_t)board->reset.addr,
		(uint8_t)(board->reset.addr >> 8), /* mov dx */
		0xb0,
		board->reset_value, /* mov al */
		0xee,		    /* out dx, al */
		0xfa,
		0xf4,
		0xeb,
		0xfc, /* cli, hlt */
	};

	BUG_ON(!mem_write(mem, gpa(LAYOUT_RESET_VECTOR), code, sizeof(code)));
}

void boot_arch_finish(struct mem *mem, const struct board *board, const struct kernel *k,
		      struct boot_info *info)
{
	struct params params = {
		.kernel = k,
		.cmdline = info->cmdline_base,
		.initrd = info->initrd_base,
		.initrd_bytes = info->initrd_bytes,
		.rsdp = info->rsdp,
	};

	write_reset_vector(mem, board);
	mptable_write(mem, board);
	params.nmap = boot_memory_map(mem, board, params.map, PARAMS_MAX_MAP);
	params_write_gdt(mem, k->entry);
	info->regs.x86.gdt = LAYOUT_GDT;
	info->regs.x86.gdt_bytes = LAYOUT_GDT_BYTES;
	if (k->entry == BOOT_ENTRY_PVH) {
		params_write_pvh(mem, &params);
		info->regs.x86.rbx = LAYOUT_PVH;
	} else {
		params_write_linux64(mem, &params);
		params_write_page_tables(mem);
		info->regs.x86.rsi = LAYOUT_BOOT_PARAMS;
		info->regs.x86.cr3 = LAYOUT_PAGE_TABLES;
	}
}
