/* fat/read: see read.h. */
#include "devices/backend/fat/read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "vmm/core/bytes.h"

#define ENTRY_BYTES 32u
#define DIR_MAX 65536u /* entries: 2 MiB, as the specification says */
#define LONG_MAX_UNITS (20u * 13u)
#define WINDOW_BYTES 4096u
#define PIECE_BYTES (256u << 10)

#define ATTR_READONLY 0x01
#define ATTR_LABEL 0x08
#define ATTR_DIR 0x10
#define ATTR_LONG 0x0f
#define ATTR_MASK 0x3f

struct fat_volume {
	fat_read_source source;
	void *opaque;
	uint64_t len_bytes;
	unsigned bits;
	uint32_t cluster_bytes, end, root;
	uint64_t fat_at, fat_bytes;   /* the first FAT */
	uint64_t root_at, root_bytes; /* of a fixed root */
	uint64_t data_at;	      /* of cluster 2 */
	uint32_t serial;
	char label[12];
	/* a window of the FAT */
	uint64_t window_at;
	uint32_t window_bytes; /* 0: not read yet */
	uint8_t window[WINDOW_BYTES];
};

/* --- the boot sector ------------------------------------------------------------ */

static void read_tail(struct fat_volume *v, const uint8_t *tail)
{
	unsigned n = 11;

	if (tail[2] != 0x29)
		return;
	v->serial = get_le32(tail + 3);
	for (unsigned i = 0; i < n; i++)
		v->label[i] = tail[7 + i] < ' ' || tail[7 + i] > '~' ? '?' : (char)tail[7 + i];
	while (n && v->label[n - 1] == ' ')
		n--;
	v->label[n] = 0;
	if (!strcmp(v->label, "NO NAME"))
		v->label[0] = 0;
}

static const char *read_boot(struct fat_volume *v, const uint8_t *b)
{
	uint32_t sector = get_le16(b + 11), per = b[13], reserved = get_le16(b + 14), nfats = b[16];
	uint32_t roots = get_le16(b + 17), all16 = get_le16(b + 19), fat16 = get_le16(b + 22);
	uint64_t sectors = all16 ? all16 : get_le32(b + 32);
	uint64_t fat = fat16 ? fat16 : get_le32(b + 36), start, clusters;

	if (sector < 512 || sector > 4096 || sector & (sector - 1))
		return "its sectors have no valid size";
	if (!per || per & (per - 1))
		return "its clusters have no valid size";
	if (!reserved || !nfats || !fat)
		return "it has no FAT";
	if (sectors > v->len_bytes / sector)
		return "it is longer than its disk or partition";
	v->root_bytes = ((uint64_t)roots * ENTRY_BYTES + sector - 1) / sector * sector;
	start = reserved + nfats * fat + v->root_bytes / sector;
	if (start >= sectors)
		return "it has no room for files";
	clusters = (sectors - start) / per;
	v->bits = clusters < 4085 ? 12 : clusters < 65525 ? 16 : 32;
	if ((v->bits == 32) != !fat16 || (v->bits == 32) != !roots || clusters > 0x0ffffff5)
		return "the number of its clusters does not fit";
	v->cluster_bytes = sector * per;
	v->end = (uint32_t)clusters + 2;
	v->fat_at = (uint64_t)reserved * sector;
	v->fat_bytes = fat * sector;
	if (v->fat_bytes * 8 < (uint64_t)v->end * v->bits)
		return "its FAT is too short";
	v->root_at = (reserved + nfats * fat) * (uint64_t)sector;
	v->root_bytes = (uint64_t)roots * ENTRY_BYTES;
	v->data_at = start * sector;
	v->root = v->bits == 32 ? get_le32(b + 44) & 0x0fffffff : 0;
	if (v->bits == 32 && (v->root < 2 || v->root >= v->end))
		return "its root is none of its clusters";
	read_tail(v, b + (v->bits == 32 ? 64 : 36));
	return NULL;
}

