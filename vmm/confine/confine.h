/*
 * confine: takes from the process what its VM does not need, so that a guest that finds a bug in a device still
 * has nothing.
 *
 * Two stages. confine_begin comes when the options are parsed, and before the first byte is read that a guest or
 * another user may have written; the process has one thread then. confine_finish comes when the machine is built, and
 * before the guest's first instruction. What the kernel keeps for each thread (capabilities, Landlock, the filter)
 * the threads that begin in between take on themselves, by confine_thread (filter.h).
 *
 * A step that this host refuses is left out with a line in the log; with CONFINE_REQUIRE it is an error.
 * One plan for the life of a process. Without confine_begin, and with CONFINE_OFF, all functions do nothing.
 */
#ifndef BANTAM_CONFINE_H
#define BANTAM_CONFINE_H

#include <stdbool.h>

#include "vmm/confine/jail.h"
#include "vmm/core/err.h"

/* The values of --confine, in the order of CONFINE_CHOICES. log: a filter only logs what it would refuse. */
enum confine_mode { CONFINE_ON, CONFINE_REQUIRE, CONFINE_LOG, CONFINE_OFF };
#define CONFINE_CHOICES "on|require|log|off"

/* Each is refused or permitted as a whole; in the order in which they come. */
enum confine_step {
	CONFINE_DESCRIPTORS, /* inherited descriptors that no option names are closed */
	CONFINE_DUMP,	     /* no core; /proc/PID and ptrace only for root */
	CONFINE_PRIVILEGES,  /* no_new_privs: no program that it starts gains anything */
	CONFINE_CAPABILITIES,
	CONFINE_NAMESPACES, /* mount, IPC, UTS, cgroup; of a plain user, in a user namespace */
	CONFINE_NETWORK,    /* a network namespace, if no device needs the host's network */
	CONFINE_ROOT,	    /* an empty read-only root */
	CONFINE_USER,	    /* of root: a user of its own */
	CONFINE_LANDLOCK,
	CONFINE_LIMITS, /* resource limits */
	CONFINE_FILTERS,
	CONFINE_STEPS
};

/*
 * What a path is for, together. READ, WRITE: the file, or all below the folder; MAKE: a file that is made if it is not there,
 * and then read and written; FILL: a folder, which is made if it is not there, and in which files and folders are made, changed and removed, but not read; REPLACE: in whose folder a new file takes its
 * place; NAME: a socket or a link, which is made and removed, with FILL any in that folder; AROUND: what is in or below the folder of that name is read, too.
 */
enum {
	CONFINE_READ = 1,
	CONFINE_WRITE = 2,
	CONFINE_MAKE = 4,
	CONFINE_FILL = 8,
	CONFINE_REPLACE = 16,
	CONFINE_NAME = 32,
	CONFINE_AROUND = 64,
};

/* len: path need not end with a 0 (a list's line). It lives as long as the plan. */
struct confine_path {
	const char *path;
	size_t len;
	unsigned access;
};
#define CONFINE_PATHS_MAX 256

/* As many as a card has queues, and some. */
#define CONFINE_FDS_MAX 320
#define CONFINE_NAMES_MAX 128
/* Each by its own name and by that of the file to which a link leads. */
#define CONFINE_REPORTS_MAX 6

/* What the VM needs of the host. All zero: nothing. */
struct confine_plan {
	enum confine_mode mode;
	bool files_later; /* it opens files while the guest runs (the API) */
	bool packs; /* it reads files whose owners it has to know, before confine_packed (a test) */
	bool host_network; /* a device opens sockets of the host's network, or a helper does */
	bool interfaces;   /* a device makes or sets network interfaces of the host */
	bool ptys; /* a device has a pseudo-terminal, and asks its other end what is not read */
	int fd[CONFINE_FDS_MAX]; /* inherited descriptors that options name */
	unsigned nfds;
	/* Paths in whose folders the VM makes, uses or removes names at run time; they outlive confine_begin. */
	const char *name[CONFINE_NAMES_MAX];
	unsigned nnames;
	/* Files that a thread of the kind THREAD_TEST makes or replaces at the end, or THREAD_API removes; the same. */
	const char *report[CONFINE_REPORTS_MAX];
	unsigned nreports;
	/* The files that it opens before confine_finish, beside names, reports and descriptors; no others can be opened. */
	struct confine_path path[CONFINE_PATHS_MAX];
	unsigned npaths;
	bool shared; /* others have the guest's memory, too */
	/*
	 * What the process does meanwhile, or NULL: called once, as early as no step is left that needs a process with one
	 * thread (of root, before the namespaces, which take the kernel most of the time of confine_begin). A thread that it
	 * starts keeps all rights, so it ends before a foreign byte is read.
	 */
	void (*meanwhile)(void);
	/* Parts that it does not have (CALLS_…, core/calls.h): its threads lack their system calls. */
	unsigned lacks;
	/* Helpers that it starts, for helper_find_now; NULL: none. */
	const char *helper[2];
	struct confine_jail jail;
};

/* Adds a descriptor that stays open. More than CONFINE_FDS_MAX: -E2BIG. */
int confine_keep_fd(struct confine_plan *plan, int fd, struct err *err);

/* Adds a file. len as strlen(path); access: CONFINE_READ… More than CONFINE_PATHS_MAX: -E2BIG. */
int confine_add_path(struct confine_plan *plan, const char *path, size_t len, unsigned access,
		     struct err *err);

/*
 * Return 0, or -errno with CONFINE_REQUIRE if the host refuses a step, which err names; confine_begin also if it cannot do
 * what the jail asks for.
 */
int confine_begin(const struct confine_plan *plan, struct err *err);
/*
 * The second half of confine_begin for a plan that packs: what has to wait until the owners of files are known is done.
 * The same plan, and still one thread.
 */
int confine_packed(const struct confine_plan *plan, struct err *err);
int confine_finish(struct err *err);
/*
 * For a plan with files_later, before threads of a machine or of a device start: what its names ask for, and the limits of the
 * host's devices with its disks. One thread at a time; the threads that are there already keep what they have. 0, or -errno:
 * a disk cannot be limited.
 */
int confine_machine(const struct confine_plan *plan, struct err *err);

/*
 * For a process whose plan has files_later: from now on the calling thread, and those that it starts, open
 * only what this plan names (path, name, report, fd, helpers and what parts need). Not to be undone; a
 * second call narrows. 0, or -errno: this host has no Landlock (Linux before 5.19), or no room for the rules; -ENOTSUP: the
 * process is not confined.
 */
int confine_files(const struct confine_plan *plan);

/* How a message names a step. */
const char *confine_step_name(enum confine_step step);
/*
 * For doctor: tries each step that concerns this user, in a child. refused: 0 or -errno, by step. Returns 0, or -errno if
 * the child could not be asked. The process has one thread.
 */
int confine_probe(int refused[CONFINE_STEPS]);

/*
 * What is done when a filter has refused a call, after the line that says so and before the process ends: in a signal's
 * handler, with calls that are on the list of each thread. Before confine_begin.
 */
void confine_at_refusal(void (*fn)(void));

/* The mode of confine_begin; CONFINE_OFF before it. Any thread. */
enum confine_mode confine_mode(void);

/*
 * What confine_finish does for the calling thread only; a second call does nothing. For a thread that needs nothing of
 * the host any more, also before confine_finish. Returns 0 or -errno. confine_thread calls it before it loads the
 * filter.
 */
int confine_thread_rights(void);

#endif
