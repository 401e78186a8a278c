/*
 * chardev/terminal: see terminal.h.
 *
 * Theory of operation. One static place keeps the terminal's old settings; exit, the signals that kill,
 * and SIGTSTP restore them from there. Only a process in the terminal's foreground may change the
 * terminal; a background process waits until it is in the foreground.
 */
#include "devices/backend/chardev/terminal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "devices/backend/chardev/chardev_impl.h"
#include "vmm/core/fd_rw.h"
#include "vmm/core/log.h"

#define ESCAPE 1u /* Ctrl-A */

/* For signal handlers; one owner at a time. */
static struct {
	bool open, ignores_ttin; /* SIGTTIN was not ignored before: close restores that */
	pid_t pgrp; /* ours: only a process itself changes its group once it has called exec */
	struct termios saved;
	volatile sig_atomic_t changed; /* we have made the terminal raw */
	volatile sig_atomic_t event_fd;
	volatile sig_atomic_t signalled; /* SIGWINCH or SIGCONT came */
	pthread_mutex_t lock;		 /* protects leaving; held around make_raw's tcsetattr */
	bool leaving;			 /* the process ends: the terminal stays as it was */
} term = { .event_fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER };

/*
 * tcgetpgrp fails (ENOTTY) if the terminal is not our session's: then no other job rules it.
 * Signal-safe.
 */
bool chardev_terminal_foreground(void)
{
	pid_t pgrp = tcgetpgrp(STDIN_FILENO);

	return pgrp < 0 || pgrp == term.pgrp;
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

	if (term.changed && chardev_terminal_foreground())
		set_terminal(&term.saved);
	term.changed = 0;
	errno = saved;
}

void chardev_restore_terminal_in_handler(void)
{
	restore();
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
	int saved = errno;

	term.signalled = 1;
	if (term.event_fd >= 0)
		fd_rw_wake(term.event_fd);
	errno = saved;
}

static bool is_fault(int sig)
{
	return sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL;
}

static void on_signal(int sig, siginfo_t *info, void *context)
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
	default: /* its effect is the default one again: a fault comes back */
		restore();
		if (!(is_fault(sig) && info->si_code > 0))
			raise(sig);
	}
}

static bool kills(int sig)
{
	return sig != SIGWINCH && sig != SIGCONT && sig != SIGTSTP;
}

/* Only signals with the default effect: a program's own handlers, and ignored signals, stay. */
static void catch_signals(bool on)
{
	struct sigaction act = { .sa_handler = SIG_DFL }, old;

	for (size_t i = 0; i < NCAUGHT; i++) {
		bool ours;

		if (sigaction(caught[i], NULL, &old))
			continue;
		ours = old.sa_flags & SA_SIGINFO && old.sa_sigaction == on_signal;
		if (on) {
			act.sa_sigaction = on_signal;
			act.sa_flags = SA_SIGINFO |
				       (kills(caught[i]) ? (int)SA_RESETHAND : SA_RESTART);
		}
		sigemptyset(&act.sa_mask);
		if (on ? !(old.sa_flags & SA_SIGINFO) && old.sa_handler == SIG_DFL : ours)
			sigaction(caught[i], &act, NULL);
	}
}

/* --- its owner -------------------------------------------------------------- */

bool chardev_terminal_open(int event_fd)
{
	static bool at_exit;

	term.pgrp = getpgrp();
	if (term.open || tcgetattr(STDIN_FILENO, &term.saved))
		return false;
	term.open = true;
	if (!at_exit)
		atexit(chardev_restore_terminal);
	at_exit = true;
	term.ignores_ttin = chardev_ignore_signal(SIGTTIN);
	term.signalled = 0;
	term.event_fd = event_fd;
	catch_signals(true);
	return true;
}

void chardev_terminal_close(void)
{
	if (!term.open)
		return;
	catch_signals(false);
	if (term.ignores_ttin)
		signal(SIGTTIN, SIG_DFL);
	chardev_terminal_give_back();
	term.event_fd = -1;
	term.open = false;
}

bool chardev_terminal_take(void)
{
	if (!chardev_terminal_foreground())
		return false;
	make_raw();
	return true;
}

void chardev_terminal_give_back(void)
{
	restore();
	log_set_crlf(0);
}

bool chardev_terminal_signalled(void)
{
	if (!term.signalled)
		return false;
	term.signalled = 0;
	return true;
}

size_t chardev_terminal_filter(bool *escape, uint8_t *buf, size_t len,
			       void (*key)(void *opaque, uint8_t key), void *opaque)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (!*escape && buf[i] == ESCAPE) {
			*escape = true;
		} else if (*escape && buf[i] != ESCAPE) {
			*escape = false;
			key(opaque, buf[i]);
		} else {
			*escape = false;
			buf[n++] = buf[i];
		}
	}
	return n;
}
