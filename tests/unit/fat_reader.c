/* fat_reader: see fat_reader.h. */
#include "tests/unit/fat_reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/bytes.h"

__attribute__((format(printf, 2, 3))) static bool bad(struct fat_seen *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s->fault, sizeof(s->fault), fmt, ap);
	va_end(ap);
	return false;
}

static uint32_t link_of(const struct fat_seen *s, unsigned copy, uint32_t n)
{
	const uint8_t *fat = s->img + (s->reserved + (uint64_t)copy * s->fat_sectors) * 512;

	if (s->bits == 32)
		return get_le32(fat + n * 4ull) & 0x0fffffff;
	if (s->bits == 16)
		return get_le16(fat + n * 2ull);
	return n & 1 ? get_le16(fat + n * 3ull / 2) >> 4 : get_le16(fat + n * 3ull / 2) & 0xfff;
}

static bool is_end(const struct fat_seen *s, uint32_t link)
{
	return link >= (s->bits == 32 ? 0x0ffffff8u : s->bits == 16 ? 0xfff8u : 0xff8u);
}

static const uint8_t *cluster_at(const struct fat_seen *s, uint32_t n)
{
	return s->img + s->data_start * 512ull + (n - 2) * (uint64_t)s->cluster_bytes;
}

static void trim(char *to, const uint8_t *from, unsigned n)
{
	memcpy(to, from, n);
	while (n && to[n - 1] == ' ')
		n--;
	to[n] = 0;
}

static bool read_boot(struct fat_seen *s)
{
	const uint8_t *b = s->img, *tail;
	uint64_t sectors, start;
	uint32_t total16 = get_le16(b + 19), fat16 = get_le16(b + 22);

	if (s->len < 512 || get_le16(b + 510) != 0xaa55 || (b[0] != 0xeb && b[0] != 0xe9))
		return bad(s, "no boot sector");
	if (get_le16(b + 11) != 512 || !b[13] || b[13] & (b[13] - 1) || b[16] != 2 || b[21] != 0xf8)
		return bad(s, "parameter block");
	s->cluster_bytes = b[13] * 512u;
	s->reserved = get_le16(b + 14);
	s->root_entries = get_le16(b + 17);
	sectors = total16 ? total16 : get_le32(b + 32);
	s->fat_sectors = fat16 ? fat16 : get_le32(b + 36);
	if (!s->reserved || s->root_entries % 16 || sectors * 512 > s->len)
		return bad(s, "parameter block: sizes");
	if (sectors % get_le16(b + 24))
		return bad(s, "not whole tracks");
	start = s->reserved + 2ull * s->fat_sectors + s->root_entries / 16;
	if (start >= sectors)
		return bad(s, "no data area");
	s->data_start = (uint32_t)start;
	s->clusters = (uint32_t)((sectors - start) / b[13]);
	s->bits = s->clusters < 4085 ? 12 : s->clusters < 65525 ? 16 : 32;
	if ((s->clusters > 4085 - 17 && s->clusters < 4085 + 16) ||
	    (s->clusters > 65525 - 17 && s->clusters < 65525 + 16))
		return bad(s, "%u clusters are too near to a limit", s->clusters);
	if ((s->bits == 32) != !fat16 || (s->bits == 32) != !s->root_entries)
		return bad(s, "FAT%u and not laid out as such", s->bits);
	if ((uint64_t)s->fat_sectors * 512 * 8 < (s->clusters + 2ull) * s->bits)
		return bad(s, "the FAT is too small");
	tail = b + (s->bits == 32 ? 64 : 36);
	if (tail[2] != 0x29)
		return bad(s, "no serial number");
	s->serial = get_le32(tail + 3);
	trim(s->label, tail + 7, 11);
	if (memcmp(tail + 18,
		   s->bits == 12 ? "FAT12   " :
		   s->bits == 16 ? "FAT16   " :
				   "FAT32   ",
		   8))
		return bad(s, "file system's name");
	if (s->bits != 32)
		return true;
	s->root_cluster = get_le32(b + 44);
	if (memcmp(b, b + 512 * get_le16(b + 50), 1024))
		return bad(s, "the backup boot sector differs");
	return get_le32(b + 512 * get_le16(b + 48)) == 0x41615252 ? true : bad(s, "no FSInfo");
}

/* Marks the chain's clusters as used. Returns its length in clusters, or 0 and a fault. */
static uint32_t walk(struct fat_seen *s, uint32_t first, const char *who)
{
	uint32_t n = 0, at = first;

	for (;;) {
		uint32_t link;

		if (at < 2 || at >= s->clusters + 2)
			return bad(s, "%s: cluster %u of %u", who, at, s->clusters);
		if (s->owned[at])
			return bad(s, "%s: cluster %u is another's", who, at);
		s->owned[at] = 1;
		n++;
		link = link_of(s, 0, at);
		if (is_end(s, link))
			break;
		at = link;
	}
	s->used += n;
	return n;
}

