/* params: see params.h. */
#include "boot/x86_64/params.h"

#include <string.h>

#include "boot/x86_64/bzimage.h"
#include "boot/x86_64/layout.h"
#include "vmm/core/bytes.h"

/* boot_params: offsets of the fields that we fill. */
enum {
	BP_BYTES = 4096,
	BP_ACPI_RSDP = 0x070,
	BP_EXT_RAMDISK_IMAGE = 0x0c0,
	BP_EXT_RAMDISK_SIZE = 0x0c4,
	BP_EXT_CMD_LINE_PTR = 0x0c8,
	BP_E820_ENTRIES = 0x1e8,
	BP_SENTINEL = 0x1ef,
	BP_E820 = 0x2d0,
	E820_BYTES = 20,
	/* fields of the setup header in boot_params */
	BP_VID_MODE = 0x1fa,
	BP_BOOT_FLAG = 0x1fe,
	BP_MAGIC = 0x202,
	BP_VERSION = 0x206,
	BP_TYPE_OF_LOADER = 0x210,
	BP_LOADFLAGS = 0x211,
	BP_CODE32_START = 0x214,
	BP_RAMDISK_IMAGE = 0x218,
	BP_RAMDISK_SIZE = 0x21c,
	BP_CMD_LINE_PTR = 0x228,
	BP_INITRD_ADDR_MAX = 0x22c,
	BP_KERNEL_ALIGNMENT = 0x230,
	BP_CMDLINE_SIZE = 0x238,
	BP_XLOADFLAGS = 0x236,
	BP_SETUP_DATA = 0x250,
	BP_INIT_SIZE = 0x260,
};

#define LOADED_HIGH 1u
#define VID_MODE_NORMAL 0xffffu
#define LOADER_UNDEFINED 0xffu

/* Makes up a setup header for an ELF, which has none: the one that its bzImage would have. */
static void make_up_header(uint8_t *bp, const struct kernel *k)
{
	put_le16(bp + BP_BOOT_FLAG, 0xaa55);
	memcpy(bp + BP_MAGIC, "HdrS", 4);
	put_le16(bp + BP_VERSION, 0x20c);
	bp[BP_LOADFLAGS] = LOADED_HIGH;
	put_le32(bp + BP_INITRD_ADDR_MAX, (uint32_t)k->initrd_max);
	put_le32(bp + BP_KERNEL_ALIGNMENT, 0x1000000);
	put_le32(bp + BP_CMDLINE_SIZE, k->cmdline_max);
	put_le16(bp + BP_XLOADFLAGS, 3); /* 64-bit entry, may lie above 4 GiB */
	put_le32(bp + BP_INIT_SIZE, (uint32_t)(k->end - k->base));
}

void params_write_linux64(struct mem *mem, const struct params *p)
{
	uint8_t *bp = mem_slice(mem, gpa(LAYOUT_BOOT_PARAMS), BP_BYTES);

	BUG_ON(!bp);
	memset(bp, 0, BP_BYTES);
	if (p->kernel->header_bytes)
		memcpy(bp + SETUP_HEADER, p->kernel->header, p->kernel->header_bytes);
	else
		make_up_header(bp, p->kernel);
	bp[BP_SENTINEL] = 0;
	put_le16(bp + BP_VID_MODE, VID_MODE_NORMAL);
	bp[BP_TYPE_OF_LOADER] = LOADER_UNDEFINED;
	put_le32(bp + BP_CODE32_START, (uint32_t)p->kernel->base);
	put_le32(bp + BP_CMD_LINE_PTR, (uint32_t)p->cmdline);
	put_le32(bp + BP_EXT_CMD_LINE_PTR, (uint32_t)(p->cmdline >> 32));
	put_le32(bp + BP_RAMDISK_IMAGE, (uint32_t)p->initrd);
	put_le32(bp + BP_EXT_RAMDISK_IMAGE, (uint32_t)(p->initrd >> 32));
	put_le32(bp + BP_RAMDISK_SIZE, (uint32_t)p->initrd_bytes);
	put_le32(bp + BP_EXT_RAMDISK_SIZE, (uint32_t)(p->initrd_bytes >> 32));
	put_le64(bp + BP_SETUP_DATA, 0);
	put_le64(bp + BP_ACPI_RSDP, p->rsdp);
	bp[BP_E820_ENTRIES] = (uint8_t)p->nmap;
	for (unsigned i = 0; i < p->nmap; i++) {
		uint8_t *e = bp + BP_E820 + i * E820_BYTES;

		put_le64(e, p->map[i].base);
		put_le64(e + 8, p->map[i].len_bytes);
		put_le32(e + 16, p->map[i].type);
	}
}

