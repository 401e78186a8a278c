/*
 * huge_file: any user can make one; a refused one leaves no trace. test_mem checks that mem really
 * gets huge pages.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/core/huge_file.h"

#define NOBODY 1000
#define ENOUGH_FDS 8

TestSuite(huge_file, .timeout = 60);

/* The state of the process that huge_file_create must not change. */
struct trace {
	char fds[1024], user[64], mnt[64];
	sigset_t mask;
};

/* With dumpable 1, as after an exec; else root owns /proc/self. */
static bool become_ordinary(int dumpable)
{
	return !setresgid(NOBODY, NOBODY, NOBODY) && !setresuid(NOBODY, NOBODY, NOBODY) &&
	       !prctl(PR_SET_DUMPABLE, dumpable);
}

static volatile sig_atomic_t nsignals;

static void on_child(int sig)
{
	nsignals++;
}

static struct trace look(void)
{
	struct trace t = { 0 };
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;

	while (dir && (e = readdir(dir)))
		if (atoi(e->d_name) != dirfd(dir) && atoi(e->d_name) < (int)sizeof(t.fds))
			t.fds[atoi(e->d_name)] |= e->d_name[0] != '.';
	if (dir)
		closedir(dir);
	if (readlink("/proc/self/ns/user", t.user, sizeof(t.user) - 1) < 0 ||
	    readlink("/proc/self/ns/mnt", t.mnt, sizeof(t.mnt) - 1) < 0)
		abort();
	sigprocmask(SIG_SETMASK, NULL, &t.mask);
	return t;
}

static bool same(const struct trace *before)
{
	struct trace now = look();

	return !memcmp(now.fds, before->fds, sizeof(now.fds)) && !strcmp(now.user, before->user) &&
	       !strcmp(now.mnt, before->mnt) &&
	       !memcmp(&now.mask, &before->mask, sizeof(now.mask)) &&
	       waitpid(-1, NULL, WNOHANG | __WALL) == -1 && errno == ECHILD && !nsignals;
}

static bool good(int fd)
{
	struct statfs fs;
	struct stat st;

	return !fstat(fd, &st) && S_ISREG(st.st_mode) && !st.st_size && !st.st_nlink &&
	       st.st_uid == geteuid() && st.st_gid == getegid() &&
	       fcntl(fd, F_GETFD) == FD_CLOEXEC && !fstatfs(fd, &fs) && fs.f_type == TMPFS_MAGIC &&
	       !fs.f_blocks && !ftruncate(fd, 1ll << 40) &&
	       pwrite(fd, "x", 1, (1ll << 40) - 1) == 1;
}

/* Exit statuses of the processes that the tests fork; from ENO on: ENO plus an errno. */
enum { FINE, NO_SETUP, LEFT_TRACE, BAD_FILE, ENO };

static int made(void)
{
	struct trace before;
	int fd;

	signal(SIGCHLD, on_child);
	before = look();
	fd = huge_file_create();
	if (fd < 0)
		return same(&before) ? ENO - fd : LEFT_TRACE;
	if (!good(fd))
		return BAD_FILE;
	close(fd);
	return same(&before) ? FINE : LEFT_TRACE;
}

static int status_of(pid_t pid)
{
	int status;

	cr_assert_gt(pid, 0);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status), "status 0x%x", status);
	return WEXITSTATUS(status);
}

static bool put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	close(fd);
	return ok;
}

static bool become_root_of_a_namespace(int more)
{
	char uids[32], gids[32];

	snprintf(uids, sizeof(uids), "0 %u 1", geteuid());
	snprintf(gids, sizeof(gids), "0 %u 1", getegid());
	return !unshare(CLONE_NEWUSER | more) && put("/proc/self/uid_map", uids) &&
	       put("/proc/self/setgroups", "deny") && put("/proc/self/gid_map", gids);
}

/* Checks, in a simpler way than huge_file does, whether this host allows namespaces. */
static void need_namespaces(void)
{
	pid_t pid = fork();

	if (!pid)
		_exit(!become_root_of_a_namespace(CLONE_NEWNS) ||
		      mount("none", "/", "tmpfs", 0, NULL));
	if (status_of(pid))
		cr_skip_test("no tmpfs in a user namespace");
}

Test(huge_file, as_who_we_are)
{
	need_namespaces();
	cr_expect_eq(made(), FINE);
	cr_expect_eq(made(), FINE);
}

/* Runs made as an ordinary user, dumpable or not. */
static int made_by_another(int dumpable)
{
	pid_t pid;

	need_namespaces();
	if (geteuid())
		cr_skip_test("not root: cannot become another");
	pid = fork();
	if (!pid)
		_exit(become_ordinary(dumpable) ? made() : NO_SETUP);
	return status_of(pid);
}

Test(huge_file, as_an_ordinary_user)
{
	cr_expect_eq(made_by_another(1), FINE);
}

/* A process that changed its user without an exec has no dumps, and so could not open its own uid_map. */
Test(huge_file, no_access_to_proc)
{
	cr_expect_eq(made_by_another(0), FINE);
}

