/* store/file_lock: see file_lock.h. */
#include "devices/backend/store/file_lock.h"

#include <errno.h>
#include <fcntl.h>

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

/* Returns 0 if no other descriptor holds a lock there, -EAGAIN if one does, or another -errno. */
static int test(int fd, off_t first, off_t n)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = first, .l_len = n };

	if (fcntl(fd, F_OFD_GETLK, &fl))
		return -errno;
	return fl.l_type == F_UNLCK ? 0 : -EAGAIN;
}

int store_file_lock(int fd, bool write)
{
	off_t nperms = write ? PERM_WRITE + 1 : PERM_READ + 1;
	int rc;

	/*
	 * Claim first, then test: of two processes that start together at least one sees the other.
	 */
	rc = claim(fd, USED_BASE, nperms);
	if (!rc)
		rc = claim(fd, DENIED_BASE + PERM_WRITE, 1);
	if (!rc)
		rc = test(fd, DENIED_BASE, nperms);
	if (!rc)
		rc = test(fd, USED_BASE + PERM_WRITE, 1);
	return rc;
}

void store_file_unlock(int fd)
{
	struct flock fl = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	fcntl(fd, F_OFD_SETLK, &fl);
}
