/*
 * chardev/pty: a pseudo-terminal, which a person or tool may open at any time.
 *
 * The slave side is not kept open here, so that the kernel reports when the last reader has gone
 * (EPOLLHUP on the master); inotify reports when one comes. Without a reader, output goes to the
 * replay ring alone. A user may have few inotify instances (128 by default, less than VMs on a large
 * host): without one, a timer looks for readers.
 */
#include "devices/backend/chardev/chardev_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/core/fd_rw.h"
#include "vmm/core/log.h"
#include "vmm/errand/errand.h"

#define LOOK_NS 250000000ull

struct pty {
	struct chardev chr;
	int master;
	int notify_fd;	  /* -1: look by the timer */
	unsigned readers; /* open descriptors of the slave, at least */
	bool none;	  /* the last one has closed, and the master's hang-up has not come yet */
	struct loop_watch *notify;
	struct loop_watch *look;
	char *link; /* set once we have made it */
	char slave[64];
};

/*
 * The slave's line discipline must not echo our output back as input. Output that no reader has read
 * is discarded, from the tty's buffer and from the line discipline's.
 */
static void make_raw(void *opaque)
{
	struct pty *pty = opaque;
	struct termios tio;

	if (tcgetattr(pty->master, &tio))
		return;
	cfmakeraw(&tio);
	tcflush(pty->master, TCOFLUSH);
	tcsetattr(pty->master, TCSAFLUSH, &tio);
}

/*
 * Leave nothing of this reader to the next one: neither its settings nor the output that it did not
 * read, which the next one gets from the ring.
 */
static void pty_gone(struct chardev *chr)
{
	struct pty *pty = (struct pty *)chr;

	if (!chr->in_watch)
		return;
	chardev_connect(chr, false);
	chardev_unwatch(chr);
	pty->readers = 0;
	pty->none = false;
	errand_run(make_raw, pty);
	if (pty->look)
		loop_timer_arm(pty->look, LOOK_NS);
}

static void pty_attached(struct chardev *chr)
{
	struct pty *pty = (struct pty *)chr;
	struct winsize ws;

	if (chr->attached && chr->connected && chr->user.resized &&
	    !ioctl(pty->master, TIOCGWINSZ, &ws) && ws.ws_col)
		chr->user.resized(chr->user.opaque, ws.ws_col, ws.ws_row);
}

/* A process has opened the slave. */
static void reader_came(struct pty *pty)
{
	struct chardev *chr = &pty->chr;

	if (chr->connected)
		return;
	/* The last one has left input behind that the guest has not taken yet. */
	chardev_unwatch(chr);
	if (chardev_watch_input(chr))
		return;
	chardev_connect(chr, true);
	chardev_update_events(chr);
	pty_attached(chr);
}

static bool has_reader(const struct pty *pty)
{
	struct pollfd pfd = { .fd = pty->master };

	return !poll(&pfd, 1, 0);
}

/*
 * Counts readers. Returns true if one has come after a moment in which there was none: it may have come
 * so fast that the master's hang-up did not show. The end and the next beginning may come in two calls,
 * and the kernel reports a close before the slave is closed, so only the next open tells. The kernel merges
 * equal events, so the count may be too small; then a reader gets the kept output once more.
 */
static bool count_readers(struct pty *pty)
{
	struct inotify_event ev[16]; /* one watch on a file: no names */
	bool replaced = false;
	ssize_t n;

	while ((n = fd_rw_read(pty->notify_fd, ev, sizeof(ev))) > 0) {
		for (size_t i = 0; i < (size_t)n / sizeof(ev[0]); i++) {
			if (ev[i].mask & IN_OPEN) {
				pty->readers++;
				replaced |= pty->none;
				pty->none = false;
			} else if (ev[i].mask & IN_CLOSE && pty->readers) {
				pty->none = !--pty->readers;
			}
		}
	}
	return replaced;
}

static void on_notify(void *opaque, uint32_t events)
{
	struct pty *pty = opaque;
	bool replaced = count_readers(pty) && has_reader(pty);

	if (replaced && pty->chr.connected) {
		chardev_connect(&pty->chr, false);
		errand_run(make_raw, pty);
	}
	/* One that came before the watch shows only by being there. */
	if (pty->readers || replaced || (!pty->chr.connected && has_reader(pty)))
		reader_came(pty);
}

static void look_for_reader(void *opaque)
{
	struct pty *pty = opaque;

	if (has_reader(pty))
		reader_came(pty);
	if (!pty->chr.connected)
		loop_timer_arm(pty->look, LOOK_NS);
}

