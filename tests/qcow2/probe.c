/*
 * probe: does with an image that may be damaged what a VM does. It opens the image for writing (or,
 * if that is refused, for reading), reads it, writes bytes of PATTERN to some places, zeroes,
 * discards, flushes and closes; first through store.h, then through disk.h. I/O errors count as
 * success: the caller checks the exit status, the one line of a refusal, and the files.
 *
 * Standard output: "writable", "read-only" or "refused", and how many reads and writes failed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/qcow2/torture.h"

#define PATTERN 0xa5
#define CHUNK (128u * 1024u)
#define READ_MAX (48ull << 20)

static unsigned bad_reads, reads, bad_writes, writes;

static void count(unsigned *all, unsigned *bad, int rc)
{
	++*all;
	*bad += rc != 0;
}

static void read_range(struct store *s, uint8_t *buf, uint64_t from, uint64_t to)
{
	for (uint64_t at = from; at < to; at += CHUNK) {
		uint64_t n = to - at < CHUNK ? to - at : CHUNK;
		struct store_extent e;

		count(&reads, &bad_reads, store_read(s, buf, at, n));
		(void)s->ops->map(s, at, n, &e);
	}
}

static void read_all(struct store *s, uint8_t *buf)
{
	uint64_t size = s->size_bytes, first = size < READ_MAX ? size : READ_MAX;

	read_range(s, buf, 0, first);
	if (size > first)
		read_range(s, buf, size - (size - first < CHUNK ? size - first : CHUNK), size);
}

static void write_some(struct store *s, uint8_t *buf)
{
	uint64_t size = s->size_bytes;

	memset(buf, PATTERN, CHUNK);
	for (unsigned i = 0; i < 24 && size; i++) {
		uint64_t at = size / 24 * i, n = i % 3 ? 3000 : CHUNK;

		if (n > size - at)
			n = size - at;
		count(&writes, &bad_writes, store_write(s, buf, at, n));
		if (i % 5 == 1)
			count(&writes, &bad_writes, s->ops->zero(s, at, n, i & 1));
		if (i % 5 == 2)
			count(&writes, &bad_writes, s->ops->discard(s, at, n));
		if (i % 8 == 7)
			count(&writes, &bad_writes, s->ops->flush(s));
	}
	count(&writes, &bad_writes, s->ops->flush(s));
}

/* --- the same through disk.h, one request after the other ---------------------------------- */

struct guest {
	struct loop *loop;
	struct disk *disk;
	int result;
	bool busy;
};

static struct guest guest;

static void wake(void *opaque)
{
	guest.disk->ops->reap(guest.disk);
	loop_stop(guest.loop);
}

static void done(struct disk_req *req, int result)
{
	guest.result = result;
	guest.busy = false;
}

static void request(enum disk_op op, uint8_t *buf, uint64_t at, uint64_t n)
{
	struct iovec iov = { buf, n };
	struct disk_req req = { .op = op,
				.offset = at,
				.len_bytes = n,
				.iov = &iov,
				.niov = 1,
				.done = done,
				.unmap = true };

	guest.busy = true;
	guest.disk->ops->submit(guest.disk, &req);
	guest.disk->ops->commit(guest.disk);
	while (guest.busy)
		loop_run(guest.loop);
	if (op == DISK_READ)
		count(&reads, &bad_reads, guest.result);
	else
		count(&writes, &bad_writes, guest.result);
}

static int by_disk(const char *image, bool readonly, uint8_t *buf, struct err *err)
{
	struct disk_config cfg = { .path = image,
				   .format = STORE_QCOW2,
				   .engine = DISK_ENGINE_THREADS,
				   .readonly = readonly };
	uint64_t size;
	int rc;

	if (loop_create(&guest.loop, err))
		return -ENOMEM;
	cfg.loop = guest.loop;
	rc = disk_open(&cfg, &guest.disk, err);
	if (!rc) {
		guest.disk->wake = wake;
		size = guest.disk->size_bytes / CHUNK * CHUNK;
		for (uint64_t at = 0; at < size && at < READ_MAX / 4; at += CHUNK)
			request(DISK_READ, buf, at, CHUNK);
		memset(buf, PATTERN, CHUNK);
		for (unsigned i = 0; size && !readonly && i < 12; i++) {
			uint64_t at = size / 12 * i / 4096 * 4096;

			request(DISK_WRITE, buf, at, 4096);
			if (i % 4 == 1)
				request(DISK_WRITE_ZEROES, NULL, at, 4096);
			if (i % 4 == 2)
				request(DISK_DISCARD, NULL, at, 4096);
		}
		request(DISK_FLUSH, NULL, 0, 0);
		disk_close(guest.disk);
	}
	loop_destroy(guest.loop);
	return rc;
}

int torture_probe(const char *image)
{
	struct store_options options = { .path = image, .format = STORE_QCOW2 };
	uint8_t *buf = malloc(CHUNK);
	struct err err = { "" };
	struct store *s;
	int rc = store_open(&options, &s, &err);

	if (rc) {
		fprintf(stderr, "refused: %s\n", err.text);
		options.readonly = true;
		err.text[0] = 0;
		rc = store_open(&options, &s, &err);
		if (rc)
			fprintf(stderr, "refused: %s\n", err.text);
	}
	if (!rc) {
		read_all(s, buf);
		if (!options.readonly)
			write_some(s, buf);
		store_close(s);
	}
	/* The first pass may have marked the image corrupt. */
	err.text[0] = 0;
	if (by_disk(image, options.readonly, buf, &err))
		fprintf(stderr, "refused: %s\n", err.text);
	printf("%s: %u of %u reads failed, %u of %u writes failed\n",
	       rc		? "refused" :
	       options.readonly ? "read-only" :
				  "writable",
	       bad_reads, reads, bad_writes, writes);
	free(buf);
	return 0;
}
