/*
 * files: what the options name, and no other file, for the calling thread and those that it starts. See confine_impl.h.
 *
 * Theory of operation. From before the first foreign byte is read until the machine is built the process still opens files:
 * kernel, disks and what their headers name, consoles, sockets. Whoever takes it over in that time opens no others: a
 * layer of Landlock has a rule for each path of the plan, and few for what the code itself opens. A later layer
 * (landlock.c) leaves nothing.
 *
 * The layer is also the broker for names that a file's header has (backing files): the kernel compares what is opened,
 * behind links and whatever is exchanged meanwhile, with the folders that the user has named. A process of its own
 * that opens for this one could not be more exact, and would cost its start.
 *
 * Landlock refuses to open, make and remove. It cannot refuse to look at a file (stat, O_PATH), nor to connect to a socket.
 * A rule is for an inode: a file that is not there yet has none, so its folder is permitted for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/confine/confine_impl.h"
#include "vmm/core/calls.h"
#include "vmm/core/huge_file.h"

#define REFER (1ull << 13)
#define TRUNCATE (1ull << 14)
#define LINKS_MAX 40 /* as the kernel follows */

#define READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define WRITE (LANDLOCK_ACCESS_FS_WRITE_FILE | TRUNCATE)
/* A file takes its name, in another one's place, and its folder is synced. */
#define MAKE                                                                                       \
	(READ | WRITE | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR |                \
	 LANDLOCK_ACCESS_FS_REMOVE_FILE)
/* A socket, which is bound in its folder, or a link. */
#define NAME                                                                                       \
	(LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_MAKE_SOCK |                              \
	 LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REMOVE_FILE)
#define ALL                                                                                        \
	(MAKE | NAME | REFER | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_MAKE_CHAR |      \
	 LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK)
#define OF_A_FILE (LANDLOCK_ACCESS_FS_READ_FILE | WRITE)

/* Rules that are being made. */
struct layer {
	int to;
	uint64_t handled;
	bool hold;    /* see confine_hold */
	bool dry_run; /* nothing is made */
};

static int add_fd(const struct layer *l, int fd, uint64_t access)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = access & l->handled,
						   .parent_fd = fd };

	if (!rule.allowed_access ||
	    !syscall(SYS_landlock_add_rule, l->to, LANDLOCK_RULE_PATH_BENEATH, &rule, 0))
		return 0;
	/* It is no folder. */
	rule.allowed_access &= OF_A_FILE;
	if (errno == EINVAL && rule.allowed_access &&
	    !syscall(SYS_landlock_add_rule, l->to, LANDLOCK_RULE_PATH_BENEATH, &rule, 0))
		return 0;
	/* A pipe or a file in memory: they are not in the file system, and are always permitted. */
	return errno == EBADFD ? 0 : -errno;
}

/* Returns 1: there is no such file. One that cannot be reached is an error of what opens it, which tells it better. */
static int add(const struct layer *l, const char *path, uint64_t access)
{
	int fd = open(path, O_PATH | O_CLOEXEC), rc;

	if (fd < 0)
		return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : 1;
	rc = add_fd(l, fd, access);
	if (!rc && l->hold)
		rc = confine_hold(fd);
	else
		close(fd);
	return rc;
}

/* Writes where a file is made that is named so: a link to a file that is not there leads on. */
static int place_of(const char *path, char place[PATH_MAX])
{
	char target[PATH_MAX], folder[PATH_MAX];
	ssize_t n = 0;
	int rc = 0;

	if (snprintf(place, PATH_MAX, "%s", path) >= PATH_MAX)
		return -ENAMETOOLONG;
	for (unsigned i = 0;
	     !rc && i < LINKS_MAX && (n = readlink(place, target, sizeof(target) - 1)) > 0; i++) {
		target[n] = 0;
		rc = confine_folder_of(place, folder);
		if (!rc && snprintf(place, PATH_MAX, "%s%s%s", *target == '/' ? "" : folder,
				    *target == '/' ? "" : "/", target) >= PATH_MAX)
			rc = -ENAMETOOLONG;
	}
	return rc;
}

