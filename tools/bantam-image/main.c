/* main: the table of commands. See image.h for the functions that they share. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <unistd.h>

#include "tools/bantam-image/image.h"
#include "vmm/core/helper.h"
#include "vmm/core/keys.h"
#include "vmm/core/output.h"
#include "vmm/usage/usage.h"

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv); /* NULL: bantam-fs does it */
	const char *help;
} commands[] = {
	{ "create", image_create_main, "make an image: raw, qcow2, or an overlay on another" },
	{ "info", image_info_main, "describe an image (--json)" },
	{ "check", image_check_main, "look for damage in a qcow2 image (--repair, --json)" },
	{ "convert", image_convert_main, "copy an image into another format, also compressed" },
	{ "resize", image_resize_main, "change a disk's size" },
	{ "map", image_map_main, "list which parts hold data, and where (--json)" },
	{ "compare", image_compare_main, "compare the bytes that guests see in two images" },
	{ "sha256", image_sha256_main, "print the checksum of the bytes that a guest sees" },
	{ "ls", NULL, "list a directory of a file system in an image" },
	{ "cat", NULL, "print a file of a file system in an image" },
	{ "extract", NULL, "copy files out of a file system in an image" },
};
#define NCOMMANDS (sizeof(commands) / sizeof(commands[0]))

static int help(void)
{
	puts("usage: bantam image COMMAND [OPTION]… FILE…\n");
	for (size_t i = 0; i < NCOMMANDS; i++)
		usage_row(stdout, 2, 13, commands[i].name, commands[i].help, NULL);
	puts("\nbantam image COMMAND --help describes a command.");
	return IMAGE_OK;
}

/* ls, cat and extract: bantam-fs, a confined program of its own, reads file systems. */
static int run_fs(char **argv, struct err *err)
{
	char path[PATH_MAX + 64];
	char **next = calloc(ARGS_FILES_MAX, sizeof(*next));
	struct err why;
	unsigned n = 0;
	int rc;

	if (!next)
		return err_sys(err, ENOMEM, "image %s", argv[0]);
	rc = helper_find("bantam-fs", path, sizeof(path), &why);
	if (rc) {
		free(next);
		return err_set(err, -rc, "image %s: %s", argv[0], why.text);
	}
	next[n++] = path;
	while (*argv && n < ARGS_FILES_MAX - 1)
		next[n++] = *argv++;
	execv(path, next);
	free(next);
	return err_sys(err, errno, "%s", path);
}

static int no_command(const char *name)
{
	const char *names[NCOMMANDS];
	struct err err, why;

	for (size_t i = 0; i < NCOMMANDS; i++)
		names[i] = commands[i].name;
	keys_no_word("command", name, names, NCOMMANDS, "bantam image --help", &why);
	err_set(&err, EINVAL, "image: %s", why.text);
	return image_fail(&err, IMAGE_USAGE);
}

static int command(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;

	if (!name) {
		help();
		return IMAGE_USAGE;
	}
	if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help"))
		return help();
	for (size_t i = 0; i < NCOMMANDS; i++) {
		if (!strcmp(name, commands[i].name))
			return commands[i].run(argc - 2, argv + 2);
	}
	return no_command(name);
}

int main(int argc, char **argv)
{
	struct err err = { "" };

	/* A write beyond the limit on file sizes must fail (EFBIG), not kill the process. */
	signal(SIGXFSZ, SIG_IGN);
	for (size_t i = 0; argc > 1 && i < NCOMMANDS; i++) {
		/* Directly: the helper is to see which descriptors are closed. */
		if (!commands[i].run && !strcmp(argv[1], commands[i].name)) {
			run_fs(argv + 1, &err);
			return image_fail(&err, IMAGE_ERROR);
		}
	}
	output_begin();
	return output_end(command(argc, argv), IMAGE_ERROR);
}
