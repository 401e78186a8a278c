/*
 * object: see object.h and elf(5).
 *
 * The dynamic section names its strings by an address, as a loaded program sees it; the segment that
 * holds the address tells where they are in the file.
 */
#include "boot/pack/object.h"

#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/bytes.h"

#define PHDRS_MAX 512u
#define DYNAMIC_MAX (1u << 20)
#define STRINGS_MAX (16u << 20)

struct segment {
	uint32_t type;
	uint64_t off, addr, size;
};

struct reader {
	const struct pack_source *source;
	struct pack_object *out;
	struct segment *segments;
	unsigned nsegments;
	uint8_t *dynamic;
	size_t dynamic_len;
	struct err *err;
};

static int bad(const struct reader *r, const char *what)
{
	return err_set(r->err, ENOEXEC, "%s: %s", r->source->file.path, what);
}

/* Reads len_bytes at off, with a NUL behind them; the caller frees *data. */
static int part(const struct reader *r, uint64_t off, uint64_t len_bytes, void *data)
{
	char *bytes;
	int ret;

	/* Before memory is taken for it. */
	if (off > r->source->size_bytes || len_bytes > r->source->size_bytes - off)
		return bad(r, "is no program: truncated");
	bytes = malloc((size_t)len_bytes + 1);
	if (!bytes)
		return err_sys(r->err, ENOMEM, "%s", r->source->file.path);
	ret = pack_source_read(r->source, off, bytes, (size_t)len_bytes, r->err);
	if (ret) {
		free(bytes);
		return ret;
	}
	bytes[len_bytes] = 0;
	memcpy(data, &bytes, sizeof(bytes));
	return 0;
}

static uint64_t word(const struct reader *r, const uint8_t *at)
{
	return r->out->is64 ? get_le64(at) : get_le32(at);
}

