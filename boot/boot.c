/*
 * boot: see boot.h. Who owns which address is written in layout.h.
 *
 * Theory of operation: the kernel is loaded first, for it says where it lies,
 * how long a command line it takes and where the initrd may be; then the
 * initrd, the command line, the ACPI tables and, last, the structures that
 * point to all of them.
 */
#include "boot/boot.h"

#include <errno.h>
#include <string.h>

#include "boot/initrd.h"
#include "boot/kernel.h"
#include "boot/x86_64/layout.h"
#include "boot/x86_64/params.h"

#define E820_RAM 1u
#define E820_RESERVED 2u

static void add(struct boot_map_entry *map, unsigned max, unsigned *n, uint64_t base, uint64_t end,
		uint32_t type)
{
	if (base >= end)
		return;
	BUG_ON(*n == max);
	map[(*n)++] = (struct boot_map_entry){ base, end - base, type };
}

unsigned boot_memory_map(const struct mem *mem, const struct board *board,
			 struct boot_map_entry *map, unsigned max)
{
	unsigned n = 0;
	bool ecam = !board->pci.present;

	for (unsigned i = 0; i < mem->nregions; i++) {
		uint64_t base = mem->region[i].base.v;
		uint64_t end = base + mem->region[i].len_bytes;

		/* Sorted: the ECAM window goes between the regions around it. */
		if (!ecam && board->pci.ecam.base < base) {
			add(map, max, &n, board->pci.ecam.base,
			    board->pci.ecam.base + board->pci.ecam.len_bytes, E820_RESERVED);
			ecam = true;
		}
		if (base < LAYOUT_HIGH) {
			uint64_t top = end < LAYOUT_EBDA ? end : LAYOUT_EBDA;

			add(map, max, &n, base, top, E820_RAM);
			add(map, max, &n, LAYOUT_EBDA, LAYOUT_VGA, E820_RESERVED);
			add(map, max, &n, LAYOUT_ACPI, LAYOUT_HIGH, E820_RESERVED);
			base = LAYOUT_HIGH;
		}
		add(map, max, &n, base, end, E820_RAM);
	}
	if (!ecam)
		add(map, max, &n, board->pci.ecam.base,
		    board->pci.ecam.base + board->pci.ecam.len_bytes, E820_RESERVED);
	return n;
}

static int write_cmdline(struct mem *mem, const char *cmdline, const struct kernel *k,
			 struct err *err)
{
	size_t len = strlen(cmdline);
	size_t max = k->cmdline_max < LAYOUT_CMDLINE_MAX ? k->cmdline_max : LAYOUT_CMDLINE_MAX;

	if (len > max)
		return err_set(err, E2BIG,
			       "--cmdline: %zu bytes, but this kernel takes at most %zu", len, max);
	BUG_ON(!mem_write(mem, gpa(LAYOUT_CMDLINE), cmdline, len + 1));
	return 0;
}

/*
 * Linux on a hardware-reduced board wants to restart by EFI; without it, it goes to real mode
 * and jumps to where the BIOS is entered at reset (never to the ACPI reset register, nor to the
 * 8042). The code there writes that register.
 */
static void write_reset_vector(struct mem *mem, const struct board *board)
{
	const uint8_t code[] = {
		0xba,
		(uint8_t)board->reset_port,
		(uint8_t)(board->reset_port >> 8), /* mov dx */
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

int boot_load(struct mem *mem, const struct boot_request *req, const struct board *board,
	      struct boot_info *info, struct err *err)
{
	struct params params = { 0 };
	struct kernel k;
	int64_t used;
	int ret;

	memset(info, 0, sizeof(*info));
	if (!mem_slice(mem, gpa(0), LAYOUT_HIGH))
		return err_set(err, ENOMEM, "--memory: %llu KiB are too little for any kernel",
			       (unsigned long long)mem->total_bytes >> 10);
	ret = kernel_load(mem, req, &k, err);
	if (ret < 0)
		return ret;
	params.kernel = &k;
	if (req->initrd) {
		ret = initrd_load(mem, req, &k, &params.initrd, &params.initrd_bytes, err);
		if (ret < 0)
			return ret;
	}
	ret = write_cmdline(mem, req->cmdline, &k, err);
	if (ret < 0)
		return ret;
	params.cmdline = LAYOUT_CMDLINE;
	used = acpi_build(mem, board, gpa(LAYOUT_ACPI), LAYOUT_ACPI_BYTES, err);
	if (used < 0)
		return (int)used;
	params.rsdp = LAYOUT_ACPI;
	write_reset_vector(mem, board);
	params.nmap = boot_memory_map(mem, board, params.map, PARAMS_MAX_MAP);

	params_write_gdt(mem, k.entry);
	if (k.entry == BOOT_ENTRY_PVH) {
		params_write_pvh(mem, &params);
		info->rbx = LAYOUT_PVH;
	} else {
		params_write_linux64(mem, &params);
		params_write_page_tables(mem);
		info->rsi = LAYOUT_BOOT_PARAMS;
		info->cr3 = LAYOUT_PAGE_TABLES;
	}
	info->entry = k.entry;
	info->format = k.format;
	info->rip = k.rip;
	info->gdt = LAYOUT_GDT;
	info->gdt_bytes = LAYOUT_GDT_BYTES;
	info->kernel_base = k.base;
	info->kernel_bytes = k.end - k.base;
	info->initrd_base = params.initrd;
	info->initrd_bytes = params.initrd_bytes;
	info->cmdline_base = params.cmdline;
	info->rsdp = params.rsdp;
	return 0;
}
