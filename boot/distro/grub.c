/*
 * grub: entries of a grub.cfg. See distro.h.
 *
 * Theory of operation. A grub.cfg is a script that GRUB runs. It is read here, not run: all branches
 * count, and a variable has a value only if each assignment that is found gives it the same one. The first
 * walk collects assignments outside of menu entries; the second one hands out the entries, with
 * those of the entry before the others. grubenv comes before those of the file, since files load it
 * over their defaults, or set a default where it has none. What else sets a variable (search, for,
 * read …) makes it unknown. A word with an unknown variable keeps it as it is written, marked.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/distro/distro_impl.h"

#define VARIABLES_MAX 64u
#define NAME_MAX_BYTES 48u
#define TEXT_MAX DISTRO_OPTIONS_MAX
/* Stands where the value of a variable without quotes splits a word. */
#define SPLIT '\x01'

enum token { TOKEN_END_OF_TEXT, TOKEN_WORD, TOKEN_SEPARATOR, TOKEN_OPEN, TOKEN_CLOSE };

struct variable {
	char name[NAME_MAX_BYTES];
	bool known;
	bool local; /* of the menu entry that is read */
	char value[TEXT_MAX];
};

struct script {
	const char *at; /* what is not read yet */
	const char *grubenv;
	struct variable *var; /* VARIABLES_MAX */
	unsigned nvars;
	bool collect; /* the first walk */
	/* Braces: outside of a menu entry, entry is 0; else the depth inside of its own. */
	unsigned depth, entry;
	bool entry_begins; /* its brace is the next */
	struct distro_entry e;
	distro_sink sink;
	void *opaque;
};

/* --- variables -------------------------------------------------------------------------------- */

static struct variable *find_variable(struct script *s, const char *name, bool local)
{
	for (unsigned i = 0; i < s->nvars; i++)
		if (s->var[i].local == local && !strcmp(s->var[i].name, name))
			return &s->var[i];
	return NULL;
}

/* value NULL: one that is not known. */
static void assign(struct script *s, const char *name, const char *value)
{
	bool local = s->entry != 0;
	struct variable *v;

	if (local == s->collect || strlen(name) >= NAME_MAX_BYTES)
		return;
	v = find_variable(s, name, local);
	if (v) {
		v->known &= value && !strcmp(v->value, value);
		return;
	}
	if (s->nvars == VARIABLES_MAX)
		return;
	v = &s->var[s->nvars++];
	v->local = local;
	v->known = value != NULL;
	strcpy(v->name, name);
	snprintf(v->value, sizeof(v->value), "%s", value ? value : "");
}

static void forget_locals(struct script *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < s->nvars; i++) {
		if (s->var[i].local)
			continue;
		if (n != i)
			s->var[n] = s->var[i];
		n++;
	}
	s->nvars = n;
}

/* Returns the value up to its NUL or newline, or NULL if it is not known. */
static const char *value_of(struct script *s, const char *name)
{
	struct variable *v = find_variable(s, name, true);
	const char *env = v ? NULL : distro_env_value(s->grubenv, name);

	if (env)
		return env;
	if (!v)
		v = find_variable(s, name, false);
	return v && v->known ? v->value : NULL;
}

/* Is the text a name, up to end? */
static bool is_name(const char *text, const char *end)
{
	if (text == end || isdigit((unsigned char)*text))
		return false;
	for (; text < end; text++)
		if (!isalnum((unsigned char)*text) && *text != '_')
			return false;
	return true;
}

/* Takes a "NAME=VALUE". */
static bool take_assignment(struct script *s, char *text, bool unknown)
{
	char *equals = strchr(text, '=');

	if (!equals || !is_name(text, equals))
		return false;
	*equals = 0;
	for (char *c = equals + 1; *c; c++)
		if (*c == SPLIT)
			*c = ' ';
	assign(s, text, unknown ? NULL : equals + 1);
	return true;
}

/* --- tokens ----------------------------------------------------------------------------------- */

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
			s = distro_line_end(s);
		else
			return s;
	}
}

/* Returns true at the end of a word without quotes. */
static bool ends_word(const char *s)
{
	return strchr(" \t\r\n;{}|&<>", *s) != NULL; /* also at the NUL */
}

