/* confine: see confine.h. */
#include "tools/bantam-net-user/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tools/bantam-net-user/memory.h"

/* Memory of a TCP connection: two buffers of 128 KiB, rounded up to segments of nearly 64 KiB, and
 * the first segment, which slirp keeps until the host answers. */
#define FD_BYTES (512u << 10)
#define OTHER_BYTES (320u << 20) /* program, queue, incomplete packets, memory.c's reserve */
#define NOBODY 65534u		 /* the same id on every Linux */

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
 * Changes the effective user and all groups to nobody, so this process opens files as nobody. The
 * real and saved user stay root, so that a monitor without CAP_KILL can still kill us; no system
 * call that remains allowed makes them effective again. Returns false if this is not possible
 * here, or if nobody cannot read resolv.conf.
 */
static bool become_nobody(void)
{
	struct stat st;

	if (!stat("/etc/resolv.conf", &st) && !(st.st_mode & S_IROTH))
		return false;
	return !setgroups(0, NULL) && !setresgid(NOBODY, NOBODY, NOBODY) && !seteuid(NOBODY);
}

static void allow_read(int ruleset, const char *path)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE };

	rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (rule.parent_fd < 0)
		return;
	syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	close(rule.parent_fd);
}

/*
 * Allows only the resolver's configuration. On kernels without Landlock only the filter confines.
 * slirp opens resolv.conf again after a change, and the program that changes it may put a new file
 * in its place (or in place of the file that a link names). So the rule allows the whole directory.
 * Exception: as root it does not allow /etc, where root could read secrets.
 */
static void confine_files(bool root)
{
	struct landlock_ruleset_attr attr = { .handled_access_fs = (1ull << 13) - 1 };
	int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	char real[PATH_MAX], *dir;

	if (ruleset < 0)
		return;
	allow_read(ruleset, root ? "/etc/resolv.conf" : "/etc");
	if (realpath("/etc/resolv.conf", real)) {
		allow_read(ruleset, real);
		dir = dirname(real);
		if (!strncmp(dir, "/run/", 5))
			allow_read(ruleset, dir);
	}
	syscall(SYS_landlock_restrict_self, ruleset, 0);
	close(ruleset);
}

static const int allowed[] = {
	SCMP_SYS(read),
	SCMP_SYS(readv),
	SCMP_SYS(write),
	SCMP_SYS(writev),
	SCMP_SYS(recvfrom),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(sendmsg),
	SCMP_SYS(bind),
	SCMP_SYS(listen),
	SCMP_SYS(accept),
	SCMP_SYS(accept4),
	SCMP_SYS(connect),
	SCMP_SYS(shutdown),
	SCMP_SYS(getsockname),
	SCMP_SYS(getpeername),
	SCMP_SYS(setsockopt),
	SCMP_SYS(getsockopt),
	SCMP_SYS(close),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(time),
	SCMP_SYS(brk),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(futex),
	SCMP_SYS(getrandom),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(fstat),
	SCMP_SYS(stat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(lseek),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(sched_getaffinity),
};

/* The allowed calls do no harm with any open descriptor, and create only IP sockets. */
static bool confine_calls(void)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int rc = f ? 0 : -ENOMEM;

	for (size_t i = 0; !rc && i < sizeof(allowed) / sizeof(allowed[0]); i++)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, allowed[i], 0);
	for (int family = AF_INET; !rc && family <= AF_INET6; family += AF_INET6 - AF_INET)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
				      SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)family));
	/* for abort() */
	if (!rc)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				      SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
	if (!rc)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
				      SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (!rc)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
				      SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC,
					      0));
	if (!rc)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
				      SCMP_A1(SCMP_CMP_LE, F_SETFL));
	if (!rc)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				      SCMP_A1(SCMP_CMP_EQ, FIONREAD));
	if (!rc)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				      SCMP_A1(SCMP_CMP_EQ, FIONBIO));
	if (!rc)
		rc = seccomp_load(f);
	if (f)
		seccomp_release(f);
	return !rc;
}

bool confine(void)
{
	struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };
	bool root = !geteuid() && !become_nobody();
	struct rlimit fds = { CONFINE_FDS_MAX, CONFINE_FDS_MAX };

	limit(RLIMIT_CORE, 0);
	(void)getrlimit(RLIMIT_NOFILE, &fds);
#ifndef __SANITIZE_ADDRESS__ /* ASan maps more than that */
	limit(RLIMIT_DATA, fds.rlim_cur * FD_BYTES + OTHER_BYTES);
	memory_begin();
#endif
	/* A change of user resets both the death signal and the dumpable flag. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || prctl(PR_SET_DUMPABLE, 0) ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_capset, &hdr, none))
		return false;
	confine_files(root);
	return confine_calls();
}
