/* test/options: what a command line of bantam test means, and the exact text of every refusal. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/test/options.h"

#define MAX_WORDS 40

static struct test_options options;
static struct err err;
static char words[2048];
static char *argv_[MAX_WORDS + 1];

/* args: words with '|' between them. */
static int parse(const char *args)
{
	int argc = 0;
	char *at = words, *word;

	test_options_clear(&options);
	err.text[0] = 0;
	snprintf(words, sizeof(words), "%s", args);
	while (*args && (word = strsep(&at, "|")) && argc < MAX_WORDS)
		argv_[argc++] = word;
	argv_[argc] = NULL;
	return test_options_parse(&options, argc, argv_, &err);
}

static void teardown(void)
{
	test_options_clear(&options);
	test_options_clear(&options);
}

TestSuite(test_options, .fini = teardown, .timeout = 60);

Test(test_options, defaults)
{
	cr_assert_eq(parse("--kernel|out/bzImage"), 0, "%s", err.text);
	cr_expect_str_eq(options.kernel, "out/bzImage");
	cr_expect_null(options.modules);
	cr_expect_null(options.initrd);
	cr_expect_null(options.cmdline);
	cr_expect_null(options.command);
	cr_expect_eq(options.ncommand, 0);
	cr_expect_eq(options.vm_argc, 0);
	cr_expect_eq(options.module.n + options.copy.n + options.env.n + options.rules.n, 0);
	cr_expect_null(options.cwd);
	cr_expect_null(options.user);
	cr_expect_null(options.hostname);
	cr_expect_eq(options.timeout_boot_usec, 60000000);
	cr_expect_eq(options.timeout_idle_usec, 0);
	cr_expect_eq(options.timeout_usec, 0);
	cr_expect_not(options.idle_counts_all);
	cr_expect_eq(options.on_splat, VERDICT_ON_SPLAT_FAIL);
	cr_expect_eq(options.policy.mode, VERDICT_EXIT_DEFAULT);
	cr_expect_not(options.skip_without_kvm || options.json || options.timestamps ||
		      options.quiet || options.verbose || options.dry_run || options.help ||
		      options.tty || options.shell || options.no_default_cmdline);
	cr_expect_null(options.verdict);
	cr_expect_null(options.junit);
	cr_expect_null(options.tap);
	cr_expect_null(options.stdout_file);
	cr_expect_null(options.stderr_file);
	cr_expect_null(options.kmsg_file);
	cr_expect_null(options.console_file);
	cr_expect_eq(options.color, TEST_COLOR_AUTO);
	cr_expect_str_eq(options.name, "bzImage: boot");
}

