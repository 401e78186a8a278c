/*
 * modules: finds kernel modules and what they need, and adds them to an initrd.
 *
 * A tree is /lib/modules/RELEASE or a copy of it (modules.dep tells what each module needs), or a
 * folder in which a kernel was built (the tree itself, or its O= folder): that has no modules.dep.
 * There the names come from modules.order, what a module needs from its own .modinfo section, and
 * the files are taken from where they lie. modules.builtin says in both what the kernel has without
 * a module. Soft dependencies ("pre:") are added if the tree has them. Debug information is left out of
 * modules that are not signed (strip.h).
 *
 * A tree is hostile: its lists are bounded (32 MiB, 131072 modules), a path in them that is absolute
 * or has ".." in it is refused, modules that need each other in a circle or more than 64 deep are
 * found out. Symbolic links in a tree are followed, as modprobe does: weak-updates/ consists of such.
 *
 * Errors: 0 or -errno and one line in err. Thread: one at a time.
 */
#ifndef BANTAM_PACK_MODULES_H
#define BANTAM_PACK_MODULES_H

#include <stddef.h>

#include "boot/pack/pack.h"

/* The longest name of a module with its NUL; the kernel's is 56. */
#define PACK_NAME_MAX 64

struct pack_tree;

/* -ENOENT: no tree of modules is there. A tree serves one archive. */
int pack_tree_open(struct pack_tree **out, const char *dir, struct err *err);
/* Accepts NULL. */
void pack_tree_close(struct pack_tree *tree);

/*
 * Adds a module, and before it what it needs: "NAME[?][:ARGS]". '-' and '_' are the same in NAME; it
 * may be an alias ("crc32c"). A module that the kernel has built in is there already. With '?', a
 * tree without it is no error. ARGS are its parameters.
 */
int pack_add_module(struct pack *pack, struct pack_tree *tree, const char *spec, struct err *err);
/* Several, apart by commas, or one with arguments, which may have commas. */
int pack_add_modules(struct pack *pack, struct pack_tree *tree, const char *specs, struct err *err);

#endif
