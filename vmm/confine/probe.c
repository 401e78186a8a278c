/* probe: which steps this host refuses; see confine.h. A child takes all of them, as a VM does. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/confine/confine_impl.h"

static _Noreturn void probe(int out)
{
	struct confine_plan plan = { .mode = CONFINE_ON, .fd = { out }, .nfds = 1 };
	int refused[CONFINE_STEPS] = { 0 };
	struct err err = { "" };
	int rc = confine_begin(&plan, &err);

	if (!rc)
		rc = confine_finish(&err);
	confine_refused(refused);
	if (rc)
		refused[CONFINE_NAMESPACES] = rc;
	_exit(write(out, refused, sizeof(refused)) != sizeof(refused));
}

int confine_probe(int refused[CONFINE_STEPS])
{
	int fd[2], status, rc;
	ssize_t n;
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (!pid)
		probe(fd[1]);
	rc = pid < 0 ? -errno : 0;
	close(fd[1]);
	n = read(fd[0], refused, CONFINE_STEPS * sizeof(*refused));
	close(fd[0]);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!rc && n != (ssize_t)(CONFINE_STEPS * sizeof(*refused)))
		rc = -EIO;
	return rc;
}
