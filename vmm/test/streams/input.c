/*
 * test/input: see input.h.
 *
 * Theory of operation. stdin's file description is shared with other processes, so its O_NONBLOCK stays as it is: a
 * pipe or terminal is opened once more, a socket is read with MSG_DONTWAIT; fd_now.h has the rest. While "ready" is
 * set the loop does not watch it, so input that the session does not want yet costs no turns; a read that finds
 * nothing begins to watch again. epoll refuses regular files and /dev/null, which are always ready.
 */
#include "vmm/test/streams/input.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/core/fd_now.h"
#include "vmm/core/fd_stat.h"
#include "vmm/core/log.h"

#define FOREGROUND_NS 300000000ull /* how often a background process looks again */

struct test_input {
	struct test_input_owner owner;
	int fd;
	bool own;			      /* fd is ours to close */
	enum { READ, RECEIVE, READ_NOW } how; /* READ: non-blocking, or always ready */
	bool terminal, ignores_ttin;
	bool always; /* epoll refuses it */
	bool ready, over;
	struct loop_watch *watch, *soon, *again; /* again: timer */
};

static void become_ready(void *opaque)
{
	struct test_input *in = opaque;

	if (in->over || in->ready)
		return;
	in->ready = true;
	if (in->watch)
		loop_watch_events(in->watch, 0);
	in->owner.ready(in->owner.opaque);
}

static void on_readable(void *opaque, uint32_t events)
{
	become_ready(opaque);
}

static void end(struct test_input *in)
{
	if (in->over)
		return;
	test_input_stop(in);
	in->owner.ended(in->owner.opaque);
}

/* The first turn of the loop: what is at its end, or always ready, says so by itself. */
static void begin(void *opaque)
{
	struct test_input *in = opaque;

	if (in->fd < 0)
		end(in);
	else if (in->always)
		become_ready(in);
}

static void watch_again(struct test_input *in)
{
	in->ready = false;
	loop_watch_events(in->watch, EPOLLIN);
}

/* tcgetpgrp fails if the terminal is not our session's: then no other job rules it. */
static bool in_background(const struct test_input *in)
{
	pid_t pgrp = in->terminal ? tcgetpgrp(in->fd) : -1;

	return pgrp >= 0 && pgrp != getpgrp();
}

/* --- opening ------------------------------------------------------------------------------- */

static void open_source(struct test_input *in, int fd)
{
	struct sigaction old;
	struct stat st;

	in->fd = -1;
	if (fd_stat(fd, &st) || (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY)
		return;
	in->fd = fd;
	in->terminal = isatty(fd);
	if (S_ISSOCK(st.st_mode)) {
		in->how = RECEIVE;
	} else if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		int again = fd_open_again(fd, O_RDONLY | O_NONBLOCK);

		in->own = again >= 0;
		in->how = again < 0 ? READ_NOW : READ;
		in->fd = again < 0 ? fd : again;
	}
	/* A read in the background fails then, and does not stop the process, and with it the test. */
	in->ignores_ttin = in->terminal && !sigaction(SIGTTIN, NULL, &old) &&
			   !(old.sa_flags & SA_SIGINFO) && old.sa_handler == SIG_DFL;
	if (in->ignores_ttin)
		signal(SIGTTIN, SIG_IGN);
}

int test_input_create(struct loop *loop, int fd, const struct test_input_owner *owner,
		      struct test_input **out, struct err *err)
{
	struct test_input *in = calloc(1, sizeof(*in));
	int rc;

	*out = NULL;
	if (!in)
		return err_sys(err, ENOMEM, "cannot read stdin");
	in->owner = *owner;
	open_source(in, fd);
	rc = loop_watch_event(loop, begin, in, &in->soon, NULL);
	if (!rc)
		rc = loop_watch_timer(loop, become_ready, in, &in->again);
	if (!rc && in->fd >= 0) {
		rc = loop_watch_fd(loop, in->fd, EPOLLIN, on_readable, in, &in->watch);
		in->always = rc == -EPERM;
		rc = in->always ? 0 : rc;
	}
	if (rc) {
		test_input_destroy(in);
		return err_sys(err, -rc, "cannot read stdin");
	}
	loop_event_soon(in->soon);
	*out = in;
	return 0;
}

void test_input_destroy(struct test_input *in)
{
	if (!in)
		return;
	loop_unwatch(in->watch);
	loop_unwatch(in->soon);
	loop_unwatch(in->again);
	if (in->ignores_ttin)
		signal(SIGTTIN, SIG_DFL);
	if (in->own)
		close(in->fd);
	free(in);
}

bool test_input_is_over(const struct test_input *in)
{
	return in->over;
}

void test_input_stop(struct test_input *in)
{
	in->over = true;
	loop_timer_arm(in->again, 0);
	if (in->watch)
		loop_watch_events(in->watch, 0);
}

/* --- reading ---------------------------------------------------------------------------------- */

static ssize_t read_some(const struct test_input *in, uint8_t *buf, size_t max)
{
	struct iovec iov = { buf, max };
	ssize_t n;

	do {
		if (in->how == RECEIVE)
			n = recv(in->fd, buf, max, MSG_DONTWAIT);
		else if (in->how == READ_NOW && !in->always)
			n = fd_read_now(in->fd, &iov, 1);
		else
			n = read(in->fd, buf, max);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

size_t test_input_read(struct test_input *in, uint8_t *buf, size_t max)
{
	while (max && in->ready && !in->over) {
		ssize_t n = read_some(in, buf, max);

		if (n > 0) {
			size_t len = in->owner.filter ?
					     in->owner.filter(in->owner.opaque, buf, (size_t)n) :
					     (size_t)n;

			if (len)
				return len;
		} else if (n == -EAGAIN && in->watch) {
			watch_again(in);
		} else if (n == -EIO && in_background(in)) {
			in->ready = false;
			loop_timer_arm(in->again, FOREGROUND_NS);
		} else {
			if (n < 0 && n != -EIO)
				log_put(LOG_WARN, "stdin: %s; the command's input ends here",
					strerror((int)-n));
			end(in);
		}
	}
	return 0;
}
