/* test/options: see options.h. This file parses; options_help.c prints --help. */
#include "vmm/test/options_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/config.h"

#define VERDICTS "VERDICT,…"

const struct key test_keys[] = {
	[TEST_KEY_KERNEL] = { "kernel", KEY_PATH, .meta = "FILE|BUILD-DIR|RELEASE",
			      .help = "bzImage or vmlinux, a folder in which one was built, or an installed release" },
	[TEST_KEY_MODULES] = { "modules", KEY_PATH, .meta = "DIR",
			       .help = "take modules from DIR; default: those of the build or the release" },
	[TEST_KEY_MODULE] = { "module", KEY_TEXT, KEY_LIST, .meta = "NAME[:ARGS]",
			      .help = "load this module, too; may be repeated" },
	[TEST_KEY_INITRD] = { "initrd", KEY_PATH, .meta = "FILE",
			      .help = "root file system of your own, as an initrd" },
	[TEST_KEY_COPY] = { "copy", KEY_PATH, KEY_LIST, .meta = "HOST[:GUEST]",
			    .help = "put a file or a folder into the guest; may be repeated" },
	[TEST_KEY_CMDLINE] = { "cmdline", KEY_TEXT, KEY_EMPTY, .meta = "TEXT",
			       .help = "add this to the kernel's command line" },
	[TEST_KEY_NO_DEFAULT_CMDLINE] = { "no-default-cmdline", KEY_BOOL, .def = "off",
					  .help = "the kernel's command line is only --cmdline" },

	[TEST_KEY_ENV] = { "env", KEY_TEXT, KEY_LIST, .meta = "NAME=VALUE",
			   .help = "variable of the command's environment; may be repeated" },
	[TEST_KEY_CWD] = { "cwd", KEY_PATH, .meta = "DIR",
			   .help = "folder in which the command starts" },
	[TEST_KEY_USER] = { "user", KEY_TEXT, .meta = "NAME|UID",
			    .help = "user of the command; default: root" },
	[TEST_KEY_HOSTNAME] = { "hostname", KEY_TEXT, .meta = "NAME",
				.help = "the guest's host name" },
	[TEST_KEY_TTY] = { "tty", KEY_BOOL, .def = "off",
			   .help = "the command has a terminal; default: three pipes" },
	[TEST_KEY_SHELL] = { "shell", KEY_BOOL, .def = "off",
			     .help = "the command is a shell on a terminal" },

	[TEST_KEY_TIMEOUT_BOOT] = { "timeout-boot", KEY_DURATION, .def = "60s", .meta = "TIME",
				    .help = "until the command starts; 0: no limit" },
	[TEST_KEY_TIMEOUT_IDLE] = { "timeout-idle", KEY_DURATION, .def = "0", .meta = "TIME",
				    .help = "longest silence of the command; 0: no limit" },
	[TEST_KEY_TIMEOUT] = { "timeout", KEY_DURATION, .def = "0", .meta = "TIME",
			       .help = "for the whole test; 0: no limit" },
	[TEST_KEY_IDLE_COUNTS] = { "idle-counts", KEY_CHOICE, .choices = "command|all",
				   .def = "command", .meta = "command|all",
				   .help = "whose output ends a silence; all: the kernel's, too" },
	[TEST_KEY_RULES] = { "rules", KEY_PATH, KEY_LIST, .meta = "FILE",
			     .help = "rules that say which lines are mistakes of the kernel; may be repeated" },
	[TEST_KEY_ON_SPLAT] = { "on-splat", KEY_CHOICE, .choices = "fail|warn|stop", .def = "fail",
				.meta = "fail|warn|stop",
				.help = "what follows a mistake of the kernel (WARN, KASAN …)" },
	[TEST_KEY_EXIT] = { "exit", KEY_CHOICE, .choices = "default|strict|bisect",
			    .def = "default", .meta = "default|strict|bisect",
			    .help = "what the exit status tells; bisect: for git bisect run" },
	[TEST_KEY_BAD] = { "bad", KEY_TEXT, KEY_LIST, .meta = VERDICTS,
			   .help = "with --exit bisect: the verdicts that are bad" },
	[TEST_KEY_SKIP] = { "skip", KEY_TEXT, KEY_LIST, .meta = VERDICTS,
			    .help = "with --exit bisect: the verdicts that tell nothing" },
	[TEST_KEY_NO_KVM] = { "no-kvm", KEY_CHOICE, .choices = "error|skip", .def = "error",
			      .meta = "error|skip",
			      .help = "what a host without a usable /dev/kvm is" },

	[TEST_KEY_VERDICT] = { "verdict", KEY_PATH, KEY_FDS, .meta = "FILE|FD",
			       .help = "write the verdict there, as one line of JSON" },
	[TEST_KEY_JSON] = { "json", KEY_BOOL, .def = "off",
			    .help = "the last line on stderr is this JSON" },
	[TEST_KEY_JUNIT] = { "junit", KEY_PATH, .meta = "FILE", .help = "write a JUnit report" },
	[TEST_KEY_TAP] = { "tap", KEY_PATH, .meta = "FILE", .help = "write a TAP report" },
	[TEST_KEY_NAME] = { "name", KEY_TEXT, .meta = "TEXT",
			    .help = "name of the test in reports" },

	[TEST_KEY_STDOUT] = { "stdout", KEY_PATH, .meta = "FILE",
			      .help = "write the command's standard output there, not to stdout" },
	[TEST_KEY_STDERR] = { "stderr", KEY_PATH, .meta = "FILE",
			      .help = "write the command's standard error there, not to stderr" },
	[TEST_KEY_KMSG] = { "kmsg", KEY_PATH, .meta = "FILE",
			    .help = "write the kernel's log there, as /dev/kmsg gives it" },
	[TEST_KEY_CONSOLE] = { "console", KEY_PATH, .meta = "FILE",
			       .help = "write what comes on the serial console there" },
	[TEST_KEY_TIMESTAMPS] = { "timestamps", KEY_BOOL, .def = "off",
				  .help = "begin each line with the seconds since the start, in files too" },
	[TEST_KEY_COLOR] = { "color", KEY_CHOICE, .choices = "auto|always|never", .def = "auto",
			     .meta = "auto|always|never",
			     .help = "colours of the console's lines on stderr" },
	[TEST_KEY_QUIET] = { "quiet", KEY_BOOL, .def = "off",
			     .help = "show only what the command writes, and the last line" },
	[TEST_KEY_VERBOSE] = { "verbose", KEY_BOOL, .def = "off",
			       .help = "show the console's lines where stderr is no terminal; more log lines" },
	[TEST_KEY_DRY_RUN] = { "dry-run", KEY_BOOL, .def = "off",
			       .help = "print what would run, and the kernel's command line" },
	[TEST_KEY_HELP] = { "help", KEY_BOOL, .help = "this text" },
	{ 0 },
};

