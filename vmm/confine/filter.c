/*
 * filter: see filter.h.
 *
 * Theory of operation. A thread loads its filter when nothing is left for it to make: a vCPU before KVM_RUN, a loop
 * before it runs, a worker before its first work (load.h).
 *
 * What is not on the list gets SECCOMP_RET_TRAP, not KILL_PROCESS: the call is not made either way, and the handler of
 * SIGSYS can say which one it was. A thread that has been taken over cannot keep the handler from running (the
 * kernel unblocks a SIGSYS of its own, or kills), nor set another one (rt_sigaction refuses SIGSYS). The handler
 * uses pwritev2 and exit_group, and what gives a terminal back if there is one, which are on every list.
 */
#include "vmm/confine/filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/confine/confine.h"
#include "vmm/confine/filter_table.h"
#include "vmm/confine/load.h"
#include "vmm/core/calls.h"
#include "vmm/core/fd_rw.h"
#include "vmm/core/log.h"

#include "filters.inc"

#define EXIT_REFUSED (128 + SIGSYS)

/* Only UBSan makes no calls of its own before it ends the process. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

/* Set once, before there are threads. */
static struct {
	int (*rights)(void);
	void (*at_refusal)(void);
	bool filters, only_log, required;
	unsigned lacks; /* CALLS_… that no thread needs */
	atomic_bool told;
} confine;

/* Appends text, then value in decimal if it is not negative. Signal-safe. */
static size_t append(char *line, size_t at, const char *text, int value)
{
	char digits[12];
	unsigned n = 0;

	while (*text)
		line[at++] = *text++;
	if (value < 0)
		return at;
	do
		digits[n++] = (char)('0' + value % 10);
	while (value /= 10);
	while (n)
		line[at++] = digits[--n];
	return at;
}

static const char *name_of(enum thread_kind kind)
{
	switch (kind) {
	case THREAD_VCPU:
		return "vCPU";
	case THREAD_LOOP:
		return "loop";
	case THREAD_IO:
		return "I/O";
	case THREAD_WORKER:
		return "worker";
	case THREAD_PROCESS:
		return "signals";
	case THREAD_API:
		return "API";
	case THREAD_EXECUTOR:
		return "executor";
	case THREAD_TEST:
		return "test";
	case THREAD_MACHINE:
		return "machine";
	default:
		return "other";
	}
}

static void on_refused(int sig, siginfo_t *info, void *context)
{
	char line[160];
	size_t n = append(line, 0, "bantam: confine: refused system call ", info->si_syscall);

	n = append(line, n, " of a thread of the kind ", -1);
	n = append(line, n, name_of(thread_kind()), -1);
	n = append(line, n, "; the process ends\n", -1);
	(void)!fd_rw_write(STDERR_FILENO, line, n);
	if (confine.at_refusal)
		confine.at_refusal();
	/* Not _exit: before a function that does not return, ASan makes calls of its own. */
	syscall(SYS_exit_group, EXIT_REFUSED);
}

void confine_at_refusal(void (*fn)(void))
{
	confine.at_refusal = fn;
}

/* A program that started bantam may have blocked it, which would take the handler its chance. */
static int hear_refusals(void)
{
	struct sigaction act = { .sa_sigaction = on_refused, .sa_flags = SA_SIGINFO };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGSYS);
	if (sigaction(SIGSYS, &act, NULL))
		return -errno;
	return -pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

int confine_filter_load(enum thread_kind kind, bool only_log)
{
	const struct filter *f;
	int rc;

	if ((size_t)kind >= sizeof(filters) / sizeof(filters[0]))
		return 0;
	f = &filters[kind][thread_serves() & ~confine.lacks];
	if (!f->len)
		return 0;
	rc = only_log ? 0 : hear_refusals();
	return rc ? rc :
		    confine_load(filter_insn + f->first, f->len,
				 only_log ? SECCOMP_RET_LOG : SECCOMP_RET_TRAP);
}

static int confine_thread(enum thread_kind kind)
{
	int rc = confine.rights();

	if (rc || !confine.filters)
		return rc;
	rc = confine_filter_load(kind, confine.only_log);
	if (!rc || confine.required)
		return rc;
	if (!atomic_exchange(&confine.told, true))
		log_put(LOG_WARN, "this host refuses the filter of a thread (%s); it runs without",
			strerror(-rc));
	return 0;
}

int confine_filters(bool only_log, bool required, unsigned lacks, int (*rights)(void))
{
	uint32_t action = only_log ? SECCOMP_RET_LOG : SECCOMP_RET_TRAP;
	int rc = syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) ? -errno : 0;

	confine.rights = rights;
	confine.filters = !rc && !SANITIZED;
	confine.only_log = only_log;
	confine.required = required;
	confine.lacks = lacks & CALLS_ALL;
	thread_set_confine(confine_thread);
	return rc;
}
