/*
 * chardev/stdio: the process's own stdin and stdout.
 *
 * Theory of operation. If stdin is a terminal, it goes raw (terminal.h), so that every key, Ctrl-C too,
 * reaches the guest; Ctrl-A is the way out. A background process waits, and reads nothing, until it is
 * in the foreground.
 *
 * stdin and stdout are open file descriptions shared with other processes: O_NONBLOCK is never set
 * on them. Instead both are opened once more through /proc/self/fd, which gives descriptions of
 * our own; where the kernel refuses that, fd_now.h has what does not wait. Another process may read
 * stdin between epoll's word and our read, too.
 */
#include "devices/backend/chardev/chardev_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/chardev/terminal.h"
#include "vmm/core/fd_now.h"
#include "vmm/core/fd_stat.h"
#include "vmm/errand/errand.h"

#define FOREGROUND_NS 300000000ull /* how often a background process looks again */

struct stdio {
	struct chardev chr;
	bool tty_in;
	int size_fd;		       /* the terminal whose size counts, -1: none */
	bool escape;		       /* Ctrl-A came last */
	struct loop_watch *foreground; /* timer */
	uint16_t cols, rows;
	unsigned end_left; /* characters of the end that the guest has not got */
};

static struct stdio *owner;	  /* one stdio sink at a time */
static atomic_bool keys_are_ours; /* owner reads a terminal; other threads ask */
static atomic_bool left;	  /* Ctrl-A x */

/* --- the sink -------------------------------------------------------------- */

static void tell_size(struct stdio *io)
{
	struct winsize ws;
	struct chardev *chr = &io->chr;

	if (io->size_fd < 0 || !chr->attached || ioctl(io->size_fd, TIOCGWINSZ, &ws))
		return;
	if (ws.ws_col == io->cols && ws.ws_row == io->rows)
		return;
	io->cols = ws.ws_col;
	io->rows = ws.ws_row;
	if (chr->user.resized)
		chr->user.resized(chr->user.opaque, ws.ws_col, ws.ws_row);
	else
		chardev_winsize_tell(ws.ws_col, ws.ws_row);
}

/* If the terminal is ours now, make it raw and read it; else read nothing and look again later. */
static void take_terminal(struct stdio *io)
{
	struct chardev *chr = &io->chr;
	bool ours;

	if (!chr->attached || !chr->begun)
		return;
	ours = chardev_terminal_take();
	if (!ours)
		loop_timer_arm(io->foreground, FOREGROUND_NS);
	chr->in_on = ours;
	chardev_update_events(chr);
}

/* A read in the background fails, because SIGTTIN, which would stop the whole VM, is ignored. */
static void stdio_in_ended(struct chardev *chr)
{
	if (chardev_terminal_foreground())
		return;
	chr->in_ended = false;
	take_terminal((struct stdio *)chr);
}

static void look_again(void *opaque)
{
	take_terminal(opaque);
}

static void stdio_poked(struct chardev *chr)
{
	struct stdio *io = (struct stdio *)chr;

	if (!chardev_terminal_signalled())
		return;
	if (io->tty_in)
		take_terminal(io);
	tell_size(io);
}

static void open_in(struct chardev *chr)
{
	struct stat st;

	chr->in_fd = STDIN_FILENO;
	if (fd_stat(STDIN_FILENO, &st) || S_ISREG(st.st_mode))
		return;
	if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))
		chr->in_fd = fd_open_again(STDIN_FILENO, O_RDONLY | O_NONBLOCK);
	chr->in_shared = chr->in_fd <= STDIN_FILENO;
	if (chr->in_shared)
		chr->in_fd = STDIN_FILENO;
}

/*
 * What reads a terminal in the guest learns of the end by its character; the second one is for input whose last line
 * has no end, of which the first one makes a line.
 */
static void say_end(struct chardev *chr)
{
	((struct stdio *)chr)->end_left = 2;
	chardev_wake(chr); /* nothing else may come that does */
}

/* The queue may have no room for both before the guest reads. */
static void end_looked(struct chardev *chr)
{
	static const uint8_t end[] = { 4, 4 };
	struct stdio *io = (struct stdio *)chr;

	if (io->end_left)
		io->end_left -= (unsigned)chardev_give(chr, end, io->end_left);
}

static void stdio_start(struct chardev *chr)
{
	struct stdio *io = (struct stdio *)chr;

	open_in(chr);
	/* A closed stdin counts as a stdin at its end. */
	if (chardev_watch_input(chr) || io->tty_in)
		chr->in_on = false;
	if (!chr->in_on && chr->ops->in_ended == say_end)
		say_end(chr);
	chardev_update_events(chr);
}

static void stdio_attached(struct chardev *chr)
{
	struct stdio *io = (struct stdio *)chr;

	io->cols = io->rows = 0;
	tell_size(io);
	if (io->tty_in)
		take_terminal(io);
}

/* Without a machine the terminal is as the user had it: Ctrl-C works. */
static void stdio_detached(struct chardev *chr)
{
	struct stdio *io = (struct stdio *)chr;

	chr->in_on = false;
	chardev_update_events(chr);
	loop_timer_arm(io->foreground, 0);
	chardev_terminal_give_back();
}

