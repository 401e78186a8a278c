/*
 * inject: a stopped thread of another process makes a system call, as code of an attacker in it would: registers and a
 * syscall instruction. The kernel judges, with all that the thread has given up.
 *
 * The caller traces the thread (PTRACE_SEIZE, TRACE_OPTIONS), and it is stopped. x86-64 only. One thread.
 */
#ifndef ATTACK_INJECT_H
#define ATTACK_INJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>

#define TRACE_OPTIONS                                                                              \
	(PTRACE_O_EXITKILL | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |      \
	 PTRACE_O_TRACEEXEC | PTRACE_O_TRACESECCOMP)

struct victim {
	pid_t tid;
	struct user_regs_struct regs; /* where it has stopped */
	uint64_t insn;		      /* a syscall instruction in its memory */
	uint64_t block; /* memory that it does not use: the low end of the first thread's stack */
	/* The process's threads, if the call may end it: the first one is reaped after all others. */
	const pid_t *threads;
	unsigned nthreads;
};

enum verdict {
	INJECT_DONE,	/* the call was made; value is its result */
	INJECT_REFUSED, /* SIGSYS, which the thread has not got */
	INJECT_DIED,	/* the process has ended; status is wait's */
	INJECT_EXEC,	/* it has become another program */
	INJECT_FAULT,	/* the processor does not know the instruction */
};

struct outcome {
	enum verdict verdict;
	long value;
	int status;
	pid_t born; /* a process or thread that it has made, stopped; 0: none */
};

enum inject_abi { INJECT_NATIVE, INJECT_X32, INJECT_I386 };

/* Returns false if no syscall instruction is found. */
bool inject_begin(struct victim *v, pid_t tid);
struct outcome inject_call(const struct victim *v, enum inject_abi abi, long nr, const long arg[6]);
/* Writes into the process's memory. */
bool inject_write(const struct victim *v, uint64_t at, const void *data, size_t len);
/*
 * Makes a fork of a process that has stopped before it loads a filter, lets the fork load it, and stops that.
 * no_processes: it may make none from then on. The template stays where it was after inject_again.
 */
bool inject_fork(const struct victim *template, bool no_processes, struct victim *child);
void inject_again(const struct victim *template);
/* Ends and reaps a process that is traced. */
void inject_kill(pid_t pid);

#endif
