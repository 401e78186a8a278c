/*
 * landlock: no files, no TCP and no abstract Unix socket, for the calling thread and those that it starts. See
 * confine_impl.h and Documentation/userspace-api/landlock.rst of Linux. What is open already stays usable.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/confine/confine_impl.h"

/* The rights of each version of the interface, as of Linux 5.13, 5.19, 6.2, 6.7, 6.10 and 6.12. */
#define FS_1 ((1ull << 13) - 1)
#define FS_2 (FS_1 | 1ull << 13) /* REFER */
#define FS_3 (FS_2 | 1ull << 14) /* TRUNCATE */
#define IOCTL_DEV (1ull << 15)
#define FS_5 (FS_3 | IOCTL_DEV)
#define NET_4 3ull /* BIND_TCP, CONNECT_TCP */
/* SCOPE_ABSTRACT_UNIX_SOCKET. Not signals: the process ends its helpers, which are outside. */
#define SCOPE_6 1ull

/* The headers may be older than the kernel. */
struct rules {
	uint64_t files, net, scoped;
};

static size_t size_of(long version)
{
	return version < 4 ? offsetof(struct rules, net) :
	       version < 6 ? offsetof(struct rules, scoped) :
			     sizeof(struct rules);
}

/* Of all threads, and of the one that makes a test's reports. */
static int ruleset = -1, report_ruleset = -1;

static int add_folder(int to, const char *folder, uint64_t access)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = access };
	int rc = 0;

	rule.parent_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* A folder that is not there is an error of the device, which tells it better. */
	if (rule.parent_fd < 0)
		return 0;
	if (syscall(SYS_landlock_add_rule, to, LANDLOCK_RULE_PATH_BENEATH, &rule, 0))
		rc = -errno;
	close(rule.parent_fd);
	return rc;
}

static int add_name(int to, const char *path, uint64_t access)
{
	char folder[PATH_MAX];
	int rc = confine_folder_of(path, folder);

	return rc ? rc : add_folder(to, folder, access);
}

/* A new file in the folder takes the old one's place (new_file.c). The filter permits to open new files only. */
#define REPORT                                                                                     \
	(LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |                            \
	 LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE)

static int prepare_reports(const struct confine_plan *plan, const struct rules *rules, size_t size)
{
	int rc = 0;

	if (!plan->nreports)
		return 0;
	report_ruleset = (int)syscall(SYS_landlock_create_ruleset, rules, size, 0);
	if (report_ruleset < 0)
		return -errno;
	for (unsigned i = 0; !rc && i < plan->nnames; i++)
		rc = add_name(report_ruleset, plan->name[i], LANDLOCK_ACCESS_FS_REMOVE_FILE);
	for (unsigned i = 0; !rc && i < plan->nreports; i++)
		rc = add_name(report_ruleset, plan->report[i], REPORT);
	return rc;
}

/* TIOCGPTPEER opens the other end. No path leads there from the empty root, and no filter has open. */
static int add_ptys(uint64_t known)
{
	return add_folder(ruleset, "/dev/pts",
			  known & (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE |
				   IOCTL_DEV));
}

int confine_prepare_landlock(const struct confine_plan *plan)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0,
			       LANDLOCK_CREATE_RULESET_VERSION);
	struct rules rules = { version < 2 ? FS_1 :
			       version < 3 ? FS_2 :
			       version < 5 ? FS_3 :
					     FS_5,
			       NET_4, SCOPE_6 };
	size_t size = size_of(version);
	int rc = 0;

	if (version < 0)
		return -errno;
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
	if (ruleset < 0)
		return -errno;
	for (unsigned i = 0; !rc && i < plan->nnames; i++)
		rc = add_name(ruleset, plan->name[i], LANDLOCK_ACCESS_FS_REMOVE_FILE);
	if (!rc && plan->ptys)
		rc = add_ptys(rules.files);
	return rc ? rc : prepare_reports(plan, &rules, size);
}

int confine_landlock(bool reports)
{
	int with = reports && report_ruleset >= 0 ? report_ruleset : ruleset;

	return syscall(SYS_landlock_restrict_self, with, 0) ? -errno : 0;
}