static char *to_utf8(const uint16_t *wide, unsigned n)
{
	char *out = malloc(n * 3 + 1), *p = out;

	for (unsigned i = 0; i < n; i++) {
		uint32_t c = wide[i];

		if (c >= 0xd800 && c < 0xdc00 && i + 1 < n)
			c = 0x10000 + ((c - 0xd800) << 10) + (wide[++i] - 0xdc00u);
		if (c < 0x80) {
			*p++ = (char)c;
		} else if (c < 0x800) {
			*p++ = (char)(0xc0 | c >> 6);
			*p++ = (char)(0x80 | (c & 63));
		} else if (c < 0x10000) {
			*p++ = (char)(0xe0 | c >> 12);
			*p++ = (char)(0x80 | (c >> 6 & 63));
			*p++ = (char)(0x80 | (c & 63));
		} else {
			*p++ = (char)(0xf0 | c >> 18);
			*p++ = (char)(0x80 | (c >> 12 & 63));
			*p++ = (char)(0x80 | (c >> 6 & 63));
			*p++ = (char)(0x80 | (c & 63));
		}
	}
	*p = 0;
	return out;
}

static bool alias_text(struct fat_seen *s, const uint8_t *e, char *out)
{
	char base[9], ext[4];

	for (unsigned i = 0; i < 11; i++)
		if (e[i] < ' ' || e[i] > '~' || strchr("\"*+,./:;<=>?[\\]|", e[i]) ||
		    (e[i] >= 'a' && e[i] <= 'z'))
			return bad(s, "alias with byte %02x", e[i]);
	trim(base, e, 8);
	trim(ext, e + 8, 3);
	if (!base[0] || strchr(base, ' ') || strchr(ext, ' '))
		return bad(s, "alias with a space");
	snprintf(out, 13, "%s%s%s", base, ext[0] ? "." : "", ext);
	return true;
}

struct long_name {
	uint16_t wide[260];
	unsigned pieces; /* entries still expected; 0: none begun, or complete */
	unsigned total;
	uint8_t sum;
};

static bool take_long(struct fat_seen *s, struct long_name *l, const uint8_t *e)
{
	static const uint8_t places[] = { 1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30 };
	unsigned piece = e[0] & 0x3f;

	if (e[0] & 0x40) {
		if (l->total)
			return bad(s, "a long name inside another");
		l->total = l->pieces = piece;
		l->sum = e[13];
	}
	if (!piece || piece != l->pieces || piece > 20 || e[13] != l->sum || e[12] ||
	    get_le16(e + 26))
		return bad(s, "long name's piece %u", piece);
	for (unsigned i = 0; i < 13; i++)
		l->wide[(piece - 1) * 13 + i] = (uint16_t)get_le16(e + places[i]);
	l->pieces--;
	return true;
}

static uint8_t sum_of(const uint8_t *e)
{
	uint8_t sum = 0;

	for (unsigned i = 0; i < 11; i++)
		sum = (uint8_t)(((sum & 1) << 7) + (sum >> 1) + e[i]);
	return sum;
}

static bool read_folder(struct fat_seen *s, uint32_t first, uint32_t parent, const char *path);

static bool take_entry(struct fat_seen *s, struct long_name *l, const uint8_t *e, uint32_t dir,
		       const char *path)
{
	struct fat_found f = { .dir = e[11] & 0x10,
			       .size = get_le32(e + 28),
			       .first = get_le16(e + 26) | (uint32_t)get_le16(e + 20) << 16,
			       .date = (uint16_t)get_le16(e + 24),
			       .time = (uint16_t)get_le16(e + 22),
			       .tenths = e[13] };
	char *name, *full;
	unsigned n = 0;
	uint32_t got;

	if (!alias_text(s, e, f.alias))
		return false;
	if (l->total) {
		if (l->pieces || l->sum != sum_of(e))
			return bad(s, "long name does not belong to %s", f.alias);
		while (n < l->total * 13 && l->wide[n])
			n++;
		for (unsigned i = n + 1; i < l->total * 13; i++)
			if (l->wide[i] != 0xffff)
				return bad(s, "%s: padding", f.alias);
		if (!n || n > 255 || l->total != (n + 12) / 13)
			return bad(s, "%s: %u characters in %u pieces", f.alias, n, l->total);
		name = to_utf8(l->wide, n);
	} else {
		name = strdup(f.alias);
	}
	full = malloc(strlen(path) + strlen(name) + 2);
	sprintf(full, "%s%s%s", path, *path ? "/" : "", name);
	free(name);
	f.path = full;
	for (size_t i = 0; i < s->nfiles; i++)
		if (!strcmp(s->file[i].path, full))
			bad(s, "%s: twice", full);
	s->file = realloc(s->file, (s->nfiles + 1) * sizeof(f));
	s->file[s->nfiles++] = f;
	if (s->fault[0])
		return false;
	if (f.dir)
		return f.size ? bad(s, "%s: a folder with a size", full) :
				read_folder(s, f.first, dir, full);
	if (!f.size)
		return f.first ? bad(s, "%s: empty, with a cluster", full) : true;
	got = walk(s, f.first, full);
	if (got && got != (f.size + (uint64_t)s->cluster_bytes - 1) / s->cluster_bytes)
		return bad(s, "%s: %u bytes in %u clusters", full, f.size, got);
	return got;
}

