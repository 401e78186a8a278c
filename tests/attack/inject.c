/* inject: see inject.h and ptrace(2). */
#include "tests/attack/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SYSCALL_BYTES 2
#define X32_BIT 0x40000000

static int open_memory(pid_t tid, int flags)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/mem", tid);
	return open(path, flags | O_CLOEXEC);
}

bool inject_write(const struct victim *v, uint64_t at, const void *data, size_t len)
{
	int fd = open_memory(v->tid, O_RDWR);
	bool ok = fd >= 0 && pwrite(fd, data, len, (off_t)at) == (ssize_t)len;

	if (fd >= 0)
		close(fd);
	return ok;
}

/* Where in len bytes of its memory a syscall instruction is; 0: none. */
static uint64_t syscall_in(int fd, uint64_t at, size_t len)
{
	uint8_t code[4096];
	ssize_t n = pread(fd, code, len < sizeof(code) ? len : sizeof(code), (off_t)at);

	for (ssize_t i = 0; i + SYSCALL_BYTES <= n; i++)
		if (code[i] == 0x0f && code[i + 1] == 0x05)
			return at + (uint64_t)i;
	return 0;
}

/*
 * Most threads wait in a system call, and have stopped behind its instruction; a thread that was at work takes any one of
 * the program's or of its libraries.
 */
static bool look_around(struct victim *v)
{
	int fd = open_memory(v->tid, O_RDONLY);
	unsigned long low, high;
	char path[40], line[400];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", v->tid);
	f = fopen(path, "re");
	v->insn = fd < 0 ? 0 : syscall_in(fd, v->regs.rip - SYSCALL_BYTES, SYSCALL_BYTES);
	while (f && fd >= 0 && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx", &low, &high) != 2)
			continue;
		if (strstr(line, "[stack]"))
			v->block = low;
		for (; !v->insn && strstr(line, " r-xp ") && low < high; low += 4096)
			v->insn = syscall_in(fd, low, 4096);
	}
	if (f)
		fclose(f);
	if (fd >= 0)
		close(fd);
	return v->insn && v->block;
}

bool inject_begin(struct victim *v, pid_t tid)
{
	v->tid = tid;
	return !ptrace(PTRACE_GETREGS, tid, 0, &v->regs) && look_around(v);
}

static struct user_regs_struct registers(const struct victim *v, enum inject_abi abi, long nr,
					 const long arg[6])
{
	struct user_regs_struct r = v->regs;

	r.rip = v->insn;
	r.orig_rax = ~0ull; /* nothing to begin again */
	r.rax = (unsigned long)(abi == INJECT_X32 ? nr | X32_BIT : nr);
	r.rdi = (unsigned long)arg[0];
	r.rsi = (unsigned long)arg[1];
	r.rdx = (unsigned long)arg[2];
	r.r10 = (unsigned long)arg[3];
	r.r8 = (unsigned long)arg[4];
	r.r9 = (unsigned long)arg[5];
	if (abi == INJECT_I386) {
		r.rbx = r.rdi;
		r.rcx = r.rsi;
		r.rsi = r.r10;
		r.rdi = r.r8;
		r.rbp = r.r9;
	}
	return r;
}

/* A stop of the thread while it makes the call. Returns true if that is the end of it. */
static bool stopped(const struct victim *v, int status, struct outcome *o)
{
	int event = status >> 16, sig = WSTOPSIG(status);
	unsigned long born;
	struct user_regs_struct now;
	siginfo_t info;

	if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK ||
	    event == PTRACE_EVENT_CLONE) {
		if (!ptrace(PTRACE_GETEVENTMSG, v->tid, 0, &born))
			o->born = (pid_t)born;
		if (event == PTRACE_EVENT_VFORK) { /* which waits for the new process's end */
			inject_kill(o->born);
			o->value = o->born;
		}
		return false;
	}
	if (event == PTRACE_EVENT_EXEC)
		o->verdict = INJECT_EXEC;
	if (event)
		return event == PTRACE_EVENT_EXEC;
	if (sig == SIGSYS && !ptrace(PTRACE_GETSIGINFO, v->tid, 0, &info) && info.si_code == 1) {
		o->verdict = INJECT_REFUSED;
		return true;
	}
	if (sig == SIGSEGV || sig == SIGILL || sig == SIGBUS) {
		o->verdict = INJECT_FAULT;
		return true;
	}
	/* The trap of a step before may come first: then nothing has been made yet. */
	if (sig != SIGTRAP || ptrace(PTRACE_GETREGS, v->tid, 0, &now) || now.rip == v->insn)
		return false;
	o->value = (long)now.rax;
	return true;
}

