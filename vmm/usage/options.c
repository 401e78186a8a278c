/* options: see options.h. */
#include "vmm/usage/options.h"

#include <errno.h>
#include <string.h>

#include "vmm/core/keys.h"
#include "vmm/usage/usage.h"

static int unknown(const struct usage_words *words, const char *word, struct err *err)
{
	const char *names[USAGE_OPTIONS_MAX];
	size_t n = 0;

	for (const struct usage_option *o = words->options; o->name; o++) {
		BUG_ON(n == USAGE_OPTIONS_MAX);
		names[n++] = o->name;
	}
	return keys_no_word("option", word, names, n, words->see, err);
}

/* name: NULL: by its letter. */
static const struct usage_option *find(const struct usage_option *options, const char *name,
				       int letter)
{
	for (; options->name; options++)
		if (name ? !strcmp(options->name, name) : options->id == letter)
			return options;
	return NULL;
}

/* The value of an option: what stands behind it in its word, or else the next word. */
static int take_value(struct usage_words *words, const char *word, const char *attached,
		      const char **value, struct err *err)
{
	*value = attached;
	if (!attached && words->at == words->argc)
		return err_set(err, EINVAL, "%.60s: needs a value; see %s", word, words->see);
	if (!attached)
		*value = words->argv[words->at++];
	return 1;
}

/* The next letter of the word. */
static int take_letter(struct usage_words *words, const char *word,
		       const struct usage_option **option, const char **value, struct err *err)
{
	const struct usage_option *o = find(words->options, NULL, (unsigned char)*words->letters);
	const char *rest = words->letters + 1;

	if (!o)
		return unknown(words, word, err);
	*option = o;
	words->letters = *rest && !o->value ? rest : NULL;
	return o->value ? take_value(words, word, *rest ? rest : NULL, value, err) : 1;
}

int usage_next(struct usage_words *words, const struct usage_option **option, const char **value,
	       struct err *err)
{
	char name[KEYS_NAME_MAX];
	const char *word, *attached;

	*option = NULL;
	*value = NULL;
	if (words->letters)
		return take_letter(words, words->argv[words->at - 1], option, value, err);
	if (words->at < words->argc && !words->ended && !strcmp(words->argv[words->at], "--")) {
		words->ended = true;
		words->at++;
	}
	if (words->at == words->argc)
		return 0;
	word = words->argv[words->at++];
	if (words->ended || word[0] != '-' || !word[1]) {
		*value = word;
		return 1;
	}
	if (!keys_option(word, name, &attached)) {
		words->letters = word + 1;
		return take_letter(words, word, option, value, err);
	}
	*option = find(words->options, name, 0);
	if (!*option)
		return unknown(words, word, err);
	if ((*option)->value)
		return take_value(words, word, attached, value, err);
	return attached ? err_set(err, EINVAL, "--%s: takes no value", name) : 1;
}

void usage_option_row(FILE *out, int help_at, const struct usage_option *option)
{
	char lead[80];
	int n = 0;

	if (option->id < 256)
		n = snprintf(lead, sizeof(lead), "-%c, ", (char)option->id);
	snprintf(lead + n, sizeof(lead) - (size_t)n, "--%s%s%s", option->name,
		 option->value ? " " : "", option->value ? option->value : "");
	usage_row(out, 2, help_at, lead, option->help, NULL);
}
