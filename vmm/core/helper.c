/* helper: see helper.h. */
#include "vmm/core/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/core/thread.h"

#define REAP_STEP_MS 5u
#define LINGER_STEP_MS 5u
#define LINGER_TRIES 20u
#define OLD_KERNEL_FDS 1024u
#define LINKS_MAX 40u
#define OVERFLOW_UID 65534u

static int exe_owner(uid_t *owner)
{
	struct stat st;

	if (stat("/proc/self/exe", &st))
		return -errno;
	*owner = st.st_uid;
	return 0;
}

/*
 * In a user namespace all owners that it does not know look like this one. They cannot be told from
 * root, so the mode decides alone.
 */
static bool unknown_owner(uid_t uid)
{
	unsigned long first, outside, n;
	bool known = uid != OVERFLOW_UID;
	FILE *map = known ? NULL : fopen("/proc/self/uid_map", "re");

	while (map && fscanf(map, "%lu %lu %lu", &first, &outside, &n) == 3)
		known |= uid >= first && uid - first < n;
	if (map)
		fclose(map);
	else
		known = true;
	return !known;
}

static bool owner_trusted(uid_t uid)
{
	uid_t ours = 0;

	return !uid || uid == geteuid() || (!exe_owner(&ours) && uid == ours) || unknown_owner(uid);
}

/* May only the owner write? A group of root's or of the user's alone does not count. */
static bool group_trusted(const char *path, const struct stat *st)
{
	static const char local[] = "/usr/local";

	if (!(st->st_mode & S_IWGRP) || !st->st_gid)
		return true;
	if (st->st_gid == getegid() && getegid() == geteuid() && st->st_uid == geteuid())
		return true;
	/* Debian gives these to the group staff, who are administrators (policy, 9.1.2). */
	return !st->st_uid && !strncmp(path, local, strlen(local)) &&
	       (!path[strlen(local)] || path[strlen(local)] == '/');
}

/* Could another user exchange path, a helper called name or what leads to it? 0 or -EACCES. */
static int check_one(const char *name, const char *path, struct err *err)
{
	struct stat st;

	if (lstat(path, &st))
		return err_sys(err, errno, "%s", path);
	if (!owner_trusted(st.st_uid))
		return err_set(err, EACCES,
			       "%s is not started: %s belongs to user %u, who could exchange it; "
			       "install bantam where only root may write (make install)",
			       name, path, (unsigned)st.st_uid);
	if (S_ISLNK(st.st_mode) || (S_ISDIR(st.st_mode) && st.st_mode & S_ISVTX))
		return 0;
	if (st.st_mode & S_IWOTH || !group_trusted(path, &st))
		return err_set(err, EACCES,
			       "%s is not started: others may write to %s and could exchange it; "
			       "chmod go-w %s",
			       name, path, path);
	return 0;
}

/* Checks path, which has no link and no "..", and each folder above. It is cut meanwhile. */
static int check_up(const char *name, char *path, struct err *err)
{
	char *slash;
	int rc = 0;

	do {
		rc = check_one(name, *path ? path : "/", err);
		slash = strrchr(path, '/');
		if (slash)
			*slash = 0;
	} while (!rc && slash);
	return rc;
}

/*
 * Checks the program at path. Its folder's real name is checked, then what the file is; if that is
 * a link, so is all it leads through. *real: what to start.
 */
static int check(const char *name, const char *path, char *real, size_t len, struct err *err)
{
	char at[PATH_MAX], dir[PATH_MAX], target[PATH_MAX];

	snprintf(at, sizeof(at), "%s", path);
	for (unsigned links = 0; links < LINKS_MAX; links++) {
		char *slash = strrchr(at, '/');
		ssize_t n;
		int rc;

		*slash = 0;
		if (!realpath(*at ? at : "/", dir))
			return err_sys(err, errno, "%s", path);
		if (snprintf(real, len, "%s/%s", !strcmp(dir, "/") ? "" : dir, slash + 1) >=
		    (int)(len < sizeof(at) ? len : sizeof(at)))
			return err_sys(err, ENAMETOOLONG, "%s", path);
		n = readlink(real, target, sizeof(target) - 1);
		rc = check_up(name, strcpy(at, real), err);
		if (rc || n < 0)
			return rc;
		target[n] = 0;
		if (snprintf(at, sizeof(at), "%s%s%s", *target == '/' ? "" : dir,
			     *target == '/' ? "" : "/", target) >= (int)sizeof(at))
			return err_sys(err, ENAMETOOLONG, "%s", path);
	}
	return err_sys(err, ELOOP, "%s", path);
}

/* Takes the program if it is there. *rc: what helper_find returns if there is no other. */
static bool take(const char *name, const char *dir, const char *sub, char *path, size_t len,
		 int *rc, struct err *err)
{
	char at[PATH_MAX];
	struct err why;
	int fault;

	if (snprintf(at, sizeof(at), "%s%s%s", dir, sub, name) >= (int)sizeof(at) ||
	    access(at, X_OK))
		return false;
	fault = check(name, at, path, len, &why);
	if (fault && *rc == -ENOENT)
		*rc = err_set(err, -fault, "%s", why.text);
	return !fault;
}