static int add_folder(const struct layer *l, const char *path, uint64_t access)
{
	char folder[PATH_MAX];
	int rc = confine_folder_of(path, folder);

	rc = rc ? rc : add(l, folder, access);
	return rc < 0 ? rc : 0;
}

/* As mkdir -p: a folder that is filled later cannot be made later, since nothing above it is permitted. */
static int make_folder(const struct layer *l, char *path)
{
	for (char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
		*at = 0;
		mkdir(path, 0700);
		*at = '/';
	}
	mkdir(path, 0700);
	return add(l, path, MAKE);
}

static int add_path(const struct layer *l, const struct confine_path *p)
{
	bool fill = p->access & CONFINE_FILL, names = p->access & CONFINE_NAME;
	uint64_t access = (p->access & CONFINE_READ ? READ : 0) |
			  (p->access & CONFINE_WRITE ? WRITE : 0) |
			  (fill ? (names ? MAKE | NAME : MAKE) & ~READ : 0);
	char path[PATH_MAX], place[PATH_MAX];
	int rc = snprintf(path, sizeof(path), "%.*s", (int)p->len, p->path) >= (int)sizeof(path) ?
			 0 : /* what opens it says so */
			 1;

	if (rc)
		rc = access ? add(l, path, access) : 0;
	if (rc == 1 && fill && !l->dry_run)
		rc = make_folder(l, path);
	if (rc == 1 && p->access & CONFINE_MAKE) {
		rc = place_of(path, place);
		rc = rc ? 0 : add_folder(l, place, MAKE);
	}
	if (rc >= 0 && p->access & CONFINE_REPLACE)
		rc = add_folder(l, path, MAKE);
	if (rc >= 0 && names && !fill)
		rc = add_folder(l, path, NAME);
	if (rc >= 0 && p->access & CONFINE_AROUND)
		rc = add_folder(l, path, READ);
	return rc < 0 ? rc : 0;
}

/* --- what the code itself opens ---------------------------------------------------------------- */

/* What the user gave is opened once more (fd_now.h), as it is. */
static int add_descriptor(const struct layer *l, int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return 0;
	flags &= O_ACCMODE;
	return add_fd(l, fd, (flags != O_WRONLY ? READ : 0) | (flags != O_RDONLY ? WRITE : 0));
}

static int add_all(const struct layer *l, const char *const *path, size_t n)
{
	int rc = 0;

	for (size_t i = 0; rc >= 0 && i < n; i++)
		rc = add(l, path[i], READ);
	return rc < 0 ? rc : 0;
}

/* Where the loaders of distributions look, Nix's and Guix's too. */
static int add_libraries(const struct layer *l)
{
	static const char *const paths[] = { "/lib",
					     "/lib64",
					     "/usr",
					     "/opt",
					     "/nix/store",
					     "/gnu/store",
					     "/etc/ld.so.cache",
					     "/etc/ld.so.preload",
					     "/etc/ld-musl-x86_64.path" };

	return add_all(l, paths, sizeof(paths) / sizeof(paths[0]));
}

/* A helper with its libraries, which its loader finds; the network's follows the changes of resolv.conf. */
static int add_helpers(const struct layer *l, const struct confine_plan *plan)
{
	static const char *const network[] = { "/dev/urandom", "/etc" };
	char real[PATH_MAX];
	int rc = 0;

	if (!plan->helper[0] && !plan->helper[1])
		return 0;
	rc = add_libraries(l);
	for (unsigned i = 0; !rc && i < 2 * CONFINE_PROGRAMS; i++)
		if (confine_program(i) >= 0)
			rc = add_fd(l, confine_program(i), READ);
	if (rc || !plan->helper[1])
		return rc;
	rc = add_all(l, network, sizeof(network) / sizeof(network[0]));
	if (!rc && realpath("/etc/resolv.conf", real))
		rc = add_folder(l, real, READ);
	return rc;
}

