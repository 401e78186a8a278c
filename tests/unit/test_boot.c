/* boot: the layout of guest memory after loading, and the limits of initrd and command line. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/unpack.h"
#include "boot/x86_64/layout.h"
#include "tests/unit/fake_kernel.h"

static uint8_t *at(struct fake_guest *g, uint64_t where, uint64_t len)
{
	uint8_t *p = mem_slice(&g->mem, gpa(where), len);

	cr_assert(p);
	return p;
}

static void expect_error(struct fake_guest *g, int code, const char *has)
{
	int ret = fake_guest_boot(g);

	cr_assert_eq(ret, -code, "%d: %s", ret, g->err.text);
	cr_assert(strstr(g->err.text, has), "'%s' lacks '%s'", g->err.text, has);
	cr_assert_null(strchr(g->err.text, '\n'));
}

static void expect_boot(struct fake_guest *g)
{
	cr_assert_eq(fake_guest_boot(g), 0, "%s", g->err.text);
}

Test(boot, elf_by_its_64_bit_entry)
{
	struct blob elf = fake_elf(0, 0), initrd = blob_new(5000, 0xab);
	struct fake_guest g;
	uint8_t *bp, *pt;

	fake_guest_init(&g, 16, elf);
	g.req.initrd = fake_file(initrd);
	expect_boot(&g);
	cr_assert_str_eq(g.info.format, "ELF");
	cr_assert_eq(g.info.entry, BOOT_ENTRY_LINUX64);
	cr_assert_eq(g.info.entry_addr, FAKE_KERNEL_AT);
	cr_assert_eq(memcmp(at(&g, FAKE_KERNEL_AT, 1), elf.b + FAKE_ELF_DATA, FAKE_KERNEL_BYTES),
		     0);
	cr_assert_eq(g.info.kernel_base, FAKE_KERNEL_AT);
	cr_assert_eq(g.info.kernel_bytes, FAKE_KERNEL_MEM);
	/* The initrd is at the top, page aligned. */
	cr_assert_eq(g.info.initrd_base, 16 * FAKE_MIB - 8192);
	cr_assert_eq(g.info.initrd_bytes, 5000);
	cr_assert_eq(memcmp(at(&g, g.info.initrd_base, 1), initrd.b, initrd.len), 0);
	/* boot_params */
	bp = at(&g, g.info.regs.x86.rsi, 4096);
	cr_assert_eq(get_le16(bp + 0x1fe), 0xaa55);
	cr_assert_eq(memcmp(bp + 0x202, "HdrS", 4), 0);
	cr_assert_eq(bp[0x210], 0xff);
	cr_assert_eq(bp[0x1ef], 0, "the sentinel is clear");
	cr_assert_eq(get_le32(bp + 0x228), g.info.cmdline_base);
	cr_assert_eq(get_le32(bp + 0x218), g.info.initrd_base);
	cr_assert_eq(get_le32(bp + 0x21c), 5000);
	cr_assert_eq(get_le64(bp + 0x70), g.info.rsdp);
	cr_assert_eq(get_le64(bp + 0x250), 0, "no setup_data");
	cr_assert_str_eq((char *)at(&g, g.info.cmdline_base, 100), "console=ttyS0");
	/* e820 equals boot_memory_map. */
	cr_assert_eq(bp[0x1e8], 4);
	cr_assert_eq(get_le64(bp + 0x2d0 + 3 * 20), FAKE_MIB);
	cr_assert_eq(get_le64(bp + 0x2d0 + 3 * 20 + 8), 15 * FAKE_MIB);
	cr_assert_eq(get_le32(bp + 0x2d0 + 3 * 20 + 16), 1);
	/* GDT and the identity map. */
	cr_assert_eq(get_le64(at(&g, g.info.regs.x86.gdt + 0x10, 8)), 0x00af9b000000ffff);
	pt = at(&g, g.info.regs.x86.cr3, 6 * 4096);
	cr_assert_eq(get_le64(pt), (g.info.regs.x86.cr3 + 4096) | 3);
	cr_assert_eq(get_le64(pt + 4096 + 24), (g.info.regs.x86.cr3 + 5 * 4096) | 3);
	cr_assert_eq(get_le64(pt + 5 * 4096 + 511 * 8), 0xffe00000 | 0x83);
	fake_guest_clear(&g);
}

