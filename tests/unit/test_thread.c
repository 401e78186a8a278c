/* thread: kind, name and signals of the threads that thread_start starts. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/proc.h"
#include "vmm/core/thread.h"

#define STACK (128u << 10)

struct seen {
	enum thread_kind kind;
	char comm[32];
	sigset_t blocked;
};

static void *look(void *opaque)
{
	struct seen *seen = opaque;
	char path[64];
	FILE *f;

	seen->kind = thread_kind();
	pthread_sigmask(SIG_BLOCK, NULL, &seen->blocked);
	snprintf(path, sizeof(path), "/proc/self/task/%d/comm", gettid());
	f = fopen(path, "r");
	if (!f)
		return NULL;
	if (fgets(seen->comm, sizeof(seen->comm), f))
		seen->comm[strcspn(seen->comm, "\n")] = 0;
	fclose(f);
	return seen;
}

static struct seen start(enum thread_kind kind, const char *name)
{
	struct seen seen = { 0 };
	pthread_t thread;
	void *result;

	cr_assert_eq(thread_start(&thread, kind, name, STACK, look, &seen), 0);
	pthread_join(thread, &result);
	cr_assert_eq(result, &seen);
	return seen;
}

Test(thread, kind_and_name)
{
	static const struct {
		enum thread_kind kind;
		const char *name, *comm;
	} rows[] = {
		{ THREAD_VCPU, "vcpu12", "vcpu12" },
		{ THREAD_LOOP, "loop", "loop" },
		{ THREAD_IO, "_disk0_q0", "_disk0_q0" },
		{ THREAD_WORKER, "exactly15bytes_", "exactly15bytes_" },
		{ THREAD_HELPER, "a name of twenty-one.", "a name of twent" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct seen seen = start(rows[i].kind, rows[i].name);

		cr_expect_eq(seen.kind, rows[i].kind);
		cr_expect_str_eq(seen.comm, rows[i].comm);
	}
	cr_expect_eq(thread_kind(), THREAD_PROCESS);
}

Test(thread, names_of_a_device)
{
	static const struct {
		const char *id, *suffix, *name;
	} rows[] = {
		{ "_disk0", "_q0", "_disk0_q0" },
		{ "net0", "_qp0", "_net0_qp0" },
		{ "a-disk-with-a-name", "_aio", "_a-disk-wit_aio" },
		{ "__rng", "_q0", "__rng_q0" },
		{ NULL, "_worker", "worker" },
		{ "", "_worker", "worker" },
	};
	char name[THREAD_NAME_BYTES];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		thread_name_of(rows[i].id, rows[i].suffix, name);
		cr_expect_str_eq(name, rows[i].name);
	}
}

Test(thread, signals_go_to_the_first_thread)
{
	static const int blocked[] = { SIGTERM, SIGINT,	  SIGHUP,  SIGQUIT, SIGUSR1, SIGUSR2,
				       SIGCHLD, SIGWINCH, SIGTSTP, SIGCONT, SIGALRM, SIGPIPE };
	static const int open[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS, SIGABRT };
	struct seen seen = start(THREAD_WORKER, "worker");
	sigset_t here;

	for (size_t i = 0; i < sizeof(blocked) / sizeof(blocked[0]); i++)
		cr_expect(sigismember(&seen.blocked, blocked[i]), "%s", strsignal(blocked[i]));
	for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++)
		cr_expect(!sigismember(&seen.blocked, open[i]), "%s", strsignal(open[i]));
	cr_expect(!sigismember(&seen.blocked, SIGRTMIN + 1));
	pthread_sigmask(SIG_BLOCK, NULL, &here);
	cr_expect(!sigismember(&here, SIGTERM), "the caller's mask stays");
}

/* Of the signals that end a process, those that are ignored stay unheard, but for SIGTERM. */
Test(thread, ignored_signals_are_not_heard)
{
	static const struct {
		int signo;
		bool heard;	/* though it is ignored */
		bool interrupt; /* ... if an interrupt always is */
	} rows[] = {
		{ SIGINT, false, true }, { SIGHUP, false, false }, { SIGQUIT, false, false },
		{ SIGTERM, true, true }, { SIGUSR1, true, true },  { SIGUSR2, true, true },
	};
	sigset_t set;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++)
			signal(rows[k].signo, k == i ? SIG_IGN : SIG_DFL);
		for (int interrupt = 0; interrupt < 2; interrupt++) {
			bool want = interrupt ? rows[i].interrupt : rows[i].heard;

			thread_heard_signals(&set, interrupt);
			for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++)
				cr_expect_eq(sigismember(&set, rows[k].signo), k != i || want,
					     "%zu %zu %d", i, k, interrupt);
			cr_expect(!sigismember(&set, SIGPIPE));
		}
	}
}

Test(thread, refused)
{
	pthread_t thread;

	/* A stack larger than the address space: no thread, and nothing leaks. */
	cr_expect_lt(thread_start(&thread, THREAD_WORKER, "big", (size_t)1 << 60, look, NULL), 0);
}

/* As timeout(1) sends it, as a person does, and one of another kind between. */
Test(thread, a_signal_that_comes_again_at_once)
{
	cr_expect_not(thread_signal_is_echo(SIGTERM));
	cr_expect(thread_signal_is_echo(SIGTERM));
	cr_expect_not(thread_signal_is_echo(SIGINT));
	usleep(150000);
	cr_expect_not(thread_signal_is_echo(SIGINT));
}
