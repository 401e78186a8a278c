/*
 * giveup: what a helper program gives up before it reads a byte that a guest or another user has written.
 *
 * Each program decides what it keeps, in tables; the steps are the same for all. They cannot be undone. Capabilities,
 * Landlock and the filter are of the calling thread and of those that it starts: call all of this with one thread.
 */
#ifndef BANTAM_GIVEUP_H
#define BANTAM_GIVEUP_H

#include <errno.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

/* A system call that the process keeps. */
struct giveup_call {
	int nr;	   /* SCMP_SYS(…) */
	int error; /* not 0: it is refused with this error, and the process lives on */
	bool self; /* only with our own process as its first argument */
	struct scmp_arg_cmp
		arg[3]; /* all of them hold; from the first whose op is 0 on there are none */
};

/* The rows of a table. A call may have several rows of GIVEUP_IF: one of them must fit. */
#define GIVEUP_KEEP(name)                                                                          \
	{                                                                                          \
		.nr = SCMP_SYS(name)                                                               \
	}
#define GIVEUP_KEEP_SELF(name)                                                                     \
	{                                                                                          \
		.nr = SCMP_SYS(name), .self = true                                                 \
	}
#define GIVEUP_KEEP_IF(name, ...)                                                                  \
	{                                                                                          \
		.nr = SCMP_SYS(name), .arg = { __VA_ARGS__ }                                       \
	}
/* For what a library tries, and can do without. */
#define GIVEUP_ERROR(name)                                                                         \
	{                                                                                          \
		.nr = SCMP_SYS(name), .error = EPERM                                               \
	}

/*
 * What the C library, or another version of it, tries on its own behalf. With an error it goes on:
 * - stdio asks before the first byte how large a file's blocks are, and whether it is a terminal (fstat is newfstatat
 *   with an empty path, and a filter cannot see that the path is empty);
 * - strftime looks for the host's time zone, and then takes UTC; qsort asks how much memory there is;
 * - malloc asks for the number of processors, and names its memory; abort resets the signal's handler.
 */
#define GIVEUP_LIBRARY                                                                             \
	GIVEUP_ERROR(newfstatat), GIVEUP_ERROR(fstat), GIVEUP_ERROR(statx), GIVEUP_ERROR(openat),  \
		GIVEUP_ERROR(sysinfo), GIVEUP_ERROR(sched_getaffinity), GIVEUP_ERROR(prctl),       \
		GIVEUP_ERROR(prlimit64), GIVEUP_ERROR(rt_sigaction), GIVEUP_ERROR(uname),          \
		GIVEUP_ERROR(gettimeofday), GIVEUP_ERROR(time), GIVEUP_ERROR(sched_yield)

/*
 * Kills the process (SIGSYS) if it makes a call that is in no row, or whose arguments fit none. Requires
 * giveup_privileges, or root. Returns 0 or -errno.
 */
int giveup_calls(const struct giveup_call *calls, unsigned n);
/* Would the filter let this call pass? For a caller that wants an error, not the end. */
bool giveup_permits(const struct giveup_call *calls, unsigned n, int nr, const uint64_t arg[6]);

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
 * the filter has to refuse what takes a path. Does nothing on kernels without Landlock, and if one of the files is on 9p,
 * where Landlock cannot name it. Returns 0 or -errno.
 */
int giveup_files(const struct giveup_path *paths, unsigned n);

#endif
