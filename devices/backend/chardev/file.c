/*
 * chardev/file: output to a file, a FIFO or a terminal device. No input.
 */
#include "devices/backend/chardev/chardev_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

struct file_sink {
	struct chardev chr;
	bool made; /* open made the file, and nothing is written yet */
};

/*
 * Truncate the last run's output only now, when this run begins. FIFOs and devices refuse it with
 * EINVAL.
 */
static void file_begin(struct chardev *chr)
{
	((struct file_sink *)chr)->made = false;
	if (chr->hold && ftruncate(chr->out_fd, 0) && errno != EINVAL)
		chardev_fail(chr, errno);
	pthread_mutex_lock(&chr->lock);
	chr->hold = false;
	pthread_mutex_unlock(&chr->lock);
}

static void file_close(struct chardev *chr)
{
	/* A VM that was built but never ran leaves nothing behind. */
	if (((struct file_sink *)chr)->made)
		unlink(chr->describe + strlen("file="));
	if (chr->out_fd >= 0)
		close(chr->out_fd);
}

static const struct chardev_ops file_ops = { .begin = file_begin, .close = file_close };

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
	chr->hold = !append;
	chr->out_fd = open(path, flags | O_EXCL, 0666);
	if (chr->out_fd >= 0)
		((struct file_sink *)chr)->made = true;
	else if (errno == EEXIST)
		chr->out_fd = open(path, flags, 0666);
	if (chr->out_fd < 0) {
		rc = errno == ENXIO ? err_set(err, ENXIO,
					      "%s: a FIFO without a reader; start "
					      "the reader first",
					      chr->what) :
				      err_sys(err, errno, "%s", chr->what);
		chardev_close(chr);
		return rc;
	}
	chardev_ignore_signal(SIGPIPE);
	*out = chr;
	return 0;
}
