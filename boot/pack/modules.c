/*
 * modules: adds modules with what they need; see modules.h.
 *
 * Theory of operation: `visit` adds a module after its hard and soft dependencies, each of which it
 * visits in the same way. In modules.dep the hard ones of a module are complete and in order (the
 * one to load first is last), so visits go deep only through soft ones; a built module names only
 * those that it needs itself. A module is marked when its
 * visit begins: a soft dependency that leads back to it is left out, as modprobe does. Nothing of a
 * tree is believed: names were checked when the lists were read, and pack_tree_source checks a path
 * before a file is opened.
 */
#include "boot/pack/modules.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/pack/pack_impl.h"
#include "boot/pack/tree_impl.h"

#define DEPTH_MAX 64
#define NEEDS_MAX 4096

static int visit(struct pack *pack, struct pack_tree *tree, struct module *module, const char *args,
		 unsigned depth, struct err *err);

/* The next word of a line from *at on; returns its length, 0 at the end. */
static size_t next_word(const char **at)
{
	*at += strspn(*at, " \t");
	return strcspn(*at, " \t");
}

static int list(struct pack *pack, const struct pack_tree *tree, const struct module *module,
		const char *args, struct err *err)
{
	char *source;
	int ret = pack_tree_source(tree, module, &source, err);

	if (ret)
		return ret;
	ret = pack_list_module(pack, module->name, source, args, err);
	free(source);
	return ret;
}

/*
 * Finds a module by its alias in modules.alias. Of several it takes the generic one, which works on
 * every CPU. Sets *out to NULL if there is none.
 */
static int find_alias(struct pack_tree *tree, const char *alias, size_t len, struct module **out,
		      struct err *err)
{
	char name[PACK_NAME_MAX] = "", one[PACK_NAME_MAX];
	int ret = pack_tree_aliases(tree, err);

	*out = NULL;
	if (ret)
		return ret;
	for (const char *line = NULL; (line = pack_text_line(&tree->alias, line));) {
		const char *at = line;
		size_t n = next_word(&at);

		if (n != 5 || memcmp(at, "alias", 5))
			continue;
		at += n;
		n = next_word(&at);
		if (n != len || memcmp(at, alias, len))
			continue;
		at += n;
		n = next_word(&at);
		if (pack_module_name(at, n, one) && (!*name || strstr(one, "_generic")))
			strcpy(name, one);
	}
	*out = *name ? pack_tree_find(tree, name) : NULL;
	return 0;
}

/*
 * Finds the module that is meant by the len bytes of word: a name, or an alias. Sets *out to NULL if
 * the kernel has it built in, or if it is optional and the tree does not have it.
 */
static int look_up(struct pack_tree *tree, const char *word, size_t len, bool optional,
		   struct module **out, struct err *err)
{
	char name[PACK_NAME_MAX];
	int ret;

	*out = NULL;
	if (pack_module_name(word, len, name)) {
		*out = pack_tree_find(tree, name);
		if (*out || pack_tree_builtin(tree, name))
			return 0;
	}
	ret = find_alias(tree, word, len, out, err);
	if (ret || *out || optional)
		return ret;
	return err_set(err, ENOENT, "no module %.*s in %s", len < 100 ? (int)len : 100, word,
		       tree->dir);
}

/* Visits what a soft dependency names behind "pre:": "[pre: NAME …] [post: NAME …]". */
static int visit_words(struct pack *pack, struct pack_tree *tree, const char *at, unsigned depth,
		       struct err *err)
{
	bool pre = false;

	for (size_t n; (n = next_word(&at)); at += n) {
		struct module *found;
		int ret;

		if ((n == 4 && !memcmp(at, "pre:", n)) || (n == 5 && !memcmp(at, "post:", n))) {
			pre = n == 4;
			continue;
		}
		if (!pre)
			continue;
		ret = look_up(tree, at, n, true, &found, err);
		if (!ret && found)
			ret = visit(pack, tree, found, "", depth, err);
		if (ret)
			return ret;
	}
	return 0;
}

