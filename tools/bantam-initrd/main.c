/*
 * bantam-initrd: packs an initrd: a program to run first, kernel modules with what they need, files, a shell.
 * `bantam initrd` runs it; boot/pack does the work.
 *
 * The command line is read as a whole before anything is packed, so only the order of what goes into the
 * initrd matters. The initrd appears under its name only when it is complete. The same input gives the same
 * bytes.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "boot/pack/executable.h"
#include "boot/pack/modules.h"
#include "boot/pack/pack.h"
#include "boot/pack/programs.h"
#include "boot/pack/shell.h"
#include "vmm/core/new_file.h"
#include "vmm/core/output.h"
#include "vmm/core/parse.h"
#include "vmm/usage/options.h"
#include "vmm/usage/usage.h"

#define EXIT_FAILED 1
#define EXIT_WRONG_USAGE 2
#define HELP_AT 31

enum opt {
	OPT_FILE = 'f',
	OPT_GZIP = 'z',
	OPT_HELP = 'h',
	OPT_INIT = 'i',
	OPT_LIBRARIES = 'l',
	OPT_MODULE = 'm',
	OPT_MODULES = 'M',
	OPT_OUTPUT = 'o',
	OPT_TEXT = 't',
	OPT_ZSTD = 'Z',
	OPT_FORCE = 256,
	OPT_MODE,
	OPT_SHELL,
	OPT_SYNC,
};

static const struct usage_option options[] = {
	{ "output", OPT_OUTPUT, "FILE", "the initrd, a new file" },
	{ "init", OPT_INIT, "FILE", "program to run first, as /init [bantam's own]" },
	{ "modules", OPT_MODULES, "DIR", "/lib/modules/RELEASE, or where a kernel was built" },
	{ "module", OPT_MODULE, "NAME[?][:ARGS]",
	  "a module, with what it needs; `?': if this kernel has it; several apart by commas "
	  "when they have no arguments (repeat)" },
	{ "file", OPT_FILE, "SRC:DST", "a file or folder, and its path in the initrd (repeat)" },
	{ "libraries", OPT_LIBRARIES, NULL,
	  "with what the program of each --file behind this needs: libraries, interpreters" },
	{ "text", OPT_TEXT, "DST=TEXT", "a file with that text and a newline (repeat)" },
	{ "shell", OPT_SHELL, NULL,
	  "a shell and the usual small programs: busybox, or the host's" },
	{ "gzip", OPT_GZIP, NULL, "compress with gzip" },
	{ "zstd", OPT_ZSTD, NULL, "compress with zstd" },
	{ "force", OPT_FORCE, NULL, "replace FILE" },
	{ "mode", OPT_MODE, "MODE", "the initrd's mode, such as 640 [600]" },
	{ "sync", OPT_SYNC, "on|off", "wait until it is on stable storage [on]" },
	{ "help", OPT_HELP, NULL, "this text" },
	{ 0 },
};

/* What goes into the initrd, in the order of the command line. */
struct piece {
	int opt; /* OPT_FILE, OPT_TEXT, OPT_MODULE */
	const char *value;
	bool libraries;
};

struct request {
	const char *output, *init, *modules;
	enum pack_compression compression;
	unsigned mode; /* 0: not given */
	bool force, libraries, shell, sync;
	struct piece *pieces;
	size_t npieces;
};

static void help(FILE *out)
{
	fputs("bantam initrd: packs an initrd of an init, kernel modules and files\n\n"
	      "usage: bantam initrd -o FILE [OPTION]...\n\n",
	      out);
	for (const struct usage_option *o = options; o->name; o++)
		usage_option_row(out, HELP_AT, o);
	fputc('\n', out);
	usage_text(
		out, 0, 0,
		"The same input gives the same bytes. man bantam-initrd says what bantam's own init "
		"understands on the kernel's command line.");
}

/* --- the command line --------------------------------------------------------------- */

static int once(const char **to, const struct usage_option *option, const char *value,
		struct err *err)
{
	if (*to)
		return err_set(err, EINVAL, "--%s: given twice", option->name);
	*to = value;
	return 0;
}

