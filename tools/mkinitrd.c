/*
 * mkinitrd: packs an init, kernel modules and files into an initrd: the command of boot/pack.
 *
 * The same input gives the same bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/pack/executable.h"
#include "boot/pack/modules.h"
#include "boot/pack/pack.h"

static const char usage[] =
	"usage: mkinitrd -o FILE [options]\n"
	"  -i FILE             program to run first, as /init\n"
	"  -M DIR              /lib/modules/RELEASE, or where a kernel was built\n"
	"  -m NAME[?][:ARGS]   module with what it needs; '?': if this kernel has it;\n"
	"                      several apart by commas when they have no arguments\n"
	"  -f SRC:DST          host file and its path in the initrd\n"
	"  -l                  with what each -f that follows needs: libraries, interpreters\n"
	"  -t DST=TEXT         file with that text and a newline\n"
	"  -z, -Z              compress with gzip, with zstd\n"
	"  -h, --help          this text\n";

struct options {
	struct pack *pack;
	struct pack_tree *tree; /* NULL: no -M yet */
	const char *output;
	enum pack_compression compression;
	bool libraries;
};

/* Splits SRC:DST or DST=TEXT in place. Returns the second part, or NULL with err filled. */
static char *split(const char *option, const char *form, char *arg, char *sep, struct err *err)
{
	if (!sep || sep == arg) {
		err_set(err, EINVAL, "%s %s: must be %s", option, arg, form);
		return NULL;
	}
	*sep = 0;
	return sep + 1;
}

/* -f SRC:DST */
static int add_file(const struct options *o, char *arg, struct err *err)
{
	const char *name = split("-f", "SRC:DST", arg, strrchr(arg, ':'), err);

	if (!name)
		return -EINVAL;
	return o->libraries ? pack_add_executable(o->pack, name, arg, err) :
			      pack_add_file(o->pack, name, arg, err);
}

/* -t DST=TEXT */
static int add_text(const struct options *o, char *arg, struct err *err)
{
	char *text = split("-t", "DST=TEXT", arg, strchr(arg, '='), err);
	size_t len = text ? strlen(text) : 0;
	int ret;

	if (!text)
		return -EINVAL;
	text[len] = '\n'; /* in place of the NUL */
	ret = pack_add_bytes(o->pack, arg, 0644, text, len + 1, err);
	text[len] = 0;
	return ret;
}

/* Writes a new file beside the output and renames it, so that no reader sees an incomplete initrd. */
static int write_out(const struct options *o, struct err *err)
{
	char *temp = NULL;
	int fd = -1, ret = 0;

	if (asprintf(&temp, "%s.%d", o->output, (int)getpid()) < 0)
		return err_sys(err, ENOMEM, "%s", o->output);
	fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0) {
		ret = err_sys(err, errno, "%s", temp);
	} else {
		ret = pack_write(o->pack, fd, temp, o->compression, err);
		if (close(fd) && !ret)
			ret = err_sys(err, errno, "%s", temp);
		if (!ret && rename(temp, o->output))
			ret = err_sys(err, errno, "%s", o->output);
		if (ret)
			unlink(temp);
	}
	free(temp);
	return ret;
}

static int add_modules(const struct options *o, const char *specs, struct err *err)
{
	return o->tree ? pack_add_modules(o->pack, o->tree, specs, err) :
			 err_set(err, EINVAL, "-m %s: give -M before it", specs);
}

static int set_tree(struct options *o, const char *dir, struct err *err)
{
	return o->tree ? err_set(err, EINVAL, "-M %s: is given twice", dir) :
			 pack_tree_open(&o->tree, dir, err);
}

/* What getopt found to be wrong: '?', an unknown letter, or ':', a letter without its value. */
static int wrong_option(int opt, const char *word, struct err *err)
{
	if (opt == ':')
		return err_set(err, EINVAL, "-%c: needs a value; see mkinitrd --help", optopt);
	if (optopt == '-')
		return err_set(err, EINVAL,
			       "unknown option %.60s; options are letters, see mkinitrd --help",
			       word);
	return err_set(err, EINVAL, "unknown option -%c; see mkinitrd --help", optopt);
}

/* Returns 0 or -errno. */
static int take(struct options *o, int opt, char *arg, struct err *err)
{
	switch (opt) {
	case 'o':
		o->output = arg;
		return 0;
	case 'i':
		return pack_add_file(o->pack, "/init", arg, err);
	case 'M':
		return set_tree(o, arg, err);
	case 'm':
		return add_modules(o, arg, err);
	case 'f':
		return add_file(o, arg, err);
	case 't':
		return add_text(o, arg, err);
	case 'l':
		o->libraries = true;
		return 0;
	default: /* z, Z */
		o->compression = opt == 'z' ? PACK_GZIP : PACK_ZSTD;
		return 0;
	}
}

/* The whole command; *status becomes 2 for wrong usage. */
static int run(struct options *o, int argc, char **argv, int *status, struct err *err)
{
	int opt, ret = 0;

	opterr = 0;
	while (!ret && (opt = getopt(argc, argv, ":o:i:M:m:f:t:lzZ")) != -1) {
		if (opt == '?' || opt == ':') {
			*status = 2;
			return wrong_option(opt, argv[optind < argc ? optind : argc - 1], err);
		}
		ret = take(o, opt, optarg, err);
	}
	if (ret)
		return ret;
	*status = 2;
	if (optind < argc)
		return err_set(err, EINVAL, "\"%.60s\": one argument too many; see mkinitrd --help",
			       argv[optind]);
	if (!o->output)
		return err_set(err, EINVAL, "-o FILE is missing; see mkinitrd --help");
	*status = 1;
	return write_out(o, err);
}

int main(int argc, char **argv)
{
	struct options o = { .compression = PACK_PLAIN };
	struct err err = { "" };
	int ret, status = 1;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		fputs(usage, stdout);
		return 0;
	}
	ret = pack_create(&o.pack, &err);
	if (!ret)
		ret = run(&o, argc, argv, &status, &err);
	pack_tree_close(o.tree);
	pack_destroy(o.pack);
	if (ret)
		fprintf(stderr, "mkinitrd: %s\n", err.text);
	return ret ? status : 0;
}
