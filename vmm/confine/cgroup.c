/*
 * cgroup: the group of --cgroup. See jail_impl.h, cgroups(7), Documentation/admin-guide/cgroup-v2.rst of Linux.
 *
 * Theory of operation. The folder of the group is found, or made with those above it, from the root of the file system
 * down. A group that is made hands the controllers that the limits need to those below it; one that was there is left as it
 * is, since it may be another program's, and an error tells the command. The process enters the group while it has one
 * thread, so all threads and helpers are there, too.
 *
 * A group can be removed only when its last process has ended, so the process cannot do it; it has no right to do it any
 * more, either. A child waits outside the group until the process has ended: it reads a pipe, whose other end the kernel
 * closes then. It has nothing else open, hears no signal, and of the capabilities
 * has the one for files. Another VM may have come into a group that was made, or into one below it: then the child waits
 * for that VM, too, because the child of the other one removes only what its VM has made.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "vmm/confine/confine_impl.h"
#include "vmm/confine/jail_impl.h"
#include "vmm/core/helper.h"

#define MADE_MAX 16u
/* A helper may end a moment after the VM, and the child of another VM remove its group a moment after that one. */
#define REMOVE_STEP_US 5000u
#define REMOVE_TRIES 400u
#define WALKS 10

/* Where systemd and others mount it: alone, or beside version 1. */
static const char *const mounts[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };

struct group {
	char path[PATH_MAX]; /* absolute */
	int dir;	     /* -1: not yet there */
	/* Those that were made, from the top down: a descriptor of the folder above, and the name there. */
	struct {
		int above;
		char name[NAME_MAX + 1];
	} made[MADE_MAX];
	unsigned nmade;
};

static bool is_v2(int fd)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) && fs.f_type == CGROUP2_SUPER_MAGIC;
}

/* Where cgroup v2 is mounted, or NULL. */
static const char *mounted(void)
{
	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		struct statfs fs;

		if (!statfs(mounts[i], &fs) && fs.f_type == CGROUP2_SUPER_MAGIC)
			return mounts[i];
	}
	return NULL;
}

/* Reads a line of a file in folder, without its end; "" if that fails. */
static void read_line(const char *folder, const char *name, char *text, size_t len)
{
	char path[PATH_MAX + 32];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, len - 1);
	if (fd >= 0)
		close(fd);
	text[n < 0 ? 0 : n] = 0;
	text[strcspn(text, "\n")] = 0;
}

int confine_cgroup_describe(char *text, size_t len)
{
	const char *at = mounted();
	char words[200];

	if (!at)
		return -ENOENT;
	read_line(at, "cgroup.controllers", words, sizeof(words));
	snprintf(text, len, "%s: %s", at, *words ? words : "no controllers");
	return 0;
}

/* --- its folder --------------------------------------------------------------------------- */

static int not_v2(const char *path, int fd, struct err *err)
{
	struct statfs fs;

	if (!fstatfs(fd, &fs) && fs.f_type == CGROUP_SUPER_MAGIC)
		return err_set(
			err, EINVAL,
			"--cgroup %s: is a group of cgroup v1; bantam takes v2 (bantam doctor --verbose tells where)",
			path);
	return err_set(
		err, EINVAL,
		"--cgroup %s: is not in cgroup v2; give a name, such as vms/a, or a path below %s",
		path, mounted() ? mounted() : mounts[0]);
}

static int denied(const struct group *g, int code, struct err *err)
{
	if (code == EACCES || code == EPERM)
		return err_set(
			err, code,
			"--cgroup %s: permission denied; start bantam as root, or as a user in a scope that systemd "
			"delegates (Delegate=yes), and name a group in it",
			g->path);
	if (code == EROFS)
		return err_set(
			err, code,
			"--cgroup %s: cgroups are read-only here; a container needs them writable",
			g->path);
	return err_sys(err, code, "--cgroup %s", g->path);
}

/* Makes a group; if one is to come below it, it hands down the controllers. Returns its descriptor or -errno. */
static int make(struct group *g, int above, const char *name, const char *controllers,
		struct err *err)
{
	int dir, fd;

