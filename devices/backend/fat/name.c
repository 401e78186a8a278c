/*
 * fat/name: which names FAT can hold, and the 8.3 alias of each. See fat.h.
 *
 * Long names are UTF-16. Every name also has an alias of 8 and 3 characters, unique in its folder.
 * If the name itself is 8.3, it is the alias. Otherwise the alias consists of the name's letters, a
 * tilde and a number; if the first few are taken, it contains a part of a checksum.
 */
#include "devices/backend/fat/fat_impl.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "vmm/core/parse.h"

#define TAILS_IN_TURN 4u /* NAME~1 to NAME~4, as other systems do */
#define PRINT_BYTES 240u

static const char *char_fault(int32_t c)
{
	static const char *const faults[] = {
		['"'] = "has a \", which FAT cannot hold",
		['*'] = "has a *, which FAT cannot hold",
		['/'] = "has a /, which FAT cannot hold",
		[':'] = "has a :, which FAT cannot hold",
		['<'] = "has a <, which FAT cannot hold",
		['>'] = "has a >, which FAT cannot hold",
		['?'] = "has a ?, which FAT cannot hold",
		['|'] = "has a |, which FAT cannot hold",
		['\\'] = "has a \\, which FAT cannot hold",
	};

	if (c < 0)
		return "is not UTF-8, which FAT's long names need";
	if (c < ' ' || c == 0x7f)
		return "has a control character, which FAT cannot hold";
	return (size_t)c < sizeof(faults) / sizeof(faults[0]) ? faults[c] : NULL;
}

unsigned fat_name_wide(const char *name, uint16_t *wide, const char **why)
{
	const uint8_t *at = (const uint8_t *)name;
	unsigned n = 0;
	int32_t c;

	*why = *name ? NULL : "is empty";
	while (!*why && *at) {
		c = parse_utf8(&at);
		*why = char_fault(c);
		if (*why)
			break;
		if (n + (c > 0xffff) >= FAT_NAME_MAX) {
			*why = "is longer than FAT's 255 characters";
		} else if (c > 0xffff) {
			wide[n++] = (uint16_t)(0xd800 + ((c - 0x10000) >> 10));
			wide[n++] = (uint16_t)(0xdc00 + ((c - 0x10000) & 0x3ff));
		} else {
			wide[n++] = (uint16_t)c;
		}
	}
	if (!*why && wide[n - 1] == '.')
		*why = "ends with a dot, which FAT drops";
	if (!*why && wide[n - 1] == ' ')
		*why = "ends with a space, which FAT drops";
	return *why ? 0 : n;
}

/*
 * Fold case by ranges of the scripts that have case, so that no locale of the host decides. step 2:
 * capital and small letters alternate.
 */
static uint16_t fold(uint16_t c)
{
	static const struct {
		uint16_t first, last, delta, step;
	} ranges[] = {
		{ 0x41, 0x5a, 32, 1 },	   { 0xc0, 0xd6, 32, 1 },     { 0xd8, 0xde, 32, 1 },
		{ 0x100, 0x12e, 1, 2 },	   { 0x132, 0x136, 1, 2 },    { 0x139, 0x147, 1, 2 },
		{ 0x14a, 0x176, 1, 2 },	   { 0x179, 0x17d, 1, 2 },    { 0x1cd, 0x1db, 1, 2 },
		{ 0x1de, 0x1ee, 1, 2 },	   { 0x1f8, 0x21e, 1, 2 },    { 0x222, 0x232, 1, 2 },
		{ 0x388, 0x38a, 37, 1 },   { 0x391, 0x3a1, 32, 1 },   { 0x3a3, 0x3ab, 32, 1 },
		{ 0x386, 0x386, 38, 1 },   { 0x38c, 0x38c, 64, 1 },   { 0x38e, 0x38f, 63, 1 },
		{ 0x400, 0x40f, 80, 1 },   { 0x410, 0x42f, 32, 1 },   { 0x460, 0x480, 1, 2 },
		{ 0x48a, 0x4be, 1, 2 },	   { 0x4c1, 0x4cd, 1, 2 },    { 0x4d0, 0x52e, 1, 2 },
		{ 0x531, 0x556, 48, 1 },   { 0x1e00, 0x1e94, 1, 2 },  { 0x1ea0, 0x1efe, 1, 2 },
		{ 0x2160, 0x216f, 16, 1 }, { 0x24b6, 0x24cf, 26, 1 }, { 0xff21, 0xff3a, 32, 1 },
	};

	if (c == 0x178)
		return 0xff;
	if (c == 0x3c2)
		return 0x3c3;
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
		if (c >= ranges[i].first && c <= ranges[i].last)
			return (c - ranges[i].first) % ranges[i].step ?
				       c :
				       (uint16_t)(c + ranges[i].delta);
	return c;
}

/* Fold a UTF-16 name, for comparing without regard to case. */
static void fold_name(uint16_t *wide, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		wide[i] = fold(wide[i]);
}

