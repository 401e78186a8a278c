/* test/initrd: see initrd.h. */
#include "vmm/test/initrd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/pack/executable.h"
#include "boot/pack/modules.h"
#include "boot/pack/pack.h"
#include "boot/pack/programs.h"
#include "boot/pack/shell.h"
#include "vmm/core/keys.h"
#include "vmm/kernels/drivers.h"

#define AGENT "/bantam-agent"
#define PART_BYTES (1u << 20)
/* Between the user's initrd and ours: the kernel's lz4 decoder wants four zeroes behind its last block. */
#define GAP_BYTES 4u
#define ALIGN_BYTES 512u

/* PATH of a command in the guest, unless --env sets it (guest/agent_child.h). */
#define GUEST_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static bool has_agent(const struct test_options *o)
{
	return !o->initrd || o->command;
}

const char *test_initrd_init(const struct test_options *o)
{
	/* A root file system has an /init of its own, and so may a folder that --copy names. */
	return (o->initrd && o->command) || o->copy.n ? AGENT : NULL;
}

/* --- modules ------------------------------------------------------------------------------ */

/* Finds an option of bantam run, and its value in *value. */
static bool next_option(const struct test_options *o, int *at, char name[KEYS_NAME_MAX],
			const char **value)
{
	while (*at < o->vm_argc) {
		int i = (*at)++;

		if (!keys_option(o->vm_argv[i], name, value))
			continue;
		if (!*value && *at < o->vm_argc)
			*value = o->vm_argv[*at];
		return true;
	}
	return false;
}

static bool is_mmio(const struct test_options *o)
{
	char name[KEYS_NAME_MAX];
	const char *value;
	bool mmio = false;

	for (int at = 0; next_option(o, &at, name, &value);)
		if (!strcmp(name, "transport"))
			mmio = value && !strcmp(value, "mmio");
	return mmio;
}

static int add_drivers(struct pack *pack, struct pack_tree *tree, const struct test_options *o,
		       struct err *err)
{
	char name[KEYS_NAME_MAX];
	const char *value;
	int ret = kernels_add_transport(pack, tree, is_mmio(o), err);

	if (!ret)
		ret = kernels_add_driver(pack, tree, "console", err);
	for (int at = 0; !ret && next_option(o, &at, name, &value);)
		ret = kernels_add_driver(pack, tree, name, err);
	return ret;
}

static int add_modules(struct pack *pack, const struct test_options *o,
		       const struct kernels_choice *k, struct err *err)
{
	struct pack_tree *tree = NULL;
	int ret = 0;

	if (k->modules)
		ret = pack_tree_open(&tree, k->modules, err);
	if (ret == -ENOENT && k->modules_found)
		ret = 0;
	if (!ret && !tree && o->module.n)
		ret = err_set(
			err, ENOENT,
			"--module %.100s: there are no modules of this kernel; --modules DIR gives them",
			o->module.item[0]);
	/* First, since one that a device needs, too, may have parameters here. */
	for (unsigned i = 0; !ret && i < o->module.n; i++)
		ret = pack_add_modules(pack, tree, o->module.item[i], err);
	if (!ret && tree && has_agent(o))
		ret = add_drivers(pack, tree, o, err);
	pack_tree_close(tree);
	return ret;
}

/* --- files of the host -------------------------------------------------------------------- */

/* Writes the path of name as seen from dir, without "." and "..". Returns false if it is too long. */
static bool absolute(const char *dir, const char *name, char out[PATH_MAX])
{
	char both[PATH_MAX], *rest = both, *part;
	size_t len = 0;

	if ((size_t)snprintf(both, sizeof(both), "%s/%s", *name == '/' ? "" : dir, name) >=
	    sizeof(both))
		return false;
	*out = 0;
	while ((part = strsep(&rest, "/"))) {
		if (!strcmp(part, "..")) {
			while (len && out[--len] != '/')
				;
			out[len] = 0;
		} else if (*part && strcmp(part, ".")) {
			len += (size_t)sprintf(out + len, "/%s", part);
		}
	}
	return true;
}

