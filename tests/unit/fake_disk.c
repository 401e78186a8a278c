/* fake_disk: see fake_disk.h. */
#include "tests/unit/fake_disk.h"

#include <errno.h>
#include <string.h>

static int perform(struct fake_disk *f, const struct disk_req *req)
{
	uint64_t at = req->offset;

	if (f->fail)
		return f->fail;
	if (req->op == DISK_FLUSH)
		return 0;
	BUG_ON(at > f->disk.size_bytes || req->len_bytes > f->disk.size_bytes - at);
	if (req->op == DISK_DISCARD || req->op == DISK_WRITE_ZEROES) {
		memset(f->data + at, 0, req->len_bytes);
		return 0;
	}
	for (unsigned i = 0; i < req->niov; i++) {
		if (req->op == DISK_READ)
			memcpy(req->iov[i].iov_base, f->data + at, req->iov[i].iov_len);
		else
			memcpy(f->data + at, req->iov[i].iov_base, req->iov[i].iov_len);
		at += req->iov[i].iov_len;
	}
	BUG_ON(at != req->offset + req->len_bytes);
	return 0;
}

static void finish_ready(struct fake_disk *f)
{
	while (f->nready) {
		struct disk_req *req = f->taken[0];

		f->nready--;
		f->ntaken--;
		memmove(f->taken, f->taken + 1, f->ntaken * sizeof(f->taken[0]));
		req->done(req, perform(f, req));
		if (!f->hold)
			f->nready = f->ntaken;
	}
}

static void fake_submit(struct disk *disk, struct disk_req *req)
{
	struct fake_disk *f = (struct fake_disk *)disk;

	BUG_ON(f->ntaken == FAKE_DISK_MAX);
	f->taken[f->ntaken++] = req;
	f->ops[req->op]++;
	f->durable += req->op == DISK_WRITE && req->durable;
	f->last = *req;
}

static void fake_commit(struct disk *disk)
{
	struct fake_disk *f = (struct fake_disk *)disk;

	f->commits++;
	if (f->hold)
		return;
	f->nready = f->ntaken;
	finish_ready(f);
}

static void fake_reap(struct disk *disk)
{
	struct fake_disk *f = (struct fake_disk *)disk;

	f->reaps++;
	finish_ready(f);
}

static void fake_drain(struct disk *disk)
{
	struct fake_disk *f = (struct fake_disk *)disk;

	f->drains++;
	f->hold = false;
	f->nready = f->ntaken;
	finish_ready(f);
}

static int fake_refresh(struct disk *disk, struct err *err)
{
	struct fake_disk *f = (struct fake_disk *)disk;

	if (f->new_size == 1)
		return err_sys(err, EIO, "fake disk");
	if (!f->new_size || f->new_size == disk->size_bytes)
		return 0;
	disk->size_bytes = f->new_size;
	return 1;
}

static int fake_grow(struct disk *disk, uint64_t size_bytes, uint64_t *now, struct err *err)
{
	struct fake_disk *f = (struct fake_disk *)disk;

	f->grows++;
	if (f->fail)
		return err_sys(err, -f->fail, "fake disk");
	*now = size_bytes;
	return 0;
}

static void fake_close(struct disk *disk)
{
	struct fake_disk *f = (struct fake_disk *)disk;

	BUG_ON(f->ntaken);
	if (f->closed)
		*f->closed = true;
}

static bool fake_busy_elsewhere(const struct disk *disk)
{
	const struct fake_disk *f = (const struct fake_disk *)disk;

	return f->elsewhere && f->ntaken;
}

static const struct disk_ops fake_ops = {
	.submit = fake_submit,
	.commit = fake_commit,
	.reap = fake_reap,
	.drain = fake_drain,
	.busy_elsewhere = fake_busy_elsewhere,
	.refresh = fake_refresh,
	.grow = fake_grow,
	.close = fake_close,
};

void fake_disk_init(struct fake_disk *f, uint8_t *data, uint64_t size_bytes)
{
	memset(f, 0, sizeof(*f));
	f->data = data;
	f->disk = (struct disk){
		.ops = &fake_ops,
		.size_bytes = size_bytes,
		.block_bytes = 512,
		.physical_bytes = 4096,
		.discard_bytes = 65536,
		.can_discard = true,
		.cached = true,
		.can_write_zeroes = true,
	};
}

void fake_disk_release(struct fake_disk *f, unsigned n)
{
	f->nready = n < f->ntaken ? n : f->ntaken;
	f->disk.wake(f->disk.wake_opaque);
}
