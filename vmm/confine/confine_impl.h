/*
 * confine_impl: the steps of confine.c. Each returns 0, or -errno if the host refuses it; then nothing has changed.
 * Those that the kernel keeps for each thread concern the calling one.
 */
#ifndef BANTAM_CONFINE_IMPL_H
#define BANTAM_CONFINE_IMPL_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "vmm/confine/confine.h"

/* A sanitizer reads /proc at the end and traces its own process: such a build leaves out what forbids that. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CONFINE_SANITIZED true
#else
#define CONFINE_SANITIZED false
#endif

/* --- confine.c --- */

/* What was refused so far, by step. */
void confine_refused(int refused[CONFINE_STEPS]);

/* --- rights.c --- */

int confine_no_dumps(void);
/* Until confine_no_dumps is called again. */
void confine_permit_dumps(void);
int confine_no_new_privileges(void);
/*
 * Leaves of the capabilities those by which root opens the files of others, binds low ports and ends its helpers,
 * and with interfaces the one for networks; with own_namespace also the one to mount, which concerns nothing of the host then.
 * Helpers inherit at most these.
 */
int confine_cut_capabilities(bool interfaces, bool own_namespace);
/* Empties all five sets; but_files leaves what root needs to use other users' files. */
int confine_no_capabilities(bool but_files);
/* Whether the calling thread has any. */
bool confine_has_capabilities(void);
/* Makes the calling thread, which is root's, another user's; the same in each thread. */
int confine_own_user(void);
/*
 * Makes it this user, in this group and in the further ones, and leaves it the capabilities of the process that concern no
 * files, with interfaces also the one for networks; none if keep is false.
 */
int confine_take_user(uid_t uid, gid_t gid, const gid_t *further, size_t nfurther, bool keep,
		      bool interfaces);
int confine_limits(void);

/* --- root.c --- */

/*
 * Mount, IPC, UTS and cgroup namespaces, in a user namespace of its own if user is set. The process has one thread. After
 * an error with *lost it is in a user namespace that does not know its user: it cannot go on.
 */
int confine_namespaces(bool user, bool *lost);
int confine_network(void);
/* Writes the folder of a path into folder: "." if it has none. */
int confine_folder_of(const char *path, char folder[PATH_MAX]);
/* The plan's names, then its reports; NULL: there are no more. */
const char *confine_name_at(const struct confine_plan *plan, unsigned i);
/* Whether another user than root may make names in the folder of one of these, or has made one of them. */
bool confine_names_of_others(const struct confine_plan *plan);
/* Builds the new root, after confine_namespaces. */
int confine_prepare_root(const struct confine_plan *plan);
/* Changes the root of all threads, if there is a new one. Needs CAP_SYS_CHROOT. */
int confine_enter_root(void);

/* --- landlock.c --- */

/* Makes the rules of the process: it may remove the plan's names, and one of its threads make the reports, or remove them. */
int confine_prepare_landlock(const struct confine_plan *plan);
/* Nothing else of the file system, and no TCP, for the calling thread. reports: it is the one that makes these. */
int confine_landlock(bool reports);
#define CONFINE_PROGRAMS 2
/* For the only thread: of programs it starts these (NULL: none) and their loaders, and it makes no devices. Once. */
int confine_landlock_programs(const char *const path[CONFINE_PROGRAMS]);
/* The descriptor of one of these programs or loaders, i < 2 * CONFINE_PROGRAMS; -1: none. */
int confine_program(unsigned i);
/* Whether one of the programs is a script, whose own programs are not known. */
bool confine_has_script(void);
/* Keeps fd, of a rule's file, until confine_landlock_release: see add_held. Returns 0 or -EMFILE, and closes it. */
int confine_hold(int fd);
/* When no program is started any more, and no file opened. */
void confine_landlock_release(void);

/* --- files.c --- */

/* What confine_files does. hold: until confine_landlock_release. */
int confine_landlock_files(const struct confine_plan *plan, bool hold);

#endif