/* Without the right to use it the message says which group has it. */
static int add_kvm(const struct layer *l)
{
	static const char kvm[] = "/dev/kvm";
	static const char *const groups[] = { "/etc/nsswitch.conf", "/etc/group" };
	int rc = add(l, kvm, OF_A_FILE);

	if (rc || !access(kvm, R_OK | W_OK))
		return rc < 0 ? rc : 0;
	rc = add_libraries(l);
	return rc ? rc : add_all(l, groups, sizeof(groups) / sizeof(groups[0]));
}

static int add_own(const struct layer *l, const struct confine_plan *plan)
{
	static const struct {
		const char *path;
		uint64_t access;
		unsigned part; /* CALLS_…: devices for a VM that has it; 0: each */
	} own[] = {
		{ "/dev/null", OF_A_FILE, 0 },
		{ "/proc", READ, 0 },
		{ "/sys/kernel/mm", READ, 0 },
		{ "/dev/net/tun", OF_A_FILE, CALLS_NET },
		{ "/dev/vhost-net", OF_A_FILE, CALLS_NET },
		{ "/dev/vhost-vsock", OF_A_FILE, CALLS_VSOCK },
	};
	/* A dry run does not even look at devices. */
	int rc = plan->jail.dry_run ? 0 : add_kvm(l);

	for (size_t i = 0; rc >= 0 && i < sizeof(own) / sizeof(own[0]); i++)
		if (!own[i].part || !(plan->jail.dry_run || plan->lacks & own[i].part))
			rc = add(l, own[i].path, own[i].access);
	if (rc >= 0 && plan->ptys)
		rc = add(l, "/dev/ptmx", READ | WRITE);
	if (rc >= 0 && plan->ptys)
		rc = add(l, "/dev/pts", READ | WRITE);
	if (rc >= 0 && huge_file_mounted() >= 0)
		rc = add_fd(l, huge_file_mounted(), READ | WRITE);
	for (int fd = 0; rc >= 0 && fd <= STDERR_FILENO; fd++)
		rc = add_descriptor(l, fd);
	for (unsigned i = 0; rc >= 0 && i < plan->nfds; i++)
		rc = add_descriptor(l, plan->fd[i]);
	return rc < 0 ? rc : 0;
}

/* --- the layer --------------------------------------------------------------------------------- */

static int fill(const struct layer *l, const struct confine_plan *plan)
{
	struct confine_path p = { .access = CONFINE_NAME };
	int rc = add(l, "/", REFER);

	rc = rc < 0 ? rc : add_own(l, plan);
	if (!rc)
		rc = add_helpers(l, plan);
	for (unsigned i = 0; !rc && i < plan->npaths; i++)
		rc = add_path(l, &plan->path[i]);
	for (unsigned i = 0; !rc && i < plan->nnames; i++) {
		p.path = plan->name[i];
		p.len = strlen(p.path);
		rc = add_path(l, &p);
	}
	p.access = CONFINE_REPLACE;
	for (unsigned i = 0; !rc && i < plan->nreports; i++) {
		p.path = plan->report[i];
		p.len = strlen(p.path);
		rc = add_path(l, &p);
	}
	return rc;
}

int confine_landlock_files(const struct confine_plan *plan, bool hold)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0,
			       LANDLOCK_CREATE_RULESET_VERSION);
	struct layer l = { .handled = version < 3 ? ALL & ~TRUNCATE : ALL,
			   .hold = hold,
			   .dry_run = plan->jail.dry_run };
	int rc;

	/* As for programs: without REFER no file moves to another folder. A thread of an API has been asked for the layer. */
	if (version < 2)
		return version < 0 ? -errno : hold ? 0 : -ENOSYS;
	/* What a script opens is not known. */
	if (confine_has_script())
		l.handled &= ~READ;
	l.to = (int)syscall(SYS_landlock_create_ruleset, &l.handled, sizeof(l.handled), 0);
	if (l.to < 0)
		return -errno;
	rc = fill(&l, plan);
	if (!rc && syscall(SYS_landlock_restrict_self, l.to, 0))
		rc = -errno;
	close(l.to);
	return rc;
}
