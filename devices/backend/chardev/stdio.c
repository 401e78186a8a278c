/*
 * chardev/stdio: the process's own stdin and stdout.
 *
 * Theory of operation. If stdin is a terminal, it goes raw, so that every key, Ctrl-C too, reaches
 * the guest; Ctrl-A is the way out. One static place keeps the terminal's old settings; exit, the
 * signals that kill, and SIGTSTP restore them from there. Only a process in the terminal's
 * foreground may change the terminal; a background process waits, and reads nothing, until it is in
 * the foreground.
 *
 * stdin and stdout are open file descriptions shared with other processes: O_NONBLOCK is never set
 * on them. Instead both are opened once more through /proc/self/fd, which gives descriptions of
 * our own; where the kernel refuses that, fd_now.h has what does not wait. Another process may read
 * stdin between epoll's word and our read, too.
 */
#include "devices/backend/chardev/chardev_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/core/fd_now.h"
#include "vmm/core/log.h"

#define ESCAPE 1u		   /* Ctrl-A */
#define FOREGROUND_NS 300000000ull /* how often a background process looks again */

struct stdio {
	struct chardev chr;
	bool tty_in;
	bool ignores_ttin;	       /* SIGTTIN was not ignored before: close restores that */
	int size_fd;		       /* the terminal whose size counts, -1: none */
	bool escape;		       /* Ctrl-A came last */
	struct loop_watch *foreground; /* timer */
	uint16_t cols, rows;
};

/* For signal handlers; one stdio sink at a time. */
static struct {
	struct stdio *owner;
	struct termios saved;
	volatile sig_atomic_t changed; /* we have made the terminal raw */
	volatile sig_atomic_t event_fd;
	volatile sig_atomic_t signalled; /* SIGWINCH or SIGCONT came */
	pthread_mutex_t lock;		 /* protects leaving; held around make_raw's tcsetattr */
	bool leaving;			 /* the process ends: the terminal stays as it was */
} term = { .event_fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER };

/* --- the terminal ---------------------------------------------------------- */

/*
 * tcgetpgrp fails (ENOTTY) if the terminal is not our session's: then no other job rules it.
 * Signal-safe.
 */
static bool in_foreground(void)
{
	pid_t pgrp = tcgetpgrp(STDIN_FILENO);

	return pgrp < 0 || pgrp == getpgrp();
}

static void set_terminal(const struct termios *tio)
{
	sigset_t ttou, old;

	/*
	 * Block SIGTTOU: if the shell takes the foreground right now, tcsetattr takes effect instead
	 * of stopping us (Linux, __tty_check_change).
	 */
	sigemptyset(&ttou);
	sigaddset(&ttou, SIGTTOU);
	pthread_sigmask(SIG_BLOCK, &ttou, &old);
	tcsetattr(STDIN_FILENO, TCSANOW, tio);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* Signal-safe: takes no lock. */
static void restore(void)
{
	int saved = errno;

	if (term.changed && in_foreground())
		set_terminal(&term.saved);
	term.changed = 0;
	errno = saved;
}

/* Any thread, but no signal handler. The loop's thread cannot make the terminal raw afterwards. */
void chardev_restore_terminal(void)
{
	pthread_mutex_lock(&term.lock);
	term.leaving = true;
	restore();
	pthread_mutex_unlock(&term.lock);
}

static void make_raw(void)
{
	struct termios tio = term.saved;

	pthread_mutex_lock(&term.lock);
	if (term.leaving) {
		pthread_mutex_unlock(&term.lock);
		return;
	}
	cfmakeraw(&tio);
	tio.c_cc[VMIN] = 1;
	tio.c_cc[VTIME] = 0;
	term.changed = 1; /* set first: a signal in between must find it */
	set_terminal(&tio);
	pthread_mutex_unlock(&term.lock);
	log_set_crlf(isatty(STDERR_FILENO));
}

/* --- signals --------------------------------------------------------------- */

static const int caught[] = { SIGWINCH, SIGCONT, SIGTSTP, SIGINT,  SIGTERM, SIGQUIT,
			      SIGHUP,	SIGABRT, SIGSEGV, SIGBUS,  SIGFPE,  SIGILL,
			      SIGSYS,	SIGPIPE, SIGALRM, SIGUSR1, SIGUSR2, SIGXCPU };
#define NCAUGHT (sizeof(caught) / sizeof(caught[0]))

static void wake_loop(void)
{
	uint64_t one = 1;
	int saved = errno;

	term.signalled = 1;
	if (term.event_fd >= 0 && write(term.event_fd, &one, sizeof(one)) < 0)
		errno = saved; /* the counter is full: the loop is awake already */
	errno = saved;
}

static void on_signal(int sig)
{
	switch (sig) {
	case SIGWINCH:
	case SIGCONT:
		wake_loop();
		break;
	case SIGTSTP:
		restore();
		kill(getpid(), SIGSTOP); /* SIGCONT makes the terminal raw again */
		break;
	default:
		restore();
		signal(sig, SIG_DFL);
		raise(sig);
	}
}

/* Only signals with the default effect: a program's own handlers, and ignored signals, stay. */
static void catch_signals(bool on)
{
	struct sigaction act = { .sa_handler = on ? on_signal : SIG_DFL };
	struct sigaction old;

	for (size_t i = 0; i < NCAUGHT; i++) {
		act.sa_flags = SA_RESTART;
		sigemptyset(&act.sa_mask);
		if (sigaction(caught[i], NULL, &old) || old.sa_flags & SA_SIGINFO)
			continue;
		if (old.sa_handler == (on ? SIG_DFL : on_signal))
			sigaction(caught[i], &act, NULL);
	}
}

/* --- the sink -------------------------------------------------------------- */

static void tell_size(struct stdio *io)
{
	struct winsize ws;
	struct chardev *chr = &io->chr;

	if (io->size_fd < 0 || !chr->attached || !chr->user.resized ||
	    ioctl(io->size_fd, TIOCGWINSZ, &ws))
		return;
	if (ws.ws_col == io->cols && ws.ws_row == io->rows)
		return;
	io->cols = ws.ws_col;
	io->rows = ws.ws_row;
	chr->user.resized(chr->user.opaque, ws.ws_col, ws.ws_row);
}

/* If the terminal is ours now, make it raw and read it; else read nothing and look again later. */
static void take_terminal(struct stdio *io)
{
	struct chardev *chr = &io->chr;
	bool ours = in_foreground();

	if (!chr->attached || !chr->begun)
		return;
	if (ours)
		make_raw();
	else
		loop_timer_arm(io->foreground, FOREGROUND_NS);
	chr->in_on = ours;
	chardev_update_events(chr);
}

/* A read in the background fails, because SIGTTIN, which would stop the whole VM, is ignored. */
static void stdio_in_ended(struct chardev *chr)
{
	if (in_foreground())
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

	if (!term.signalled)
		return;
	term.signalled = 0;
	if (io->tty_in)
		take_terminal(io);
	tell_size(io);
}

static void open_in(struct chardev *chr)
{
	struct stat st;

	chr->in_fd = STDIN_FILENO;
	if (fstat(STDIN_FILENO, &st) || S_ISREG(st.st_mode))
		return;
	if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))
		chr->in_fd = fd_open_again(STDIN_FILENO, O_RDONLY | O_NONBLOCK);
	chr->in_shared = chr->in_fd <= STDIN_FILENO;
	if (chr->in_shared)
		chr->in_fd = STDIN_FILENO;
}

