/*
 * test/options: the command line of `bantam test`.
 *
 *	bantam test [OPTION]… [-- COMMAND [ARG]…]
 *
 * test_keys is the table of the test's own options; parser, --help and messages read it. Options of
 * bantam run that describe the machine (--cpus, --disk …) go to config_parse as they are; those that the
 * test sets itself (--serial, --config …) are refused. Values are checked here by kind and range; files
 * are opened by the parts that use them.
 *
 * Errors: 0/-errno and one line in err; all are wrong usage (OUTCOME_USAGE). Thread: the first.
 */
#ifndef BANTAM_TEST_OPTIONS_H
#define BANTAM_TEST_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/core/err.h"
#include "vmm/core/keys.h"
#include "vmm/verdict/verdict.h"

/* The values of an option that may be given again, in order. They belong to argv. */
struct test_list {
	const char **item;
	unsigned n;
};

enum test_color { TEST_COLOR_AUTO, TEST_COLOR_ALWAYS, TEST_COLOR_NEVER };

/* Texts belong to argv, or live until test_options_clear. NULL: not given. Times are in µs, 0: none. */
struct test_options {
	/* the kernel, and what its initrd holds */
	const char *kernel;  /* FILE, BUILD-DIR or RELEASE: kernels_find; never NULL unless help */
	const char *modules; /* a tree of modules in place of the kernel's own */
	struct test_list module; /* more modules: pack_add_modules */
	const char *initrd;	 /* a root file system of the user's */
	struct test_list copy;	 /* "HOST[:GUEST]" */

	/* the machine */
	const char *cmdline;	 /* behind the default one */
	bool no_default_cmdline; /* nothing but cmdline */
	char **vm_argv;		 /* options of bantam run, for config_parse; ends with NULL */
	int vm_argc;

	/* the command */
	char **command;	      /* ends with NULL; NULL: the boot is the test */
	int ncommand;	      /* words of command; 0: none */
	struct test_list env; /* "NAME=VALUE" */
	const char *cwd, *user, *hostname;
	bool tty;   /* also set by shell */
	bool shell; /* then command is a shell's */

	/* the verdict */
	uint64_t timeout_boot_usec, timeout_idle_usec, timeout_usec;
	bool idle_counts_all;	/* output of the kernel counts, too */
	struct test_list rules; /* files, for verdict_rules_add */
	enum verdict_on_splat on_splat;
	struct verdict_policy policy;
	bool skip_without_kvm; /* --no-kvm skip */

	/* reports: test_report_ opens them before the boot */
	const char *verdict; /* a file, or the number of a descriptor */
	bool json;	     /* the last line on stderr is the JSON object of verdict */
	const char *junit, *tap;
	const char
		*name; /* of the test; never NULL: without --name the kernel's and the command's */

	/* what people see */
	const char *stdout_file, *stderr_file, *kmsg_file, *console_file;
	bool timestamps;
	enum test_color color;
	bool quiet;   /* only what the command writes, and the last line */
	bool verbose; /* log_set_level(LOG_DEBUG) */

	bool dry_run, help;

	/* owned; for options.c */
	struct keyvals own;
	char *name_text;
};

/*
 * argv[0] is the first argument after "test". argv outlives *o. With help, only that is to be looked at. The
 * caller calls test_options_clear also after an error.
 */
int test_options_parse(struct test_options *o, int argc, char **argv, struct err *err);
void test_options_clear(struct test_options *o);

void test_options_help(FILE *out);

#endif
