/*
 * errand: work that a thread has another one do, and waits for, because the system calls of that work are not on its
 * own list (vmm/confine/filter.h). The threads of vCPUs and loops, which a guest keeps busy, have a short list: what a
 * driver starts, ends or moves is an errand, and so is what a loop does seldom.
 *
 * Rules. Who has an errand run holds at most one lock, that of the device it concerns. The errand works for the
 * holder of that lock, and takes no device's lock itself; so it cannot wait for a thread that waits for an errand. It
 * waits for nothing that needs the guest or a loop, and it has no errand run. So the end of a loop's thread is none, unless
 * the thread has left the loop.
 */
#ifndef BANTAM_CORE_ERRAND_H
#define BANTAM_CORE_ERRAND_H

#include <stdbool.h>

#include "vmm/core/err.h"

/* The threads that run errands. */
struct errands;

/*
 * Starts them, if the process confines its threads; else, and if it fails, *out is NULL, and an errand runs in its
 * caller's thread. long_too: also one for errands that last. Returns 0 or -errno. The caller ends them.
 */
int errands_start(bool long_too, struct errands **out, struct err *err);
/* Waits for what they still do. NULL: nothing. None of their own threads, and after the last errand. */
void errands_end(struct errands *errands);

/* From now on these run the calling thread's errands. NULL, as at first: the thread itself. */
void errands_use(struct errands *errands);
/* What errands_use has set for the calling thread. */
struct errands *errands_used(void);

/* Runs fn(opaque), and returns when it has returned. */
void errand_run(void (*fn)(void *opaque), void *opaque);
/* The same for what may wait for another process: it delays no other kind of errand. */
void errand_run_long(void (*fn)(void *opaque), void *opaque);

/* The process has a device with long errands: errands_start starts their thread in any case. Any thread. */
void errands_expect_long(void);

#endif
