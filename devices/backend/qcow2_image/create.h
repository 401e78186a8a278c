/* qcow2_image/create: makes a new file with an empty qcow2 image. For store/open.c. */
#ifndef BANTAM_QCOW2_IMAGE_CREATE_H
#define BANTAM_QCOW2_IMAGE_CREATE_H

#include "devices/backend/store/store.h"

/*
 * As store_create. The caller has looked at the backing file: size_bytes is the new disk's size,
 * and backing_format, if it is not AUTO, is written into the image.
 */
int qcow2_store_create(const struct store_create *create, struct err *err);

#endif