/* flush calls it too, and at close no loop runs: then do not take the terminal. */
static void stdio_begin(struct chardev *chr)
{
	take_terminal((struct stdio *)chr);
}

/* The same path as a SIGTERM from outside. */
static void end_process(void *opaque)
{
	kill(getpid(), SIGTERM);
}

static void escaped(void *opaque, uint8_t key)
{
	struct stdio *io = opaque;
	static const char help[] = "\r\nCtrl-A x  end the VM\r\nCtrl-A b  send a break (SysRq)\r\n"
				   "Ctrl-A Ctrl-A  send Ctrl-A\r\nCtrl-A ?  show these keys\r\n";
	struct chardev *chr = &io->chr;

	switch (key) {
	case 'x':
	case 'X':
		atomic_store(&left, true);
		/* The program's last line begins at the left. */
		if (io->size_fd == STDOUT_FILENO)
			chardev_write(chr, "\r\n", 2);
		errand_run(end_process, NULL);
		break;
	case 'b':
	case 'B':
		if (chr->attached && chr->user.send_break)
			chr->user.send_break(chr->user.opaque);
		break;
	case 'h':
	case '?':
		chardev_write(chr, help, sizeof(help) - 1);
		break;
	default:
		break;
	}
}

static size_t stdio_filter(struct chardev *chr, uint8_t *buf, size_t len)
{
	struct stdio *io = (struct stdio *)chr;

	return chardev_terminal_filter(&io->escape, buf, len, escaped, io);
}

static void stdio_close(struct chardev *chr)
{
	struct stdio *io = (struct stdio *)chr;

	if (io->tty_in)
		chardev_terminal_close();
	if (owner == io) {
		owner = NULL;
		atomic_store(&keys_are_ours, false);
	}
	loop_unwatch(io->foreground);
	if (chr->in_fd > STDERR_FILENO)
		close(chr->in_fd);
	if (chr->out_fd > STDERR_FILENO)
		close(chr->out_fd);
}

static const struct chardev_ops tty_ops = {
	.start = stdio_start,
	.attached = stdio_attached,
	.detached = stdio_detached,
	.begin = stdio_begin,
	.filter = stdio_filter,
	.poked = stdio_poked,
	.in_ended = stdio_in_ended,
	.close = stdio_close,
};

static const struct chardev_ops pipe_ops = {
	.start = stdio_start,
	.attached = stdio_attached,
	.close = stdio_close,
};

static const struct chardev_ops end_ops = {
	.start = stdio_start,
	.attached = stdio_attached,
	.in_ended = say_end,
	.looked = end_looked,
	.close = stdio_close,
};

static const struct chardev_ops output_ops = {
	.attached = stdio_attached,
	.close = stdio_close,
};

/* Open an fd for output that never waits, without changing what other processes share. */
static void open_out(struct chardev *chr)
{
	struct stat st;
	int fd;

	chr->out_fd = STDOUT_FILENO;
	chr->out_how = CHARDEV_OUT_WRITE;
	if (fd_stat(STDOUT_FILENO, &st) || S_ISREG(st.st_mode))
		return;
	if (S_ISSOCK(st.st_mode)) {
		chr->out_how = CHARDEV_OUT_SEND;
		return;
	}
	fd = fd_open_again(STDOUT_FILENO, O_WRONLY | O_NONBLOCK);
	if (fd >= 0)
		chr->out_fd = fd;
	else
		chr->out_how = CHARDEV_OUT_POLL;
}

bool chardev_stdio_taken(void)
{
	return owner;
}

bool chardev_stdio_keys(void)
{
	return atomic_load(&keys_are_ours);
}

bool chardev_stdio_left(void)
{
	return atomic_load(&left);
}

int chardev_open_stdio(const struct keyvals *cfg, struct loop *loop, struct chardev **out,
		       struct err *err)
{
	const struct chardev_ops *ops = &tty_ops;
	bool tty = isatty(STDIN_FILENO);
	struct chardev *chr;
	struct stdio *io;
	int rc;

	if (owner)
		return err_set(err, EBUSY,
			       "%s stdio: another option has stdio already; choose a "
			       "pty, a socket or off for one of them",
			       cfg->option);
	if (!tty)
		ops = keys_num(cfg, CHARDEV_KEY_TTY) ? &output_ops :
		      keys_num(cfg, CHARDEV_KEY_EOF) ? &end_ops :
						       &pipe_ops;
	rc = chardev_new(cfg, loop, ops, sizeof(*io), CHARDEV_RING_BYTES, &chr, err, "stdio");
	if (rc)
		return rc;
	io = (struct stdio *)chr;
	owner = io;
	open_out(chr);
	io->size_fd = isatty(STDOUT_FILENO) ? STDOUT_FILENO : -1;
	if (tty && io->size_fd < 0)
		io->size_fd = STDIN_FILENO;
	chardev_ignore_signal(SIGPIPE);
	if (tty) {
		rc = loop_watch_timer(loop, look_again, io, &io->foreground);
		if (rc) {
			err_sys(err, -rc, "%s", chr->what);
			chardev_close(chr);
			return rc;
		}
		io->tty_in = chardev_terminal_open(chr->event_fd);
		atomic_store(&keys_are_ours, io->tty_in);
	}
	*out = chr;
	return 0;
}
