/* distro: see distro.h. */
#include "boot/distro.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define WORD_MAX 1024u

static bool starts(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

static bool ends(const char *s, const char *suffix)
{
	size_t len = strlen(s), n = strlen(suffix);

	return len >= n && !strcmp(s + len - n, suffix);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* --- names ---------------------------------------------------------------------------------- */

const char *distro_kernel_version(const char *name)
{
	static const char *const prefixes[] = { "vmlinuz", "vmlinux", "kernel", "bzImage" };
	static const char *const aside[] = { ".old",	  ".bak",      ".orig",	      ".sig",
					     ".sign",	  ".hmac",     ".sha512hmac", ".rpmsave",
					     ".rpmnew",	  ".rpmorig",  "~",	      ".img",
					     ".dpkg-new", ".dpkg-old", ".dpkg-tmp",   ".dpkg-dist",
					     ".dpkg-bak", ".tmp",      ".efi" };
	const char *version = NULL;

	for (size_t i = 0; !version && i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (starts(name, prefixes[i]))
			version = name + strlen(prefixes[i]);
	if (!version || (*version && *version != '-') || !strcmp(version, "-"))
		return NULL;
	for (size_t i = 0; i < sizeof(aside) / sizeof(aside[0]); i++)
		if (ends(name, aside[i]))
			return NULL;
	return *version ? version + 1 : version;
}

bool distro_is_rescue(const char *version)
{
	return strstr(version, "rescue") != NULL;
}

/* Returns how the character at s sorts, in a part of a version that is not a number. */
static int weight(const char *s)
{
	unsigned char c = (unsigned char)*s;

	if (c == '~')
		return -2;
	/* The dash of 6.12-rc1 sorts before the end of 6.12. */
	if (c == '-' && ((starts(s, "-rc") && isdigit((unsigned char)s[3])) ||
			 (starts(s, "-pre") && isdigit((unsigned char)s[4]))))
		return -1;
	if (!c || isdigit(c))
		return 0;
	return isalpha(c) ? c : c + 256;
}

int distro_compare_versions(const char *a, const char *b)
{
	while (*a || *b) {
		size_t na, nb;
		int diff;

		while ((*a && !isdigit((unsigned char)*a)) || (*b && !isdigit((unsigned char)*b))) {
			diff = weight(a) - weight(b);
			if (diff)
				return diff;
			a += *a != 0;
			b += *b != 0;
		}
		a += strspn(a, "0");
		b += strspn(b, "0");
		na = strspn(a, "0123456789");
		nb = strspn(b, "0123456789");
		if (na != nb)
			return na < nb ? -1 : 1;
		diff = strncmp(a, b, na);
		if (diff)
			return diff;
		a += na;
		b += nb;
	}
	return 0;
}

bool distro_initrd_name(unsigned i, const char *version, char *name, size_t len)
{
	/* Debian; Fedora, Arch; SUSE; Alpine; others. */
	static const char *const forms[][2] = {
		{ "initrd.img", "" }, { "initramfs", ".img" }, { "initrd", "" },
		{ "initramfs", "" },  { "initrd", ".img" },
	};

	if (i >= sizeof(forms) / sizeof(forms[0]))
		return false;
	return snprintf(name, len, "%s%s%s%s", forms[i][0], *version ? "-" : "", version,
			forms[i][1]) < (int)len;
}

/* --- words ---------------------------------------------------------------------------------- */

static const char *line_end(const char *s)
{
	return s + strcspn(s, "\n");
}

static const char *skip_blanks(const char *s)
{
	return s + strspn(s, " \t\r");
}

/*
 * Appends a word after a space. Returns false and appends nothing if the word does not fit or has
 * characters that are not printable ASCII.
 */
static bool append(char *to, size_t len, const char *word)
{
	size_t at = strlen(to), n = strlen(word);

	for (const char *c = word; *c; c++)
		if ((unsigned char)*c < ' ' || (unsigned char)*c >= 0x7f)
			return false;
	if (!n || at + (at > 0) + n >= len)
		return false;
	snprintf(to + at, len - at, "%s%s", at ? " " : "", word);
	return true;
}

/*
 * Reads one word of a kernel's command line, with its quotes: a space between double quotes is
 * part of the word. Returns the end of the word, or NULL if there is none. A word of WORD_MAX or
 * more bytes is read as "".
 */
static const char *kernel_word(const char *s, const char *end, char word[WORD_MAX])
{
	const char *from;
	bool quoted = false;

	while (s < end && isspace((unsigned char)*s))
		s++;
	for (from = s; s < end && (quoted || !isspace((unsigned char)*s)); s++)
		quoted ^= *s == '"';
	if (s == from)
		return NULL;
	*word = 0;
	if ((size_t)(s - from) < WORD_MAX)
		snprintf(word, WORD_MAX, "%.*s", (int)(s - from), from);
	return s;
}

/*
 * Reads one word as GRUB's shell does (GRUB manual, "Quoting"). *variable is true if the word has
 * a $ that GRUB would replace. A word with a space is put in double quotes, as the kernel expects.
 * Returns the end of the word, or NULL if there is none.
 */
static const char *grub_word(const char *s, const char *end, char word[WORD_MAX], bool *variable)
{
	char quote = 0, text[WORD_MAX - 2];
	size_t n = 0;
	bool spaced = false, any = false;

	*variable = false;
	while (s < end && isspace((unsigned char)*s))
		s++;
	for (; s < end && (quote || (!isspace((unsigned char)*s) && *s != ';' && *s != '}')); s++) {
		any = true;
		if (*s == '\\' && quote != '\'' && s + 1 < end) {
			s++;
		} else if (*s == quote) {
			quote = 0;
			continue;
		} else if (!quote && (*s == '"' || *s == '\'')) {
			quote = *s;
			continue;
		} else if (*s == '$' && quote != '\'') {
			*variable = true;
			/* The brace of ${name} does not end a block. */
			if (s + 1 < end && s[1] == '{')
				while (s + 1 < end && *s != '}')
					s++;
		}
		spaced |= isspace((unsigned char)*s) != 0;
		if (n + 1 < sizeof(text))
			text[n++] = *s;
	}
	if (!any)
		return NULL;
	text[n] = 0;
	snprintf(word, WORD_MAX, spaced ? "\"%s\"" : "%s", text);
	return s;
}

/* --- options in boot loader files ------------------------------------------------------------ */

static bool is_recovery(const char *word)
{
	return !strcmp(word, "single") || !strcmp(word, "recovery") || !strcmp(word, "rescue") ||
	       !strcmp(word, "systemd.unit=rescue.target") || !strcmp(word, "emergency");
}

/* Takes the words of a linux line after the kernel's path. Returns false for a recovery entry. */
static bool take_grub_words(const char *s, const char *end, char *options)
{
	char word[WORD_MAX];
	bool variable;

	*options = 0;
	while ((s = grub_word(s, end, word, &variable))) {
		if (is_recovery(word))
			return false;
		if (!variable)
			append(options, DISTRO_OPTIONS_MAX, word);
	}
	return true;
}

bool distro_grub_options(const char *cfg, const char *kernel, char options[DISTRO_OPTIONS_MAX])
{
	char word[WORD_MAX];
	bool variable;

	for (const char *line = cfg; *line; line += *line != 0) {
		const char *end = line_end(line), *s = grub_word(line, end, word, &variable);

		if (s && (!strcmp(word, "linux") || !strcmp(word, "linux16") ||
			  !strcmp(word, "linuxefi"))) {
			s = grub_word(s, end, word, &variable);
			if (s && !strcmp(base_name(word), kernel) &&
			    take_grub_words(s, end, options))
				return true;
		}
		line = end;
	}
	*options = 0;
	return false;
}

/* Returns the value of "key value" (separator '=': "key=value"), or NULL for another key. */
static const char *value_of(const char *line, const char *key, char separator)
{
	const char *s = skip_blanks(line);

	if (strncasecmp(s, key, strlen(key)))
		return NULL;
	s += strlen(key);
	if (separator == '=')
		return *s == '=' ? s + 1 : NULL;
	return *s == ' ' || *s == '\t' ? skip_blanks(s) : NULL;
}

static bool names_kernel(const char *value, const char *kernel)
{
	char word[WORD_MAX];

	return kernel_word(value, line_end(value), word) && !strcmp(base_name(word), kernel);
}

/* Takes the words of a line; $name is replaced by the value of name in grubenv. */
static void take_words(const char *s, const char *grubenv, char *options)
{
	const char *end = line_end(s);
	char word[WORD_MAX];

	while ((s = kernel_word(s, end, word))) {
		if (!strchr(word, '$')) {
			append(options, DISTRO_OPTIONS_MAX, word);
			continue;
		}
		for (const char *line = grubenv; word[0] == '$' && line && *line;
		     line += *line != 0) {
			const char *value = value_of(line, word + 1, '=');

			/* Without grubenv: a value's own variables are not replaced. */
			if (value)
				take_words(value, NULL, options);
			line = line_end(line);
		}
	}
}

bool distro_bls_options(const char *entry, const char *kernel, const char *grubenv,
			char options[DISTRO_OPTIONS_MAX])
{
	bool ours = false;

	*options = 0;
	for (const char *line = entry; *line; line += *line != 0) {
		const char *value = value_of(line, "linux", ' ');

		ours |= value && names_kernel(value, kernel);
		/* An entry may have several options lines. */
		value = value_of(line, "options", ' ');
		if (value)
			take_words(value, grubenv, options);
		line = line_end(line);
	}
	return ours && *options;
}

bool distro_extlinux_options(const char *conf, const char *kernel, char options[DISTRO_OPTIONS_MAX])
{
	bool ours = false;

	*options = 0;
	for (const char *line = conf; *line; line += *line != 0) {
		const char *value;

		if (value_of(line, "label", ' '))
			ours = false;
		value = value_of(line, "linux", ' ');
		if (!value)
			value = value_of(line, "kernel", ' ');
		ours |= value && names_kernel(value, kernel);
		value = value_of(line, "append", ' ');
		if (value && ours) {
			take_words(value, NULL, options);
			return true;
		}
		line = line_end(line);
	}
	return false;
}

/* --- meaning of the options ------------------------------------------------------------------- */

void distro_split_options(const char *options, struct distro_options *out)
{
	static const char *const ours[] = { "BOOT_IMAGE=", "initrd=", "console=" };
	const char *s = options, *end = options + strlen(options);
	char word[WORD_MAX];

	*out = (struct distro_options){ .rw = -1 };
	while ((s = kernel_word(s, end, word))) {
		bool drop = false;

		for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
			drop |= starts(word, ours[i]);
		if (!strcmp(word, "ro") || !strcmp(word, "rw")) {
			out->rw = word[1] == 'w';
		} else if (starts(word, "root=")) {
			out->root[0] = 0;
			append(out->root, sizeof(out->root), word + 5);
		} else if (!drop) {
			append(out->rest, sizeof(out->rest), word);
		}
	}
}

bool distro_fstab(const char *fstab, const char *dir, char *spec, size_t len)
{
	for (const char *line = fstab; *line; line += *line != 0) {
		const char *end = line_end(line);
		char what[WORD_MAX], where[WORD_MAX];
		const char *s = kernel_word(line, end, what);

		if (s && *what != '#' && kernel_word(s, end, where) && !strcmp(where, dir)) {
			*spec = 0;
			return append(spec, len, what);
		}
		line = end;
	}
	return false;
}
