/*
 * boot: what kernel files look like beyond the plain kernel: notes of any alignment, files of
 * several packed members, unpadded bzImages, unified kernel images, and files that are no kernels.
 */
#include <criterion/criterion.h>
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot/unpack.h"
#include "tests/unit/fake_kernel.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))
#define PVH_AT (FAKE_KERNEL_AT + 0x100)

static void boots(struct fake_guest *g, const char *what)
{
	cr_assert_eq(fake_guest_boot(g), 0, "%s: %s", what, g->err.text);
}

static void refused(struct fake_guest *g, const char *why)
{
	cr_assert_lt(fake_guest_boot(g), 0, "accepted: %s", why);
	cr_assert(strstr(g->err.text, why), "'%s' lacks '%s'", g->err.text, why);
}

static const uint8_t *at(struct fake_guest *g, uint64_t addr, uint64_t n)
{
	const uint8_t *p = mem_slice(&g->mem, gpa(addr), n);

	cr_assert(p);
	return p;
}

/* --- notes ------------------------------------------------------------------------------------ */

/* A note of a section with this alignment; the linker puts sections one after the other. */
struct note {
	unsigned align;
	const char *owner;
	uint32_t type, descsz;
};

#define XEN4                                                                                       \
	{                                                                                          \
		4, "Xen", 18, 4                                                                    \
	}
#define PROPERTY                                                                                   \
	{                                                                                          \
		8, "GNU", 5, 16                                                                    \
	}

/* Writes notes as gABI wants them: each field aligned to the section's alignment. */
static size_t put_notes(uint8_t *b, const struct note *note, size_t skew)
{
	size_t n = 0;

#define UP(to) n = ((n + skew + (to)-1) & ~(size_t)((to)-1)) - skew
	for (; note->owner; note++) {
		uint32_t namesz = (uint32_t)strlen(note->owner) + 1;

		UP(note->align);
		put_le32(b + n, namesz);
		put_le32(b + n + 4, note->descsz);
		put_le32(b + n + 8, note->type);
		memcpy(b + n + 12, note->owner, namesz);
		n += 12 + namesz;
		UP(note->align);
		memset(b + n, 0, note->descsz);
		if (!strcmp(note->owner, "Xen"))
			put_le32(b + n, PVH_AT);
		n += note->descsz;
		UP(note->align);
	}
	return n;
}

Test(kernel_files, notes_of_every_alignment)
{
	static const struct {
		struct note note[6];
		bool pvh, is_linux;
	} t[] = {
		{ { XEN4 }, true, false },
		{ { { 8, "Xen", 18, 4 } }, true, false },
		{ { { 8, "Xen", 18, 8 } }, true, false },
		{ { { 4, "Xen", 18, 8 } }, true, false },
		{ { PROPERTY, XEN4 }, true, false },
		{ { XEN4, PROPERTY }, true, false },
		{ { PROPERTY, XEN4, XEN4 }, true, false },
		{ { { 4, "GNU", 3, 20 }, XEN4 }, true, false },
		{ { { 4, "GNU", 3, 20 }, PROPERTY, XEN4 }, true, false },
		{ { { 4, "GNU", 3, 20 }, XEN4, PROPERTY }, true, false },
		{ { { 4, "Linux", 0x100, 4 }, XEN4, PROPERTY }, true, true },
		{ { PROPERTY, { 4, "Linux", 0x101, 1 }, { 4, "Linux", 0x100, 4 }, XEN4 },
		  true,
		  true },
		{ { { 8, "Linux", 0x100, 3 }, { 8, "Xen", 18, 4 }, PROPERTY }, true, true },
		{ { { 4, "a", 1, 1 }, { 4, "ab", 1, 2 }, { 8, "abcd", 1, 3 }, XEN4 }, true, false },
		{ { { 4, "", 0, 0 }, XEN4 }, true, false },
		{ { { 4, "NetBSD", 1, 4 }, { 4, "Xen", 6, 7 }, XEN4 }, true, false },
		{ { PROPERTY, { 4, "Linux", 0x100, 4 } }, false, true },
		{ { PROPERTY }, false, false },
		{ { { 4, "Xen", 18, 16 } }, false, false },
		{ { { 4, "Xen", 17, 4 } }, false, false },
		{ { { 4, "Xenu", 18, 4 } }, false, false },
	};

	for (size_t i = 0; i < N(t); i++) {
		for (unsigned packed = 0; packed < 2; packed++) {
			/* A segment begins where its first section does. */
			for (uint64_t skew = 0; skew <= (t[i].note[0].align == 4 ? 4 : 0);
			     skew += 4) {
				struct blob elf = fake_elf(0, 0);
				uint8_t *p = elf.b + FAKE_ELF_PHDR + sizeof(Elf64_Phdr);
				uint64_t n = put_notes(elf.b + FAKE_ELF_NOTES, t[i].note, skew);
				struct fake_guest g;

				put_le64(p + offsetof(Elf64_Phdr, p_vaddr), 0x1000 + skew);
				put_le64(p + offsetof(Elf64_Phdr, p_filesz), n);
				put_le64(p + offsetof(Elf64_Phdr, p_align), 8);
				fake_guest_init(&g, 16, packed ? fake_pack(elf, UNPACK_ZSTD) : elf);
				boots(&g, "notes");
				cr_assert_eq(g.info.entry == BOOT_ENTRY_PVH,
					     t[i].pvh && !t[i].is_linux, "row %zu skew %d", i,
					     (int)skew);
				g.req.entry = BOOT_ENTRY_PVH;
				cr_assert_eq(fake_guest_boot(&g), t[i].pvh ? 0 : -ENOEXEC,
					     "row %zu skew %d: %s", i, (int)skew, g.err.text);
				cr_assert(!t[i].pvh || g.info.entry_addr == PVH_AT);
				fake_guest_clear(&g);
				blob_free(&elf);
			}
		}
	}
}

