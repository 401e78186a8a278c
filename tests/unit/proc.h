/* proc: reads /proc of this process and its child, for tests that look for leaks. */
#ifndef BANTAM_TEST_PROC_H
#define BANTAM_TEST_PROC_H

#include <stdbool.h>
#include <sys/types.h>

/* Returns our only child. */
pid_t proc_child(void);
/* Returns the number of open descriptors of process pid; 0: this process. */
unsigned proc_fds(pid_t pid);
/* Returns the number of threads of this process, without those of the kernel. */
unsigned proc_threads(void);
/* Waits a second at most for that number: a thread of the kernel is ours until it has its name. */
bool proc_threads_are(unsigned n);

#endif
