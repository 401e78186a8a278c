/* strip: a module without its debug information is the same module, and what is odd stays whole. */
#include "boot/pack/strip.h"

#include <criterion/criterion.h>
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/pack/modinfo.h"
#include "boot/pack/modules.h"
#include "boot/pack/pack.h"
#include "tests/unit/pack_files.h"
#include "tests/unit/proc.h"

#define NSECTIONS 12
#define MODULE_BYTES 16384

/* As a compiler writes them: code, its relocations, debug information with relocations between. */
static const struct {
	const char *name;
	unsigned type, flags, size, align, link, info;
} sections[NSECTIONS] = {
	{ "", SHT_NULL, 0, 0, 0, 0, 0 },
	{ ".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 100, 64, 0, 0 },
	{ ".rela.text", SHT_RELA, SHF_INFO_LINK, 48, 8, 9, 1 },
	{ ".debug_info", SHT_PROGBITS, 0, 4000, 1, 0, 0 },
	{ ".rela.debug_info", SHT_RELA, SHF_INFO_LINK, 4800, 8, 9, 3 },
	{ ".bss", SHT_NOBITS, SHF_ALLOC | SHF_WRITE, 100000, 32, 0, 0 },
	{ ".modinfo", SHT_PROGBITS, SHF_ALLOC, 12, 1, 0, 0 },
	{ ".debug_str", SHT_PROGBITS, SHF_MERGE | SHF_STRINGS, 900, 1, 0, 0 },
	{ ".BTF", SHT_PROGBITS, 0, 33, 1, 0, 0 },
	{ ".symtab", SHT_SYMTAB, 0, 72, 8, 10, 2 },
	{ ".strtab", SHT_STRTAB, 0, 21, 1, 0, 0 },
	{ ".shstrtab", SHT_STRTAB, 0, 0, 1, 0, 0 },
};
#define DEBUG_INFO 3
#define TEXT 1

static uint8_t module[MODULE_BYTES] __attribute__((aligned(8)));
static size_t module_len, table_at;

static bool is_debug(unsigned i)
{
	return strstr(sections[i].name, "debug_") != NULL;
}

static Elf64_Shdr *header_of(uint8_t *file, unsigned i)
{
	Elf64_Ehdr head;

	memcpy(&head, file, sizeof(head));
	return (Elf64_Shdr *)(file + head.e_shoff) + i;
}

static void setup(void)
{
	Elf64_Ehdr head = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			    .e_type = ET_REL,
			    .e_shentsize = sizeof(Elf64_Shdr),
			    .e_shnum = NSECTIONS,
			    .e_shstrndx = NSECTIONS - 1 };
	Elf64_Shdr headers[NSECTIONS] = { { 0 } };
	char names[200] = "";
	size_t at = sizeof(head), names_len = 0;

	for (unsigned i = 0; i < NSECTIONS; i++) {
		bool last = i == NSECTIONS - 1;

		headers[i] = (Elf64_Shdr){ .sh_name = (unsigned)names_len,
					   .sh_type = sections[i].type,
					   .sh_flags = sections[i].flags,
					   .sh_size = sections[i].size,
					   .sh_link = sections[i].link,
					   .sh_info = sections[i].info,
					   .sh_addralign = sections[i].align };
		names_len += strlen(strcpy(names + names_len, sections[i].name)) + 1;
		if (!i)
			continue;
		at = (at + sections[i].align - 1) / sections[i].align * sections[i].align;
		headers[i].sh_offset = at;
		if (last)
			headers[i].sh_size = names_len;
		for (unsigned n = 0;
		     !last && sections[i].type != SHT_NOBITS && n < sections[i].size; n++)
			module[at++] = (uint8_t)(i * 16 + n % 16);
		if (last)
			memcpy(module + at, names, names_len);
	}
	at += names_len;
	memcpy(module + headers[6].sh_offset, "name=m\0a=b\0", 12);
	at = (at + 7) & ~7ul;
	table_at = at;
	head.e_shoff = at;
	memcpy(module, &head, sizeof(head));
	memcpy(module + at, headers, sizeof(headers));
	module_len = at + sizeof(headers);
	cr_assert_lt(module_len, MODULE_BYTES);
}

TestSuite(pack_strip, .init = setup, .timeout = 60);

static int strip(uint8_t **out, size_t *len)
{
	struct pack_source source = pack_source_of(module, module_len, "m.ko");
	struct err err = { "" };
	int ret = pack_strip_debug(&source, out, len, &err);

	cr_expect_eq(ret, 0, "%s", err.text);
	return ret;
}

