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
