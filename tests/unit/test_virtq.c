/* virtq: every way in which a ring can be invalid, and the arithmetic of valid rings. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/core/virtq.h"
#include "tests/unit/fake_driver.h"

#define SIZE 8

struct rig {
	struct fake_env f;
	struct fake_ring r;
	struct virtq q;
	gpa_t buf; /* 64 KiB */
};

static void rig_init(struct rig *t, uint16_t size, bool event_idx)
{
	memset(t, 0, sizeof(*t));
	fake_env_init(&t->f, FAKE_MMIO);
	fake_ring_init(&t->r, &t->f, size);
	t->buf = fake_alloc(&t->f, 65536);
	t->q = (struct virtq){ .size_max = 1024,
			       .s.size = size,
			       .s.desc = t->r.desc_at,
			       .s.avail = t->r.avail_at,
			       .s.used = t->r.used_at };
	cr_assert_eq(virtq_enable(&t->q, &t->f.mem, event_idx), 0);
}

static void set(struct rig *t, unsigned i, uint64_t addr, uint32_t len, uint16_t flags,
		uint16_t next)
{
	t->r.desc[i] = (struct fake_desc){ addr, len, flags, next };
}

/* --- enabling ----------------------------------------------------------------- */

Test(virtq, enable_checks_size_and_addresses)
{
	static const struct {
		const char *what;
		uint16_t size;
		uint64_t desc, avail, used;
		int rc;
	} row[] = {
		{ "good", 8, 0x1000, 0x2000, 0x3000, 0 },
		{ "size 1", 1, 0x1000, 0x2000, 0x3000, 0 },
		{ "largest", 1024, 0x10000, 0x20000, 0x30000, 0 },
		{ "size 0", 0, 0x1000, 0x2000, 0x3000, -EINVAL },
		{ "not a power of two", 6, 0x1000, 0x2000, 0x3000, -EINVAL },
		{ "above size_max", 2048, 0x10000, 0x20000, 0x30000, -EINVAL },
		{ "65535", 65535, 0x10000, 0x20000, 0x30000, -EINVAL },
		{ "32768", 32768, 0x10000, 0x20000, 0x30000, -EINVAL },
		{ "descriptors misaligned", 8, 0x1008, 0x2000, 0x3000, -EINVAL },
		{ "avail misaligned", 8, 0x1000, 0x2001, 0x3000, -EINVAL },
		{ "used misaligned", 8, 0x1000, 0x2000, 0x3002, -EINVAL },
		{ "avail at 2", 8, 0x1000, 0x2002, 0x3000, 0 },
		{ "descriptors in the hole", 8, FAKE_LOW_BYTES, 0x2000, 0x3000, -EINVAL },
		{ "avail in the hole", 8, 0x1000, 0x90000000, 0x3000, -EINVAL },
		{ "used beyond everything", 8, 0x1000, 0x2000, ~0ull << 4, -EINVAL },
		{ "descriptors over the end", 8, FAKE_LOW_BYTES - 0x70, 0x2000, 0x3000, -EINVAL },
		{ "descriptors up to the end", 8, FAKE_LOW_BYTES - 0x80, 0x2000, 0x3000, 0 },
		{ "avail one byte over", 8, 0x1000, FAKE_LOW_BYTES - 20, 0x3000, -EINVAL },
		{ "avail up to the end", 8, 0x1000, FAKE_LOW_BYTES - 22, 0x3000, 0 },
		{ "used over the end", 8, 0x1000, 0x2000, FAKE_LOW_BYTES - 68, -EINVAL },
		{ "high memory", 8, FAKE_HIGH_BASE, FAKE_HIGH_BASE + 0x1000,
		  FAKE_HIGH_BASE + 0x2000, 0 },
		{ "wraps", 8, 0xfffffffffffffff0ull, 0x2000, 0x3000, -EINVAL },
	};
	struct fake_env f;

	fake_env_init(&f, FAKE_MMIO);
	for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct virtq q = { .size_max = 1024,
				   .s.size = row[i].size,
				   .s.desc = gpa(row[i].desc),
				   .s.avail = gpa(row[i].avail),
				   .s.used = gpa(row[i].used) };
		struct chain chain;
		struct iovec iov[4];

		cr_expect_eq(virtq_enable(&q, &f.mem, true), row[i].rc, "%s", row[i].what);
		cr_expect_eq(q.s.ready, !row[i].rc, "%s", row[i].what);
		cr_expect_eq(virtq_pop(&q, &chain, iov, 4), 0, "%s: empty", row[i].what);
		virtq_reset(&q);
		cr_expect(!q.s.ready && q.s.size == 1024 && q.size_max == 1024 && !q.s.desc.v);
	}
	fake_env_destroy(&f);
}

