/*
 * args: the command line of one bantam image command.
 *
 * Options may stand anywhere; "--" ends them; --name=VALUE and --name VALUE are the same. One
 * thread.
 */
#ifndef BANTAM_IMAGE_ARGS_H
#define BANTAM_IMAGE_ARGS_H

#include <stdbool.h>

#include "vmm/core/err.h"

#define ARGS_OPTIONS_MAX 16u
#define ARGS_FILES_MAX 4096u
#define ARGS_MANY_MAX 64u

/* What a command does with a file that a word names. */
enum args_use {
	ARGS_WORD, /* it names none */
	ARGS_READ, /* an image, which may name backing files */
	ARGS_NEW,  /* is made */
};

struct args_option {
	const char *name;  /* without the dashes; "" : none */
	char letter;	   /* 0: none */
	const char *value; /* the value as the help shows it; NULL: a flag */
	/* If not NULL, the value is optional: one of these, the first by default. */
	const char *const *choices;
	const char *help;
	bool repeat;  /* may be given again: each value goes to args.many; one option of a table */
	bool backing; /* names the backing file of the image that is made */
};

/* option[] ends with an entry of all zeroes; each command numbers its options. */
struct args_table {
	const char *command;
	const char *usage; /* the words behind the command's name */
	const char *about; /* a paragraph */
	const struct args_option *option;
	unsigned min_files, max_files;
	enum args_use use[2]; /* of the words; the last one's holds for the rest */
};

struct args {
	const char *value[ARGS_OPTIONS_MAX]; /* of option[i]; NULL: not given; flags: "" */
	const char *many[ARGS_MANY_MAX];     /* all values of the option that may be repeated */
	unsigned nmany;
	char *file[ARGS_FILES_MAX];
	unsigned nfiles;
	bool help;
};

/* argv[0] is the first word behind the command. Returns 0 or -EINVAL. */
int args_parse(const struct args_table *table, int argc, char **argv, struct args *out,
	       struct err *err);
/* Prints the help page to standard output. */
void args_help(const struct args_table *table);

#endif