	if (!is_v2(above))
		return not_v2(g->path, above, err);
	if (g->nmade == MADE_MAX)
		return err_set(err, E2BIG, "--cgroup %s: more than %u new groups", g->path,
			       MADE_MAX);
	if (mkdirat(above, name, 0755))
		return denied(g, errno, err);
	g->made[g->nmade].above = fcntl(above, F_DUPFD_CLOEXEC, 0);
	strcpy(g->made[g->nmade++].name, name);
	dir = openat(above, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return denied(g, errno, err);
	if (!controllers || !*controllers)
		return dir;
	fd = openat(dir, "cgroup.subtree_control", O_WRONLY | O_CLOEXEC);
	/* What this cannot hand down, the limit's file misses, which tells it. */
	if (fd >= 0 && write(fd, controllers, strlen(controllers)) < 0)
		errno = 0;
	if (fd >= 0)
		close(fd);
	return dir;
}

/* Opens the group of g->path, from the root down, and makes what is missing. */
static int walk(struct group *g, const char *controllers, struct err *err)
{
	int dir = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), next;
	const char *at = g->path;

	while (dir >= 0 && *(at += strspn(at, "/"))) {
		char name[NAME_MAX + 1];
		size_t n = strcspn(at, "/");
		bool last = !at[n + strspn(at + n, "/")];

		if (n > NAME_MAX) {
			close(dir);
			return err_sys(err, ENAMETOOLONG, "--cgroup %s", g->path);
		}
		memcpy(name, at, n);
		name[n] = 0;
		at += n;
		next = openat(dir, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (next < 0 && errno == ENOENT)
			next = make(g, dir, name, last ? NULL : controllers, err);
		else if (next < 0)
			next = denied(g, errno, err);
		close(dir);
		if (next < 0)
			return next;
		dir = next;
	}
	if (dir < 0)
		return denied(g, errno, err);
	g->dir = dir;
	return is_v2(dir) ? 0 : not_v2(g->path, dir, err);
}

static int find(struct group *g, const char *text, struct err *err)
{
	const char *at = mounted();
	int n;

	/* As a component: it would lead to a group that the user has not named. */
	for (const char *c = text; (c = strstr(c, "..")); c += 2)
		if ((c == text || c[-1] == '/') && (!c[2] || c[2] == '/'))
			return err_set(err, EINVAL, "--cgroup %s: must not contain \"..\"", text);
	if (*text != '/' && !at)
		return err_set(
			err, ENOENT,
			"--cgroup %s: this host has no cgroup v2 at %s; boot it with "
			"systemd.unified_cgroup_hierarchy=1, or mount it elsewhere and give the absolute path",
			text, mounts[0]);
	n = *text == '/' ? snprintf(g->path, PATH_MAX, "%s", text) :
			   snprintf(g->path, PATH_MAX, "%s/%s", at, text);
	return n >= PATH_MAX ? err_sys(err, ENAMETOOLONG, "--cgroup") : 0;
}

/* --- its end ------------------------------------------------------------------------------- */

/* Waits until no process is in the group or below it. The kernel reports each change of cgroup.events. */
static void wait_empty(int above, const char *name)
{
	char path[NAME_MAX + 32], text[128];
	struct pollfd events = { .events = POLLPRI };
	ssize_t n;

	snprintf(path, sizeof(path), "%s/cgroup.events", name);
	events.fd = openat(above, path, O_RDONLY | O_CLOEXEC);
	while (events.fd >= 0 && (n = pread(events.fd, text, sizeof(text) - 1, 0)) > 0) {
		text[n] = 0;
		if (!strstr(text, "populated 1") || (poll(&events, 1, -1) < 0 && errno != EINTR))
			break;
	}
	if (events.fd >= 0)
		close(events.fd);
}

/* waits: for other VMs that have come into a group. */
static void remove_made(struct group *g, bool waits)
{
	unsigned tries = 0;

	while (g->nmade) {
		int above = g->made[g->nmade - 1].above;
		const char *name = g->made[g->nmade - 1].name;

		if (unlinkat(above, name, AT_REMOVEDIR) && errno == EBUSY &&
		    tries++ < REMOVE_TRIES) {
			if (waits)
				wait_empty(above, name);
			usleep(REMOVE_STEP_US);
			continue;
		}
		close(above);
		g->nmade--;
		tries = 0;
	}
}

static _Noreturn void keep(struct group *g, int alive)
{
	int fd[MADE_MAX + 1];
	sigset_t all;
	char byte;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	setsid();
	prctl(PR_SET_NAME, "bantam-cgroup");
	for (unsigned i = 0; i < g->nmade; i++)
		fd[i] = g->made[i].above;
	fd[g->nmade] = alive;
	helper_keep_only(fd, g->nmade + 1);
	for (int i = 0; i <= STDERR_FILENO; i++)
		close(i);
	if (chdir("/") || confine_no_dumps() || confine_no_new_privileges())
		_exit(1);
	/* The root of cgroup v2 is a folder in which not even its owner may write. */
	(void)confine_no_capabilities(true);
	while (read(alive, &byte, 1) < 0 && errno == EINTR)
		;
	remove_made(g, true);
	_exit(0);
}

/* Starts the child that removes what was made. The process keeps its end of the pipe until it ends. */
static int start_keeper(struct group *g, struct err *err)
{
	int fd[2];
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC))
		return err_sys(err, errno, "--cgroup %s", g->path);
	pid = fork();
	if (!pid) {
		close(fd[1]);
		keep(g, fd[0]);
	}
	close(fd[0]);
	if (pid < 0) {
		close(fd[1]);
		return err_sys(err, errno, "--cgroup %s", g->path);
	}
	for (unsigned i = 0; i < g->nmade; i++)
		close(g->made[i].above);
	g->nmade = 0;
	return 0;
}

