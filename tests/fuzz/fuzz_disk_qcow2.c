/*
 * fuzz_disk_qcow2: requests on a good image as virtio-blk makes them, several in flight, compared
 * with an array. fuzz_qcow2_io does the same without the asynchronous half.
 *
 * Input: a byte for the kind of image (cluster size, version, an image below it, a size to grow from),
 * then 6 bytes for each request. Requests on the same sectors wait for each other, because their order
 * matters here. In the end the check must find neither corruption nor leaks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/backend/disk/disk.h"
#include "devices/backend/qcow2_image/check.h"
#include "vmm/core/log.h"

#define SECTOR 512u
#define DISK_SECTORS 1536u
#define SMALL_SECTORS 701u /* ends within a cluster; the image below goes on */
#define BASE_SECTORS 1001u
#define MOST_SECTORS 256u
#define DEPTH 6u

struct slot {
	struct disk_req req; /* first */
	struct iovec iov[2];
	uint8_t *buf;
	unsigned first, n; /* sectors */
	bool busy;
};

static uint8_t want[DISK_SECTORS * SECTOR];
static char base[64], image[64];
static struct slot slot[DEPTH];
static struct loop *loop;
static struct disk *disk;
static unsigned sectors; /* the disk's size now */

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void wake(void *opaque)
{
}

static void open_disk(const char *path)
{
	struct disk_config cfg = {
		.path = path, .format = STORE_QCOW2, .engine = DISK_ENGINE_THREADS, .loop = loop
	};
	struct err err;

	check(!disk_open(&cfg, &disk, &err));
	disk->wake = wake;
}

static void done(struct disk_req *req, int result)
{
	struct slot *s = (struct slot *)req;
	uint8_t *m = want + s->first * SECTOR;

	check(!result && s->busy);
	s->busy = false;
	switch (req->op) {
	case DISK_READ:
		check(!memcmp(m, s->buf, s->n * SECTOR));
		break;
	case DISK_WRITE:
		memcpy(m, s->buf, s->n * SECTOR);
		break;
	case DISK_WRITE_ZEROES:
		memset(m, 0, s->n * SECTOR);
		break;
	default:
		break;
	}
}

static void drain(void)
{
	disk->ops->commit(disk);
	disk->ops->drain(disk);
	for (unsigned i = 0; i < DEPTH; i++)
		check(!slot[i].busy);
}

/* Returns a free slot for a range that no request in flight overlaps; waits if necessary. */
static struct slot *get_slot(unsigned first, unsigned n)
{
	struct slot *s = NULL;
	bool wait = false;

	for (unsigned i = 0; i < DEPTH; i++) {
		if (!slot[i].busy)
			s = &slot[i];
		else if (first < slot[i].first + slot[i].n && slot[i].first < first + n)
			wait = true;
	}
	if (wait || !s)
		drain();
	return s ? s : &slot[0];
}

static void submit(enum disk_op op, unsigned first, unsigned n, uint8_t fill)
{
	struct slot *s = get_slot(first, n);
	uint64_t len = (uint64_t)n * SECTOR, part = len * (fill & 7) / 8;

	s->first = first;
	s->n = n;
	if (op == DISK_WRITE)
		memset(s->buf, fill | 1, len);
	s->iov[0] = (struct iovec){ s->buf, part };
	s->iov[1] = (struct iovec){ s->buf + part, len - part };
	s->busy = true;
	s->req = (struct disk_req){ .op = op,
				    .unmap = fill & 1,
				    .durable = op == DISK_WRITE && !(fill & 0x18),
				    .offset = (uint64_t)first * SECTOR,
				    .len_bytes = len,
				    .iov = s->iov,
				    .niov = 2,
				    .done = done };
	disk->ops->submit(disk, &s->req);
}

static void done_now(struct disk_req *req, int result)
{
	check(!result);
}

/* Discards; then takes what the disk holds: old bytes or zeroes. */
static void discard(unsigned first, unsigned n)
{
	static uint8_t got[MOST_SECTORS * SECTOR];
	struct iovec iov = { got, (uint64_t)n * SECTOR };
	struct disk_req req = { .op = DISK_DISCARD,
				.offset = (uint64_t)first * SECTOR,
				.len_bytes = iov.iov_len,
				.iov = &iov,
				.niov = 1,
				.done = done_now };
	uint8_t *m = want + first * SECTOR;

	get_slot(first, n);
	disk->ops->submit(disk, &req);
	drain();
	req.op = DISK_READ;
	disk->ops->submit(disk, &req);
	drain();
	for (unsigned i = 0; i < n * SECTOR; i++)
		check(!got[i] || got[i] == m[i]);
	memcpy(m, got, n * SECTOR);
}

