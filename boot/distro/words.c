/* words: of options and paths in boot loader files; fstab; what options mean. See distro.h. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "boot/distro/distro_impl.h"

const char *distro_line_end(const char *s)
{
	return s + strcspn(s, "\n");
}

bool distro_append(char *to, size_t len, const char *word)
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

const char *distro_word(const char *s, const char *end, char word[DISTRO_WORD_MAX])
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
	if ((size_t)(s - from) < DISTRO_WORD_MAX)
		snprintf(word, DISTRO_WORD_MAX, "%.*s", (int)(s - from), from);
	return s;
}

bool distro_keep_spec(char *to, size_t len, const char *spec)
{
	size_t n = 0;

	for (; *spec; spec++) {
		unsigned char c = (unsigned char)*spec;
		bool plain = c >= ' ' && c < 0x7f;

		if (n + (plain ? 1 : 4) >= len) {
			*to = 0;
			return false;
		}
		n += (size_t)sprintf(to + n, plain ? "%c" : "\\%03o", c);
	}
	to[n] = 0;
	return n;
}

const char *distro_env_value(const char *env, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = env; line && *line; line += *line != 0) {
		line += strspn(line, " \t\r");
		if (!strncmp(line, name, len) && line[len] == '=')
			return line + len + 1;
		line = distro_line_end(line);
	}
	return NULL;
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

/* root= is kept also if it is not printable: without it the guest would boot another root in silence. */
void distro_add_option(struct distro_entry *e, const char *word)
{
	char spec[DISTRO_WORD_MAX];

	e->recovery |= is_recovery(word);
	e->has_options = true;
	if (distro_append(e->options, sizeof(e->options), word) ||
	    strncmp(word + (*word == '"'), "root=", 5))
		return;
	if (!distro_keep_spec(spec, sizeof(spec), word) ||
	    !distro_append(e->options, sizeof(e->options), spec))
		e->unknown_words = true;
}

/* Keeps a path without the device that GRUB may have before it: "(hd0,gpt2)/vmlinuz". */
void distro_keep_path(char to[DISTRO_PATH_MAX], const char *word)
{
	if (*word == '(')
		word = strchr(word, ')') ? strchr(word, ')') + 1 : "";
	*to = 0;
	distro_append(to, DISTRO_PATH_MAX, word);
}

void distro_add_initrd(struct distro_entry *e, const char *word)
{
	if (e->ninitrds < DISTRO_INITRDS_MAX)
		distro_keep_path(e->initrd[e->ninitrds++], word);
	else
		e->too_many_initrds = true;
}

void distro_give(struct distro_entry *e, distro_sink sink, void *opaque)
{
	if ((*e->kernel || e->unknown_kernel) && !e->recovery)
		sink(opaque, e);
	memset(e, 0, sizeof(*e));
}

/* --- meaning of the options ------------------------------------------------------------------- */

/* Leaves out the quotes around a word without spaces, and those around "root=LABEL=a b". */
static void unquote(char *word)
{
	size_t len = strlen(word);

	if (len < 2 || *word != '"' || word[len - 1] != '"' ||
	    (strchr(word, ' ') && strncmp(word + 1, "root=", 5)))
		return;
	memmove(word, word + 1, len - 2);
	word[len - 2] = 0;
}

static bool is_ours(const char *word)
{
	static const char *const ours[] = { "BOOT_IMAGE=", "initrd=", "console=" };

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (!strncmp(word, ours[i], strlen(ours[i])))
			return true;
	return false;
}

void distro_split_options(const char *options, struct distro_options *out)
{
	const char *s = options, *end = options + strlen(options);
	char word[DISTRO_WORD_MAX];
	bool init = false; /* after "--" come the words of init */

	*out = (struct distro_options){ .rw = -1 };
	while ((s = distro_word(s, end, word))) {
		init |= !strcmp(word, "--");
		if (!init)
			unquote(word);
		if (!init && (!strcmp(word, "ro") || !strcmp(word, "rw"))) {
			out->rw = word[1] == 'w';
		} else if (!init && !strncmp(word, "root=", 5)) {
			out->root[0] = 0;
			if (word[5] && !distro_append(out->root, sizeof(out->root), word + 5))
				strcpy(out->root, "$"); /* which names nothing */
		} else if (init || !is_ours(word)) {
			distro_append(out->rest, sizeof(out->rest), word);
		}
	}
}

/* Replaces octal escapes, and several slashes by one; takes away those at the end, but the first. */
static void plain_folder(char *path)
{
	size_t n = 0;

	for (const char *s = path; *s; s++) {
		unsigned val = 0;

		if (s[0] == '\\' && strspn(s + 1, "01234567") >= 3) {
			val = (unsigned)(s[1] - '0') << 6 | (unsigned)(s[2] - '0') << 3 |
			      (unsigned)(s[3] - '0');
			s += 3;
		}
		if (*s != '/' || val || !n || path[n - 1] != '/')
			path[n++] = val ? (char)val : *s;
	}
	while (n > 1 && path[n - 1] == '/')
		n--;
	path[n] = 0;
}

bool distro_fstab(const char *fstab, const char *dir, char *spec, size_t len)
{
	for (const char *line = fstab; *line; line += *line != 0) {
		const char *end = distro_line_end(line);
		char what[DISTRO_WORD_MAX], where[DISTRO_WORD_MAX];
		const char *s = distro_word(line, end, what);

		if (s && *what != '#' && distro_word(s, end, where)) {
			plain_folder(where);
			if (!strcmp(where, dir))
				return distro_keep_spec(spec, len, what);
		}
		line = end;
	}
	return false;
}
