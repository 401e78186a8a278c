/*
 * test_blk_parts: what virtio-blk hands to its disk at once, whatever the guest asks for: parts of
 * requests, bytes in flight, bytes of one turn of the loop; and that a cut request is answered as one.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/blk/blk.h"
#include "devices/virtio/blk/blk_impl.h"
#include "tests/unit/fake_disk.h"
#include "tests/unit/fake_driver.h"

#define F_ALL (1ull << 9 | 1ull << 11 | 1ull << 13 | 1ull << 14 | 1ull << VIRTIO_F_INDIRECT_DESC)
#define QUEUE 64
#define MIB (1u << 20)
#define SMALL_BYTES (8u * MIB)
#define HUGE_BYTES (1ull << 40)
/* Offsets in the test's page: header, status, ranges, table. */
#define HDR 0u
#define STATUS 64u
#define RANGES 128u
#define TABLE 4096u

static struct fake_env f;
static struct fake_driver d;
static struct fake_disk disk;
static struct device *dev;
static uint8_t *bytes;
static gpa_t page;
static uint8_t *host;

static void begin(uint64_t size_bytes)
{
	struct virtio_blk_config cfg = {
		.id = "d0", .queue_size = QUEUE, .nqueues = 1, .discard = true
	};
	struct err err = { "" };

	fake_env_init(&f, FAKE_PCI);
	bytes = calloc(1, SMALL_BYTES);
	fake_disk_init(&disk, bytes, size_bytes);
	disk.disk.can_discard = disk.disk.can_write_zeroes = true;
	cr_assert_eq(blk_create(&f.env, &cfg, &disk.disk, &dev, &err), 0, "%s", err.text);
	fake_driver_find(&d, &f, 0, true);
	page = fake_alloc(&f, 1 << 17);
	host = fake_at(&f, page, 1 << 17);
	fake_driver_start(&d, F_ALL, 1, QUEUE);
}

static void end(void)
{
	disk.fail = -EIO; /* what is still held must not touch bytes */
	device_destroy(dev);
	fake_env_destroy(&f);
	free(bytes);
}

/* Kicks, and runs the loop until nothing more happens. */
static void kick(void)
{
	fake_driver_kick(&d, 0);
	for (unsigned i = 0; i < 100; i++)
		fake_run(&f);
}

/* Writes the table: the header, n pieces, the status. A chain of any head can be it. */
static void table(uint32_t type, uint64_t sector, const struct fake_buf *piece, unsigned n)
{
	struct fake_desc *t = (struct fake_desc *)(host + TABLE);
	struct blk_hdr hdr = { .type = type, .sector = sector };

	memcpy(host + HDR, &hdr, sizeof(hdr));
	t[0] = (struct fake_desc){ page.v + HDR, sizeof(hdr), FAKE_F_NEXT, 1 };
	for (unsigned i = 0; i < n; i++)
		t[1 + i] = (struct fake_desc){ piece[i].addr, piece[i].len,
					       FAKE_F_NEXT | (type == BLK_T_IN ? FAKE_F_WRITE : 0),
					       (uint16_t)(i + 2) };
	t[1 + n] = (struct fake_desc){ page.v + STATUS, 1, FAKE_F_WRITE, 0 };
	host[STATUS] = 0xee;
}

static void offer(unsigned heads, unsigned n)
{
	for (unsigned i = 0; i < heads; i++) {
		d.ring[0].desc[i] = (struct fake_desc){ page.v + TABLE, (n + 2) * 16,
							FAKE_F_INDIRECT, 0 };
		fake_ring_offer(&d.ring[0], (uint16_t)i);
	}
}

/* 62 times the memory above 4 GiB: 248 MiB. */
static void offer_huge(uint32_t type, unsigned heads)
{
	struct fake_buf piece[QUEUE - 2];

	for (unsigned i = 0; i < QUEUE - 2; i++)
		piece[i] = (struct fake_buf){ FAKE_HIGH_BASE, FAKE_HIGH_BYTES };
	table(type, 0, piece, QUEUE - 2);
	offer(heads, QUEUE - 2);
}

static void offer_ranges(uint32_t type, uint32_t nsectors, unsigned heads)
{
	struct blk_range r[BLK_MAX_RANGES] = { { 0 } };
	struct fake_buf piece = { page.v + RANGES, sizeof(r) };

	for (unsigned i = 0; i < BLK_MAX_RANGES; i++)
		r[i] = (struct blk_range){ 3, nsectors, 0 };
	memcpy(host + RANGES, r, sizeof(r));
	table(type, 0, &piece, 1);
	offer(heads, 1);
}

static unsigned answers(void)
{
	return fake_ring_take_all(&d.ring[0]);
}