int fat_volume_open(fat_read_source source, void *opaque, uint64_t len_bytes,
		    struct fat_volume **out, const char **why)
{
	struct fat_volume *v = calloc(1, sizeof(*v));
	uint8_t boot[512];
	int rc = v ? 0 : -ENOMEM;

	*out = NULL;
	*why = NULL;
	if (!rc && len_bytes < sizeof(boot)) {
		*why = "it is shorter than a sector";
		rc = -EINVAL;
	}
	if (!rc)
		rc = source(opaque, 0, boot, sizeof(boot));
	if (!rc) {
		v->source = source;
		v->opaque = opaque;
		v->len_bytes = len_bytes;
		*why = get_le16(boot + 510) == 0xaa55 ? read_boot(v, boot) :
							"it has no boot sector";
		rc = *why ? -EINVAL : 0;
	}
	if (rc) {
		free(v);
		return rc;
	}
	*out = v;
	return 0;
}

void fat_volume_close(struct fat_volume *v)
{
	free(v);
}

unsigned fat_volume_bits(const struct fat_volume *v)
{
	return v->bits;
}

uint32_t fat_volume_end(const struct fat_volume *v)
{
	return v->end;
}

uint32_t fat_volume_root(const struct fat_volume *v)
{
	return v->root;
}

const char *fat_volume_label(const struct fat_volume *v)
{
	return v->label;
}

uint32_t fat_volume_serial(const struct fat_volume *v)
{
	return v->serial;
}

/* --- chains ------------------------------------------------------------------------ */

static int fat_byte(struct fat_volume *v, uint64_t at, uint8_t *out)
{
	uint64_t base = at & ~(uint64_t)(WINDOW_BYTES - 1);

	if (!v->window_bytes || v->window_at != base) {
		uint64_t left = v->fat_bytes - base;
		uint32_t n = left < WINDOW_BYTES ? (uint32_t)left : WINDOW_BYTES;
		int rc = v->source(v->opaque, v->fat_at + base, v->window, n);

		v->window_bytes = rc ? 0 : n;
		v->window_at = base;
		if (rc)
			return rc;
	}
	*out = v->window[at - base];
	return 0;
}

/* The FAT's entry of a cluster below end. */
static int link_of(struct fat_volume *v, uint32_t n, uint32_t *out)
{
	unsigned len = v->bits == 32 ? 4 : 2;
	uint64_t at = (uint64_t)n * v->bits / 8;
	uint8_t b[4] = { 0 };
	int rc = 0;

	for (unsigned i = 0; !rc && i < len; i++)
		rc = fat_byte(v, at + i, &b[i]);
	*out = get_le32(b);
	if (v->bits == 32)
		*out &= 0x0fffffff;
	else if (v->bits == 12)
		*out = n & 1 ? *out >> 4 : *out & 0xfff;
	return rc;
}

static bool is_cluster(const struct fat_volume *v, uint32_t n)
{
	return n >= 2 && n < v->end;
}

/* Moves *at to the next cluster; 0: there is none. -EIO: the chain is broken. */
static int next_cluster(struct fat_volume *v, uint32_t *at)
{
	uint32_t last = v->bits == 32 ? 0x0ffffff8 : v->bits == 16 ? 0xfff8 : 0xff8;
	int rc = link_of(v, *at, at);

	if (rc)
		return rc;
	if (*at >= last)
		*at = 0;
	return !*at || is_cluster(v, *at) ? 0 : -EIO;
}

bool fat_volume_dirty(struct fat_volume *v)
{
	uint32_t link;

	if (v->bits == 12 || link_of(v, 1, &link))
		return false;
	return !(link & (v->bits == 32 ? 1u << 27 : 1u << 15));
}

static uint64_t place_of(const struct fat_volume *v, uint32_t n)
{
	return v->data_at + (uint64_t)(n - 2) * v->cluster_bytes;
}