const char *fat_label_fault(const char *label)
{
	size_t len = strlen(label);

	if (!len || len > FAT_LABEL_MAX)
		return "must have 1 to 11 characters";
	for (size_t i = 0; i < len; i++)
		if ((uint8_t)label[i] < ' ' || (uint8_t)label[i] > '~' ||
		    strchr("*?/\\|,;:+=<>[]\".", label[i]))
			return "must be plain ASCII without any of * ? / \\ | , ; : + = < > [ ] \" .";
	if (label[0] == ' ' || label[len - 1] == ' ')
		return "must not begin or end with a space";
	return NULL;
}

/* Format one character for a message in out (at least 4 bytes). Returns its length. */
static size_t print_next(const uint8_t **at, char *out)
{
	const uint8_t *from = *at;
	int32_t c = parse_utf8(at);

	if (c < ' ' || (c >= 0x7f && c < 0xa0)) {
		static const char hex[] = "0123456789abcdef";

		*at = from + 1;
		out[0] = '\\';
		out[1] = 'x';
		out[2] = hex[*from >> 4];
		out[3] = hex[*from & 15];
		return 4;
	}
	memcpy(out, from, (size_t)(*at - from));
	return (size_t)(*at - from);
}

const char *fat_name_print(const char *name, char *buf, size_t len)
{
	static const char more[] = "…";
	const uint8_t *at = (const uint8_t *)name, *end = at;
	size_t total = 0, used = 0;
	char one[4];

	while (*end)
		total += print_next(&end, one);
	/* The end of a path tells more than its beginning. */
	if (total >= len) {
		while (total + sizeof(more) > len)
			total -= print_next(&at, one);
		used = sizeof(more) - 1;
		memcpy(buf, more, used);
	}
	while (*at)
		used += print_next(&at, buf + used);
	buf[used] = 0;
	return buf;
}

uint8_t fat_alias_sum(const uint8_t *alias)
{
	uint8_t sum = 0;

	for (unsigned i = 0; i < FAT_ALIAS; i++)
		sum = (uint8_t)((sum >> 1 | sum << 7) + alias[i]);
	return sum;
}

/* --- aliases ------------------------------------------------------------------- */

static bool alias_char(uint8_t c)
{
	return isalnum(c) || (c && strchr("!#$%&'()-@^_`{}~", c));
}

/*
 * Make an alias of a name that is 8.3 except perhaps for case; *exact: the case is right, too. A
 * space is legal in 8.3, but confuses too many programs.
 */
static bool alias_of_short(const char *name, uint8_t *alias, bool *exact)
{
	const char *dot = strrchr(name, '.');
	size_t base = dot ? (size_t)(dot - name) : strlen(name), ext = dot ? strlen(dot + 1) : 0;

	if (!base || base > 8 || ext > 3 || (dot && !ext))
		return false;
	memset(alias, ' ', FAT_ALIAS);
	*exact = true;
	for (size_t i = 0; i < base + ext; i++) {
		uint8_t c = (uint8_t)(i < base ? name[i] : dot[1 + i - base]);

		if (c >= 0x80 || !alias_char(c))
			return false;
		*exact &= !islower(c);
		alias[i < base ? i : 8 + i - base] = (uint8_t)toupper(c);
	}
	return true;
}

/* Copy the letters of one part of a name that an alias can have. Returns how many. */
static unsigned alias_letters(const char *from, const char *end, uint8_t *to, unsigned room)
{
	unsigned n = 0;

	for (; from < end && n < room; from++) {
		uint8_t c = (uint8_t)*from;

		if (c == ' ' || c == '.' || (c & 0xc0) == 0x80)
			continue; /* the last test: later bytes of a character */
		to[n++] = c < 0x80 && alias_char(c) ? (uint8_t)toupper(c) : '_';
	}
	return n;
}

/* Make the try-th alias of a name that is not 8.3. */
static void alias_make(const char *name, unsigned try, uint8_t *alias)
{
	const char *end = name + strlen(name), *start = name, *dot;
	char tail[16];
	uint8_t base[8];
	unsigned n, keep = 6, ntail;

	while (*start == '.' || *start == ' ')
		start++;
	dot = strrchr(start, '.');
	memset(alias, ' ', FAT_ALIAS);
	if (dot)
		alias_letters(dot + 1, end, alias + 8, 3);
	n = alias_letters(start, dot ? dot : end, base, 8);
	if (!n)
		base[n++] = '_';
	if (try < TAILS_IN_TURN) {
		snprintf(tail, sizeof(tail), "~%u", try + 1);
	} else {
		uint32_t sum = (uint32_t)crc32(crc32(0, (const Bytef *)&try, sizeof(try)),
					       (const Bytef *)name, (uInt)strlen(name));

		snprintf(tail, sizeof(tail), "%04X~%u", sum & 0xffff, 1 + (sum >> 16) % 9);
		keep = 2;
	}
	if (n > keep)
		n = keep;
	ntail = (unsigned)strlen(tail);
	memcpy(alias, base, n);
	memcpy(alias + n, tail, ntail);
}

