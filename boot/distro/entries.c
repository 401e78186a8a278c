/* entries: of the Boot Loader Specification and of syslinux. See distro.h. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "boot/distro/distro_impl.h"

static bool starts(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

static const char *skip_blanks(const char *s)
{
	return s + strspn(s, " \t\r");
}

/* Returns the value of "key value", or NULL for another key. */
static const char *value_of(const char *line, const char *key)
{
	const char *s = skip_blanks(line);

	if (strncasecmp(s, key, strlen(key)))
		return NULL;
	s += strlen(key);
	return *s == ' ' || *s == '\t' ? skip_blanks(s) : NULL;
}

/* Returns the value of word, "$name" or "${name}", in grubenv, or NULL. */
static const char *variable_value(const char *grubenv, const char *word)
{
	char name[DISTRO_WORD_MAX];
	size_t n;

	if (*word != '$')
		return NULL;
	word += word[1] == '{' ? 2 : 1;
	n = strcspn(word, "}");
	if (!n || (word[n] && word[n + 1]))
		return NULL;
	snprintf(name, sizeof(name), "%.*s", (int)n, word);
	return distro_env_value(grubenv, name);
}

/* Takes the options in a line; $name is replaced by the value of name in grubenv. */
static void take_words(const char *s, const char *grubenv, struct distro_entry *e)
{
	const char *end = distro_line_end(s);
	char word[DISTRO_WORD_MAX];

	while ((s = distro_word(s, end, word))) {
		const char *value = variable_value(grubenv, word);

		/* Without grubenv: a value's own variables are not replaced. */
		if (value)
			take_words(value, NULL, e);
		else if (!strchr(word, '$') || starts(word, "root="))
			distro_add_option(e, word);
		else
			e->unknown_words = true;
	}
}

/* Takes the paths in a value, between blanks or commas. */
static void take_initrds(const char *s, struct distro_entry *e)
{
	const char *end = distro_line_end(s);
	char word[DISTRO_WORD_MAX];

	while ((s = distro_word(s, end, word))) {
		char *save = NULL;

		if (*word == '$') /* such as $tuned_initrd, which is often empty */
			continue;
		for (char *path = strtok_r(word, ",", &save); path;
		     path = strtok_r(NULL, ",", &save))
			distro_add_initrd(e, path);
	}
}

static void take_path(const char *value, char to[DISTRO_PATH_MAX])
{
	char word[DISTRO_WORD_MAX];

	if (distro_word(value, distro_line_end(value), word))
		distro_keep_path(to, word);
}

bool distro_bls_entry(const char *text, const char *grubenv, struct distro_entry *e)
{
	memset(e, 0, sizeof(*e));
	for (const char *line = text; *line; line += *line != 0) {
		const char *value;

		if ((value = value_of(line, "linux")))
			take_path(value, e->kernel);
		else if ((value = value_of(line, "initrd")))
			take_initrds(value, e);
		else if ((value = value_of(line, "version")))
			take_path(value, e->version);
		else if ((value = value_of(line, "options"))) /* there may be several */
			take_words(value, grubenv, e);
		line = distro_line_end(line);
	}
	return *e->kernel && !e->recovery;
}

/* The options of a label: its own, else the file's; initrd= among them names the initrds. */
static void give_label(struct distro_entry *e, const char *all, distro_sink sink, void *opaque)
{
	const char *s, *end;
	char word[DISTRO_WORD_MAX];

	if (!e->has_options && all)
		take_words(all, NULL, e);
	s = e->options;
	end = s + strlen(s);
	while (!e->ninitrds && (s = distro_word(s, end, word)))
		if (starts(word, "initrd="))
			take_initrds(word + 7, e);
	distro_give(e, sink, opaque);
}

bool distro_syslinux_include(const char *line, char path[DISTRO_PATH_MAX])
{
	const char *menu = value_of(line, "menu");
	const char *value = value_of(menu ? menu : line, "include");

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

		if (value_of(line, "label")) {
			give_label(&e, all, sink, opaque);
			label = true;
		} else if ((value = value_of(line, "linux")) ||
			   (value = value_of(line, "kernel"))) {
			take_path(value, e.kernel);
		} else if ((value = value_of(line, "initrd"))) {
			e.ninitrds = 0;
			take_initrds(value, &e);
		} else if ((value = value_of(line, "append")) && !label) {
			all = value;
		} else if (value) {
			/* The last counts; "-": not even the file's. */
			*e.options = 0;
			e.recovery = false;
			e.has_options = true;
			if (value[0] != '-' || !strchr(" \t\r\n", value[1]))
				take_words(value, NULL, &e);
		}
		line = distro_line_end(line);
	}
	give_label(&e, all, sink, opaque);
}