Test(virtq, a_queue_that_is_not_enabled_does_nothing)
{
	struct virtq q = { .size_max = 8, .s.size = 8 };
	struct chain chain;
	struct iovec iov[1];

	cr_expect_eq(virtq_pop(&q, &chain, iov, 1), 0);
	virtq_unpop(&q);
	virtq_push(&q, 3, 4);
	cr_expect(!virtq_wants_interrupt(&q));
	virtq_disable_kicks(&q);
	cr_expect(!virtq_enable_kicks(&q));
}

/* --- broken rings ---------------------------------------------------------------- */

static void bad_head(struct rig *t)
{
	fake_ring_offer(&t->r, SIZE);
}

static void bad_head_max(struct rig *t)
{
	fake_ring_offer(&t->r, 0xffff);
}

static void bad_jump(struct rig *t)
{
	t->r.avail[1] = SIZE + 1;
}

static void bad_jump_back(struct rig *t)
{
	t->r.avail[1] = 0xffff;
}

static void bad_next(struct rig *t)
{
	set(t, 0, t->buf.v, 16, FAKE_F_NEXT, SIZE);
	fake_ring_offer(&t->r, 0);
}

static void bad_loop_self(struct rig *t)
{
	set(t, 0, t->buf.v, 16, FAKE_F_NEXT, 0);
	fake_ring_offer(&t->r, 0);
}

static void bad_loop_all(struct rig *t)
{
	for (unsigned i = 0; i < SIZE; i++)
		set(t, i, t->buf.v, 16, FAKE_F_NEXT, (uint16_t)((i + 1) % SIZE));
	fake_ring_offer(&t->r, 3);
}

static void bad_zero_length(struct rig *t)
{
	set(t, 0, t->buf.v, 0, 0, 0);
	fake_ring_offer(&t->r, 0);
}

static void bad_address(struct rig *t)
{
	set(t, 0, FAKE_LOW_BYTES, 1, 0, 0);
	fake_ring_offer(&t->r, 0);
}

static void bad_address_top(struct rig *t)
{
	set(t, 0, ~0ull, 2, 0, 0);
	fake_ring_offer(&t->r, 0);
}

static void bad_over_end(struct rig *t)
{
	set(t, 0, FAKE_LOW_BYTES - 15, 16, 0, 0);
	fake_ring_offer(&t->r, 0);
}

static void bad_over_high_end(struct rig *t)
{
	set(t, 0, FAKE_HIGH_BASE + FAKE_HIGH_BYTES - 1, 2, FAKE_F_WRITE, 0);
	fake_ring_offer(&t->r, 0);
}

static void bad_length(struct rig *t)
{
	set(t, 0, t->buf.v, 0xffffffff, 0, 0);
	fake_ring_offer(&t->r, 0);
}

static void bad_order(struct rig *t)
{
	set(t, 0, t->buf.v, 16, FAKE_F_WRITE | FAKE_F_NEXT, 1);
	set(t, 1, t->buf.v, 16, 0, 0);
	fake_ring_offer(&t->r, 0);
}

