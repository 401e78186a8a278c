/* store/file_lock: see file_lock.h. */
#include "devices/backend/store/file_lock.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vmm/core/fd_stat.h"

#define USED_BASE 100
#define DENIED_BASE 200
#define PERM_READ 0
#define PERM_WRITE 1

static int claim(int fd, off_t first, off_t n)
{
	struct flock fl = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = first, .l_len = n };

	if (fcntl(fd, F_OFD_SETLK, &fl) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

/*
 * Returns 0 if no other descriptor holds a lock there, -EAGAIN if one does, which *found describes,
 * or another -errno.
 */
static int test(int fd, off_t first, off_t n, struct flock *found)
{
	*found = (struct flock){
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = first, .l_len = n
	};
	if (fcntl(fd, F_OFD_GETLK, found))
		return -errno;
	return found->l_type == F_UNLCK ? 0 : -EAGAIN;
}

static int test_all(int fd, bool write, struct flock *found)
{
	int rc = test(fd, DENIED_BASE, write ? PERM_WRITE + 1 : PERM_READ + 1, found);

	return rc ? rc : test(fd, USED_BASE + PERM_WRITE, 1, found);
}

int store_file_lock(int fd, bool write)
{
	struct flock found;
	int rc;

	/*
	 * Claim first, then test: of two processes that start together at least one sees the other.
	 */
	rc = claim(fd, USED_BASE, write ? PERM_WRITE + 1 : PERM_READ + 1);
	if (!rc)
		rc = claim(fd, DENIED_BASE + PERM_WRITE, 1);
	return rc ? rc : test_all(fd, write, &found);
}

/* --- whose lock it is ----------------------------------------------------------------- */

/*
 * Does the descriptor that fdinfo tells of hold a lock in [first, end)? Linux shows one line each:
 * "lock:", a number, the kind, "ADVISORY", "READ", pid, device, first byte, last byte or "EOF".
 */
static bool holds(int fdinfo_dir, const char *name, off_t first, off_t end)
{
	int fd = openat(fdinfo_dir, name, O_RDONLY | O_CLOEXEC);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	char line[256], last[32];
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file)) {
		long long from;

		if (sscanf(line, "lock: %*d: %*s %*s %*s %*d %*s %lld %31s", &from, last) == 2)
			found = from < end && (!strcmp(last, "EOF") || atoll(last) >= first);
	}
	if (file)
		fclose(file);
	else if (fd >= 0)
		close(fd);
	return found;
}

/*
 * Is name, a descriptor in /proc, of the file is? Asks only what the kernel has in memory: the file may be
 * on a file system of another user, who lets everybody wait.
 */
static bool leads_to(int proc, const char *name, const struct stat *is)
{
	struct statx sx;

	return !statx(proc, name, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_INO, &sx) &&
	       sx.stx_mask & STATX_INO && sx.stx_ino == is->st_ino &&
	       makedev(sx.stx_dev_major, sx.stx_dev_minor) == is->st_dev;
}

/* Does the process of folder pid in /proc hold a lock in that range of the file is? */
static bool process_holds(int proc, const char *pid, int own_fd, const struct stat *is,
			  const struct flock *range)
{
	off_t end = range->l_len ? range->l_start + range->l_len : INT64_MAX;
	char path[600];
	struct dirent *entry;
	bool found = false;
	int fd;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/fdinfo", pid);
	fd = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	while (dir && !found && (entry = readdir(dir))) {
		if (atoi(pid) == getpid() && atoi(entry->d_name) == own_fd)
			continue;
		snprintf(path, sizeof(path), "%s/fd/%s", pid, entry->d_name);
		found = *entry->d_name != '.' && holds(fd, entry->d_name, range->l_start, end) &&
			leads_to(proc, path, is);
	}
	if (dir)
		closedir(dir);
	return found;
}

static void describe(int proc, pid_t pid, char *text, size_t len)
{
	char path[40], line[128], name[32] = "?";
	unsigned uid = 0;
	FILE *file;
	int fd;

	snprintf(path, sizeof(path), "%d/status", (int)pid);
	fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	file = fd < 0 ? NULL : fdopen(fd, "r");
	while (file && fgets(line, sizeof(line), file)) {
		sscanf(line, "Name: %31[^\n]", name);
		sscanf(line, "Uid: %*u %u", &uid);
	}
	if (file)
		fclose(file);
	else if (fd >= 0)
		close(fd);
	snprintf(text, len, "process %d (%s) of user %u", (int)pid, name, uid);
}

pid_t store_file_lock_holder(int fd, bool write, char *text, size_t len)
{
	int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = proc < 0 ? NULL : fdopendir(proc);
	struct flock found;
	struct stat st;
	pid_t pid = 0;

	*text = 0;
	if (dir && test_all(fd, write, &found) == -EAGAIN && !fd_stat(fd, &st)) {
		struct dirent *entry;

		/* A lock of the open file description has no process: look who has it open. */
		if (found.l_pid > 0)
			pid = found.l_pid;
		while (!pid && (entry = readdir(dir)))
			if (isdigit((unsigned char)*entry->d_name) &&
			    process_holds(proc, entry->d_name, fd, &st, &found))
				pid = (pid_t)atoi(entry->d_name);
		if (pid)
			describe(proc, pid, text, len);
	}
	if (dir)
		closedir(dir);
	return pid;
}

void store_file_unlock(int fd)
{
	struct flock fl = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	fcntl(fd, F_OFD_SETLK, &fl);
}
