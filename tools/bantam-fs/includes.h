/*
 * includes: the text of a syslinux file with the texts of those that it includes.
 *
 * All text is hostile. One thread.
 */
#ifndef BANTAM_FS_INCLUDES_H
#define BANTAM_FS_INCLUDES_H

#include <stdint.h>

/*
 * Returns a number of the file that the path means, 0 if there is none. If text is not NULL, also
 * its content, for free(); NULL if it cannot be read.
 */
typedef uint64_t (*includes_find)(void *opaque, const char *path, char **text);

/*
 * Returns text with the content of each file in place of the line that includes it, for free();
 * frees text. Each file counts once, so that files that include each other end, and at most 32.
 * Other lines that include stay. NULL: no memory.
 */
char *includes_expand(char *text, includes_find find, void *opaque);

#endif
