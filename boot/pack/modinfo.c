/* modinfo: finds a section in an ELF object; see modinfo.h and elf(5). */
#include "boot/pack/modinfo.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/bytes.h"

#define SECTIONS_MAX (1u << 17)
#define NAMES_MAX (16u << 20)

/* The part of a section header that matters; its fields are in the file's byte order. */
struct section {
	uint32_t name, type, link;
	uint64_t off, size;
};

static struct section section_at(const uint8_t *table, size_t i)
{
	const uint8_t *at = table + i * sizeof(Elf64_Shdr);

	return (struct section){
		.name = get_le32(at + offsetof(Elf64_Shdr, sh_name)),
		.type = get_le32(at + offsetof(Elf64_Shdr, sh_type)),
		.link = get_le32(at + offsetof(Elf64_Shdr, sh_link)),
		.off = get_le64(at + offsetof(Elf64_Shdr, sh_offset)),
		.size = get_le64(at + offsetof(Elf64_Shdr, sh_size)),
	};
}

static int bad(const struct pack_source *source, const char *what, struct err *err)
{
	return err_set(err, EINVAL, "module %s: %s", source->file.path, what);
}

/* Returns len_bytes of the source at off with a NUL behind them, or NULL with err filled. */
static void *part(const struct pack_source *source, uint64_t off, size_t len_bytes, int *ret,
		  struct err *err)
{
	char *data;

	/* Before memory is taken for it. */
	if (off > source->size_bytes || len_bytes > source->size_bytes - off) {
		*ret = bad(source, "is truncated: a section lies behind its end", err);
		return NULL;
	}
	data = malloc(len_bytes + 1);
	if (!data) {
		*ret = err_sys(err, ENOMEM, "module %s", source->file.path);
		return NULL;
	}
	*ret = pack_source_read(source, off, data, len_bytes, err);
	if (*ret) {
		free(data);
		return NULL;
	}
	data[len_bytes] = 0;
	return data;
}

/* Reads the section headers; after success the caller frees s->table. */
static int read_table(const struct pack_source *source, struct pack_sections *s, struct err *err)
{
	uint8_t head[sizeof(Elf64_Ehdr)];
	uint64_t off, n;
	uint32_t index;
	int ret = 0;

	if (source->size_bytes < sizeof(head))
		return bad(source, "is no kernel module: it is too short", err);
	ret = pack_source_read(source, 0, head, sizeof(head), err);
	if (ret)
		return ret;
	if (memcmp(head, ELFMAG, SELFMAG))
		return bad(source, "is no kernel module: it is no ELF file", err);
	if (head[EI_CLASS] != ELFCLASS64 || head[EI_DATA] != ELFDATA2LSB)
		return bad(source, "is not for a 64-bit little-endian processor", err);
	if (get_le16(head + offsetof(Elf64_Ehdr, e_type)) != ET_REL)
		return bad(source, "is no kernel module: it is no relocatable object", err);
	off = get_le64(head + offsetof(Elf64_Ehdr, e_shoff));
	n = get_le16(head + offsetof(Elf64_Ehdr, e_shnum));
	index = get_le16(head + offsetof(Elf64_Ehdr, e_shstrndx));
	if (!off || get_le16(head + offsetof(Elf64_Ehdr, e_shentsize)) != sizeof(Elf64_Shdr))
		return bad(source, "has no sections", err);
	if (!n || index == SHN_XINDEX) { /* then the first header holds them */
		struct section first;

		s->table = part(source, off, sizeof(Elf64_Shdr), &ret, err);
		if (!s->table)
			return ret;
		first = section_at(s->table, 0);
		free(s->table);
		s->table = NULL;
		n = n ? n : first.size;
		index = index == SHN_XINDEX ? first.link : index;
	}
	if (n > SECTIONS_MAX || index >= n)
		return bad(source, "has damaged section headers", err);
	s->table = part(source, off, (size_t)n * sizeof(Elf64_Shdr), &ret, err);
	s->count = s->table ? (size_t)n : 0;
	s->names_at = index;
	return ret;
}

int pack_sections_read(const struct pack_source *source, struct pack_sections *out, struct err *err)
{
	struct section names;
	int ret;

	*out = (struct pack_sections){ 0 };
	ret = read_table(source, out, err);
	if (ret)
		return ret;
	names = section_at(out->table, out->names_at);
	if (names.size > NAMES_MAX)
		ret = bad(source, "has damaged section headers", err);
	else
		out->names = part(source, names.off, (size_t)names.size, &ret, err);
	out->names_bytes = (size_t)names.size;
	if (ret)
		pack_sections_free(out);
	return ret;
}

void pack_sections_free(struct pack_sections *sections)
{
	free(sections->table);
	free(sections->names);
	*sections = (struct pack_sections){ 0 };
}

int pack_modinfo_read(const struct pack_source *source, struct pack_modinfo *out, struct err *err)
{
	struct section found = { 0 };
	struct pack_sections s;
	int ret = pack_sections_read(source, &s, err);

	*out = (struct pack_modinfo){ 0 };
	if (ret)
		return ret;
	for (size_t i = 0; i < s.count && found.type != SHT_PROGBITS; i++) {
		found = section_at(s.table, i);
		if (found.name >= s.names_bytes || strcmp(s.names + found.name, ".modinfo"))
			found.type = SHT_NULL;
	}
	pack_sections_free(&s);
	if (found.type != SHT_PROGBITS)
		return bad(source, "is no kernel module: it has no section .modinfo", err);
	if (found.size > PACK_MODINFO_MAX)
		return bad(source, "its section .modinfo has more than 1 MiB", err);
	out->text = part(source, found.off, (size_t)found.size, &ret, err);
	out->len_bytes = out->text ? (size_t)found.size : 0;
	return ret;
}

void pack_modinfo_free(struct pack_modinfo *info)
{
	free(info->text);
	*info = (struct pack_modinfo){ 0 };
}

const char *pack_modinfo_next(const struct pack_modinfo *info, const char *key, const char *prev)
{
	const char *at = prev ? prev + strlen(prev) + 1 : info->text;
	size_t len = strlen(key);

	for (; at && at < info->text + info->len_bytes; at += strlen(at) + 1)
		if (!strncmp(at, key, len) && at[len] == '=')
			return at + len + 1;
	return NULL;
}
