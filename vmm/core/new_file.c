/* new_file: see new_file.h. */
#include "vmm/core/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* The temporary name, which on_signal removes. */
static char *volatile pending;

static void on_signal(int sig)
{
	char *temp = pending;

	if (temp)
		unlink(temp);
	signal(sig, SIG_DFL);
	raise(sig);
}

void new_file_on_signals(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction sa = { .sa_handler = on_signal }, old;

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		/* An ignored signal stays ignored: nohup, a shell script's "&". */
		if (!sigaction(signals[i], NULL, &old) && old.sa_handler != SIG_IGN)
			sigaction(signals[i], &sa, NULL);
	}
}

char *new_file_temp(const char *path)
{
	const char *slash = strrchr(path, '/');
	int dir = slash ? (int)(slash + 1 - path) : 0;
	uint64_t random;
	char *temp;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		random = (uint64_t)getpid();
	/*
	 * The beginning of the name tells a person which file it is; the whole name may be too
	 * long.
	 */
	if (asprintf(&temp, "%.*s.%.80s.%016llx", dir, path, path + dir,
		     (unsigned long long)random) < 0)
		return NULL;
	return temp;
}

int new_file_publish(const char *temp, const char *path, bool replace)
{
	if (replace)
		return rename(temp, path) ? -errno : 0;
	if (!renameat2(AT_FDCWD, temp, AT_FDCWD, path, RENAME_NOREPLACE))
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	/* NFS and some other file systems have no RENAME_NOREPLACE. */
	if (link(temp, path))
		return -errno;
	unlink(temp);
	return 0;
}

static int exists(const char *path, struct err *err)
{
	return err_set(err, EEXIST, "%s: exists already; --force replaces it", path);
}

static char *folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? strndup(path, (size_t)(slash + 1 - path)) : strdup(".");
}

void new_file_sync_name(const char *path)
{
	char *dir = folder_of(path);
	int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	/* The file is complete and has its name: a folder that cannot be synced is no error. */
	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
	free(dir);
}

/* Open a file without a name if the file system can do that, else with a temporary one. */
static int open_file(struct new_file *file)
{
	char *dir = folder_of(file->path);

	if (!dir)
		return -ENOMEM;
	file->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, NEW_FILE_MODE);
	free(dir);
	if (file->fd >= 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
		return -errno;
	file->temp = new_file_temp(file->path);
	if (!file->temp)
		return -ENOMEM;
	file->fd = open(file->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, NEW_FILE_MODE);
	if (file->fd < 0) {
		int code = errno;

		free(file->temp);
		file->temp = NULL;
		return -code;
	}
	pending = file->temp;
	return 0;
}

int new_file_look(struct new_file *file, const char *path, bool replace, struct err *err)
{
	*file = (struct new_file){ .fd = -1, .path = path, .replace = replace };
	file->had = !lstat(path, &file->old);
	if (file->had && !replace)
		return exists(path, err);
	if (file->had && !S_ISREG(file->old.st_mode))
		return err_set(err, EEXIST, "%s: is not a file, so it is not replaced", path);
	if (!*path || path[strlen(path) - 1] == '/')
		return err_set(err, EISDIR, "%s: is not a file's name", path);
	return 0;
}

int new_file_open(struct new_file *file, const char *path, bool replace, struct err *err)
{
	int rc = new_file_look(file, path, replace, err);

	if (rc)
		return rc;
	rc = open_file(file);
	if (rc)
		return err_sys(err, -rc, "%s: cannot create", path);
	/* Best effort: the new file gets the owner and mode of the old one. */
	if (file->had && (fchown(file->fd, file->old.st_uid, file->old.st_gid) ||
			  fchmod(file->fd, file->old.st_mode & 0777)))
		errno = 0;
	return 0;
}

static int proc_fd = -1;

void new_file_name_later(void)
{
	if (proc_fd < 0)
		proc_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* By the descriptor's name, since only root may link a descriptor itself. */
static int link_self(const struct new_file *file, const char *to)
{
	char self[64];

	snprintf(self, sizeof(self), "%s%d", proc_fd < 0 ? "/proc/self/fd/" : "", file->fd);
	return linkat(proc_fd < 0 ? AT_FDCWD : proc_fd, self, AT_FDCWD, to, AT_SYMLINK_FOLLOW) ?
		       -errno :
		       0;
}

/* Give the file its name. It passes through a temporary name only if it replaces another file. */
static int give_name(struct new_file *file)
{
	int rc;

	if (!file->replace || !file->had)
		return link_self(file, file->path);
	file->temp = new_file_temp(file->path);
	if (!file->temp)
		return -ENOMEM;
	rc = link_self(file, file->temp);
	if (rc) {
		free(file->temp);
		file->temp = NULL;
		return rc;
	}
	pending = file->temp;
	return new_file_publish(file->temp, file->path, true);
}

int new_file_finish(struct new_file *file, bool sync, struct err *err)
{
	int rc = sync && fsync(file->fd) ? -errno : 0;

	if (rc) {
		new_file_abandon(file);
		return err_sys(err, -rc, "%s", file->path);
	}
	rc = file->temp ? new_file_publish(file->temp, file->path, file->replace) : give_name(file);
	if (!rc) {
		pending = NULL;
		free(file->temp);
		file->temp = NULL;
		if (close(file->fd)) {
			rc = err_sys(err, errno, "%s", file->path);
			unlink(file->path);
		}
		file->fd = -1;
		if (!rc && sync)
			new_file_sync_name(file->path);
		return rc;
	}
	new_file_abandon(file);
	if (rc == -EEXIST)
		return exists(file->path, err);
	return err_sys(err, -rc, "%s: cannot create", file->path);
}

void new_file_abandon(struct new_file *file)
{
	if (file->temp)
		unlink(file->temp);
	pending = NULL;
	free(file->temp);
	file->temp = NULL;
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
}
