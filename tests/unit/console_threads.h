/*
 * console_threads: machines come and go on one console of a pool, while clients come, write, read and
 * go, and each machine's vCPU prints under its device's lock.
 *
 * A device that is detached is overwritten and freed at once: a callback that comes too late finds
 * the wrong mark, and a sanitizer the access. No test framework: the unit tests call it, and so does
 * a program of its own under TSan (tests/threads).
 */
#ifndef BANTAM_CONSOLE_THREADS_H
#define BANTAM_CONSOLE_THREADS_H

/* What went wrong and how often, and what was done: a test that did nothing shows nothing. */
struct console_result {
	unsigned long dead_calls; /* callbacks of a device that was gone */
	unsigned long inputs;	  /* bytes that devices got */
	unsigned long outputs;	  /* bytes that clients got */
	unsigned long machines;
	const char *failed; /* a step that the host refused, or NULL */
};

/* dir: an empty folder for the socket, which is empty again afterwards. */
struct console_result console_threads(const char *dir, unsigned machines);

#endif
