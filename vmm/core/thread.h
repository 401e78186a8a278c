/*
 * thread: starts every thread of a bantam program but the first, with a kind, a name and a stack
 * size.
 *
 * The kind says what a thread does, and so which system calls it needs: confinement depends on it
 * (vmm/confine/filter.h). ps -L and /proc/PID/task/TID/comm show the name.
 */
#ifndef BANTAM_THREAD_H
#define BANTAM_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

enum thread_kind {
	THREAD_PROCESS, /* a program's first thread; in bantam run, also the thread "signals" */
	THREAD_VCPU, /* runs a virtual CPU; the first one's also builds and destroys the machine */
	THREAD_LOOP, /* runs the devices' loop */
	THREAD_IO,   /* runs the loop of one device (iothread=on) */
	THREAD_WORKER, /* does work that would block a loop: disk operations, (un)packing */
	THREAD_HELPER, /* in a helper program: waits for a child or a time limit */
	THREAD_API,    /* the first thread of a process with the API: its loop */
	THREAD_EXECUTOR, /* with the API: makes each change of the VM, and so creates devices and machines */
	THREAD_TEST,	/* the first thread of bantam test: its loop */
	THREAD_MACHINE, /* runs errands of vCPUs and loops (errand.h), and ends the machine */
};

/* The size of comm: 15 bytes and a NUL. */
#define THREAD_NAME_BYTES 16

/*
 * Starts fn(opaque) in a new thread; its name is cut to 15 bytes. Returns 0 or -errno. The caller
 * joins *out. Any thread.
 *
 * The new thread blocks the signals that are sent to a process (SIGTERM, SIGUSR1, SIGWINCH …),
 * so that only the first thread receives them, or a thread that waits for them with sigwait. It does not block its own faults (SIGSEGV …) and
 * the real-time signals.
 */
int thread_start(pthread_t *out, enum thread_kind kind, const char *name, size_t stack_bytes,
		 void *(*fn)(void *), void *opaque);

/*
 * Writes the name of a thread that does a device's I/O: "_disk0_q0" of suffix "_q0", whether the id is
 * "disk0" or "_disk0", because programs that pin such threads look for these names. A long id is cut,
 * so that the suffix stays. No id: the name is the suffix without its _.
 */
void thread_name_of(const char *id, const char *suffix, char name[THREAD_NAME_BYTES]);

/*
 * Writes the signals that a process with a VM waits for: SIGTERM, SIGUSR1, SIGUSR2, and of SIGINT,
 * SIGHUP and SIGQUIT those that are not ignored. A signal that is ignored was so when the process
 * began (nohup; a shell script's "&") and must stay so: the caller does not block it, because the
 * kernel drops an ignored signal only if it is not blocked. interrupt: SIGINT always.
 */
void thread_heard_signals(sigset_t *set, bool interrupt);

/*
 * Returns true if the same signal has come less than a tenth of a second ago: then it is that one again. timeout(1)
 * sends its signal to the process, and then to the process's group; a person is slower. For the one thread
 * that hears the process's signals, once for each signal.
 */
bool thread_signal_is_echo(int signo);

/* Blocks in the calling thread the signals that thread_start blocks in a new one. */
void thread_block_signals(void);

/* Returns the calling thread's kind. */
enum thread_kind thread_kind(void);
/* Sets the kind of the calling thread, which thread_start did not start. */
void thread_become(enum thread_kind kind);

/*
 * The calling thread serves one device, so of the parts of a VM (CALLS_…, core/calls.h) it needs only these. Before
 * thread_confine. Without this call it needs those of the whole VM.
 */
void thread_serve(unsigned parts);
/* What the calling thread needs; at first all. */
unsigned thread_serves(void);

/*
 * Sets what thread_confine calls: it takes from the calling thread what a thread of this kind does not need, and
 * returns 0 or -errno. Before the first thread starts; NULL, the value at first: nothing.
 */
void thread_set_confine(int (*fn)(enum thread_kind kind));
/* Returns true if thread_confine does something: then what a thread will need has to be there before. */
bool thread_confines(void);
/*
 * The calling thread gives up what it does not need any more: before KVM_RUN, before a loop runs, before a worker
 * takes work. There is no way back, and threads that it starts inherit it. If that fails, the process
 * ends with a line in the log, because no guest may run without it.
 */
void thread_confine(void);

#endif
