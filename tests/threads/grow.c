/* threads/grow: see grow.h. One thread makes requests on a disk, another makes the disk larger. */
#include "tests/threads/grow.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/backend/disk/disk.h"
#include "devices/backend/qcow2_image/check.h"

#define DISK_BYTES (1u << 20)
#define STEP_BYTES (37u * 512u)
#define PART_BYTES 6144u
#define DEPTH 8u

struct test {
	struct disk *disk;
	atomic_bool stop;
	unsigned long times;
	atomic_int failed; /* -errno of a request, or of a resize */
	uint8_t buf[DEPTH][PART_BYTES];
	uint8_t want[DISK_BYTES / PART_BYTES]; /* what fills each part */
	unsigned part[DEPTH];
	bool busy[DEPTH];
	struct disk_req req[DEPTH];
	struct iovec iov[DEPTH];
};

static struct test t;

static void wake(void *opaque)
{
}

static void done(struct disk_req *req, int result)
{
	unsigned i = (unsigned)(req - t.req);

	if (result)
		atomic_store(&t.failed, result);
	else if (req->op == DISK_WRITE)
		t.want[t.part[i]] = t.buf[i][0];
	else if (req->op == DISK_WRITE_ZEROES)
		t.want[t.part[i]] = 0;
	else if (req->op == DISK_READ && (t.buf[i][0] != t.want[t.part[i]] ||
					  t.buf[i][PART_BYTES - 1] != t.want[t.part[i]]))
		atomic_store(&t.failed, -EIO);
	t.busy[i] = false;
}

static void *grow_main(void *opaque)
{
	uint64_t now = DISK_BYTES;

	while (!atomic_load(&t.stop)) {
		struct err err;
		int rc = t.disk->ops->grow(t.disk, now + STEP_BYTES, &now, &err);

		if (rc)
			atomic_store(&t.failed, rc);
		t.times++;
	}
	return NULL;
}

static void submit(unsigned i, unsigned state)
{
	static const enum disk_op ops[] = { DISK_READ, DISK_WRITE, DISK_WRITE, DISK_WRITE_ZEROES };
	enum disk_op op = state % 16 ? ops[state / 16 % 4] : DISK_FLUSH;

	t.busy[i] = true;
	if (op == DISK_WRITE)
		memset(t.buf[i], (int)(state >> 8 | 1), PART_BYTES);
	t.iov[i] = (struct iovec){ t.buf[i], PART_BYTES };
	t.req[i] = (struct disk_req){ .op = op,
				      .offset = (uint64_t)t.part[i] * PART_BYTES,
				      .len_bytes = op == DISK_FLUSH ? 0 : PART_BYTES,
				      .iov = &t.iov[i],
				      .niov = 1,
				      .unmap = state >> 20 & 1,
				      .done = done };
	t.disk->ops->submit(t.disk, &t.req[i]);
}

/* Each place has its own parts, so that requests on the same part keep their order. */
static unsigned long request(unsigned n)
{
	unsigned state = 1, parts = DISK_BYTES / PART_BYTES / DEPTH;
	unsigned long made = 0;

	while (made < n && !atomic_load(&t.failed)) {
		for (unsigned i = 0; i < DEPTH; i++) {
			if (t.busy[i])
				continue;
			state = state * 1103515245u + 12345u;
			t.part[i] = i * parts + state / 65536 % parts;
			submit(i, state >> 4);
			made++;
		}
		t.disk->ops->commit(t.disk);
		t.disk->ops->reap(t.disk);
	}
	t.disk->ops->drain(t.disk);
	return made;
}

struct grow_result grow_threads(const char *dir, unsigned requests)
{
	struct grow_result r = { 0 };
	struct qcow2_check check = { .repair = QCOW2_REPAIR_NONE };
	struct disk_config cfg = { .format = STORE_QCOW2, .engine = DISK_ENGINE_THREADS };
	struct store_create create = { .format = STORE_QCOW2,
				       .size_bytes = DISK_BYTES,
				       .cluster_bytes = 4096 };
	pthread_t thread;
	struct err err;
	char path[4096];

	snprintf(path, sizeof(path), "%s/grow.qcow2", dir);
	create.path = cfg.path = path;
	if (store_create(&create, &err) || loop_create(&cfg.loop, &err) ||
	    disk_open(&cfg, &t.disk, &err)) {
		r.failed = "making a disk";
		unlink(path);
		return r;
	}
	t.disk->wake = wake;
	if (pthread_create(&thread, NULL, grow_main, NULL))
		abort();
	r.requests = request(requests);
	atomic_store(&t.stop, true);
	pthread_join(thread, NULL);
	r.times = t.times;
	disk_close(t.disk);
	loop_destroy(cfg.loop);
	if (atomic_load(&t.failed))
		r.failed = strerror(-atomic_load(&t.failed));
	else if (qcow2_check(&check, path, &err) || check.corruptions || check.leaks)
		r.failed = "the image is damaged";
	unlink(path);
	return r;
}