/* Returns the end of $name or ${name}; s is at the $. *name: without the rest. */
static const char *read_variable(const char *s, char name[NAME_MAX_BYTES])
{
	const char *from = s + (s[1] == '{' ? 2 : 1), *to = from;

	if (s[1] == '{')
		to += strcspn(from, "}\n");
	else
		while (isalnum((unsigned char)*to) || *to == '_')
			to++;
	*name = 0;
	if ((size_t)(to - from) < NAME_MAX_BYTES)
		snprintf(name, NAME_MAX_BYTES, "%.*s", (int)(to - from), from);
	return to + (s[1] == '{' && *to == '}');
}

struct text {
	char bytes[TEXT_MAX];
	size_t n;
	bool unknown; /* has a variable that is not known */
};

static void put(struct text *t, char c)
{
	if (t->n + 1 < sizeof(t->bytes))
		t->bytes[t->n++] = c;
}

/* Puts the value of the variable at s; returns the end of its name. */
static const char *put_variable(struct script *s, const char *at, char quote, struct text *t)
{
	/* In GRUB's name of a device, which is left out in the end. */
	bool device = t->n && *t->bytes == '(' && !memchr(t->bytes, ')', t->n);
	char name[NAME_MAX_BYTES];
	const char *end = read_variable(at, name);
	const char *value = *name ? value_of(s, name) : NULL;

	if (!value && !device)
		t->unknown = true;
	for (const char *c = at; !value && c < end; c++)
		put(t, *c);
	for (; value && *value && *value != '\n'; value++)
		put(t, !quote && isspace((unsigned char)*value) ? SPLIT : *value);
	return end;
}

/* Reads the next token (GRUB manual, "Shell-like scripting" and "Quoting"). A longer word is cut. */
static enum token next_token(struct script *s, struct text *t)
{
	const char *p = skip_between(s->at);
	char quote = 0;

	t->n = 0;
	t->unknown = false;
	t->bytes[0] = 0;
	s->at = *p ? p + 1 : p;
	if (!*p)
		return TOKEN_END_OF_TEXT;
	if (ends_word(p))
		return *p == '{' ? TOKEN_OPEN : *p == '}' ? TOKEN_CLOSE : TOKEN_SEPARATOR;
	while (*p && (quote || !ends_word(p))) {
		if (*p == '\\' && quote != '\'' && p[1]) {
			p += p[1] == '\n' ? 2 : 1;
			if (p[-1] == '\n')
				continue;
		} else if (*p == quote) {
			quote = 0;
			p++;
			continue;
		} else if (!quote && (*p == '"' || *p == '\'')) {
			quote = *p++;
			continue;
		} else if (*p == '$' && quote != '\'') {
			p = put_variable(s, p, quote, t);
			continue;
		}
		put(t, *p++);
	}
	t->bytes[t->n] = 0;
	s->at = p;
	return TOKEN_WORD;
}

/* --- commands --------------------------------------------------------------------------------- */

/* Takes a word of the options, with quotes if it has a space, as the kernel wants it. */
static void take_option(struct distro_entry *e, const char *word, bool unknown)
{
	char text[DISTRO_WORD_MAX];

	if (unknown && strchr(word, '$') && strncmp(word, "root=", 5)) {
		e->unknown_words = true;
		return;
	}
	snprintf(text, sizeof(text), strpbrk(word, " \t\r\n\v\f") ? "\"%.*s\"" : "%.*s",
		 (int)sizeof(text) - 3, word);
	distro_add_option(e, text);
}

static void take_kernel(struct distro_entry *e, const char *word, bool unknown)
{
	e->unknown_kernel = unknown;
	if (!unknown)
		distro_keep_path(e->kernel, word);
}

/* A word of "linux" or "initrd", which may be several, or none, by the variables in it. */
static void take_words(struct distro_entry *e, bool linux_line, unsigned *n, const struct text *t)
{
	const char *at = t->bytes;
	bool more = true;

	for (; more; ++*n) {
		char word[TEXT_MAX];
		size_t len = strcspn(at, (char[]){ SPLIT, 0 });

		snprintf(word, sizeof(word), "%.*s", (int)len, at);
		more = at[len] == SPLIT;
		at += len + more;
		if (linux_line && !*n)
			take_kernel(e, word, t->unknown);
		else if (linux_line)
			take_option(e, word, t->unknown);
		else if (t->unknown)
			e->too_many_initrds = true;
		else if (*word)
			distro_add_initrd(e, word);
	}
}

