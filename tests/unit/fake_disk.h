/*
 * fake_disk: a disk in memory whose completions a test controls.
 *
 * By default every request is done inside commit, as a cached read is. With
 * hold, requests stay until fake_disk_release, which finishes the oldest n by
 * way of the loop, as a slow device does.
 */
#ifndef BANTAM_FAKE_DISK_H
#define BANTAM_FAKE_DISK_H

#include "devices/backend/disk/disk.h"

#define FAKE_DISK_MAX 4096

struct fake_disk {
	struct disk disk; /* first */
	uint8_t *data;	  /* the caller's */
	struct disk_req *taken[FAKE_DISK_MAX];
	unsigned ntaken;
	unsigned nready; /* of taken: reap finishes these */
	bool hold;
	bool elsewhere;	   /* as if threads had what is held */
	int fail;	   /* every result from now on, if negative */
	uint64_t new_size; /* what refresh finds; 0: no change; 1: it fails */
	bool *closed;	   /* set to true by close, if given */
	/* records */
	unsigned commits, reaps, drains;
	unsigned ops[DISK_WRITE_ZEROES + 1];
	unsigned durable; /* writes that asked for it */
	struct disk_req last;
};

/* size_bytes of data, writable, with everything; change disk's fields before use. */
void fake_disk_init(struct fake_disk *f, uint8_t *data, uint64_t size_bytes);
/* Let the oldest n go: calls disk.wake. */
void fake_disk_release(struct fake_disk *f, unsigned n);

#endif
