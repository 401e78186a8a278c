/* disk_qcow2: many requests in flight, both engines, O_DIRECT: data, errors, close. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/disk/disk.h"
#include "tests/unit/proc.h"
#include "tests/unit/qcow2_files.h"

TestSuite(disk_qcow2, .init = scratch_enter, .fini = scratch_leave, .timeout = 240);

#define DISK_BYTES (6 * MIB + 512)
#define DEPTH 24u

struct ctx {
	struct loop *loop;
	struct disk *disk;
	unsigned inflight;
	unsigned state;
	bool worked; /* a worker handled the last request of one() */
	uint8_t *want;
};

struct slot {
	struct disk_req req; /* first */
	struct ctx *ctx;
	struct iovec iov[5];
	uint8_t *buf;
	uint64_t offset, len;
	bool busy;
	int result;
};

static unsigned rnd(struct ctx *c, unsigned n)
{
	c->state = c->state * 1103515245u + 12345u;
	return (c->state >> 8) % n;
}

static void wake(void *opaque)
{
	struct ctx *c = opaque;

	c->disk->ops->reap(c->disk);
	loop_stop(c->loop);
}

static void open_disk(struct ctx *c, const char *path, enum disk_engine engine, bool ro,
		      bool direct)
{
	struct disk_config cfg = {
		.path = path, .engine = engine, .readonly = ro, .direct = direct
	};
	struct err err = { "" };

	if (!c->loop)
		cr_assert_eq(loop_create(&c->loop, NULL), 0);
	cfg.loop = c->loop;
	cr_assert_eq(disk_open(&cfg, &c->disk, &err), 0, "%s", err.text);
	c->disk->wake = wake;
	c->disk->wake_opaque = c;
}

static void done(struct disk_req *req, int result)
{
	struct slot *s = (struct slot *)req;
	struct ctx *c = s->ctx;

	cr_assert(s->busy);
	cr_assert_eq(result, 0, "op %d at %lu +%lu: %s", req->op, s->offset, s->len,
		     strerror(-result));
	s->busy = false;
	c->inflight--;
	switch (req->op) {
	case DISK_READ:
		for (uint64_t i = 0; i < s->len; i++)
			cr_assert(s->buf[i] == c->want[s->offset + i], "byte %lu: %u, not %u",
				  s->offset + i, s->buf[i], c->want[s->offset + i]);
		break;
	case DISK_WRITE:
		memcpy(c->want + s->offset, s->buf, s->len);
		break;
	case DISK_WRITE_ZEROES:
		memset(c->want + s->offset, 0, s->len);
		break;
	default:
		break;
	}
}

static bool overlaps(const struct slot *slots, uint64_t offset, uint64_t len)
{
	for (unsigned i = 0; i < DEPTH; i++)
		if (slots[i].busy && offset < slots[i].offset + slots[i].len &&
		    slots[i].offset < offset + len)
			return true;
	return false;
}

static void start(struct ctx *c, struct slot *slots, struct slot *s)
{
	static const enum disk_op ops[] = { DISK_READ,	DISK_READ,	   DISK_READ,
					    DISK_WRITE, DISK_WRITE,	   DISK_WRITE,
					    DISK_WRITE, DISK_WRITE_ZEROES, DISK_FLUSH };
	enum disk_op op = ops[rnd(c, 9)];
	uint64_t sectors = rnd(c, 4) ? rnd(c, 16) + 1 : rnd(c, 500) + 1;
	uint64_t offset = rnd(c, (unsigned)(DISK_BYTES / 512 - sectors)) * 512ull;
	uint64_t len = sectors * 512, part = len / 4;

	if (op == DISK_FLUSH)
		offset = len = 0;
	if (len && overlaps(slots, offset, len))
		return;
	s->ctx = c;
	s->offset = offset;
	s->len = len;
	s->busy = true;
	if (op == DISK_WRITE)
		pattern(s->buf, len, c->state);
	/* Pieces of odd lengths. */
	s->iov[0] = (struct iovec){ s->buf, part };
	s->iov[1] = (struct iovec){ s->buf + part, 3 };
	s->iov[2] = (struct iovec){ s->buf + part + 3, len - part - 3 };
	if (rnd(c, 2))
		s->iov[0].iov_len = len;
	s->req = (struct disk_req){ .op = op,
				    .offset = offset,
				    .len_bytes = len,
				    .iov = s->iov,
				    .niov = s->iov[0].iov_len == len ? 1 : 3,
				    .done = done,
				    .unmap = rnd(c, 2),
				    .durable = !rnd(c, 8) };
	c->inflight++;
	c->disk->ops->submit(c->disk, &s->req);
	cr_assert(s->busy, "done inside submit");
}