Test(boot, elf_by_pvh)
{
	struct fake_guest g;
	uint8_t *si;

	fake_guest_init(&g, 16, fake_elf(1, 0));
	g.req.initrd = fake_file(blob_new(1, 1));
	expect_boot(&g);
	cr_assert_eq(g.info.entry, BOOT_ENTRY_PVH);
	cr_assert_eq(g.info.entry_addr, FAKE_KERNEL_AT + 0x100);
	cr_assert_eq(g.info.regs.x86.cr3, 0);
	si = at(&g, g.info.regs.x86.rbx, 4096);
	cr_assert_eq(get_le32(si), 0x336ec578);
	cr_assert_eq(get_le32(si + 4), 1);
	cr_assert_eq(get_le32(si + 12), 1);
	cr_assert_eq(get_le64(at(&g, get_le64(si + 16), 32)), g.info.initrd_base);
	cr_assert_eq(get_le64(at(&g, get_le64(si + 16) + 8, 8)), 1);
	cr_assert_eq(get_le64(si + 24), g.info.cmdline_base);
	cr_assert_eq(get_le64(si + 32), g.info.rsdp);
	cr_assert_eq(get_le32(si + 48), 4);
	cr_assert_eq(get_le64(at(&g, get_le64(si + 40) + 3 * 24, 8)), FAKE_MIB);
	cr_assert_eq(get_le64(at(&g, g.info.regs.x86.gdt + 0x10, 8)), 0x00cf9b000000ffff);
	fake_guest_clear(&g);
}

Test(boot, which_entry)
{
	static const struct {
		int pvh, linux_note;
		enum boot_entry_kind want, got; /* got AUTO: refused */
	} t[] = {
		{ 0, 0, BOOT_ENTRY_AUTO, BOOT_ENTRY_LINUX64 },
		{ 1, 0, BOOT_ENTRY_AUTO, BOOT_ENTRY_PVH }, /* e_entry may be anything */
		{ 1, 1, BOOT_ENTRY_AUTO, BOOT_ENTRY_LINUX64 },
		{ 1, 1, BOOT_ENTRY_PVH, BOOT_ENTRY_PVH },
		{ 1, 0, BOOT_ENTRY_LINUX64, BOOT_ENTRY_LINUX64 },
		{ 0, 1, BOOT_ENTRY_PVH, BOOT_ENTRY_AUTO },
	};

	for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct fake_guest g;

		fake_guest_init(&g, 16, fake_elf(t[i].pvh, t[i].linux_note));
		g.req.entry = t[i].want;
		if (t[i].got == BOOT_ENTRY_AUTO) {
			expect_error(&g, ENOEXEC, "PVH");
		} else {
			expect_boot(&g);
			cr_assert_eq(g.info.entry, t[i].got, "row %u", i);
		}
		fake_guest_clear(&g);
	}
}

Test(boot, bzimage_unpacked_by_the_guest)
{
	struct blob z = fake_bzimage(blob_new(4096, 0x5a), 0);
	struct fake_guest g;
	uint8_t *bp;

	fake_guest_init(&g, 16, z);
	g.req.unpack = BOOT_UNPACK_OFF;
	expect_boot(&g);
	cr_assert_str_eq(g.info.format, "bzImage");
	cr_assert_eq(g.info.entry_addr, FAKE_KERNEL_AT + 0x200);
	cr_assert_eq(g.info.kernel_bytes, 0x100000, "init_size");
	cr_assert_eq(memcmp(at(&g, FAKE_KERNEL_AT, 1), z.b + FAKE_BZ_BODY, z.len - FAKE_BZ_BODY),
		     0);
	bp = at(&g, g.info.regs.x86.rsi, 4096);
	/* The setup header is a copy of the file's, except the fields that a loader fills in. */
	cr_assert_eq(get_le64(bp + 0x258), FAKE_KERNEL_AT);
	cr_assert_eq(get_le32(bp + 0x260), 0x100000);
	cr_assert_eq(bp[0x210], 0xff);
	fake_guest_clear(&g);
}

/* A signature after the image is not part of the image. */
Test(boot, bzimage_with_a_trailer)
{
	struct blob z = fake_bzimage(blob_new(4096, 0x5a), 0), longer = blob_new(z.len + 999, 0xcc);
	struct fake_guest g;

	memcpy(longer.b, z.b, z.len);
	fake_guest_init(&g, 16, longer);
	expect_boot(&g);
	cr_assert_eq(*at(&g, FAKE_KERNEL_AT + z.len - FAKE_BZ_BODY, 1), 0);
	fake_guest_clear(&g);
}