/* Watched only while the loop runs: a reader may have come before, or come now. */
static void pty_start(struct chardev *chr)
{
	struct pty *pty = (struct pty *)chr;

	/* A failure leaves a pty that never gets a reader; the watch worked at open. */
	if (pty->look)
		loop_timer_arm(pty->look, LOOK_NS);
	else if (loop_watch_fd(chr->loop, pty->notify_fd, EPOLLIN, on_notify, pty, &pty->notify))
		pty->notify = NULL;
}

/*
 * What the reader has not read, the kernel discards when the master closes. The kernel counts only what
 * has come through to the line discipline, at some time after the write; a poll of the slave waits for that.
 */
static size_t pty_unread(const struct chardev *chr)
{
	const struct pty *pty = (const struct pty *)chr;
	struct pollfd slave = { .events = POLLIN };
	int n = 0;

	if (pty->master < 0 || !chr->connected || !has_reader(pty))
		return 0;
	slave.fd = ioctl(pty->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave.fd < 0)
		return 0;
	poll(&slave, 1, 0);
	if (ioctl(slave.fd, FIONREAD, &n))
		n = 0;
	close(slave.fd);
	return (size_t)n;
}

static void pty_close(struct chardev *chr)
{
	struct pty *pty = (struct pty *)chr;
	char target[sizeof(pty->slave)];
	ssize_t n;

	loop_unwatch(pty->notify);
	loop_unwatch(pty->look);
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
	.start = pty_start,
	.attached = pty_attached,
	.in_ended = pty_gone,
	.hangup = pty_gone,
	.unread = pty_unread,
	.close = pty_close,
};

static bool later(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

/*
 * A VM that was killed leaves its link behind. It leads nowhere, or to a terminal that has got the same
 * number since: to ours, if the next VM is the next to make one, or to one of another program, which is
 * younger than the link. The times are of the same clock if the link's file system is of this host.
 */
static bool is_stale(const struct pty *pty, const char *link)
{
	char target[sizeof(pty->slave)];
	ssize_t n = readlink(link, target, sizeof(target));
	struct stat st, made;

	if (n < 0)
		return false;
	if (n == (ssize_t)strlen(pty->slave) && !memcmp(target, pty->slave, (size_t)n))
		return true;
	if (stat(link, &st))
		return errno == ENOENT;
	return S_ISCHR(st.st_mode) && n > 9 && !memcmp(target, "/dev/pts/", 9) &&
	       !lstat(link, &made) && later(&st.st_ctim, &made.st_mtim);
}

static int make_link(struct pty *pty, const char *link, struct err *err)
{
	char target[sizeof(pty->slave)];
	ssize_t n;

	if (is_stale(pty, link))
		unlink(link);
	if (symlink(pty->slave, link)) {
		int error = errno;

		n = error == EEXIST ? readlink(link, target, sizeof(target)) : -1;
		if (n < 0)
			return err_sys(err, error, "%s: cannot make the link %s", pty->chr.what,
				       link);
		return err_set(err, error,
			       "%s: cannot make the link %s: it leads to %.*s, which is there; "
			       "if that is not another VM's, remove the link",
			       pty->chr.what, link, (int)n, target);
	}
	pty->link = strdup(link);
	if (!pty->link) {
		unlink(link);
		return err_sys(err, ENOMEM, "%s", pty->chr.what);
	}
	return 0;
}

/* The kernel reports the end of the last reader, but no end before the first one. */
static int look_by_timer(struct pty *pty)
{
	int slave = open(pty->slave, O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (slave < 0)
		return -errno;
	close(slave);
	return loop_watch_timer(pty->chr.loop, look_for_reader, pty, &pty->look);
}

static int watch_for_readers(struct pty *pty)
{
	pty->notify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (pty->notify_fd < 0)
		return look_by_timer(pty);
	if (inotify_add_watch(pty->notify_fd, pty->slave, IN_OPEN | IN_CLOSE) >= 0) {
		/* A process that found a dead VM's link may be the first reader already: the end of
		 * this one makes on_notify look whether there is another. */
		close(open(pty->slave, O_RDWR | O_NOCTTY | O_CLOEXEC));
		return 0;
	}
	close(pty->notify_fd);
	pty->notify_fd = -1;
	return look_by_timer(pty);
}

static int open_master(struct pty *pty, struct err *err)
{
	struct chardev *chr = &pty->chr;
	int rc;

	pty->master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (pty->master < 0 || grantpt(pty->master) || unlockpt(pty->master) ||
	    ptsname_r(pty->master, pty->slave, sizeof(pty->slave)))
		return err_sys(err, errno, "%s: cannot make a pseudo-terminal", chr->what);
	make_raw(pty);
	rc = watch_for_readers(pty);
	if (rc)
		return err_sys(err, -rc, "%s: cannot watch %s", chr->what, pty->slave);
	chr->terminal = pty->slave;
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
