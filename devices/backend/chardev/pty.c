/*
 * chardev/pty: a pseudo-terminal, which a person or tool may open at any time.
 *
 * The slave side is not kept open here, so that the kernel reports when the last reader has gone
 * (EPOLLHUP on the master); inotify reports when one comes. Without a reader, output goes to the
 * replay ring alone.
 */
#include "devices/backend/chardev/chardev_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

struct pty {
	struct chardev chr;
	int master;
	int notify_fd;
	struct loop_watch *notify;
	char *link; /* set once we have made it */
	char slave[64];
};

static void pty_gone(struct chardev *chr)
{
	if (!chr->connected)
		return;
	chardev_connect(chr, false);
	chardev_unwatch(chr);
}

/* Loop's thread: a process has opened the slave. */
static void pty_opened(void *opaque, uint32_t events)
{
	struct pty *pty = opaque;
	struct chardev *chr = &pty->chr;
	char scrap[1024];
	struct winsize ws;

	while (read(pty->notify_fd, scrap, sizeof(scrap)) > 0)
		;
	if (chr->connected || chardev_watch_input(chr))
		return;
	chardev_connect(chr, true);
	if (chr->attached && chr->user.resized && !ioctl(pty->master, TIOCGWINSZ, &ws) && ws.ws_col)
		chr->user.resized(chr->user.opaque, ws.ws_col, ws.ws_row);
}

/* Watched only while the loop runs: a reader may have come before, or come now. */
static void pty_attached(struct chardev *chr)
{
	struct pty *pty = (struct pty *)chr;

	/* A failure leaves a pty that never gets a reader; the watch worked at open. */
	if (loop_watch_fd(chr->loop, pty->notify_fd, EPOLLIN, pty_opened, pty, &pty->notify))
		pty->notify = NULL;
}

static void pty_close(struct chardev *chr)
{
	struct pty *pty = (struct pty *)chr;
	char target[sizeof(pty->slave)];
	ssize_t n;

	loop_unwatch(pty->notify);
	if (pty->notify_fd >= 0)
		close(pty->notify_fd);
	if (pty->master >= 0)
		close(pty->master);
	if (pty->link) {
		n = readlink(pty->link, target, sizeof(target));
		if (n == (ssize_t)strlen(pty->slave) && !memcmp(target, pty->slave, (size_t)n))
			unlink(pty->link);
		free(pty->link);
	}
}

static const struct chardev_ops pty_ops = {
	.attached = pty_attached,
	.in_ended = pty_gone,
	.hangup = pty_gone,
	.close = pty_close,
};

static int make_link(struct pty *pty, const char *link, struct err *err)
{
	struct stat st;

	/* The link of a killed VM points nowhere: replace it. */
	if (!lstat(link, &st) && S_ISLNK(st.st_mode) && stat(link, &st) && errno == ENOENT)
		unlink(link);
	if (symlink(pty->slave, link))
		return err_sys(err, errno, "%s: cannot make the link %s", pty->chr.what, link);
	pty->link = strdup(link);
	if (!pty->link) {
		unlink(link);
		return err_sys(err, ENOMEM, "%s", pty->chr.what);
	}
	return 0;
}

static int open_master(struct pty *pty, struct err *err)
{
	struct chardev *chr = &pty->chr;
	struct termios tio;

	pty->master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (pty->master < 0 || grantpt(pty->master) || unlockpt(pty->master) ||
	    ptsname_r(pty->master, pty->slave, sizeof(pty->slave)))
		return err_sys(err, errno, "%s: cannot make a pseudo-terminal", chr->what);
	/* The slave's line discipline must not echo our output back as input. */
	if (!tcgetattr(pty->master, &tio)) {
		cfmakeraw(&tio);
		tcsetattr(pty->master, TCSANOW, &tio);
	}
	pty->notify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (pty->notify_fd < 0 || inotify_add_watch(pty->notify_fd, pty->slave, IN_OPEN) < 0)
		return err_sys(err, errno, "%s: cannot watch %s", chr->what, pty->slave);
	chr->in_fd = chr->out_fd = pty->master;
	chr->lossy = true;
	return 0;
}

int chardev_open_pty(const struct keyvals *cfg, struct loop *loop, struct chardev **out,
		     struct err *err)
{
	const char *link = keys_text(cfg, CHARDEV_KEY_LINK);
	struct chardev *chr;
	struct pty *pty;
	char *what;
	int rc;

	rc = chardev_new(cfg, loop, &pty_ops, sizeof(*pty), CHARDEV_REPLAY_BYTES, &chr, err, "pty");
	if (rc)
		return rc;
	pty = (struct pty *)chr;
	pty->master = pty->notify_fd = -1;
	rc = open_master(pty, err);
	if (!rc && link)
		rc = make_link(pty, link, err);
	if (!rc && asprintf(&what, "%s %s%s%s", chr->what, pty->slave, link ? " " : "",
			    link ? link : "") < 0)
		rc = err_sys(err, ENOMEM, "%s", chr->what);
	if (rc) {
		chardev_close(chr);
		return rc;
	}
	chr->describe = what + (chr->describe - chr->what);
	free(chr->what);
	chr->what = what;
	*out = chr;
	return 0;
}
