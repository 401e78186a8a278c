/* unix_socket: see unix_socket.h. */
#include "vmm/core/unix_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/core/helper.h"

/* How long a listener waits for others that are about to listen in the same folder. */
#define LOCK_TRIES 200
#define LOCK_WAIT_US 1000

int unix_socket_check(const char *option, const char *key, const char *path, size_t spare_bytes,
		      struct err *err)
{
	size_t max = UNIX_SOCKET_PATH_MAX - spare_bytes;

	if (!*path || strlen(path) > max)
		return err_set(err, ENAMETOOLONG,
			       "%s %s=%.200s: a socket's path has 1 to %zu bytes here", option, key,
			       path, max);
	return 0;
}

int unix_socket_look(const char *option, const char *key, const char *path, struct err *err)
{
	struct stat st;
	int rc = unix_socket_check(option, key, path, 0, err);

	if (rc)
		return rc;
	if (!lstat(path, &st) && !S_ISSOCK(st.st_mode))
		return err_set(err, EEXIST, "%s %s=%s: exists and is not a socket", option, key,
			       path);
	return 0;
}

int unix_socket_connect(const char *path, int flags)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd, rc;

	if (!*path)
		return -ENOENT;
	if (strlen(path) > UNIX_SOCKET_PATH_MAX)
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	if (fd < 0)
		return -errno;
	if (!connect(fd, (const struct sockaddr *)&addr, sizeof(addr)))
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

/* Returns true if the process that called listen for the other end of fd has ended. */
static bool listener_ended(int fd)
{
	struct ucred peer = { 0 };
	socklen_t len = sizeof(peer);
	struct pollfd p = { .events = POLLIN };
	bool ended;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) || peer.pid <= 0)
		return false;
	p.fd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
	if (p.fd < 0)
		return errno == ESRCH;
	ended = poll(&p, 1, 0) == 1;
	close(p.fd);
	return ended;
}

/*
 * Does a process listen at path? If not, a dead one left the path behind, or it is gone by now. One
 * that was killed may have left its socket to a child for a moment.
 */
static bool live(const char *path)
{
	unsigned tries = 0;
	bool ended;
	int fd;

	do {
		fd = unix_socket_connect(path, SOCK_NONBLOCK);
		ended = fd >= 0 && listener_ended(fd);
		if (fd >= 0)
			close(fd);
	} while (ended && helper_lingers(&tries));
	return fd != -ECONNREFUSED && fd != -ENOENT;
}

/*
 * Locks the folder of path against other processes that are about to listen in it: between a look at
 * a dead socket and its replacement, and between bind and listen, another one would take ours for
 * dead. Returns a descriptor to close, or -1: without a lock the race is unlikely, not worse.
 */
static int lock_folder(const char *path)
{
	const char *slash = strrchr(path, '/');
	char dir[UNIX_SOCKET_PATH_MAX + 1] = ".";
	int fd;

	if (slash)
		snprintf(dir, sizeof(dir), "%.*s", slash == path ? 1 : (int)(slash - path), path);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* Another program may hold the lock for its own purposes: do not wait for long. */
	for (int tries = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) && tries < LOCK_TRIES; tries++)
		usleep(LOCK_WAIT_US);
	return fd;
}

/* 0, or -errno with err filled. The caller listens at once: until then a client is refused. */
static int bind_path(struct unix_listener *l, const char *option, const char *key, struct err *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int rc;

	strcpy(addr.sun_path, l->path);
	fchmod(l->fd, 0700); /* Linux: the mode that bind gives the path */
	if (bind(l->fd, (const struct sockaddr *)&addr, sizeof(addr))) {
		if (errno != EADDRINUSE)
			return err_sys(err, errno, "%s %s=%s", option, key, l->path);
		rc = unix_socket_look(option, key, l->path, err);
		if (rc)
			return rc;
		if (live(l->path))
			return err_set(err, EADDRINUSE,
				       "%s %s=%s: in use: another process listens there", option,
				       key, l->path);
		unlink(l->path);
		if (bind(l->fd, (const struct sockaddr *)&addr, sizeof(addr)))
			return err_sys(err, errno, "%s %s=%s", option, key, l->path);
	}
	return 0;
}

/* Writes down which file is ours, for unix_socket_in_place. */
static void remember(struct unix_listener *l)
{
	struct stat st;

	if (lstat(l->path, &st))
		return;
	l->dev = st.st_dev;
	l->ino = st.st_ino;
}

int unix_socket_listen(struct unix_listener *l, const char *option, const char *key,
		       const char *path, int backlog, struct err *err)
{
	int rc = unix_socket_check(option, key, path, 0, err), lock;

	*l = (struct unix_listener){ .fd = -1 };
	if (rc)
		return rc;
	strcpy(l->path, path);
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		return err_sys(err, errno, "%s %s=%s", option, key, path);
	lock = lock_folder(path);
	rc = bind_path(l, option, key, err);
	if (!rc && listen(l->fd, backlog)) {
		rc = err_sys(err, errno, "%s %s=%s", option, key, path);
		unlink(path);
	}
	if (!rc)
		remember(l);
	if (lock >= 0)
		close(lock);
	if (rc)
		unix_socket_close(l);
	return rc;
}

bool unix_socket_in_place(const struct unix_listener *l)
{
	struct stat st;

	return l->ino && !lstat(l->path, &st) && st.st_dev == l->dev && st.st_ino == l->ino;
}

void unix_socket_close(struct unix_listener *l)
{
	if (l->fd >= 0)
		close(l->fd);
	if (unix_socket_in_place(l))
		unlink(l->path);
	*l = (struct unix_listener){ .fd = -1 };
}
