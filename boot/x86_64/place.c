/* place: boot's addresses in a PC's memory, and the guest's memory map. See boot/arch.h. */
#include <elf.h>

#include "boot/arch.h"
#include "boot/x86_64/layout.h"

const struct boot_place boot_arch_place = {
	.kernel_min = LAYOUT_HIGH,
	.entry_end = LAYOUT_4G,
	.cmdline = LAYOUT_CMDLINE,
	.cmdline_max = LAYOUT_CMDLINE_MAX,
	.acpi = LAYOUT_ACPI,
	.acpi_bytes = LAYOUT_ACPI_BYTES,
	.smbios = LAYOUT_SMBIOS,
	.smbios_bytes = LAYOUT_SMBIOS_BYTES,
};

const char boot_arch_name[] = "x86-64";

/* A vCPU can enter a 32-bit ELF by PVH. */
bool boot_arch_runs(unsigned machine)
{
	return machine == EM_X86_64 || machine == EM_386;
}

static void add(struct boot_map_entry *map, unsigned max, unsigned *n, uint64_t base, uint64_t end,
		enum boot_map_type type)
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

		/* The map is sorted: the ECAM window goes before the first region above it. */
		if (!ecam && board->pci.ecam.base < base) {
			add(map, max, &n, board->pci.ecam.base,
			    board->pci.ecam.base + board->pci.ecam.len_bytes, BOOT_MAP_RESERVED);
			ecam = true;
		}
		if (base < LAYOUT_HIGH) {
			uint64_t top = end < LAYOUT_EBDA ? end : LAYOUT_EBDA;

			add(map, max, &n, base, top, BOOT_MAP_RAM);
			add(map, max, &n, LAYOUT_EBDA, LAYOUT_VGA, BOOT_MAP_RESERVED);
			/* The SMBIOS tables and the reset vector too. */
			add(map, max, &n, LAYOUT_ACPI, LAYOUT_HIGH, BOOT_MAP_RESERVED);
			base = LAYOUT_HIGH;
		}
		add(map, max, &n, base, end, BOOT_MAP_RAM);
	}
	if (!ecam)
		add(map, max, &n, board->pci.ecam.base,
		    board->pci.ecam.base + board->pci.ecam.len_bytes, BOOT_MAP_RESERVED);
	return n;
}
