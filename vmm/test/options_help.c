/* test/options_help: prints --help of `bantam test`, from the tables of options; see options.h. */
#include "vmm/config.h"
#include "vmm/test/options_impl.h"
#include "vmm/usage/usage.h"

static const struct {
	enum test_key first;
	char title[32];
} sections[] = {
	{ TEST_KEY_KERNEL, "The kernel and its initrd" },
	{ TEST_KEY_ENV, "The command" },
	{ TEST_KEY_TIMEOUT_BOOT, "The verdict" },
	{ TEST_KEY_VERDICT, "Reports" },
	{ TEST_KEY_STDOUT, "Output" },
};

void test_options_help(FILE *out)
{
	const char *names[CONFIG_NAMES_MAX];
	size_t n = config_option_names(names, CONFIG_NAMES_MAX), section = 0;

	usage_text(
		out, 0, 7,
		"usage: bantam test --kernel FILE|BUILD-DIR|RELEASE [OPTION]… [-- COMMAND [ARG]…]");
	fputc('\n', out);
	usage_text(
		out, 0, 0,
		"Boots a kernel in a VM, runs COMMAND there, and ends with its exit status; without a "
		"COMMAND the boot is the test. The last line on stderr is the verdict.");
	fputc('\n', out);
	usage_text(
		out, 0, 0,
		"Exit status: the command's own, 128+N killed by signal N, 2 wrong usage, "
		"124 hung, boot-timeout and timeout, 125 the test could not run, 126 not-executable, "
		"127 not-found, 240 panicked, 241 splat, 242 died-before-init, 243 triple-fault, "
		"244 out-of-memory, 245 rebooted and powered-off, 246 agent-lost.");
	for (const struct key *key = test_keys; key->name; key++) {
		if (section < sizeof(sections) / sizeof(sections[0]) &&
		    key == &test_keys[sections[section].first])
			fprintf(out, "\n%s:\n", sections[section++].title);
		config_help_key(out, key == &test_keys[TEST_KEY_VERBOSE] ? "-v, " : "", key);
	}
	fputs("\nThe machine, as of bantam run, whose --help has the keys:\n", out);
	for (size_t i = 0; i < n; i++)
		if (test_option_passes(names[i]))
			config_help_option(out, names[i]);
	fputs("\nTIME is a number of seconds, or has a unit: 500ms, 60s, 5m, 2h.\n", out);
}