_Static_assert((int)VERDICT_ON_SPLAT_FAIL == 0 && (int)VERDICT_ON_SPLAT_WARN == 1 &&
		       (int)VERDICT_ON_SPLAT_STOP == 2,
	       "--on-splat's choices");
_Static_assert((int)VERDICT_EXIT_DEFAULT == 0 && (int)VERDICT_EXIT_STRICT == 1 &&
		       (int)VERDICT_EXIT_BISECT == 2,
	       "--exit's choices");

/* Options of bantam run that the test does not take. */
static const struct {
	char name[24], why[80];
} refused[] = {
	{ "serial", "the kernel's console is the test's; --console FILE keeps what it says" },
	{ "api-socket", "a test serves no API; bantam run does" },
	{ "config", "a test takes the machine's options from the command line" },
	{ "stats", "only bantam run prints them" },
	{ "chroot", "a test packs files of the host; bantam run has it" },
	{ "exit-with-parent", "only bantam run has it; SIGTERM ends a test" },
};

static const char *why_refused(const char *name)
{
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if (!strcmp(name, refused[i].name))
			return refused[i].why;
	return NULL;
}

bool test_option_passes(const char *name)
{
	return keys_find(test_keys, name) < 0 && config_option_of(name) != CONFIG_OPTION_NONE &&
	       !why_refused(name);
}

/* A word that is no option: name, without dashes, or NULL if it does not begin with two. */
static int unknown(const char *word, const char *name, struct err *err)
{
	const char *names[KEYS_MAX + CONFIG_NAMES_MAX];
	const char *why = name ? why_refused(name) : NULL;
	size_t n = config_option_names(names, CONFIG_NAMES_MAX);

	if (why)
		return err_set(err, EINVAL, "--%s: %s", name, why);
	for (const struct key *key = test_keys; key->name; key++)
		names[n++] = key->name;
	return name ? keys_no_option("test", name, names, n, err) :
		      keys_no_dashes(word, names, n, "the command comes after \"--\"", err);
}

/* --- what is kept ------------------------------------------------------------------------- */

static int append(struct test_list *list, const char *text, struct err *err)
{
	const char **grown = realloc(list->item, (list->n + 1) * sizeof(*grown));

	if (!grown)
		return err_sys(err, ENOMEM, "options");
	list->item = grown;
	list->item[list->n++] = text;
	return 0;
}

