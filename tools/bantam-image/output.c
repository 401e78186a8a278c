/* output: see output.h. */
#include "tools/bantam-image/output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/core/new_file.h"

#define TRIES 100u

/* Returns the length of path's folder with its slash; 0: the current folder. */
static size_t folder_len(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (size_t)(slash - path) + 1 : 0;
}

static char *folder(const char *path)
{
	size_t n = folder_len(path);

	return n ? strndup(path, n) : strdup(".");
}

/* Tries hidden names beside o->path until make finds one that is free. Returns 0 or -errno. */
static int with_temp(struct output *o, int (*make)(struct output *o))
{
	size_t n = folder_len(o->path);

	for (unsigned i = 0; i < TRIES; i++) {
		int rc;

		free(o->temp);
		if (asprintf(&o->temp, "%.*s.%.200s.%d.%u.part", (int)n, o->path, o->path + n,
			     (int)getpid(), i) < 0) {
			o->temp = NULL;
			return -ENOMEM;
		}
		rc = make(o);
		if (rc != -EEXIST) {
			if (rc) {
				free(o->temp);
				o->temp = NULL;
			}
			return rc;
		}
	}
	free(o->temp);
	o->temp = NULL;
	return -EEXIST;
}

static int open_temp(struct output *o)
{
	o->fd = open(o->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, STORE_NEW_MODE);
	return o->fd < 0 ? -errno : 0;
}

static int link_fd(const struct output *o, const char *to)
{
	char from[64];

	snprintf(from, sizeof(from), "/proc/self/fd/%d", o->fd);
	return linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

static int link_temp(struct output *o)
{
	return link_fd(o, o->temp);
}

static int take_old(struct output *o, const char *path, bool force, struct err *err)
{
	if (lstat(path, &o->old_stat)) {
		if (errno != ENOENT)
			return err_sys(err, errno, "%s", path);
		return 0;
	}
	if (!force)
		return err_set(err, EEXIST, "%s: exists already; --force replaces it", path);
	if (stat(path, &o->old_stat))
		return err_sys(err, errno, "%s", path);
	if (!S_ISREG(o->old_stat.st_mode))
		return err_set(err, EINVAL, "%s: is not a file, and only a file can be replaced",
			       path);
	o->replace = true;
	/* The lock fails if a VM uses the file. */
	return store_image_open(&o->old, o->path, NULL, false, false, err);
}

int output_create(struct output *o, const char *path, bool force, unsigned mode, struct err *err)
{
	char real[PATH_MAX], *dir;
	int rc;

	memset(o, 0, sizeof(*o));
	o->fd = o->old.fd = o->old.cached_fd = -1;
	o->path = strdup(force && realpath(path, real) ? real : path);
	if (!o->path)
		return err_sys(err, ENOMEM, "%s", path);
	rc = take_old(o, path, force, err);
	if (rc)
		return rc;
	dir = folder(o->path);
	if (!dir)
		return err_sys(err, ENOMEM, "%s", path);
	o->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, STORE_NEW_MODE);
	rc = o->fd < 0 ? -errno : 0;
	free(dir);
	if (rc == -EOPNOTSUPP || rc == -EISDIR || rc == -EINVAL)
		rc = with_temp(o, open_temp);
	if (rc)
		return err_sys(err, -rc, "%s: cannot create", path);
	/* Best effort: the new file gets the owner and mode of the old one. */
	if (o->replace && (fchown(o->fd, o->old_stat.st_uid, o->old_stat.st_gid) ||
			   fchmod(o->fd, o->old_stat.st_mode & 07777)))
		errno = 0;
	if (mode && fchmod(o->fd, mode))
		return err_sys(err, errno, "%s: --mode", path);
	return 0;
}

static int name_it(struct output *o)
{
	int rc;

	if (!o->replace && !o->temp)
		return link_fd(o, o->path);
	if (!o->temp) {
		rc = with_temp(o, link_temp);
		if (rc)
			return rc;
	}
	if (o->replace) {
		rc = rename(o->temp, o->path) ? -errno : 0;
	} else {
		rc = renameat2(AT_FDCWD, o->temp, AT_FDCWD, o->path, RENAME_NOREPLACE) ? -errno : 0;
		if (rc == -EINVAL || rc == -ENOSYS) {
			rc = link(o->temp, o->path) ? -errno : 0;
			if (!rc)
				unlink(o->temp);
		}
	}
	if (!rc) {
		free(o->temp);
		o->temp = NULL;
	}
	return rc;
}

int output_publish(struct output *o, bool sync, struct err *err)
{
	int rc;

	if (sync && fsync(o->fd))
		return err_sys(err, errno, "%s: cannot write", o->path);
	rc = name_it(o);
	if (rc == -EEXIST)
		return err_set(err, EEXIST,
			       "%s: another program has created it meanwhile; nothing was written",
			       o->path);
	if (rc)
		return err_sys(err, -rc, "%s: cannot create", o->path);
	if (sync)
		new_file_sync_name(o->path);
	return 0;
}

void output_close(struct output *o)
{
	if (o->temp)
		unlink(o->temp);
	if (o->fd >= 0)
		close(o->fd);
	store_image_close(&o->old);
	free(o->temp);
	free(o->path);
	memset(o, 0, sizeof(*o));
	o->fd = o->old.fd = o->old.cached_fd = -1;
}
