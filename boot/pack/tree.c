/*
 * tree: reads the lists of a module tree; see modules.h.
 *
 * In the folder of a build, modules.order has a line for each module: "drivers/x/y.ko", since Linux
 * 6.3 "drivers/x/y.o", before 5.3 "kernel/drivers/x/y.ko". depmod has not run for it, so the lists of
 * dependencies and aliases are made from the modules themselves. A folder into which modules were
 * only copied looks the same, but for compressed modules.
 *
 * A list is read whole; its lines become strings in place, and a module points into them. A line
 * whose module no kernel could load (a name too long, or with a blank in it) is passed over.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

		module.path_len = colon ? (size_t)(colon - line) : 0;
		if (colon && pack_module_name(line, (size_t)(colon - line), module.name))
			ret = add_module(tree, &module, err);
	}
	return ret;
}

/* modules.order of a build: a path in each line */
static int read_order(struct pack_tree *tree, struct err *err)
{
	int ret;

	free(tree->dep.bytes);
	tree->built = true;
	ret = pack_tree_text(tree, "modules.order", &tree->dep, err);
	for (const char *line = NULL; !ret && (line = pack_text_line(&tree->dep, line));) {
		struct module module = { .path = line, .path_len = strlen(line) };

		if (module.path_len > 3 && !strcmp(line + module.path_len - 3, ".ko"))
			module.path_len -= 3;
		else if (module.path_len > 2 && !strcmp(line + module.path_len - 2, ".o"))
			module.path_len -= 2;
		else
			continue;
		if (pack_module_name(line, module.path_len, module.name))
			ret = add_module(tree, &module, err);
	}
	return ret;
}

/* A path of a list stays below the tree. */
static bool path_ok(const char *path, size_t len)
{
	if (!len || path[0] == '/')
		return false;
	for (size_t i = 0; i < len; i++)
		if ((!i || path[i - 1] == '/') && len - i >= 2 && !memcmp(path + i, "..", 2) &&
		    (len - i == 2 || path[i + 2] == '/'))
			return false;
	return true;
}

/* Where a build may have a module, after the folder and before the suffix. */
static int find_built(const struct pack_tree *tree, const struct module *module, char **path,
		      struct err *err)
{
	static const char suffixes[][8] = { ".ko", ".ko.xz", ".ko.zst", ".ko.gz" };

	for (unsigned i = 0; i < 2 * sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		size_t skip = i % 2 ? strlen("kernel/") : 0;

		if (skip && (module->path_len < skip || memcmp(module->path, "kernel/", skip)))
			continue;
		if (asprintf(path, "%s/%.*s%s", tree->dir, (int)(module->path_len - skip),
			     module->path + skip, suffixes[i / 2]) < 0)
			return no_memory(tree, err);
		if (!access(*path, F_OK))
			return 0;
		free(*path);
	}
	return err_set(
		err, ENOENT,
		"%s: modules.order has %.*s, but there is no such module file; was it built?",
		tree->dir, module->path_len < 200 ? (int)module->path_len : 200, module->path);
}

int pack_tree_source(const struct pack_tree *tree, const struct module *module, char **path,
		     struct err *err)
{
	size_t len = module->path_len;

	if (!path_ok(module->path, len))
		return err_set(err, EINVAL,
			       "%s: the path of module %s, '%.*s', must lie below that folder",
			       tree->dir, module->name, len < 200 ? (int)len : 200, module->path);
	if (tree->built)
		return find_built(tree, module, path, err);
	return asprintf(path, "%s/%.*s", tree->dir, (int)len, module->path) < 0 ?
		       no_memory(tree, err) :
		       0;
}

int pack_tree_modinfo(const struct pack_tree *tree, const struct module *module,
		      struct pack_modinfo *info, struct err *err)
{
	struct pack_source source;
	char *path;
	int ret = pack_tree_source(tree, module, &path, err);

	if (ret)
		return ret;
	ret = pack_source_open(&source, path, true, err);
	if (!ret) {
		ret = pack_modinfo_read(&source, info, err);
		pack_source_close(&source);
	}
	free(path);
	return ret;
}

/* Appends "alias ALIAS NAME" for each alias that is a name, not a pattern for devices. */
static void put_aliases(FILE *out, const struct module *module, const struct pack_modinfo *info)
{
	for (const char *alias = NULL; (alias = pack_modinfo_next(info, "alias", alias));)
		if (!strpbrk(alias, ":*? \t\n"))
			fprintf(out, "alias %s %s%c", alias, module->name, 0);
}

int pack_tree_aliases(struct pack_tree *tree, struct err *err)
{
	FILE *out;
	int ret = 0;

	if (tree->have_alias)
		return 0;
	tree->have_alias = true;
	if (!tree->built)
		return pack_tree_text(tree, "modules.alias", &tree->alias, err);
	out = open_memstream(&tree->alias.bytes, &tree->alias.len_bytes);
	if (!out)
		return no_memory(tree, err);
	for (size_t i = 0; !ret && i < tree->nmodules; i++) {
		struct pack_modinfo info;

		/* A module that cannot be read has no alias; if it is packed, that is the error. */
		if (pack_tree_modinfo(tree, &tree->modules[i], &info, NULL))
			continue;
		put_aliases(out, &tree->modules[i], &info);
		pack_modinfo_free(&info);
		if (ftello(out) > TEXT_MAX)
			ret = err_set(err, EFBIG,
				      "%s: its modules have more than %u bytes of aliases",
				      tree->dir, TEXT_MAX);
	}
	return fclose(out) && !ret ? no_memory(tree, err) : ret;
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
		ret = read_order(tree, err);
	if (!ret)
		ret = pack_tree_text(tree, "modules.builtin", &tree->builtin, err);
	if (!ret && !tree->nmodules && !tree->builtin.bytes)
		ret = err_set(err, ENOENT,
			      "%s: no modules.dep, and no modules.order as in a kernel's build",
			      dir);
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
	for (size_t i = 0; i < tree->nmodules; i++)
		pack_modinfo_free(&tree->modules[i].info);
	free(tree->modules);
	free(tree->dir);
	free(tree);
}
