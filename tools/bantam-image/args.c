/* args: see args.h. */
#include "tools/bantam-image/args.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/core/parse.h"
#include "vmm/usage/usage.h"

static unsigned count(const struct args_table *table)
{
	unsigned n = 0;

	while (table->option[n].name)
		n++;
	BUG_ON(n > ARGS_OPTIONS_MAX);
	return n;
}

static int unknown(const struct args_table *table, const char *text, size_t len, struct err *err)
{
	const char *names[ARGS_OPTIONS_MAX];
	unsigned n = count(table);
	char name[64];
	const char *near;

	snprintf(name, sizeof(name), "%.*s", (int)len, text);
	for (unsigned i = 0; i < n; i++)
		names[i] = table->option[i].name;
	near = parse_nearest(name, names, n);
	if (near && *near)
		return err_set(err, EINVAL, "image %s: no option --%s; did you mean --%s?",
			       table->command, name, near);
	return err_set(err, EINVAL, "image %s: no option --%s; see bantam image %s --help",
		       table->command, name, table->command);
}

static int find_long(const struct args_table *table, const char *text, size_t len)
{
	for (unsigned i = 0; i < count(table); i++)
		if (strlen(table->option[i].name) == len && len &&
		    !strncmp(table->option[i].name, text, len))
			return (int)i;
	return -1;
}

static int find_letter(const struct args_table *table, char letter)
{
	for (unsigned i = 0; i < count(table); i++)
		if (table->option[i].letter == letter)
			return (int)i;
	return -1;
}

static bool is_choice(const struct args_option *option, const char *text)
{
	for (const char *const *c = option->choices; *c; c++)
		if (!strcmp(*c, text))
			return true;
	return false;
}

/* Takes the value of option i: the attached text, or the next word. argv[*at] is the option. */
static int take(const struct args_table *table, int i, const char *attached, int argc, char **argv,
		int *at, struct args *out, struct err *err)
{
	const struct args_option *option = &table->option[i];
	const char *word = argv[*at];

	if (!option->value) {
		if (attached)
			return err_set(err, EINVAL, "image %s: \"%.80s\": --%s takes no value",
				       table->command, word, option->name);
		out->value[i] = "";
		return 0;
	}
	if (attached) {
		out->value[i] = attached;
		return 0;
	}
	if (option->choices) {
		out->value[i] = option->choices[0];
		if (*at + 1 < argc && is_choice(option, argv[*at + 1]))
			out->value[i] = argv[++*at];
		return 0;
	}
	if (*at + 1 >= argc)
		return err_set(err, EINVAL, "image %s: %s needs a value: %s", table->command, word,
			       option->value);
	out->value[i] = argv[++*at];
	return 0;
}

/* Adds the value of an option that may be repeated. */
static int keep_each(const struct args_table *table, int i, struct args *out, struct err *err)
{
	const struct args_option *option = &table->option[i];

	if (!option->repeat)
		return 0;
	if (out->nmany == ARGS_MANY_MAX)
		return err_set(err, EINVAL, "image %s: --%s is given more than %u times",
			       table->command, option->name, ARGS_MANY_MAX);
	out->many[out->nmany++] = out->value[i];
	return 0;
}

static int take_option(const struct args_table *table, int argc, char **argv, int *at,
		       struct args *out, struct err *err)
{
	const char *word = argv[*at];
	const char *attached = NULL;
	int i, rc;

	if (word[1] == '-') {
		size_t len = strcspn(word + 2, "=");

		if (!strcmp(word, "--help")) {
			out->help = true;
			return 0;
		}
		i = find_long(table, word + 2, len);
		if (i < 0)
			return unknown(table, word + 2, len, err);
		if (word[2 + len] == '=')
			attached = word + 3 + len;
		rc = take(table, i, attached, argc, argv, at, out, err);
		return rc ? rc : keep_each(table, i, out, err);
	}
	if (!strcmp(word, "-h")) {
		out->help = true;
		return 0;
	}
	i = find_letter(table, word[1]);
	if (i < 0)
		return err_set(err, EINVAL, "image %s: no option %.40s; see bantam image %s --help",
			       table->command, word, table->command);
	if (word[2])
		attached = word + 2;
	return take(table, i, attached, argc, argv, at, out, err);
}

int args_parse(const struct args_table *table, int argc, char **argv, struct args *out,
	       struct err *err)
{
	bool ended = false;

	memset(out, 0, sizeof(*out));
	for (int at = 0; at < argc; at++) {
		int rc;

		if (!ended && !strcmp(argv[at], "--")) {
			ended = true;
			continue;
		}
		/* A word like "-5G" is a size (resize), not an option. */
		if (ended || argv[at][0] != '-' || !argv[at][1] ||
		    (argv[at][1] >= '0' && argv[at][1] <= '9')) {
			if (out->nfiles >= table->max_files)
				return err_set(err, EINVAL,
					       "image %s: \"%.80s\" is one argument too "
					       "many; usage: bantam image %s %s",
					       table->command, argv[at], table->command,
					       table->usage);
			out->file[out->nfiles++] = argv[at];
			continue;
		}
		rc = take_option(table, argc, argv, &at, out, err);
		if (rc)
			return rc;
		if (out->help)
			return 0;
	}
	if (out->nfiles < table->min_files)
		return err_set(err, EINVAL,
			       "image %s: too few arguments; usage: bantam image %s %s",
			       table->command, table->command, table->usage);
	for (unsigned i = 0; i < out->nfiles; i++)
		if (!out->file[i][0])
			return err_set(err, EINVAL, "image %s: an argument is empty",
				       table->command);
	return 0;
}

void args_help(const struct args_table *table)
{
	printf("usage: bantam image %s %s\n\n", table->command, table->usage);
	usage_text(stdout, 0, 0, table->about);
	for (unsigned i = 0; i < count(table); i++) {
		const struct args_option *o = &table->option[i];
		char left[64];
		int n = 0;

		if (!i)
			putchar('\n');
		if (o->letter)
			n = snprintf(left, sizeof(left), "-%c%s", o->letter, *o->name ? ", " : "");
		if (*o->name)
			n += snprintf(left + n, sizeof(left) - (size_t)n, "--%s", o->name);
		if (o->value)
			snprintf(left + n, sizeof(left) - (size_t)n, o->choices ? "[=%s]" : " %s",
				 o->value);
		usage_row(stdout, 2, 33, left, o->help, NULL);
	}
}
