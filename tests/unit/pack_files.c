/* pack_files: see pack_files.h. */
#include "tests/unit/pack_files.h"

#include <criterion/criterion.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/core/bytes.h"

static char scratch[32];

void pack_files_setup(void)
{
	strcpy(scratch, "/tmp/bantam-pack-XXXXXX");
	cr_assert(mkdtemp(scratch) && !chdir(scratch));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

void pack_files_teardown(void)
{
	cr_assert(!chdir("/") && !nftw(scratch, remove_one, 8, FTW_DEPTH | FTW_PHYS));
}

void pack_files_write(const char *path, const void *data, size_t len_bytes)
{
	char copy[PATH_MAX];
	int fd;

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *at = strchr(copy, '/'); at; *at = '/', at = strchr(at + 1, '/')) {
		*at = 0;
		cr_assert(!mkdir(copy, 0755) || errno == EEXIST, "%s", copy);
	}
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	cr_assert(fd >= 0 && write(fd, data, len_bytes) == (ssize_t)len_bytes, "%s", path);
	close(fd);
}

void pack_files_text(const char *path, const char *text)
{
	pack_files_write(path, text, strlen(text));
}

size_t pack_files_module(uint8_t *out, const char *info)
{
	static const char names[] = "\0.modinfo\0.shstrtab";
	size_t len = strlen(info), at = (64 + len + sizeof(names) + 7) & ~7ul;
	Elf64_Ehdr head = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			    .e_type = ET_REL,
			    .e_shoff = at,
			    .e_shentsize = sizeof(Elf64_Shdr),
			    .e_shnum = 3,
			    .e_shstrndx = 2 };
	Elf64_Shdr sections[3] = {
		{ 0 },
		{ .sh_name = 1, .sh_type = SHT_PROGBITS, .sh_offset = 64, .sh_size = len },
		{ .sh_name = 10,
		  .sh_type = SHT_STRTAB,
		  .sh_offset = 64 + len,
		  .sh_size = sizeof(names) },
	};

	cr_assert_leq(at + sizeof(sections), PACK_FILES_MODULE_MAX);
	memset(out, 0, at);
	memcpy(out, &head, sizeof(head));
	for (size_t i = 0; i < len; i++)
		out[64 + i] = info[i] == '|' ? 0 : (uint8_t)info[i];
	memcpy(out + 64 + len, names, sizeof(names));
	memcpy(out + at, sections, sizeof(sections));
	return at + sizeof(sections);
}

void pack_files_write_module(const char *path, const char *info)
{
	uint8_t bytes[PACK_FILES_MODULE_MAX];

	pack_files_write(path, bytes, pack_files_module(bytes, info));
}

static unsigned field(const char *header, unsigned n)
{
	char digits[9] = { 0 };

	memcpy(digits, header + 6 + 8 * n, 8);
	return (unsigned)strtoul(digits, NULL, 16);
}

bool pack_files_find(const char *archive, size_t len_bytes, const char *name,
		     struct pack_files_entry *out)
{
	size_t at = 0;

	while (at + 110 <= len_bytes && strcmp(archive + at + 110, "TRAILER!!!")) {
		const char *h = archive + at;
		size_t data = at + ((110 + field(h, 11) + 3) & ~3u);

		cr_assert_eq(memcmp(h, "070701", 6), 0);
		*out = (struct pack_files_entry){ field(h, 1), field(h, 9), field(h, 10),
						  archive + data, field(h, 6) };
		if (!strcmp(h + 110, name))
			return true;
		at = data + ((out->len + 3) & ~3u);
	}
	return false;
}

void pack_files_program(uint8_t out[PACK_FILES_PROGRAM_BYTES], const struct pack_files_program *p)
{
	const uint64_t base = 0x10000, strings = 512;
	Elf64_Ehdr head = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			    .e_type = ET_DYN,
			    .e_machine = EM_X86_64,
			    .e_phoff = sizeof(head),
			    .e_phentsize = sizeof(Elf64_Phdr),
			    .e_phnum = p->interpreter ? 3 : 2 };
	Elf64_Phdr load = { .p_type = PT_LOAD,
			    .p_vaddr = base,
			    .p_filesz = PACK_FILES_PROGRAM_BYTES };
	Elf64_Phdr dynamic = { .p_type = PT_DYNAMIC, .p_offset = PACK_FILES_TAGS };
	Elf64_Phdr interpreter = { .p_type = PT_INTERP, .p_offset = 256 };
	Elf64_Dyn tags[32] = { { DT_STRTAB, { base + strings } }, { DT_STRSZ, { 1024 } } };
	size_t n = 2, at = strings + 1;
	const struct {
		const char *text;
		int tag;
	} paths[] = { { p->rpath, DT_RPATH }, { p->runpath, DT_RUNPATH } };

	memset(out, 0, PACK_FILES_PROGRAM_BYTES);
	for (size_t i = 0; i < 2; i++) {
		if (!paths[i].text)
			continue;
		tags[n++] = (Elf64_Dyn){ paths[i].tag, { at - strings } };
		at += strlen(strcpy((char *)out + at, paths[i].text)) + 1;
	}
	for (const char *name = p->needed ? p->needed : ""; *name;) {
		size_t len = strcspn(name, "|");

		tags[n++] = (Elf64_Dyn){ DT_NEEDED, { at - strings } };
		memcpy(out + at, name, len);
		at += len + 1;
		name += len + 1;
	}
	cr_assert(at < strings + 1024 && n < 32);
	dynamic.p_filesz = (n + 1) * sizeof(*tags);
	if (p->interpreter)
		interpreter.p_filesz = strlen(strcpy((char *)out + 256, p->interpreter)) + 1;
	memcpy(out, &head, sizeof(head));
	memcpy(out + PACK_FILES_LOAD, &load, sizeof(load));
	memcpy(out + PACK_FILES_DYNAMIC, &dynamic, sizeof(dynamic));
	memcpy(out + PACK_FILES_INTERP, &interpreter, sizeof(interpreter));
	memcpy(out + PACK_FILES_TAGS, tags, sizeof(tags));
}

void pack_files_write_program(const char *path, const struct pack_files_program *p)
{
	uint8_t bytes[PACK_FILES_PROGRAM_BYTES];

	pack_files_program(bytes, p);
	pack_files_write(path, bytes, sizeof(bytes));
	cr_assert(!chmod(path, 0755));
}

void pack_files_image(const char *path, const char *release)
{
	uint8_t head[0x800] = { 0 };

	head[0x1f1] = 3;
	put_le16(head + 0x1fe, 0xaa55);
	memcpy(head + 0x202, "HdrS", 4);
	put_le16(head + 0x206, 0x20f);
	put_le16(head + 0x20e, 0x400);
	snprintf((char *)head + 0x600, 0x200, "%s (a@b) #1 SMP", release);
	pack_files_write(path, head, sizeof(head));
}