/* Grows while requests are in flight. What is new is zeroes, not the image below. */
static void grow(unsigned n)
{
	uint64_t now = sectors * SECTOR;
	struct err err;

	if (n > DISK_SECTORS - sectors)
		n = DISK_SECTORS - sectors;
	check(!disk->ops->grow(disk, (uint64_t)(sectors + n) * SECTOR, &now, &err));
	check(now == (uint64_t)(sectors + n) * SECTOR);
	disk->size_bytes = now;
	memset(want + sectors * SECTOR, 0, n * SECTOR);
	sectors += n;
}

static void step(const uint8_t *op)
{
	unsigned first = (unsigned)(op[1] | op[2] << 8) % sectors;
	unsigned n = op[3] % MOST_SECTORS + 1;

	if (op[4] & 1)
		n = n % 8 + 1;
	if (n > sectors - first)
		n = sectors - first;
	switch (op[0] % 8) {
	case 0 ... 2:
		submit(DISK_WRITE, first, n, op[5]);
		break;
	case 3:
		submit(DISK_WRITE_ZEROES, first, n, op[5]);
		break;
	case 4:
		discard(first, n);
		break;
	case 5:
		submit(DISK_FLUSH, 0, 0, 0);
		break;
	case 6:
		submit(DISK_READ, first, n, op[5]);
		break;
	case 7:
		if (op[4] & 8) {
			grow(n);
			break;
		}
		drain();
		disk_close(disk);
		open_disk(image);
		break;
	}
	if (op[4] & 2)
		disk->ops->commit(disk);
	if (op[4] & 4)
		drain();
}

/* --- images ------------------------------------------------------------------------------------ */

static void make(const char *path, uint64_t nsectors, uint8_t kind)
{
	static const uint32_t clusters[] = { 512, 1024, 4096, 65536 };
	struct store_create c = { .path = path,
				  .format = STORE_QCOW2,
				  .size_bytes = nsectors * SECTOR,
				  .cluster_bytes = clusters[kind & 3],
				  .version = kind & 4 ? 2 : 3 };
	struct err err;

	unlink(path);
	memset(want, 0, sizeof(want));
	if (kind & 8) {
		c.backing = strrchr(base, '/') + 1;
		c.backing_format = STORE_QCOW2;
		for (unsigned i = 0; i < BASE_SECTORS * SECTOR; i++)
			want[i] = (uint8_t)(i / 997 % 255 + 1);
	}
	check(!store_create(&c, &err));
}

static void gone(void)
{
	unlink(base);
	unlink(image);
}

static void begin(void)
{
	const char *dir = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
	struct store_options options = { .path = base, .format = STORE_QCOW2 };
	struct store *s;
	struct err err;

	log_set_level(LOG_ERROR - 1);
	atexit(gone);
	snprintf(base, sizeof(base), "%s/fuzz-%d-base.qcow2", dir, getpid());
	snprintf(image, sizeof(image), "%s/fuzz-%d.qcow2", dir, getpid());
	check(!loop_create(&loop, NULL));
	for (unsigned i = 0; i < DEPTH; i++)
		check((slot[i].buf = malloc(MOST_SECTORS * SECTOR)));
	make(base, BASE_SECTORS, 2);
	/* Any image with this base, to read the expected content of the base. */
	make(image, DISK_SECTORS, 8 | 2);
	check(!store_open(&options, &s, &err));
	check(!store_write(s, want, 0, BASE_SECTORS * SECTOR));
	store_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qcow2_check result = { .repair = QCOW2_REPAIR_NONE };
	struct err err;

	if (size < 1)
		return 0;
	if (!loop)
		begin();
	sectors = data[0] & 16 ? SMALL_SECTORS : DISK_SECTORS;
	make(image, sectors, data[0]);
	open_disk(image);
	for (data++, size--; size >= 6; data += 6, size -= 6)
		step(data);
	grow(DISK_SECTORS);
	for (unsigned at = 0; at < DISK_SECTORS; at += MOST_SECTORS)
		submit(DISK_READ, at, MOST_SECTORS, 3);
	drain();
	disk_close(disk);
	check(!qcow2_check(&result, image, &err));
	check(!result.corruptions && !result.leaks);
	return 0;
}
