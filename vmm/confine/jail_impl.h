/* jail_impl: the parts of the jail (jail.h), for confine.c and the tests. Return 0 or -errno; one thread. */
#ifndef BANTAM_JAIL_IMPL_H
#define BANTAM_JAIL_IMPL_H

#include <sys/types.h>

#include "vmm/confine/jail.h"

/* --- jail.c --- */

/* The group, the limits of the process, the network namespace and the root. ptys: the VM makes terminals. */
int confine_jail_enter(const struct confine_jail *jail, bool ptys, struct err *err);
/* Whether the programs that the VM starts (NULL: none) can be found below the new root. */
int confine_jail_programs(const struct confine_jail *jail, const char *const *program, size_t n,
			  struct err *err);
/*
 * The user, if one is given, as confine_jail_enter has found it: all four of each id. Its capabilities are those that concern no files, until confine_finish:
 * with interfaces also the one for networks; none if keep is false.
 */
int confine_jail_user(const struct confine_jail *jail, bool keep, bool interfaces, struct err *err);
/* The ids that the words mean, by the tables of users and groups at these paths. -EINVAL, -ENOENT and err. */
int confine_jail_ids(const struct confine_jail *jail, const char *passwd, const char *group,
		     uid_t *uid, gid_t *gid, struct err *err);

/* --- chroot.c --- */

struct confine_ids {
	uid_t uid;
	gid_t gid;
};

/* Makes the folder of --chroot the root, whose devices belong to user. Needs CAP_SYS_ADMIN. */
int confine_chroot(const struct confine_jail *jail, const struct confine_ids *user, bool ptys,
		   struct err *err);

/* --- limits.c --- */

/* The keys of --limit. The caller calls keys_clear in every case. */
int confine_limits_parse(const char *text, struct keyvals *kv, struct err *err);
/* Sets those of the process itself. */
int confine_limits_set(const struct keyvals *kv, struct err *err);
/* Whether one of them needs a group, and the words that make its controllers available ("+memory +pids"). */
bool confine_limits_need_group(const struct keyvals *kv);
void confine_limits_controllers(const struct keyvals *kv, char *words, size_t len);
/*
 * Writes those of the group whose folder is dir. -ENODEV: the group lacks a controller, and *missing is its name; else err
 * is filled.
 */
int confine_limits_write(const struct keyvals *kv, int dir, const struct confine_jail *jail,
			 const char **missing, struct err *err);

/*
 * Limits the host's devices of these disks, which come later, in the group in which confine_limits_write has set limits of disks for a
 * jail with disks_later; without one: nothing.
 */
int confine_limits_more(const struct confine_jail *jail, struct err *err);

/* --- cgroup.c --- */

/* Makes the group if there is none, sets its limits, and enters it. It goes when the process has ended, if it was made. */
int confine_cgroup_enter(const struct confine_jail *jail, const struct keyvals *limits,
			 struct err *err);

#endif