Test(boot, every_compression_inside_a_bzimage)
{
	struct blob elf = fake_elf(1, 1);

	for (int kind = UNPACK_NONE; kind <= UNPACK_LZ4; kind++) {
		struct blob packed = fake_pack(elf, kind);
		struct fake_guest g;

		fake_guest_init(&g, 16,
				fake_bzimage(packed, kind > UNPACK_GZIP ? (uint32_t)elf.len : 0));
		expect_boot(&g);
		cr_assert(strstr(g.info.format,
				 kind ? unpack_name((enum unpack_kind)kind) : "payload"),
			  "%s", g.info.format);
		cr_assert_eq(g.info.entry_addr, FAKE_KERNEL_AT);
		cr_assert_eq(memcmp(at(&g, FAKE_KERNEL_AT, 1), elf.b + FAKE_ELF_DATA,
				    FAKE_KERNEL_BYTES),
			     0);
		g.req.entry = BOOT_ENTRY_PVH;
		expect_boot(&g);
		cr_assert_eq(g.info.entry_addr, FAKE_KERNEL_AT + 0x100);
		fake_guest_clear(&g);
	}
}

Test(boot, every_compression_of_a_whole_elf)
{
	struct blob elf = fake_elf(0, 1);

	for (int kind = UNPACK_GZIP; kind <= UNPACK_LZ4; kind++) {
		struct fake_guest g;

		fake_guest_init(&g, 16, fake_pack(elf, kind));
		expect_boot(&g);
		cr_assert(strstr(g.info.format, "ELF ("));
		cr_assert_eq(memcmp(at(&g, FAKE_KERNEL_AT, 1), elf.b + FAKE_ELF_DATA,
				    FAKE_KERNEL_BYTES),
			     0);
		fake_guest_clear(&g);
	}
}

Test(boot, what_cannot_be_unpacked_is_left_to_the_guest)
{
	static const struct {
		const char *head;
		const char *name;
	} t[] = {
		{ "BZh91AY&SY", "bzip2" },	  { "\x5d\0\0\x80\0\xff\xff\xff", "lzma" },
		{ "\x89LZO\0\r\n\x1a\n", "lzo" }, { "\x04\x22\x4d\x18\x64\x40\xa7\x01", "lz4" },
		{ "whatever", "unknown" },
	};

	for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct blob payload = blob_new(4096, 0x11);
		struct fake_guest g;

		memcpy(payload.b, t[i].head, 8);
		fake_guest_init(&g, 16, fake_bzimage(payload, 99999));
		expect_boot(&g);
		cr_assert_str_eq(g.info.format, "bzImage");
		g.req.unpack = BOOT_UNPACK_ON;
		expect_error(&g, ENOTSUP, t[i].name);
		fake_guest_clear(&g);
	}
}

Test(boot, initrd_that_does_not_fit)
{
	static const struct {
		size_t len;
		bool fits;
	} t[] = {
		{ 1, true },
		{ 4096, true },
		/* 16 MiB without the first MiB and the kernel at 2 MiB: from 2 MiB + 20 KiB up. */
		{ 14 * FAKE_MIB - FAKE_KERNEL_MEM, true },
		{ 14 * FAKE_MIB - FAKE_KERNEL_MEM + 1, false },
		{ 16 * FAKE_MIB, false },
		{ 17 * FAKE_MIB, false },
	};

	for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct blob initrd = blob_new(t[i].len, 3);
		struct fake_guest g;

		fake_guest_init(&g, 16, fake_elf(0, 0));
		g.req.initrd = fake_file(initrd);
		if (t[i].fits) {
			expect_boot(&g);
			cr_assert_eq(g.info.initrd_base % 4096, 0);
			cr_assert_geq(g.info.initrd_base, FAKE_KERNEL_AT + FAKE_KERNEL_MEM);
			cr_assert_leq(g.info.initrd_base + t[i].len, 16 * FAKE_MIB);
		} else {
			expect_error(&g, ENOMEM, "do not fit");
		}
		blob_free(&initrd);
		fake_guest_clear(&g);
	}
}