static int pass(struct test_options *o, char *word, struct err *err)
{
	char **grown = realloc(o->vm_argv, ((size_t)o->vm_argc + 2) * sizeof(*grown));

	if (!grown)
		return err_sys(err, ENOMEM, "options");
	o->vm_argv = grown;
	grown[o->vm_argc++] = word;
	grown[o->vm_argc] = NULL;
	return 0;
}

static struct test_list *list_of(struct test_options *o, int key)
{
	switch (key) {
	case TEST_KEY_MODULE:
		return &o->module;
	case TEST_KEY_COPY:
		return &o->copy;
	case TEST_KEY_ENV:
		return &o->env;
	case TEST_KEY_RULES:
		return &o->rules;
	default: /* --bad and --skip are one text each */
		return NULL;
	}
}

static int check_item(int key, const char *text, struct err *err)
{
	if (key == TEST_KEY_ENV && (!strchr(text, '=') || *text == '='))
		return err_set(err, EINVAL, "--env %s: must be NAME=VALUE", text);
	if (key == TEST_KEY_COPY && *text == ':')
		return err_set(err, EINVAL, "--copy %s: must be HOST[:GUEST]", text);
	return 0;
}

static int take_own(struct test_options *o, int key, const char *value, struct err *err)
{
	struct test_list *list = list_of(o, key);
	int rc;

	if (!list || !value || !*value) /* keys_set tells that a value is missing */
		return keys_set(&o->own, test_keys[key].name, value, err);
	rc = check_item(key, value, err);
	return rc ? rc : append(list, value, err);
}

/* --- the command line --------------------------------------------------------------------- */

/* Takes the option at argv[*at]; then *at is its last word. */
static int take_option(struct test_options *o, int argc, char **argv, int *at, struct err *err)
{
	char name[KEYS_NAME_MAX];
	const char *value;
	int key, rc, first = *at;

	if (!strcmp(argv[*at], "-v"))
		return keys_set(&o->own, test_keys[TEST_KEY_VERBOSE].name, NULL, err);
	if (!keys_option(argv[*at], name, &value))
		return unknown(argv[*at], NULL, err);
	key = keys_find(test_keys, name);
	if (key >= 0) {
		if (!value && test_keys[key].kind != KEY_BOOL)
			value = keys_next_word(argc, argv, at);
		return take_own(o, key, value, err);
	}
	if (!test_option_passes(name))
		return unknown(argv[*at], name, err);
	if (!value && config_option_of(name) == CONFIG_OPTION_VALUE)
		keys_next_word(argc, argv, at);
	rc = pass(o, argv[first], err);
	return rc || *at == first ? rc : pass(o, argv[*at], err);
}

static int take_all(struct test_options *o, int argc, char **argv, struct err *err)
{
	int rc = 0;

	for (int i = 0; !rc && i < argc; i++) {
		if (strcmp(argv[i], "--")) {
			rc = take_option(o, argc, argv, &i, err);
			continue;
		}
		if (i + 1 == argc)
			return err_set(err, EINVAL, "no command comes after \"--\"");
		if (!argv[i + 1][0])
			return err_set(err, EINVAL, "the command's name is empty");
		o->command = argv + i + 1;
		o->ncommand = argc - i - 1;
		break;
	}
	return rc;
}

/* --- what the values mean ----------------------------------------------------------------- */

static void set_fields(struct test_options *o)
{
	const struct keyvals *kv = &o->own;

	o->kernel = keys_text(kv, TEST_KEY_KERNEL);
	o->modules = keys_text(kv, TEST_KEY_MODULES);
	o->initrd = keys_text(kv, TEST_KEY_INITRD);
	o->cmdline = keys_text(kv, TEST_KEY_CMDLINE);
	o->no_default_cmdline = keys_num(kv, TEST_KEY_NO_DEFAULT_CMDLINE);
	o->cwd = keys_text(kv, TEST_KEY_CWD);
	o->user = keys_text(kv, TEST_KEY_USER);
	o->hostname = keys_text(kv, TEST_KEY_HOSTNAME);
	o->shell = keys_num(kv, TEST_KEY_SHELL);
	o->tty = keys_num(kv, TEST_KEY_TTY) || o->shell;
	o->timeout_boot_usec = keys_num(kv, TEST_KEY_TIMEOUT_BOOT);
	o->timeout_idle_usec = keys_num(kv, TEST_KEY_TIMEOUT_IDLE);
	o->timeout_usec = keys_num(kv, TEST_KEY_TIMEOUT);
	o->idle_counts_all = keys_num(kv, TEST_KEY_IDLE_COUNTS);
	o->on_splat = (enum verdict_on_splat)keys_num(kv, TEST_KEY_ON_SPLAT);
	o->policy.mode = keys_num(kv, TEST_KEY_EXIT);
	o->skip_without_kvm = keys_num(kv, TEST_KEY_NO_KVM);
	o->verdict = keys_text(kv, TEST_KEY_VERDICT);
	o->json = keys_num(kv, TEST_KEY_JSON);
	o->junit = keys_text(kv, TEST_KEY_JUNIT);
	o->tap = keys_text(kv, TEST_KEY_TAP);
	o->name = keys_text(kv, TEST_KEY_NAME);
	o->stdout_file = keys_text(kv, TEST_KEY_STDOUT);
	o->stderr_file = keys_text(kv, TEST_KEY_STDERR);
	o->kmsg_file = keys_text(kv, TEST_KEY_KMSG);
	o->console_file = keys_text(kv, TEST_KEY_CONSOLE);
	o->timestamps = keys_num(kv, TEST_KEY_TIMESTAMPS);
	o->color = (enum test_color)keys_num(kv, TEST_KEY_COLOR);
	o->quiet = keys_num(kv, TEST_KEY_QUIET);
	o->verbose = keys_num(kv, TEST_KEY_VERBOSE);
	o->dry_run = keys_num(kv, TEST_KEY_DRY_RUN);
	o->help = keys_num(kv, TEST_KEY_HELP);
}