#define FIELD(r, base, type, field)                                                                \
	((base) + ((r)->out->is64 ? offsetof(Elf64_##type, field) : offsetof(Elf32_##type, field)))

static int read_segments(struct reader *r)
{
	uint8_t head[sizeof(Elf64_Ehdr)] = { 0 }, *table;
	uint64_t size = r->source->size_bytes, off;
	unsigned n, entry, type;
	int ret = pack_source_read(r->source, 0, head, size < sizeof(head) ? size : sizeof(head),
				   r->err);

	if (ret)
		return ret;
	if (memcmp(head, ELFMAG, SELFMAG))
		return bad(r, "is no ELF program");
	r->out->is64 = head[EI_CLASS] == ELFCLASS64;
	if ((!r->out->is64 && head[EI_CLASS] != ELFCLASS32) || head[EI_DATA] != ELFDATA2LSB)
		return bad(r, "is no program for a little-endian processor");
	if (size < (r->out->is64 ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr)))
		return bad(r, "is no program: truncated");
	type = get_le16(head + offsetof(Elf64_Ehdr, e_type));
	r->out->machine = get_le16(head + offsetof(Elf64_Ehdr, e_machine));
	if (type != ET_EXEC && type != ET_DYN)
		return bad(r, "is no program: an ELF of another kind");
	off = word(r, FIELD(r, head, Ehdr, e_phoff));
	entry = get_le16(FIELD(r, head, Ehdr, e_phentsize));
	n = get_le16(FIELD(r, head, Ehdr, e_phnum));
	if (!n || n > PHDRS_MAX ||
	    entry != (r->out->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
		return bad(r, "is no program: its program headers are damaged");
	ret = part(r, off, (uint64_t)n * entry, &table);
	if (ret)
		return ret;
	r->segments = calloc(n, sizeof(*r->segments));
	if (!r->segments) {
		free(table);
		return err_sys(r->err, ENOMEM, "%s", r->source->file.path);
	}
	for (r->nsegments = 0; r->nsegments < n; r->nsegments++) {
		const uint8_t *at = table + r->nsegments * entry;

		r->segments[r->nsegments] = (struct segment){
			.type = get_le32(at + offsetof(Elf64_Phdr, p_type)),
			.off = word(r, FIELD(r, at, Phdr, p_offset)),
			.addr = word(r, FIELD(r, at, Phdr, p_vaddr)),
			.size = word(r, FIELD(r, at, Phdr, p_filesz)),
		};
	}
	free(table);
	return 0;
}

static const struct segment *find(const struct reader *r, uint32_t type)
{
	for (unsigned i = 0; i < r->nsegments; i++)
		if (r->segments[i].type == type)
			return &r->segments[i];
	return NULL;
}

static int read_interpreter(struct reader *r)
{
	const struct segment *s = find(r, PT_INTERP);
	int ret;

	if (!s)
		return 0;
	if (s->size > PATH_MAX)
		return bad(r, "is no program: the name of its interpreter is too long");
	ret = part(r, s->off, s->size, &r->out->interpreter);
	if (!ret && *r->out->interpreter != '/')
		ret = bad(r, "is no program: the name of its interpreter is no absolute path");
	return ret;
}

/* The i-th entry of the dynamic section. Returns false behind the last one. */
static bool dynamic_at(const struct reader *r, size_t i, uint64_t *tag, uint64_t *value)
{
	size_t size = r->out->is64 ? 8 : 4, at = i * 2 * size;

	if (at + 2 * size > r->dynamic_len)
		return false;
	*tag = word(r, r->dynamic + at);
	*value = word(r, r->dynamic + at + size);
	return *tag != DT_NULL;
}

static int read_strings(struct reader *r, uint64_t *len)
{
	uint64_t addr = 0, tag, value;

	*len = 0;
	for (size_t i = 0; dynamic_at(r, i, &tag, &value); i++) {
		addr = tag == DT_STRTAB ? value : addr;
		*len = tag == DT_STRSZ ? value : *len;
	}
	if (!*len)
		return 0;
	for (unsigned i = 0; i < r->nsegments; i++) {
		const struct segment *s = &r->segments[i];
		uint64_t at = addr - s->addr;

		if (s->type != PT_LOAD || addr < s->addr || at >= s->size)
			continue;
		if (*len > STRINGS_MAX || *len > s->size - at || s->off + at < s->off)
			break;
		return part(r, s->off + at, *len, &r->out->strings);
	}
	return bad(r, "is no program: the strings of its dynamic section are nowhere");
}

static int read_dynamic(struct reader *r)
{
	const struct segment *s = find(r, PT_DYNAMIC);
	uint64_t len = 0, tag, value;
	size_t n = 0;
	int ret;

	if (!s)
		return 0;
	if (s->size > DYNAMIC_MAX)
		return bad(r, "is no program: its dynamic section is too large");
	ret = part(r, s->off, s->size, &r->dynamic);
	r->dynamic_len = ret ? 0 : (size_t)s->size;
	if (!ret)
		ret = read_strings(r, &len);
	for (size_t i = 0; !ret && dynamic_at(r, i, &tag, &value); i++)
		n += tag == DT_NEEDED;
	if (!ret && n > PACK_NEEDED_MAX)
		ret = bad(r, "needs too many libraries");
	if (!ret && n && !(r->out->needed = calloc(n, sizeof(*r->out->needed))))
		ret = err_sys(r->err, ENOMEM, "%s", r->source->file.path);
	for (size_t i = 0; !ret && dynamic_at(r, i, &tag, &value); i++) {
		const char *string = value < len ? r->out->strings + value : NULL;

		if (tag != DT_NEEDED && tag != DT_RPATH && tag != DT_RUNPATH)
			continue;
		if (!string)
			ret = bad(r, "is no program: a name is outside of its strings");
		else if (tag == DT_NEEDED)
			r->out->needed[r->out->nneeded++] = string;
		else
			*(tag == DT_RPATH ? &r->out->rpath : &r->out->runpath) = string;
	}
	return ret;
}

int pack_object_read(const struct pack_source *source, struct pack_object *out, struct err *err)
{
	struct reader r = { .source = source, .out = out, .err = err };
	int ret;

	*out = (struct pack_object){ 0 };
	ret = read_segments(&r);
	if (!ret)
		ret = read_interpreter(&r);
	if (!ret)
		ret = read_dynamic(&r);
	free(r.segments);
	free(r.dynamic);
	if (ret)
		pack_object_free(out);
	return ret;
}

void pack_object_free(struct pack_object *object)
{
	free(object->interpreter);
	free(object->strings);
	free(object->needed);
	*object = (struct pack_object){ 0 };
}
