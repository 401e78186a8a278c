/*
 * shell: a shell and the usual small programs for a guest that has nothing.
 *
 * The host's /bin/busybox with a link for each of its programs, if it is static; else the host's /bin/sh and
 * those of a list of programs that the host has, with their libraries. What is there already stays.
 *
 * Errors: 0 or -errno and one line in err. Thread: one at a time.
 */
#ifndef BANTAM_PACK_SHELL_H
#define BANTAM_PACK_SHELL_H

#include "boot/pack/pack.h"

/* root: "", or a folder in which /bin/busybox is looked for, for tests. -ENOENT: the host has no shell. */
int pack_add_shell(struct pack *pack, const char *root, struct err *err);

/* Who root is, and what localhost is: programs ask. Files that are there stay. */
int pack_add_users(struct pack *pack, struct err *err);

#endif