static int compress(struct request *req, enum pack_compression how, struct err *err)
{
	if (req->compression != PACK_PLAIN && req->compression != how)
		return err_set(err, EINVAL, "--gzip and --zstd: choose one of the two");
	req->compression = how;
	return 0;
}

/* One option but --help. req has room for a piece. */
static int take(struct request *req, const struct usage_option *option, const char *value,
		struct err *err)
{
	switch (option->id) {
	case OPT_OUTPUT:
		return once(&req->output, option, value, err);
	case OPT_INIT:
		return once(&req->init, option, value, err);
	case OPT_MODULES:
		return once(&req->modules, option, value, err);
	case OPT_GZIP:
		return compress(req, PACK_GZIP, err);
	case OPT_ZSTD:
		return compress(req, PACK_ZSTD, err);
	case OPT_LIBRARIES:
		req->libraries = true;
		return 0;
	case OPT_SHELL:
		req->shell = true;
		return 0;
	case OPT_FORCE:
		req->force = true;
		return 0;
	case OPT_MODE:
		return parse_mode(value, &req->mode) ?
			       err_set(err, EINVAL,
				       "--mode %.40s: must be a file's mode, such as 640", value) :
			       0;
	case OPT_SYNC:
		return parse_bool(value, &req->sync) ?
			       err_set(err, EINVAL, "--sync %.40s: must be on or off", value) :
			       0;
	default:
		req->pieces[req->npieces++] = (struct piece){ option->id, value, req->libraries };
		return 0;
	}
}

/* Returns 0, -errno, or 1 if the user asks for help. */
static int parse(struct request *req, int argc, char **argv, struct err *err)
{
	struct usage_words words = { .argc = argc - 1,
				     .argv = argv + 1,
				     .options = options,
				     .see = "bantam initrd --help" };
	const struct usage_option *option;
	const char *value;
	int rc;

	/* A word may be several letters, but only the last of them has a value. */
	req->pieces = calloc((size_t)argc, sizeof(*req->pieces));
	if (!req->pieces)
		return err_sys(err, ENOMEM, "arguments");
	while ((rc = usage_next(&words, &option, &value, err)) > 0) {
		if (!option)
			return err_set(err, EINVAL, "\"%.60s\": one argument too many; see %s",
				       value, words.see);
		if (option->id == OPT_HELP)
			return 1;
		rc = take(req, option, value, err);
		if (rc)
			return rc;
	}
	if (!rc && !req->output)
		rc = err_set(err, EINVAL, "-o FILE is missing: the initrd to make");
	for (size_t i = 0; !rc && !req->modules && i < req->npieces; i++)
		if (req->pieces[i].opt == OPT_MODULE)
			rc = err_set(
				err, EINVAL,
				"--module %.100s: --modules DIR is missing: the kernel's modules, "
				"such as /lib/modules/RELEASE",
				req->pieces[i].value);
	return rc;
}

/* --- contents ------------------------------------------------------------------------ */

/* Copies what stands before sep; the caller frees it. NULL: err is filled. */
static char *before(const char *option, const char *form, const char *value, const char *sep,
		    struct err *err)
{
	char *copy = sep && sep != value ? strndup(value, (size_t)(sep - value)) : NULL;

	if (!copy && sep && sep != value)
		err_sys(err, ENOMEM, "%s", option);
	else if (!copy)
		err_set(err, EINVAL, "%s %.200s: must be %s", option, value, form);
	return copy;
}

/* SRC:DST */
static int add_file(struct pack *pack, const struct piece *piece, struct err *err)
{
	const char *colon = strrchr(piece->value, ':');
	char *source = before("--file", "SRC:DST", piece->value, colon && colon[1] ? colon : NULL,
			      err);
	struct stat st;
	int rc;

	if (!source)
		return -EINVAL;
	if (stat(source, &st))
		rc = err_sys(err, errno, "--file %s", source);
	else if (S_ISDIR(st.st_mode))
		rc = pack_add_folder(pack, colon + 1, source, err);
	else
		rc = piece->libraries ? pack_add_executable(pack, colon + 1, source, err) :
					pack_add_file(pack, colon + 1, source, err);
	free(source);
	return rc;
}

