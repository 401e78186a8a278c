/*
 * chardev/file: output to a file, a FIFO or a terminal device. No input.
 *
 * Theory of operation. A guest prints without end, so a regular file has a limit. When the next
 * write would pass it, the file is cut: it then begins with a line that says so, and the newest
 * output, at most CUT_BYTES and half the limit, follows. This happens in the file, by its descriptor:
 * its name may be another file's by now, or its folder closed to us. A reader that follows the file
 * sees that it has become shorter.
 */
#include "devices/backend/chardev/chardev_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/core/fd_rw.h"
#include "vmm/core/fd_stat.h"
#include "vmm/core/log.h"
#include "vmm/errand/errand.h"

#define LIMIT_BYTES (1ull << 30)
#define CUT_BYTES (1u << 20)

struct file_sink {
	struct chardev chr;
	bool made;   /* open made the file, and nothing is written yet */
	bool append; /* what the file holds stays */
	bool told;   /* that it was cut */
	int read_fd; /* the same file, for its newest output; -1: no limit, or it may not be read */
	uint64_t limit; /* UINT64_MAX: none */
};

/* Reads the file's last max bytes, or fewer, from a line's begin on. Returns how many. */
static size_t read_newest(int fd, off_t size, uint8_t *buf, size_t max)
{
	size_t len = (uint64_t)size < max ? (size_t)size : max;
	uint8_t *line;
	ssize_t n;

	n = fd_rw_preadv(fd, &(struct iovec){ buf, len }, 1, size - (off_t)len, 0);
	len = n > 0 ? (size_t)n : 0;
	line = memchr(buf, '\n', len);
	if (!line)
		return len;
	len -= (size_t)(line + 1 - buf);
	memmove(buf, line + 1, len);
	return len;
}

/* Returns 0 or -errno. */
static int cut(struct file_sink *f, off_t size)
{
	int rc = 0;
	size_t max = f->limit / 2 < CUT_BYTES ? (size_t)(f->limit / 2) : CUT_BYTES;
	uint8_t *newest = malloc(max);
	size_t len = newest ? read_newest(f->read_fd, size, newest, max) : 0;
	char line[80];

	if (!f->told)
		log_put(LOG_WARN,
			"%s: has reached its limit of %llu bytes: it is cut to the newest %zu, "
			"now and later",
			f->chr.what, (unsigned long long)f->limit, len);
	f->told = true;
	if (ftruncate(f->chr.out_fd, 0) || lseek(f->chr.out_fd, 0, SEEK_SET) < 0) {
		rc = -errno;
	} else {
		snprintf(line, sizeof(line), "[bantam: %lld bytes of output were cut here]\n",
			 (long long)(size - (off_t)len));
		/* What does not go out here fails again at the next write, which reports it. */
		(void)!fd_rw_write(f->chr.out_fd, line, strlen(line));
		(void)!fd_rw_write(f->chr.out_fd, newest, len);
	}
	free(newest);
	return rc;
}

/* The file's size decides: another program may have cut it, or write to it, too. */
static void set_left(struct file_sink *f, off_t size)
{
	f->chr.left = (uint64_t)size < f->limit ? f->limit - (uint64_t)size : 0;
}

/* An errand of the loop, which has no lock then, and none of the calls. */
struct change {
	struct chardev *chr;
	int rc;
};

static void make_space(void *opaque)
{
	struct change *c = opaque;
	struct file_sink *f = (struct file_sink *)c->chr;
	struct stat st;

	if (fd_stat(f->chr.out_fd, &st)) {
		c->rc = -errno;
		return;
	}
	set_left(f, st.st_size);
	if (f->chr.left >= f->limit / 4)
		return;
	c->rc = cut(f, st.st_size);
	if (!fd_stat(f->chr.out_fd, &st))
		set_left(f, st.st_size);
}

/* The errand does not report a failure itself: the user of the chardev may take a lock. */
static void change(struct chardev *chr, void (*fn)(void *opaque))
{
	struct change c = { chr, 0 };

	errand_run(fn, &c);
	if (c.rc)
		chardev_fail(chr, -c.rc);
}