/* --- ELFs that are no kernels ------------------------------------------------------------------ */

#define DOUBTS 10

static struct blob doubtful(int what)
{
	static const struct note abi[] = { { 4, "GNU", 1, 16 }, { 0 } },
				 go[] = { { 4, "Go\0", 4, 8 }, { 0 } };
	struct blob elf = fake_elf(0, 0);
	uint8_t *p = elf.b + FAKE_ELF_PHDR + sizeof(Elf64_Phdr);
	uint32_t *words = (uint32_t *)(void *)(elf.b + 0x800);

	switch (what) {
	case 0:
		put_le32(p, PT_INTERP);
		break;
	case 1:
		put_le32(p, PT_GNU_RELRO);
		break;
	case 2:
		elf.b[EI_OSABI] = ELFOSABI_GNU;
		break;
	case 7:
		put_le32(p, PT_TLS);
		break;
	case 8:
		put_le32(p, PT_GNU_EH_FRAME);
		break;
	case 9: /* the linker maps the headers, too */
		put_le32(p, PT_LOAD);
		put_le64(p + offsetof(Elf64_Phdr, p_offset), 0);
		put_le64(p + offsetof(Elf64_Phdr, p_vaddr), FAKE_KERNEL_AT + (1 << 20));
		put_le64(p + offsetof(Elf64_Phdr, p_paddr), FAKE_KERNEL_AT + (1 << 20));
		put_le64(p + offsetof(Elf64_Phdr, p_filesz), 0x158);
		put_le64(p + offsetof(Elf64_Phdr, p_memsz), 0x158);
		break;
	case 3:
	case 4:
		put_le64(p + offsetof(Elf64_Phdr, p_filesz),
			 put_notes(elf.b + FAKE_ELF_NOTES, what == 3 ? abi : go, 0));
		if (what == 4) /* the owner is "Go", padded */
			put_le32(elf.b + FAKE_ELF_NOTES, 4);
		break;
	case 5:
		words[0] = 0x1badb002;
		words[1] = 3;
		words[2] = -(words[0] + words[1]);
		break;
	default:
		words[0] = 0xe85250d6;
		words[1] = 0;
		words[2] = 24;
		words[3] = -(words[0] + words[1] + words[2]);
	}
	return elf;
}