static uint64_t in_flight(uint64_t *longest)
{
	uint64_t sum = 0;

	*longest = 0;
	for (unsigned i = 0; i < disk.ntaken; i++) {
		sum += disk.taken[i]->len_bytes;
		if (disk.taken[i]->len_bytes > *longest)
			*longest = disk.taken[i]->len_bytes;
	}
	return sum;
}

/* --- one request in parts --------------------------------------------------------- */

/* Pieces of odd lengths, from a place that is not aligned: each part begins where the last one ended. */
static uint64_t odd_pieces(struct fake_buf *piece, unsigned n)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < n; i++) {
		uint32_t len = 60001 + 37 * i;

		if (i == n - 1)
			len = (uint32_t)(512 - sum % 512 + 512);
		/* The third one ends where a part ends. */
		if (i == 2)
			len = MIB / 8;
		piece[i] = (struct fake_buf){ page.v + 8192 + 11 * i, len > 100000 ? 100000 : len };
		sum += piece[i].len;
	}
	return sum;
}

Test(blk_parts, write)
{
	struct fake_buf piece[60];
	uint64_t sum = odd_pieces(piece, 60), at = 512;

	begin(SMALL_BYTES);
	for (unsigned i = 8192; i < 1 << 17; i++)
		host[i] = (uint8_t)(i ^ i >> 8);
	table(BLK_T_OUT, 1, piece, 60);
	offer(1, 60);
	kick();
	cr_assert_eq(answers(), 1);
	cr_assert_eq(host[STATUS], BLK_S_OK);
	cr_assert_eq(disk.ops[DISK_WRITE], (sum + MIB - 1) / MIB);
	for (unsigned i = 0; i < 60; i++) {
		cr_assert_arr_eq(bytes + at, host + (piece[i].addr - page.v), piece[i].len,
				 "piece %u", i);
		at += piece[i].len;
	}
	cr_assert_eq(bytes[at], 0);
	cr_assert_eq(fake_counter(dev, "write_bytes"), sum);
	cr_assert_eq(fake_counter(dev, "write_ops"), 1);
	end();
}

/* A part ends exactly where a piece of memory ends. */
Test(blk_parts, read)
{
	struct fake_buf piece[3] = { { FAKE_HIGH_BASE, MIB },
				     { FAKE_HIGH_BASE + MIB, 3 * MIB / 2 },
				     { FAKE_HIGH_BASE + 3 * MIB, MIB / 2 } };
	struct fake_used_elem e;
	uint8_t *to;

	begin(SMALL_BYTES);
	for (unsigned i = 0; i < SMALL_BYTES; i++)
		bytes[i] = (uint8_t)(i ^ i >> 8 ^ i >> 16);
	table(BLK_T_IN, 7, piece, 3);
	offer(1, 3);
	kick();
	cr_assert(fake_ring_take(&d.ring[0], &e));
	cr_assert_eq(e.len, 3 * MIB + 1);
	cr_assert_eq(host[STATUS], BLK_S_OK);
	to = fake_at(&f, gpa(FAKE_HIGH_BASE), FAKE_HIGH_BYTES);
	cr_assert_arr_eq(to, bytes + 7 * 512, 5 * MIB / 2);
	cr_assert_arr_eq(to + 3 * MIB, bytes + 7 * 512 + 5 * MIB / 2, MIB / 2);
	end();
}

/* A part that fails ends the request when no part is in flight, and its status is the answer. */
Test(blk_parts, failure)
{
	static const int errors[] = { -EIO, -EOPNOTSUPP };

	for (unsigned i = 0; i < 2; i++) {
		begin(HUGE_BYTES);
		disk.hold = true;
		offer_huge(BLK_T_IN, 1);
		kick();
		cr_assert_eq(disk.ntaken, 64);
		disk.fail = errors[i];
		fake_disk_release(&disk, 63);
		cr_assert_eq(answers(), 0);
		cr_assert_eq(disk.ntaken, 1);
		fake_disk_release(&disk, 1);
		cr_assert_eq(answers(), 1);
		cr_assert_eq(host[STATUS], i ? BLK_S_UNSUPP : BLK_S_IOERR);
		cr_assert_eq(disk.ops[DISK_READ], 64);
		end();
	}
}

/* --- bounds ----------------------------------------------------------------------- */

static const struct {
	const char *what;
	uint32_t type, nsectors; /* of a range; 0: a read or write of 248 MiB */
	uint64_t longest, sum;
} bounds[] = {
	{ "reads", BLK_T_IN, 0, MIB, 64 * MIB },
	{ "writes", BLK_T_OUT, 0, MIB, 64 * MIB },
	{ "zeroes", BLK_T_WRITE_ZEROES, BLK_MAX_ZERO_SECTORS, 16 * MIB, 64 * MIB },
	{ "discards", BLK_T_DISCARD, BLK_MAX_DISCARD_SECTORS, 2048ull * MIB, 4 * 2048ull * MIB },
};

