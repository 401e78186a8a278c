/* pack: modules of a kernel's build, what they say of themselves, and the releases of both. */
#include <criterion/criterion.h>
#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/pack/modinfo.h"
#include "boot/pack/modules.h"
#include "boot/pack/release.h"
#include "tests/unit/pack_files.h"
#include "vmm/core/bytes.h"

static struct err err;

TestSuite(pack_build, .init = pack_files_setup, .fini = pack_files_teardown, .timeout = 60);

/* --- .modinfo ----------------------------------------------------------------------- */

Test(pack_build, modinfo_of_a_module)
{
	uint8_t bytes[PACK_FILES_MODULE_MAX];
	size_t len = pack_files_module(bytes,
				       "|name=a|||softdep=pre: b|names=no|softdep=post: c|end");
	struct pack_source source = pack_source_of(bytes, len, "a.ko");
	struct pack_modinfo info;
	const char *soft;

	cr_assert_eq(pack_modinfo_read(&source, &info, &err), 0, "%s", err.text);
	cr_expect_str_eq(pack_modinfo_next(&info, "name", NULL), "a");
	soft = pack_modinfo_next(&info, "softdep", NULL);
	cr_expect_str_eq(soft, "pre: b");
	soft = pack_modinfo_next(&info, "softdep", soft);
	cr_expect_str_eq(soft, "post: c");
	cr_expect_null(pack_modinfo_next(&info, "softdep", soft));
	cr_expect_null(pack_modinfo_next(&info, "end", NULL));
	pack_modinfo_free(&info);
	cr_expect_null(pack_modinfo_next(&info, "name", NULL));
}

/* A module that ends anywhere, and one with any field damaged, is refused. */
Test(pack_build, damaged_modules)
{
#define HEAD(field) (int)offsetof(Elf64_Ehdr, field), (int)sizeof(((Elf64_Ehdr *)0)->field)
#define SECTION(n, field)                                                                          \
	-(int)((3 - (n)) * sizeof(Elf64_Shdr) - offsetof(Elf64_Shdr, field)),                      \
		(int)sizeof(((Elf64_Shdr *)0)->field)
	static const struct {
		const char *what;
		int at, size; /* negative: from the end */
		uint64_t val;
		const char *says;
	} rows[] = {
		{ "magic", 0, 1, 0x7e, "no ELF file" },
		{ "class", EI_CLASS, 1, ELFCLASS32, "not for a 64-bit" },
		{ "order", EI_DATA, 1, ELFDATA2MSB, "not for a 64-bit" },
		{ "program", HEAD(e_type), ET_EXEC, "no relocatable object" },
		{ "no sections", HEAD(e_shoff), 0, "has no sections" },
		{ "far sections", HEAD(e_shoff), 1 << 20, "truncated" },
		{ "last sections", HEAD(e_shoff), UINT64_MAX, "truncated" },
		{ "overflow", HEAD(e_shoff), UINT64_MAX - 100, "truncated" },
		{ "header size", HEAD(e_shentsize), 40, "has no sections" },
		{ "many sections", HEAD(e_shnum), 60000, "truncated" },
		{ "no count", HEAD(e_shnum), 0, "damaged section headers" },
		{ "names' index", HEAD(e_shstrndx), 3, "damaged section headers" },
		{ "names' long index", HEAD(e_shstrndx), SHN_XINDEX, "no section .modinfo" },
		{ "names are modinfo", HEAD(e_shstrndx), 1, "no section .modinfo" },
		{ "names far", SECTION(2, sh_offset), 1 << 30, "truncated" },
		{ "names overflow", SECTION(2, sh_offset), UINT64_MAX, "truncated" },
		{ "names large", SECTION(2, sh_size), UINT64_MAX, "damaged section headers" },
		{ "names larger than the file", SECTION(2, sh_size), 5000, "truncated" },
		{ "names short", SECTION(2, sh_size), 5, "no section .modinfo" },
		{ "name far", SECTION(1, sh_name), UINT32_MAX, "no section .modinfo" },
		{ "name other", SECTION(1, sh_name), 2, "no section .modinfo" },
		{ "kind", SECTION(1, sh_type), SHT_NOBITS, "no section .modinfo" },
		{ "far", SECTION(1, sh_offset), 4096, "truncated" },
		{ "overflow", SECTION(1, sh_offset), UINT64_MAX, "truncated" },
		{ "large", SECTION(1, sh_size), 1 << 20, "truncated" },
		{ "larger", SECTION(1, sh_size), (1 << 20) + 1, "more than 1 MiB" },
	};
	uint8_t bytes[PACK_FILES_MODULE_MAX], bad[PACK_FILES_MODULE_MAX];
	size_t len = pack_files_module(bytes, "name=a|");
	struct pack_modinfo info;

	for (size_t n = 0; n < len; n++) {
		struct pack_source source = pack_source_of(bytes, n, "a.ko");

		cr_expect_eq(pack_modinfo_read(&source, &info, &err), -EINVAL, "%zu bytes", n);
		cr_expect_null(info.text);
	}
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct pack_source source = pack_source_of(bad, len, "a.ko");

		memcpy(bad, bytes, len);
		for (int b = 0; b < rows[i].size; b++)
			bad[(rows[i].at < 0 ? (int)len : 0) + rows[i].at + b] =
				(uint8_t)(rows[i].val >> 8 * b);
		cr_expect_eq(pack_modinfo_read(&source, &info, &err), -EINVAL, "%s", rows[i].what);
		cr_expect(strstr(err.text, rows[i].says), "%s: %s", rows[i].what, err.text);
		cr_expect_null(info.text);
	}
}

