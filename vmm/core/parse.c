/* parse: see parse.h. */
#include "vmm/core/parse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 99;
}

/* Digits from *at on; at least one. */
static int number(const char **at, unsigned base, uint64_t *out)
{
	const char *c = *at;
	uint64_t v = 0;

	if (digit(*c) >= (int)base)
		return -EINVAL;
	for (; digit(*c) < (int)base; c++)
		if (__builtin_mul_overflow(v, base, &v) ||
		    __builtin_add_overflow(v, (uint64_t)digit(*c), &v))
			return -ERANGE;
	*at = c;
	*out = v;
	return 0;
}

int parse_u64(const char *text, uint64_t *out)
{
	unsigned base = 10;
	uint64_t v;
	int rc;

	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
		base = 16;
		text += 2;
	}
	rc = number(&text, base, &v);
	if (rc)
		return rc;
	if (*text)
		return -EINVAL;
	*out = v;
	return 0;
}

/* micro / scale of a unit: from M on in whole pages, since 1.1G means a disk or memory. */
static uint64_t fraction(uint64_t micro, uint64_t scale, uint64_t unit)
{
	uint64_t part = unit >= 1 << 20 ? 4096 : 1;

	return (uint64_t)(((unsigned __int128)micro * unit + scale * part - 1) / (scale * part)) *
	       part;
}

int parse_size(const char *text, uint64_t *out)
{
	static const char units[] = "kmgtpe";
	uint64_t v, micro = 0, scale = 1, unit = 1;
	const char *u;
	int rc = number(&text, 10, &v);

	if (rc)
		return rc;
	if (*text == '.') {
		for (text++; *text >= '0' && *text <= '9'; text++) {
			if (scale == 1000000)
				return -EINVAL;
			micro = micro * 10 + (uint64_t)(*text - '0');
			scale *= 10;
		}
		if (scale == 1)
			return -EINVAL;
	}
	u = *text ? strchr(units, *text | 0x20) : NULL;
	if (u) {
		unit = 1ull << (10 * (u - units + 1));
		text++;
		if (*text == 'i')
			text++;
	}
	if (*text == 'B')
		text++;
	if (*text || (scale > 1 && unit == 1))
		return -EINVAL;
	if (__builtin_mul_overflow(v, unit, &v) ||
	    __builtin_add_overflow(v, fraction(micro, scale, unit), &v))
		return -ERANGE;
	*out = v;
	return 0;
}

int parse_duration(const char *text, uint64_t *usec)
{
	static const struct {
		char name[4];
		uint64_t usec;
	} units[] = { { "", 1000000 },
		      { "ms", 1000 },
		      { "s", 1000000 },
		      { "m", 60000000 },
		      { "h", 3600000000 } };
	uint64_t v;
	int rc = number(&text, 10, &v);

	if (rc)
		return rc;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (!strcmp(text, units[i].name))
			return __builtin_mul_overflow(v, units[i].usec, usec) ? -ERANGE : 0;
	return -EINVAL;
}

int parse_mode(const char *text, unsigned *out)
{
	size_t len = strlen(text);
	unsigned long mode;

	if (!len || len > 4 || strspn(text, "01234567") != len)
		return -EINVAL;
	mode = strtoul(text, NULL, 8);
	if (!mode || mode > 0777)
		return -EINVAL;
	*out = (unsigned)mode;
	return 0;
}

int parse_bool(const char *text, bool *out)
{
	static const char *const yes[] = { "on", "true", "yes", "1" };
	static const char *const no[] = { "off", "false", "no", "0" };

	for (size_t i = 0; i < 4; i++) {
		if (!strcmp(text, yes[i]))
			return *out = true, 0;
		if (!strcmp(text, no[i]))
			return *out = false, 0;
	}
	return -EINVAL;
}

/* Levenshtein distance of short words; longer ones are not alike. */
static size_t distance(const char *a, const char *b)
{
	size_t row[33], la = strlen(a), lb = strlen(b);

	if (la > 32 || lb > 32)
		return 99;
	for (size_t j = 0; j <= lb; j++)
		row[j] = j;
	for (size_t i = 1; i <= la; i++) {
		size_t diag = row[0];

		row[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			size_t best = diag + (a[i - 1] != b[j - 1]);

			diag = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[lb];
}

const char *parse_nearest(const char *text, const char *const *names, size_t n)
{
	const char *best = NULL;
	size_t best_d = 99;

	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(names[i]), tl = strlen(text);
		size_t d = distance(text, names[i]);

		/* A prefix of three letters or more is a good guess as well. */
		if (d > 2 && tl >= 3 &&
		    (!strncmp(text, names[i], tl) || !strncmp(text, names[i], len)))
			d = 2;
		if (d < best_d && d * 3 <= (len > tl ? len : tl) + 2) {
			best_d = d;
			best = names[i];
		}
	}
	return best;
}

int parse_pairs(const char *text, struct parse_pair *pair, size_t max, size_t *n, char **copy)
{
	char *in, *out, *field;

	*n = 0;
	*copy = strdup(text);
	if (!*copy)
		return -ENOMEM;
	in = out = field = *copy;
	if (!*in)
		return 0;
	for (;;) {
		char c = *in++;

		if (c == ',' && *in == ',') {
			*out++ = ',';
			in++;
			continue;
		}
		if (c && c != ',') {
			*out++ = c;
			continue;
		}
		*out++ = 0;
		if (*n == max)
			return -E2BIG;
		pair[*n].key = field;
		pair[*n].val = strchr(field, '=');
		if (pair[*n].val)
			*(char *)pair[*n].val++ = 0;
		++*n;
		field = out;
		if (!c)
			return 0;
	}
}

const char *parse_size_text(uint64_t bytes, char *buf, size_t len)
{
	static const char units[] = "BKMGTPE";
	unsigned u = 0;
	uint64_t v = bytes;

	while (u < 6 && v && v % 1024 == 0) {
		v /= 1024;
		u++;
	}
	if (u)
		snprintf(buf, len, "%llu%c", (unsigned long long)v, units[u]);
	else
		snprintf(buf, len, "%llu", (unsigned long long)v);
	return buf;
}

int32_t parse_utf8(const uint8_t **at)
{
	static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };
	const uint8_t *p = *at;
	unsigned more = *p < 0x80		? 0 :
			*p >= 0xc2 && *p < 0xe0 ? 1 :
			(*p & 0xf0) == 0xe0	? 2 :
			*p >= 0xf0 && *p < 0xf5 ? 3 :
						  4;
	uint32_t c = more ? *p & (0x3fu >> more) : *p;

	if (more > 3)
		return -1;
	for (unsigned i = 1; i <= more; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return -1;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return -1;
	*at = p + more + 1;
	return (int32_t)c;
}
