/* spec: see spec.h. */
#include "boot/spec.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 512u

/* What an identifier is compared with. */
enum tag { TAG_NONE, TAG_UUID, TAG_LABEL, TAG_PARTUUID, TAG_PARTLABEL };

static const struct {
	const char *prefix;
	enum tag tag;
	bool link; /* udev's: "\x20" for a space */
} tags[] = {
	{ "UUID=", TAG_UUID, false },
	{ "LABEL=", TAG_LABEL, false },
	{ "PARTUUID=", TAG_PARTUUID, false },
	{ "PARTLABEL=", TAG_PARTLABEL, false },
	{ "/dev/disk/by-uuid/", TAG_UUID, true },
	{ "/dev/disk/by-label/", TAG_LABEL, true },
	{ "/dev/disk/by-partuuid/", TAG_PARTUUID, true },
	{ "/dev/disk/by-partlabel/", TAG_PARTLABEL, true },
};

/* Finds the tag of text and what follows it. */
static enum tag tag_of(const char *text, const char **rest, bool *link)
{
	for (unsigned i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
		if (strncmp(text, tags[i].prefix, strlen(tags[i].prefix)))
			continue;
		*rest = text + strlen(tags[i].prefix);
		*link = tags[i].link;
		return tags[i].tag;
	}
	return TAG_NONE;
}

/* Reads digits of the base; returns their number in *used, at most max. */
static unsigned digits(const char *s, unsigned base, unsigned max, unsigned *used)
{
	unsigned val = 0, n = 0;

	for (; n < max && isxdigit((unsigned char)s[n]); n++) {
		unsigned d = isdigit((unsigned char)s[n]) ?
				     (unsigned)(s[n] - '0') :
				     (unsigned)(tolower((unsigned char)s[n]) - 'a' + 10);

		if (d >= base)
			break;
		val = val * base + d;
	}
	*used = n;
	return val;
}

/* Copies text without quotes; replaces octal escapes, and with link udev's. */
static void clean(char to[TEXT_MAX], const char *text, bool link)
{
	size_t n = 0;

	while (*text && n + 1 < TEXT_MAX) {
		bool hex = link && text[0] == '\\' && text[1] == 'x';
		unsigned used = 0, val = 0;

		if (*text == '\\')
			val = hex ? digits(text + 2, 16, 2, &used) : digits(text + 1, 8, 3, &used);
		if (used == (hex ? 2u : 3u) && val && val < 256) {
			to[n++] = (char)val;
			text += hex ? 4 : 4;
		} else if (!link && (*text == '"' || *text == '\'')) {
			text++;
		} else {
			to[n++] = *text++;
		}
	}
	to[n] = 0;
}

static bool has(const struct spec_volume *v, enum tag tag, const char *id)
{
	const char *own = tag == TAG_UUID     ? v->uuid :
			  tag == TAG_LABEL    ? v->label :
			  tag == TAG_PARTUUID ? v->partuuid :
						v->partlabel;

	if (!*own)
		return false;
	/* UUIDs are numbers in hexadecimal; labels are texts. */
	return tag == TAG_UUID || tag == TAG_PARTUUID ? !strcasecmp(own, id) : !strcmp(own, id);
}

static int find_number(const struct spec_volume *v, unsigned n, long number)
{
	for (unsigned i = 0; i < n; i++)
		if ((long)v[i].number == number)
			return (int)i;
	return SPEC_NONE;
}

static int find_tag(const struct spec_volume *v, unsigned n, enum tag tag, const char *id)
{
	int found = SPEC_NONE;

	for (unsigned i = 0; i < n; i++)
		if (has(&v[i], tag, id))
			found = found == SPEC_NONE ? (int)i : SPEC_SEVERAL;
	return found;
}

/* PARTUUID=X/PARTNROFF=N: the partition whose number is N higher than X's. */
static int find_partuuid(const struct spec_volume *v, unsigned n, char *id)
{
	char *slash = strchr(id, '/'), *end;
	long off;
	int i;

	if (!slash)
		return find_tag(v, n, TAG_PARTUUID, id);
	*slash++ = 0;
	if (strncmp(slash, "PARTNROFF=", 10))
		return SPEC_NONE;
	off = strtol(slash + 10, &end, 10);
	i = find_tag(v, n, TAG_PARTUUID, id);
	if (end == slash + 10 || *end || off < -9999 || off > 9999 || i < 0)
		return i < 0 ? i : SPEC_NONE;
	return find_number(v, n, (long)v[i].number + off);
}

