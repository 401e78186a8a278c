/*
 * landlock: no files, no TCP and no abstract Unix socket, for the calling thread and those that it starts. See
 * confine_impl.h and Documentation/userspace-api/landlock.rst of Linux. What is open already stays usable.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/confine/confine_impl.h"

/* The rights of each version of the interface, as of Linux 5.13, 5.19, 6.2, 6.7, 6.10 and 6.12. */
#define FS_1 ((1ull << 13) - 1)
#define REFER (1ull << 13)
#define FS_2 (FS_1 | REFER)
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

/*
 * A file, or a folder with all that is below. A rule is for an inode, and 9p (a shared folder of a VM, Windows's drives in
 * WSL) makes a new one for each look-up of a file that no process has open: what has to be found again is held, in *fd.
 */
static int add_held(int to, const char *path, uint64_t access, int *fd)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = access };

	*fd = rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
	/* What is not there is an error of the device, which tells it better. */
	if (*fd < 0)
		return 0;
	return syscall(SYS_landlock_add_rule, to, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) ? -errno :
											  0;
}

static int add_path(int to, const char *path, uint64_t access)
{
	int fd, rc = add_held(to, path, access, &fd);

	if (fd >= 0)
		close(fd);
	return rc;
}

static int add_name(int to, const char *path, uint64_t access)
{
	char folder[PATH_MAX];
	int rc = confine_folder_of(path, folder);

	return rc ? rc : add_path(to, folder, access);
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
		rc = add_name(report_ruleset, plan->report[i],
			      plan->files_later ? LANDLOCK_ACCESS_FS_REMOVE_FILE : REPORT);
	return rc;
}

/* TIOCGPTPEER opens the other end. No path leads there from the empty root, and no filter has open. */
static int add_ptys(uint64_t known)
{
	return add_path(ruleset, "/dev/pts",
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

/* --- programs ---------------------------------------------------------------------------- */

/* Writes the path of the loader of the program at path; an empty text: it has none, or is none. See elf(5). */
static void loader_of(const char *path, char loader[PATH_MAX])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	Elf64_Ehdr head = { 0 };
	Elf64_Phdr part;

	loader[0] = 0;
	if (fd < 0)
		return;
	if (pread(fd, &head, sizeof(head), 0) != sizeof(head))
		head.e_phnum = 0;
	for (unsigned i = 0; i < head.e_phnum; i++) {
		if (pread(fd, &part, sizeof(part), (off_t)(head.e_phoff + i * sizeof(part))) !=
			    sizeof(part) ||
		    part.p_type != PT_INTERP || part.p_filesz >= PATH_MAX)
			continue;
		if (pread(fd, loader, part.p_filesz, (off_t)part.p_offset) !=
		    (ssize_t)part.p_filesz)
			part.p_filesz = 0;
		loader[part.p_filesz] = 0;
		break;
	}
	close(fd);
}

/* What a script starts is not known before it runs. */
static bool is_script(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char head[2];
	bool script = fd >= 0 && read(fd, head, 2) == 2 && !memcmp(head, "#!", 2);

	if (fd >= 0)
		close(fd);
	return script;
}

/* Each program and its loader; -1: none. */
static int held[2 * CONFINE_PROGRAMS] = { -1, -1, -1, -1 };
static bool has_script;
/* Of the files' rules. */
static int file_fd[2 * CONFINE_PATHS_MAX];
static unsigned nfile_fds;

int confine_program(unsigned i)
{
	return held[i];
}

bool confine_has_script(void)
{
	return has_script;
}

int confine_hold(int fd)
{
	if (nfile_fds == sizeof(file_fd) / sizeof(file_fd[0])) {
		close(fd);
		return -EMFILE;
	}
	file_fd[nfile_fds++] = fd;
	return 0;
}

void confine_landlock_release(void)
{
	for (size_t i = 0; i < sizeof(held) / sizeof(held[0]); i++) {
		if (held[i] >= 0)
			close(held[i]);
		held[i] = -1;
	}
	while (nfile_fds)
		close(file_fd[--nfile_fds]);
}

/*
 * The loader is opened as a program, too; libraries are not. A process that handles REFER at all has to be permitted it, or
 * it moves no file to another folder. Before Linux 5.19 there is no way to say so: then this is left out,
 * as for a helper that is a script, which starts other programs: bantam-net-user of make dist is one.
 */
int confine_landlock_programs(const char *const path[CONFINE_PROGRAMS])
{
	struct rules rules = { LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
				       LANDLOCK_ACCESS_FS_MAKE_BLOCK | REFER,
			       0, 0 };
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0,
			       LANDLOCK_CREATE_RULESET_VERSION);
	char loader[PATH_MAX];
	int to, rc;

	if (version < 2)
		return version < 0 ? -errno : 0;
	for (size_t i = 0; i < CONFINE_PROGRAMS; i++)
		has_script |= path[i] && is_script(path[i]);
	if (has_script)
		return 0;
	to = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules.files), 0);
	if (to < 0)
		return -errno;
	rc = add_path(to, "/", REFER);
	for (size_t i = 0; !rc && i < CONFINE_PROGRAMS; i++) {
		if (!path[i])
			continue;
		rc = add_held(to, path[i], LANDLOCK_ACCESS_FS_EXECUTE, &held[2 * i]);
		loader_of(path[i], loader);
		if (!rc && *loader)
			rc = add_held(to, loader, LANDLOCK_ACCESS_FS_EXECUTE, &held[2 * i + 1]);
	}
	if (!rc && syscall(SYS_landlock_restrict_self, to, 0))
		rc = -errno;
	close(to);
	return rc;
}