static void stdio_start(struct chardev *chr)
{
	struct stdio *io = (struct stdio *)chr;

	open_in(chr);
	/* A closed stdin counts as a stdin at its end. */
	if (chardev_watch_input(chr) || io->tty_in)
		chr->in_on = false;
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
	restore();
	log_set_crlf(0);
}

/* flush calls it too, and at close no loop runs: then do not take the terminal. */
static void stdio_begin(struct chardev *chr)
{
	take_terminal((struct stdio *)chr);
}

static void escaped(struct stdio *io, uint8_t key)
{
	static const char help[] = "\r\nCtrl-A x  end the VM\r\nCtrl-A b  send a break (SysRq)\r\n"
				   "Ctrl-A Ctrl-A  send Ctrl-A\r\n";
	struct chardev *chr = &io->chr;

	switch (key) {
	case 'x':
	case 'X':
		kill(getpid(), SIGTERM); /* the same path as a SIGTERM from outside */
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
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (!io->escape && buf[i] == ESCAPE) {
			io->escape = true;
		} else if (io->escape && buf[i] != ESCAPE) {
			io->escape = false;
			escaped(io, buf[i]);
		} else {
			io->escape = false;
			buf[n++] = buf[i];
		}
	}
	return n;
}

static void stdio_close(struct chardev *chr)
{
	struct stdio *io = (struct stdio *)chr;

	if (io->tty_in) {
		catch_signals(false);
		if (io->ignores_ttin)
			signal(SIGTTIN, SIG_DFL);
		restore();
		log_set_crlf(0);
	}
	term.event_fd = -1;
	if (term.owner == io)
		term.owner = NULL;
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
	if (fstat(STDOUT_FILENO, &st) || S_ISREG(st.st_mode))
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
	return term.owner;
}

int chardev_open_stdio(const struct keyvals *cfg, struct loop *loop, struct chardev **out,
		       struct err *err)
{
	static bool at_exit;
	const struct chardev_ops *ops = &tty_ops;
	struct chardev *chr;
	struct stdio *io;
	bool tty;
	int rc;

	if (term.owner)
		return err_set(err, EBUSY,
			       "%s stdio: another option has stdio already; choose a "
			       "pty, a socket or off for one of them",
			       cfg->option);
	tty = !tcgetattr(STDIN_FILENO, &term.saved);
	if (!tty)
		ops = keys_num(cfg, CHARDEV_KEY_TTY) ? &output_ops : &pipe_ops;
	rc = chardev_new(cfg, loop, ops, sizeof(*io), CHARDEV_RING_BYTES, &chr, err, "stdio");
	if (rc)
		return rc;
	io = (struct stdio *)chr;
	term.owner = io;
	io->tty_in = tty;
	open_out(chr);
	io->size_fd = isatty(STDOUT_FILENO) ? STDOUT_FILENO : -1;
	if (io->tty_in && io->size_fd < 0)
		io->size_fd = STDIN_FILENO;
	chardev_ignore_signal(SIGPIPE);
	if (io->tty_in) {
		rc = loop_watch_timer(loop, look_again, io, &io->foreground);
		if (rc) {
			err_sys(err, -rc, "%s", chr->what);
			chardev_close(chr);
			return rc;
		}
		if (!at_exit)
			atexit(chardev_restore_terminal);
		at_exit = true;
		io->ignores_ttin = chardev_ignore_signal(SIGTTIN);
		term.signalled = 0;
		term.event_fd = chr->event_fd;
		catch_signals(true);
	}
	*out = chr;
	return 0;
}
