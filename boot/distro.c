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

/* --- entries of boot loader files ------------------------------------------------------------ */

enum token { TOKEN_END_OF_TEXT, TOKEN_WORD, TOKEN_SEPARATOR, TOKEN_CLOSE };

static const char *skip_between(const char *s)
{
	for (;;) {
		if (*s == ' ' || *s == '\t' || *s == '\r')
			s++;
		else if (s[0] == '\\' && s[1] == '\n')
			s += 2;
		else if (s[0] == '\\' && s[1] == '\r' && s[2] == '\n')
			s += 3;
		else if (*s == '#')
			s = line_end(s);
		else
			return s;
	}
}

/* Returns true at the end of a word without quotes. */
static bool ends_word(const char *s)
{
	return strchr(" \t\r\n;{}|&<>", *s) != NULL; /* also at the NUL */
}

/* Skips $name or ${name}; s is at the $. */
static const char *skip_variable(const char *s)
{
	if (s[1] == '{')
		return s + strcspn(s, "}\n") + (s[strcspn(s, "}\n")] == '}');
	for (s++; isalnum((unsigned char)*s) || *s == '_'; s++)
		;
	return s;
}

/*
 * Reads the next token of a GRUB script (GRUB manual, "Shell-like scripting" and "Quoting").
 * *variable is true if a word has a $ that GRUB would replace. A word with a space is put in
 * double quotes, as the kernel expects. A word of WORD_MAX - 2 or more bytes is cut.
 */
static enum token grub_token(const char **at, char word[WORD_MAX], bool *variable)
{
	const char *s = skip_between(*at);
	char quote = 0, text[WORD_MAX - 2];
	bool spaced = false;
	size_t n = 0;

	*variable = false;
	*at = *s ? s + 1 : s;
	if (!*s)
		return TOKEN_END_OF_TEXT;
	if (ends_word(s))
		return *s == '}' ? TOKEN_CLOSE : TOKEN_SEPARATOR;
	while (*s && (quote || !ends_word(s))) {
		if (*s == '\\' && quote != '\'' && s[1]) {
			s += s[1] == '\n' ? 2 : 1;
			if (s[-1] == '\n')
				continue;
		} else if (*s == quote) {
			quote = 0;
			s++;
			continue;
		} else if (!quote && (*s == '"' || *s == '\'')) {
			quote = *s++;
			continue;
		} else if (*s == '$' && quote != '\'') {
			*variable = true;
			s = skip_variable(s);
			continue;
		}
		spaced |= isspace((unsigned char)*s) != 0;
		if (n + 1 < sizeof(text))
			text[n++] = *s;
		s++;
	}
	text[n] = 0;
	snprintf(word, WORD_MAX, spaced ? "\"%s\"" : "%s", text);
	*at = s;
	return TOKEN_WORD;
}

