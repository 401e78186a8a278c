/*
 * helper: the programs that belong to bantam and run as processes of their own.
 *
 * What parses other people's file systems or packets, or needs a library that no
 * VM should carry, is a program beside bantam. Any thread.
 */
#ifndef BANTAM_HELPER_H
#define BANTAM_HELPER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * The path of helper name: in $BANTAM_LIBEXEC if that is set (and nowhere else), next to this
 * program, or where make install puts it. false: there is none that can be run.
 */
bool helper_find(const char *name, char *path, size_t len);

/*
 * Start the program at path. It has the descriptors of keep, under the same numbers, and
 * /dev/null for standard input and output; no environment; a session of its own, for a
 * terminal's signals are ours. Standard error is shared. 0 or -errno; on failure *pid is 0.
 */
int helper_spawn(const char *path, char *const argv[], const int *keep, unsigned nkeep, pid_t *pid);

/*
 * For a helper, before all else: close what it inherited beyond standard input, output and
 * error and those of keep. Whoever started bantam may have left anything open.
 */
void helper_keep_only(const int *keep, unsigned nkeep);

/*
 * Wait at most ms for its end, then kill it. The status is waitpid's; -1: it had to be
 * killed. *pid is 0 afterwards; nothing happens if it was before (and -1 is returned).
 */
int helper_reap(pid_t *pid, unsigned ms);

#endif
