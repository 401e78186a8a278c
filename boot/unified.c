/*
 * unified: see unified.h. PE: "PE Format" of Microsoft, COFF file header and section table.
 *
 * A bzImage is a PE file, too, but has no section .linux; kernel.c asks here only about files
 * whose first bytes are not a bzImage's, except that a unified image may look like one by chance:
 * so the section table decides.
 */
#include "boot/unified.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/bytes.h"

#define PE_OFFSET 0x3cu
#define COFF_BYTES 24u /* with the signature */
#define SECTION_BYTES 40u
#define SECTIONS_MAX 128u /* systemd: 96 */
#define CMDLINE_MAX 65536u

enum { S_LINUX, S_UCODE, S_INITRD, S_CMDLINE, S_PROFILE, S_COUNT };
static const char names[S_COUNT][9] = { ".linux", ".ucode", ".initrd", ".cmdline", ".profile" };

/* A section's place in the file; len_bytes 0: none. */
struct part {
	uint64_t off, len_bytes;
};

static int section_kind(const uint8_t *s)
{
	for (int i = 0; i < S_COUNT; i++)
		if (!strncmp((const char *)s, names[i], 8))
			return i;
	return -1;
}

/* Reads the section table. Returns 1 if there is a section .linux, 0 if not, or -errno. */
static int read_sections(const struct boot_file *file, uint64_t pe, struct part part[S_COUNT],
			 struct err *err)
{
	uint8_t coff[COFF_BYTES], table[SECTIONS_MAX * SECTION_BYTES];
	unsigned n, profiles = 0;
	uint64_t at;

	if (pe + COFF_BYTES > file->size_bytes)
		return 0;
	if (boot_file_read(file, pe, coff, sizeof(coff), err) < 0)
		return -EIO;
	n = get_le16(coff + 6);
	at = pe + COFF_BYTES + get_le16(coff + 20);
	if (memcmp(coff, "PE\0\0", 4) || n > SECTIONS_MAX ||
	    at + n * SECTION_BYTES > file->size_bytes)
		return 0;
	if (boot_file_read(file, at, table, n * SECTION_BYTES, err) < 0)
		return -EIO;
	for (unsigned i = 0; i < n; i++) {
		const uint8_t *s = table + i * SECTION_BYTES;
		uint64_t bytes = get_le32(s + 8), raw = get_le32(s + 16), off = get_le32(s + 20);
		int kind = section_kind(s);

		if (kind < 0)
			continue;
		if (kind == S_PROFILE && ++profiles > 1)
			break;
		/* The raw size is rounded up. */
		if (!bytes || bytes > raw)
			bytes = raw;
		if (off > file->size_bytes || bytes > file->size_bytes - off)
			return err_set(err, ENOEXEC,
				       "%s %s: bad unified kernel image: its section %s is outside "
				       "the file",
				       file->what, file->path, names[kind]);
		part[kind] = (struct part){ off, bytes };
	}
	return part[S_LINUX].len_bytes > 0;
}

/* Reads .cmdline: text that ends at a NUL, with line breaks as blanks. */
static int read_cmdline(const struct boot_file *file, const struct part *part, char **out,
			struct err *err)
{
	size_t n = part->len_bytes;
	char *text;
	int ret;

	if (n > CMDLINE_MAX)
		return err_set(err, ENOEXEC, "%s %s: its command line has %zu bytes; at most %u",
			       file->what, file->path, n, CMDLINE_MAX);
	text = calloc(1, n + 1);
	if (!text)
		return err_sys(err, ENOMEM, "%s %s", file->what, file->path);
	*out = text;
	ret = boot_file_read(file, part->off, text, n, err);
	if (ret < 0)
		return ret;
	n = strlen(text);
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ')
			*c = ' ';
	while (n && text[n - 1] == ' ')
		text[--n] = 0;
	return 0;
}

int unified_open(const struct boot_file *file, const uint8_t *head, uint32_t n,
		 struct boot_file *kernel, struct kernel *k, struct err *err)
{
	struct part part[S_COUNT] = { 0 };
	int ret;

	if (n < PE_OFFSET + 4 || memcmp(head, "MZ", 2))
		return 0;
	ret = read_sections(file, get_le32(head + PE_OFFSET), part, err);
	if (ret <= 0)
		return ret;
	boot_file_part(file, part[S_LINUX].off, part[S_LINUX].len_bytes, kernel);
	for (int i = S_UCODE; i <= S_INITRD; i++)
		if (part[i].len_bytes)
			boot_file_part(file, part[i].off, part[i].len_bytes,
				       &k->initrd[k->ninitrds++]);
	ret = part[S_CMDLINE].len_bytes ? read_cmdline(file, &part[S_CMDLINE], &k->cmdline, err) :
					  0;
	return ret < 0 ? ret : 1;
}
