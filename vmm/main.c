/* bantam: the table of commands. */
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/api/api.h"
#include "vmm/core/helper.h"
#include "vmm/core/keys.h"
#include "vmm/core/output.h"
#include "vmm/doctor.h"
#include "vmm/machine/machine.h"
#include "vmm/run.h"
#include "vmm/test/test.h"
#include "vmm/usage/usage.h"

static int fail(const char *text, int status)
{
	fprintf(stderr, "bantam: %s\n", text);
	return status;
}

/* Says that the argument is none of a command whose only options are these. */
static int wrong_argument(const char *command, const char *word, const char *const *names, size_t n)
{
	char see[64];
	struct err err;

	snprintf(see, sizeof(see), "bantam %s --help", command);
	keys_no_word(*word == '-' ? "option" : "argument", word, names, n, see, &err);
	fprintf(stderr, "bantam: %s: %s\n", command, err.text);
	return OUTCOME_USAGE;
}

static bool is_help(const char *word)
{
	return !strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help");
}

static int cmd_doctor(int argc, char **argv)
{
	static const char *const names[] = { "json", "verbose", "help" };
	bool json = false, verbose = false;

	for (int i = 0; i < argc; i++) {
		if (is_help(argv[i])) {
			puts("usage: bantam doctor [OPTION]…\n\n"
			     "Says what works on this host, and what to do about the rest. Exit status:\n"
			     "0 stock kernels run, 7 VMs run but not those, 1 no VM can run.\n\n"
			     "  -h, --help  this text\n"
			     "  --json      all of it as a JSON object\n"
			     "  --verbose   also each capability, device and setting");
			return 0;
		}
		if (!strcmp(argv[i], "--json"))
			json = true;
		else if (!strcmp(argv[i], "--verbose"))
			verbose = true;
		else
			return wrong_argument("doctor", argv[i], names, 3);
	}
	return doctor_run(json, verbose);
}

/* Executes a helper program in bantam's place, so that no VM loads its code and libraries. */
static int run_helper(const char *name, char **argv)
{
	char path[PATH_MAX + 64];
	struct err err;

	if (helper_find(name, path, sizeof(path), &err))
		return fail(err.text, OUTCOME_ERROR);
	/* argv[-1] is the command's name, such as "image". */
	execv(path, argv - 1);
	fprintf(stderr, "bantam: %s: %s\n", path, strerror(errno));
	return OUTCOME_ERROR;
}

static int cmd_version(int argc, char **argv)
{
	static const char *const names[] = { "help" };

	if (argc && is_help(argv[0])) {
		puts("usage: bantam version\n\nPrints the version.");
		return 0;
	}
	if (argc)
		return wrong_argument("version", argv[0], names, 1);
	puts("bantam " BANTAM_VERSION);
	return 0;
}

static int cmd_help(int argc, char **argv);

/* A command is a function here, or a helper program. */
static const struct command {
	const char *name;
	const char *help;
	int (*run)(int argc, char **argv);
	const char *helper;
} commands[] = {
	{ "run", "boot a VM", .run = run_command },
	{ "test", "boot a kernel, run a command in it, and say how it ended", .run = test_command },
	{ "api", "serve Cloud Hypervisor's API for one VM", .run = api_command },
	{ "image", "create, check, convert and inspect disk images", .helper = "bantam-image" },
	{ "seed", "build the small disks: cloud-init, service, FAT from a folder",
	  .helper = "bantam-seed" },
	{ "initrd", "pack an initrd: bantam's init, kernel modules, files, a shell",
	  .helper = "bantam-initrd" },
	{ "ctl", "drive a VM by the socket of its API", .helper = "bantam-ctl" },
	{ "doctor", "say what works on this host, and what to do about the rest",
	  .run = cmd_doctor },
	{ "version", "print the version", .run = cmd_version },
	{ "help", "this text; help COMMAND: that of a command", .run = cmd_help },
};
#define NCOMMANDS (sizeof(commands) / sizeof(commands[0]))

static int no_command(const char *name)
{
	const char *names[NCOMMANDS];
	struct err err;

	for (size_t i = 0; i < NCOMMANDS; i++)
		names[i] = commands[i].name;
	keys_no_word("command", name, names, NCOMMANDS, "bantam help", &err);
	return fail(err.text, OUTCOME_USAGE);
}

/* "help", or "help COMMAND …": the same as "COMMAND … --help". */
static int cmd_help(int argc, char **argv)
{
	if (argc && !is_help(argv[0])) {
		char *words[4] = { argv[0], argc > 1 ? argv[1] : (char *)"--help",
				   (char *)"--help" };

		for (size_t i = 0; i < NCOMMANDS; i++) {
			if (strcmp(argv[0], commands[i].name))
				continue;
			/* bantam ctl --help has the help of each of its commands. */
			return commands[i].helper ? run_helper(commands[i].helper, words + 1) :
						    commands[i].run(1, words + 2);
		}
		return no_command(argv[0]);
	}
	puts("bantam: one process is one VM\n\nusage: bantam COMMAND [OPTION]…\n");
	for (size_t i = 0; i < NCOMMANDS; i++)
		usage_row(stdout, 2, 13, commands[i].name, commands[i].help, NULL);
	puts("\nbantam help COMMAND, or bantam COMMAND --help, describes a command.");
	return 0;
}

/* Is name the last part of the path by which the program was started? */
static bool is_called(const char *path, const char *name)
{
	const char *slash = path ? strrchr(path, '/') : NULL;

	return path && !strcmp(slash ? slash + 1 : path, name);
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;

	if (name)
		for (size_t i = 0; i < NCOMMANDS; i++)
			/* Directly: the helper is to see which descriptors are closed. */
			if (commands[i].helper && !strcmp(name, commands[i].name))
				return run_helper(commands[i].helper, argv + 2);
	output_begin();
	/* Hitting RLIMIT_FSIZE (ulimit -f) is an I/O error, even for a guest's disk; it must not kill us. */
	signal(SIGXFSZ, SIG_IGN);
	/* One heap for all threads: one arena per thread would cost pages and time. */
	mallopt(M_ARENA_MAX, 1);
	if (is_called(argv[0], "cloud-hypervisor"))
		return output_end(api_command(argc - 1, argv + 1), OUTCOME_ERROR);
	if (!name) {
		cmd_help(0, NULL);
		return OUTCOME_USAGE;
	}
	if (!strcmp(name, "--help") || !strcmp(name, "-h"))
		name = "help";
	if (!strcmp(name, "--version") || !strcmp(name, "-V"))
		name = "version";
	for (size_t i = 0; i < NCOMMANDS; i++) {
		const struct command *c = &commands[i];

		if (!c->run || strcmp(name, c->name))
			continue;
		/* "bantam run help", "bantam test -h" */
		if (argc == 3 && is_help(argv[2]))
			argv[2] = (char *)"--help";
		return output_end(c->run(argc - 2, argv + 2), OUTCOME_ERROR);
	}
	return no_command(name);
}
