/*
 * tree: reads the lists of a module tree; see modules.h.
 *
 * A list is read whole; its lines become strings in place, and a module points into them. A line
 * whose module no kernel could load (a name too long, or with a blank in it) is passed over.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "boot/pack/source.h"
#include "boot/pack/tree_impl.h"

#define TEXT_MAX (32u << 20)
#define MODULES_MAX 131072u

static int no_memory(const struct pack_tree *tree, struct err *err)
{
	return err_sys(err, ENOMEM, "%s", tree->dir);
}

const char *pack_text_line(const struct text *text, const char *prev)
{
	const char *at = prev ? prev + strlen(prev) + 1 : text->bytes;

	return at && at < text->bytes + text->len_bytes ? at : NULL;
}

int pack_tree_text(const struct pack_tree *tree, const char *file, struct text *text,
		   struct err *err)
{
	struct pack_source source;
	char *path;
	int ret;

	*text = (struct text){ 0 };
	if (asprintf(&path, "%s/%s", tree->dir, file) < 0)
		return no_memory(tree, err);
	ret = pack_source_open(&source, path, false, err);
	if (ret) {
		free(path);
		return ret == -ENOENT ? 0 : ret;
	}
	if (source.size_bytes > TEXT_MAX)
		ret = err_set(err, EFBIG, "%s: has %llu bytes; a list of modules has at most %u",
			      path, (unsigned long long)source.size_bytes, TEXT_MAX);
	if (!ret) {
		text->len_bytes = (size_t)source.size_bytes;
		text->bytes = malloc(text->len_bytes + 1);
		ret = text->bytes ?
			      pack_source_read(&source, 0, text->bytes, text->len_bytes, err) :
			      no_memory(tree, err);
	}
	if (!ret) {
		text->bytes[text->len_bytes] = 0;
		for (size_t i = 0; i < text->len_bytes; i++)
			if (text->bytes[i] == '\n')
				text->bytes[i] = 0;
	}
	pack_source_close(&source);
	free(path);
	return ret;
}

bool pack_module_name(const char *path, size_t len, char name[PACK_NAME_MAX])
{
	const char *base = memrchr(path, '/', len), *ko;

	base = base ? base + 1 : path;
	len -= (size_t)(base - path);
	ko = memmem(base, len, ".ko", 3);
	if (ko)
		len = (size_t)(ko - base);
	if (!len || len >= PACK_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = base[i];

		if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
		    !strchr("-_.,+", c))
			return false;
		name[i] = c == '-' ? '_' : c;
	}
	name[len] = 0;
	return name[0] != '.';
}

struct module *pack_tree_find(struct pack_tree *tree, const char *name)
{
	for (size_t i = 0; i < tree->nmodules; i++)
		if (!strcmp(tree->modules[i].name, name))
			return &tree->modules[i];
	return NULL;
}

bool pack_tree_builtin(const struct pack_tree *tree, const char *name)
{
	char one[PACK_NAME_MAX];

	for (const char *line = NULL; (line = pack_text_line(&tree->builtin, line));)
		if (pack_module_name(line, strlen(line), one) && !strcmp(one, name))
			return true;
	return false;
}

static int add_module(struct pack_tree *tree, const struct module *module, struct err *err)
{
	if (!(tree->nmodules & (tree->nmodules - 1))) {
		size_t room = tree->nmodules ? tree->nmodules * 2 : 1;
		struct module *more;

		if (tree->nmodules >= MODULES_MAX)
			return err_set(err, EFBIG, "%s: has more than %u modules", tree->dir,
				       MODULES_MAX);
		more = realloc(tree->modules, room * sizeof(*more));
		if (!more)
			return no_memory(tree, err);
		tree->modules = more;
	}
	tree->modules[tree->nmodules++] = *module;
	return 0;
}

/* modules.dep: "PATH: PATH PATH …" */
static int read_dep(struct pack_tree *tree, struct err *err)
{
	int ret = pack_tree_text(tree, "modules.dep", &tree->dep, err);

	for (const char *line = NULL; !ret && (line = pack_text_line(&tree->dep, line));) {
		const char *colon = strchr(line, ':');
		struct module module = { .path = line, .needs = colon ? colon + 1 : NULL };

		if (colon && pack_module_name(line, (size_t)(colon - line), module.name))
			ret = add_module(tree, &module, err);
	}
	return ret;
}

int pack_tree_open(struct pack_tree **out, const char *dir, struct err *err)
{
	struct pack_tree *tree = calloc(1, sizeof(*tree));
	int ret = 0;

	*out = NULL;
	if (tree)
		tree->dir = strdup(dir);
	if (!tree || !tree->dir)
		ret = err_sys(err, ENOMEM, "%s", dir);
	if (!ret)
		ret = read_dep(tree, err);
	if (!ret && !tree->nmodules)
		ret = err_set(err, ENOENT, "%s: no modules.dep", dir);
	if (!ret)
		ret = pack_tree_text(tree, "modules.builtin", &tree->builtin, err);
	if (!ret)
		ret = pack_tree_text(tree, "modules.softdep", &tree->softdep, err);
	if (ret)
		pack_tree_close(tree);
	else
		*out = tree;
	return ret;
}

void pack_tree_close(struct pack_tree *tree)
{
	if (!tree)
		return;
	free(tree->dep.bytes);
	free(tree->builtin.bytes);
	free(tree->softdep.bytes);
	free(tree->alias.bytes);
	free(tree->modules);
	free(tree->dir);
	free(tree);
}
