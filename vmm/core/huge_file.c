/*
 * huge_file: see huge_file.h.
 *
 * Theory of operation. Whether a file in memory gets huge pages is an option of the tmpfs that
 * holds it. Only the kernel's internal tmpfs, which holds memfds and shared anonymous memory, obeys
 * shmem_enabled. So the file is made in a tmpfs of its own, with huge=advise. Root may mount a
 * tmpfs, and so may any user who is root of a user namespace with a mount namespace of its own.
 * This process must not enter such namespaces: what it opens and spawns later would have other
 * rights. So it clones a child into them, which shares our memory and our descriptors, makes the
 * file and ends. The tmpfs is never attached to a path: it and the user namespace live as long as
 * the file, and the mount namespace dies with the child.
 *
 * As after vfork, the calling thread waits until the child ends: the child may use our errno, and
 * must close what it opens. The child has a stack of its own and takes no signals. Its end sends no
 * signal, so a handler of SIGCHLD or a wait for any child does not notice it.
 */
#include "vmm/core/huge_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/core/fd_stat.h"
#include "vmm/core/parse.h"

#define STACK_BYTES (64u << 10)
#define POLICY "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
#define POOLS "/sys/kernel/mm/hugepages"

struct order {
	char uid_map[40], gid_map[40];
	int fd; /* the answer: the file or -errno */
};

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), rc;

	if (fd < 0)
		return -errno;
	rc = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return rc;
}

/*
 * Map our uid and gid, which the file gets: tmpfs refuses ids that its user namespace does not map.
 */
static int map_ids(const struct order *o)
{
	int rc = write_text("/proc/self/uid_map", o->uid_map);

	if (!rc)
		rc = write_text("/proc/self/setgroups", "deny");
	return rc ? rc : write_text("/proc/self/gid_map", o->gid_map);
}

static long set(int fs, const char *option, const char *value)
{
	return syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, option, value, 0);
}

static int mount_tmpfs(void)
{
	int fs = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC), mnt = -1, code;

	if (fs < 0)
		return -errno;
	/*
	 * Fails only if the kernel or the CPU has no huge pages; other memory has none then either.
	 */
	set(fs, "huge", "advise");
	/* No size limit: the default is half the host's memory. */
	if (!set(fs, "size", "0") && !syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		mnt = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
	code = errno;
	close(fs);
	return mnt < 0 ? -code : mnt;
}

/* Of huge_file_mount_now, until it is used; -1: none. */
static int mounted = -1;

void huge_file_mount_now(void)
{
	int mnt = mounted < 0 ? mount_tmpfs() : -1;

	if (mnt >= 0)
		mounted = mnt;
}

int huge_file_mounted(void)
{
	return mounted;
}

/* The file or -errno. */
static int make_file(void)
{
	int mnt = mounted >= 0 ? mounted : mount_tmpfs(), fd;

	mounted = -1;
	if (mnt < 0)
		return mnt;
	fd = openat(mnt, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		fd = -errno;
	close(mnt);
	return fd;
}

static int child(void *opaque)
{
	struct order *o = opaque;
	int rc = map_ids(o);

	o->fd = rc ? rc : make_file();
	return 0;
}

static bool denied(void)
{
	char text[128] = "";
	int fd = open(POLICY, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	return n > 0 && strstr(text, "[deny]");
}

static int make_file_in_child(void)
{
	struct order o = { .fd = -ECHILD }; /* stays if the child is killed */
	sigset_t all, before;
	uint8_t *stack;
	pid_t pid;
	int dumps;

	stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stack == MAP_FAILED)
		return -errno;
	snprintf(o.uid_map, sizeof(o.uid_map), "%u %u 1", geteuid(), geteuid());
	snprintf(o.gid_map, sizeof(o.gid_map), "%u %u 1", getegid(), getegid());
	/* /proc/self/uid_map of a process without dumps belongs to root. The child has the flag of our memory. */
	dumps = prctl(PR_GET_DUMPABLE);
	if (dumps == 0)
		prctl(PR_SET_DUMPABLE, 1);
	/* Block all signals: a handler of ours would run in the child, on our memory. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = clone(child, stack + STACK_BYTES,
		    CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_NEWUSER | CLONE_NEWNS, &o);
	if (pid < 0)
		o.fd = -errno;
	else
		waitpid(pid, NULL, __WALL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (dumps == 0)
		prctl(PR_SET_DUMPABLE, 0);
	munmap(stack, STACK_BYTES);
	return o.fd;
}

int huge_file_create(void)
{
	int fd;

	if (denied())
		return -ENOTSUP;
	fd = make_file();
	return fd == -EPERM ? make_file_in_child() : fd;
}

/* --- the host's pool ----------------------------------------------------------------- */

int huge_file_create_pool(uint64_t *page_bytes, struct err *err)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB;
	char size[32];
	struct stat st;
	int fd;

	BUG_ON(*page_bytes & (*page_bytes - 1));
	if (*page_bytes)
		flags |= (unsigned)__builtin_ctzll(*page_bytes) << MFD_HUGE_SHIFT;
	fd = memfd_create("guest-ram", flags);
	if (fd < 0 && *page_bytes && (errno == ENODEV || errno == EINVAL))
		return err_set(err, EINVAL,
			       "memory: this host has no huge pages of %s; " POOLS
			       " lists its sizes",
			       parse_size_text(*page_bytes, size, sizeof(size)));
	if (fd < 0)
		return err_sys(err, errno, "memory: huge pages");
	if (fd_stat(fd, &st)) {
		int code = errno;

		close(fd);
		return err_sys(err, code, "memory: huge pages");
	}
	*page_bytes = (uint64_t)st.st_blksize;
	return fd;
}

static uint64_t pool_number(uint64_t page_bytes, const char *name)
{
	unsigned long long n = 0;
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), POOLS "/hugepages-%llukB/%s",
		 (unsigned long long)page_bytes >> 10, name);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%llu", &n) != 1)
		n = 0;
	fclose(f);
	return n;
}

int huge_file_pool_short(uint64_t total_bytes, uint64_t page_bytes, struct err *err)
{
	uint64_t need = total_bytes / page_bytes, free = pool_number(page_bytes, "free_hugepages");
	uint64_t reserved = pool_number(page_bytes, "resv_hugepages");
	char page[32];

	free = free > reserved ? free - reserved : 0;
	return err_set(
		err, ENOMEM,
		"memory: needs %llu huge pages of %s, and this host has %llu free; add %llu to " POOLS
		"/hugepages-%llukB/nr_hugepages, or use less memory",
		(unsigned long long)need, parse_size_text(page_bytes, page, sizeof(page)),
		(unsigned long long)free, (unsigned long long)(need > free ? need - free : 0),
		(unsigned long long)page_bytes >> 10);
}
