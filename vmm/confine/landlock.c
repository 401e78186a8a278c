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

static int ruleset = -1;

static int add_folder(const char *folder, uint64_t access)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = access };
	int rc = 0;

	rule.parent_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* A folder that is not there is an error of the device, which tells it better. */
	if (rule.parent_fd < 0)
		return 0;
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0))
		rc = -errno;
	close(rule.parent_fd);
	return rc;
}

static int add_name(const char *path)
{
	char folder[PATH_MAX];
	int rc = confine_folder_of(path, folder);

	return rc ? rc : add_folder(folder, LANDLOCK_ACCESS_FS_REMOVE_FILE);
}

/* TIOCGPTPEER opens the other end. No path leads there from the empty root, and no filter has open. */
static int add_ptys(uint64_t known)
{
	return add_folder("/dev/pts", known & (LANDLOCK_ACCESS_FS_READ_FILE |
					       LANDLOCK_ACCESS_FS_WRITE_FILE | IOCTL_DEV));
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
	int rc = 0;

	if (version < 0)
		return -errno;
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &rules, size_of(version), 0);
	if (ruleset < 0)
		return -errno;
	for (unsigned i = 0; !rc && i < plan->nnames; i++)
		rc = add_name(plan->name[i]);
	return rc || !plan->ptys ? rc : add_ptys(rules.files);
}

int confine_landlock(void)
{
	return syscall(SYS_landlock_restrict_self, ruleset, 0) ? -errno : 0;
}