/* Counts that do not fit the header are in the first section's header. */
Test(pack_build, extended_section_numbers)
{
	uint8_t bytes[PACK_FILES_MODULE_MAX];
	size_t len = pack_files_module(bytes, "name=a|");
	struct pack_source source = pack_source_of(bytes, len, "a.ko");
	uint8_t *first = bytes + len - 3 * sizeof(Elf64_Shdr);
	struct pack_modinfo info;

	put_le16(bytes + offsetof(Elf64_Ehdr, e_shnum), 0);
	put_le16(bytes + offsetof(Elf64_Ehdr, e_shstrndx), SHN_XINDEX);
	put_le64(first + offsetof(Elf64_Shdr, sh_size), 3);
	put_le32(first + offsetof(Elf64_Shdr, sh_link), 2);
	cr_assert_eq(pack_modinfo_read(&source, &info, &err), 0, "%s", err.text);
	cr_expect_str_eq(pack_modinfo_next(&info, "name", NULL), "a");
	pack_modinfo_free(&info);
	put_le64(first + offsetof(Elf64_Shdr, sh_size), UINT64_MAX);
	cr_expect_eq(pack_modinfo_read(&source, &info, &err), -EINVAL);
}

/* --- the folder of a build ---------------------------------------------------------- */

/* Packs spec of the tree in dir. Returns the names in their order, or the error. */
static const char *packed(const char *dir, const char *spec)
{
	static char text[1024];
	struct pack *pack;
	struct pack_tree *tree;
	void *data = NULL;
	size_t len;
	int ret;

	cr_assert_eq(pack_create(&pack, &err), 0);
	ret = pack_tree_open(&tree, dir, &err);
	if (!ret)
		ret = pack_add_modules(pack, tree, spec, &err);
	pack_tree_close(tree);
	if (!ret)
		ret = pack_to_memory(pack, PACK_PLAIN, &data, &len, &err);
	*text = 0;
	if (!ret) {
		/* Its header is 110 bytes long; the contents begin at a multiple of 4. */
		const char *name = memmem(data, len, "modules.list", 13);
		char digits[9] = { 0 };

		if (name) {
			memcpy(digits, name - 110 + 6 + 8 * 6, 8);
			snprintf(text, sizeof(text), "%.*s", (int)strtoul(digits, NULL, 16),
				 name + 14);
		}
	}
	free(data);
	pack_destroy(pack);
	return ret ? err.text : text;
}

