/*
 * output: a new file that appears under its name only when it is complete.
 *
 * Until then it has no name at all (O_TMPFILE: however the process ends, no file is left), or, if
 * the file system cannot do that, a hidden name beside the final one. An existing file of the final
 * name is replaced only with force, and only if no VM uses it.
 */
#ifndef BANTAM_IMAGE_OUTPUT_H
#define BANTAM_IMAGE_OUTPUT_H

#include <stdbool.h>
#include <sys/stat.h>

#include "devices/backend/store/image_file.h"
#include "devices/backend/store/store.h"
#include "vmm/core/err.h"

struct output {
	int fd;
	char *path; /* the final name; links followed */
	char *temp; /* NULL: no name yet */
	bool replace;
	struct store_image old; /* locked, with replace */
	struct stat old_stat;
};

/*
 * Opens the new file: o->fd. mode: of the file; 0: that of the file it replaces, or STORE_NEW_MODE.
 * Returns 0 or -errno; the caller calls output_close in any case.
 */
int output_create(struct output *o, const char *path, bool force, unsigned mode, struct err *err);
/* Gives the file its name; with sync, when it is on stable storage. Returns 0 or -errno. */
int output_publish(struct output *o, bool sync, struct err *err);
/* Closes the file; it is gone unless output_publish succeeded. */
void output_close(struct output *o);

#endif
