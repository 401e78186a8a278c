/*
 * strip: see strip.h, elf(5), and Linux's kernel/module/main.c for what a loader looks at.
 *
 * Theory of operation. Symbols, relocations and groups name a section by its index, so no section goes:
 * one with debug information becomes empty, of a kind without bytes (SHT_NOBITS) and without relocations,
 * which loaders pass over. The bytes of the other sections move together, and the headers follow them.
 */
#include "boot/pack/strip.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "boot/pack/modinfo.h"
#include "vmm/core/bytes.h"

#define ALIGN_MAX 65536u
/* MODULE_SIG_STRING of linux/module_signature.h; at the end of a file */
static const char signature[] = "~Module signature appended~\n";

#define AT(header, field) ((header) + offsetof(Elf64_Shdr, field))

static bool is_debug(const struct pack_sections *s, size_t i)
{
	static const char *const prefixes[] = { ".debug_", ".rela.debug_", ".zdebug_",
						".rela.zdebug_" };
	const uint8_t *header = s->table + i * sizeof(Elf64_Shdr);
	uint32_t name = get_le32(AT(header, sh_name));

	if (i == s->names_at || name >= s->names_bytes ||
	    get_le64(AT(header, sh_flags)) & SHF_ALLOC)
		return false;
	for (size_t n = 0; n < sizeof(prefixes) / sizeof(prefixes[0]); n++)
		if (!strncmp(s->names + name, prefixes[n], strlen(prefixes[n])))
			return true;
	return false;
}

static bool is_signed(const struct pack_source *module)
{
	char end[sizeof(signature) - 1];

	return module->size_bytes >= sizeof(end) &&
	       !pack_source_read(module, module->size_bytes - sizeof(end), end, sizeof(end),
				 NULL) &&
	       !memcmp(end, signature, sizeof(end));
}

static bool has_debug(const struct pack_sections *s)
{
	for (size_t i = 0; i < s->count; i++)
		if (is_debug(s, i))
			return true;
	return false;
}

/*
 * Writes the module to out, which has room for as many bytes as the file has. Returns its length; 0 if
 * the sections are not as a compiler makes them; or -errno.
 */
static int64_t rewrite(const struct pack_source *module, const struct pack_sections *s,
		       uint8_t *out, struct err *err)
{
	uint64_t at = sizeof(Elf64_Ehdr), room = module->size_bytes;
	int ret = pack_source_read(module, 0, out, sizeof(Elf64_Ehdr), err);

	if (ret)
		return ret;
	if (get_le16(out + offsetof(Elf64_Ehdr, e_phnum)))
		return 0;
	for (size_t i = 1; i < s->count; i++) {
		uint8_t *header = s->table + i * sizeof(Elf64_Shdr);
		uint32_t type = get_le32(AT(header, sh_type));
		uint64_t size = get_le64(AT(header, sh_size)),
			 off = get_le64(AT(header, sh_offset));
		uint64_t align = get_le64(AT(header, sh_addralign));

		align = align ? align : 1;
		if (align > ALIGN_MAX || align & (align - 1))
			return 0;
		if (is_debug(s, i)) {
			put_le32(AT(header, sh_type), SHT_NOBITS);
			put_le64(AT(header, sh_flags), 0);
			put_le64(AT(header, sh_size), 0);
			put_le32(AT(header, sh_link), 0);
			put_le32(AT(header, sh_info), 0);
			put_le64(AT(header, sh_entsize), 0);
			put_le64(AT(header, sh_offset), at);
			continue;
		}
		if (type == SHT_NULL)
			continue;
		at = (at + align - 1) & ~(align - 1);
		put_le64(AT(header, sh_offset), at);
		if (type == SHT_NOBITS)
			continue;
		/* Sections that share bytes could make more of them than there are. */
		if (at > room || size > room - at)
			return 0;
		ret = pack_source_read(module, off, out + at, (size_t)size, err);
		if (ret)
			return ret == -EINVAL ? 0 : ret;
		at += size;
	}
	at = (at + 7) & ~7ull;
	if (at > room || s->count * sizeof(Elf64_Shdr) > room - at)
		return 0;
	memcpy(out + at, s->table, s->count * sizeof(Elf64_Shdr));
	put_le64(out + offsetof(Elf64_Ehdr, e_shoff), at);
	return (int64_t)(at + s->count * sizeof(Elf64_Shdr));
}

int pack_strip_debug(const struct pack_source *module, uint8_t **out, size_t *len_bytes,
		     struct err *err)
{
	struct pack_sections s;
	int64_t len = 0;
	int ret = pack_sections_read(module, &s, NULL);

	*out = NULL;
	*len_bytes = 0;
	if (ret)
		return ret == -EINVAL ? 0 : err_sys(err, -ret, "module %s", module->file.path);
	if (!has_debug(&s) || is_signed(module) || module->size_bytes > PACK_MODULE_MAX)
		goto out;
	/* Gaps between sections are zeroes. */
	*out = calloc(1, (size_t)module->size_bytes);
	len = *out ? rewrite(module, &s, *out, err) :
		     err_sys(err, ENOMEM, "module %s", module->file.path);
	if (len <= 0) {
		free(*out);
		*out = NULL;
	}
	*len_bytes = len > 0 ? (size_t)len : 0;
out:
	pack_sections_free(&s);
	return len < 0 ? (int)len : 0;
}
