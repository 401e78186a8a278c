/* traced: see traced.h. */
#include "tests/attack/traced.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/attack/early.h"
#include "tests/attack/inject.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define POLL_MS 1
#define THREADS_MAX 64

/* --- the situation --------------------------------------------------------------------------- */

#define LOAD(field)                                                                                \
	{                                                                                          \
		BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, field)               \
	}
#define IF(value, yes, no)                                                                         \
	{                                                                                          \
		BPF_JMP | BPF_JEQ | BPF_K, yes, no, value                                          \
	}
#define ANY_OF(bits, yes, no)                                                                      \
	{                                                                                          \
		BPF_JMP | BPF_JSET | BPF_K, yes, no, bits                                          \
	}
#define RETURN(what)                                                                               \
	{                                                                                          \
		BPF_RET | BPF_K, 0, 0, what                                                        \
	}
#define NEW_ANY                                                                                    \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |             \
	 CLONE_NEWPID | CLONE_NEWNET)

/*
 * What the test looks at: a kernel or a disk is opened; a filter is loaded; no more processes may be made. The lower half of an argument comes
 * first in memory, on this processor.
 */
#define SEEN                                                                                       \
	LOAD(nr), IF(SYS_openat, 0, 3), LOAD(args[2]), IF(EARLY_FLAGS, 0, 1),                      \
		RETURN(SECCOMP_RET_TRACE), LOAD(nr), IF(SYS_seccomp, 0, 3), LOAD(args[0]),         \
		IF(SECCOMP_SET_MODE_FILTER, 0, 1), RETURN(SECCOMP_RET_TRACE), LOAD(nr),            \
		IF(SYS_prlimit64, 0, 5), LOAD(args[1]), IF(RLIMIT_NPROC, 0, 3), LOAD(args[2]),     \
		IF(0, 1, 0), RETURN(SECCOMP_RET_TRACE)

static const struct sock_filter free_filter[] = { SEEN, RETURN(SECCOMP_RET_ALLOW) };

static const struct sock_filter old_filter[] = {
	SEEN,
	LOAD(nr),
	IF(SYS_landlock_create_ruleset, 0, 1),
	RETURN(SECCOMP_RET_ERRNO | ENOSYS),
	RETURN(SECCOMP_RET_ALLOW),
};

/* The part of Docker's profile that concerns namespaces and mounts. */
static const struct sock_filter container_filter[] = {
	SEEN,
	LOAD(nr),
	IF(SYS_clone3, 0, 1),
	RETURN(SECCOMP_RET_ERRNO | ENOSYS),
	IF(SYS_unshare, 9, 0),
	IF(SYS_setns, 8, 0),
	IF(SYS_mount, 7, 0),
	IF(SYS_umount2, 6, 0),
	IF(SYS_pivot_root, 5, 0),
	IF(SYS_open_by_handle_at, 4, 0),
	IF(SYS_clone, 0, 2),
	LOAD(args[0]),
	ANY_OF(NEW_ANY, 1, 0),
	RETURN(SECCOMP_RET_ALLOW),
	RETURN(SECCOMP_RET_ERRNO | EPERM),
};

#define CAP(name) (1ull << CAP_##name)
#define DOCKER                                                                                     \
	(CAP(CHOWN) | CAP(DAC_OVERRIDE) | CAP(FSETID) | CAP(FOWNER) | CAP(MKNOD) | CAP(NET_RAW) |  \
	 CAP(SETGID) | CAP(SETUID) | CAP(SETFCAP) | CAP(SETPCAP) | CAP(NET_BIND_SERVICE) |         \
	 CAP(SYS_CHROOT) | CAP(KILL) | CAP(AUDIT_WRITE))

static bool cut_capabilities(void)
{
	struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { 0 } };

	for (int cap = 0; cap < 64; cap++)
		if (!(DOCKER & 1ull << cap) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			break;
	for (unsigned i = 0; i < 2; i++)
		data[i].permitted = data[i].effective = (uint32_t)(DOCKER >> 32 * i);
	return !syscall(SYS_capset, &hdr, data);
}

