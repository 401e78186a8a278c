/* bus: which device answers at an address, and where none does. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "tests/unit/plug_threads.h"
#include "vmm/core/bus.h"

static struct {
	char who;
	uint64_t off, val;
	unsigned size, calls;
} last;

static uint64_t dev_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	last.who = *(char *)opaque;
	last.off = off;
	last.size = size_bytes;
	last.calls++;
	return 0x1122334455667788ull;
}

static void dev_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	last.val = val;
	dev_read(opaque, off, size_bytes);
}

static const struct bus_ops ops = { dev_read, dev_write };
static const struct bus_ops deaf = { NULL, NULL };
static struct bus bus;

static void setup(void)
{
	cr_assert_eq(bus_add(&bus, 0x100, 0x10, &ops, "b"), 0);
	cr_assert_eq(bus_add(&bus, 0x10, 0x8, &ops, "a"), 0);
	cr_assert_eq(bus_add(&bus, 0x110, 0x10, &ops, "c"), 0);
	cr_assert_eq(bus_add(&bus, 0x200, 0x10, &deaf, NULL), 0);
	cr_assert_eq(bus_add(&bus, UINT64_MAX - 7, 8, &ops, "z"), 0);
}

TestSuite(bus, .init = setup);

Test(bus, finds_the_range)
{
	static const struct {
		uint64_t addr;
		unsigned size;
		char who; /* 0: no device */
		uint64_t off;
	} table[] = {
		{ 0x0f, 1, 0, 0 },
		{ 0x10, 1, 'a', 0 },
		{ 0x10, 8, 'a', 0 },
		{ 0x14, 4, 'a', 4 },
		{ 0x14, 8, 0, 0 },
		{ 0x17, 1, 'a', 7 },
		{ 0x17, 2, 0, 0 },
		{ 0x18, 1, 0, 0 },
		{ 0xff, 2, 0, 0 },
		{ 0x10f, 1, 'b', 15 },
		{ 0x10f, 2, 0, 0 },
		{ 0x110, 4, 'c', 0 },
		{ 0x200, 4, 0, 0 },
		{ UINT64_MAX, 1, 'z', 7 },
		{ UINT64_MAX, 2, 0, 0 },
		{ UINT64_MAX - 7, 8, 'z', 0 },
		{ 0, 8, 0, 0 },
		/* An access across a page boundary comes in odd pieces, which no device accepts. */
		{ 0x10, 3, 0, 0 },
		{ 0x10, 5, 0, 0 },
		{ 0x10, 7, 0, 0 },
		{ 0x10, 0, 0, 0 },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		uint64_t all = table[i].size >= 8 ? ~0ull : (1ull << table[i].size * 8) - 1;
		uint64_t want = table[i].who ? 0x1122334455667788ull & all : all;

		memset(&last, 0, sizeof(last));
		cr_expect_eq(bus_read(&bus, table[i].addr, table[i].size), want, "row %zu", i);
		cr_expect_eq(last.who, table[i].who, "row %zu", i);
		cr_expect_eq(last.off, table[i].off, "row %zu", i);
		bus_write(&bus, table[i].addr, table[i].size, 0xfedcba9876543210ull);
		cr_expect_eq(last.calls, table[i].who ? 2 : 0, "row %zu", i);
		cr_expect_eq(last.val, table[i].who ? 0xfedcba9876543210ull & all : 0, "row %zu",
			     i);
	}
}