Test(kernel_files, elfs_that_are_no_kernels)
{
	char cache[] = "/tmp/bantam-test-XXXXXX", command[64];

	cr_assert(mkdtemp(cache));
	for (int what = 0; what < DOUBTS; what++) {
		struct blob elf = doubtful(what);
		const char *why = what == 5 || what == 6 ? "Multiboot" : "a program";
		struct fake_guest g;

		fake_guest_init(&g, 16, elf);
		refused(&g, why);
		/* The user may know better. */
		g.req.entry = BOOT_ENTRY_LINUX64;
		boots(&g, why);
		fake_guest_clear(&g);
		/* The cache remembers the doubt: the same file twice. */
		fake_guest_init(&g, 16, fake_pack(elf, UNPACK_GZIP));
		g.req.cache_dir = cache;
		refused(&g, why);
		refused(&g, why);
		fake_guest_clear(&g);
	}
	for (int what = 0; what < DOUBTS; what++) {
		/* A kernel's notes outweigh what else the ELF has. */
		struct blob elf = doubtful(what), both = fake_elf(0, 1);
		struct fake_guest g;

		if (what == 3 || what == 4)
			continue;
		memcpy(elf.b + FAKE_ELF_NOTES, both.b + FAKE_ELF_NOTES, 256);
		memcpy(elf.b + FAKE_ELF_PHDR + 2 * sizeof(Elf64_Phdr),
		       both.b + FAKE_ELF_PHDR + sizeof(Elf64_Phdr), sizeof(Elf64_Phdr));
		put_le16(elf.b + offsetof(Elf64_Ehdr, e_phnum), 3);
		fake_guest_init(&g, 16, elf);
		boots(&g, "Linux");
		fake_guest_clear(&g);
	}
	snprintf(command, sizeof(command), "rm -r %s", cache);
	cr_assert_eq(system(command), 0);
}

/* A Multiboot header whose words do not add up to 0, or that lies too far in the file, is none. */
Test(kernel_files, not_multiboot)
{
	struct blob elf = doubtful(5);
	struct fake_guest g;

	put_le32(elf.b + 0x804, 4);
	fake_guest_init(&g, 16, elf);
	boots(&g, "sum");
	fake_guest_clear(&g);
	elf = doubtful(5);
	memmove(elf.b + 0x2800, elf.b + 0x800, 16);
	memset(elf.b + 0x800, 0, 16);
	fake_guest_init(&g, 16, elf);
	boots(&g, "place");
	fake_guest_clear(&g);
}

Test(kernel_files, foreign_files_are_named)
{
	static const struct {
		unsigned at, len;
		const char *bytes, *name;
	} t[] = {
		{ 0, 8, "ANDROID!", "Android" },
		{ 0, 8, "VNDRBOOT", "Android" },
		{ 0, 4, "\x27\x05\x19\x56", "uImage" },
		{ 0, 4, "\xd0\x0d\xfe\xed", "device tree" },
		{ 0, 6, "070701", "initrd" },
		{ 0, 4, "QFI\xfb", "--disk" },
		{ 0, 8, "MZ\0\0zimg", "zboot" },
		{ 0, 2, "MZ", "EFI" },
		{ 0x38, 4, "ARM\x64", "arm64" },
		{ 0x38, 4, "RSC\x05", "RISC-V" },
		{ 512, 12, "\x02\xb0\xad\x1b\0\0\0\0\xfe\x4f\x52\xe4", "Multiboot" },
		{ 512, 16, "\xd6\x50\x52\xe8\0\0\0\0\x18\0\0\0\x12\xaf\xad\x17", "Multiboot" },
	};

	for (size_t i = 0; i < N(t); i++) {
		struct blob b = blob_new(4096, 0);
		struct fake_guest g;

		memcpy(b.b + t[i].at, t[i].bytes, t[i].len);
		fake_guest_init(&g, 16, b);
		refused(&g, t[i].name);
		fake_guest_clear(&g);
		fake_guest_init(&g, 16, fake_pack(b, UNPACK_XZ));
		refused(&g, t[i].name);
		cr_assert(strstr(g.err.text, "unpack it first"));
		fake_guest_clear(&g);
	}
}

Test(kernel_files, packed_bzimages_are_named)
{
	struct blob z = fake_bzimage(fake_elf(1, 1), 0);

	for (int kind = UNPACK_GZIP; kind <= UNPACK_LZ4; kind++) {
		struct fake_guest g;

		fake_guest_init(&g, 16, fake_pack(z, kind));
		refused(&g, "no ELF but a bzImage");
		fake_guest_clear(&g);
	}
}