static void bad_too_long_for_device(struct rig *t)
{
	for (unsigned i = 0; i < 5; i++)
		set(t, i, t->buf.v, 16, i < 4 ? FAKE_F_NEXT : 0, (uint16_t)(i + 1));
	fake_ring_offer(&t->r, 0);
}

static void bad_in_flight(struct rig *t)
{
	struct chain chain;
	struct iovec iov[4];

	set(t, 2, t->buf.v, 16, 0, 0);
	fake_ring_offer(&t->r, 2);
	cr_assert_eq(virtq_pop(&t->q, &chain, iov, 4), 1);
	fake_ring_offer(&t->r, 2);
}

static struct fake_desc *table(struct rig *t, uint32_t len, uint16_t flags)
{
	set(t, 1, t->buf.v + 4096, len, (uint16_t)(FAKE_F_INDIRECT | flags), 0);
	fake_ring_offer(&t->r, 1);
	return fake_at(&t->f, gpa(t->buf.v + 4096), 32);
}

static void bad_indirect_empty(struct rig *t)
{
	table(t, 0, 0);
}

static void bad_indirect_length(struct rig *t)
{
	table(t, 24, 0);
}

static void bad_indirect_huge(struct rig *t)
{
	table(t, (VIRTQ_MAX_SIZE + 1) * 16, 0);
}

static void bad_indirect_most(struct rig *t)
{
	table(t, 0xfffffff0, 0);
}

static void bad_indirect_next(struct rig *t)
{
	table(t, 16, FAKE_F_NEXT);
}

static void bad_indirect_address(struct rig *t)
{
	table(t, 16, 0);
	t->r.desc[1].addr = FAKE_LOW_BYTES - 8;
}

static void bad_indirect_indirect(struct rig *t)
{
	struct fake_desc *d = table(t, 16, 0);

	d[0] = (struct fake_desc){ t->buf.v, 16, FAKE_F_INDIRECT, 0 };
}

static void bad_indirect_index(struct rig *t)
{
	struct fake_desc *d = table(t, 32, 0);

	d[0] = (struct fake_desc){ t->buf.v, 16, FAKE_F_NEXT, 2 };
}

static void bad_indirect_loop(struct rig *t)
{
	struct fake_desc *d = table(t, 32, 0);

	d[0] = (struct fake_desc){ t->buf.v, 16, FAKE_F_NEXT, 1 };
	d[1] = (struct fake_desc){ t->buf.v, 16, FAKE_F_NEXT, 0 };
}

static void bad_indirect_zero(struct rig *t)
{
	struct fake_desc *d = table(t, 16, 0);

	d[0] = (struct fake_desc){ t->buf.v, 0, 0, 0 };
}

static void bad_indirect_order(struct rig *t)
{
	struct fake_desc *d = table(t, 16, 0);

	d[0] = (struct fake_desc){ t->buf.v, 16, 0, 0 };
	set(t, 3, t->buf.v, 16, FAKE_F_WRITE | FAKE_F_NEXT, 1);
	t->r.avail[2] = 3;
}