Test(test_options, values)
{
	cr_assert_eq(
		parse("--kernel=6.1.0|--modules|/m|--module|a|--module|b:x=1,2|--initrd|i|--copy|h:/g|"
		      "--copy=k|--cmdline|quiet a=b|--no-default-cmdline|--env|A=1|--env=B=|--cwd|/root|"
		      "--user|1000:100|--hostname|box|--tty|--timeout-boot|0|--timeout-idle=5m|"
		      "--timeout|500ms"),
		0, "%s", err.text);
	cr_expect_str_eq(options.kernel, "6.1.0");
	cr_expect_str_eq(options.modules, "/m");
	cr_assert_eq(options.module.n, 2);
	cr_expect_str_eq(options.module.item[1], "b:x=1,2");
	cr_expect_str_eq(options.initrd, "i");
	cr_assert_eq(options.copy.n, 2);
	cr_expect_str_eq(options.copy.item[0], "h:/g");
	cr_expect_str_eq(options.copy.item[1], "k");
	cr_expect_str_eq(options.cmdline, "quiet a=b");
	cr_expect(options.no_default_cmdline);
	cr_assert_eq(options.env.n, 2);
	cr_expect_str_eq(options.env.item[0], "A=1");
	cr_expect_str_eq(options.env.item[1], "B=");
	cr_expect_str_eq(options.cwd, "/root");
	cr_expect_str_eq(options.user, "1000:100");
	cr_expect_str_eq(options.hostname, "box");
	cr_expect(options.tty);
	cr_expect_not(options.shell);
	cr_expect_eq(options.timeout_boot_usec, 0);
	cr_expect_eq(options.timeout_idle_usec, 300000000);
	cr_expect_eq(options.timeout_usec, 500000);
	cr_assert_eq(
		parse("--kernel|k|--idle-counts|all|--rules|r|--rules|s|--on-splat|stop|--exit|bisect|"
		      "--bad|panicked,splat|--bad|hung|--skip|timeout|--no-kvm|skip|--verdict|3|--json|"
		      "--junit|j|--tap|t|--name|my test"),
		0, "%s", err.text);
	cr_expect(options.idle_counts_all);
	cr_assert_eq(options.rules.n, 2);
	cr_expect_eq(options.on_splat, VERDICT_ON_SPLAT_STOP);
	cr_expect_eq(options.policy.mode, VERDICT_EXIT_BISECT);
	cr_expect_eq(options.policy.bad,
		     1u << VERDICT_PANICKED | 1u << VERDICT_SPLAT | 1u << VERDICT_HUNG);
	cr_expect_eq(options.policy.skip, 1u << VERDICT_TIMEOUT);
	cr_expect(options.skip_without_kvm);
	cr_expect_str_eq(options.verdict, "3");
	cr_expect(options.json);
	cr_expect_str_eq(options.junit, "j");
	cr_expect_str_eq(options.tap, "t");
	cr_expect_str_eq(options.name, "my test");
	cr_assert_eq(
		parse("--kernel|k|--stdout|o|--stderr|e|--kmsg|m|--console|c|--timestamps|--color|never|"
		      "--quiet|-v|--dry-run|--cmdline|"),
		0, "%s", err.text);
	cr_expect_str_eq(options.stdout_file, "o");
	cr_expect_str_eq(options.stderr_file, "e");
	cr_expect_str_eq(options.kmsg_file, "m");
	cr_expect_str_eq(options.console_file, "c");
	cr_expect(options.timestamps && options.quiet && options.verbose && options.dry_run);
	cr_expect_eq(options.color, TEST_COLOR_NEVER);
	cr_expect_str_eq(options.cmdline, "");
}