static int wait_for(const struct victim *v)
{
	int status, other;

	if (!v->nthreads) {
		while (waitpid(v->tid, &status, __WALL) < 0 && errno == EINTR)
			;
		return status;
	}
	while (waitpid(v->tid, &status, __WALL | WNOHANG) <= 0) {
		for (unsigned i = 0; i < v->nthreads; i++)
			if (v->threads[i] != v->tid)
				(void)waitpid(v->threads[i], &other, __WALL | WNOHANG);
		usleep(50);
	}
	return status;
}

static struct outcome step(const struct victim *v)
{
	struct outcome o = { INJECT_DONE };
	int status;

	do {
		if (ptrace(PTRACE_SINGLESTEP, v->tid, 0, 0) && errno != ESRCH)
			perror("PTRACE_SINGLESTEP");
		status = wait_for(v);
		if (!WIFSTOPPED(status)) {
			o.verdict = INJECT_DIED;
			o.status = status;
			return o;
		}
	} while (!stopped(v, status, &o));
	return o;
}

struct outcome inject_call(const struct victim *v, enum inject_abi abi, long nr, const long arg[6])
{
	static const uint8_t int80[SYSCALL_BYTES] = { 0xcd, 0x80 };
	static const uint8_t syscall64[SYSCALL_BYTES] = { 0x0f, 0x05 };
	struct user_regs_struct regs = registers(v, abi, nr, arg);
	struct outcome o = { INJECT_DIED };

	if (abi == INJECT_I386 && !inject_write(v, v->insn, int80, sizeof(int80)))
		return o;
	if (ptrace(PTRACE_SETREGS, v->tid, 0, &regs))
		return o;
	o = step(v);
	if (abi == INJECT_I386 && o.verdict != INJECT_DIED)
		(void)inject_write(v, v->insn, syscall64, sizeof(syscall64));
	return o;
}

bool inject_fork(const struct victim *template, bool no_processes, struct victim *child)
{
	static const struct rlimit none;
	const struct user_regs_struct *r = &template->regs;
	const long nothing[6] = { 0 };
	const long load[6] = { (long)r->rdi, (long)r->rsi, (long)r->rdx };
	const long limit[6] = { 0, RLIMIT_NPROC, (long)template->block };
	struct outcome o = inject_call(template, INJECT_NATIVE, SYS_fork, nothing);
	int status;

	*child = *template;
	child->tid = o.born;
	if (!o.born || waitpid(o.born, &status, __WALL) != o.born)
		return false;
	if (no_processes && (!inject_write(child, child->block, &none, sizeof(none)) ||
			     inject_call(child, INJECT_NATIVE, SYS_prlimit64, limit).value))
		return false;
	o = inject_call(child, INJECT_NATIVE, SYS_seccomp, load);
	return o.verdict == INJECT_DONE && !o.value;
}

void inject_again(const struct victim *template)
{
	struct user_regs_struct r = template->regs;

	r.rip -= SYSCALL_BYTES;
	r.rax = r.orig_rax;
	r.orig_rax = ~0ull;
	ptrace(PTRACE_SETREGS, template->tid, 0, &r);
}

void inject_kill(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	do
		while (waitpid(pid, &status, __WALL) < 0)
			if (errno != EINTR)
				return;
	while (WIFSTOPPED(status));
}
