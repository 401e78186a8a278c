/*
 * fake_disk: a disk in memory whose completions a test controls.
 *
 * By default commit completes every request, as for a cached read. With
 * hold, requests stay until fake_disk_release, which completes the oldest n
 * from the loop, as a slow device does.
 */
#ifndef BANTAM_FAKE_DISK_H
#define BANTAM_FAKE_DISK_H

#include "devices/backend/disk/disk.h"

#define FAKE_DISK_MAX 4096

struct fake_disk {
	struct disk disk; /* first */
	uint8_t *data;	  /* the caller owns it */
	struct disk_req *taken[FAKE_DISK_MAX];
	unsigned ntaken;
	unsigned nready; /* the first nready of taken: reap completes these */
	bool hold;
	bool elsewhere;	   /* behave as if threads were working on the held requests */
	int fail;	   /* every result from now on, if negative */
	uint64_t new_size; /* the size that refresh finds; 0: no change; 1: refresh fails */
	bool *closed;	   /* set to true by close, if given */
	/* records */
	unsigned commits, reaps, drains, grows;
	unsigned ops[DISK_WRITE_ZEROES + 1];
	unsigned durable; /* writes with the durable flag */
	struct disk_req last;
};

/* A writable disk of size_bytes of data, with all operations; change disk's fields before use. */
void fake_disk_init(struct fake_disk *f, uint8_t *data, uint64_t size_bytes);
/* Releases the oldest n requests: calls disk.wake. */
void fake_disk_release(struct fake_disk *f, unsigned n);

#endif
