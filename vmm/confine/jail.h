/*
 * jail: where the process lives on the host, as its user says: --uid, --gid, --chroot, --cgroup, --limit, --netns. For
 * those who would start it by a jailer, systemd-run or ip netns exec.
 *
 * What the user asks for is done or is an error, in every mode of --confine, unlike the confinement's own steps. One
 * thread.
 */
#ifndef BANTAM_JAIL_H
#define BANTAM_JAIL_H

#include <stdbool.h>
#include <stdio.h>

#include "vmm/core/keys.h"

#define CONFINE_DISKS_MAX 64

/* The options' values as they are written, NULL: not given; they outlive confine_begin. All zero: nothing. */
struct confine_jail {
	const char *uid, *gid;
	const char *chroot;
	const char *cgroup;
	const char *limit; /* of all --limit, with "," between them */
	const char *netns;
	const char *disk[CONFINE_DISKS_MAX]; /* whose host devices get the limits of disks */
	unsigned ndisks;
	bool disks_later; /* others come while it lives: confine_machine */
	bool dry_run;	  /* nothing is made on the host */
};

/* The keys of --limit. */
extern const struct key confine_limit_keys[];

/* What does not depend on the host: 0, or -EINVAL and err. */
int confine_jail_check(const struct confine_jail *jail, struct err *err);
/* For --dry-run: a line for each option that is given. */
void confine_jail_describe(const struct confine_jail *jail, FILE *out);
/*
 * For doctor: writes where cgroup v2 is and which controllers it has, "/sys/fs/cgroup: cpu io memory pids". 0, or
 * -ENOENT: this host has none.
 */
int confine_cgroup_describe(char *text, size_t len);

#endif