Test(virtq, broken_rings_stay_broken)
{
	static const struct {
		void (*spoil)(struct rig *t);
		const char *why;
	} row[] = {
		{ bad_head, "head out of range" },
		{ bad_head_max, "head out of range" },
		{ bad_jump, "jumped" },
		{ bad_jump_back, "jumped" },
		{ bad_next, "index out of range" },
		{ bad_loop_self, "more descriptors than the device" },
		{ bad_loop_all, "more descriptors than the device" },
		{ bad_zero_length, "length 0" },
		{ bad_address, "outside memory" },
		{ bad_address_top, "outside memory" },
		{ bad_over_end, "outside memory" },
		{ bad_over_high_end, "outside memory" },
		{ bad_length, "outside memory" },
		{ bad_order, "readable descriptor after" },
		{ bad_too_long_for_device, "more descriptors than the device" },
		{ bad_in_flight, "already in flight" },
		{ bad_indirect_empty, "multiple of 16" },
		{ bad_indirect_length, "multiple of 16" },
		{ bad_indirect_huge, "too long" },
		{ bad_indirect_most, "too long" },
		{ bad_indirect_next, "with a next" },
		{ bad_indirect_address, "table outside memory" },
		{ bad_indirect_indirect, "in an indirect table" },
		{ bad_indirect_index, "index out of range" },
		{ bad_indirect_loop, "loops" },
		{ bad_indirect_zero, "length 0" },
		{ bad_indirect_order, "readable descriptor after" },
	};

	for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct chain chain;
		struct iovec iov[4];
		struct rig t;

		rig_init(&t, SIZE, i % 2);
		row[i].spoil(&t);
		cr_expect_eq(virtq_pop(&t.q, &chain, iov, 4), -EPROTO, "%s", row[i].why);
		cr_assert_not_null(t.q.broken_why, "%s", row[i].why);
		cr_expect_not_null(strstr(t.q.broken_why, row[i].why), "\"%s\", not \"%s\"",
				   t.q.broken_why, row[i].why);
		/* A ring that looks valid again stays broken until the driver resets the device. */
		t.r.avail[1] = 0;
		cr_expect_eq(virtq_pop(&t.q, &chain, iov, 4), -EPROTO);
		cr_expect(!virtq_enable_kicks(&t.q));
		virtq_reset(&t.q);
		t.q.s.size = SIZE;
		t.q.s.desc = t.r.desc_at;
		t.q.s.avail = t.r.avail_at;
		t.q.s.used = t.r.used_at;
		cr_expect_eq(virtq_enable(&t.q, &t.f.mem, false), 0);
		cr_expect_eq(virtq_pop(&t.q, &chain, iov, 4), 0);
		fake_env_destroy(&t.f);
	}
}

/* Loops within the device's own limit. */
Test(virtq, loops_end)
{
	struct iovec iov[2048];
	struct chain chain;
	struct rig t;

	rig_init(&t, SIZE, false);
	bad_loop_all(&t);
	cr_expect_eq(virtq_pop(&t.q, &chain, iov, 2048), -EPROTO);
	cr_expect_str_eq(t.q.broken_why, "a chain that loops");
	fake_env_destroy(&t.f);
}

/* 2048 times 4 MiB - 1 is more than 32 bits hold. */
Test(virtq, sums_below_4g)
{
	struct iovec iov[2048];
	struct fake_desc *d;
	struct chain chain;
	struct rig t;

	rig_init(&t, SIZE, false);
	t.buf = fake_alloc(&t.f, 32768);
	d = fake_at(&t.f, t.buf, 16384);
	for (unsigned i = 0; i < 1024; i++)
		d[i] = (struct fake_desc){ FAKE_HIGH_BASE, FAKE_HIGH_BYTES,
					   i < 1023 ? FAKE_F_NEXT : 0, (uint16_t)(i + 1) };
	set(&t, 0, t.buf.v, 1023 * 16, FAKE_F_INDIRECT, 0);
	set(&t, 1, t.buf.v, 1024 * 16, FAKE_F_INDIRECT, 0);
	d[1022].flags = 0;
	fake_ring_offer(&t.r, 0);
	cr_expect_eq(virtq_pop(&t.q, &chain, iov, 2048), 1);
	cr_expect_eq(chain.readable_bytes, 1023ull << 22);
	d[1022].flags = FAKE_F_NEXT;
	fake_ring_offer(&t.r, 1);
	cr_expect_eq(virtq_pop(&t.q, &chain, iov, 2048), -EPROTO);
	fake_env_destroy(&t.f);
}

/* --- valid rings -------------------------------------------------------------------- */

