/* file: see file.h. */
#include "boot/file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Checks the file behind file->fd. The caller sets fd; if fd is negative, errno says why. */
static int check(struct boot_file *file, const char *what, const char *path, struct err *err)
{
	int ret;

	file->what = what;
	file->path = path;
	if (file->fd < 0)
		return err_sys(err, errno, "%s %s", what, path);
	if (fstat(file->fd, &file->st) < 0) {
		ret = err_sys(err, errno, "%s %s", what, path);
	} else if (S_ISDIR(file->st.st_mode)) {
		ret = err_set(err, EISDIR, "%s %s: is a directory", what, path);
	} else if (!S_ISREG(file->st.st_mode)) {
		ret = err_set(err, EINVAL, "%s %s: is not a regular file", what, path);
	} else if (file->st.st_size <= 0) {
		ret = err_set(err, EINVAL, "%s %s: is empty", what, path);
	} else {
		file->size_bytes = (uint64_t)file->st.st_size;
		return 0;
	}
	boot_file_close(file);
	return ret;
}

int boot_file_open(struct boot_file *file, const char *what, const char *path, struct err *err)
{
	/* O_NONBLOCK: check refuses a FIFO, and open must not wait for its writer. */
	*file = (struct boot_file){ .fd = open(path,
					       O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) };
	return check(file, what, path, err);
}

int boot_file_open_fd(struct boot_file *file, const char *what, const char *path, int fd,
		      struct err *err)
{
	*file = (struct boot_file){ .fd = fcntl(fd, F_DUPFD_CLOEXEC, 0) };
	return check(file, what, path, err);
}

void boot_file_part(const struct boot_file *file, uint64_t off, uint64_t len_bytes,
		    struct boot_file *part)
{
	BUG_ON(off > file->size_bytes || len_bytes > file->size_bytes - off);
	*part = *file;
	part->start = file->start + off;
	part->size_bytes = len_bytes;
}

void boot_file_close(struct boot_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
}

int boot_file_read(const struct boot_file *file, uint64_t off, void *dst, uint64_t len_bytes,
		   struct err *err)
{
	uint8_t *to = dst;

	if (off > file->size_bytes || len_bytes > file->size_bytes - off)
		return err_set(err, EINVAL, "%s %s: ends before byte %llu: truncated", file->what,
			       file->path, (unsigned long long)(off + len_bytes));
	while (len_bytes) {
		/* The host kernel reads at most 2 GiB at once. */
		size_t want = len_bytes < 1u << 30 ? (size_t)len_bytes : 1u << 30;
		ssize_t n = pread(file->fd, to, want, (off_t)(file->start + off));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, errno, "%s %s", file->what, file->path);
		if (!n)
			return err_set(err, EIO, "%s %s: became shorter while it was read",
				       file->what, file->path);
		to += n;
		off += (uint64_t)n;
		len_bytes -= (uint64_t)n;
	}
	return 0;
}
