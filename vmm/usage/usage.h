/*
 * usage: the layout of help texts, for bantam's commands and its helper programs.
 *
 * A help text is paragraphs and rows. A row is what the user types, and beside it what that does, in a
 * column of its own. Lines are as wide as the terminal to which the text goes, and 80 columns elsewhere:
 * what a program reads (completion, the check of the man pages) is always the same. Widths are
 * characters of UTF-8, each of one column. Writes only to out; errors are out's. One thread.
 */
#ifndef BANTAM_USAGE_H
#define BANTAM_USAGE_H

#include <stdio.h>

#define USAGE_COLUMNS 80
/* Where the help of a row begins, except in a program whose rows are short. */
#define USAGE_HELP_AT 30

/* Columns of a line of out. */
int usage_columns(FILE *out);

/* Text as one paragraph: its words with single blanks, and a newline. indent and rest: columns of blanks before
 * the first line and before the others. */
void usage_text(FILE *out, int indent, int rest, const char *text);

/*
 * A row: lead after indent blanks, and help from column help_at on, 22 to 40. A long lead has a line for
 * itself. note, if not NULL, comes last in brackets and is not broken. In a narrow terminal the help
 * is below the lead.
 */
void usage_row(FILE *out, int indent, int help_at, const char *lead, const char *help,
	       const char *note);

#endif
