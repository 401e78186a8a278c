/*
 * new_file: a file that appears under its name only when it is complete.
 *
 * Until then it has no name at all (O_TMPFILE). Where the file system cannot do that, it has a
 * temporary name in the same folder, which new_file_on_signals removes when a signal ends the
 * program.
 *
 * Thread: any.
 */
#ifndef BANTAM_NEW_FILE_H
#define BANTAM_NEW_FILE_H

#include <stdbool.h>
#include <sys/stat.h>

#include "vmm/core/err.h"

/* Of a new file whose mode the user does not give: a disk may hold keys. */
#define NEW_FILE_MODE 0600

struct new_file {
	int fd;		  /* read and write */
	const char *path; /* the caller's, until finish or abandon */
	char *temp;	  /* NULL: has no name yet */
	bool replace;
	bool had;	 /* a file was at path before */
	struct stat old; /* that file */
};

/*
 * Stores what is at path now in had and old; creates nothing. Returns 0 or -errno: -EEXIST if
 * something is there and replace is false, or if it is not a regular file, which is never replaced.
 */
int new_file_look(struct new_file *file, const char *path, bool replace, struct err *err);
/*
 * Does new_file_look, then creates the file, with NEW_FILE_MODE or, in place of another, with that
 * one's mode and, if possible, owner.
 */
int new_file_open(struct new_file *file, const char *path, bool replace, struct err *err);
/*
 * Gives the file its name and closes it; removes it on failure. sync: the file is on the medium
 * before it has its name, so that no power failure leaves half a file there; then the name is
 * synced too.
 */
int new_file_finish(struct new_file *file, bool sync, struct err *err);
/* Closes and removes the file; accepts one that is finished, or zeroed with fd -1. */
void new_file_abandon(struct new_file *file);

/*
 * Keeps what new_file_finish needs of /proc, for a process that changes its root before. One thread; the descriptor stays
 * until the process ends.
 */
void new_file_name_later(void);

/* SIGINT, SIGTERM and SIGHUP remove the temporary name, then end the program. One file at a time. */
void new_file_on_signals(void);

/* Returns a random temporary name in path's folder, or NULL without memory. The caller frees it. */
char *new_file_temp(const char *path);
/*
 * Rename temp to path; without replace, -EEXIST if path exists. 0 or -errno; temp stays on failure.
 */
int new_file_publish(const char *temp, const char *path, bool replace);
/*
 * Sync the folder of path, so that path's new name is on the medium, if the folder can be synced.
 */
void new_file_sync_name(const char *path);

#endif
