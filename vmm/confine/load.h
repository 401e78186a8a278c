/*
 * load: gives a filter of system calls to the kernel, one that tools/mkfilters has made. The monitor and the helper
 * programs (tools/giveup) load theirs with it.
 */
#ifndef BANTAM_CONFINE_LOAD_H
#define BANTAM_CONFINE_LOAD_H

#include <linux/filter.h>
#include <stdint.h>

/*
 * Loads a copy of these len instructions for the calling thread and those that it starts: FILTER_PID (filter_table.h) becomes
 * the number of this process, SECCOMP_RET_TRAP becomes refused. The thread needs no_new_privs or CAP_SYS_ADMIN.
 * Returns 0 or -errno.
 */
int confine_load(const struct sock_filter *insn, unsigned len, uint32_t refused);

#endif