static void file_full(struct chardev *chr)
{
	change(chr, make_space);
}

/*
 * Truncate the last run's output only now, when this run begins. FIFOs and devices refuse it with
 * EINVAL.
 */
static void empty(void *opaque)
{
	struct change *c = opaque;

	if (ftruncate(c->chr->out_fd, 0) && errno != EINVAL)
		c->rc = -errno;
}

static void file_begin(struct chardev *chr)
{
	struct file_sink *f = (struct file_sink *)chr;

	f->made = false;
	if (!f->append)
		change(chr, empty);
	pthread_mutex_lock(&chr->lock);
	chr->hold = false;
	pthread_mutex_unlock(&chr->lock);
}

static void file_close(struct chardev *chr)
{
	/* A VM that was built but never ran leaves nothing behind. */
	if (((struct file_sink *)chr)->made)
		unlink(chr->describe + strlen("file="));
	if (((struct file_sink *)chr)->read_fd >= 0)
		close(((struct file_sink *)chr)->read_fd);
	if (chr->out_fd >= 0)
		close(chr->out_fd);
}

static const struct chardev_ops file_ops = { .begin = file_begin,
					     .full = file_full,
					     .close = file_close };

/*
 * Ours is for writing only, because the file may be one that we may not read. A confined loop opens nothing, so the second
 * descriptor is there before. It is of the same file, whatever has happened to the name.
 */
static void open_for_reading(struct file_sink *f, const char *path, const struct stat *st)
{
	struct stat is;

	f->read_fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (f->read_fd < 0 ||
	    (!fd_stat(f->read_fd, &is) && is.st_dev == st->st_dev && is.st_ino == st->st_ino))
		return;
	close(f->read_fd);
	f->read_fd = -1;
}

/* Only a regular file grows. */
static void limit(struct file_sink *f, const struct keyvals *cfg, bool append)
{
	struct stat st;

	f->limit = keys_has(cfg, CHARDEV_KEY_LIMIT) ? keys_num(cfg, CHARDEV_KEY_LIMIT) :
						      LIMIT_BYTES;
	if (!f->limit || fd_stat(f->chr.out_fd, &st) || !S_ISREG(st.st_mode))
		f->limit = UINT64_MAX;
	if (f->limit == UINT64_MAX)
		return;
	set_left(f, append ? st.st_size : 0);
	open_for_reading(f, keys_text(cfg, CHARDEV_KEY_FILE), &st);
}

int chardev_open_file(const struct keyvals *cfg, struct loop *loop, struct chardev **out,
		      struct err *err)
{
	const char *path = keys_text(cfg, CHARDEV_KEY_FILE);
	bool append = keys_num(cfg, CHARDEV_KEY_APPEND);
	/* O_NONBLOCK is for a FIFO: neither opening nor writing may wait for its reader. */
	int flags = O_WRONLY | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC |
		    (append ? O_APPEND : 0);
	struct chardev *chr;
	int rc;

	rc = chardev_new(cfg, loop, &file_ops, sizeof(struct file_sink), CHARDEV_RING_BYTES, &chr,
			 err, "file=%s", path);
	if (rc)
		return rc;
	((struct file_sink *)chr)->append = append;
	((struct file_sink *)chr)->read_fd = -1;
	chr->out_fd = open(path, flags | O_EXCL, 0600);
	if (chr->out_fd >= 0)
		((struct file_sink *)chr)->made = true;
	else if (errno == EEXIST)
		chr->out_fd = open(path, flags, 0600);
	if (chr->out_fd < 0) {
		rc = errno == ENXIO ? err_set(err, ENXIO,
					      "%s: a FIFO without a reader; start "
					      "the reader first",
					      chr->what) :
				      err_sys(err, errno, "%s", chr->what);
		chardev_close(chr);
		return rc;
	}
	/* The first byte waits for begin, in the loop's thread: it truncates, or keeps what was made. */
	chr->hold = !append || ((struct file_sink *)chr)->made;
	limit((struct file_sink *)chr, cfg, append);
	chardev_ignore_signal(SIGPIPE);
	*out = chr;
	return 0;
}