/* --- packed in several members ------------------------------------------------------------------ */

Test(kernel_files, several_members)
{
	struct blob elf = fake_elf(1, 1);

	for (int kind = UNPACK_GZIP; kind <= UNPACK_LZ4; kind++) {
		for (size_t parts = 1; parts <= 5; parts++) {
			for (size_t zeroes = 0; zeroes <= 300000;
			     zeroes = zeroes ? zeroes * 65 : 4) {
				struct blob all = blob_new(4 << 20, 0);
				struct fake_guest g;
				size_t n = 0;

				/* lz4's legacy frames have no padding. */
				if (kind == UNPACK_LZ4 && zeroes)
					continue;
				for (size_t i = 0; i < parts; i++) {
					size_t from = elf.len * i / parts,
					       to = elf.len * (i + 1) / parts;
					struct blob part = { elf.b + from, to - from, 0 },
						    packed = fake_pack(part, kind);

					memcpy(all.b + n, packed.b, packed.len);
					n += packed.len + zeroes;
					blob_free(&packed);
				}
				if (kind != UNPACK_LZ4) /* what follows is no member */
					memcpy(all.b + n, "trailer", 7), n += 7;
				all.len = n;
				fake_guest_init(&g, 16, all);
				boots(&g, unpack_name((enum unpack_kind)kind));
				cr_assert_eq(memcmp(at(&g, FAKE_KERNEL_AT, FAKE_KERNEL_BYTES),
						    elf.b + FAKE_ELF_DATA, FAKE_KERNEL_BYTES),
					     0);
				fake_guest_clear(&g);
				blob_free(&all);
			}
		}
	}
}

/* A second member that is damaged or cut short is an error, at each byte. */
Test(kernel_files, damaged_second_members)
{
	struct blob elf = fake_elf(1, 1);

	for (int kind = UNPACK_GZIP; kind <= UNPACK_ZSTD; kind++) {
		struct blob half = { elf.b, elf.len / 2, 0 },
			    rest = { elf.b + half.len, elf.len - half.len, 0 };
		struct blob one = fake_pack(half, kind), two = fake_pack(rest, kind);
		struct blob all = blob_new(one.len + two.len, 0);
		struct fake_guest g;

		memcpy(all.b, one.b, one.len);
		memcpy(all.b + one.len, two.b, two.len);
		for (size_t n = one.len; n < one.len + two.len; n += 1 + n / 97) {
			all.len = n;
			fake_guest_init(&g, 16, all);
			cr_assert_lt(fake_guest_boot(&g), 0, "%d: %zu", kind, n);
			fake_guest_clear(&g);
		}
	}
}

/* --- bzImages ----------------------------------------------------------------------------------- */

Test(kernel_files, unpadded_bzimages)
{
	struct blob z = fake_bzimage(blob_new(4096, 0x5a), 0);

	put_le32(z.b + 0x24c, 0); /* no payload, whose bytes we cut */
	for (unsigned missing = 0; missing <= 17; missing++) {
		struct blob cut = z;
		struct fake_guest g;

		cut.len -= missing;
		fake_guest_init(&g, 16, cut);
		if (missing < 16) {
			boots(&g, "unpadded");
			cr_assert_eq(memcmp(at(&g, FAKE_KERNEL_AT, cut.len - FAKE_BZ_BODY),
					    z.b + FAKE_BZ_BODY, cut.len - FAKE_BZ_BODY),
				     0);
		} else {
			refused(&g, "truncated");
		}
		fake_guest_clear(&g);
	}
}

/* --- initrds above the recommended limit --------------------------------------------------------- */

