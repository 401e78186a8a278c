/*
 * disk/raw_impl: what disk/raw.c (requests) and disk/raw_open.c (opening, size, closing) share. Only
 * they include it.
 */
#ifndef BANTAM_DISK_RAW_IMPL_H
#define BANTAM_DISK_RAW_IMPL_H

#include "devices/backend/disk/disk_impl.h"
#include "devices/backend/disk/write_here.h"
#include "devices/backend/store/image_file.h"

struct raw {
	struct disk disk;
	struct disk_config cfg;
	struct store_image image;
	char *path;    /* for messages; NULL if attached */
	bool attached; /* another format owns image */
	bool no_punch; /* the file system has refused it once */
	bool no_zero_range;
	unsigned writes;  /* number of finished ones */
	unsigned flushed; /* writes when the last good flush was submitted */
	struct aio *aio;  /* NULL until the first request, or prepare */
	int no_aio;	  /* -errno: prepare has failed, so that no request tries again */
	struct aio_op *settled, **settled_last; /* requests with a result that needed no I/O */
	struct disk_write_here here;
};

/* raw.c: the functions of disk_ops that do requests. */
int disk_raw_start(struct disk *disk, struct err *err);
void disk_raw_prepare(struct disk *disk);
void disk_raw_submit(struct disk *disk, struct disk_req *req);
void disk_raw_commit(struct disk *disk);
void disk_raw_reap(struct disk *disk);
void disk_raw_drain(struct disk *disk);

#endif
