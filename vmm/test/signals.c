/*
 * test/signals: the signals of a test's process. See test_impl.h.
 *
 * All threads block them, and the loop reads them: no handler interrupts anything. Ctrl-C goes to the command
 * once, if one runs; the next one ends the test, as SIGTERM, SIGHUP and SIGQUIT do: the machine is stopped in
 * an orderly way, and the verdict is "interrupted". Another one ends the process at once, because a
 * machine may need long to end, and a reader of our output may never read. SIGUSR1 and SIGUSR2 do nothing.
 */
#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "devices/backend/chardev/chardev.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"
#include "vmm/core/thread.h"
#include "vmm/test/test_impl.h"

void test_interrupt(struct test *t, int signo)
{
	if (t->interrupted) {
		chardev_restore_terminal();
		log_end();
		_exit(128 + signo);
	}
	t->interrupted = signo;
	/* After the end only output still waits for its readers. */
	if (!t->gone)
		verdict_case_interrupted(test_verdict(t), signo);
	test_stop(t);
	test_hurry(t);
}

static void on_signal(struct test *t, int signo)
{
	bool runs = t->agent && t->agent->session.state == AGENT_RUNNING && !t->stopping;

	if (signo == SIGUSR1 || signo == SIGUSR2 || thread_signal_is_echo(signo))
		return;
	if (signo == SIGINT && runs && !t->interrupted_command) {
		t->interrupted_command = true;
		agent_session_signal(&t->agent->session, SIGINT);
		test_pump(t);
		return;
	}
	test_interrupt(t, signo);
}

static void on_readable(void *opaque, uint32_t events)
{
	struct test *t = opaque;
	struct signalfd_siginfo info;

	while (read(t->signal_fd, &info, sizeof(info)) == sizeof(info))
		on_signal(t, (int)info.ssi_signo);
}

int test_signals_begin(struct test *t, struct err *err)
{
	sigset_t set;
	int rc;

	thread_heard_signals(&set, false);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	t->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (t->signal_fd < 0)
		return err_sys(err, errno, "signalfd");
	rc = loop_watch_fd(t->loop, t->signal_fd, EPOLLIN, on_readable, t, &t->signals);
	return rc ? err_sys(err, -rc, "signalfd") : 0;
}

void test_signals_end(struct test *t)
{
	sigset_t set;

	loop_unwatch(t->signals);
	if (t->signal_fd >= 0)
		close(t->signal_fd);
	thread_heard_signals(&set, false);
	sigdelset(&set, SIGUSR1);
	sigdelset(&set, SIGUSR2);
	/* The signal that has ended the test may come once more (thread_signal_is_echo), before the reports are
	 * written; they take no longer than their limit. */
	if (t->interrupted)
		sigdelset(&set, t->interrupted);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}
