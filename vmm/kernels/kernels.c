/* kernels: see kernels.h. default.c finds the kernel of a user who names none. */
#include "vmm/kernels/kernels.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/pack/modules.h"
#include "boot/pack/release.h"

_Static_assert(sizeof(((struct kernels_choice *)0)->release) == PACK_RELEASE_MAX, "one size");

/* What `make` builds to boot, below the folder; the best one first. */
static const char *const built_images[] = {
#ifdef __x86_64__
	"arch/x86/boot/bzImage",
#endif
	"vmlinux",
};
#define NIMAGES (sizeof(built_images) / sizeof(built_images[0]))
#define RELEASE_FILE "include/config/kernel.release"

static char *path_of(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Returns NULL without memory; the caller frees it. */
static char *path_of(const char *fmt, ...)
{
	char *path;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&path, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : path;
}

static int no_memory(struct err *err)
{
	return err_sys(err, ENOMEM, "--kernel");
}

static bool is_there(const char *dir, const char *name)
{
	char *path = path_of("%s/%s", dir, name);
	bool there = path && !access(path, F_OK);

	free(path);
	return there;
}

/* --- the image ---------------------------------------------------------------------------- */

/* Reads the release in the image's header. What is no regular file (a pipe) tells none. */
static int read_image(struct kernels_choice *k, struct err *err)
{
	struct err why = { "" };
	struct stat st;
	int rc;

	if (!stat(k->image, &st) && !S_ISREG(st.st_mode))
		return 0;
	rc = pack_release_of_kernel(k->image, k->release, &why);
	if (rc == -EACCES)
		return err_set(err, EACCES,
			       "--kernel: %s: permission denied; as root, chmod a+r %s", k->image,
			       k->image);
	return rc ? err_set(err, -rc, "--kernel: %s", why.text) : 0;
}

/* "; installed are A, B", for a release that is not. */
static void list_installed(const char *root, char *text, size_t len)
{
	char *path = path_of("%s/boot", root);
	DIR *dir = path ? opendir(path) : NULL;
	const struct dirent *e;
	size_t n = 0;

	*text = 0;
	while (dir && (e = readdir(dir)) && n < len)
		if (!strncmp(e->d_name, "vmlinuz-", 8))
			n += (size_t)snprintf(text + n, len - n, "%s%s",
					      n ? ", " : "; installed are ", e->d_name + 8);
	if (dir)
		closedir(dir);
	free(path);
}

/* An image may say anything. */
static bool names_folder(const char *release)
{
	return *release && *release != '.' && !strchr(release, '/');
}

/* --- modules ------------------------------------------------------------------------------ */

/* Looks whether dir is a tree of modules for this kernel. option: for errors. -ENOENT: it is none. */
static int check_tree(const struct kernels_choice *k, const char *option, const char *dir,
		      const char *advice, struct err *err)
{
	char release[PACK_RELEASE_MAX];
	struct err why = { "" };
	struct pack_tree *tree;
	int rc = pack_tree_open(&tree, dir, &why);

	if (rc)
		return err_set(err, -rc, "%s: %s", option, why.text);
	rc = pack_release_of_modules(tree, release, &why);
	pack_tree_close(tree);
	if (rc)
		return err_set(err, -rc, "%s: %s", option, why.text);
	if (*release && *k->release && strcmp(release, k->release) != 0)
		return err_set(err, EINVAL,
			       "%s: the modules in %.150s are for %s, but the kernel is %s; %s",
			       option, dir, release, k->release, advice);
	return 0;
}

/* The kernel's own modules, unless there are none. */
static int take_modules(struct kernels_choice *k, const char *dir, const char *advice,
			struct err *err)
{
	int rc = check_tree(k, "--kernel", dir, advice, err);

	if (rc == -ENOENT)
		return 0;
	if (rc)
		return rc;
	k->modules = strdup(dir);
	return k->modules ? 0 : no_memory(err);
}

/* DIR, or DIR/lib/modules/RELEASE. */
static int override_modules(struct kernels_choice *k, const char *dir, struct err *err)
{
	static const char option[] = "--modules";
	char advice[200], *below;
	struct stat st;
	int rc;

	if (stat(dir, &st))
		return err_sys(err, errno, "%s %s", option, dir);
	below = path_of("%s/lib/modules/%s", dir, k->release);
	if (!below)
		return no_memory(err);
	snprintf(advice, sizeof(advice), "%s%s%s",
		 k->modules ? "without --modules those of " : "give its own",
		 k->modules ? k->modules : "", k->modules ? " are taken" : "");
	rc = check_tree(k, option, dir, advice, err);
	if (rc == -ENOENT && names_folder(k->release) && !access(below, F_OK))
		rc = check_tree(k, option, dir = below, advice, err);
	free(k->modules);
	k->modules = rc ? NULL : strdup(dir);
	k->modules_found = false;
	free(below);
	return rc || k->modules ? rc : no_memory(err);
}

/* --- the configuration -------------------------------------------------------------------- */

#define CONFIG_LINES_MAX 65536u

/*
 * Does the kernel have no driver for KVM's clock? Such a kernel for a PC (KUnit's, for one) needs the board
 * with an 8254 (arch_needs_legacy). What is no configuration of x86 tells nothing.
 */
static void read_config(struct kernels_choice *k, const char *dir, const char *name)
{
	char *path = path_of("%s/%s", dir, name), line[256];
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;
	FILE *f = fd < 0 ? NULL : fdopen(fd, "re");
	bool x86 = false, clock = false;
	struct stat st;

	if (f && !fstat(fd, &st) && S_ISREG(st.st_mode))
		for (unsigned n = 0; n < CONFIG_LINES_MAX && fgets(line, sizeof(line), f); n++) {
			x86 |= !strcmp(line, "CONFIG_X86=y\n");
			clock |= !strcmp(line, "CONFIG_KVM_GUEST=y\n");
		}
	k->no_kvmclock = x86 && !clock;
	if (f)
		fclose(f);
	else if (fd >= 0)
		close(fd);
	free(path);
}

/* The folder in which the kernel's file lies, with a slash. NULL: no memory; the caller frees it. */
static char *folder_of(const char *image)
{
	const char *slash = strrchr(image, '/');

	return slash ? strndup(image, (size_t)(slash + 1 - image)) : strdup("./");
}

/* The configuration of a kernel's file beside it: /boot/config-RELEASE. */
static void read_config_beside(struct kernels_choice *k, const char *image)
{
	char *dir = folder_of(image);
	char name[sizeof("config-") + PACK_RELEASE_MAX];

	snprintf(name, sizeof(name), "config-%s", k->release);
	if (dir && names_folder(k->release))
		read_config(k, dir, name);
	free(dir);
}

/* --- FILE, BUILD-DIR, RELEASE ------------------------------------------------------------- */

/* "" if the build has none, or it is no release's name. */
static void read_build_release(const char *dir, char release[PACK_RELEASE_MAX])
{
	char text[PACK_RELEASE_MAX + 1];
	char *path = path_of("%s/" RELEASE_FILE, dir);
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));
	size_t len = 0;

	while (n > 0 && len < (size_t)n && text[len] > ' ' && text[len] < 0x7f)
		len++;
	*release = 0;
	if (len < PACK_RELEASE_MAX) {
		memcpy(release, text, len);
		release[len] = 0;
	}
	if (fd >= 0)
		close(fd);
	free(path);
}