/* Another thread that makes the disk larger again and again, and at last as large as to. */
struct grower {
	struct disk *disk;
	uint64_t to;
	unsigned times;
	atomic_bool stop;
	char failed[300];
};

static void *grow_main(void *opaque)
{
	struct grower *g = opaque;
	uint64_t size = DISK_BYTES, now = size;
	struct err err = { "" };
	int rc = 0;

	while (!rc && now < g->to) {
		/* Odd steps; within a cluster, and over the end of a backing file. */
		size += 512 * (1 + g->times * 7919 % 211);
		if (size > g->to || atomic_load(&g->stop))
			size = g->to;
		rc = g->disk->ops->grow(g->disk, size, &now, &err);
		if (!rc && now != size)
			snprintf(g->failed, sizeof(g->failed), "%lu, not %lu bytes", now, size);
		g->times++;
	}
	if (rc)
		snprintf(g->failed, sizeof(g->failed), "%.250s", err.text);
	return NULL;
}

/* From this seed on, the disk is prepared, and then makes no thread and no descriptor. */
#define PREPARED 50u

/* grow_to 0: it keeps its size. */
static void hammer_growing(const char *image, enum disk_engine engine, bool direct, unsigned seed,
			   unsigned n, uint64_t grow_to)
{
	unsigned threads = 0, fds = 0;
	struct ctx c = { .state = seed };
	struct grower g = { .to = grow_to };
	pthread_t thread;
	struct slot *slots = calloc(DEPTH, sizeof(*slots));
	struct store *s;
	int fd;

	c.want = malloc(DISK_BYTES);
	s = must_open(image, STORE_QCOW2, true);
	cr_assert_eq(store_read(s, c.want, 0, DISK_BYTES), 0);
	store_close(s);
	for (unsigned i = 0; i < DEPTH; i++)
		cr_assert(!posix_memalign((void **)&slots[i].buf, 4096, 512 * KIB));
	open_disk(&c, image, engine, false, direct);
	g.disk = c.disk;
	if (seed >= PREPARED) {
		c.disk->ops->prepare(c.disk);
		threads = proc_threads();
		fds = proc_fds(0);
		cr_assert_gt(threads, 1);
	}
	if (grow_to)
		cr_assert_eq(pthread_create(&thread, NULL, grow_main, &g), 0);
	while (n) {
		for (unsigned i = 0; i < DEPTH && n; i++)
			if (!slots[i].busy && rnd(&c, 3)) {
				start(&c, slots, &slots[i]);
				n--;
			}
		c.disk->ops->commit(c.disk);
		if (c.inflight == DEPTH)
			cr_assert_eq(loop_run(c.loop), 0);
		if (!rnd(&c, 100))
			c.disk->ops->drain(c.disk);
	}
	atomic_store(&g.stop, true);
	if (grow_to)
		pthread_join(thread, NULL);
	cr_assert(!g.failed[0], "%s", g.failed);
	c.disk->ops->drain(c.disk);
	cr_assert_eq(c.inflight, 0);
	if (seed >= PREPARED) {
		cr_expect(proc_threads_are(threads));
		cr_expect_eq(proc_fds(0), fds);
	}
	disk_close(c.disk);
	fd = open("mirror", O_RDWR | O_CREAT | O_TRUNC, 0600);
	cr_assert(fd >= 0 && write(fd, c.want, DISK_BYTES) == (ssize_t)DISK_BYTES);
	/* What is new reads as zeroes. */
	cr_assert(!grow_to || !ftruncate(fd, (off_t)grow_to));
	close(fd);
	cr_assert_eq(qemu_check(image), 0);
	must("qemu-img compare -f raw -F qcow2 mirror %s", image);
	loop_destroy(c.loop);
	for (unsigned i = 0; i < DEPTH; i++)
		free(slots[i].buf);
	free(slots);
	free(c.want);
}

static void hammer(const char *image, enum disk_engine engine, bool direct, unsigned seed,
		   unsigned n)
{
	hammer_growing(image, engine, direct, seed, n, 0);
}