/* initrd_addr_max is the address of the last byte; the room below the kernel counts too. */
Test(boot, initrd_below_the_kernels_limit)
{
	struct blob z = fake_bzimage(blob_new(4096, 0x5a), 0);
	struct fake_guest g;

	put_le32(z.b + 0x22c, 8 * FAKE_MIB - 1);
	fake_guest_init(&g, 16, z);
	g.req.initrd = fake_file(blob_new(4096, 1));
	expect_boot(&g);
	cr_assert_eq(g.info.initrd_base, 8 * FAKE_MIB - 4096);
	fake_guest_clear(&g);

	put_le32(z.b + 0x22c, 8 * FAKE_MIB - 2);
	fake_guest_init(&g, 16, z);
	g.req.initrd = fake_file(blob_new(4096, 1));
	expect_boot(&g);
	cr_assert_eq(g.info.initrd_base, 8 * FAKE_MIB - 8192);
	fake_guest_clear(&g);

	/* Only the mebibyte below the kernel is left. */
	put_le32(z.b + 0x22c, 3 * FAKE_MIB - 1);
	fake_guest_init(&g, 16, z);
	g.req.initrd = fake_file(blob_new(FAKE_MIB, 1));
	expect_boot(&g);
	cr_assert_eq(g.info.initrd_base, FAKE_MIB);
	fake_guest_clear(&g);

	put_le16(z.b + 0x236, 1); /* no memory above 4 GiB for this kernel */
	fake_guest_init(&g, 16, z);
	g.req.initrd = fake_file(blob_new(FAKE_MIB + 1, 1));
	expect_error(&g, ENOMEM, "do not fit");
	fake_guest_clear(&g);
}

/* Low memory of 8 MiB, the rest above 4 GiB. */
Test(boot, initrd_above_4g)
{
	struct blob z = fake_bzimage(blob_new(4096, 0x5a), 0);
	struct fake_guest g;
	uint8_t *bp;

	for (int can = 0; can < 2; can++) {
		put_le16(z.b + 0x236, can ? 3 : 1);
		fake_guest_init(&g, 1, z);
		mem_destroy(&g.mem);
		cr_assert_eq(mem_create(&g.mem, 24 * FAKE_MIB, 8 * FAKE_MIB, 4ull << 30, NULL), 0);
		g.req.initrd = fake_file(blob_new(10 * FAKE_MIB, 1));
		if (!can) {
			expect_error(&g, ENOMEM, "do not fit");
		} else {
			expect_boot(&g);
			cr_assert_eq(g.info.initrd_base, (4ull << 30) + 6 * FAKE_MIB);
			bp = at(&g, g.info.regs.x86.rsi, 4096);
			cr_assert_eq(get_le32(bp + 0xc0), 1);
			cr_assert_eq(get_le32(bp + 0x218), 6 * FAKE_MIB);
			cr_assert_eq(get_le32(bp + 0xc4), 0);
		}
		fake_guest_clear(&g);
	}
	/* Linux would cut a PVH module's address to 32 bits. */
	fake_guest_init(&g, 1, fake_elf(1, 1));
	mem_destroy(&g.mem);
	cr_assert_eq(mem_create(&g.mem, 24 * FAKE_MIB, 8 * FAKE_MIB, 4ull << 30, NULL), 0);
	g.req.initrd = fake_file(blob_new(10 * FAKE_MIB, 1));
	g.req.entry = BOOT_ENTRY_PVH;
	expect_error(&g, ENOMEM, "do not fit");
	fake_guest_clear(&g);
}

Test(boot, files_that_cannot_be_read)
{
	char fifo[] = "/tmp/bantam-test-XXXXXX";
	struct fake_guest g;

	cr_assert_geq(close(mkstemp(fifo)), 0);
	unlink(fifo);
	cr_assert_eq(mkfifo(fifo, 0600), 0);
	for (int initrd = 0; initrd < 2; initrd++) {
		const char **path;

		fake_guest_init(&g, 16, fake_elf(0, 0));
		path = initrd ? &g.req.initrd : &g.req.kernel;
		*path = "/no/such/file";
		expect_error(&g, ENOENT, "/no/such/file");
		cr_assert(strstr(g.err.text, initrd ? "--initrd" : "--kernel"));
		*path = "/tmp";
		expect_error(&g, EISDIR, "directory");
		*path = "/dev/null";
		expect_error(&g, EINVAL, "not a regular file");
		*path = fifo;
		expect_error(&g, EINVAL, "not a regular file");
		*path = fake_file(blob_new(0, 0));
		expect_error(&g, EINVAL, "empty");
		fake_guest_clear(&g);
	}
	unlink(fifo);
}