Test(virtq, direct_then_indirect)
{
	struct iovec iov[4];
	struct fake_desc *d;
	struct chain chain;
	struct rig t;
	char text[16] = "";

	rig_init(&t, SIZE, false);
	/* The write flag of the indirect descriptor itself has no meaning; tables need no order. */
	set(&t, 5, t.buf.v, 3, FAKE_F_NEXT, 6);
	set(&t, 6, t.buf.v + 4097, 48, FAKE_F_INDIRECT | FAKE_F_WRITE, 0);
	d = fake_at(&t.f, gpa(t.buf.v + 4097), 48);
	memcpy(d, &(struct fake_desc){ t.buf.v + 3, 2, FAKE_F_NEXT, 2 }, 16);
	memcpy((char *)d + 16, &(struct fake_desc){ FAKE_HIGH_BASE, 4, FAKE_F_WRITE, 7 }, 16);
	memcpy((char *)d + 32,
	       &(struct fake_desc){ t.buf.v + 100, 6, FAKE_F_NEXT | FAKE_F_WRITE, 1 }, 16);
	memcpy(fake_at(&t.f, t.buf, 5), "hello", 5);
	fake_ring_offer(&t.r, 5);

	cr_assert_eq(virtq_pop(&t.q, &chain, iov, 4), 1, "%s", t.q.broken_why);
	cr_expect_eq(chain.head, 5);
	cr_expect_eq(chain.nreadable, 2);
	cr_expect_eq(chain.nwritable, 2);
	cr_expect_eq(chain.readable_bytes, 5);
	cr_expect_eq(chain.writable_bytes, 10);
	cr_expect_eq(virtq_chain_read(&chain, 0, text, sizeof(text)), 5);
	cr_expect_str_eq(text, "hello");
	cr_expect_eq(virtq_chain_read(&chain, 2, text, 2), 2);
	cr_expect_arr_eq(text, "ll", 2);
	cr_expect_eq(virtq_chain_read(&chain, 4, text, 2), 1);
	cr_expect_eq(virtq_chain_read(&chain, 5, text, 2), 0);
	cr_expect_eq(virtq_chain_read(&chain, ~0ull, text, 2), 0);
	cr_expect_eq(virtq_chain_write(&chain, 4, "abcdefgh", 8), 6);
	cr_expect_arr_eq(fake_at(&t.f, gpa(t.buf.v + 104), 2), "ab", 2);
	cr_expect_arr_eq(fake_at(&t.f, gpa(FAKE_HIGH_BASE), 4), "cdef", 4);
	cr_expect_eq(virtq_chain_write(&chain, 10, "x", 1), 0);
	virtq_push(&t.q, chain.head, 10);
	cr_expect(virtq_wants_interrupt(&t.q));
	cr_expect(!virtq_wants_interrupt(&t.q), "nothing was pushed since");
	fake_env_destroy(&t.f);
}

Test(virtq, unpop)
{
	struct iovec iov[4];
	struct chain chain;
	struct rig t;

	rig_init(&t, SIZE, true);
	for (uint16_t i = 0; i < SIZE; i++) {
		set(&t, i, t.buf.v, 16, 0, 0);
		fake_ring_offer(&t.r, i);
	}
	cr_assert_eq(virtq_pop(&t.q, &chain, iov, 4), 1);
	cr_assert_eq(virtq_pop(&t.q, &chain, iov, 4), 1);
	virtq_unpop(&t.q);
	for (uint16_t i = 1; i < SIZE; i++) {
		cr_assert_eq(virtq_pop(&t.q, &chain, iov, 4), 1, "%s", t.q.broken_why);
		cr_assert_eq(chain.head, i);
	}
	cr_assert_eq(virtq_pop(&t.q, &chain, iov, 4), 0);
	fake_env_destroy(&t.f);
}