Test(test_options, command)
{
	static const struct {
		const char *args;
		int ncommand, vm_argc;
		const char *last, *name;
	} table[] = {
		{ "--kernel|k|--|true", 1, 0, "true", "k: true" },
		{ "--kernel|d/k/|--|make|--kernel|x", 3, 0, "x",
		  "d/k/: make --kernel x" }, /* no such folder */
		{ "--kernel|/usr/bin/", 0, 0, NULL, "bin: boot" },
		{ "--kernel|/usr/lib/.", 0, 0, NULL, "lib: boot" },
		{ "--kernel|/", 0, 0, NULL, "/: boot" },
		{ "--kernel|k|--|a|--|b", 3, 0, "b", "k: a -- b" },
		{ "--kernel|k|--|a|", 2, 0, "", "k: a " },
		{ "--kernel|k|--cpus|2|--|ls|--cpus", 2, 2, "--cpus", "k: ls --cpus" },
		{ "--kernel|k|--shell", 1, 0, "/bin/sh", "k: /bin/sh" },
		{ "--kernel|k|--name|n|--|ls", 1, 0, "ls", "n" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		cr_assert_eq(parse(table[i].args), 0, "%s: %s", table[i].args, err.text);
		cr_assert_eq(options.ncommand, table[i].ncommand, "%s", table[i].args);
		cr_expect_str_eq(options.name, table[i].name);
		cr_expect_eq(options.vm_argc, table[i].vm_argc);
		if (!table[i].last)
			continue;
		cr_expect_str_eq(options.command[options.ncommand - 1], table[i].last);
		cr_expect_null(options.command[options.ncommand]);
	}
	cr_expect_eq(parse("--kernel|k|--shell"), 0);
	cr_expect(options.tty && options.shell);
}

/* What belongs to the machine comes through as it was written, in its order. */
Test(test_options, options_of_the_machine)
{
	static const struct {
		const char *args, *vm;
	} table[] = {
		{ "--kernel|k|--cpus|2|--memory=1G", "--cpus|2|--memory=1G|" },
		{ "--disk|a.img,ro|--kernel|k|--disk|path=b|--tty|--net|user",
		  "--disk|a.img,ro|--disk|path=b|--net|user|" },
		{ "--kernel|k|--rng|--balloon|size=0|--|--cpus", "--rng|--balloon|size=0|" },
		{ "--kernel|k|--transport|mmio|--entry|pvh|--unpack|off|--hugepages|off|--backing-dir|/d",
		  "--transport|mmio|--entry|pvh|--unpack|off|--hugepages|off|--backing-dir|/d|" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char got[512] = "";

		cr_assert_eq(parse(table[i].args), 0, "%s: %s", table[i].args, err.text);
		for (int k = 0; k < options.vm_argc; k++)
			strcat(strcat(got, options.vm_argv[k]), "|");
		cr_expect_null(options.vm_argv[options.vm_argc]);
		cr_expect_str_eq(got, table[i].vm);
	}
}

Test(test_options, refusals)
{
	static const struct {
		const char *args, *says;
	} table[] = {
		{ "", "--kernel FILE|BUILD-DIR|RELEASE is missing" },
		{ "--|true", "--kernel FILE|BUILD-DIR|RELEASE is missing" },
		{ "--kernel", "--kernel: needs a value (FILE|BUILD-DIR|RELEASE)" },
		{ "--kernel=", "--kernel: needs a value (FILE|BUILD-DIR|RELEASE)" },
		{ "--kernel|k|--kernel|k", "--kernel: given twice" },
		{ "bzImage", "\"bzImage\": not an option; the command comes after \"--\"" },
		{ "--kernel|k|ls", "\"ls\": not an option; the command comes after \"--\"" },
		{ "-kernel|k", "\"-kernel\": options begin with two dashes: --kernel" },
		{ "-timeout|5", "\"-timeout\": options begin with two dashes: --timeout" },
		{ "-x", "\"-x\": not an option; the command comes after \"--\"" },
		{ "-m|512", "unknown option -m; here it is --memory SIZE, such as --memory 512M" },
		{ "--smp|2", "unknown option --smp; here it is --cpus N" },
		{ "--kernel|k|--", "no command comes after \"--\"" },
		{ "--kernel|k|--||a", "the command's name is empty" },
		{ "--kernal|k", "unknown option --kernal; did you mean --kernel?" },
		{ "--timout|1", "unknown option --timout; did you mean --timeout?" },
		{ "--memroy|1G", "unknown option --memroy; did you mean --memory?" },
		{ "--append|a", "unknown option --append; here it is --cmdline TEXT" },
		{ "--seriel|a", "unknown option --seriel; did you mean --serial?" },
		{ "--i8042", "unknown option --i8042; see bantam test --help" },
		{ "--=x", "unknown option --; see bantam test --help" },
		{ "--serial|stdio",
		  "--serial: the kernel's console is the test's; --console FILE keeps what it says" },
		{ "--api-socket|s", "--api-socket: a test serves no API; bantam run does" },
		{ "--config|c.json",
		  "--config: a test takes the machine's options from the command line" },
		{ "--stats", "--stats: only bantam run prints them" },
		{ "--chroot|/", "--chroot: a test packs files of the host; bantam run has it" },
		{ "--exit-with-parent",
		  "--exit-with-parent: only bantam run has it; SIGTERM ends a test" },
		{ "--kernel|k|--timeout|-1",
		  "--timeout -1: not a duration; write it like 500ms, 60s, 5m or 2h" },
		{ "--kernel|k|--timeout-boot=-1s",
		  "--timeout-boot -1s: not a duration; write it like 500ms, 60s, 5m or 2h" },
		{ "--kernel|k|--timeout-idle|soon",
		  "--timeout-idle soon: not a duration; write it like 500ms, 60s, 5m or 2h" },
		{ "--kernel|k|--timeout", "--timeout: needs a value (TIME)" },
		{ "--kernel|k|--timeout|99999999999999h", "--timeout 99999999999999h: too long" },
		{ "--kernel|k|--idle-counts|kernel",
		  "--idle-counts kernel: must be one of command|all" },
		{ "--kernel|k|--on-splat|ignore",
		  "--on-splat ignore: must be one of fail|warn|stop" },
		{ "--kernel|k|--exit|lax", "--exit lax: must be one of default|strict|bisect" },
		{ "--kernel|k|--bad|panicked", "--bad is for --exit bisect" },
		{ "--kernel|k|--exit|strict|--skip|hung", "--skip is for --exit bisect" },
		{ "--kernel|k|--exit|bisect|--bad|panic",
		  "--bad: \"panic\" is no verdict; did you mean \"panicked\"?" },
		{ "--kernel|k|--exit|bisect|--bad|hung,",
		  "--bad: \"\" is no verdict; there are "
		  "passed, failed, signalled, not-found, "
		  "not-executable, panicked, splat, hung, "
		  "boot-timeout, timeout, died-before-init, "
		  "rebooted, powered-off, triple-fault, "
		  "out-of-memory, agent-lost, interrupted, "
		  "skipped, error" },
		{ "--kernel|k|--exit|bisect|--bad|hung|--skip|hung",
		  "--bad and --skip both have \"hung\"" },
		{ "--kernel|k|--no-kvm|ok", "--no-kvm ok: must be one of error|skip" },
		{ "--kernel|k|--color|yes", "--color yes: must be one of auto|always|never" },
		{ "--kernel|k|--env|HOME", "--env HOME: must be NAME=VALUE" },
		{ "--kernel|k|--env|=x", "--env =x: must be NAME=VALUE" },
		{ "--kernel|k|--env|", "--env: needs a value (NAME=VALUE)" },
		{ "--kernel|k|--copy|:/a", "--copy :/a: must be HOST[:GUEST]" },
		{ "--kernel|k|--copy", "--copy: needs a value (HOST[:GUEST])" },
		{ "--kernel|k|--module|", "--module: needs a value (NAME[:ARGS])" },
		{ "--kernel|k|--cwd|tmp", "--cwd tmp: must begin with /" },
		{ "--kernel|k|--hostname|"
		  "a23456789b123456789c123456789d123456789e123456789f123456789g12345",
		  "--hostname a23456789b123456789c123456789d123456789e123456789f123456789g12345: "
		  "longer than 64 bytes" },
		{ "--kernel|k|--tty=maybe", "--tty maybe: must be on or off" },
		{ "--kernel|k|--shell|--|ls",
		  "--shell and a command: leave one of them out; a shell runs a command as -- sh "
		  "-c COMMAND" },
		/* the machine's, by config_parse */
		{ "--kernel|k|--cpus|0", "--cpus 0: must be from 1 to 254" },
		{ "--kernel|k|--cpus|--|ls", "--cpus: needs a value (N)" },
		{ "--kernel|k|--memory|1K", "--memory 1K: must be from 4M to 4T" },
		{ "--kernel|k|--disk|", "--disk: path=FILE is missing" },
		{ "--kernel|k|--fs|tag=a,sokcet=b",
		  "--fs: unknown key \"sokcet\"; did you mean \"socket\"?" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		cr_expect_lt(parse(table[i].args), 0, "\"%s\" was accepted", table[i].args);
		cr_expect_str_eq(err.text, table[i].says, "\"%s\": %s", table[i].args, err.text);
	}
}

/* --help wins over what is missing, not over what is wrong. */
Test(test_options, help)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	cr_expect_eq(parse("--help"), 0);
	cr_expect(options.help);
	cr_expect_eq(parse("--hepl"), -EINVAL);
	test_options_help(out);
	fclose(out);
	cr_expect_not_null(strstr(text, "\n  --kernel FILE|BUILD-DIR|RELEASE\n"));
	cr_expect_not_null(strstr(text, "\n  -v, --verbose "));
	cr_expect_not_null(strstr(text, "\n  --timeout-boot TIME "));
	cr_expect_not_null(strstr(text, "[60s]\n"));
	cr_expect_not_null(strstr(text, "\n  --cpus N "));
	cr_expect_not_null(strstr(text, "\n  --disk KEY=VALUE,… "));
	cr_expect_null(strstr(text, "\n  --serial"));
	cr_expect_null(strstr(text, "\n  --stats"));
	cr_expect_null(strstr(strstr(text, "--console") + 1, "\n  --console"));
	free(text);
}