Test(bus, add_refuses)
{
	static const struct {
		uint64_t base, len;
		int rc;
	} table[] = {
		{ 0x300, 0, -EINVAL },
		{ UINT64_MAX, 2, -EINVAL },
		{ 0x300, UINT64_MAX, -EINVAL },
		{ 0x10, 1, -EEXIST },
		{ 0x17, 1, -EEXIST },
		{ 0x0f, 2, -EEXIST },
		{ 0, 0x1000, -EEXIST },
		{ 0x18, 0xe9, -EEXIST },
		{ UINT64_MAX, 1, -EEXIST },
		{ UINT64_MAX - 8, 2, -EEXIST },
		{ 0x18, 0xe8, 0 },
		{ 0, 0x10, 0 },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		cr_expect_eq(bus_add(&bus, table[i].base, table[i].len, &ops, "n"), table[i].rc,
			     "row %zu", i);
}

Test(bus, fills_up_and_empties)
{
	unsigned before = bus_count(&bus), n;

	for (n = 0; n < 1000; n++)
		cr_assert_eq(bus_add(&bus, 0x10000 + n * 0x10ull, 0x10, &ops, "n"), 0);
	cr_expect_eq(bus_read(&bus, 0x10000 + 999 * 0x10, 4), 0x55667788);
	bus_remove(&bus, 0x11); /* no range starts there */
	bus_remove(&bus, 0x900000);
	cr_expect_eq(bus_count(&bus), before + 1000);
	bus_remove(&bus, 0x100);
	cr_expect_eq(bus_read(&bus, 0x100, 4), 0xffffffff);
	cr_expect_eq(bus_read(&bus, 0x110, 4), 0x55667788);
	/* Remove in another order: steps of 7, which has no common divisor with 1000. */
	for (n = 0; n < 1000; n++) {
		bus_remove(&bus, 0x10000 + n * 7 % 1000 * 0x10ull);
		cr_expect_eq(bus_read(&bus, 0x10000 + n * 7 % 1000 * 0x10ull, 1), 0xff);
	}
	cr_expect_eq(bus_count(&bus), before - 1);
	bus_remove(&bus, 0x110);
	bus_remove(&bus, 0x10);
	bus_remove(&bus, 0x200);
	bus_remove(&bus, UINT64_MAX - 7);
	bus_remove(&bus, 0);
	cr_expect_eq(bus_count(&bus), 0);
	cr_expect_eq(bus_read(&bus, 0x110, 1), 0xff);
	cr_expect(!bus.table && !bus.spare, "an empty bus holds no memory");
}

/* A range in the owner's memory moves, as a BAR does. */
Test(bus, maps_and_unmaps)
{
	struct bus_range r = { 0x400, 0x10, &ops, "r", NULL, false };

	bus_unmap(&r);
	cr_assert_eq(bus_map(&bus, &r), 0);
	cr_expect_eq(r.bus, &bus);
	bus_remove(&bus, 0x400); /* the owner has this range: it stays */
	cr_expect_eq(bus_read(&bus, 0x404, 1), 0x88);
	bus_unmap(&r);
	cr_expect_null(r.bus);
	cr_expect_eq(bus_read(&bus, 0x404, 1), 0xff);
	r.base = 0x108;
	cr_expect_eq(bus_map(&bus, &r), -EEXIST);
	cr_expect_null(r.bus);
	r.base = 0x120;
	cr_expect_eq(bus_map(&bus, &r), 0);
	cr_expect_eq(bus_read(&bus, 0x12f, 1), 0x88);
	cr_expect(last.who == 'r' && last.off == 0xf);
	bus_unmap(&r);
	bus_wait(&r);
}

static struct bus_range outer, inner;

/* Inside a callback, unmaps the other range, maps it elsewhere and accesses it. */
static uint64_t nested_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	bus_unmap(&inner);
	inner.base += 0x100;
	if (bus_map(&bus, &inner))
		return 0;
	return bus_read(&bus, inner.base + off, size_bytes) + 1;
}

Test(bus, callbacks_may_move_ranges_and_access_them)
{
	static const struct bus_ops nested = { nested_read, NULL };

	outer = (struct bus_range){ 0x1000, 0x10, &nested, NULL, NULL, false };
	inner = (struct bus_range){ 0x2000, 0x10, &ops, "i", NULL, false };
	cr_assert_eq(bus_map(&bus, &outer), 0);
	cr_assert_eq(bus_map(&bus, &inner), 0);
	cr_expect_eq(bus_read(&bus, 0x1004, 1), 0x89);
	cr_expect_eq(bus_read(&bus, 0x1004, 1), 0x89);
	cr_expect(last.who == 'i' && last.off == 4 && inner.base == 0x2200);
	bus_unmap(&outer);
	bus_unmap(&inner);
	bus_wait(&outer);
	bus_wait(&inner);
}

static uint64_t suicidal_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	bus_remove(&bus, 0x1000);
	return 0;
}

/* The removal would wait for this callback forever. */
Test(bus, a_callback_that_removes_its_own_range_is_a_bug, .signal = SIGABRT)
{
	static const struct bus_ops suicidal = { suicidal_read, NULL };

	cr_assert_eq(bus_add(&bus, 0x1000, 0x10, &suicidal, NULL), 0);
	bus_read(&bus, 0x1000, 4);
}

Test(bus, changes_while_threads_access_it)
{
	struct plug_result r = plug_threads_bus(1000);

	cr_expect_eq(r.dead_calls, 0);
	cr_expect_eq(r.wrong_answers, 0);
	cr_expect(r.hits && r.removals >= 2000);
}