/* More than 65536 chains, in bursts, completed in any order; the indices wrap. */
static void wrap(uint16_t size, bool event_idx)
{
	struct fake_used_elem e;
	struct iovec iov[2];
	struct chain chain;
	struct rig t;
	uint64_t added = 0, taken = 0;

	rig_init(&t, size, event_idx);
	srand(size);
	while (taken < 140000) {
		unsigned burst = (unsigned)rand() % size + 1;
		uint16_t head[VIRTQ_MAX_SIZE];

		for (unsigned i = 0; i < burst; i++, added++) {
			struct fake_buf b = { t.buf.v + added % 4096, 16 };

			fake_ring_add(&t.r, NULL, 0, &b, 1);
		}
		for (unsigned i = 0; i < burst; i++) {
			cr_assert_eq(virtq_pop(&t.q, &chain, iov, 2), 1, "%s", t.q.broken_why);
			head[i] = chain.head;
		}
		cr_assert_eq(virtq_pop(&t.q, &chain, iov, 2), 0);
		for (unsigned i = burst; i-- > 0;) {
			unsigned pick = (unsigned)rand() % (i + 1);

			virtq_push(&t.q, head[pick], head[pick] + 1u);
			head[pick] = head[i];
		}
		while (fake_ring_take(&t.r, &e)) {
			cr_assert_eq(e.len, e.id + 1);
			taken++;
		}
		cr_assert_eq(taken, added);
	}
	fake_env_destroy(&t.f);
}

Test(virtq, wraps)
{
	wrap(1, false);
	wrap(8, true);
	wrap(1024, true);
	wrap(256, false);
}

/* --- suppression ------------------------------------------------------------------------ */

Test(virtq, flags_suppress_interrupts_and_kicks)
{
	struct fake_buf b;
	struct iovec iov[2];
	struct chain chain;
	struct rig t;

	rig_init(&t, SIZE, false);
	b = (struct fake_buf){ t.buf.v, 16 };
	for (unsigned i = 0; i < 20; i++) {
		virtq_disable_kicks(&t.q);
		cr_assert_eq(t.r.used[0], 1);
		fake_ring_add(&t.r, &b, 1, NULL, 0);
		cr_assert(virtq_enable_kicks(&t.q), "a chain came meanwhile");
		cr_assert_eq(t.r.used[0], 0);
		t.r.avail[0] = i % 2;
		cr_assert_eq(virtq_pop(&t.q, &chain, iov, 2), 1);
		virtq_push(&t.q, chain.head, 0);
		cr_assert_eq(virtq_wants_interrupt(&t.q), i % 2 == 0);
		cr_assert(!virtq_enable_kicks(&t.q));
	}
	fake_env_destroy(&t.f);
}

/* Compare with the definition: did the used index pass used_event since the last decision? */
Test(virtq, used_event_suppresses_interrupts)
{
	struct fake_used_elem e;
	struct iovec iov[2];
	struct chain chain;
	unsigned fired = 0, quiet = 0;
	uint16_t decided = 0;
	struct rig t;

	rig_init(&t, 64, true);
	srand(1);
	for (unsigned round = 0; round < 20000; round++) {
		struct fake_buf b = { t.buf.v, 16 };
		unsigned n = (unsigned)rand() % 20;
		uint16_t event = (uint16_t)(decided + rand() % 40 - 8);
		bool want = false;

		fake_ring_set_used_event(&t.r, event);
		for (unsigned i = 0; i < n; i++) {
			fake_ring_add(&t.r, &b, 1, NULL, 0);
			cr_assert_eq(virtq_pop(&t.q, &chain, iov, 2), 1);
			virtq_push(&t.q, chain.head, 0);
		}
		while (fake_ring_take(&t.r, &e))
			;
		if (rand() % 4 == 0)
			continue; /* a device may push several times before it decides */
		for (uint16_t i = decided; i != t.r.used[1]; i++)
			want |= i == event;
		cr_assert_eq(virtq_wants_interrupt(&t.q), want, "round %u", round);
		decided = t.r.used[1];
		want ? fired++ : quiet++;
	}
	cr_expect(fired > 1000 && quiet > 1000);
	fake_env_destroy(&t.f);
}

