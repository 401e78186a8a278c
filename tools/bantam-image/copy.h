/*
 * copy: the guest's bytes of one image into a new one, by several threads.
 *
 * Theory of operation. The disk is cut into windows, which are multiples of a cluster. A
 * window has a slot of a ring while it is worked on: a thread reads it, finds out which clusters are
 * zeroes (or equal to the backing file's), and compresses the others; then its clusters get their
 * places in the file, in the order of windows, so that the same input makes the same file with
 * any number of threads; then any thread writes it. Whoever has nothing to write takes the
 * next window; windows that are holes are skipped without a read.
 */
#ifndef BANTAM_IMAGE_COPY_H
#define BANTAM_IMAGE_COPY_H

#include "devices/backend/qcow2_image/writer.h"
#include "devices/backend/store/store.h"
#include "tools/bantam-image/progress.h"

struct copy {
	struct store *src;
	struct store *base; /* what equals its bytes is left out; NULL: none */
	const char *src_path, *dst_path;
	int fd;			     /* the new file */
	uint64_t size_bytes;	     /* of the new disk; at least the source's */
	struct qcow2_writer *writer; /* NULL: raw */
	uint32_t cluster_bytes;
	bool compress, zstd;
	bool writeback; /* begin to write to the medium early */
	unsigned nthreads;
};

/* 0 or -errno with *err; -EINTR: the user stopped it. */
int copy_run(const struct copy *what, struct progress *progress, struct err *err);

#endif
