/*
 * helper: the programs that belong to bantam and run as processes of their own.
 *
 * Code that parses untrusted file systems or packets, or needs a library that no VM should load, is
 * a program beside bantam. Any thread.
 */
#ifndef BANTAM_HELPER_H
#define BANTAM_HELPER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "vmm/core/err.h"

/*
 * Finds the path of helper name: in $BANTAM_LIBEXEC if that is set (and nowhere else), next to this
 * program, or where make install puts it. A program that another user could exchange is not taken:
 * it, its folder and all folders above must belong to root, to the user, or to the owner of this
 * program, and others may not write to them (to a folder above only with the sticky bit).
 * Returns 0, or -errno: -ENOENT: there is none; -EACCES: there is one that others may exchange.
 */
int helper_find(const char *name, char *path, size_t len, struct err *err);

/* A running helper; all zero: none. */
struct helper {
	pid_t pid;
	int pidfd; /* valid if pid is not 0; -1: Linux before 5.3 has none */
};

/*
 * Finds the helper now, for helper_find: in a user namespace of its own the process cannot tell the owners of files any
 * more, and in a mount namespace of its own not where its program lies, if it runs in a chroot. What is not found is looked for again. At most HELPERS_KNOWN names, one thread.
 */
#define HELPERS_KNOWN 2u
void helper_find_now(const char *name);

/*
 * The user that a VM of root and its helpers take: above all that programs give out, another one for each process of
 * the host, and the same for both sides. pid: the VM's.
 */
uid_t helper_user(pid_t vm);
/* Where that one cannot be taken: nobody, the same on every Linux. */
#define HELPER_NOBODY 65534u

/*
 * Start the program at path. It inherits the descriptors in keep under the same numbers, and shares
 * standard error; its standard input and output are /dev/null. It has no environment, and a session
 * of its own because the terminal's signals are for bantam. Returns 0 or -errno; on failure *helper is
 * all zero. The caller reaps it.
 */
int helper_spawn(const char *path, char *const argv[], const int *keep, unsigned nkeep,
		 struct helper *helper);

/*
 * A process that is killed while it starts a program leaves its descriptors to the child until the
 * child's exec, or its end. So what a dead VM had may still be in use for a moment: call it while it
 * is, with *tries 0 at first. It waits 5 ms; returns false, at once, after 20 times.
 */
bool helper_lingers(unsigned *tries);

/*
 * For a helper, before all else: close every inherited descriptor except standard input, output and
 * error and those in keep. The process that started bantam may have left any descriptor open.
 */
void helper_keep_only(const int *keep, unsigned nkeep);

/*
 * Wait at most ms for the helper to end, then kill it. Returns waitpid's status, or -1 if it had to
 * be killed. Sets *helper to zero; if it is so already, does nothing and returns -1.
 *
 * The signal goes by the pidfd: so a confined thread, which cannot open another, reaches no other process. Without
 * one, or without the right to end a process of that user, the helper is left alone, and ends by itself because its
 * sockets are closed.
 */
int helper_reap(struct helper *helper, unsigned ms);

#endif
