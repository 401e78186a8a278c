/* proc: what /proc says of this process and its child, for tests of what is left behind. */
#ifndef BANTAM_TEST_PROC_H
#define BANTAM_TEST_PROC_H

#include <sys/types.h>

/* Our only child. */
pid_t proc_child(void);
/* How many descriptors a process has open; 0: this one. */
unsigned proc_fds(pid_t pid);

#endif
