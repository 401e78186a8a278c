/*
 * printable: text of others on its way to a terminal.
 *
 * A file's name, a header's text or a helper's line may hold what a terminal obeys. What is
 * let through is UTF-8 without control characters: neither C0 and DEL nor C1 (U+0080 to
 * U+009F, of which U+009B begins a sequence as ESC [ does). Each byte that is no part of that
 * becomes one "?".
 *
 * Any thread.
 */
#ifndef BANTAM_PRINTABLE_H
#define BANTAM_PRINTABLE_H

#include <stdbool.h>
#include <stdio.h>

/* In place; returns text. */
char *printable(char *text);
/* Whether there is nothing to replace. */
bool printable_is(const char *text);
/* As printable, into a stream. */
void printable_put(FILE *out, const char *text);

#endif
