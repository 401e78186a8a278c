/*
 * copy: copies the guest's bytes of one image into a new one, with several threads.
 *
 * Theory of operation. The disk is cut into windows, which are multiples of a cluster. A window
 * takes a slot of a ring. First a thread reads it, finds the clusters that are zeroes (or equal to
 * the backing file's), and compresses the others. Then its clusters get their places in the file,
 * in the order of windows, so that the same input makes the same file with any number of threads.
 * Then any thread writes it. A thread that finds no window to write takes the next one to read;
 * holes are skipped without a read.
 */
#ifndef BANTAM_IMAGE_COPY_H
#define BANTAM_IMAGE_COPY_H

#include "devices/backend/qcow2_image/writer.h"
#include "devices/backend/store/store.h"
#include "vmm/usage/progress.h"

struct copy {
	struct store *src;
	struct store *base; /* backing file: clusters equal to its own are left out; NULL: none */
	const char *src_path, *dst_path;
	int fd;			     /* the new file */
	uint64_t size_bytes;	     /* of the new disk; at least the source's */
	struct qcow2_writer *writer; /* NULL: raw */
	uint32_t cluster_bytes;
	bool compress, zstd;
	bool writeback; /* start writing to the medium early, before the final fsync */
	unsigned nthreads;
};

/* Returns 0, or -errno with *err set; -EINTR: the user stopped it. */
int copy_run(const struct copy *what, struct progress *progress, struct err *err);

#endif