Test(disk_qcow2, grows_under_load)
{
	static const struct {
		const char *create;
		enum disk_engine engine;
		bool direct;
		uint64_t to;
	} t[] = {
		/* to: with a longer L1 table */
		{ "", DISK_ENGINE_AUTO, false, 3072 * MIB },
		{ "-o cluster_size=512", DISK_ENGINE_THREADS, false, 64 * MIB },
		{ "-b big -F raw", DISK_ENGINE_AUTO, true, 2048 * MIB },
		{ "-b big -F raw -o cluster_size=4k,compat=0.10", DISK_ENGINE_AUTO, false,
		  20 * MIB },
		{ "-o cluster_size=2M", DISK_ENGINE_AUTO, false, 100 * MIB },
	};

	make_raw("big", 12 * MIB + 512, 1);
	for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		must("rm -f q.qcow2; qemu-img create -q -f qcow2 %s q.qcow2 %u", t[i].create,
		     DISK_BYTES);
		hammer_growing("q.qcow2", t[i].engine, t[i].direct, i + 1, 3000, t[i].to);
	}
}

Test(disk_qcow2, many_in_flight)
{
	static const struct {
		const char *create;
		enum disk_engine engine;
		bool direct;
	} t[] = {
		{ "", DISK_ENGINE_AUTO, false },
		{ "", DISK_ENGINE_THREADS, false },
		{ "", DISK_ENGINE_IO_URING, true },
		{ "-o cluster_size=512", DISK_ENGINE_AUTO, false },
		{ "-o cluster_size=2M,compat=0.10", DISK_ENGINE_AUTO, false },
		{ "-b base.qcow2 -F qcow2", DISK_ENGINE_AUTO, false },
		{ "-b base.qcow2 -F qcow2 -o cluster_size=4k", DISK_ENGINE_THREADS, true },
		{ "-b raw -F raw", DISK_ENGINE_IO_URING, true },
		{ "-b raw -F raw -o compat=0.10", DISK_ENGINE_AUTO, false },
		{ "-b mid.qcow2 -F qcow2 -o refcount_bits=1", DISK_ENGINE_AUTO, false },
	};

	make_raw("raw", 4 * MIB + 512, 1);
	must("qemu-img convert -c -f raw -O qcow2 raw base.qcow2");
	must("qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 mid.qcow2 3M");
	must("qemu-io -f qcow2 -c 'write -P 5 1M 300k' mid.qcow2");
	for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		must("rm -f q.qcow2; qemu-img create -q -f qcow2 %s q.qcow2 %u", t[i].create,
		     DISK_BYTES);
		hammer("q.qcow2", t[i].engine, t[i].direct, i + 1, 3000);
		/* Again, on the data written before. */
		hammer("q.qcow2", t[i].engine, t[i].direct, i + PREPARED, 600);
	}
}

Test(disk_qcow2, many_in_flight_over_a_snapshot)
{
	must("qemu-img create -q -f qcow2 q.qcow2 %u", DISK_BYTES);
	hammer("q.qcow2", DISK_ENGINE_AUTO, false, 1, 1000);
	must("qemu-img snapshot -c s q.qcow2");
	must("cp mirror snapshot");
	hammer("q.qcow2", DISK_ENGINE_AUTO, false, 2, 1000);
	must("qemu-img convert -l snapshot.name=s -f qcow2 -O raw q.qcow2 got");
	must("cmp snapshot got");
}

struct one {
	struct disk_req req; /* first */
	int result;
	unsigned count;
};

static void one_done(struct disk_req *req, int result)
{
	struct one *o = (struct one *)req;

	o->result = result;
	o->count++;
}

static int one(struct ctx *c, enum disk_op op, uint64_t offset, void *buf, uint64_t len)
{
	struct iovec iov = { buf, len };
	struct one o = { .req = { .op = op,
				  .offset = offset,
				  .len_bytes = len,
				  .iov = &iov,
				  .niov = 1,
				  .done = one_done } };

	c->disk->ops->submit(c->disk, &o.req);
	c->disk->ops->commit(c->disk);
	c->worked = c->disk->ops->busy_elsewhere(c->disk);
	c->disk->ops->drain(c->disk);
	cr_assert_eq(o.count, 1);
	return o.result;
}

Test(disk_qcow2, flushed_means_readable_by_others)
{
	struct ctx c = { 0 };
	uint8_t buf[4096], got[4096];
	struct store *s;

	must("qemu-img create -q -f qcow2 q.qcow2 1M");
	open_disk(&c, "q.qcow2", DISK_ENGINE_AUTO, false, false);
	cr_assert_eq(c.disk->discard_bytes, 64 * KIB);
	pattern(buf, sizeof(buf), 1);
	cr_assert_eq(one(&c, DISK_WRITE, 64 * KIB, buf, sizeof(buf)), 0);
	cr_assert_eq(one(&c, DISK_FLUSH, 0, NULL, 0), 0);
	/* The copy is what a crash would leave. */
	must("cp q.qcow2 copy.qcow2");
	cr_assert_eq(qemu_check("copy.qcow2"), 0);
	s = must_open("copy.qcow2", STORE_AUTO, true);
	cr_assert_eq(store_read(s, got, 64 * KIB, sizeof(got)), 0);
	cr_assert(!memcmp(buf, got, sizeof(buf)));
	store_close(s);
	cr_assert_eq(one(&c, DISK_DISCARD, 0, NULL, MIB), 0);
	cr_assert_eq(one(&c, DISK_READ, 64 * KIB, got, sizeof(got)), 0);
	disk_close(c.disk);
	loop_destroy(c.loop);
}

