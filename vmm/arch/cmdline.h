/*
 * cmdline: the words of a Linux command line, told apart as the kernel does it (lib/cmdline.c and
 * kernel/params.c of Linux). Pure; any thread.
 */
#ifndef BANTAM_ARCH_CMDLINE_H
#define BANTAM_ARCH_CMDLINE_H

#include <stdbool.h>
#include <stddef.h>

/* Parts of the command line, which are not terminated. value is NULL without "=". */
struct cmdline_word {
	const char *name, *value;
	size_t name_len, value_len;
};

/*
 * Takes the word at *at and moves *at behind it. Returns false at the end: of the text, or the word
 * "--", after which init's words come. Quotes around a word or a value are left out.
 */
bool cmdline_next(const char **at, struct cmdline_word *out);
/* Is it the option of this name? "-" and "_" are the same to the kernel. */
bool cmdline_is(const struct cmdline_word *word, const char *name);
/* Has its value, a list with commas, this item? */
bool cmdline_lists(const struct cmdline_word *word, const char *item);

#endif
