/* confine: see confine.h. */
#include "tools/bantam-net-user/confine.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "tools/bantam-net-user/calls.h"
#include "tools/bantam-net-user/memory.h"
#include "tools/giveup/giveup.h"
#include "vmm/core/helper.h"

/* Memory of a TCP connection: two buffers of 128 KiB, rounded up to segments of nearly 64 KiB, and
 * the first segment, which slirp keeps until the host answers. */
#define FD_BYTES (512u << 10)
#define OTHER_BYTES (320u << 20) /* program, queue, incomplete packets, memory.c's reserve */

/* Sets the soft limit, never above the hard limit. */
static void limit(__rlimit_resource_t what, rlim_t at_most)
{
	struct rlimit r;

	if (getrlimit(what, &r))
		return;
	r.rlim_cur = r.rlim_max < at_most ? r.rlim_max : at_most;
	setrlimit(what, &r);
}

void confine_fds(void)
{
	limit(RLIMIT_NOFILE, CONFINE_FDS_MAX);
}

/*
 * The VM's own user, or nobody. The real user stays root: a monitor that is root without CAP_KILL can still kill us, and so
 * can one that has become the VM's user. No system call that remains allowed makes root effective again.
 */
bool confine_user(void)
{
	const uid_t users[] = { helper_user(getppid()), HELPER_NOBODY };

	giveup_bounding();
	if (setgroups(0, NULL))
		return false;
	for (unsigned i = 0; i < 2; i++)
		if (!setresgid(users[i], users[i], users[i]) &&
		    !setresuid((uid_t)-1, users[i], users[i]))
			return true;
	return false;
}

int confine(void)
{
	struct rlimit fds = { CONFINE_FDS_MAX, CONFINE_FDS_MAX };
	int rc;

	if (!geteuid())
		(void)confine_user(); /* a root that may not change its user keeps its own, without capabilities */
	(void)getrlimit(RLIMIT_NOFILE, &fds);
#ifndef __SANITIZE_ADDRESS__ /* ASan maps more than that */
	limit(RLIMIT_DATA, fds.rlim_cur * FD_BYTES + OTHER_BYTES);
	memory_begin();
#endif
	/* A change of user resets both the death signal and the dumpable flag. */
	rc = prctl(PR_SET_PDEATHSIG, SIGKILL) ? -errno : giveup_privileges(0);
	if (!rc)
		rc = giveup_files(NULL, 0);
	return rc ? rc : calls_confine();
}