/*
 * The folder of the build to which the file belongs, or NULL: it lies elsewhere, or the build is one of another
 * release now. The caller frees it.
 */
static char *build_of(struct kernels_choice *k, const char *image)
{
	size_t len = strlen(image);
	char release[PACK_RELEASE_MAX];

	for (size_t i = 0; i < NIMAGES; i++) {
		size_t tail = strlen(built_images[i]);
		char *dir;

		if (len < tail || strcmp(image + len - tail, built_images[i]) != 0 ||
		    (len > tail && image[len - tail - 1] != '/'))
			continue;
		dir = len > tail ? strndup(image, len - tail) : strdup("./");
		if (!dir)
			continue;
		read_build_release(dir, release);
		if (*release && (!*k->release || !strcmp(release, k->release))) {
			memcpy(k->release, release, sizeof(release));
			return dir;
		}
		free(dir);
	}
	return NULL;
}

/* The modules beside a kernel's file, as tools/fetch-kernels puts them there. */
static void take_modules_beside(struct kernels_choice *k, const char *image)
{
	char *dir = folder_of(image), *modules = dir ? path_of("%smodules", dir) : NULL;

	if (modules)
		take_modules(k, modules, "", NULL);
	free(modules);
	free(dir);
}

/* The file to which a symbolic link leads; NULL: it is none. The caller frees it. */
static char *linked(const char *image)
{
	struct stat st;

	return !lstat(image, &st) && S_ISLNK(st.st_mode) ? realpath(image, NULL) : NULL;
}

/* Without modules that fit, a FILE has none. What belongs to a link's file belongs to the link. */
static int take_file(struct kernels_choice *k, const char *file, const char *root, struct err *err)
{
	char *dir, *real;
	int rc;

	k->image = strdup(file);
	if (!k->image)
		return no_memory(err);
	rc = read_image(k, err);
	if (rc)
		return rc;
	real = linked(k->image);
	dir = build_of(k, k->image);
	if (!dir && real)
		dir = build_of(k, real);
	if (dir)
		read_config(k, dir, ".config");
	else
		read_config_beside(k, real ? real : k->image);
	if (dir && is_there(dir, "vmlinux"))
		k->vmlinux = path_of("%svmlinux", dir);
	if (!dir)
		take_modules_beside(k, k->image);
	if (!dir && !k->modules && real)
		take_modules_beside(k, real);
	free(real);
	if (!dir && !k->modules && names_folder(k->release))
		dir = path_of("%s/lib/modules/%s", root, k->release);
	if (dir)
		take_modules(k, dir, "", NULL);
	k->modules_found = k->modules != NULL;
	free(dir);
	return 0;
}