static bool enter(const struct situation *s)
{
	struct sock_fprog prog = { ARRAY_SIZE(free_filter), (struct sock_filter *)free_filter };

	if (s->container)
		prog = (struct sock_fprog){ ARRAY_SIZE(container_filter),
					    (struct sock_filter *)container_filter };
	if (s->old)
		prog = (struct sock_fprog){ ARRAY_SIZE(old_filter),
					    (struct sock_filter *)old_filter };
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) ||
	    (s->container && !cut_capabilities()))
		return false;
	return !s->uid || (!setgroups(0, NULL) && !setresgid(s->uid, s->uid, s->uid) &&
			   !setresuid(s->uid, s->uid, s->uid));
}

bool traced_start(struct traced *t, const struct situation *s, char *const argv[])
{
	int out[2], go[2];
	char c;

	*t = (struct traced){ .out = -1, .off = s->off };
	if (pipe2(out, O_CLOEXEC) || pipe2(go, O_CLOEXEC))
		return false;
	t->pid = fork();
	if (!t->pid) {
		int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

		if (read(go[0], &c, 1) != 1 || dup2(null, 0) < 0 || dup2(out[1], 1) < 0 ||
		    dup2(out[1], 2) < 0 || !enter(s))
			_exit(120);
		execv(argv[0], argv);
		_exit(121);
	}
	close(out[1]);
	close(go[0]);
	t->out = out[0];
	fcntl(t->out, F_SETFL, O_NONBLOCK);
	if (t->pid < 0 || ptrace(PTRACE_SEIZE, t->pid, 0, TRACE_OPTIONS))
		return false;
	(void)!write(go[1], "", 1);
	close(go[1]);
	return true;
}

pid_t traced_control(void)
{
	int go[2], status;
	pid_t pid;
	char c;

	if (pipe2(go, O_CLOEXEC))
		return -1;
	pid = fork();
	/* It stops behind the call of raise. */
	if (!pid && read(go[0], &c, 1) == 1)
		raise(SIGTRAP);
	if (!pid)
		_exit(1);
	if (pid < 0 || ptrace(PTRACE_SEIZE, pid, 0, TRACE_OPTIONS))
		return -1;
	(void)!write(go[1], "", 1);
	close(go[0]);
	close(go[1]);
	return waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status) ? pid : -1;
}

/* --- a run ---------------------------------------------------------------------------------- */

static void read_text(struct traced *t, int wait_ms)
{
	struct pollfd p = { t->out, POLLIN, 0 };
	char rest[512];
	size_t len = strlen(t->text);

	if (poll(&p, 1, wait_ms) < 1)
		return;
	if (len < sizeof(t->text) - 1) {
		ssize_t n = read(t->out, t->text + len, sizeof(t->text) - 1 - len);

		t->text[len + (size_t)(n > 0 ? n : 0)] = 0;
	} else {
		(void)!read(t->out, rest, sizeof(rest));
	}
}

/* Goes on after any stop but the one before a filter. */
static void go_on(pid_t tid, int status)
{
	int event = status >> 16, sig = WSTOPSIG(status);

	if (event == PTRACE_EVENT_STOP &&
	    (sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU))
		ptrace(PTRACE_LISTEN, tid, 0, 0);
	else
		ptrace(PTRACE_CONT, tid, 0, event ? 0 : sig);
}

/* A number of /proc/TID/status; 0: none. */
static int status_number(pid_t tid, const char *name)
{
	char path[40], line[200];
	int n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, name, strlen(name)))
			n = atoi(line + strlen(name));
	if (f)
		fclose(f);
	return n;
}