/* hvm_start_info (56 bytes), its module (32) and its map (24 per entry) share one page. */
enum {
	SI_BYTES = 56,
	SI_MODULE = 64,
	SI_MODULE_BYTES = 32,
	SI_MAP = 128,
	SI_MAP_BYTES = 24,
};

#define XEN_HVM_START_MAGIC 0x336ec578u

void params_write_pvh(struct mem *mem, const struct params *p)
{
	uint8_t *si = mem_slice(mem, gpa(LAYOUT_PVH), LAYOUT_PVH_BYTES);

	BUG_ON(!si);
	memset(si, 0, SI_MAP + p->nmap * SI_MAP_BYTES);
	put_le32(si, XEN_HVM_START_MAGIC);
	put_le32(si + 4, 1); /* version: with a memory map */
	if (p->initrd_bytes) {
		put_le32(si + 12, 1); /* nr_modules */
		put_le64(si + 16, LAYOUT_PVH + SI_MODULE);
		put_le64(si + SI_MODULE, p->initrd);
		put_le64(si + SI_MODULE + 8, p->initrd_bytes);
	}
	put_le64(si + 24, p->cmdline);
	put_le64(si + 32, p->rsdp);
	put_le64(si + 40, LAYOUT_PVH + SI_MAP);
	put_le32(si + 48, p->nmap);
	for (unsigned i = 0; i < p->nmap; i++) {
		uint8_t *e = si + SI_MAP + i * SI_MAP_BYTES;

		put_le64(e, p->map[i].base);
		put_le64(e + 8, p->map[i].len_bytes);
		put_le32(e + 16, p->map[i].type);
	}
}

/* Uses 2 MiB pages: every CPU has them, but 1 GiB pages are optional. */
void params_write_page_tables(struct mem *mem)
{
	const uint64_t rw = 0x3, large = 0x80;
	uint8_t *t = mem_slice(mem, gpa(LAYOUT_PAGE_TABLES), 6 * 4096);

	BUG_ON(!t);
	memset(t, 0, 2 * 4096);
	put_le64(t, (LAYOUT_PAGE_TABLES + 4096) | rw);
	for (unsigned i = 0; i < 4; i++)
		put_le64(t + 4096 + 8 * i, (LAYOUT_PAGE_TABLES + (2 + i) * 4096) | rw);
	for (uint64_t i = 0; i < 4 * 512; i++)
		put_le64(t + 2 * 4096 + 8 * i, i << 21 | large | rw);
}

void params_write_gdt(struct mem *mem, enum boot_entry_kind entry)
{
	uint8_t *gdt = mem_slice(mem, gpa(LAYOUT_GDT), LAYOUT_GDT_BYTES);

	BUG_ON(!gdt);
	memset(gdt, 0, LAYOUT_GDT_BYTES);
	/* Flat, present, accessed: execute/read (64-bit, or 32-bit for PVH), read/write. */
	put_le64(gdt + 0x10,
		 entry == BOOT_ENTRY_PVH ? 0x00cf9b000000ffffull : 0x00af9b000000ffffull);
	put_le64(gdt + 0x18, 0x00cf93000000ffffull);
	/* A busy TSS of 0x68 bytes at 0: VM entry requires one, nothing uses it. */
	put_le64(gdt + 0x20, 0x00008b0000000067ull);
}