/* DST=TEXT */
static int add_text(struct pack *pack, const struct piece *piece, struct err *err)
{
	const char *equals = strchr(piece->value, '=');
	char *name = before("--text", "DST=TEXT", piece->value, equals, err), *text = NULL;
	int len, rc;

	if (!name)
		return -EINVAL;
	len = asprintf(&text, "%s\n", equals + 1);
	rc = len < 0 ? err_sys(err, ENOMEM, "--text") :
		       pack_add_bytes(pack, name, 0644, text, (size_t)len, err);
	if (len >= 0)
		free(text);
	free(name);
	return rc;
}

static int fill(const struct request *req, struct pack *pack, struct pack_tree *tree,
		struct err *err)
{
	int rc = req->init ? pack_add_file(pack, "/init", req->init, err) : 0;

	for (size_t i = 0; !rc && i < req->npieces; i++) {
		const struct piece *piece = &req->pieces[i];

		rc = piece->opt == OPT_FILE ? add_file(pack, piece, err) :
		     piece->opt == OPT_TEXT ? add_text(pack, piece, err) :
					      pack_add_modules(pack, tree, piece->value, err);
	}
	if (!rc && req->shell)
		rc = pack_add_shell(pack, "", err);
	if (!rc && !pack_has(pack, "/init"))
		rc = pack_add_program(pack, "/init", PACK_INIT, err);
	return rc;
}

static int write_out(const struct request *req, struct pack *pack, struct err *err)
{
	struct new_file file = { .fd = -1 };
	int rc = new_file_open(&file, req->output, req->force, err);

	if (!rc && req->mode && fchmod(file.fd, req->mode))
		rc = err_sys(err, errno, "%s: --mode", req->output);
	if (!rc)
		rc = pack_write(pack, file.fd, req->output, req->compression, err);
	if (!rc)
		rc = new_file_finish(&file, req->sync, err);
	new_file_abandon(&file);
	return rc;
}

static int make(const struct request *req, struct err *err)
{
	struct new_file file = { .fd = -1 };
	struct pack_tree *tree = NULL;
	struct pack *pack = NULL;
	int rc = new_file_look(&file, req->output, req->force, err);

	if (!rc)
		rc = pack_create(&pack, err);
	if (!rc && req->modules)
		rc = pack_tree_open(&tree, req->modules, err);
	if (!rc)
		rc = fill(req, pack, tree, err);
	if (!rc)
		rc = write_out(req, pack, err);
	pack_tree_close(tree);
	pack_destroy(pack);
	return rc;
}

static int fail(const char *text, int status)
{
	/* boot/pack's messages of names and sizes begin so. */
	bool named = !strncmp(text, "initrd: ", 8);

	fprintf(stderr, "bantam: %s%s\n", named ? "" : "initrd: ", text);
	return status;
}

static int command(int argc, char **argv)
{
	struct request req = { .sync = true };
	struct err err = { "" };
	int rc, status = EXIT_WRONG_USAGE;

	if (argc < 2 || (argc == 2 && !strcmp(argv[1], "help"))) {
		help(argc < 2 ? stderr : stdout);
		return argc < 2 ? EXIT_WRONG_USAGE : 0;
	}
	/* Hitting RLIMIT_FSIZE (ulimit -f) is an error, not a reason to die. */
	signal(SIGXFSZ, SIG_IGN);
	new_file_on_signals();
	rc = parse(&req, argc, argv, &err);
	if (rc == 1)
		help(stdout);
	if (!rc) {
		status = EXIT_FAILED;
		rc = make(&req, &err);
	}
	free(req.pieces);
	return rc < 0 ? fail(err.text, status) : 0;
}

int main(int argc, char **argv)
{
	output_begin();
	return output_end(command(argc, argv), EXIT_FAILED);
}
