/* fs: the parts of bantam-fs; main.c has its theory of operation. */
#ifndef BANTAM_FS_H
#define BANTAM_FS_H

#include <stdatomic.h>
#include <stdint.h>

#include "tools/bantam-fs/volume.h"

/* What was asked for. */
struct job {
	const char *command;
	const char *image;
	const char *path;
	const char *dest;
	enum store_format format;
	int partition; /* -1: the one that looks right */
	bool details;  /* ls -l */
	bool recurse;  /* ls -R */
	bool tty;      /* standard output is a terminal */
	struct store *store;
	int pipe_fd; /* extract: to the one who writes */
	/* Shared: goes up when something came out, so that a loop can be told from work. */
	_Atomic uint64_t *progress;
};

/* One line on standard error: "bantam: IMAGE: TEXT". Returns 1, the exit status. */
int job_fail(const struct job *job, const struct err *err);

/*
 * Give up everything that the open descriptors do not stand for: privileges, the file system, the
 * network, other processes, and more memory than a reader needs. False: errno says why.
 */
bool confine(uint64_t file_bytes_max, unsigned cpu_s);

/* The work of the confined process: exit statuses. */
int list_run(struct job *job, struct volume *v);
int cat_run(struct job *job, struct volume *v);
int extract_send(struct job *job, struct volume *v);

/* extract.c: the unconfined side. Makes what comes through fd; 0 or an exit status. */
struct extract;
int extract_prepare(struct job *job, struct extract **out);
/* False: it ended early; the other side may have said why. */
bool extract_receive(struct extract *x, int fd);
/* Puts it in place, or removes it. An exit status. */
int extract_finish(struct extract *x, bool good);

/* bantam-fs boot …: for bantam run; confined from the beginning. */
int boot_main(int argc, char **argv);

#endif
