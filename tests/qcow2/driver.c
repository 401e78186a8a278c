/*
 * driver: random operations through disk.h, many in flight, never two on the same sectors.
 * See torture.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/qcow2/torture.h"

static void wake(void *opaque)
{
	struct driver *d = opaque;

	d->disk->ops->reap(d->disk);
	loop_stop(d->loop);
}

void driver_open(struct driver *d, const char *image, enum disk_engine engine, bool direct)
{
	struct disk_config cfg = {
		.path = image, .format = STORE_QCOW2, .engine = engine, .direct = direct
	};
	struct err err = { "" };

	if (loop_create(&d->loop, &err))
		fail("%s", err.text);
	cfg.loop = d->loop;
	if (disk_open(&cfg, &d->disk, &err))
		fail("open: %s", err.text);
	d->disk->wake = wake;
	d->disk->wake_opaque = d;
	d->nsectors = d->disk->size_bytes / SECTOR;
	if (!d->max_sectors)
		d->max_sectors = MAX_SECTORS;
	for (unsigned i = 0; i < DEPTH; i++) {
		d->slot[i].driver = d;
		d->slot[i].busy = false;
		if (posix_memalign((void **)&d->slot[i].buf, 4096, MAX_SECTORS * SECTOR))
			fail("no memory");
	}
}

void driver_close(struct driver *d)
{
	disk_close(d->disk);
	loop_destroy(d->loop);
	for (unsigned i = 0; i < DEPTH; i++)
		free(d->slot[i].buf);
}

/* Checks a read; after a discard, old data and zeroes are both right. */
static void take_read(struct driver *d, struct slot *s)
{
	uint8_t *want = d->mirror + s->op.first * SECTOR;
	static const uint8_t zeroes[SECTOR];

	for (uint64_t i = 0; i < s->op.n; i++) {
		uint8_t *got = s->buf + i * SECTOR;

		if (!memcmp(got, want + i * SECTOR, SECTOR))
			continue;
		if (d->maybe[s->op.first + i] && !memcmp(got, zeroes, SECTOR)) {
			memset(want + i * SECTOR, 0, SECTOR);
			d->maybe[s->op.first + i] = 0;
			continue;
		}
		fail("read of sector %llu: operation %lld, not %lld",
		     (unsigned long long)(s->op.first + i),
		     (long long)sector_seq(got, s->op.first + i),
		     (long long)sector_seq(want + i * SECTOR, s->op.first + i));
	}
}

static void done(struct disk_req *req, int result)
{
	struct slot *s = (struct slot *)req;
	struct driver *d = s->driver;

	if (result)
		fail("operation %d at sector %llu + %llu: %s", (int)s->op.kind,
		     (unsigned long long)s->op.first, (unsigned long long)s->op.n,
		     strerror(-result));
	s->busy = false;
	d->inflight--;
	if (s->op.kind == DISK_FLUSH && d->ledger)
		ledger_flush_end(d->ledger, s->mark);
	else if (s->op.kind != DISK_READ && d->ledger)
		ledger_done(d->ledger, &s->op);
	if (d->note && s->op.kind != DISK_READ)
		d->note(d, &s->op, true, s->mark);
	if (!d->mirror)
		return;
	if (s->op.kind != DISK_READ)
		memset(d->maybe + s->op.first, s->op.kind == DISK_DISCARD, s->op.n);
	if (s->op.kind == DISK_WRITE)
		memcpy(d->mirror + s->op.first * SECTOR, s->buf, s->op.n * SECTOR);
	else if (s->op.kind == DISK_WRITE_ZEROES)
		memset(d->mirror + s->op.first * SECTOR, 0, s->op.n * SECTOR);
	else if (s->op.kind == DISK_READ)
		take_read(d, s);
}

static bool overlaps(const struct driver *d, const struct op *op)
{
	for (unsigned i = 0; i < DEPTH; i++)
		if (d->slot[i].busy && op->first < d->slot[i].op.first + d->slot[i].op.n &&
		    d->slot[i].op.first < op->first + op->n)
			return true;
	return false;
}

static uint64_t pick_length(struct driver *d)
{
	uint64_t max = d->max_sectors;

	switch (rnd(d->rng, 8)) {
	case 0:
		break;
	case 1:
		max = max < 256 ? max : 256;
		break;
	case 2:
		return 8;
	default:
		max = max < 17 ? max : 17;
		break;
	}
	return rnd(d->rng, max) + 1;
}

static void start(struct driver *d, struct slot *s)
{
	static const enum disk_op kinds[] = { DISK_READ,	 DISK_READ,    DISK_WRITE,
					      DISK_WRITE,	 DISK_WRITE,   DISK_WRITE,
					      DISK_WRITE,	 DISK_WRITE,   DISK_WRITE_ZEROES,
					      DISK_WRITE_ZEROES, DISK_DISCARD, DISK_FLUSH };
	struct op op = { .kind = kinds[rnd(d->rng, 12)], .durable = !rnd(d->rng, 16) };
	uint64_t len, part;

	op.n = pick_length(d);
	if (op.n > d->nsectors)
		op.n = d->nsectors;
	op.first = rnd(d->rng, d->nsectors - op.n + 1);
	if (d->hot && rnd(d->rng, 4))
		op.first %= 512;
	if (rnd(d->rng, 4) == 0)
		op.first &= ~7ull;
	if (op.kind == DISK_FLUSH)
		op.first = op.n = 0;
	else if (overlaps(d, &op))
		return;
	op.seq = op.kind == DISK_READ ? 0 : ++*d->seq;
	if (op.kind == DISK_WRITE)
		for (uint64_t i = 0; i < op.n; i++)
			fill_sector(s->buf + i * SECTOR, op.first + i, op.seq);
	len = op.n * SECTOR;
	part = rnd(d->rng, 2) ? len : rnd(d->rng, len + 1);
	s->op = op;
	s->busy = true;
	s->iov[0] = (struct iovec){ s->buf, part };
	s->iov[1] = (struct iovec){ s->buf + part, len - part };
	s->req = (struct disk_req){ .op = op.kind,
				    .unmap = rnd(d->rng, 2),
				    .durable = op.durable,
				    .offset = op.first * SECTOR,
				    .len_bytes = len,
				    .iov = s->iov,
				    .niov = part == len ? 1 : 2,
				    .done = done };
	d->inflight++;
	s->mark = 0;
	if (d->ledger && op.kind == DISK_FLUSH)
		s->mark = ledger_flush_begin(d->ledger);
	else if (d->ledger && op.kind != DISK_READ)
		ledger_issue(d->ledger, &s->op);
	if (d->note && op.kind != DISK_READ)
		d->note(d, &s->op, false, s->mark);
	d->disk->ops->submit(d->disk, &s->req);
}

static void run_loop(struct driver *d)
{
	d->disk->ops->commit(d->disk);
	if (d->inflight && loop_run(d->loop))
		fail("loop_run");
}

void driver_run(struct driver *d, uint64_t n)
{
	uint64_t issued = 0;

	while (issued < n) {
		for (unsigned i = 0; i < DEPTH && issued < n; i++) {
			if (d->slot[i].busy || !rnd(d->rng, 4))
				continue;
			start(d, &d->slot[i]);
			issued += d->slot[i].busy;
		}
		run_loop(d);
	}
	while (d->inflight)
		run_loop(d);
}
