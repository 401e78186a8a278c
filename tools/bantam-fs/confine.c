/* confine: see fs.h. */
#include <errno.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tools/bantam-fs/fs.h"

#define MEMORY_MAX (1ull << 30)

/*
 * The filter refuses every call that is not in this list: there is no open, socket, clone or exec.
 * No call here takes a path, because Landlock does not forbid reading names, sizes and times.
 * glibc's fstat is newfstatat with an empty path, and a filter cannot see that the path is empty,
 * so newfstatat is missing. Only stdio calls it, and then uses buffers of the default size.
 */
static const int allowed[] = {
	SCMP_SYS(read),
	SCMP_SYS(readv),
	SCMP_SYS(pread64),
	SCMP_SYS(preadv),
	SCMP_SYS(write),
	SCMP_SYS(writev),
	SCMP_SYS(pwrite64),
	SCMP_SYS(lseek),
	SCMP_SYS(fstat),
	SCMP_SYS(close),
	SCMP_SYS(brk),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(futex),
	SCMP_SYS(getrandom),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(time),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(sched_yield),
};

static bool confine_calls(void)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int rc = f ? 0 : -ENOMEM;

	for (size_t i = 0; !rc && i < sizeof(allowed) / sizeof(allowed[0]); i++)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, allowed[i], 0);
	if (!rc)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
				      SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (!rc)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				      SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	/* For abort(): signals to this process only. */
	if (!rc)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				      SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
	if (!rc)
		rc = seccomp_load(f);
	if (f)
		seccomp_release(f);
	errno = -rc;
	return !rc;
}

/* Never raises a limit: only root could, and the user set it on purpose (ulimit). */
static bool limit(int what, uint64_t max)
{
	struct rlimit l;

	if (getrlimit((__rlimit_resource_t)what, &l))
		return false;
	if (l.rlim_cur < max)
		max = l.rlim_cur;
	l = (struct rlimit){ max, max };
	return !setrlimit((__rlimit_resource_t)what, &l);
}

/* Forbids all files. On kernels without Landlock the filter does, which allows no open. */
static void confine_files(void)
{
	struct landlock_ruleset_attr attr = { .handled_access_fs = (1ull << 13) - 1 };
	int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);

	if (ruleset < 0)
		return;
	syscall(SYS_landlock_restrict_self, ruleset, 0);
	close(ruleset);
}

bool confine(uint64_t file_bytes_max, unsigned cpu_s)
{
	struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };

	if (!limit(RLIMIT_CORE, 0) || !limit(RLIMIT_NPROC, 0) || !limit(RLIMIT_CPU, cpu_s) ||
	    !limit(RLIMIT_FSIZE, file_bytes_max))
		return false;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_DUMPABLE, 0) ||
	    syscall(SYS_capset, &hdr, none))
		return false;
#ifdef __SANITIZE_ADDRESS__
	/* ASan's shadow memory is larger than any limit, and its reports open files. */
	return true;
#endif
	confine_files();
	return limit(RLIMIT_AS, MEMORY_MAX) && limit(RLIMIT_NOFILE, 0) && confine_calls();
}
