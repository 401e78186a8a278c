/* newimage: what the options of create and convert say about the image to be. */
#ifndef BANTAM_IMAGE_NEWIMAGE_H
#define BANTAM_IMAGE_NEWIMAGE_H

#include "devices/backend/store/store.h"

/* The words, NULL: not given. */
struct newimage_words {
	const char *format_option; /* what the option is called, for messages */
	const char *format, *backing, *backing_format, *cluster_size, *compat, *lazy;
};

/*
 * Into *out, but for its size. A backing file is opened (*base; NULL if there is none), by its
 * name as seen from the image's folder.
 */
int newimage_parse(const struct newimage_words *words, const char *path, struct store_create *out,
		   struct store **base, struct err *err);

#endif