static int set_policy(struct test_options *o, struct err *err)
{
	const char *bad = keys_text(&o->own, TEST_KEY_BAD),
		   *skip = keys_text(&o->own, TEST_KEY_SKIP);
	int rc = bad ? verdict_policy_list("--bad", bad, &o->policy.bad, err) : 0;

	if (!rc && skip)
		rc = verdict_policy_list("--skip", skip, &o->policy.skip, err);
	return rc ? rc : verdict_policy_check(&o->policy, err);
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* "bzImage: make test", or "bzImage: boot". */
static int set_name(struct test_options *o, struct err *err)
{
	const char *part = last_part(o->kernel);
	char *real = NULL;
	size_t len;
	FILE *out;

	if (o->name)
		return 0;
	out = open_memstream(&o->name_text, &len);
	if (!out)
		return err_sys(err, ENOMEM, "options");
	/* "." and "linux/" are names of folders, too. */
	if (!*part || !strcmp(part, ".") || !strcmp(part, "..")) {
		real = realpath(o->kernel, NULL);
		part = real && *last_part(real) ? last_part(real) : o->kernel;
	}
	fprintf(out, "%.100s:", part);
	free(real);
	if (!o->ncommand)
		fputs(" boot", out);
	for (int i = 0; i < o->ncommand && ftell(out) < 200; i++)
		fprintf(out, " %.200s", o->command[i]);
	if (fclose(out))
		return err_sys(err, ENOMEM, "options");
	o->name = o->name_text;
	return 0;
}

/* So that a wrong option of the machine is told before anything is opened. */
static int check_machine(const struct test_options *o, struct err *err)
{
	struct config config;
	int rc = config_parse(&config, o->vm_argc, o->vm_argv, err);

	config_clear(&config);
	return rc;
}

static int finish(struct test_options *o, struct err *err)
{
	static char *const shell[] = { (char *)"/bin/sh", NULL };
	int rc = keys_finish(&o->own, err);

	if (rc)
		return rc;
	set_fields(o);
	if (o->help)
		return 0;
	if (!o->kernel)
		return err_set(err, EINVAL, "--kernel FILE|BUILD-DIR|RELEASE is missing");
	if (o->cwd && *o->cwd != '/')
		return err_set(err, EINVAL, "--cwd %s: must begin with /", o->cwd);
	if (o->hostname && strlen(o->hostname) > TEST_HOSTNAME_MAX)
		return err_set(err, EINVAL, "--hostname %.80s: longer than %d bytes", o->hostname,
			       TEST_HOSTNAME_MAX);
	if (o->shell && o->command)
		return err_set(err, EINVAL,
			       "--shell and a command: leave one of them out; a shell runs a "
			       "command as -- sh -c COMMAND");
	if (o->shell) {
		o->command = (char **)shell;
		o->ncommand = 1;
	}
	rc = set_policy(o, err);
	if (!rc)
		rc = check_machine(o, err);
	return rc ? rc : set_name(o, err);
}

int test_options_parse(struct test_options *o, int argc, char **argv, struct err *err)
{
	int rc;

	memset(o, 0, sizeof(*o));
	keys_start(&o->own, "", test_keys);
	rc = take_all(o, argc, argv, err);
	return rc ? rc : finish(o, err);
}

void test_options_clear(struct test_options *o)
{
	keys_clear(&o->own);
	free(o->module.item);
	free(o->copy.item);
	free(o->env.item);
	free(o->rules.item);
	free(o->vm_argv);
	free(o->name_text);
	memset(o, 0, sizeof(*o));
}
