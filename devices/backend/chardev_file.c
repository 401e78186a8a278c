/*
 * chardev_file: output to a file, a FIFO or a terminal device. No input.
 */
#include "devices/backend/chardev_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

/* The last run's output goes only when this one begins. FIFOs and devices refuse, rightly. */
static void file_begin(struct chardev *chr)
{
	if (chr->hold && ftruncate(chr->out_fd, 0) && errno != EINVAL)
		chardev_fail(chr, errno);
	pthread_mutex_lock(&chr->lock);
	chr->hold = false;
	pthread_mutex_unlock(&chr->lock);
}

static void file_close(struct chardev *chr)
{
	if (chr->out_fd >= 0)
		close(chr->out_fd);
}

static const struct chardev_ops file_ops = { .begin = file_begin, .close = file_close };

int chardev_open_file(const struct keyvals *cfg, struct loop *loop, struct chardev **out,
		      struct err *err)
{
	const char *path = keys_text(cfg, CHARDEV_KEY_FILE);
	bool append = keys_num(cfg, CHARDEV_KEY_APPEND);
	struct chardev *chr;
	int rc;

	rc = chardev_new(cfg, loop, &file_ops, sizeof(*chr), CHARDEV_RING_BYTES, &chr, err,
			 "file=%s", path);
	if (rc)
		return rc;
	chr->hold = !append;
	/* O_NONBLOCK is for a FIFO: neither opening nor writing may wait for its reader. */
	chr->out_fd = open(path, O_WRONLY | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC |
				 (append ? O_APPEND : 0), 0666);
	if (chr->out_fd < 0) {
		rc = errno == ENXIO ? err_set(err, ENXIO, "%s: a FIFO that nobody reads; start "
					      "its reader first", chr->what) :
				      err_sys(err, errno, "%s", chr->what);
		chardev_close(chr);
		return rc;
	}
	chardev_ignore_signal(SIGPIPE);
	chardev_ignore_signal(SIGXFSZ);
	*out = chr;
	return 0;
}
