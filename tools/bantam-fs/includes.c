/* includes: see includes.h. */
#include "tools/bantam-fs/includes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/distro/distro.h"

#define FILES_MAX 32u

struct expansion {
	includes_find find;
	void *opaque;
	FILE *out;
	uint64_t seen[FILES_MAX];
	unsigned n;
};

/* Returns the content of a file that is not in the text yet, or NULL. */
static char *first_time(struct expansion *x, const char *path)
{
	uint64_t number = x->find(x->opaque, path, NULL);
	char *text = NULL;

	for (unsigned i = 0; i < x->n; i++)
		if (x->seen[i] == number)
			return NULL;
	if (!number || x->n == FILES_MAX)
		return NULL;
	x->seen[x->n++] = number;
	x->find(x->opaque, path, &text);
	return text;
}

static void put(struct expansion *x, const char *text)
{
	char path[DISTRO_PATH_MAX];

	for (const char *line = text; *line; line += *line != 0) {
		size_t len = strcspn(line, "\n");
		char *more = NULL;

		if (distro_syslinux_include(line, path))
			more = first_time(x, path);
		if (more)
			put(x, more);
		else
			fprintf(x->out, "%.*s\n", (int)len, line);
		free(more);
		line += len;
	}
}

char *includes_expand(char *text, includes_find find, void *opaque)
{
	struct expansion x = { .find = find, .opaque = opaque };
	char *all = NULL;
	size_t len;

	x.out = open_memstream(&all, &len);
	if (x.out) {
		put(&x, text);
		if (fclose(x.out)) {
			free(all);
			all = NULL;
		}
	}
	free(text);
	return all;
}
