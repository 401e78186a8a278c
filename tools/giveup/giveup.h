/*
 * giveup: what a helper program gives up before it reads a byte that a guest or another user has written.
 *
 * Each program decides what it keeps, in tables; the steps are the same for all. They cannot be undone. Capabilities,
 * Landlock and the filter are of the calling thread and of those that it starts: call all of this with one thread.
 */
#ifndef BANTAM_GIVEUP_H
#define BANTAM_GIVEUP_H

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

/* A filter of system calls, made at build time of the lists (*.calls) that lie beside the code; see tools/mkfilters.c. */
struct giveup_filter {
	unsigned len;
	struct sock_filter insn[];
};

/* By the words of list_words.h. A program has only those that it names. */
extern const struct giveup_filter giveup_net_user, giveup_net_names, giveup_fs_reader,
	giveup_image_looks, giveup_image_makes, giveup_image_changes, giveup_seed;

/*
 * Ends the process (SIGSYS) if it makes a call that the filter does not allow. who, a program's name that
 * stays: before its end it says on standard error which call it was, and exits with 128 + SIGSYS; NULL: the kernel kills
 * it. Requires giveup_privileges, or root. Returns 0 or -errno.
 */
int giveup_calls(const struct giveup_filter *filter, const char *who);
/* Would the filter let this call of this process pass? For a caller that wants an error, not the end. */
bool giveup_permits(const struct giveup_filter *filter, int nr, const uint64_t arg[6]);

/*
 * No new privileges, no core, no capability but those of keep, and no other process of the user may look into this one.
 * A change of user afterwards would undo the last. Returns 0 or -errno.
 */
int giveup_privileges(uint64_t keep);
/* For keep: what root needs to open and make files of any user. */
extern const uint64_t giveup_file_caps;
/* A part of that. Root that changes its user first calls it before. */
void giveup_bounding(void);

/* Lowers both limits, and never raises one: the user may have set it on purpose (ulimit). 0 or -errno. */
int giveup_limit(__rlimit_resource_t what, uint64_t at_most);

/* What may be done below a folder, or with a file. */
enum {
	GIVEUP_READ = 1,    /* files: open for reading */
	GIVEUP_WRITE = 2,   /* files: open for writing, cut */
	GIVEUP_LIST = 4,    /* folders: read their entries */
	GIVEUP_NAME = 8,    /* folders: give a name to a file */
	GIVEUP_REMOVE = 16, /* folders: take one away, and so replace it */
};
struct giveup_path {
	const char *path; /* NULL, or not there: the row counts for nothing */
	unsigned what;
};

/*
 * From now on only these files can be opened, and no TCP port be bound. Names, sizes and times of others stay visible:
 * the filter has to refuse what takes a path. Does nothing on kernels without Landlock. A descriptor for each of the first
 * files stays open (O_PATH). Returns 0 or -errno.
 */
int giveup_files(const struct giveup_path *paths, unsigned n);

#endif