/* What was mounted before serves one file, when no mount and no namespace is permitted any more. */
static int made_of_the_mounted(void)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	int fd;

	huge_file_mount_now();
	huge_file_mount_now();
	if (!ctx || seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(fsopen), 0) ||
	    seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 0) || seccomp_load(ctx))
		return NO_SETUP;
	fd = huge_file_create();
	if (fd < 0)
		return ENO - fd;
	return good(fd) && huge_file_create() == -EPERM ? FINE : BAD_FILE;
}

Test(huge_file, mounted_before)
{
	pid_t pid;

	if (geteuid())
		cr_skip_test("not root: mounts nothing");
	pid = fork();
	if (!pid)
		_exit(made_of_the_mounted());
	cr_expect_eq(status_of(pid), FINE);
}

Test(huge_file, no_user_namespaces)
{
	pid_t pid;

	need_namespaces();
	pid = fork();
	if (!pid) {
		if (!become_root_of_a_namespace(0) ||
		    !put("/proc/sys/user/max_user_namespaces", "0"))
			_exit(NO_SETUP);
		_exit(made());
	}
	cr_expect_eq(status_of(pid), ENO + ENOSPC);
}

/* The host's policy for shared memory: mount our own file over it. */
Test(huge_file, denied)
{
	static const char policy[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
	static const struct {
		const char *text;
		int status;
	} table[] = {
		{ "always within_size advise never [deny] force\n", ENO + ENOTSUP },
		{ "always within_size advise [never] deny force\n", FINE },
		{ "", FINE },
	};

	need_namespaces();
	if (access(policy, R_OK))
		cr_skip_test("no huge pages in this kernel, or no /sys");
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char path[] = "/tmp/bantam-policy-XXXXXX";
		int fd = mkstemp(path);
		pid_t pid;

		cr_assert(fd >= 0 && put(path, table[i].text));
		pid = fork();
		if (!pid) {
			if (!become_root_of_a_namespace(CLONE_NEWNS) ||
			    mount(path, policy, NULL, MS_BIND, NULL))
				_exit(NO_SETUP);
			_exit(made());
		}
		cr_expect_eq(status_of(pid), table[i].status, "%s", table[i].text);
		close(fd);
		unlink(path);
	}
}

/* As with a container's filter or an old kernel, each step fails alone. */
Test(huge_file, each_call_refused)
{
	static const struct {
		const char *what;
		int call, code;
		struct scmp_arg_cmp cmp;
	} table[] = {
		{ "clone", SCMP_SYS(clone), EPERM,
		  SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_NEWUSER, CLONE_NEWUSER) },
		/* The sanitizers need standard error. */
		{ "maps", SCMP_SYS(write), EPERM, SCMP_A0(SCMP_CMP_GT, STDERR_FILENO) },
		{ "fsopen", SCMP_SYS(fsopen), ENOSYS, SCMP_A0(SCMP_CMP_NE, 0) },
		{ "size", SCMP_SYS(fsconfig), ENOMEM, SCMP_A1(SCMP_CMP_EQ, FSCONFIG_SET_STRING) },
		{ "create", SCMP_SYS(fsconfig), EBUSY, SCMP_A1(SCMP_CMP_EQ, FSCONFIG_CMD_CREATE) },
		{ "fsmount", SCMP_SYS(fsmount), EPERM, SCMP_A2(SCMP_CMP_EQ, 0) },
		{ "file", SCMP_SYS(openat), EOVERFLOW,
		  SCMP_A2(SCMP_CMP_MASKED_EQ, __O_TMPFILE, __O_TMPFILE) },
	};

	need_namespaces();
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		pid_t pid = fork();

		if (!pid) {
			scmp_filter_ctx ctx;

			/* Root skips the first two steps. */
			if (!geteuid() && !become_ordinary(1))
				_exit(NO_SETUP);
			ctx = seccomp_init(SCMP_ACT_ALLOW);
			if (!ctx ||
			    seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO((uint16_t)table[i].code),
						   table[i].call, 1, &table[i].cmp) ||
			    seccomp_load(ctx))
				_exit(NO_SETUP);
			_exit(made());
		}
		cr_expect_eq(status_of(pid), ENO + table[i].code, "%s", table[i].what);
	}
}

/* Each step in turn fails for lack of a descriptor, until there are enough. */
Test(huge_file, few_descriptors)
{
	int last = -1;

	need_namespaces();
	for (rlim_t nfree = 0; nfree < ENOUGH_FDS && last != FINE; nfree++) {
		pid_t pid = fork();

		if (!pid) {
			struct trace before = look();
			int lowest = dup(0), fd;
			struct rlimit limit, few;

			close(lowest);
			if (lowest < 0 || getrlimit(RLIMIT_NOFILE, &limit))
				_exit(NO_SETUP);
			few = (struct rlimit){ (rlim_t)lowest + nfree, limit.rlim_max };
			if (setrlimit(RLIMIT_NOFILE, &few))
				_exit(NO_SETUP);
			fd = huge_file_create();
			if (fd >= 0)
				close(fd);
			setrlimit(RLIMIT_NOFILE, &limit);
			if (!same(&before))
				_exit(LEFT_TRACE);
			_exit(fd < 0 ? ENO - fd : FINE);
		}
		last = status_of(pid);
		cr_expect(last == FINE || last == ENO + EMFILE, "%llu free: %d",
			  (unsigned long long)nfree, last);
		cr_expect(last != FINE || nfree >= 2);
	}
	cr_expect_eq(last, FINE);
}