/* Visits the soft dependencies of module that are to be loaded before it. */
static int visit_soft(struct pack *pack, struct pack_tree *tree, const struct module *module,
		      unsigned depth, struct err *err)
{
	char name[PACK_NAME_MAX];
	int ret = 0;

	for (const char *soft = NULL;
	     !ret && (soft = pack_modinfo_next(&module->info, "softdep", soft));)
		ret = visit_words(pack, tree, soft, depth, err);
	for (const char *line = NULL; !ret && (line = pack_text_line(&tree->softdep, line));) {
		const char *at = line;
		size_t n = next_word(&at);

		if (n != 7 || memcmp(at, "softdep", 7))
			continue;
		at += n;
		n = next_word(&at);
		if (pack_module_name(at, n, name) && !strcmp(name, module->name))
			ret = visit_words(pack, tree, at + n, depth, err);
	}
	return ret;
}

/* Visits the hard dependencies of module, the last one first. */
static int visit_hard(struct pack *pack, struct pack_tree *tree, const struct module *module,
		      unsigned depth, struct err *err)
{
	size_t end = strlen(module->needs);

	for (unsigned i = 0; i < NEEDS_MAX; i++) {
		const char *needs = module->needs;
		size_t start;
		struct module *found;
		char name[PACK_NAME_MAX];
		int ret;

		while (end && strchr(" \t,", needs[end - 1]))
			end--;
		if (!end)
			return 0;
		for (start = end; start && !strchr(" \t,", needs[start - 1]);)
			start--;
		found = pack_module_name(needs + start, end - start, name) ?
				pack_tree_find(tree, name) :
				NULL;
		if (!found)
			return err_set(err, ENOENT, "%s: %s needs %.*s, which it does not have",
				       tree->dir, module->name,
				       end - start < 200 ? (int)(end - start) : 200, needs + start);
		ret = visit(pack, tree, found, "", depth, err);
		if (ret)
			return ret;
		end = start;
	}
	return err_set(err, E2BIG, "%s: module %s needs more than %u others", tree->dir,
		       module->name, NEEDS_MAX);
}

/* A built module tells itself what it needs. */
static int ask(const struct pack_tree *tree, struct module *module, struct err *err)
{
	const char *name;
	int ret = module->needs ? 0 : pack_tree_modinfo(tree, module, &module->info, err);

	if (ret || module->needs)
		return ret;
	name = pack_modinfo_next(&module->info, "name", NULL);
	if (name && strcmp(name, module->name))
		return err_set(err, EINVAL,
			       "%s: the file of module %s says that it is module %.64s", tree->dir,
			       module->name, name);
	module->needs = pack_modinfo_next(&module->info, "depends", NULL);
	if (!module->needs)
		module->needs = "";
	return 0;
}

static int visit(struct pack *pack, struct pack_tree *tree, struct module *module, const char *args,
		 unsigned depth, struct err *err)
{
	int ret;

	if (module->visited) {
		if (*args)
			return err_set(
				err, EINVAL,
				"module %s: is packed already; give its arguments before what needs it",
				module->name);
		return 0;
	}
	if (depth >= DEPTH_MAX)
		return err_set(err, ELOOP, "%s: modules need each other more than %u deep, at %s",
			       tree->dir, DEPTH_MAX, module->name);
	module->visited = true;
	ret = ask(tree, module, err);
	if (!ret)
		ret = visit_hard(pack, tree, module, depth + 1, err);
	if (!ret)
		ret = visit_soft(pack, tree, module, depth + 1, err);
	if (!ret)
		ret = list(pack, tree, module, args, err);
	return ret;
}

int pack_add_module(struct pack *pack, struct pack_tree *tree, const char *spec, struct err *err)
{
	size_t len = strcspn(spec, "?:");
	const char *colon = strchr(spec, ':'), *args = colon ? colon + 1 : "";
	struct module *module;
	int ret;

	if (!len || (spec[len] == '?' && spec[len + 1] && spec[len + 1] != ':') ||
	    strpbrk(spec, "\n"))
		return err_set(err, EINVAL, "module '%.200s': must be NAME[?][:ARGS]", spec);
	ret = look_up(tree, spec, len, spec[len] == '?', &module, err);
	return ret || !module ? ret : visit(pack, tree, module, args, 0, err);
}

int pack_add_modules(struct pack *pack, struct pack_tree *tree, const char *specs, struct err *err)
{
	if (strchr(specs, ':'))
		return pack_add_module(pack, tree, specs, err);
	while (*specs) {
		size_t len = strcspn(specs, ",");
		char *one = len ? strndup(specs, len) : NULL;
		int ret = 0;

		if (len)
			ret = one ? pack_add_module(pack, tree, one, err) :
				    err_sys(err, ENOMEM, "module %.200s", specs);
		free(one);
		if (ret)
			return ret;
		specs += len + (specs[len] == ',');
	}
	return 0;
}