/* A number without a sign and leading zeroes at the end of a name; -1: something else. */
static int number_at(const char *s)
{
	unsigned used, val = digits(s, 10, 4, &used);

	return used && !s[used] && *s != '0' ? (int)val : -1;
}

/*
 * The number of the partition of a machine's first disk that a name like sda2, nvme0n1p2 or
 * disk/by-path/…-part2 means; 0: the whole disk; -1: another device.
 */
static int number_of_name(const char *name)
{
	/* A letter and a number follow; the first disk is "a". */
	static const char *const lettered[] = { "sd", "hd", "vd", "xvd", "dasd", "ubd" };
	/* A "p" and a number follow. */
	static const char *const numbered[] = { "nvme0n1", "mmcblk0",  "pmem0",
						"nbd0",	   "loop0",    "cciss/c0d0",
						"rd/c0d0", "ida/c0d0", "ploop0" };
	const char *part;

	if (!strncmp(name, "disk/by-id/", 11) || !strncmp(name, "disk/by-path/", 13) ||
	    !strncmp(name, "disk/by-diskseq/", 16)) {
		part = strstr(name, "-part");
		while (part && strstr(part + 1, "-part"))
			part = strstr(part + 1, "-part");
		return part ? number_at(part + 5) : -1;
	}
	for (unsigned i = 0; i < sizeof(lettered) / sizeof(lettered[0]); i++) {
		size_t n = strlen(lettered[i]);

		if (!strncmp(name, lettered[i], n) && name[n] == 'a')
			return name[n + 1] ? number_at(name + n + 1) : 0;
	}
	for (unsigned i = 0; i < sizeof(numbered) / sizeof(numbered[0]); i++) {
		size_t n = strlen(numbered[i]);

		if (!strncmp(name, numbered[i], n) && (!name[n] || name[n] == 'p'))
			return name[n] ? number_at(name + n + 1) : 0;
	}
	return -1;
}

/* The kernel's MAJOR:MINOR in decimal, or the device number in hexadecimal: sd is 8, hd 3. */
static int number_of_device(const char *text)
{
	unsigned used, more, major = digits(text, 10, 4, &used), minor;

	if (used && text[used] == ':') {
		minor = digits(text + used + 1, 10, 4, &more);
		if (!more || text[used + 1 + more])
			return -1;
	} else {
		minor = digits(text, 16, 4, &used);
		if (used < 3 || text[used])
			return -1;
		major = minor >> 8;
		minor &= 0xff;
	}
	return major == 8 && minor < 16 ? (int)minor : major == 3 && minor < 64 ? (int)minor : -1;
}

int spec_find(const struct spec_volume *v, unsigned n, const char *text)
{
	char id[TEXT_MAX], whole[TEXT_MAX];
	const char *rest;
	bool link = false;
	int number;
	enum tag tag;

	clean(whole, text, false);
	tag = tag_of(whole, &rest, &link);
	if (link)
		clean(id, rest, true);
	else
		snprintf(id, sizeof(id), "%s", tag == TAG_NONE ? whole : rest);
	if (tag == TAG_PARTUUID && !link)
		return find_partuuid(v, n, id);
	if (tag != TAG_NONE)
		return find_tag(v, n, tag, id);
	number = strncmp(id, "/dev/", 5) ? number_of_device(id) : number_of_name(id + 5);
	return number < 0 ? SPEC_NONE : find_number(v, n, number);
}

bool spec_is_lasting(const char *text)
{
	char whole[TEXT_MAX];
	const char *rest;
	bool link;

	clean(whole, text, false);
	return tag_of(whole, &rest, &link) != TAG_NONE || !strncmp(whole, "/dev/mapper/", 12) ||
	       !strncmp(whole, "ZFS=", 4) || !strncmp(whole, "zfs:", 4);
}