/* Exactly 65536 pushes without a decision look like none, but an interrupt is due. */
Test(virtq, used_event_after_a_whole_turn)
{
	struct fake_used_elem e;
	struct iovec iov[2];
	struct chain chain;
	struct rig t;

	rig_init(&t, SIZE, true);
	fake_ring_set_used_event(&t.r, 7);
	for (unsigned i = 0; i < 65536; i++) {
		struct fake_buf b = { t.buf.v, 16 };

		fake_ring_add(&t.r, &b, 1, NULL, 0);
		cr_assert_eq(virtq_pop(&t.q, &chain, iov, 2), 1);
		virtq_push(&t.q, chain.head, 0);
		fake_ring_take(&t.r, &e);
	}
	cr_expect(virtq_wants_interrupt(&t.q));
	cr_expect(!virtq_wants_interrupt(&t.q));
	fake_env_destroy(&t.f);
}

/* The driver's side of section 2.7.10: returns true if adding chains old … new needs a kick. */
static bool driver_kicks(const struct rig *t, uint16_t old)
{
	uint16_t now = t->r.avail[1];

	return (uint16_t)(now - fake_ring_avail_event(&t->r) - 1) < (uint16_t)(now - old);
}

Test(virtq, avail_event_suppresses_kicks)
{
	struct fake_used_elem e;
	struct iovec iov[2];
	struct chain chain;
	struct rig t;

	rig_init(&t, 16, true);
	for (unsigned round = 0; round < 70000; round++) {
		struct fake_buf b = { t.buf.v, 16 };
		uint16_t old = t.r.avail[1];

		fake_ring_add(&t.r, &b, 1, NULL, 0);
		cr_assert(driver_kicks(&t, old), "idle: round %u", round);
		virtq_disable_kicks(&t.q);
		cr_assert_eq(virtq_pop(&t.q, &chain, iov, 2), 1);
		virtq_push(&t.q, chain.head, 0);
		old = t.r.avail[1];
		fake_ring_add(&t.r, &b, 1, NULL, 0);
		cr_assert(!driver_kicks(&t, old), "busy: round %u", round);
		cr_assert(virtq_enable_kicks(&t.q));
		virtq_disable_kicks(&t.q);
		cr_assert_eq(virtq_pop(&t.q, &chain, iov, 2), 1);
		virtq_push(&t.q, chain.head, 0);
		cr_assert_eq(virtq_pop(&t.q, &chain, iov, 2), 0);
		cr_assert(!virtq_enable_kicks(&t.q));
		/* Kicks are disabled and the ring is empty: the device polls. */
		virtq_disable_kicks(&t.q);
		old = t.r.avail[1];
		fake_ring_add(&t.r, &b, 1, NULL, 0);
		cr_assert(!driver_kicks(&t, old), "polled: round %u", round);
		cr_assert(virtq_has_more(&t.q));
		cr_assert_eq(virtq_pop(&t.q, &chain, iov, 2), 1);
		virtq_push(&t.q, chain.head, 0);
		cr_assert(!virtq_enable_kicks(&t.q));
		while (fake_ring_take(&t.r, &e))
			;
	}
	fake_env_destroy(&t.f);
}

/* A device that pops until empty and never disables kicks gets a kick each time. */
Test(virtq, avail_event_without_disable)
{
	struct fake_used_elem e;
	struct iovec iov[2];
	struct chain chain;
	struct rig t;

	rig_init(&t, 16, true);
	for (unsigned round = 0; round < 100; round++) {
		struct fake_buf b = { t.buf.v, 16 };
		uint16_t old = t.r.avail[1];

		fake_ring_add(&t.r, &b, 1, NULL, 0);
		cr_assert(driver_kicks(&t, old));
		while (virtq_pop(&t.q, &chain, iov, 2) > 0)
			virtq_push(&t.q, chain.head, 0);
		fake_ring_take(&t.r, &e);
	}
	fake_env_destroy(&t.f);
}
