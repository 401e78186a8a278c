/*
 * options: a command line that a table describes: "--NAME VALUE", "--NAME=VALUE", "-nVALUE", "-n VALUE", several
 * letters in one word, and operands between them; "--" ends the options. The same table prints --help and
 * serves "did you mean". An option is known by its whole name: an abbreviation would change its meaning
 * with a new option.
 *
 * Texts stay the caller's. Errors: one line in err. Thread: one for each struct usage_words.
 */
#ifndef BANTAM_USAGE_OPTIONS_H
#define BANTAM_USAGE_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "vmm/core/err.h"

/* Of one table. */
#define USAGE_OPTIONS_MAX 40u

struct usage_option {
	const char *name; /* without dashes; NULL: the end of the table */
	int id; /* the caller's number, not 0; below 256 the option has this letter, too */
	const char *value; /* as --help shows it; NULL: a flag */
	const char *help;
};

struct usage_words {
	int argc;
	char **argv;
	const struct usage_option *options;
	const char *see; /* where the options are listed: "bantam initrd --help" */
	/* how far usage_next is; zeroes at the start */
	int at;
	const char *letters; /* the rest of a word of letters */
	bool ended;	     /* "--" was there */
};

/*
 * Takes the next option or operand. Returns 1, 0 at the end, or -EINVAL. *option: NULL for an operand, which
 * is *value then; *value of a flag is NULL.
 */
int usage_next(struct usage_words *words, const struct usage_option **option, const char **value,
	       struct err *err);
/* The option's row of a help text; see usage_row. */
void usage_option_row(FILE *out, int help_at, const struct usage_option *option);

#endif