Test(kernel_files, initrds_above_the_limit)
{
	static const struct {
		bool above_4g, pvh, elf;
		unsigned mib;
		uint64_t at; /* 0: refused */
	} t[] = {
		/* 24 MiB: 16 low, 8 above 4 GiB; initrd_addr_max is 4 MiB. */
		{ true, false, false, 1, 3 * FAKE_MIB },
		{ true, false, false, 7, (4ull << 30) + FAKE_MIB },
		{ true, false, false, 9, 7 * FAKE_MIB },
		{ false, false, false, 9, 0 },
		{ true, true, false, 7, 9 * FAKE_MIB },
		{ false, true, false, 9, 7 * FAKE_MIB },
		{ false, true, false, 14, 0 },
		{ false, false, true, 9, 7 * FAKE_MIB },
	};

	for (size_t i = 0; i < N(t); i++) {
		struct blob elf = fake_elf(1, 1), initrd = blob_new(t[i].mib * FAKE_MIB, 3);
		struct blob z = fake_bzimage(elf, 0);
		struct fake_guest g;

		put_le32(z.b + 0x22c, 4 * FAKE_MIB - 1);
		put_le16(z.b + 0x236, t[i].above_4g ? 3 : 1);
		fake_guest_init(&g, 1, t[i].elf ? elf : z);
		mem_destroy(&g.mem);
		cr_assert_eq(mem_create(&g.mem, 24 * FAKE_MIB, 16 * FAKE_MIB, 4ull << 30, NULL), 0);
		g.req.initrd = fake_file(initrd);
		g.req.entry = t[i].pvh ? BOOT_ENTRY_PVH : BOOT_ENTRY_AUTO;
		if (t[i].at) {
			boots(&g, "initrd");
			cr_assert_eq(g.info.initrd_base, t[i].at, "row %zu: %llx", i,
				     (unsigned long long)g.info.initrd_base);
		} else {
			refused(&g, "do not fit");
		}
		fake_guest_clear(&g);
		blob_free(&initrd);
	}
}

/* --- unified kernel images ----------------------------------------------------------------------- */

struct section {
	const char *name;
	struct blob content;
	uint32_t cut; /* the virtual size is smaller than the raw size by this */
};

#define PE_AT 0x80u
#define TABLE_AT (PE_AT + 24 + 240)

static struct blob text(const char *s)
{
	struct blob b = blob_new(strlen(s), 0);

	memcpy(b.b, s, b.len);
	return b;
}

static struct blob unified(const struct section *s)
{
	struct blob pe = blob_new(1 << 20, 0);
	size_t n = 0x1000;
	unsigned i;

	memcpy(pe.b, "MZ", 2);
	put_le32(pe.b + 0x3c, PE_AT);
	memcpy(pe.b + PE_AT, "PE\0\0\x64\x86", 6);
	put_le16(pe.b + PE_AT + 20, 240);
	for (i = 0; s[i].name; i++) {
		uint8_t *h = pe.b + TABLE_AT + i * 40;

		memcpy(h, s[i].name, strlen(s[i].name));
		put_le32(h + 8, (uint32_t)s[i].content.len - s[i].cut);
		put_le32(h + 16, (uint32_t)(s[i].content.len + 511) & ~511u);
		put_le32(h + 20, (uint32_t)n);
		memcpy(pe.b + n, s[i].content.b, s[i].content.len);
		n += (s[i].content.len + 511) & ~511ul;
	}
	put_le16(pe.b + PE_AT + 6, (uint16_t)i);
	pe.len = n;
	return pe;
}

static void cmdline_is(struct fake_guest *g, const char *want)
{
	cr_assert_str_eq((const char *)at(g, g->info.cmdline_base, strlen(want) + 1), want);
}

Test(kernel_files, unified_images)
{
	struct blob kernels[] = { fake_bzimage(fake_elf(1, 1), 0), fake_elf(1, 1),
				  fake_pack(fake_elf(1, 1), UNPACK_ZSTD) };

	for (size_t i = 0; i < N(kernels); i++) {
		struct section s[] = {
			{ ".text", blob_new(100, 0x90), 0 },
			{ ".osrel", text("ID=x\n"), 0 },
			{ ".cmdline", text("root=UUID=1  quiet\n"), 0 },
			{ ".ucode", text("microcode"), 0 },
			{ ".initrd", text("the initrd"), 0 },
			{ ".linux", kernels[i], 0 },
			{ 0 },
		};
		struct fake_guest g;

		fake_guest_init(&g, 16, unified(s));
		boots(&g, "unified");
		cr_assert_eq(g.info.entry_addr, FAKE_KERNEL_AT);
		cmdline_is(&g, "root=UUID=1  quiet console=ttyS0");
		cr_assert_eq(g.info.initrd_bytes, 22);
		cr_assert_eq(memcmp(at(&g, g.info.initrd_base, 22), "microcode\0\0\0the initrd",
				    22),
			     0);
		/* The user's initrd replaces the image's; no words of the user's: no blank. */
		g.req.initrd = fake_file(text("mine"));
		g.req.cmdline = "";
		boots(&g, "unified");
		cmdline_is(&g, "root=UUID=1  quiet");
		cr_assert_eq(g.info.initrd_bytes, 4);
		fake_guest_clear(&g);
	}
}