int fat_volume_read(struct fat_volume *v, uint32_t first, uint32_t len_bytes, fat_bytes_fn fn,
		    void *opaque)
{
	uint8_t *piece = len_bytes ? malloc(PIECE_BYTES) : NULL;
	uint64_t done = 0;
	uint32_t at = first;
	int rc = len_bytes && !piece ? -ENOMEM : 0;

	while (!rc && done < len_bytes) {
		uint64_t from, run = v->cluster_bytes;
		uint32_t n = at;

		if (!is_cluster(v, at)) {
			rc = -EIO;
			break;
		}
		from = place_of(v, at);
		/* Clusters that follow one another are read at once. */
		while (!rc) {
			rc = done + run < len_bytes ? next_cluster(v, &at) : 0;
			if (rc || done + run >= len_bytes || at != n + 1 ||
			    run + v->cluster_bytes > PIECE_BYTES)
				break;
			n = at;
			run += v->cluster_bytes;
		}
		for (uint64_t part = 0; !rc && part < run && done < len_bytes;) {
			uint64_t len = run - part < PIECE_BYTES ? run - part : PIECE_BYTES;

			len = len < len_bytes - done ? len : len_bytes - done;
			rc = v->source(v->opaque, from + part, piece, len);
			if (!rc)
				rc = fn(opaque, done, piece, len);
			part += len;
			done += len;
		}
	}
	free(piece);
	return rc;
}

/* --- names ------------------------------------------------------------------------- */

/* Code page 437, which Linux and DOS take for an alias's bytes from 0x80 on. */
static const uint16_t cp437[128] = {
	0x00c7, 0x00fc, 0x00e9, 0x00e2, 0x00e4, 0x00e0, 0x00e5, 0x00e7, 0x00ea, 0x00eb, 0x00e8,
	0x00ef, 0x00ee, 0x00ec, 0x00c4, 0x00c5, 0x00c9, 0x00e6, 0x00c6, 0x00f4, 0x00f6, 0x00f2,
	0x00fb, 0x00f9, 0x00ff, 0x00d6, 0x00dc, 0x00a2, 0x00a3, 0x00a5, 0x20a7, 0x0192, 0x00e1,
	0x00ed, 0x00f3, 0x00fa, 0x00f1, 0x00d1, 0x00aa, 0x00ba, 0x00bf, 0x2310, 0x00ac, 0x00bd,
	0x00bc, 0x00a1, 0x00ab, 0x00bb, 0x2591, 0x2592, 0x2593, 0x2502, 0x2524, 0x2561, 0x2562,
	0x2556, 0x2555, 0x2563, 0x2551, 0x2557, 0x255d, 0x255c, 0x255b, 0x2510, 0x2514, 0x2534,
	0x252c, 0x251c, 0x2500, 0x253c, 0x255e, 0x255f, 0x255a, 0x2554, 0x2569, 0x2566, 0x2560,
	0x2550, 0x256c, 0x2567, 0x2568, 0x2564, 0x2565, 0x2559, 0x2558, 0x2552, 0x2553, 0x256b,
	0x256a, 0x2518, 0x250c, 0x2588, 0x2584, 0x258c, 0x2590, 0x2580, 0x03b1, 0x00df, 0x0393,
	0x03c0, 0x03a3, 0x03c3, 0x00b5, 0x03c4, 0x03a6, 0x0398, 0x03a9, 0x03b4, 0x221e, 0x03c6,
	0x03b5, 0x2229, 0x2261, 0x00b1, 0x2265, 0x2264, 0x2320, 0x2321, 0x00f7, 0x2248, 0x00b0,
	0x2219, 0x00b7, 0x221a, 0x207f, 0x00b2, 0x25a0, 0x00a0,
};

