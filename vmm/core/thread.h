/*
 * thread: every thread of a bantam program but its first one starts here, with a kind, a name
 * and a stack of its own size.
 *
 * The kind says what a thread may come to do, and so what it may ask of the kernel: confinement
 * hangs on it. The name is what ps -L and /proc/PID/task/TID/comm show.
 */
#ifndef BANTAM_THREAD_H
#define BANTAM_THREAD_H

#include <pthread.h>
#include <stddef.h>

enum thread_kind {
	THREAD_PROCESS, /* a program's first thread; in bantam run, the one that hears the signals */
	THREAD_VCPU, /* runs a virtual CPU; the first one's also builds and destroys the machine */
	THREAD_LOOP, /* runs the devices' loop */
	THREAD_IO,   /* runs the loop of one device (iothread=on) */
	THREAD_WORKER, /* does what would block a loop: disk operations, (un)packing */
	THREAD_HELPER, /* in a helper program: waits for a child or a time limit */
};

/* What comm holds: 15 bytes and NUL. */
#define THREAD_NAME_BYTES 16

/*
 * Start fn(opaque) in a new thread; its name is cut to 15 bytes. Returns 0 or -errno. The caller
 * joins *out. Any thread.
 *
 * The new thread blocks the signals that are sent to a process (SIGTERM, SIGUSR1, SIGWINCH …),
 * so that only the first thread hears them; faults of its own (SIGSEGV …) and real-time signals
 * stay open.
 */
int thread_start(pthread_t *out, enum thread_kind kind, const char *name, size_t stack_bytes,
		 void *(*fn)(void *), void *opaque);

/* The calling thread's kind. */
enum thread_kind thread_kind(void);
/* The calling thread, which was not started here, does another kind's work from now on. */
void thread_become(enum thread_kind kind);

#endif