Test(pack_strip, the_rest_is_the_same)
{
	uint8_t *out;
	size_t len;
	struct pack_source source;
	struct pack_modinfo info;
	struct err err;

	strip(&out, &len);
	cr_assert_not_null(out);
	cr_expect_lt(len, module_len - 9000);
	cr_expect_eq(memcmp(out, module, offsetof(Elf64_Ehdr, e_shoff)), 0);
	for (unsigned i = 0; i < NSECTIONS; i++) {
		Elf64_Shdr *new = header_of(out, i), *old = header_of(module, i);

		cr_expect_eq(new->sh_name, old->sh_name);
		if (is_debug(i)) {
			cr_expect(new->sh_type == SHT_NOBITS && !new->sh_size && !new->sh_flags &&
					  !new->sh_info && !new->sh_link,
				  "%s", sections[i].name);
			continue;
		}
		cr_expect(new->sh_type == old->sh_type &&new->sh_size ==
				  old->sh_size &&new->sh_flags == old->sh_flags &&new->sh_info ==
				  old->sh_info &&new->sh_link == old->sh_link &&new->sh_addralign ==
				  old->sh_addralign,
			  "%s", sections[i].name);
		if (!i || new->sh_type == SHT_NOBITS)
			continue;
		cr_assert_leq(new->sh_offset + new->sh_size, len);
		cr_expect_eq(new->sh_offset % new->sh_addralign, 0);
		cr_expect_eq(memcmp(out + new->sh_offset, module + old->sh_offset, new->sh_size), 0,
			     "%s", sections[i].name);
	}
	source = pack_source_of(out, len, "m.ko");
	cr_assert_eq(pack_modinfo_read(&source, &info, &err), 0, "%s", err.text);
	cr_expect_str_eq(pack_modinfo_next(&info, "name", NULL), "m");
	pack_modinfo_free(&info);
	/* there is nothing left to take out */
	memcpy(module, out, len);
	module_len = len;
	free(out);
	for (unsigned i = 0; i < NSECTIONS; i++)
		header_of(module, i)->sh_name = is_debug(i) ? 0 : header_of(module, i)->sh_name;
	strip(&out, &len);
	cr_expect_null(out);
}

Test(pack_strip, what_stays_whole)
{
	static const struct {
		const char *what;
		unsigned section, field, bytes;
		uint64_t value;
	} rows[] = {
		{ "alignment", TEXT, offsetof(Elf64_Shdr, sh_addralign), 8, 3 },
		{ "alignment", TEXT, offsetof(Elf64_Shdr, sh_addralign), 8, 1ull << 40 },
		{ "alignment", DEBUG_INFO, offsetof(Elf64_Shdr, sh_addralign), 8, 6 },
		{ "place", TEXT, offsetof(Elf64_Shdr, sh_offset), 8, MODULE_BYTES },
		{ "place", TEXT, offsetof(Elf64_Shdr, sh_offset), 8, UINT64_MAX },
		{ "length", TEXT, offsetof(Elf64_Shdr, sh_size), 8, UINT64_MAX },
		{ "length", TEXT, offsetof(Elf64_Shdr, sh_size), 8, MODULE_BYTES },
	};
	uint8_t saved[MODULE_BYTES], *out;
	size_t len, whole = module_len;

	memcpy(saved, module, sizeof(saved));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		memcpy(module, saved, sizeof(saved));
		memcpy((uint8_t *)header_of(module, rows[i].section) + rows[i].field,
		       &rows[i].value, rows[i].bytes);
		strip(&out, &len);
		cr_expect(!out && !len, "%s", rows[i].what);
	}
	/* sections that share their bytes, so that there would be more of them than the file has */
	memcpy(module, saved, sizeof(saved));
	for (unsigned i = 0; i < NSECTIONS; i++)
		if (!is_debug(i) && sections[i].type == SHT_PROGBITS) {
			header_of(module, i)->sh_offset = 64;
			header_of(module, i)->sh_size = module_len - 64;
		}
	strip(&out, &len);
	cr_expect_null(out);
	/* debug information that is loaded is none; a program; a signed module */
	memcpy(module, saved, sizeof(saved));
	for (unsigned i = 0; i < NSECTIONS; i++)
		header_of(module, i)->sh_flags |= is_debug(i) ? SHF_ALLOC : 0;
	strip(&out, &len);
	cr_expect_null(out);
	memcpy(module, saved, sizeof(saved));
	module[offsetof(Elf64_Ehdr, e_phnum)] = 1;
	strip(&out, &len);
	cr_expect_null(out);
	memcpy(module, saved, sizeof(saved));
	memcpy(module + module_len, "~Module signature appended~\n", 28);
	module_len += 28;
	strip(&out, &len);
	cr_expect_null(out);
	/* the names of all sections are no debug information, whatever their own name */
	memcpy(module, saved, sizeof(saved));
	header_of(module, NSECTIONS - 1)->sh_name = header_of(module, DEBUG_INFO)->sh_name;
	module_len = whole;
	strip(&out, &len);
	cr_assert(out && header_of(out, NSECTIONS - 1)->sh_size);
	free(out);
	/* truncated */
	memcpy(module, saved, sizeof(saved));
	for (module_len = 0; module_len < whole; module_len += 31) {
		strip(&out, &len);
		cr_expect_null(out, "%zu", module_len);
	}
}

/* A module of a tree is smaller in the archive. */
Test(pack_strip, in_an_archive)
{
	struct pack_files_entry e;
	struct pack_tree *tree;
	struct pack *pack;
	struct err err;
	unsigned fds;
	void *data;
	size_t len;

	pack_files_setup();
	pack_files_write("tree/m.ko", module, module_len);
	pack_files_text("tree/modules.order", "m.o\n");
	fds = proc_fds(0);
	cr_assert_eq(pack_create(&pack, &err), 0);
	cr_assert_eq(pack_tree_open(&tree, "tree", &err), 0, "%s", err.text);
	cr_assert_eq(pack_add_module(pack, tree, "m", &err), 0, "%s", err.text);
	cr_assert_eq(pack_to_memory(pack, PACK_PLAIN, &data, &len, &err), 0, "%s", err.text);
	cr_expect(pack_files_find(data, len, "modules/m.ko", &e) && e.len < module_len - 9000);
	free(data);
	pack_tree_close(tree);
	pack_destroy(pack);
	cr_expect_eq(proc_fds(0), fds);
	pack_files_teardown();
}
