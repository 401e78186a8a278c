/*
 * giveup: see giveup.h.
 *
 * Theory of operation. The order of the steps, in each program: what is inherited and not named is closed
 * (helper_keep_only), files are opened, then limits, privileges, files, and calls at last, since the steps before make
 * calls that the filter refuses.
 *
 * A call that is not in the filter ends the process: whoever has taken it over gets no second try, and a mistake of ours
 * is found by the first test that meets it. The lists name the few calls that get an error instead, because a library
 * makes them and goes on without.
 *
 * Landlock grew by versions. What the kernel does not know cannot be asked for, so the masks depend on its answer; the
 * struct of the newest version is passed to all, which older ones take as long as its end is zero.
 */
#include "tools/giveup/giveup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/confine/load.h"

/* --- calls -------------------------------------------------------------------------------- */

static const char *name;

/* Appends text, and value if it is not negative. The caller has the room. */
static char *append(char *at, const char *text, int value)
{
	char digits[12];
	unsigned n = 0;

	while (*text)
		*at++ = *text++;
	if (value < 0)
		return at;
	do
		digits[n++] = (char)('0' + value % 10);
	while (value /= 10);
	while (n)
		*at++ = digits[--n];
	return at;
}

/* The call was not made. No code of the process can come between: the filter keeps this handler in its place. */
static void on_refused(int sig, siginfo_t *info, void *context)
{
	char line[160], *at = append(line, "bantam: ", -1);

	at = append(at, name, -1);
	at = append(at, ": ended: its filter does not allow system call ", info->si_syscall);
	at = append(at, "; please report this\n", -1);
	(void)!syscall(SYS_write, STDERR_FILENO, line, at - line);
	syscall(SYS_exit_group, 128 + SIGSYS);
}

int giveup_calls(const struct giveup_filter *filter, const char *who)
{
	struct sigaction act = { .sa_sigaction = on_refused, .sa_flags = SA_SIGINFO };
	uint32_t refused = SECCOMP_RET_KILL_PROCESS;

	if (who) {
		name = who;
		sigaction(SIGSYS, &act, NULL);
	}
	/* Linux before 4.14 knows no KILL_PROCESS; the signal that TRAP sends ends a process that does not catch it. */
	if (who || syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &refused))
		refused = SECCOMP_RET_TRAP;
	return confine_load(filter->insn, filter->len, refused);
}

/* --- privileges and limits ------------------------------------------------------------------ */

int giveup_limit(__rlimit_resource_t what, uint64_t at_most)
{
	struct rlimit l;

	if (getrlimit(what, &l))
		return -errno;
	if (l.rlim_cur < at_most)
		at_most = l.rlim_cur;
	l = (struct rlimit){ at_most, at_most };
	return setrlimit(what, &l) ? -errno : 0;
}

/* The bounding set is root's to change. */
void giveup_bounding(void)
{
	for (unsigned long cap = 0; cap < 64 && !prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); cap++)
		;
}

#define CAP(n) (1ull << (n))
const uint64_t giveup_file_caps = CAP(CAP_CHOWN) | CAP(CAP_DAC_OVERRIDE) |
				  CAP(CAP_DAC_READ_SEARCH) | CAP(CAP_FOWNER) | CAP(CAP_FSETID);

/* Lowers the process's own sets to keep. */
static int keep_caps(uint64_t keep)
{
	struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct set[2] = { 0 };

	if (keep && syscall(SYS_capget, &hdr, set))
		return -errno;
	for (unsigned i = 0; i < 2; i++) {
		set[i].permitted &= (uint32_t)(keep >> 32 * i);
		set[i].effective &= set[i].permitted;
		set[i].inheritable = 0;
	}
	return syscall(SYS_capset, &hdr, set) ? -errno : 0;
}

int giveup_privileges(uint64_t keep)
{
	int rc = giveup_limit(RLIMIT_CORE, 0);

	if (rc)
		return rc;
	giveup_bounding();
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_DUMPABLE, 0))
		return -errno;
	return keep_caps(keep);
}

/* --- files ------------------------------------------------------------------------------------ */

/* Landlock's rights, which older headers do not name all. */
#define FS_V1 ((1ull << 13) - 1)
#define FS_WRITE_FILE (1ull << 1)
#define FS_READ_FILE (1ull << 2)
#define FS_READ_DIR (1ull << 3)
#define FS_REMOVE_FILE (1ull << 5)
#define FS_MAKE_REG (1ull << 8)
#define FS_REFER (1ull << 13)	 /* version 2 */
#define FS_TRUNCATE (1ull << 14) /* version 3 */
#define NET_BIND_TCP (1ull << 0) /* version 4 */

#define HELD_MAX 64u

struct ruleset {
	uint64_t fs, net;
};

static uint64_t rights(unsigned what, bool folder, uint64_t handled)
{
	uint64_t fs = 0;

	if (what & GIVEUP_READ)
		fs |= FS_READ_FILE;
	if (what & GIVEUP_WRITE)
		fs |= FS_WRITE_FILE | FS_TRUNCATE;
	if (folder && what & GIVEUP_LIST)
		fs |= FS_READ_DIR;
	if (folder && what & GIVEUP_NAME)
		fs |= FS_MAKE_REG;
	if (folder && what & GIVEUP_REMOVE)
		fs |= FS_REMOVE_FILE;
	return fs & handled;
}

/*
 * The descriptor stays open. Landlock's rule is for an inode, and 9p (a shared folder of a VM, Windows's drives in WSL)
 * makes a new one for each look-up of a file that no process has open. At most HELD_MAX, for a command with many files.
 */
static int allow(int ruleset, const struct giveup_path *path, uint64_t handled, bool hold)
{
	struct landlock_path_beneath_attr rule = { 0 };
	struct stat st;
	int fd = path->path ? open(path->path, O_PATH | O_CLOEXEC) : -1, rc = 0;

	if (fd < 0)
		return 0;
	rule.parent_fd = fd;
	if (!fstat(fd, &st))
		rule.allowed_access = rights(path->what, S_ISDIR(st.st_mode), handled);
	if (rule.allowed_access &&
	    syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0))
		rc = -errno;
	if (!hold)
		close(fd);
	return rc;
}

int giveup_files(const struct giveup_path *paths, unsigned n)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0,
			       LANDLOCK_CREATE_RULESET_VERSION);
	struct ruleset attr = { .fs = FS_V1 };
	int ruleset, rc = 0;

	if (version < 1)
		return 0;
	if (version >= 2)
		attr.fs |= FS_REFER;
	if (version >= 3)
		attr.fs |= FS_TRUNCATE;
	if (version >= 4)
		attr.net = NET_BIND_TCP;
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr,
			       attr.net ? sizeof(attr) : sizeof(attr.fs), 0);
	if (ruleset < 0)
		return -errno;
	for (unsigned i = 0; !rc && i < n; i++)
		rc = allow(ruleset, &paths[i], attr.fs, i < HELD_MAX);
	if (!rc && syscall(SYS_landlock_restrict_self, ruleset, 0))
		rc = -errno;
	close(ruleset);
	return rc;
}