Test(kernel_files, unified_images_of_every_shape)
{
	struct blob k = fake_elf(1, 1);
	static char longest[65538];
	struct section plain[] = { { ".linux", k, 0 }, { 0 } };
	struct section nul[] = { { ".linux", k, 0 },
				 { ".cmdline", text("a\nb\tc \n??"), 2 },
				 { 0 } };
	struct section profiles[] = { { ".linux", k, 0 },
				      { ".cmdline", text("base"), 0 },
				      { ".profile", text("1"), 0 },
				      { ".cmdline", text("first"), 0 },
				      { ".profile", text("2"), 0 },
				      { ".cmdline", text("second"), 0 },
				      { 0 } };
	struct section none[] = { { ".text", k, 0 }, { ".initrd", text("x"), 0 }, { 0 } };
	struct section inner[] = { { ".linux", unified(plain), 0 }, { 0 } };
	struct section big[] = { { ".linux", k, 0 },
				 { ".cmdline", { (uint8_t *)longest, 65537, 0 }, 0 },
				 { 0 } };
	struct section words[] = { { ".linux", k, 0 },
				   { ".cmdline", { (uint8_t *)longest, 3000, 0 }, 0 },
				   { 0 } };
	static const struct {
		const char *cmdline, *error;
	} want[] = { { "", NULL },	     { "a b c", NULL }, { "first", NULL },
		     { NULL, "EFI" },	     { NULL, "EFI" },	{ NULL, "at most 65536" },
		     { NULL, "image's own" } };
	struct section *all[] = { plain, nul, profiles, none, inner, big, words };

	memset(longest, 'x', sizeof(longest) - 1);
	for (size_t i = 0; i < N(all); i++) {
		struct fake_guest g;

		fake_guest_init(&g, 16, unified(all[i]));
		g.req.cmdline = "";
		if (want[i].error) {
			refused(&g, want[i].error);
		} else {
			boots(&g, "unified");
			cmdline_is(&g, want[i].cmdline);
			cr_assert_eq(g.info.initrd_bytes, 0);
		}
		fake_guest_clear(&g);
	}
}

/* Each field at each extreme, and the file cut at each byte of its headers: never a crash. */
Test(kernel_files, damaged_unified_images)
{
	static const uint32_t extremes[] = {
		0, 1, 0x7f, 0xfff, 0x1000, 0xffff, 0x10000000, 0x7fffffff, 0x80000000, 0xffffffff
	};
	struct section s[] = { { ".linux", fake_elf(1, 1), 0 },
			       { ".initrd", text("the initrd"), 0 },
			       { ".cmdline", text("quiet"), 0 },
			       { 0 } };
	struct blob whole = unified(s);
	struct fake_guest g;

	fake_guest_init(&g, 16, whole);
	for (size_t i = 0; i < N(extremes); i++) {
		for (size_t field = 0x3c; field < TABLE_AT + 120; field += 2) {
			struct blob bad;

			if (field > PE_AT + 24 && field < TABLE_AT)
				continue;
			bad = blob_dup(whole);
			put_le32(bad.b + field, extremes[i]);
			g.req.kernel = fake_file(bad);
			if (fake_guest_boot(&g))
				cr_assert(strstr(g.err.text, "--kernel"), "%s", g.err.text);
			blob_free(&bad);
		}
	}
	for (size_t n = 1; n < whole.len - 512 + 5; n += n < TABLE_AT + 120 ? 1 : 499) {
		struct blob cut = whole;

		cut.len = n;
		g.req.kernel = fake_file(cut);
		cr_assert_lt(fake_guest_boot(&g), 0, "%zu", n);
	}
	fake_guest_clear(&g);
}