static struct {
	const char *name;
	char path[PATH_MAX + 64];
} known[HELPERS_KNOWN];

void helper_find_now(const char *name)
{
	unsigned i = 0;
	struct err err;

	while (i < HELPERS_KNOWN && known[i].name)
		if (!strcmp(known[i++].name, name))
			return;
	BUG_ON(i == HELPERS_KNOWN);
	if (!helper_find(name, known[i].path, sizeof(known[i].path), &err))
		known[i].name = name;
}

uid_t helper_user(pid_t vm)
{
	/* PID_MAX_LIMIT of Linux is 1 << 22. */
	return 0x70000000u | ((uid_t)vm & 0x3fffffu);
}

int helper_find(const char *name, char *path, size_t len, struct err *err)
{
	/* SAN=… builds are one folder deeper than the helpers. */
	static const char *const subs[] = { "/", "/../", "/../libexec/bantam/" };
	const char *set = getenv("BANTAM_LIBEXEC");
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;
	int rc = err_set(err, ENOENT,
			 "%s is missing; it belongs next to bantam or in ../libexec/bantam", name);

	for (unsigned i = 0; i < HELPERS_KNOWN; i++)
		if (known[i].name && !strcmp(known[i].name, name))
			return snprintf(path, len, "%s", known[i].path) < (int)len ?
				       0 :
				       err_sys(err, ENAMETOOLONG, "%s", known[i].path);
	if (set && *set)
		return take(name, set, "/", path, len, &rc, err) ? 0 : rc;
	self[n < 0 ? 0 : n] = 0;
	slash = strrchr(self, '/');
	if (!slash)
		return rc;
	*slash = 0;
	for (size_t i = 0; i < sizeof(subs) / sizeof(subs[0]); i++)
		if (take(name, self, subs[i], path, len, &rc, err))
			return 0;
	return rc;
}

int helper_spawn(const char *path, char *const argv[], const int *keep, unsigned nkeep,
		 struct helper *helper)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int rc;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	/* adddup2 with equal numbers clears close-on-exec, so the descriptor stays open. */
	for (unsigned i = 0; i < nkeep; i++)
		posix_spawn_file_actions_adddup2(&actions, keep[i], keep[i]);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&actions, STDIN_FILENO, STDOUT_FILENO);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
						POSIX_SPAWN_SETSID);
	rc = posix_spawn(&helper->pid, path, &actions, &attr, argv, (char *[]){ NULL });
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	if (rc)
		*helper = (struct helper){ 0 };
	else
		helper->pidfd = (int)syscall(SYS_pidfd_open, helper->pid, 0);
	return -rc;
}

bool helper_lingers(unsigned *tries)
{
	if (*tries == LINGER_TRIES)
		return false;
	++*tries;
	usleep(LINGER_STEP_MS * 1000);
	return true;
}

void helper_keep_only(const int *keep, unsigned nkeep)
{
	unsigned from = STDERR_FILENO + 1;

	while (from <= INT_MAX) {
		unsigned next = (unsigned)INT_MAX + 1;

		for (unsigned i = 0; i < nkeep; i++)
			if (keep[i] >= (int)from && (unsigned)keep[i] < next)
				next = (unsigned)keep[i];
		/*
		 * Linux before 5.9 has no close_range; few processes have a higher descriptor than
		 * this.
		 */
		if (next > from && close_range(from, next - 1, 0))
			for (unsigned fd = from; fd < next && fd < OLD_KERNEL_FDS; fd++)
				close((int)fd);
		from = next + 1;
	}
}

/* With a pidfd it returns as soon as the process ends; without, it looks every step. */
static bool ended_within(const struct helper *h, unsigned ms, int *status)
{
	struct pollfd p = { h->pidfd, POLLIN, 0 };
	bool ended;

	if (p.fd >= 0) {
		poll(&p, 1, (int)ms);
		ms = 0;
	}
	while (!(ended = waitpid(h->pid, status, WNOHANG)) && ms) {
		usleep(REAP_STEP_MS * 1000);
		ms -= ms < REAP_STEP_MS ? ms : REAP_STEP_MS;
	}
	return ended;
}

static void kill_now(const struct helper *h)
{
	long rc = -1;

	if (h->pidfd >= 0)
		rc = syscall(SYS_pidfd_send_signal, h->pidfd, SIGKILL, NULL, 0);
	else if (!thread_confines())
		rc = kill(h->pid, SIGKILL);
	if (!rc)
		waitpid(h->pid, NULL, 0);
}

int helper_reap(struct helper *helper, unsigned ms)
{
	int status = -1;

	if (helper->pid <= 0)
		return -1;
	if (!ended_within(helper, ms, &status)) {
		kill_now(helper);
		status = -1;
	}
	if (helper->pidfd >= 0)
		close(helper->pidfd);
	*helper = (struct helper){ 0 };
	return status;
}
