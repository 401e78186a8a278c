/*
 * filter: which system calls each kind of thread may make from now on. The lists are the files *.calls, beside the
 * code that needs the calls; tools/mkfilters makes filters of them when bantam is built.
 *
 * A call that is not on the list is not made: the process ends with exit status 159 (128 + SIGSYS) and a line that
 * names call and thread. With CONFINE_LOG the kernel logs it (auditd, dmesg), and the call is made.
 */
#ifndef BANTAM_CONFINE_FILTER_H
#define BANTAM_CONFINE_FILTER_H

#include <stdbool.h>

#include "vmm/core/thread.h"

/*
 * For thread_set_confine. Loads the filter of this kind for the calling thread, for good; a kind that has none keeps
 * what it has. Returns 0 or -errno. Does nothing with CONFINE_OFF, and in a build with sanitizers, which make
 * calls of their own.
 */
int confine_thread(enum thread_kind kind);

/*
 * The same whatever the mode and the build are, for tests. only_log: as CONFINE_LOG. The thread needs no_new_privs or
 * CAP_SYS_ADMIN.
 */
int confine_filter_load(enum thread_kind kind, bool only_log);

#endif
