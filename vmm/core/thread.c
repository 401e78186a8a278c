/* thread: see thread.h. */
#include "vmm/core/thread.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "vmm/core/calls.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"

#define ECHO_NS (CLOCK_NS_PER_S / 10)

struct start {
	void *(*fn)(void *);
	void *opaque;
	enum thread_kind kind;
	char name[THREAD_NAME_BYTES];
};

static _Thread_local enum thread_kind kind_here;
static _Thread_local unsigned parts_here = CALLS_ALL;
static int (*confine_fn)(enum thread_kind kind);

/* The new thread names itself: this is one system call, and its parent does not wait for it. */
static void *thread_main(void *opaque)
{
	struct start start = *(struct start *)opaque;

	free(opaque);
	kind_here = start.kind;
	prctl(PR_SET_NAME, start.name);
	return start.fn(start.opaque);
}

static void blocked_signals(sigset_t *set)
{
	static const int open[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS, SIGTRAP, SIGABRT };

	sigfillset(set);
	for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++)
		sigdelset(set, open[i]);
	for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++)
		sigdelset(set, sig);
}

void thread_block_signals(void)
{
	sigset_t set;

	blocked_signals(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

int thread_start(pthread_t *out, enum thread_kind kind, const char *name, size_t stack_bytes,
		 void *(*fn)(void *), void *opaque)
{
	struct start *start = malloc(sizeof(*start));
	pthread_attr_t attr;
	sigset_t blocked;
	int rc;

	if (!start)
		return -ENOMEM;
	*start = (struct start){ .fn = fn, .opaque = opaque, .kind = kind };
	snprintf(start->name, sizeof(start->name), "%s", name);
	blocked_signals(&blocked);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, stack_bytes);
	rc = pthread_attr_setsigmask_np(&attr, &blocked);
	if (!rc)
		rc = pthread_create(out, &attr, thread_main, start);
	pthread_attr_destroy(&attr);
	if (rc)
		free(start);
	return -rc;
}

static bool is_ignored(int signo)
{
	struct sigaction now;

	return !sigaction(signo, NULL, &now) && !(now.sa_flags & SA_SIGINFO) &&
	       now.sa_handler == SIG_IGN;
}

void thread_heard_signals(sigset_t *set, bool interrupt)
{
	static const int always[] = { SIGTERM, SIGUSR1, SIGUSR2 };
	static const int unless_ignored[] = { SIGINT, SIGHUP, SIGQUIT };

	sigemptyset(set);
	for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
		sigaddset(set, always[i]);
	for (size_t i = 0; i < sizeof(unless_ignored) / sizeof(unless_ignored[0]); i++)
		if (!is_ignored(unless_ignored[i]))
			sigaddset(set, unless_ignored[i]);
	if (interrupt)
		sigaddset(set, SIGINT);
}

bool thread_signal_is_echo(int signo)
{
	static uint64_t last_ns;
	static int last;
	uint64_t now = clock_now_ns();
	bool echo = signo == last && now - last_ns < ECHO_NS;

	if (!echo)
		last_ns = now;
	last = signo;
	return echo;
}

void thread_become(enum thread_kind kind)
{
	kind_here = kind;
}

void thread_name_of(const char *id, const char *suffix, char name[THREAD_NAME_BYTES])
{
	const char *mark = id && id[0] != '_' ? "_" : "";
	size_t room = THREAD_NAME_BYTES - 1 - strlen(mark) - strlen(suffix);

	if (id && *id)
		snprintf(name, THREAD_NAME_BYTES, "%s%.*s%s", mark, (int)room, id, suffix);
	else
		snprintf(name, THREAD_NAME_BYTES, "%s", suffix + 1);
}

void thread_serve(unsigned parts)
{
	parts_here = parts;
}

unsigned thread_serves(void)
{
	return parts_here;
}

enum thread_kind thread_kind(void)
{
	return kind_here;
}

void thread_set_confine(int (*fn)(enum thread_kind kind))
{
	confine_fn = fn;
}

bool thread_confines(void)
{
	return confine_fn;
}

void thread_confine(void)
{
	char text[128];
	int rc = confine_fn ? confine_fn(kind_here) : 0;

	if (!rc)
		return;
	snprintf(text, sizeof(text), "cannot confine a thread: %s; --confine off runs without",
		 strerror(-rc));
	log_last(text);
	_exit(EXIT_FAILURE);
}
