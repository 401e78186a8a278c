/*
 * printable: makes untrusted text safe for a terminal.
 *
 * A file's name, a header's text or a helper's line may hold control sequences. Only UTF-8 without
 * control characters passes: neither C0 and DEL nor C1 (U+0080 to U+009F, of which U+009B begins a
 * sequence as ESC [ does). Every other byte becomes one "?".
 *
 * Any thread.
 */
#ifndef BANTAM_PRINTABLE_H
#define BANTAM_PRINTABLE_H

#include <stdbool.h>
#include <stdio.h>

/* In place; returns text. */
char *printable(char *text);
/* Returns true if there is nothing to replace. */
bool printable_is(const char *text);
/* As printable, into a stream. */
void printable_put(FILE *out, const char *text);

#endif