static void ask(unsigned i, unsigned heads)
{
	if (bounds[i].nsectors)
		offer_ranges(bounds[i].type, bounds[i].nsectors, heads);
	else
		offer_huge(bounds[i].type, heads);
}

Test(blk_parts, flight)
{
	for (unsigned i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++) {
		uint64_t longest, sum;

		begin(HUGE_BYTES);
		disk.hold = true;
		ask(i, QUEUE);
		kick();
		sum = in_flight(&longest);
		cr_expect(longest && longest <= bounds[i].longest, "%s: %llu", bounds[i].what,
			  (unsigned long long)longest);
		cr_expect(sum && sum <= bounds[i].sum, "%s: %llu", bounds[i].what,
			  (unsigned long long)sum);
		end();
	}
}

/* Past the page cache nothing is copied: parts are longer, and as many bytes are in flight. */
Test(blk_parts, direct)
{
	uint64_t longest;

	begin(HUGE_BYTES);
	disk.disk.cached = false;
	disk.hold = true;
	offer_huge(BLK_T_IN, QUEUE);
	kick();
	cr_expect_eq(in_flight(&longest), 64 * MIB);
	cr_expect_eq(longest, 2 * MIB);
	end();
}

/* What the disk gets in one call of the device by the loop. */
Test(blk_parts, turn)
{
	struct blk *blk;
	uint64_t longest;

	begin(HUGE_BYTES);
	blk = (struct blk *)dev;
	disk.hold = true;
	offer_huge(BLK_T_IN, QUEUE);
	blk->next_queues = 1;
	for (unsigned i = 1; i <= 64; i++) {
		blk_on_again(blk);
		cr_assert_eq(in_flight(&longest), (uint64_t)i * MIB);
	}
	blk_on_again(blk);
	cr_assert_eq(in_flight(&longest), 64 * MIB);
	end();
}

/* Reads pass a line of discards, and a small request is answered while a huge one goes on. */
Test(blk_parts, passing)
{
	struct fake_buf small = { page.v + 8192, 512 };

	begin(HUGE_BYTES);
	disk.hold = true;
	offer_ranges(BLK_T_DISCARD, 8, 8);
	kick();
	cr_assert_eq(disk.ntaken, 4);
	small.addr = page.v + 8192;
	table(BLK_T_IN, 0, &small, 1);
	d.ring[0].desc[20] = (struct fake_desc){ page.v + TABLE, 3 * 16, FAKE_F_INDIRECT, 0 };
	fake_ring_offer(&d.ring[0], 20);
	kick();
	cr_assert_eq(disk.ntaken, 5);
	cr_assert_eq(disk.taken[4]->op, DISK_READ);
	end();
}

/* --- ends ------------------------------------------------------------------------- */

static void *reset_it(void *opaque)
{
	fake_driver_set_status(&d, 0);
	return NULL;
}

/* A reset waits for what is in flight, and for no more; nothing is answered. Then all works. */
Test(blk_parts, reset)
{
	for (unsigned i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++) {
		struct blk *blk;
		pthread_t thread;
		unsigned taken;

		begin(HUGE_BYTES);
		blk = (struct blk *)dev;
		disk.hold = true;
		disk.fail = -EIO;
		ask(i, QUEUE);
		kick();
		taken = disk.ntaken;
		pthread_create(&thread, NULL, reset_it, NULL);
		while (!__atomic_load_n(&blk->aborting, __ATOMIC_SEQ_CST))
			;
		fake_disk_release(&disk, taken);
		pthread_join(thread, NULL);
		cr_assert_eq(disk.ntaken, 0, "%s: more was started", bounds[i].what);
		cr_assert_eq(host[STATUS], 0xee);
		cr_assert_eq(blk->inflight + blk->nwaiting + blk->nranges, 0);
		cr_assert_eq(blk->flight_bytes, 0);
		fake_driver_start(&d, F_ALL, 1, QUEUE);
		disk.hold = false;
		ask(i, 1);
		kick();
		cr_assert_eq(answers(), 1);
		cr_assert_eq(host[STATUS], BLK_S_IOERR);
		end();
	}
}

Test(blk_parts, destroy)
{
	for (unsigned i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++) {
		unsigned ops;

		begin(HUGE_BYTES);
		disk.hold = true;
		disk.fail = -EIO;
		ask(i, QUEUE);
		kick();
		ops = disk.ops[DISK_READ] + disk.ops[DISK_WRITE] + disk.ops[DISK_DISCARD] +
		      disk.ops[DISK_WRITE_ZEROES];
		end();
		cr_assert_eq(disk.ops[DISK_READ] + disk.ops[DISK_WRITE] + disk.ops[DISK_DISCARD] +
				     disk.ops[DISK_WRITE_ZEROES],
			     ops, "%s: the end started more", bounds[i].what);
	}
}