static int no_build(const char *dir, struct err *err)
{
	if (is_there(dir, "Makefile") && (is_there(dir, ".config") || is_there(dir, "Kconfig")))
		return err_set(err, ENOENT,
			       "--kernel %.150s: no kernel is built there: neither %s nor vmlinux; "
			       "run make -C %.150s, or give the O= folder of the build",
			       dir, built_images[0], dir);
	return err_set(
		err, ENOENT,
		"--kernel %.150s: is no kernel's tree: it has neither %s nor vmlinux; give a "
		"bzImage, a tree in which a kernel was built, or its O= folder",
		dir, built_images[0]);
}

/* What tools/fetch-kernels prints: the kernel as its package has it, and all of its modules. */
static bool is_fetched(const char *dir)
{
	return is_there(dir, "vmlinuz") && is_there(dir, "modules");
}

static int take_fetched(struct kernels_choice *k, const char *dir, struct err *err)
{
	char *modules = path_of("%s/modules", dir);
	int rc = 0;

	k->image = path_of("%s/vmlinuz", dir);
	if (!k->image || !modules)
		rc = no_memory(err);
	if (!rc)
		rc = read_image(k, err);
	if (!rc)
		read_config(k, dir, "config");
	if (!rc)
		rc = take_modules(k, modules, "fetch it again", err);
	free(modules);
	return rc;
}

static int take_build(struct kernels_choice *k, const char *dir, struct err *err)
{
	char built[PACK_RELEASE_MAX], advice[200];
	int rc;

	for (size_t i = 0; i < NIMAGES && !k->image; i++)
		if (is_there(dir, built_images[i])) {
			k->image = path_of("%s/%s", dir, built_images[i]);
			if (!k->image)
				return no_memory(err);
		}
	if (!k->image)
		return no_build(dir, err);
	if (is_there(dir, "vmlinux")) {
		k->vmlinux = path_of("%s/vmlinux", dir);
		if (!k->vmlinux)
			return no_memory(err);
	}
	rc = read_image(k, err);
	if (rc)
		return rc;
	read_build_release(dir, built);
	if (*built && *k->release && strcmp(built, k->release) != 0)
		return err_set(err, EINVAL,
			       "--kernel %.150s: %.150s is %s, but " RELEASE_FILE
			       " says %s; run make -C %.150s",
			       dir, k->image, k->release, built, dir);
	if (!*k->release)
		memcpy(k->release, built, sizeof(built));
	read_config(k, dir, ".config");
	snprintf(advice, sizeof(advice), "run make -C %.150s modules", dir);
	return take_modules(k, dir, advice, err);
}

static int take_installed(struct kernels_choice *k, const char *release, const char *root,
			  struct err *err)
{
	char *modules = path_of("%s/lib/modules/%s", root, release);
	char *boot = path_of("%s/boot/vmlinuz-%s", root, release);
	char *fedora = path_of("%s/lib/modules/%s/vmlinuz", root, release);
	char installed[200];
	int rc;

	if (!modules || !boot || !fedora) {
		rc = no_memory(err);
	} else if (access(boot, F_OK) && access(fedora, F_OK)) {
		list_installed(root, installed, sizeof(installed));
		rc = err_set(err, ENOENT,
			     "--kernel %.100s: there is no such file or folder, nor an installed "
			     "kernel: neither %.120s nor %.120s%s",
			     release, boot, fedora, installed);
	} else {
		k->image = strdup(access(boot, F_OK) ? fedora : boot);
		rc = k->image ? read_image(k, err) : no_memory(err);
		if (!rc && !*k->release)
			snprintf(k->release, sizeof(k->release), "%s", release);
		if (!rc)
			read_config_beside(k, k->image);
		if (!rc)
			rc = take_modules(k, modules, "install the kernel's own again", err);
	}
	free(modules);
	free(boot);
	free(fedora);
	return rc;
}

int kernels_find_installed(struct kernels_choice *k, const char *release, const char *modules,
			   const char *root, struct err *err)
{
	int rc;

	*k = (struct kernels_choice){ 0 };
	rc = take_installed(k, release, root, err);
	return rc || !modules ? rc : override_modules(k, modules, err);
}

int kernels_find(struct kernels_choice *k, const char *name, const char *modules, const char *root,
		 struct err *err)
{
	struct stat st;
	int rc;

	*k = (struct kernels_choice){ 0 };
	if (!stat(name, &st))
		rc = !S_ISDIR(st.st_mode) ? take_file(k, name, root, err) :
		     is_fetched(name)	  ? take_fetched(k, name, err) :
					    take_build(k, name, err);
	else if (errno == ENOENT && !strchr(name, '/'))
		rc = take_installed(k, name, root, err);
	else
		rc = err_sys(err, errno, "--kernel %s", name);
	return rc || !modules ? rc : override_modules(k, modules, err);
}

void kernels_clear(struct kernels_choice *k)
{
	free(k->image);
	free(k->modules);
	free(k->vmlinux);
	*k = (struct kernels_choice){ 0 };
}
