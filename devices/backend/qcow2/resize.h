/* qcow2/resize: changes the disk's size. For the engine. */
#ifndef BANTAM_QCOW2_RESIZE_H
#define BANTAM_QCOW2_RESIZE_H

#include "devices/backend/store/store.h"

/* store_ops.resize. */
int qcow2_resize(struct store *s, uint64_t size, struct err *err);

#endif