/* HOST[:GUEST]; GUEST begins with a slash, and one that ends with a slash is the folder for HOST. */
static int add_copy(struct pack *pack, const char *spec, struct err *err)
{
	char host[PATH_MAX], guest[PATH_MAX], here[PATH_MAX] = "/";
	const char *colon = NULL, *to, *base;
	struct stat st;
	size_t len;
	int ret;

	for (const char *at = spec; (at = strstr(at, ":/")); at++)
		colon = at;
	len = colon ? (size_t)(colon - spec) : strlen(spec);
	if (!len || len >= sizeof(host))
		return err_set(err, EINVAL, "--copy %.200s: must be HOST or HOST:/GUEST", spec);
	snprintf(host, sizeof(host), "%.*s", (int)len, spec);
	if (stat(host, &st))
		return err_sys(err, errno, "--copy %.200s", host);
	if (!colon && *host != '/' && !getcwd(here, sizeof(here)))
		return err_sys(err, errno, "--copy %.200s: the working directory", host);
	to = colon ? colon + 1 : host;
	base = strrchr(host, '/') ? strrchr(host, '/') + 1 : host;
	if (!absolute(here, to, guest) ||
	    (colon && !S_ISDIR(st.st_mode) && to[strlen(to) - 1] == '/' &&
	     (!absolute(to, base, guest))))
		return err_sys(err, ENAMETOOLONG, "--copy %.200s", spec);
	if (S_ISDIR(st.st_mode)) {
		ret = pack_add_folder(pack, *guest ? guest : "/", host, err);
	} else {
		ret = pack_add_executable(pack, guest, host, err);
	}
	return ret;
}

/* --- the command -------------------------------------------------------------------------- */

static const char *guest_path(const struct test_options *o)
{
	const char *path = GUEST_PATH;

	for (unsigned i = 0; i < o->env.n; i++)
		if (!strncmp(o->env.item[i], "PATH=", 5))
			path = o->env.item[i] + 5;
	return path;
}

/* Finds name in the guest's PATH. Returns false if none of its folders has it; *first is the first one then. */
static bool guest_has(const struct pack *pack, const struct test_options *o, const char *name,
		      char first[PATH_MAX])
{
	char path[PATH_MAX];

	*first = 0;
	for (const char *at = guest_path(o);; at++) {
		size_t len = strcspn(at, ":");

		if (len && *at == '/' &&
		    (size_t)snprintf(path, sizeof(path), "%.*s/%s", (int)len, at, name) <
			    sizeof(path)) {
			if (pack_has(pack, path))
				return true;
			if (!*first)
				strcpy(first, path);
		}
		at += len;
		if (!*at)
			return false;
	}
}

/* Adds the program at host, and the link by which the guest finds it. */
static int add_found(struct pack *pack, const char *host, const char *guest, struct err *err)
{
	char real[PATH_MAX];
	int ret;

	if (!realpath(host, real))
		return err_sys(err, errno, "%.200s", host);
	ret = pack_add_executable(pack, NULL, real, err);
	if (ret || pack_has(pack, guest))
		return ret;
	return pack_add_link(pack, guest, real, err);
}

static int add_command(struct pack *pack, const struct test_options *o, struct err *err)
{
	const char *name = o->command[0];
	char host[PATH_MAX], guest[PATH_MAX];
	int ret;

	if (!*name)
		return 0; /* the guest says what is wrong with it */
	if (!strchr(name, '/')) {
		if (guest_has(pack, o, name, guest) || !*guest || !pack_find_program(name, host))
			return 0;
		ret = pack_add_executable(pack, NULL, host, err);
		/* A link is needed only if the guest does not look in its own folder. */
		return ret || guest_has(pack, o, name, guest) ? ret :
								add_found(pack, host, guest, err);
	}
	if (!absolute(o->cwd ? o->cwd : "/", name, guest))
		return 0;
	if (pack_has(pack, guest))
		return pack_complete_executable(pack, guest, err);
	if (!pack_find_program(name, host))
		return 0;
	return add_found(pack, host, guest, err);
}

static bool has_shell(const struct pack *pack)
{
	static const char paths[][17] = {
		"/bin/sh",     "/bin/bash",	"/bin/dash",	 "/bin/busybox",
		"/usr/bin/sh", "/usr/bin/bash", "/usr/bin/dash", "/usr/bin/busybox",
	};

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		if (pack_has(pack, paths[i]))
			return true;
	return false;
}