/* The aliases of one folder, a hash table with open addressing. */
struct alias_set {
	const uint8_t **slot;
	size_t mask;
};

/* Returns false if the alias is there already. */
static bool alias_put(struct alias_set *set, const uint8_t *alias)
{
	size_t i = crc32(0, alias, FAT_ALIAS) & set->mask;

	while (set->slot[i] && memcmp(set->slot[i], alias, FAT_ALIAS))
		i = (i + 1) & set->mask;
	if (set->slot[i])
		return false;
	set->slot[i] = alias;
	return true;
}

static int give_aliases(struct fat_node *dir)
{
	struct alias_set set = { NULL, 15 };
	bool exact;

	while (set.mask < dir->nchild * 2)
		set.mask = set.mask * 2 + 1;
	set.slot = calloc(set.mask + 1, sizeof(*set.slot));
	if (!set.slot)
		return -ENOMEM;
	/*
	 * Names that are 8.3 keep their own; folded names are unique, so these aliases do not
	 * collide.
	 */
	for (size_t i = 0; i < dir->nchild; i++) {
		struct fat_node *node = dir->child[i];

		if (alias_of_short(node->name, node->alias, &exact)) {
			node->has_long = !exact;
			alias_put(&set, node->alias);
		} else {
			node->has_long = true;
			node->alias[0] = 0;
		}
	}
	for (size_t i = 0; i < dir->nchild; i++) {
		struct fat_node *node = dir->child[i];
		unsigned try = 0;

		if (node->alias[0])
			continue;
		do
			alias_make(node->name, try++, node->alias);
		while (!alias_put(&set, node->alias));
	}
	free(set.slot);
	return 0;
}

/* --- a folder ------------------------------------------------------------------ */

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct fat_node *const *)a)->name, (*(struct fat_node *const *)b)->name);
}

struct folded {
	uint16_t *wide;
	const struct fat_node *node;
};

static int by_folded(const void *a, const void *b)
{
	const struct folded *x = a, *y = b;
	unsigned n = x->node->nwide < y->node->nwide ? x->node->nwide : y->node->nwide;
	int rc = memcmp(x->wide, y->wide, n * sizeof(*x->wide));

	return rc ? rc : (int)x->node->nwide - (int)y->node->nwide;
}

static int name_error(const struct fat_node *node, const char *why, struct err *err)
{
	char buf[PRINT_BYTES];

	return err_set(err, EINVAL, "%s: the name %s",
		       fat_name_print(node->path ? node->path : node->name, buf, sizeof(buf)), why);
}

/* If FAT takes two names for one, report both, independent of their order on the host. */
static int find_twins(struct folded *folded, size_t n, struct err *err)
{
	qsort(folded, n, sizeof(*folded), by_folded);
	for (size_t i = 1; i < n; i++) {
		const struct fat_node *a = folded[i - 1].node, *b = folded[i].node;
		const char *path = a->path ? a->path : a->name;
		char first[PRINT_BYTES / 2], second[PRINT_BYTES / 2];

		if (by_folded(&folded[i - 1], &folded[i]))
			continue;
		if (strcmp(a->name, b->name) > 0) {
			path = b->path ? b->path : b->name;
			b = a;
		}
		return err_set(err, EINVAL,
			       "%s and %s: FAT does not tell capital letters from small "
			       "ones, so one of them must go",
			       fat_name_print(path, first, sizeof(first)),
			       fat_name_print(b->name, second, sizeof(second)));
	}
	return 0;
}

int fat_name_folder(struct fat_node *dir, struct err *err)
{
	struct folded *folded = calloc(dir->nchild + 1, sizeof(*folded));
	uint16_t wide[FAT_NAME_MAX];
	const char *why;
	size_t n = 0;
	int rc = folded ? 0 : -ENOMEM;

	/* An empty folder has no array to sort. */
	if (!rc && dir->nchild)
		qsort(dir->child, dir->nchild, sizeof(*dir->child), by_name);
	for (size_t i = 0; !rc && i < dir->nchild; i++) {
		struct fat_node *node = dir->child[i];

		node->nwide = fat_name_wide(node->name, wide, &why);
		if (!node->nwide) {
			rc = name_error(node, why, err);
			break;
		}
		folded[n].node = node;
		folded[n].wide = malloc(node->nwide * sizeof(*wide));
		if (!folded[n].wide) {
			rc = -ENOMEM;
			break;
		}
		memcpy(folded[n].wide, wide, node->nwide * sizeof(*wide));
		fold_name(folded[n++].wide, node->nwide);
	}
	if (!rc && n)
		rc = find_twins(folded, n, err);
	if (!rc)
		rc = give_aliases(dir);
	while (n)
		free(folded[--n].wide);
	free(folded);
	return rc == -ENOMEM ? err_sys(err, ENOMEM, "FAT names") : rc;
}
