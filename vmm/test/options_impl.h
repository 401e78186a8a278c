/* options_impl: the table of the test's own options, for options.c and options_help.c. */
#ifndef BANTAM_TEST_OPTIONS_IMPL_H
#define BANTAM_TEST_OPTIONS_IMPL_H

#include "vmm/test/options.h"

/* HOST_NAME_MAX of Linux. */
#define TEST_HOSTNAME_MAX 64

enum test_key {
	TEST_KERNEL,
	TEST_MODULES,
	TEST_MODULE,
	TEST_INITRD,
	TEST_COPY,
	TEST_CMDLINE,
	TEST_NO_DEFAULT_CMDLINE,
	TEST_ENV,
	TEST_CWD,
	TEST_USER,
	TEST_HOSTNAME,
	TEST_TTY,
	TEST_SHELL,
	TEST_TIMEOUT_BOOT,
	TEST_TIMEOUT_IDLE,
	TEST_TIMEOUT,
	TEST_IDLE_COUNTS,
	TEST_RULES,
	TEST_ON_SPLAT,
	TEST_EXIT,
	TEST_BAD,
	TEST_SKIP,
	TEST_NO_KVM,
	TEST_VERDICT,
	TEST_JSON,
	TEST_JUNIT,
	TEST_TAP,
	TEST_NAME,
	TEST_STDOUT,
	TEST_STDERR,
	TEST_KMSG,
	TEST_CONSOLE,
	TEST_TIMESTAMPS,
	TEST_COLOR,
	TEST_QUIET,
	TEST_VERBOSE,
	TEST_DRY_RUN,
	TEST_HELP,
};
extern const struct key test_keys[];

/* Returns true for an option of bantam run that goes to the machine. */
bool test_option_passes(const char *name);

#endif
