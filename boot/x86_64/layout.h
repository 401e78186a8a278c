/*
 * layout: who owns which guest-physical address below 1 MiB.
 *
 *	0x00000		left alone: real-mode vectors, BIOS data area (all zero)
 *	0x01000		GDT: null, null, code, data, TSS (0x30 bytes)
 *	0x02000		hvm_start_info, its module list and memory map (PVH)
 *	0x07000		boot_params, the "zero page" (linux64)
 *	0x09000		page tables: PML4, one PDPT, four page directories
 *	0x20000		kernel command line, at most 64 KiB with its NUL
 *	0x9fc00		end of conventional memory: reserved up to 0xa0000
 *	0xa0000		VGA hole: not in the map
 *	0xe0000		reserved: RSDP and the other ACPI tables
 *	0xee000		reserved: the MP table, if its processors do not fit below
 *	0xf0000		reserved: SMBIOS entry point and tables, if the VM's platform is described
 *	0xff000		reserved: the VM generation id's page
 *	0xff010		in that page: the MP table's pointer, and the MP table
 *	0xffff0		in that page: the reset vector, for a restart through the BIOS
 *	0x100000	RAM: kernel at its own address, initrd as high as possible
 *
 * The memory below 0x9fc00 is RAM to the guest: a kernel no longer needs boot's data
 * when it hands out that memory (Linux first copies boot_params and the command line,
 * and switches to page tables of its own). All of it is real memory: a guest that
 * overwrites the tables only harms itself.
 */
#ifndef BANTAM_X86_64_LAYOUT_H
#define BANTAM_X86_64_LAYOUT_H

#define LAYOUT_GDT 0x1000ull
#define LAYOUT_GDT_BYTES 0x30u
#define LAYOUT_PVH 0x2000ull
#define LAYOUT_PVH_BYTES 0x1000u
#define LAYOUT_BOOT_PARAMS 0x7000ull
#define LAYOUT_PAGE_TABLES 0x9000ull
#define LAYOUT_CMDLINE 0x20000ull
#define LAYOUT_CMDLINE_MAX 0xffffu /* without the NUL */
#define LAYOUT_EBDA 0x9fc00ull
#define LAYOUT_VGA 0xa0000ull
#define LAYOUT_ACPI 0xe0000ull
#define LAYOUT_ACPI_BYTES 0xe000ull
#define LAYOUT_MP_LARGE 0xee000ull
#define LAYOUT_MP_LARGE_BYTES 0x2000u
#define LAYOUT_SMBIOS 0xf0000ull
#define LAYOUT_SMBIOS_BYTES 0xf000ull
#define LAYOUT_MP_POINTER 0xff010ull
#define LAYOUT_MP_TABLE 0xff020ull
#define LAYOUT_MP_TABLE_BYTES 0xfd0u
#define LAYOUT_MP_FEW_CPUS 160u /* so many fit into LAYOUT_MP_TABLE_BYTES with all slots */
#define LAYOUT_RESET_VECTOR 0xffff0ull
#define LAYOUT_HIGH 0x100000ull /* the lowest address of a kernel */

#define LAYOUT_4G 0x100000000ull

#endif