Test(boot, command_lines)
{
	static const struct {
		uint32_t max; /* limit of the bzImage; 0: an ELF */
		size_t len;
		bool fits;
	} t[] = {
		{ 2047, 0, true },
		{ 2047, 2047, true },
		{ 2047, 2048, false },
		{ 255, 255, true },
		{ 255, 256, false },
		{ 0xffffffff, 65535, true },
		{ 0xffffffff, 65536, false },
		{ 1, 1, true },
		{ 1, 2, false },
		{ 0, 2047, true },
		{ 0, 2048, false },
	};

	for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct blob k = t[i].max ? fake_bzimage(blob_new(4096, 1), 0) : fake_elf(0, 1);
		char *line = calloc(1, t[i].len + 1), number[32];
		struct fake_guest g;

		memset(line, 'x', t[i].len);
		if (t[i].max)
			put_le32(k.b + 0x238, t[i].max);
		fake_guest_init(&g, 16, k);
		g.req.cmdline = line;
		if (t[i].fits) {
			expect_boot(&g);
			cr_assert_str_eq((char *)at(&g, g.info.cmdline_base, t[i].len + 1), line);
		} else {
			snprintf(number, sizeof(number), " %zu bytes", t[i].len);
			expect_error(&g, E2BIG, number);
		}
		free(line);
		fake_guest_clear(&g);
	}
}

Test(boot, guests_with_too_little_memory)
{
	struct fake_guest g;
	uint8_t *page = calloc(1, 4096);

	fake_guest_init(&g, 1, fake_elf(0, 0));
	expect_error(&g, ENOMEM, "outside the guest's 1 MiB");
	mem_destroy(&g.mem);
	cr_assert_eq(mem_add(&g.mem, gpa(0), 4096, page), 0);
	expect_error(&g, ENOMEM, "too little");
	memset(&g.mem, 0, sizeof(g.mem));
	expect_error(&g, ENOMEM, "too little");
	free(page);

	fake_guest_init(&g, 2, fake_bzimage(blob_new(4096, 1), 0));
	expect_error(&g, ENOMEM, "from 2 to 3 MiB");
	fake_guest_clear(&g);
}

Test(boot, memory_map)
{
	struct board board = { 0 };
	struct boot_map_entry map[16];
	struct mem mem = { 0 };

	board.pci.present = true;
	board.pci.ecam = (struct board_window){ 0xe0000000, 0x100000 };
	cr_assert_eq(mem_create(&mem, 5ull << 30, 3ull << 30, 4ull << 30, NULL), 0);
	cr_assert_eq(boot_memory_map(&mem, &board, map, 16), 6);
	static const struct boot_map_entry want[] = {
		{ 0, 0x9fc00, 1 },	     { 0x9fc00, 0x400, 2 },
		{ 0xe0000, 0x20000, 2 },     { 0x100000, 0xbff00000, 1 },
		{ 0xe0000000, 0x100000, 2 }, { 0x100000000, 0x80000000, 1 },
	};
	for (unsigned i = 0; i < 6; i++) {
		cr_assert_eq(map[i].base, want[i].base, "entry %u", i);
		cr_assert_eq(map[i].len_bytes, want[i].len_bytes, "entry %u", i);
		cr_assert_eq(map[i].type, want[i].type, "entry %u", i);
	}
	mem_destroy(&mem);
	/* No memory above the ECAM window. */
	cr_assert_eq(mem_create(&mem, 16 << 20, 3ull << 30, 4ull << 30, NULL), 0);
	cr_assert_eq(boot_memory_map(&mem, &board, map, 16), 5);
	cr_assert_eq(map[4].base, 0xe0000000);
	board.pci.present = false;
	cr_assert_eq(boot_memory_map(&mem, &board, map, 16), 4);
	mem_destroy(&mem);
}

/* Without a platform the guest finds no SMBIOS; with one, at the address where Linux looks. */
Test(boot, smbios_only_if_asked)
{
	const struct boot_smbios smbios = { .product = "p" }, bad = { .uuid = "no uuid" };
	static const uint8_t zero[LAYOUT_SMBIOS_BYTES];
	struct fake_guest g;

	fake_guest_init(&g, 16, fake_elf(0, 0));
	expect_boot(&g);
	cr_expect_eq(memcmp(at(&g, LAYOUT_SMBIOS, sizeof(zero)), zero, sizeof(zero)), 0);
	g.req.smbios = &smbios;
	expect_boot(&g);
	cr_expect_eq(memcmp(at(&g, LAYOUT_SMBIOS, 5), "_SM3_", 5), 0);
	cr_expect_eq(memcmp(at(&g, g.info.rsdp, 8), "RSD PTR ", 8), 0);
	g.req.smbios = &bad;
	expect_error(&g, EINVAL, "uuid");
	fake_guest_clear(&g);
}