/* Appends a character, or a '?' for one that no name may have. Returns the new end. */
static char *put_char(char *to, uint32_t c)
{
	if (c < ' ' || c == '/' || (c >= 0x7f && c < 0xa0) || (c >= 0xd800 && c < 0xe000))
		c = '?';
	if (c < 0x80) {
		*to++ = (char)c;
	} else if (c < 0x800) {
		*to++ = (char)(0xc0 | c >> 6);
		*to++ = (char)(0x80 | (c & 63));
	} else if (c < 0x10000) {
		*to++ = (char)(0xe0 | c >> 12);
		*to++ = (char)(0x80 | (c >> 6 & 63));
		*to++ = (char)(0x80 | (c & 63));
	} else {
		*to++ = (char)(0xf0 | c >> 18);
		*to++ = (char)(0x80 | (c >> 12 & 63));
		*to++ = (char)(0x80 | (c >> 6 & 63));
		*to++ = (char)(0x80 | (c & 63));
	}
	return to;
}

/* "." and "..", and an empty name, are no names. */
static void settle_name(char *name)
{
	if (!name[0] || !strcmp(name, ".") || !strcmp(name, ".."))
		strcpy(name, "?");
}

static char *put_alias(char *to, const uint8_t *from, unsigned n, bool lower)
{
	while (n && from[n - 1] == ' ')
		n--;
	for (unsigned i = 0; i < n; i++) {
		uint32_t c = from[i];

		if (c >= 0x80)
			c = cp437[c - 0x80];
		else if (lower && c >= 'A' && c <= 'Z')
			c += 'a' - 'A';
		to = put_char(to, c);
	}
	return to;
}

static void alias_text(const uint8_t *e, char *out)
{
	uint8_t name[8];
	char *to, *dot;

	memcpy(name, e, 8);
	if (name[0] == 0x05)
		name[0] = 0xe5;
	/* Windows NT's flags for names that are all small. */
	to = dot = put_alias(out, name, 8, e[12] & 0x08);
	*to++ = '.';
	to = put_alias(to, e + 8, 3, e[12] & 0x10);
	*(to == dot + 1 ? dot : to) = 0;
	settle_name(out);
}

/* The pieces of a long name, which stand before the entry that they belong to, the last one first. */
struct long_name {
	uint16_t wide[LONG_MAX_UNITS];
	unsigned total, left; /* pieces; total 0: there is none */
	uint8_t sum;
};

static void take_piece(struct long_name *l, const uint8_t *e)
{
	static const uint8_t places[] = { 1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30 };
	unsigned piece = e[0] & 0x3f;

	if (e[0] & 0x40) {
		l->total = l->left = piece <= 20 ? piece : 0;
		l->sum = e[13];
	}
	if (!piece || piece != l->left || e[13] != l->sum) {
		l->total = 0;
		return;
	}
	for (unsigned i = 0; i < 13; i++)
		l->wide[(piece - 1) * 13 + i] = get_le16(e + places[i]);
	l->left--;
}

/* Writes the long name, if it is whole and belongs to the entry. */
static bool long_text(const struct long_name *l, const uint8_t *e, char *out)
{
	unsigned n = 0, max = l->total * 13 < 255 ? l->total * 13 : 255;
	uint8_t sum = 0;

	for (unsigned i = 0; i < 11; i++)
		sum = (uint8_t)(((sum & 1) << 7) + (sum >> 1) + e[i]);
	if (!l->total || l->left || l->sum != sum)
		return false;
	while (n < max && l->wide[n])
		n++;
	for (unsigned i = 0; i < n; i++) {
		uint32_t c = l->wide[i];

		if (c >= 0xd800 && c < 0xdc00 && i + 1 < n && (l->wide[i + 1] & 0xfc00) == 0xdc00)
			c = 0x10000 + ((c - 0xd800) << 10) + (l->wide[++i] - 0xdc00u);
		out = put_char(out, c);
	}
	*out = 0;
	return n;
}

