/* tree_impl: the lists of a module tree; see modules.h. For modules.c, tree.c and release.c. */
#ifndef BANTAM_PACK_TREE_IMPL_H
#define BANTAM_PACK_TREE_IMPL_H

#include <stdbool.h>
#include <stddef.h>

#include "boot/pack/modinfo.h"
#include "boot/pack/modules.h"

struct module {
	char name[PACK_NAME_MAX]; /* with '_' in place of '-' */
	const char *path;	  /* within the tree; in one of its texts, not as a string */
	size_t path_len;
	/*
	 * Installed: paths apart by blanks; the one to load first is last. Built: NULL until the
	 * module is visited, then names apart by commas, in info.
	 */
	const char *needs;
	struct pack_modinfo info; /* built: owned */
	bool visited;
};

/* A list of the tree, each line of it a string. An empty one is a file that is not there. */
struct text {
	char *bytes; /* with a NUL behind them */
	size_t len_bytes;
};

struct pack_tree {
	char *dir;
	bool built; /* a build's folder: dep is modules.order, and path has no suffix */
	struct text dep, builtin, softdep, alias;
	bool have_alias;
	struct module *modules;
	size_t nmodules;
};

/* Returns the next line after prev (the first after NULL), or NULL. */
const char *pack_text_line(const struct text *text, const char *prev);
int pack_tree_text(const struct pack_tree *tree, const char *file, struct text *text,
		   struct err *err);

/* The module's file on the host; the caller frees *path. A path that leaves the tree is -EINVAL. */
int pack_tree_source(const struct pack_tree *tree, const struct module *module, char **path,
		     struct err *err);
int pack_tree_modinfo(const struct pack_tree *tree, const struct module *module,
		      struct pack_modinfo *info, struct err *err);
/* Fills tree->alias, once. */
int pack_tree_aliases(struct pack_tree *tree, struct err *err);

/*
 * Writes "virtio_blk" for the first len bytes of kernel/drivers/block/virtio-blk.ko.xz to name.
 * Returns false if that is no name that a module can have.
 */
bool pack_module_name(const char *path, size_t len, char name[PACK_NAME_MAX]);
struct module *pack_tree_find(struct pack_tree *tree, const char *name);
bool pack_tree_builtin(const struct pack_tree *tree, const char *name);

#endif
