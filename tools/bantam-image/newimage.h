/* newimage: the options of create and convert that describe the new image. */
#ifndef BANTAM_IMAGE_NEWIMAGE_H
#define BANTAM_IMAGE_NEWIMAGE_H

#include "devices/backend/store/store.h"

/* The options' values; NULL: not given. */
struct newimage_words {
	const char *format_option; /* the name of the option for format, for messages */
	const char *format, *backing, *backing_format, *cluster_size, *compat, *lazy;
};

/*
 * Fills *out, except its size, and opens the backing file (*base; NULL: none), whose name is
 * relative to the image's folder. Returns 0 or -errno.
 */
int newimage_parse(const struct newimage_words *words, const char *path, struct store_create *out,
		   struct store **base, struct err *err);

#endif