bool fat_item_is(const struct fat_item *item, const char *name, size_t len)
{
	return (strlen(item->name) == len && !strncasecmp(item->name, name, len)) ||
	       (strlen(item->alias) == len && !strncasecmp(item->alias, name, len));
}

/* --- folders ----------------------------------------------------------------------- */

static int64_t time_of(const uint8_t *e)
{
	unsigned clock = get_le16(e + 22), date = get_le16(e + 24);
	struct tm tm = { .tm_year = (int)(date >> 9) + 80,
			 .tm_mon = (int)(date >> 5 & 15) - 1,
			 .tm_mday = (int)(date & 31),
			 .tm_hour = (int)(clock >> 11),
			 .tm_min = (int)(clock >> 5 & 63),
			 .tm_sec = (int)(clock & 31) * 2 };

	/* No date at all: the first of FAT's. */
	if (!(date >> 5 & 15) || !(date & 31))
		tm = (struct tm){ .tm_year = 80, .tm_mday = 1 };
	return timegm(&tm);
}

struct listing {
	struct fat_volume *v;
	struct long_name name;
	struct fat_item item;
	fat_item_fn fn;
	void *opaque;
	unsigned nentries;
	bool over;
};

static int take_entry(struct listing *l, const uint8_t *e)
{
	struct fat_item *item = &l->item;
	uint8_t attr = e[11] & ATTR_MASK;
	int rc = 0;

	if (!e[0]) {
		l->over = true;
		return 0;
	}
	if (e[0] != 0xe5 && attr == ATTR_LONG) {
		take_piece(&l->name, e);
		return 0;
	}
	if (e[0] != 0xe5 && !(attr & ATTR_LABEL) && memcmp(e, ".          ", 11) &&
	    memcmp(e, "..         ", 11)) {
		alias_text(e, item->alias);
		if (long_text(&l->name, e, item->name))
			settle_name(item->name);
		else
			strcpy(item->name, item->alias);
		item->dir = attr & ATTR_DIR;
		item->readonly = attr & ATTR_READONLY;
		item->len_bytes = item->dir ? 0 : get_le32(e + 28);
		item->first = get_le16(e + 26);
		if (l->v->bits == 32)
			item->first |= (uint32_t)get_le16(e + 20) << 16;
		item->broken = (item->dir || item->len_bytes) && !is_cluster(l->v, item->first);
		item->mtime_s = time_of(e);
		rc = l->fn(l->opaque, item);
	}
	l->name.total = 0;
	return rc;
}

/* The entries of len bytes of a folder. */
static int take_entries(struct listing *l, uint64_t at, uint64_t len)
{
	uint8_t buf[4096];
	int rc = 0;

	for (uint64_t done = 0; !rc && !l->over && done < len;) {
		size_t part = len - done < sizeof(buf) ? (size_t)(len - done) : sizeof(buf);

		rc = l->v->source(l->v->opaque, at + done, buf, part);
		for (size_t i = 0; !rc && !l->over && i + ENTRY_BYTES <= part; i += ENTRY_BYTES) {
			if (l->nentries++ == DIR_MAX)
				return -EIO;
			rc = take_entry(l, buf + i);
		}
		done += part;
	}
	return rc;
}

int fat_volume_list(struct fat_volume *v, uint32_t first, fat_item_fn fn, void *opaque)
{
	struct listing *l = calloc(1, sizeof(*l));
	int rc = l ? 0 : -ENOMEM;

	if (l)
		*l = (struct listing){ .v = v, .fn = fn, .opaque = opaque };
	if (!rc && !first && !v->root)
		rc = take_entries(l, v->root_at, v->root_bytes);
	else if (!rc && !is_cluster(v, first))
		rc = -EIO;
	while (!rc && first && !l->over) {
		rc = take_entries(l, place_of(v, first), v->cluster_bytes);
		if (!rc && !l->over)
			rc = next_cluster(v, &first);
	}
	free(l);
	return rc;
}