/* A command that brings a shell into the guest (sh -c …, a script) runs the usual small programs, too. */
static int add_command_and_tools(struct pack *pack, const struct test_options *o, struct err *err)
{
	bool own_shell = o->initrd || has_shell(pack);
	int ret = add_command(pack, o, err);

	if (!ret && !own_shell && has_shell(pack))
		ret = pack_add_shell(pack, "", err);
	return ret;
}

/* --- the whole ------------------------------------------------------------------------------ */

static int fill(struct pack *pack, const struct test_options *o, const struct kernels_choice *k,
		struct err *err)
{
	bool known = true; /* what the user's initrd holds */
	int ret = 0;

	if (o->initrd) {
		ret = pack_add_below(pack, o->initrd, err);
		known = !ret;
		/* The guest's kernel says what is wrong with it. */
		ret = ret == -EINVAL || ret == -ENOTSUP ? 0 : ret;
	}
	if (!ret && has_agent(o))
		ret = pack_add_program(pack, AGENT, PACK_AGENT, err);
	if (!ret)
		ret = add_modules(pack, o, k, err);
	for (unsigned i = 0; !ret && i < o->copy.n; i++)
		ret = add_copy(pack, o->copy.item[i], err);
	if (!ret && !o->initrd && !pack_has(pack, "/init"))
		ret = pack_add_link(pack, "/init", AGENT, err);
	if (!ret && !o->initrd)
		ret = pack_add_users(pack, err);
	if (!ret && o->shell && known && !pack_has(pack, o->command[0]))
		ret = pack_add_shell(pack, "", err);
	if (!ret && o->command && known)
		ret = add_command_and_tools(pack, o, err);
	return ret;
}

/* Copies the user's initrd, and goes to the place behind it where another archive may begin. */
static int put_user(const char *path, int to, struct err *err)
{
	int from = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY), ret = 0;
	char *part = malloc(PART_BYTES);
	ssize_t n = -1;
	off_t at;

	if (from < 0 || !part) {
		ret = err_sys(err, part ? errno : ENOMEM, "--initrd %.200s", path);
		goto out;
	}
	while ((n = read(from, part, PART_BYTES)) > 0)
		for (ssize_t done = 0, more; done < n; done += more)
			if ((more = write(to, part + done, (size_t)(n - done))) < 0) {
				ret = err_sys(err, errno, "--initrd %.200s: a copy for the guest",
					      path);
				goto out;
			}
	at = lseek(to, 0, SEEK_CUR);
	at = (at + GAP_BYTES + ALIGN_BYTES - 1) & ~(off_t)(ALIGN_BYTES - 1);
	if (n < 0 || at < 0 || ftruncate(to, at) || lseek(to, at, SEEK_SET) < 0)
		ret = err_sys(err, errno, "--initrd %.200s", path);
out:
	free(part);
	if (from >= 0)
		close(from);
	return ret;
}

/* A file of the user's, and nothing else: it need not be copied. */
static int open_user(const struct test_options *o, int *fd_out, struct err *err)
{
	*fd_out = open(o->initrd, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	return *fd_out < 0 ? err_sys(err, errno, "--initrd %.200s", o->initrd) : 0;
}

int test_initrd_build(const struct test_options *o, const struct kernels_choice *k, int *fd_out,
		      struct err *err)
{
	struct pack *pack = NULL;
	struct stat st;
	int fd, ret;

	*fd_out = -1;
	if (o->initrd && stat(o->initrd, &st))
		return err_sys(err, errno, "--initrd %.200s", o->initrd);
	if (o->initrd && !S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "--initrd %.200s: not a regular file%s", o->initrd,
			       S_ISDIR(st.st_mode) ? "; --copy DIR:/ takes a folder" : "");
	if (o->initrd && !has_agent(o) && !o->copy.n && !o->module.n)
		return open_user(o, fd_out, err);
	fd = memfd_create("initrd", MFD_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "cannot build an initrd");
	ret = pack_create(&pack, err);
	if (!ret)
		ret = fill(pack, o, k, err);
	if (!ret && o->initrd)
		ret = put_user(o->initrd, fd, err);
	if (!ret)
		ret = pack_write(pack, fd, "the initrd in memory", PACK_PLAIN, err);
	pack_destroy(pack);
	if (ret) {
		close(fd);
		return ret;
	}
	*fd_out = fd;
	return 0;
}
