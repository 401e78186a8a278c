/*
 * helper: the programs that belong to bantam and run as processes of their own.
 *
 * What parses other people's file systems or packets, or needs a library that no
 * VM should carry, is a program beside bantam. Any thread.
 */
#ifndef BANTAM_HELPER_H
#define BANTAM_HELPER_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The path of helper name: in $BANTAM_LIBEXEC if that is set (and nowhere else), next to this
 * program, or where make install puts it. false: there is none that can be run.
 */
bool helper_find(const char *name, char *path, size_t len);

#endif