/* --- the way in ---------------------------------------------------------------------------- */

static bool has_word(const char *text, const char *word)
{
	size_t n = strlen(word);

	for (const char *at = text; (at = strstr(at, word)); at += n)
		if ((at == text || at[-1] == ' ') && (!at[n] || at[n] == ' '))
			return true;
	return false;
}

/* Why the group lacks the controller, and the command that changes it: in the first group from the top that keeps it. */
static int no_controller(const struct group *g, const char *controller, struct err *err)
{
	const char *root = mounted();
	char above[PATH_MAX], words[200];
	size_t n = root ? strlen(root) : 0;

	if (!n || strncmp(g->path, root, n) || (g->path[n] && g->path[n] != '/'))
		return err_set(err, ENOTSUP, "--limit: the group %s has no controller \"%s\"",
			       g->path, controller);
	read_line(root, "cgroup.controllers", words, sizeof(words));
	if (!has_word(words, controller))
		return err_set(
			err, ENOTSUP,
			"--limit: cgroup v2 has no controller \"%s\" on this host; cgroup v1 may have it: boot "
			"with systemd.unified_cgroup_hierarchy=1 or cgroup_no_v1=all",
			controller);
	for (; g->path[n]; n += strcspn(g->path + n, "/")) {
		snprintf(above, sizeof(above), "%.*s", (int)n, g->path);
		read_line(above, "cgroup.subtree_control", words, sizeof(words));
		if (!has_word(words, controller))
			return err_set(err, ENOTSUP,
				       "--limit: %s does not hand \"%s\" down; as root: echo +%s > "
				       "%s/cgroup.subtree_control",
				       above, controller, controller, above);
		n += strspn(g->path + n, "/");
	}
	return err_set(err, ENOTSUP,
		       "--limit: %s takes no limits; name a group below it with --cgroup", g->path);
}

static int enter(const struct group *g, struct err *err)
{
	int fd = openat(g->dir, "cgroup.procs", O_WRONLY | O_CLOEXEC), rc = 0;

	if (fd < 0 || write(fd, "0", 1) < 0)
		rc = errno;
	if (fd >= 0)
		close(fd);
	if (rc == EBUSY)
		return err_set(
			err, rc,
			"--cgroup %s: it hands controllers down, so no process may be in it; name "
			"a group below it",
			g->path);
	return rc ? denied(g, rc, err) : 0;
}

int confine_cgroup_enter(const struct confine_jail *jail, const struct keyvals *limits,
			 struct err *err)
{
	struct group g = { .dir = -1 };
	const char *missing;
	char controllers[40];
	int rc;

	confine_limits_controllers(limits, controllers, sizeof(controllers));
	rc = find(&g, jail->cgroup, err);
	if (!rc)
		rc = walk(&g, controllers, err);
	/* The end of another VM may have removed a group above meanwhile. */
	for (unsigned i = 0; i < WALKS && (rc == -ENOENT || rc == -ENODEV); i++) {
		remove_made(&g, false);
		rc = walk(&g, controllers, err);
	}
	if (g.nmade && (rc || start_keeper(&g, err))) {
		remove_made(&g, false);
		rc = rc ? rc : -EAGAIN;
	}
	if (!rc)
		rc = confine_limits_write(limits, g.dir, jail, &missing, err);
	if (rc == -ENODEV)
		rc = no_controller(&g, missing, err);
	if (!rc)
		rc = enter(&g, err);
	if (g.dir >= 0)
		close(g.dir);
	return rc;
}
