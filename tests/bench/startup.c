/*
 * startup: measures how long monitors take until their guest writes its first output.
 *
 *   startup [-nr] [-w TEXT] ROUNDS LABEL COMMAND [LABEL COMMAND …]
 *
 * Each COMMAND (words split at blanks; '…' keeps blanks; no shell) starts a
 * monitor whose guest writes TEXT to its serial port, which is the monitor's
 * stdout; guest/bare/hello's first instructions write "!". The time runs
 * from just before the child's exec to the text's last byte. Then startup kills the
 * monitor, and reads the CPU time of its whole life. The commands
 * take turns (A B C A B C …), so a busy host slows all of them alike. A last round
 * under ptrace counts the system calls of all threads until the text (not with -n).
 * If allowed, everything runs at a raised priority, so that other work on the
 * host disturbs less; with -r at a real-time one: a new thread then takes the
 * processor of such other work at once, as it would find an idle one on a quiet host.
 * (Not for guests that go on running: they would stop the host.) Output, one line per command: label, median ms, least ms,
 * median CPU ms, system calls.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
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
#define TIMEOUT_MS 120000

static const char *text = "!";
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

/* Starts a command; *out reads its stdout, its stdin is a pipe without data. */
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

/* Reads the available output. Returns true after the whole text. *at: matched bytes so far. */
static bool scan(int fd, size_t *at, bool *end)
{
	char buf[4096];
	ssize_t n = read(fd, buf, sizeof(buf));

	*end = n <= 0;
	for (ssize_t i = 0; i < n; i++) {
		*at = buf[i] == text[*at] ? *at + 1 : buf[i] == text[0];
		if (!text[*at])
			return true;
	}
	return false;
}

static bool wait_text(int fd)
{
	double limit = now_ms() + TIMEOUT_MS;
	size_t at = 0;
	bool end = false;

	while (!end) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		double left = limit - now_ms();
		if (left <= 0 || poll(&p, 1, (int)left + 1) <= 0)
			return false;
		if (scan(fd, &at, &end))
			return true;
	}
	return false;
}

static bool run_once(int which, int round)
{
	struct rusage ru;
	int out, in, status;
	double begin = now_ms();
	pid_t pid = start(words[which], false, &out, &in);
	bool ok = wait_text(out);

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

/* Counts the system calls that the process and its threads begin until the text; -1 on failure. */
static long count_calls(char **argv)
{
	int out, in, status;
	long calls = 0;
	pid_t pid = start(argv, true, &out, &in);
	bool seen = false, end = false;
	size_t at = 0;

	if (waitpid(pid, &status, WUNTRACED) != pid ||
	    ptrace(PTRACE_SEIZE, pid, 0,
		   PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
			   PTRACE_O_TRACEVFORK | PTRACE_O_EXITKILL))
		calls = -1;
	kill(pid, SIGCONT);
	while (calls >= 0 && !seen) {
		pid_t t = waitpid(-1, &status, __WALL);
		struct pollfd p = { .fd = out, .events = POLLIN };

		if (t < 0)
			break;
		seen = poll(&p, 1, 0) == 1 && scan(out, &at, &end);
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
	/* A helper that stands still because it is traced never hears that its monitor is gone. */
	for (pid_t t; (t = waitpid(-1, &status, __WALL)) > 0;)
		if (WIFSTOPPED(status))
			kill(t, SIGKILL);
	close(out);
	close(in);
	return seen ? calls : -1;
}

/* Splits line in place into words; '…' keeps blanks. */
static void split(char *line, char **out)
{
	int n = 0;

	while (n < MAX_WORDS) {
		while (*line == ' ')
			line++;
		if (!*line)
			break;
		bool quoted = *line == '\'';
		out[n++] = line += quoted;
		line += strcspn(line, quoted ? "'" : " ");
		if (*line)
			*line++ = 0;
	}
	out[n] = NULL;
}

/* A new order for each round: what ran just before a command changes its time by some per cent. */
static void shuffle(int *order, int n)
{
	for (int i = 0; i < n; i++)
		order[i] = i;
	for (int i = n - 1; i > 0; i--) {
		int j = rand() % (i + 1), other = order[i];

		order[i] = order[j];
		order[j] = other;
	}
}

int main(int argc, char **argv)
{
	const struct sched_param urgent = { .sched_priority = 1 };
	bool works[MAX_COMMANDS], count = true, real_time = false;
	int order[MAX_COMMANDS];
	int opt, rounds, n;

	while ((opt = getopt(argc, argv, "nrw:")) != -1) {
		if (opt == 'n')
			count = false;
		else if (opt == 'r')
			real_time = true;
		else if (opt == 'w' && *optarg)
			text = optarg;
		else
			return 2;
	}
	argv += optind;
	argc -= optind;
	rounds = argc > 2 ? atoi(argv[0]) : 0;
	n = (argc - 1) / 2;
	if (rounds < 1 || rounds > MAX_ROUNDS || n < 1 || n > MAX_COMMANDS || argc % 2 == 0) {
		fputs("usage: startup [-nr] [-w TEXT] ROUNDS LABEL COMMAND [LABEL COMMAND …]\n",
		      stderr);
		return 2;
	}
	setpriority(PRIO_PROCESS, 0, -15);
	if (real_time)
		sched_setscheduler(0, SCHED_FIFO, &urgent);
	for (int i = 0; i < n; i++)
		split(argv[2 + 2 * i], words[i]);
	for (int i = 0; i < n; i++)
		works[i] = run_once(i, 0); /* warms the page cache; not counted */
	for (int r = 0; r < rounds; r++) {
		shuffle(order, n);
		for (int i = 0; i < n; i++)
			works[order[i]] = works[order[i]] && run_once(order[i], r);
	}
	for (int i = 0; i < n; i++) {
		double mid = median(wall_ms[i], rounds); /* sorts: the first is the least */
		if (!works[i])
			printf("%s failed\n", argv[1 + 2 * i]);
		else
			printf("%s %.3f %.3f %.3f %ld\n", argv[1 + 2 * i], mid, wall_ms[i][0],
			       median(cpu_ms[i], rounds), count ? count_calls(words[i]) : 0);
	}
	return 0;
}
