/*
 * root: namespaces and the empty root. See confine_impl.h, namespaces(7), user_namespaces(7), chroot(2).
 *
 * Theory of operation. The namespaces belong to the process while it has one thread, since threads cannot enter them
 * together later. The new root is a tmpfs in the new mount namespace, hidden under a folder that no program needs. In it
 * stand the folders, bound from the host under the same paths, in which the VM has names at run time: a socket that
 * it removes at the end, one to which it connects. Then the tmpfs becomes read-only. The process goes there when the
 * machine is built: chroot changes the root of all threads, and needs no mount, which Landlock would refuse. The host's
 * root stays mounted, but no path leads there: /proc is not mounted, and leaving a chroot needs a capability.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/confine/confine_impl.h"

#define HIDDEN "/proc/tty"
#define FOLDER_MODE 0755

static int root_fd = -1;
/* Where relative paths begin, in the new root; "/" if the VM has none. */
static char cwd[PATH_MAX] = "/";

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

/* Our user and group keep their numbers. Others look like nobody. */
static int map_ids(uid_t uid, gid_t gid)
{
	char text[64];
	int rc;

	snprintf(text, sizeof(text), "%u %u 1", uid, uid);
	rc = write_text("/proc/self/uid_map", text);
	/* Linux before 3.19 has no such file. */
	if (!rc && write_text("/proc/self/setgroups", "deny") == -EACCES)
		rc = -EACCES;
	snprintf(text, sizeof(text), "%u %u 1", gid, gid);
	return rc ? rc : write_text("/proc/self/gid_map", text);
}

/*
 * Ubuntu's AppArmor lets a process enter a user namespace, and then takes all rights there, also that to map its user.
 * Since Linux 5.12 a root that lacks CAP_SETFCAP, as in a container without capabilities, cannot map itself. A child finds
 * out.
 */
static int try_in_child(uid_t uid, gid_t gid)
{
	int status = 0;
	pid_t pid;

	if (uid && access("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", F_OK))
		return 0;
	pid = fork();
	if (!pid)
		_exit(unshare(CLONE_NEWUSER | CLONE_NEWNS) || map_ids(uid, gid));
	return pid < 0 ? -errno : waitpid(pid, &status, 0) == pid && !status ? 0 : -EPERM;
}

int confine_namespaces(bool user, bool *lost)
{
	int flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP, rc;
	uid_t uid = geteuid();
	gid_t gid = getegid();

	*lost = false;
	if (!user)
		return unshare(flags) ? -errno : 0;
	if (access("/proc/self/uid_map", W_OK) || access("/proc/self/gid_map", W_OK))
		return -errno;
	rc = try_in_child(uid, gid);
	if (rc || unshare(flags | CLONE_NEWUSER))
		return rc ? rc : -errno;
	rc = map_ids(uid, gid);
	*lost = rc;
	return rc;
}

int confine_network(void)
{
	return unshare(CLONE_NEWNET) ? -errno : 0;
}

/* --- the new root -------------------------------------------------------------------------- */

/* Makes the folders of an absolute path in the new root. "..", too, leads where it does on the host. */
static int make_folders(const char *path)
{
	char at[2 * PATH_MAX + sizeof(HIDDEN)];
	size_t n = (size_t)snprintf(at, sizeof(at), "%s%s/", HIDDEN, path);

	if (n >= sizeof(at))
		return -ENAMETOOLONG;
	for (size_t i = sizeof(HIDDEN); i < n; i++) {
		if (at[i] != '/')
			continue;
		at[i] = 0;
		if (mkdir(at, FOLDER_MODE) && errno != EEXIST)
			return -errno;
		at[i] = '/';
	}
	return 0;
}

