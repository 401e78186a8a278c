/* fs: the parts of bantam-fs; main.c has its theory of operation. */
#ifndef BANTAM_FS_H
#define BANTAM_FS_H

#include <stdatomic.h>
#include <stdint.h>

#include "tools/bantam-fs/volume.h"
#include "tools/giveup/giveup.h"

/* The command line. */
struct job {
	const char *command;
	const char *image;
	const char *path;
	const char *dest;
	enum store_format format;
	int partition; /* -1: the only one, or the one that looks like a root */
	bool details;  /* ls -l */
	bool recurse;  /* ls -R */
	bool tty;      /* standard output is a terminal */
	struct store *store;
	int pipe_fd; /* extract: to the writer */
	/* Shared. The child increments it with each output; the watcher detects endless loops. */
	_Atomic uint64_t *progress;
};

/* Prints "bantam: IMAGE: TEXT" on standard error. Returns 1, the exit status. */
int job_fail(const struct job *job, const struct err *err);

/*
 * Gives up all but the open descriptors: privileges, the file system, the network, other
 * processes, and more memory than a reader needs. Returns false and errno on failure.
 */
bool reader_confine(uint64_t file_bytes_max, unsigned cpu_s);
/* Of a reader that was ended by SIGSYS: the image has taken it over, or its table of calls lacks one. */
#define READER_DENIED                                                                              \
	"made a system call that it may not make, and was ended; "                                 \
	"if you trust the image, report it as a mistake of bantam"

/* The commands, in the confined process. Each returns an exit status. */
int list_run(struct job *job, struct volume *v);
int cat_run(struct job *job, struct volume *v);
int extract_send(struct job *job, struct volume *v);

/* extract.c: the writer, which is not confined. Returns 0 or an exit status. */
struct extract;
int extract_prepare(struct job *job, struct extract **out);
/* Creates what comes through fd. False if the records end early; the child may have said why. */
bool extract_receive(struct extract *x, int fd);
/* Renames the tree if good, else removes it. Frees x. Returns an exit status. */
int extract_finish(struct extract *x, bool good);

/* bantam-fs boot …, for bantam run: it confines its child as the other commands do. */
int boot_main(int argc, char **argv);

#endif
