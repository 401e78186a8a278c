/*
 * output: a new file that appears under its name only when it is complete.
 *
 * Until then it has no name at all (O_TMPFILE: whatever ends us, nothing is left behind), or,
 * where the file system cannot do that, a hidden one beside the final name. A file that has
 * that name already is kept, unless force; and one that is in use even then.
 */
#ifndef BANTAM_IMAGE_OUTPUT_H
#define BANTAM_IMAGE_OUTPUT_H

#include <stdbool.h>
#include <sys/stat.h>

#include "devices/backend/store/image_file.h"
#include "vmm/core/err.h"

struct output {
	int fd;
	char *path; /* the final name; links followed */
	char *temp; /* NULL: no name yet */
	bool replace;
	struct store_image old; /* locked, with replace */
	struct stat old_stat;
};

int output_create(struct output *o, const char *path, bool force, struct err *err);
/* With sync, it is on stable storage first. */
int output_publish(struct output *o, bool sync, struct err *err);
/* Always; after publish it only closes. */
void output_close(struct output *o);

#endif
