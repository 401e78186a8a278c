/*
 * traced: programs that run under ptrace from their first instruction, in a situation: as this user, and as in a
 * container or not. The calls that load a filter are seen, since a filter that is there before returns
 * SECCOMP_RET_TRACE for them; nothing else changes, because the kernel obeys the strictest filter.
 */
#ifndef ATTACK_TRACED_H
#define ATTACK_TRACED_H

#include <stdbool.h>
#include <sys/types.h>

struct situation {
	const char *name;
	uid_t uid;
	uid_t become;	/* 0, or the user of --uid */
	bool container; /* Docker's capabilities, and its filter: no namespaces, no mounts */
	bool host_root; /* the program keeps the host's root by itself */
	bool old;	/* Linux before 5.13: no Landlock */
	bool off;	/* --confine off */
};

struct traced {
	pid_t pid;
	int out; /* what it prints */
	bool ended;
	bool off;	 /* its threads have no filter */
	unsigned least;	 /* threads that it has at least when it runs */
	bool executor;	 /* a process with the API: an executor starts the VM's threads */
	char text[4096]; /* the beginning of that */
};

/* Starts a program. Returns false if it cannot. */
bool traced_start(struct traced *t, const struct situation *s, char *const argv[]);
/*
 * Lets it run until it has printed text, all its threads have a filter, and at_call has returned true helpers times; or to
 * its end, if text is NULL. at_call is called for each thread that makes one of these calls; it has stopped before.
 * Returns true if all that has come.
 */
bool traced_run(struct traced *t, const char *text, unsigned helpers,
		bool (*at_call)(pid_t tid, void *opaque), void *opaque);
/* Stops all threads of the process. Returns their number, at most max. */
unsigned traced_stop(struct traced *t, pid_t *tid, unsigned max);
/* Ends it and all that it has started. Returns true if nothing is left. */
bool traced_end(struct traced *t);
/* A process that has given up nothing, stopped. */
pid_t traced_control(void);

/* The name of a thread, and of a process's program. */
void traced_name(pid_t tid, char name[32]);
void traced_program(pid_t pid, char name[64]);
pid_t traced_parent(pid_t pid);

#endif
