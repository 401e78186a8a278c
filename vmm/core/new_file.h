/*
 * new_file: a file that appears under its name only when it is complete.
 *
 * Until then it has no name at all (O_TMPFILE), or where the file system cannot do that
 * a temporary one beside it, which new_file_on_signals removes when the program is ended.
 *
 * Thread: any.
 */
#ifndef BANTAM_NEW_FILE_H
#define BANTAM_NEW_FILE_H

#include <stdbool.h>
#include <sys/stat.h>

#include "vmm/core/err.h"

struct new_file {
	int fd;		  /* read and write */
	const char *path; /* the caller's, until finish or abandon */
	char *temp;	  /* NULL: has no name yet */
	bool replace;
	bool had;	 /* there was one … */
	struct stat old; /* … which is this */
};

/*
 * What is at path now, into had and old; nothing is made. -EEXIST if there is something and
 * replace is false. Never replaces what is no file.
 */
int new_file_look(struct new_file *file, const char *path, bool replace, struct err *err);
/* Looks, and makes it. */
int new_file_open(struct new_file *file, const char *path, bool replace, struct err *err);
/*
 * Gives it its name; closes and, on failure, removes it. sync: it is on the medium before it
 * has its name, so that no power failure leaves half of one there; and so is then the name.
 */
int new_file_finish(struct new_file *file, bool sync, struct err *err);
/* Closes and removes it; accepts one that is finished, or zeroed with fd -1. */
void new_file_abandon(struct new_file *file);

/* SIGINT, SIGTERM and SIGHUP remove the temporary name, then end the program. One file at a time. */
void new_file_on_signals(void);

/* A name for something that others make: beside path, and nobody else's. Owned by the caller. */
char *new_file_temp(const char *path);
/* temp becomes path, if nothing is there: 0, or -EEXIST and the like; temp stays then. */
int new_file_publish(const char *temp, const char *path, bool replace);
/* The name that path has just got goes to the medium, if its folder can do that. */
void new_file_sync_name(const char *path);

#endif
