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
 * From now on thread_confine loads the filter of the thread's kind, for good, after rights, which takes what else a
 * thread has; a kind that has no filter keeps what it has. lacks: the parts that the VM does not have (CALLS_…, core/calls.h); a
 * thread of one device has only those of its device (thread_serve). A build with sanitizers, which make calls of their own,
 * loads none. Before the first thread starts. Returns 0, or -errno: this kernel has no filters, and only rights
 * is called. A filter that cannot be loaded later (no room for programs in the kernel) is left out with a line in the
 * log; with required the process ends.
 */
int confine_filters(bool only_log, bool required, unsigned lacks, int (*rights)(void));

/*
 * Loads the filter of this kind for the calling thread, in any build. Returns 0 or -errno. The thread needs
 * no_new_privs or CAP_SYS_ADMIN.
 */
int confine_filter_load(enum thread_kind kind, bool only_log);

#endif
