/*
 * qcow2_image/inspect: an image's header without its engine, for `bantam image info` and check.
 *
 * The header is judged as for reading; backing files are not opened. Of struct qcow2 only what
 * the header says is there, and l1. Any thread.
 */
#ifndef BANTAM_QCOW2_IMAGE_INSPECT_H
#define BANTAM_QCOW2_IMAGE_INSPECT_H

#include "devices/backend/qcow2/qcow2.h"

enum qcow2_access {
	QCOW2_GLANCE,	 /* reading, also while someone writes */
	QCOW2_LOCK_READ, /* as image.h says */
	QCOW2_LOCK_WRITE,
};

int qcow2_inspect(const char *path, enum qcow2_access access, struct qcow2 **out, struct err *err);
/* Accepts NULL. */
void qcow2_inspect_end(struct qcow2 *q);

#endif