int confine_folder_of(const char *path, char folder[PATH_MAX])
{
	const char *slash = strrchr(path, '/');
	int n = !slash ? snprintf(folder, PATH_MAX, ".") :
			 snprintf(folder, PATH_MAX, "%.*s", slash == path ? 1 : (int)(slash - path),
				  path);

	return n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

const char *confine_name_at(const struct confine_plan *plan, unsigned i)
{
	if (i < plan->nnames)
		return plan->name[i];
	return i - plan->nnames < plan->nreports ? plan->report[i - plan->nnames] : NULL;
}

bool confine_names_of_others(const struct confine_plan *plan)
{
	char folder[PATH_MAX];
	bool others = false;
	const char *name;
	struct stat st;

	for (unsigned i = 0; !others && (name = confine_name_at(plan, i)); i++)
		others = (!confine_folder_of(name, folder) && !stat(folder, &st) &&
			  (st.st_uid || st.st_mode & 022)) ||
			 (!stat(name, &st) && st.st_uid);
	return others;
}

/* The same, absolute. */
static int absolute_folder_of(const char *path, char folder[2 * PATH_MAX])
{
	char relative[PATH_MAX];
	int rc = confine_folder_of(path, relative);

	if (!rc && *path == '/')
		strcpy(folder, relative);
	else if (!rc)
		snprintf(folder, 2 * PATH_MAX, "%s%s%s", cwd, strcmp(relative, ".") ? "/" : "",
			 strcmp(relative, ".") ? relative : "");
	return rc;
}

static int bind_folder(const char *folder)
{
	char at[2 * PATH_MAX + sizeof(HIDDEN)];

	if (snprintf(at, sizeof(at), "%s%s", HIDDEN, folder) >= (int)sizeof(at))
		return -ENAMETOOLONG;
	return mount(folder, at, NULL, MS_BIND | MS_REC, NULL) ? -errno : 0;
}

static int by_length(const void *a, const void *b)
{
	size_t la = strlen(*(char *const *)a), lb = strlen(*(char *const *)b);

	return la < lb ? -1 : la > lb;
}

static bool is_among(const char *text, char *const *list, unsigned n)
{
	while (n)
		if (!strcmp(list[--n], text))
			return true;
	return false;
}

/* All folders first: none is made on the host. The shorter path first: it may be above the longer one. */
static int fill(const struct confine_plan *plan)
{
	char *folder[CONFINE_NAMES_MAX + CONFINE_REPORTS_MAX] = { NULL };
	unsigned all = plan->nnames + plan->nreports, n = 0;
	int rc = make_folders(cwd);

	for (unsigned i = 0; !rc && i < all; i++) {
		folder[n] = malloc(2 * PATH_MAX);
		rc = folder[n] ? absolute_folder_of(confine_name_at(plan, i), folder[n]) : -ENOMEM;
		/* One that is not there is told of by what opens the file. */
		if (!rc && access(folder[n], F_OK)) {
			free(folder[n]);
			continue;
		}
		if (!rc)
			rc = make_folders(folder[n]);
		n++;
	}
	if (!rc)
		qsort(folder, n, sizeof(folder[0]), by_length);
	for (unsigned i = 0; !rc && i < n; i++)
		if (!is_among(folder[i], folder, i))
			rc = bind_folder(folder[i]);
	for (unsigned i = 0; i < n; i++)
		free(folder[i]);
	return rc;
}

static int mount_root(const struct confine_plan *plan)
{
	int rc;

	if (mount("confined", HIDDEN, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755"))
		return -errno;
	rc = fill(plan);
	if (!rc && mount(NULL, HIDDEN, NULL,
			 MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
		rc = -errno;
	if (!rc)
		root_fd = open(HIDDEN, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (!rc && root_fd < 0)
		rc = -errno;
	if (rc)
		umount2(HIDDEN, MNT_DETACH);
	return rc;
}

static bool has_relative_name(const struct confine_plan *plan)
{
	const char *name = "/";

	for (unsigned i = 0; name && *name == '/'; i++)
		name = confine_name_at(plan, i);
	return name;
}

int confine_prepare_root(const struct confine_plan *plan)
{
	if (has_relative_name(plan) && !getcwd(cwd, sizeof(cwd)))
		return -errno;
	/* The host sees none of the mounts that follow. Its own ones go on reaching us, and its unmounts. */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL))
		return -errno;
	return mount_root(plan);
}

int confine_enter_root(void)
{
	int rc;

	if (root_fd < 0)
		return 0;
	rc = fchdir(root_fd) || chroot(".") || chdir(cwd) ? -errno : 0;
	close(root_fd);
	root_fd = -1;
	return rc;
}