static void make_build(void)
{
	pack_files_text("b/modules.order", "drivers/a.ko\n"
					   "drivers/b-b.o\n"
					   "kernel/fs/ext.ko\n"
					   "kernel/trace/ring.o\n"
					   "crypto/crc_fast.o\n"
					   "crypto/crc_generic.o\n"
					   "gone/gone.ko\n"
					   "other/other.ko\n"
					   "damaged/damaged.ko\n"
					   "round/r1.ko\nround/r2.ko\n"
					   "lost/lost.ko\n"
					   "packed/small.ko\n"
					   "no module\n.ko\n\n");
	pack_files_text("b/modules.builtin", "kernel/drivers/in-side.ko\n");
	pack_files_write_module("b/drivers/a.ko", "name=a|depends=|vermagic=6.9.1-x SMP |");
	pack_files_write_module("b/drivers/b-b.ko", "name=b_b|depends=a|alias=pci:v1d*|alias=bee|");
	pack_files_write_module("b/fs/ext.ko", "name=ext|depends=b_b,ring|softdep=pre: crc none|"
					       "softdep=post: r1|");
	pack_files_write_module("b/kernel/trace/ring.ko", "name=ring|");
	pack_files_write_module("b/crypto/crc_fast.ko", "alias=crc|");
	pack_files_write_module("b/crypto/crc_generic.ko", "alias=crc|alias=crypto-crc|");
	pack_files_write_module("b/other/other.ko", "name=another|");
	pack_files_text("b/damaged/damaged.ko", "not a module");
	pack_files_write_module("b/round/r1.ko", "depends=r2|");
	pack_files_write_module("b/round/r2.ko", "depends=r1|");
	pack_files_write_module("b/lost/lost.ko", "depends=a,nowhere|");
}

Test(pack_build, modules_where_they_lie)
{
	static const struct {
		const char *spec, *want;
	} rows[] = {
		{ "a", "/modules/a.ko\n" },
		{ "b-b:x=1", "/modules/a.ko\n/modules/b_b.ko x=1\n" },
		{ "bee", "/modules/a.ko\n/modules/b_b.ko\n" },
		{ "ext", "/modules/ring.ko\n/modules/a.ko\n/modules/b_b.ko\n"
			 "/modules/crc_generic.ko\n/modules/ext.ko\n" },
		{ "in_side", "" },
		{ "crypto-crc,crc", "/modules/crc_generic.ko\n" },
		{ "r1", "/modules/r2.ko\n/modules/r1.ko\n" },
		{ "nosuch?", "" },
		{ "nosuch", "no module nosuch in b" },
		{ "gone",
		  "b: modules.order has gone/gone, but there is no such module file; was it built?" },
		{ "other", "b: the file of module other says that it is module another" },
		{ "damaged", "module b/damaged/damaged.ko: is no kernel module: it is too short" },
		{ "lost", "b: lost needs nowhere, which it does not have" },
	};

	make_build();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *got = packed("b", rows[i].spec);

		cr_expect_str_eq(got, rows[i].want, "%s: '%s'", rows[i].spec, got);
	}
}

Test(pack_build, hostile_builds)
{
	static const struct {
		const char *order, *says;
	} rows[] = {
		{ "/etc/a.ko", "must lie below" },
		{ "../a.ko", "must lie below" },
		{ "kernel/../../a.o", "must lie below" },
		{ "kernel/", "no module a in h" },
		{ "a", "no module a in h" },
	};

	char order[1024];
	int at = 0;

	pack_files_text("h/modules.builtin", "");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		pack_files_text("h/modules.order", rows[i].order);
		cr_expect(strstr(packed("h", "a"), rows[i].says), "%s: %s", rows[i].order,
			  err.text);
	}
	cr_expect(strstr(packed("nosuch", "a"), "nosuch: no modules.dep, and no modules.order"),
		  "%s", err.text);
	/* 70 modules, each needs the next one */
	for (unsigned i = 0; i < 70; i++) {
		char path[64], info[64];

		snprintf(path, sizeof(path), "h/m%u.ko", i);
		snprintf(info, sizeof(info), "depends=m%u|", i + 1);
		pack_files_write_module(path, info);
		at += sprintf(order + at, "m%u.ko\n", i);
	}
	pack_files_text("h/modules.order", order);
	cr_expect(strstr(packed("h", "m0"), "more than 64 deep, at m64"), "%s", err.text);
	cr_expect(strstr(packed("h", "m69"), "m69 needs m70, which it does not have"), "%s",
		  err.text);
}

/* --- releases ----------------------------------------------------------------------- */

