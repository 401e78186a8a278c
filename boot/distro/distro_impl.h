/* distro_impl: words and entries, which the readers of boot loader files share. See distro.h. */
#ifndef BANTAM_BOOT_DISTRO_IMPL_H
#define BANTAM_BOOT_DISTRO_IMPL_H

#include "boot/distro/distro.h"

#define DISTRO_WORD_MAX 1024u

/* Returns the end of the line that begins at s: its newline, or the text's end. */
const char *distro_line_end(const char *s);
/*
 * Appends a word after a space. Returns false and appends nothing if the word does not fit or has
 * characters that are not printable ASCII.
 */
bool distro_append(char *to, size_t len, const char *word);
/*
 * Reads one word of a kernel's command line, with its quotes: a space between double quotes is
 * part of the word. Returns the end of the word, or NULL if there is none. A word of
 * DISTRO_WORD_MAX or more bytes is read as "".
 */
const char *distro_word(const char *s, const char *end, char word[DISTRO_WORD_MAX]);
/*
 * Copies the name of a partition. Bytes that are not printable become octal escapes, which
 * spec_find replaces. Returns false, with to empty, if it does not fit.
 */
bool distro_keep_spec(char *to, size_t len, const char *spec);
/* The value of "NAME=VALUE" in env, a grubenv, up to the line's end; NULL: none. */
const char *distro_env_value(const char *env, const char *name);

/* Parts of an entry. A root= that cannot be kept as it is stays in the options as one that names nothing. */
void distro_add_option(struct distro_entry *e, const char *word);
void distro_keep_path(char to[DISTRO_PATH_MAX], const char *word);
void distro_add_initrd(struct distro_entry *e, const char *word);
/* Hands e to the sink, unless it boots nothing or is for recovery, and clears it. */
void distro_give(struct distro_entry *e, distro_sink sink, void *opaque);

#endif