static bool is_recovery(const char *word)
{
	static const char *const words[] = { "single", "recovery",
					     "rescue", "emergency",
					     "1",      "systemd.unit=rescue.target",
					     "s",      "systemd.unit=emergency.target",
					     "S",      "rd.break" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (!strcmp(word, words[i]))
			return true;
	return false;
}

static void add_option(struct distro_entry *e, const char *word)
{
	e->recovery |= is_recovery(word);
	e->has_options = true;
	append(e->options, sizeof(e->options), word);
}

/* Keeps a path without the device that GRUB may have before it: "(hd0,gpt2)/vmlinuz". */
static void keep_path(char to[DISTRO_PATH_MAX], const char *word)
{
	if (*word == '(')
		word = strchr(word, ')') ? strchr(word, ')') + 1 : "";
	*to = 0;
	append(to, DISTRO_PATH_MAX, word);
}

static void add_initrd(struct distro_entry *e, const char *word)
{
	if (e->ninitrds < DISTRO_INITRDS_MAX)
		keep_path(e->initrd[e->ninitrds++], word);
	else
		e->too_many_initrds = true;
}

static void give(struct distro_entry *e, distro_sink sink, void *opaque)
{
	if (*e->kernel && !e->recovery)
		sink(opaque, e);
	memset(e, 0, sizeof(*e));
}

/* Takes the words of one command. *what: the command's word, read already. */
static void grub_command(const char **at, const char *what, struct distro_entry *e,
			 distro_sink sink, void *opaque)
{
	bool linux_line = !strcmp(what, "linux") || !strcmp(what, "linux16") ||
			  !strcmp(what, "linuxefi");
	bool initrd_line = !strcmp(what, "initrd") || !strcmp(what, "initrd16") ||
			   !strcmp(what, "initrdefi");
	const char *back = *at;
	char word[WORD_MAX];
	bool variable, first = true;

	if (linux_line)
		give(e, sink, opaque);
	while (grub_token(at, word, &variable) == TOKEN_WORD) {
		if (linux_line && first && !variable)
			keep_path(e->kernel, word);
		else if (linux_line && !first && !variable)
			add_option(e, word);
		else if (initrd_line && !variable)
			add_initrd(e, word);
		else if (initrd_line)
			e->too_many_initrds = true;
		first = false;
		back = *at;
	}
	*at = back; /* what ended the command is the caller's */
}

void distro_grub_entries(const char *cfg, distro_sink sink, void *opaque)
{
	static const char *const before[] = { "then", "else", "do", "!" };
	struct distro_entry e = { 0 };
	char word[WORD_MAX];
	bool variable;
	enum token t;

	while ((t = grub_token(&cfg, word, &variable)) != TOKEN_END_OF_TEXT) {
		bool another = false;

		/* The end of a menu entry; a brace of an inner block splits none. */
		if (t == TOKEN_CLOSE)
			give(&e, sink, opaque);
		if (t != TOKEN_WORD)
			continue;
		for (size_t i = 0; i < sizeof(before) / sizeof(before[0]); i++)
			another |= !strcmp(word, before[i]);
		if (!another)
			grub_command(&cfg, word, &e, sink, opaque);
	}
	give(&e, sink, opaque);
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

/* Returns the value of word, "$name" or "${name}", in grubenv, or NULL. */
static const char *variable_value(const char *grubenv, const char *word)
{
	char name[WORD_MAX];
	size_t n;

	if (*word != '$')
		return NULL;
	word += word[1] == '{' ? 2 : 1;
	n = strcspn(word, "}");
	if (!n || (word[n] && word[n + 1]))
		return NULL;
	snprintf(name, sizeof(name), "%.*s", (int)n, word);
	for (const char *line = grubenv; line && *line; line += *line != 0) {
		const char *value = value_of(line, name, '=');

		if (value)
			return value;
		line = line_end(line);
	}
	return NULL;
}

/* Takes the options in a line; $name is replaced by the value of name in grubenv. */
static void take_words(const char *s, const char *grubenv, struct distro_entry *e)
{
	const char *end = line_end(s);
	char word[WORD_MAX];

	while ((s = kernel_word(s, end, word))) {
		const char *value = variable_value(grubenv, word);

		/* Without grubenv: a value's own variables are not replaced. */
		if (value)
			take_words(value, NULL, e);
		else if (!strchr(word, '$'))
			add_option(e, word);
	}
}

/* Takes the paths in a value, between blanks or commas. */
static void take_initrds(const char *s, struct distro_entry *e)
{
	const char *end = line_end(s);
	char word[WORD_MAX];

	while ((s = kernel_word(s, end, word))) {
		char *save = NULL;

		if (*word == '$') /* such as $tuned_initrd, which is often empty */
			continue;
		for (char *path = strtok_r(word, ",", &save); path;
		     path = strtok_r(NULL, ",", &save))
			add_initrd(e, path);
	}
}

static void take_path(const char *value, char to[DISTRO_PATH_MAX])
{
	char word[WORD_MAX];

	if (kernel_word(value, line_end(value), word))
		keep_path(to, word);
}

bool distro_bls_entry(const char *text, const char *grubenv, struct distro_entry *e)
{
	memset(e, 0, sizeof(*e));
	for (const char *line = text; *line; line += *line != 0) {
		const char *value;

		if ((value = value_of(line, "linux", ' ')))
			take_path(value, e->kernel);
		else if ((value = value_of(line, "initrd", ' ')))
			take_initrds(value, e);
		else if ((value = value_of(line, "version", ' ')))
			take_path(value, e->version);
		else if ((value = value_of(line, "options", ' '))) /* there may be several */
			take_words(value, grubenv, e);
		line = line_end(line);
	}
	return *e->kernel && !e->recovery;
}

/* The options of a label: its own, else the file's; initrd= among them names the initrds. */
static void give_label(struct distro_entry *e, const char *all, distro_sink sink, void *opaque)
{
	const char *s, *end;
	char word[WORD_MAX];

	if (!e->has_options && all)
		take_words(all, NULL, e);
	s = e->options;
	end = s + strlen(s);
	while (!e->ninitrds && (s = kernel_word(s, end, word)))
		if (starts(word, "initrd="))
			take_initrds(word + 7, e);
	give(e, sink, opaque);
}

bool distro_syslinux_include(const char *line, char path[DISTRO_PATH_MAX])
{
	const char *menu = value_of(line, "menu", ' ');
	const char *value = value_of(menu ? menu : line, "include", ' ');

	*path = 0;
	if (value)
		take_path(value, path);
	return *path;
}

void distro_syslinux_entries(const char *conf, distro_sink sink, void *opaque)
{
	struct distro_entry e = { 0 };
	const char *all = NULL; /* APPEND before the first label */
	bool label = false;

	for (const char *line = conf; *line; line += *line != 0) {
		const char *value;

		if (value_of(line, "label", ' ')) {
			give_label(&e, all, sink, opaque);
			label = true;
		} else if ((value = value_of(line, "linux", ' ')) ||
			   (value = value_of(line, "kernel", ' '))) {
			take_path(value, e.kernel);
		} else if ((value = value_of(line, "initrd", ' '))) {
			e.ninitrds = 0;
			take_initrds(value, &e);
		} else if ((value = value_of(line, "append", ' ')) && !label) {
			all = value;
		} else if (value) {
			/* The last counts; "-": not even the file's. */
			*e.options = 0;
			e.recovery = false;
			e.has_options = true;
			if (value[0] != '-' || !strchr(" \t\r\n", value[1]))
				take_words(value, NULL, &e);
		}
		line = line_end(line);
	}
	give_label(&e, all, sink, opaque);
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