static void write_kernel(const char *path, const char *text, unsigned pointer, unsigned len)
{
	static uint8_t image[0x1400];

	memset(image, 0, sizeof(image));
	image[0x1f1] = 8;
	put_le16(image + 0x1fe, 0xaa55);
	memcpy(image + 0x202, "HdrS", 4);
	put_le16(image + 0x206, 0x20f);
	put_le16(image + 0x20e, (uint16_t)pointer);
	memcpy(image + 0x400, text, strlen(text));
	pack_files_write(path, image, len);
}

#define LONG64 "6.1.0-0123456789-0123456789-0123456789-0123456789-0123456789-012"

Test(pack_build, release_of_a_kernel)
{
	static const struct {
		const char *text;
		unsigned pointer, len;
		const char *want;
	} rows[] = {
		{ "6.1.0-18-amd64 (x@y) #1 SMP", 0x200, 0x1400, "6.1.0-18-amd64" },
		{ "6.1.0", 0x200, 0x1400, "6.1.0" },
		{ "6.1.0 ", 0x200, 0x1400, "6.1.0" },
		{ "6.1.0 ", 0x202, 0x1400, "1.0" },
		{ "6.1.0 ", 0, 0x1400, "" },
		{ "6.1.0 ", 8 * 512, 0x1400, "" },
		{ "6.1.0 ", 0xffff, 0x1400, "" },
		{ "6.1.0 ", 0x200, 0x400, "" },
		{ "6.1.0 ", 0x200, 0x405, "" },
		{ "6.1.0 ", 0x200, 0x406, "6.1.0" },
		{ "6.1.0 ", 0x200, 0x20f, "" },
		{ "6.1.0 ", 0x200, 0, "" },
		{ "6.1\x1b[0m ", 0x200, 0x1400, "" },
		{ LONG64 " ", 0x200, 0x1400, LONG64 },
		{ LONG64 "3 ", 0x200, 0x1400, "" },
	};
	char release[PACK_RELEASE_MAX];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		write_kernel("bzImage", rows[i].text, rows[i].pointer, rows[i].len);
		cr_assert_eq(pack_release_of_kernel("bzImage", release, &err), 0, "%s", err.text);
		cr_expect_str_eq(release, rows[i].want, "row %zu: '%s'", i, release);
	}
	cr_expect_eq(pack_release_of_kernel("nosuch", release, &err), -ENOENT);
}

Test(pack_build, modules_of_another_kernel_are_refused)
{
	struct pack_tree *tree;
	char release[PACK_RELEASE_MAX];

	make_build();
	cr_assert_eq(pack_tree_open(&tree, "b", &err), 0);
	cr_assert_eq(pack_release_of_modules(tree, release, &err), 0);
	cr_expect_str_eq(release, "6.9.1-x");
	write_kernel("bzImage", "6.9.1-x (me)", 0x200, 0x1400);
	cr_expect_eq(pack_check_release(tree, "bzImage", &err), 0, "%s", err.text);
	write_kernel("bzImage", "6.9.1-xy (me)", 0x200, 0x1400);
	cr_expect_eq(pack_check_release(tree, "bzImage", &err), -EINVAL);
	cr_expect_str_eq(err.text,
			 "bzImage is kernel 6.9.1-xy, but the modules in b are for 6.9.1-x; "
			 "give this kernel's own");
	pack_files_text("vmlinux", "\177ELF");
	cr_expect_eq(pack_check_release(tree, "vmlinux", &err), 0);
	pack_tree_close(tree);

	/* Without modules the build says it, or nothing does. */
	pack_files_text("e/modules.builtin", "kernel/x.ko\n");
	cr_assert_eq(pack_tree_open(&tree, "e", &err), 0);
	cr_assert_eq(pack_release_of_modules(tree, release, &err), 0);
	cr_expect_str_eq(release, "");
	cr_expect_eq(pack_check_release(tree, "bzImage", &err), 0);
	pack_files_text("e/include/config/kernel.release", "6.9.2\n");
	cr_assert_eq(pack_release_of_modules(tree, release, &err), 0);
	cr_expect_str_eq(release, "6.9.2");
	cr_expect_eq(pack_check_release(tree, "bzImage", &err), -EINVAL);
	pack_tree_close(tree);
}