/* Returns entry i of the folder that begins at cluster first (0: the fixed root), or NULL. */
static const uint8_t *entry_at(const struct fat_seen *s, uint32_t first, uint32_t i)
{
	uint32_t per = s->cluster_bytes / 32;

	if (!first)
		return i < s->root_entries ?
			       s->img + (s->data_start - s->root_entries / 16) * 512ull +
				       i * 32ull :
			       NULL;
	for (; i >= per; i -= per) {
		first = link_of(s, 0, first);
		if (is_end(s, first))
			return NULL;
	}
	return cluster_at(s, first) + i * 32ull;
}

/* Checks that every alias is unique, also against long names that look like an alias. */
static bool aliases_differ(struct fat_seen *s, uint32_t first)
{
	const uint8_t *a, *b;

	for (uint32_t i = 0; (a = entry_at(s, first, i)) && a[0]; i++)
		for (uint32_t j = 0; a[11] != 0x0f && i < 300 && j < i; j++) {
			b = entry_at(s, first, j);
			if (b[11] != 0x0f && !(b[11] & 8) && !(a[11] & 8) && !memcmp(a, b, 11))
				return bad(s, "alias %.11s twice", a);
		}
	return true;
}

static bool read_folder(struct fat_seen *s, uint32_t first, uint32_t parent, const char *path)
{
	struct long_name l = { .total = 0 };
	const uint8_t *e;
	uint32_t i = 0;

	if (first && !walk(s, first, *path ? path : "root"))
		return false;
	if (*path) {
		e = entry_at(s, first, 0);
		if (memcmp(e, ".          \x10", 12) ||
		    (get_le16(e + 26) | (uint32_t)get_le16(e + 20) << 16) != first)
			return bad(s, "%s: .", path);
		e = entry_at(s, first, 1);
		if (memcmp(e, "..         \x10", 12) ||
		    (get_le16(e + 26) | (uint32_t)get_le16(e + 20) << 16) !=
			    (parent == s->root_cluster ? 0 : parent))
			return bad(s, "%s: ..", path);
		i = 2;
	}
	for (; (e = entry_at(s, first, i)) && e[0]; i++) {
		if (e[11] == 0x0f) {
			if (!take_long(s, &l, e))
				return false;
			continue;
		}
		if (e[11] == 0x08) {
			if (*path || s->root_label[0] || l.total)
				return bad(s, "a label in %s", path);
			trim(s->root_label, e, 11);
			continue;
		}
		if (e[11] != 0x10 && e[11] != 0x20)
			return bad(s, "%s: attributes %02x", path, e[11]);
		if (!take_entry(s, &l, e, first, path))
			return false;
		l = (struct long_name){ .total = 0 };
	}
	return l.total ? bad(s, "%s: half a long name", path) : aliases_differ(s, first);
}

bool fat_read_image(struct fat_seen *s, const void *img, uint64_t len)
{
	*s = (struct fat_seen){ .img = img, .len = len };
	if (!read_boot(s))
		return false;
	if (memcmp(s->img + s->reserved * 512ull, s->img + (s->reserved + s->fat_sectors) * 512ull,
		   s->fat_sectors * 512ull))
		return bad(s, "the two FATs differ");
	if ((link_of(s, 0, 0) & 0xff) != 0xf8 || !is_end(s, link_of(s, 0, 1)))
		return bad(s, "the FAT's first entries");
	s->owned = calloc(s->clusters + 2ull, 1);
	if (!read_folder(s, s->root_cluster, s->root_cluster, ""))
		return false;
	for (uint32_t i = 2; i < s->clusters + 2; i++)
		if (!s->owned[i] && link_of(s, 0, i))
			return bad(s, "cluster %u is lost", i);
	if (strcmp(s->label, s->root_label[0] ? s->root_label : "NO NAME"))
		return bad(s, "labels \"%s\" and \"%s\"", s->label, s->root_label);
	if (s->bits == 32 && get_le32(s->img + 512 + 488) != s->clusters - s->used)
		return bad(s, "FSInfo's free clusters");
	return true;
}

void fat_seen_clear(struct fat_seen *s)
{
	for (size_t i = 0; i < s->nfiles; i++)
		free(s->file[i].path);
	free(s->file);
	free(s->owned);
	memset(s, 0, sizeof(*s));
}

const struct fat_found *fat_seen_find(const struct fat_seen *s, const char *path)
{
	for (size_t i = 0; i < s->nfiles; i++)
		if (!strcmp(s->file[i].path, path))
			return &s->file[i];
	return NULL;
}

uint8_t fat_seen_byte(const struct fat_seen *s, const struct fat_found *file, uint32_t at)
{
	uint32_t n = file->first;

	for (uint32_t skip = at / s->cluster_bytes; skip; skip--)
		n = link_of(s, 0, n);
	return cluster_at(s, n)[at % s->cluster_bytes];
}
