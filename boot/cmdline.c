/* cmdline: see cmdline.h. */
#include "boot/cmdline.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Returns init's words, after "--", or NULL if it has none. *len: of the kernel's words. */
static const char *split(const char *text, size_t *len)
{
	bool quoted = false;

	*len = strlen(text);
	for (const char *p = text; *p; p++) {
		bool begins = p == text || isspace((unsigned char)p[-1]);

		if (*p == '"')
			quoted = !quoted;
		if (quoted || !begins || strncmp(p, "--", 2) ||
		    (p[2] && !isspace((unsigned char)p[2])))
			continue;
		*len = (size_t)(p - text);
		while (*len && isspace((unsigned char)text[*len - 1]))
			--*len;
		p += 2;
		while (isspace((unsigned char)*p))
			p++;
		return p;
	}
	return NULL;
}

/* Returns a blank if there are words on both sides. */
static const char *between(size_t left, size_t right)
{
	return left && right ? " " : "";
}

char *boot_cmdline_join(const char *first, const char *second)
{
	size_t n, m;
	const char *a = split(first, &n), *b = split(second, &m);
	const char *init_a = a ? a : "", *init_b = b ? b : "";
	char *text;

	if (asprintf(&text, "%.*s%s%.*s%s%s%s%s%s%s", (int)n, first, between(n, m), (int)m, second,
		     between(n + m, a || b), a || b ? "--" : "", *init_a || *init_b ? " " : "",
		     init_a, between(strlen(init_a), strlen(init_b)), init_b) < 0)
		return NULL;
	return text;
}
