/*
 * startup: how long until the guest's first instruction shows, side by side.
 *
 *   startup ROUNDS LABEL COMMAND [LABEL COMMAND …]
 *
 * Each COMMAND (words split at blanks, no shell) starts a monitor whose guest
 * writes '!' to its serial port as its first act; the byte arrives on the
 * monitor's stdout. Time runs from just before the child's exec to the byte;
 * then the monitor is killed, and the CPU time of its whole life is read. The
 * commands take turns (A B C A B C …) so that a busy host hurts all alike. A
 * last round under ptrace counts the system calls of all threads until the byte.
 * Output, one line per command: label, then medians: ms, CPU ms, system calls.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_COMMANDS 8
#define MAX_ROUNDS 1000
#define MAX_WORDS 96
#define TIMEOUT_MS 20000

static char *words[MAX_COMMANDS][MAX_WORDS + 1];
static double wall_ms[MAX_COMMANDS][MAX_ROUNDS], cpu_ms[MAX_COMMANDS][MAX_ROUNDS];

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double *v, int n)
{
	qsort(v, (size_t)n, sizeof(*v), compare);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* Starts a command; its stdout is *out, its stdin a pipe that stays silent. */
static pid_t start(char **argv, bool trace, int *out, int *in)
{
	int o[2], i[2];

	if (pipe2(o, O_CLOEXEC) || pipe2(i, O_CLOEXEC))
		exit(2);
	pid_t pid = trace ? fork() : vfork();
	if (pid == 0) {
		dup2(i[0], 0);
		dup2(o[1], 1);
		if (trace)
			raise(SIGSTOP);
		execv(argv[0], argv);
		_exit(127);
	}
	close(o[1]);
	close(i[0]);
	*out = o[0];
	*in = i[1];
	return pid;
}

/* Waits for '!' on fd. */
static bool first_byte(int fd)
{
	double end = now_ms() + TIMEOUT_MS;
	char c = 0;

	while (c != '!') {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		double left = end - now_ms();
		if (left <= 0 || poll(&p, 1, (int)left + 1) <= 0 || read(fd, &c, 1) != 1)
			return false;
	}
	return true;
}

static bool run_once(int which, int round)
{
	struct rusage ru;
	int out, in, status;
	double begin = now_ms();
	pid_t pid = start(words[which], false, &out, &in);
	bool ok = first_byte(out);

	wall_ms[which][round] = now_ms() - begin;
	kill(pid, SIGKILL);
	if (wait4(pid, &status, 0, &ru) != pid)
		ok = false;
	cpu_ms[which][round] = (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1e3 +
			       (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e3;
	close(out);
	close(in);
	return ok;
}

/* System calls begun by the process and its threads until the byte; -1 on failure. */
static long count_calls(char **argv)
{
	int out, in, status;
	long calls = 0;
	pid_t pid = start(argv, true, &out, &in);
	bool seen = false;

	if (waitpid(pid, &status, WUNTRACED) != pid ||
	    ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE |
		   PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_EXITKILL))
		calls = -1;
	kill(pid, SIGCONT);
	while (calls >= 0 && !seen) {
		pid_t t = waitpid(-1, &status, __WALL);
		struct pollfd p = { .fd = out, .events = POLLIN };
		char c;

		if (t < 0)
			break;
		seen = poll(&p, 1, 0) == 1 && read(out, &c, 1) == 1 && c == '!';
		if (!WIFSTOPPED(status))
			continue;
		int sig = WSTOPSIG(status), event = status >> 16;
		if (sig == (SIGTRAP | 0x80)) {
			/* 1: PTRACE_SYSCALL_INFO_ENTRY, which <sys/ptrace.h> hides in an enum */
			struct __ptrace_syscall_info info;
			if (ptrace(PTRACE_GET_SYSCALL_INFO, t, sizeof(info), &info) > 0 &&
			    info.op == 1)
				calls++;
			sig = 0;
		} else if (event || sig == SIGTRAP || sig == SIGSTOP) {
			sig = 0;
		}
		ptrace(PTRACE_SYSCALL, t, 0, sig);
	}
	kill(pid, SIGKILL);
	while (waitpid(-1, &status, __WALL) > 0)
		;
	close(out);
	close(in);
	return seen ? calls : -1;
}

int main(int argc, char **argv)
{
	int rounds = argc > 3 ? atoi(argv[1]) : 0, n = (argc - 2) / 2;

	if (rounds < 1 || rounds > MAX_ROUNDS || n < 1 || n > MAX_COMMANDS || argc % 2) {
		fputs("usage: startup ROUNDS LABEL COMMAND [LABEL COMMAND …]\n", stderr);
		return 2;
	}
	for (int i = 0; i < n; i++) {
		int w = 0;
		for (char *s = strtok(argv[3 + 2 * i], " "); s && w < MAX_WORDS; s = strtok(NULL, " "))
			words[i][w++] = s;
	}
	bool works[MAX_COMMANDS];
	for (int i = 0; i < n; i++)
		works[i] = run_once(i, 0); /* warms the page cache; not counted */
	for (int r = 0; r < rounds; r++)
		for (int i = 0; i < n; i++)
			works[i] = works[i] && run_once(i, r);
	for (int i = 0; i < n; i++) {
		if (!works[i])
			printf("%s failed\n", argv[2 + 2 * i]);
		else
			printf("%s %.3f %.3f %ld\n", argv[2 + 2 * i], median(wall_ms[i], rounds),
			       median(cpu_ms[i], rounds), count_calls(words[i]));
	}
	return 0;
}