/* What another command does to variables: "--set=NAME", "--set=1:NAME", "--set NAME", "read NAME", "for NAME in". */
static void take_setter(struct script *s, const char *what, const char *last, const struct text *t,
			bool first)
{
	const char *name = t->bytes;

	if (!strncmp(name, "--set=", 6))
		name += 6;
	else if (strcmp(last, "--set") && strcmp(last, "-s") &&
		 !(first &&
		   (!strcmp(what, "read") || !strcmp(what, "for") || !strcmp(what, "unset"))))
		return;
	if (strchr(name, ':'))
		name = strchr(name, ':') + 1;
	if (is_name(name, name + strlen(name)))
		assign(s, name, NULL);
}

static bool is_one_of(const char *word, const char *const *list)
{
	for (; *list; list++)
		if (!strcmp(word, *list))
			return true;
	return false;
}

/* Takes the words of one command. what: the command's word, read already. */
static void take_command(struct script *s, struct text *what)
{
	static const char *const linuxes[] = { "linux", "linux16", "linuxefi", NULL };
	static const char *const initrds[] = { "initrd", "initrd16", "initrdefi", NULL };
	bool linux_line = is_one_of(what->bytes, linuxes);
	bool initrd_line = is_one_of(what->bytes, initrds);
	bool set_line = !strcmp(what->bytes, "set");
	char last[8] = "";
	const char *back;
	struct text t;
	unsigned n = 0;

	if (linux_line && !s->collect)
		distro_give(&s->e, s->sink, s->opaque);
	if (take_assignment(s, what->bytes, what->unknown))
		return;
	s->entry_begins = !strcmp(what->bytes, "menuentry");
	for (back = s->at; next_token(s, &t) == TOKEN_WORD; back = s->at) {
		if (set_line && !n++)
			take_assignment(s, t.bytes, t.unknown);
		else if (!linux_line && !initrd_line)
			take_setter(s, what->bytes, last, &t, !n++);
		else if (!s->collect)
			take_words(&s->e, linux_line, &n, &t);
		snprintf(last, sizeof(last), "%.7s", t.bytes);
	}
	s->at = back; /* what ended the command is the caller's */
}

static void open_brace(struct script *s)
{
	s->depth++;
	if (s->entry_begins && !s->entry)
		s->entry = s->depth;
	s->entry_begins = false;
}

static void close_brace(struct script *s)
{
	/* A brace of an inner block splits no entry. */
	if (!s->collect)
		distro_give(&s->e, s->sink, s->opaque);
	if (s->entry && s->depth == s->entry) {
		s->entry = 0;
		forget_locals(s);
	}
	s->depth -= s->depth != 0;
}

static void walk(struct script *s, const char *cfg)
{
	static const char *const before[] = { "if",    "elif", "then", "else", "while",
					      "until", "do",   "!",    NULL };
	struct text word;
	enum token t;

	s->at = cfg;
	s->depth = s->entry = 0;
	while ((t = next_token(s, &word)) != TOKEN_END_OF_TEXT) {
		if (t == TOKEN_OPEN)
			open_brace(s);
		if (t == TOKEN_CLOSE)
			close_brace(s);
		if (t == TOKEN_WORD && !is_one_of(word.bytes, before))
			take_command(s, &word);
	}
	if (!s->collect)
		distro_give(&s->e, s->sink, s->opaque);
}

/* Returns false without memory: then there are no entries. */
static bool collect(struct script *s, const char *cfg)
{
	s->var = calloc(VARIABLES_MAX, sizeof(*s->var));
	if (!s->var)
		return false;
	s->collect = true;
	walk(s, cfg);
	return true;
}

void distro_grub_entries(const char *cfg, const char *grubenv, distro_sink sink, void *opaque)
{
	struct script s = { .grubenv = grubenv, .sink = sink, .opaque = opaque };

	if (!collect(&s, cfg))
		return;
	s.collect = false;
	walk(&s, cfg);
	free(s.var);
}

char *distro_grub_settings(const char *cfg)
{
	struct script s = { .collect = true };
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (out && collect(&s, cfg))
		for (unsigned i = 0; i < s.nvars; i++)
			if (s.var[i].known && !strchr(s.var[i].value, '\n'))
				fprintf(out, "%s=%s\n", s.var[i].name, s.var[i].value);
	free(s.var);
	if (out && fclose(out)) {
		free(text);
		text = NULL;
	}
	return text;
}
