/* cmdline: see cmdline.h. */
#include "vmm/arch/cmdline.h"

#include <ctype.h>
#include <string.h>

/* Leaves out a quote at the beginning, and the one at the end if there was one. */
static void unquote(const char **text, size_t *len)
{
	if (!*len || **text != '"')
		return;
	++*text;
	--*len;
	if (*len && (*text)[*len - 1] == '"')
		--*len;
}

bool cmdline_next(const char **at, struct cmdline_word *out)
{
	const char *p = *at, *from, *equals = NULL;
	bool quoted = false;

	while (isspace((unsigned char)*p))
		p++;
	for (from = p; *p && (quoted || !isspace((unsigned char)*p)); p++) {
		if (*p == '=' && !equals)
			equals = p;
		if (*p == '"')
			quoted = !quoted;
	}
	*at = p;
	*out = (struct cmdline_word){ .name = from, .name_len = (size_t)(p - from) };
	unquote(&out->name, &out->name_len);
	if (equals) {
		const char *end = out->name + out->name_len;

		out->name_len = (size_t)(equals - out->name);
		out->value = equals + 1;
		out->value_len = (size_t)(end - out->value);
		unquote(&out->value, &out->value_len);
	}
	return p > from && !(p - from == 2 && !memcmp(from, "--", 2));
}

static char plain(char c)
{
	return c == '-' ? '_' : c;
}

bool cmdline_is(const struct cmdline_word *word, const char *name)
{
	for (size_t i = 0; i < word->name_len; i++)
		if (plain(word->name[i]) != plain(name[i]))
			return false;
	return !name[word->name_len];
}

bool cmdline_lists(const struct cmdline_word *word, const char *item)
{
	const char *at = word->value, *end = at ? at + word->value_len : NULL;
	size_t len = strlen(item);

	while (at) {
		const char *comma = memchr(at, ',', (size_t)(end - at));
		size_t n = (size_t)((comma ? comma : end) - at);

		if (n == len && !memcmp(at, item, n))
			return true;
		at = comma ? comma + 1 : NULL;
	}
	return false;
}
