/* kernels/default: the kernel of a user who names none; see kernels.h. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "vmm/kernels/kernels.h"

#define NAME_BYTES 64

/* Returns 0 if the kernel of that release can be read, else why not. */
static int look_for_installed(const char *root, const char *release)
{
	char path[PATH_MAX];
	int why;

	snprintf(path, sizeof(path), "%s/boot/vmlinuz-%s", root, release);
	if (!access(path, R_OK))
		return 0;
	why = errno;
	snprintf(path, sizeof(path), "%s/lib/modules/%s/vmlinuz", root, release);
	/* kernels_find takes it only if there is none in /boot. */
	return why == ENOENT && !access(path, R_OK) ? 0 : why;
}

/* The smaller, the sooner its shell is there. */
static unsigned rank(const char *name)
{
	static const char *const first[] = { "cloud-amd64", "amd64" };

	for (unsigned i = 0; i < 2; i++)
		if (!strcmp(name, first[i]))
			return i;
	return 2;
}

static bool is_better(const char *name, const char *than)
{
	unsigned a = rank(name), b = rank(than);

	return !*than || a < b || (a == b && strcmp(name, than) < 0);
}

/* Writes the path of the best kernel that was fetched. Returns false if there is none. */
static bool find_fetched(const char *cache, char path[PATH_MAX])
{
	char best[NAME_BYTES] = "", dir[PATH_MAX];
	const struct dirent *e;
	DIR *all;

	if (!cache || (size_t)snprintf(dir, sizeof(dir), "%s/kernels", cache) >= sizeof(dir))
		return false;
	all = opendir(dir);
	while (all && (e = readdir(all))) {
		char modules[PATH_MAX];

		if (*e->d_name == '.' || strlen(e->d_name) >= NAME_BYTES)
			continue;
		if ((size_t)snprintf(path, PATH_MAX, "%s/%s/vmlinuz", dir, e->d_name) >= PATH_MAX ||
		    (size_t)snprintf(modules, PATH_MAX, "%s/%s/modules", dir, e->d_name) >=
			    PATH_MAX)
			continue;
		if (!access(path, R_OK) && !access(modules, R_OK | X_OK) &&
		    is_better(e->d_name, best))
			strcpy(best, e->d_name);
	}
	if (all)
		closedir(all);
	return *best && (size_t)snprintf(path, PATH_MAX, "%s/%s", dir, best) < PATH_MAX;
}

int kernels_find_default(struct kernels_choice *k, const char *modules, const char *root,
			 const char *cache, struct err *err)
{
	struct utsname host = { .release = "" };
	char fetched[PATH_MAX];
	int why;

	*k = (struct kernels_choice){ 0 };
	uname(&host);
	why = look_for_installed(root, host.release);
	if (!why)
		return kernels_find_installed(k, host.release, modules, root, err);
	if (find_fetched(cache, fetched))
		return kernels_find(k, fetched, modules, root, err);
	return err_set(
		err, ENOENT,
		"--shell: this host's kernel, %s/boot/vmlinuz-%.80s, cannot be read (%s), and "
		"no other was fetched; run tools/fetch-kernels cloud-amd64, or give "
		"--kernel FILE|BUILD-DIR|RELEASE",
		root, host.release, strerror(why));
}
