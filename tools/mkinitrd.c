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
	"  -M DIR              /lib/modules/RELEASE, or a folder in which a kernel was built\n"
	"  -m NAME[?][:ARGS]   module with what it needs; '?': if this kernel has it;\n"
	"                      several apart by commas when they have no arguments\n"
	"  -f SRC:DST          host file and its path in the initrd\n"
	"  -l                  with what each -f that follows needs: libraries, interpreters\n"
	"  -t DST=TEXT         file with that text and a newline\n"
	"  -z, -Z              compress with gzip, with zstd\n";

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

/* Returns 0, -errno, or 1: print the usage. */
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
	case 'z':
	case 'Z':
		o->compression = opt == 'z' ? PACK_GZIP : PACK_ZSTD;
		return 0;
	default:
		return 1;
	}
}

int main(int argc, char **argv)
{
	struct options o = { .compression = PACK_PLAIN };
	struct err err = { "" };
	int opt = 0, ret = pack_create(&o.pack, &err);

	while (!ret && (opt = getopt(argc, argv, "o:i:M:m:f:t:lzZh")) != -1)
		ret = take(&o, opt, optarg, &err);
	if (!ret && (!o.output || optind < argc))
		ret = 1;
	if (!ret)
		ret = write_out(&o, &err);
	pack_tree_close(o.tree);
	pack_destroy(o.pack);
	if (ret > 0) {
		fputs(usage, opt == 'h' ? stdout : stderr);
		return opt == 'h' ? 0 : 2;
	}
	if (ret)
		fprintf(stderr, "mkinitrd: %s\n", err.text);
	return ret ? 1 : 0;
}
