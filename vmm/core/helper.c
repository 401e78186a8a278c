/* helper: see helper.h. */
#include "vmm/core/helper.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define REAP_STEP_MS 5u
#define OLD_KERNEL_FDS 1024u

static bool runs(char *path, size_t len, const char *dir, const char *sub, const char *name)
{
	return snprintf(path, len, "%s%s%s", dir, sub, name) < (int)len && !access(path, X_OK);
}

bool helper_find(const char *name, char *path, size_t len)
{
	/* SAN=… builds are one folder deeper than the helpers. */
	static const char *const subs[] = { "/", "/../", "/../libexec/bantam/" };
	const char *set = getenv("BANTAM_LIBEXEC");
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (set && *set)
		return runs(path, len, set, "/", name);
	self[n < 0 ? 0 : n] = 0;
	slash = strrchr(self, '/');
	if (!slash)
		return false;
	*slash = 0;
	for (size_t i = 0; i < sizeof(subs) / sizeof(subs[0]); i++)
		if (runs(path, len, self, subs[i], name))
			return true;
	return false;
}

int helper_spawn(const char *path, char *const argv[], const int *keep, unsigned nkeep, pid_t *pid)
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
	rc = posix_spawn(pid, path, &actions, &attr, argv, (char *[]){ NULL });
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	if (rc)
		*pid = 0;
	return -rc;
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

/* With pidfds (Linux 5.3) it returns as soon as the process ends; without, it looks every step. */
static bool ended_within(pid_t pid, unsigned ms, int *status)
{
	struct pollfd p = { (int)syscall(SYS_pidfd_open, pid, 0), POLLIN, 0 };
	bool ended;

	if (p.fd >= 0) {
		poll(&p, 1, (int)ms);
		close(p.fd);
		ms = 0;
	}
	while (!(ended = waitpid(pid, status, WNOHANG)) && ms) {
		usleep(REAP_STEP_MS * 1000);
		ms -= ms < REAP_STEP_MS ? ms : REAP_STEP_MS;
	}
	return ended;
}

int helper_reap(pid_t *pid, unsigned ms)
{
	int status = -1;

	if (*pid <= 0)
		return -1;
	if (!ended_within(*pid, ms, &status)) {
		kill(*pid, SIGKILL);
		waitpid(*pid, NULL, 0);
		status = -1;
	}
	*pid = 0;
	return status;
}