Test(disk_qcow2, reading_changes_nothing)
{
	struct ctx c = { 0 };
	uint8_t got[4096];

	make_raw("raw", MIB, 3);
	must("qemu-img convert -f raw -O qcow2 raw q.qcow2; truncate -s -1000 q.qcow2");
	must("qemu-img bitmap --add q.qcow2 b");
	must("sha256sum q.qcow2 > sum");
	for (int ro = 0; ro < 2; ro++) {
		open_disk(&c, "q.qcow2", DISK_ENGINE_AUTO, ro, false);
		for (uint64_t at = 0; at < MIB; at += sizeof(got))
			cr_assert_eq(one(&c, DISK_READ, at, got, sizeof(got)), 0);
		cr_assert_eq(one(&c, DISK_FLUSH, 0, NULL, 0), 0);
		disk_close(c.disk);
		must("sha256sum -c sum");
	}
	/* The first write makes the bitmap invalid, and marks it so in the header. */
	open_disk(&c, "q.qcow2", DISK_ENGINE_AUTO, false, false);
	cr_assert_eq(one(&c, DISK_WRITE, 0, got, sizeof(got)), 0);
	disk_close(c.disk);
	cr_assert_eq(peek64("q.qcow2", 88), 0);
	loop_destroy(c.loop);
}

/* Returns true if this file system supports RWF_NOWAIT: reads only from its page cache. */
static bool tells_what_is_cached(const char *path)
{
	uint8_t byte;
	struct iovec iov = { &byte, 1 };
	int fd = open(path, O_RDONLY);
	bool can = preadv2(fd, &iov, 1, 0, RWF_NOWAIT) == 1;

	close(fd);
	return can;
}

Test(disk_qcow2, metadata_in_the_page_cache_needs_no_worker)
{
	struct ctx c = { 0 };
	uint8_t buf[4096];

	make_raw("raw", 32 * MIB, 3);
	must("qemu-img convert -S 0 -f raw -O qcow2 -o cluster_size=4k raw q.qcow2; cat q.qcow2 >/dev/null");
	if (!tells_what_is_cached("q.qcow2"))
		cr_skip("this file system does not know preadv2's RWF_NOWAIT");
	open_disk(&c, "q.qcow2", DISK_ENGINE_AUTO, false, false);
	/* Each L2 table maps 2 MiB. */
	for (uint64_t at = 0; at < 32 * MIB; at += 2 * MIB) {
		cr_assert_eq(one(&c, DISK_READ, at, buf, sizeof(buf)), 0);
		cr_assert(!c.worked, "table at %lu", at);
	}
	/* The very first write waits for a write of the header. */
	cr_assert_eq(one(&c, DISK_WRITE, 0, buf, sizeof(buf)), 0);
	cr_assert(c.worked);
	cr_assert_eq(one(&c, DISK_WRITE, 4 * MIB, buf, sizeof(buf)), 0);
	cr_assert(!c.worked);
	disk_close(c.disk);
	loop_destroy(c.loop);
}

Test(disk_qcow2, errors)
{
	struct ctx c = { 0 };
	uint8_t got[4096] = { 0 };
	uint64_t l2;

	make_raw("raw", MIB, 3);
	must("qemu-img convert -S 0 -f raw -O qcow2 raw q.qcow2");
	l2 = peek64("q.qcow2", peek64("q.qcow2", 40)) & 0xffffffffffff00;
	poke64("q.qcow2", l2 + 8, 0x8000000000000000 | 1ull << 40);
	open_disk(&c, "q.qcow2", DISK_ENGINE_AUTO, true, false);
	cr_assert_eq(one(&c, DISK_READ, 0, got, sizeof(got)), 0);
	cr_assert_eq(one(&c, DISK_READ, 64 * KIB, got, sizeof(got)), -EIO);
	cr_assert_eq(one(&c, DISK_WRITE, 0, got, sizeof(got)), -EROFS);
	cr_assert_eq(one(&c, DISK_READ, 128 * KIB, got, sizeof(got)), 0);
	disk_close(c.disk);
	loop_destroy(c.loop);
}