static unsigned threads_of(pid_t pid, pid_t *tid, unsigned max)
{
	char path[40], name[32];
	struct dirent *e;
	unsigned n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && n < max && (e = readdir(dir))) {
		traced_name(atoi(e->d_name), name);
		/* KVM's own threads and io_uring's are the kernel's. */
		if (e->d_name[0] != '.' && strncmp(name, "kvm-", 4) && strncmp(name, "iou-", 4))
			tid[n++] = atoi(e->d_name);
	}
	if (dir)
		closedir(dir);
	return n;
}

/* A thread that the executor of the API has started begins with the executor's filter. */
static int begins_with(const struct traced *t, pid_t tid)
{
	char name[32];

	traced_name(tid, name);
	return t->executor && (*name == '_' || !strncmp(name, "vcpu", 4) || !strcmp(name, "loop") ||
			       !strcmp(name, "machine") || !strcmp(name, "daemons")) ?
		       2 :
		       1;
}

/* Whether each thread has loaded its filter, beside the one of the situation. */
static bool all_have_filters(const struct traced *t)
{
	pid_t tid[THREADS_MAX];
	unsigned n = threads_of(t->pid, tid, THREADS_MAX);

	if (n < t->least)
		return false;

	while (n && (t->off ||
		     status_number(tid[n - 1], "Seccomp_filters:") > begins_with(t, tid[n - 1])))
		n--;
	return !n;
}

bool traced_run(struct traced *t, const char *text, unsigned helpers,
		bool (*at_call)(pid_t tid, void *opaque), void *opaque)
{
	unsigned seen = 0;
	int status;

	while (!t->ended &&
	       !(text && seen >= helpers && strstr(t->text, text) && all_have_filters(t))) {
		pid_t tid = waitpid(-1, &status, __WALL | WNOHANG);

		if (tid < 0)
			t->ended = true;
		if (tid <= 0) {
			read_text(t, t->ended ? 0 : POLL_MS);
			continue;
		}
		if (!WIFSTOPPED(status)) {
			t->ended |= tid == t->pid;
			continue;
		}
		if (status >> 16 == PTRACE_EVENT_SECCOMP)
			seen += at_call(tid, opaque);
		go_on(tid, status);
	}
	read_text(t, 0);
	return seen >= helpers && (!text || strstr(t->text, text));
}

unsigned traced_stop(struct traced *t, pid_t *tid, unsigned max)
{
	unsigned n = threads_of(t->pid, tid, max);
	int status;

	for (unsigned i = 0; i < n; i++) {
		if (ptrace(PTRACE_INTERRUPT, tid[i], 0, 0))
			continue;
		while (waitpid(tid[i], &status, __WALL) == tid[i] && WIFSTOPPED(status) &&
		       status >> 16 != PTRACE_EVENT_STOP)
			go_on(tid[i], status);
	}
	return n;
}

bool traced_end(struct traced *t)
{
	int status;
	pid_t tid;

	kill(t->pid, SIGKILL);
	/* Helpers end with their VM; those that are stopped get the signal of the parent's death, too. */
	for (unsigned i = 0; i < 20000; i++) {
		while ((tid = waitpid(-1, &status, __WALL | WNOHANG)) > 0)
			if (WIFSTOPPED(status))
				go_on(tid, status);
		if (tid < 0)
			break;
		usleep(500);
	}
	if (t->out >= 0)
		close(t->out);
	return tid < 0 && errno == ECHILD;
}

/* --- who it is ------------------------------------------------------------------------------ */

void traced_name(pid_t tid, char name[32])
{
	char path[40];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", tid);
	name[0] = 0;
	f = fopen(path, "re");
	if (f && fgets(name, 32, f))
		name[strcspn(name, "\n")] = 0;
	if (f)
		fclose(f);
}

void traced_program(pid_t pid, char name[64])
{
	char path[40], target[400];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	n = readlink(path, target, sizeof(target) - 1);
	target[n > 0 ? n : 0] = 0;
	snprintf(name, 64, "%s", basename(target));
}

pid_t traced_parent(pid_t pid)
{
	return status_number(pid, "PPid:");
}
