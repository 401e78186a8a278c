/* ioapic: lines become messages, an EOI fires a held line again, no register access does harm. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>

#include "vmm/arch/x86_64/ioapic.h"

#define BASE 0xfec00000ull
#define LEVEL (1u << 15)
#define MASKED (1u << 16)
#define REMOTE_IRR (1u << 14)
#define PENDING (1u << 12)

static struct ioapic io;
static struct bus bus;
static struct {
	unsigned messages, watches;
	uint64_t addr, watch_addr;
	uint32_t data, watch_data;
	unsigned watch_pin;
} seen;

static void message(void *opaque, uint64_t addr, uint32_t data)
{
	cr_assert_eq(opaque, &seen);
	seen.messages++;
	seen.addr = addr;
	seen.data = data;
}

static void watch_eoi(void *opaque, unsigned pin, uint64_t addr, uint32_t data)
{
	cr_assert_eq(opaque, &seen);
	seen.watches++;
	seen.watch_pin = pin;
	seen.watch_addr = addr;
	seen.watch_data = data;
}

static const struct ioapic_ops ops = { message, watch_eoi };

static void setup(void)
{
	ioapic_init(&io, &ops, &seen);
	cr_assert_eq(bus_add(&bus, BASE, 0x1000, &ioapic_bus_ops, &io), 0);
}

static void teardown(void)
{
	ioapic_destroy(&io);
}

TestSuite(ioapic, .init = setup, .fini = teardown);

static uint32_t get(uint8_t reg)
{
	bus_write(&bus, BASE, 4, reg);
	return (uint32_t)bus_read(&bus, BASE + 0x10, 4);
}

static void set(uint8_t reg, uint32_t val)
{
	bus_write(&bus, BASE, 4, reg);
	bus_write(&bus, BASE + 0x10, 4, val);
}

static void set_pin(unsigned pin, uint32_t low, uint8_t dest)
{
	set((uint8_t)(0x11 + 2 * pin), (uint32_t)dest << 24);
	set((uint8_t)(0x10 + 2 * pin), low);
}

static uint32_t low_of(unsigned pin)
{
	return get((uint8_t)(0x10 + 2 * pin));
}

Test(ioapic, after_reset)
{
	cr_expect_eq(get(0), 0);
	cr_expect_eq(get(1), 0x00170020, "24 pins, version 0x20");
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		cr_expect_eq(low_of(pin), MASKED);
		ioapic_set_line(&io, pin, 0, true);
		ioapic_set_line(&io, pin, 0, false);
	}
	cr_expect_eq(seen.messages + seen.watches, 0);
	set(0, 0xffffffff);
	cr_expect_eq(get(0), 0x0f000000);
	cr_expect_eq(get(2), 0x0f000000);
	set(1, 0xffffffff);
	set(2, 0);
	cr_expect_eq(get(1), 0x00170020);
	cr_expect_eq(get(2), 0x0f000000);
}

/* Intel SDM volume 3, 11.11: how an entry becomes a message. */
Test(ioapic, message_of_an_entry)
{
	static const struct {
		uint32_t low;
		uint8_t dest;
		uint64_t addr;
		uint32_t data;
	} table[] = {
		{ 0x30, 0, 0xfee00000, 0x4030 },
		{ 0xff, 255, 0xfeeff000, 0x40ff },
		{ 0x31 | 1 << 11, 3, 0xfee03004, 0x4031 },
		{ 0x31 | 1 << 11 | 1 << 8, 3, 0xfee03004, 0x4131 },
		{ 0x00 | 4 << 8, 0, 0xfee00000, 0x4400 },
		{ 0x00 | 7 << 8, 0, 0xfee00000, 0x4700 },
		{ 0x50 | LEVEL, 1, 0xfee01000, 0xc050 },
		{ 0x50 | LEVEL | 1 << 13, 1, 0xfee01000, 0xc050 }, /* the model ignores polarity */
		{ 0xfffe0000 | 0x30, 0, 0xfee00000, 0x4030 },	   /* reserved bits */
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		memset(&seen, 0, sizeof(seen));
		set_pin(5, table[i].low, table[i].dest);
		cr_expect_eq(low_of(5), table[i].low & 0x1ffff, "row %zu", i);
		ioapic_set_line(&io, 5, 0, true);
		cr_expect_eq(seen.messages, 1, "row %zu", i);
		cr_expect_eq(seen.addr, table[i].addr, "row %zu", i);
		cr_expect_eq(seen.data, table[i].data, "row %zu", i);
		ioapic_set_line(&io, 5, 0, false);
		ioapic_eoi(&io, (uint8_t)table[i].low);
	}
}

Test(ioapic, edge)
{
	set_pin(4, 0x34, 0);
	ioapic_set_line(&io, 4, 0, true);
	ioapic_set_line(&io, 4, 0, true);
	cr_expect_eq(seen.messages, 1, "one rise, one message");
	ioapic_eoi(&io, 0x34);
	cr_expect_eq(seen.messages, 1, "no EOI of an edge");
	ioapic_set_line(&io, 4, 0, false);
	cr_expect_eq(seen.messages, 1);
	ioapic_set_line(&io, 4, 0, true);
	cr_expect_eq(seen.messages, 2);
	cr_expect_eq(seen.watches, 0, "an edge pin needs no route");
	/* An edge while masked is lost, as in hardware. */
	ioapic_set_line(&io, 4, 0, false);
	set_pin(4, 0x34 | MASKED, 0);
	ioapic_set_line(&io, 4, 0, true);
	set_pin(4, 0x34, 0);
	cr_expect_eq(seen.messages, 2);
	cr_expect_eq(low_of(4), 0x34);
}

Test(ioapic, level)
{
	set_pin(16, 0x50 | LEVEL | MASKED, 2);
	cr_expect_eq(seen.watches, 0, "a masked pin that never fired needs no route");
	set_pin(16, 0x50 | LEVEL, 2);
	cr_expect_geq(seen.watches, 1);
	cr_expect_eq(seen.watch_pin, 16);
	cr_expect_eq(seen.watch_addr, 0xfee02000);
	cr_expect_eq(seen.watch_data, 0xc050);

	ioapic_set_line(&io, 16, 0, true);
	cr_expect_eq(seen.messages, 1);
	cr_expect_eq(low_of(16), 0x50 | LEVEL | REMOTE_IRR);
	ioapic_set_line(&io, 16, 0, false);
	ioapic_set_line(&io, 16, 0, true);
	cr_expect_eq(seen.messages, 1, "not before the EOI");
	ioapic_eoi(&io, 0x51);
	cr_expect_eq(seen.messages, 1, "another vector");
	ioapic_eoi(&io, 0x50);
	cr_expect_eq(seen.messages, 2, "still high: fires again");
	ioapic_set_line(&io, 16, 0, false);
	ioapic_eoi(&io, 0x50);
	cr_expect_eq(seen.messages, 2);
	cr_expect_eq(low_of(16), 0x50 | LEVEL);
	ioapic_eoi(&io, 0x50);
	cr_expect_eq(seen.messages, 2, "an EOI out of the blue");
}

Test(ioapic, level_high_before_unmask)
{
	ioapic_set_line(&io, 20, 3, true);
	set_pin(20, 0x60 | LEVEL | MASKED, 0);
	cr_expect_eq(seen.messages, 0);
	set_pin(20, 0x60 | LEVEL, 0);
	cr_expect_eq(seen.messages, 1);
	set_pin(20, 0x60 | LEVEL, 0);
	cr_expect_eq(seen.messages, 1, "in service");
}

/* Linux masks a line, ends the interrupt, and unmasks later. */
Test(ioapic, eoi_while_masked)
{
	set_pin(17, 0x51 | LEVEL, 0);
	ioapic_set_line(&io, 17, 0, true);
	seen.watches = 0;
	set_pin(17, 0x51 | LEVEL | MASKED, 0);
	cr_expect(!seen.watches || seen.watch_data, "the EOI would not be reported");
	ioapic_eoi(&io, 0x51);
	cr_expect_eq(low_of(17), 0x51 | LEVEL | MASKED);
	cr_expect_eq(seen.messages, 1, "masked");
	set_pin(17, 0x51 | LEVEL, 0);
	cr_expect_eq(seen.messages, 2, "still high when it was unmasked");
}

Test(ioapic, a_new_message_is_watched)
{
	set_pin(17, 0x51 | LEVEL, 0);
	set_pin(17, 0x51 | LEVEL | MASKED, 3);
	set_pin(17, 0x61 | LEVEL, 3);
	cr_expect_eq(seen.watch_addr, 0xfee03000);
	cr_expect_eq(seen.watch_data, 0xc061);
}

Test(ioapic, level_becomes_edge)
{
	set_pin(17, 0x51 | LEVEL, 0);
	ioapic_set_line(&io, 17, 0, true);
	set_pin(17, 0x51 | MASKED, 0);
	cr_expect_eq(seen.watch_data, 0, "no route any more");
	cr_expect_eq(seen.watch_pin, 17);
	cr_expect_eq(low_of(17), 0x51 | MASKED, "and no remote IRR");
	seen.watches = 0;
	set_pin(17, 0x51, 0);
	cr_expect_eq(seen.watches, 0);
}

Test(ioapic, shared_line)
{
	set_pin(18, 0x52 | LEVEL, 0);
	ioapic_set_line(&io, 18, 0, true);
	ioapic_set_line(&io, 18, 31, true);
	cr_expect_eq(seen.messages, 1);
	ioapic_set_line(&io, 18, 0, false);
	ioapic_eoi(&io, 0x52);
	cr_expect_eq(seen.messages, 2, "the other holder still drives it");
	ioapic_set_line(&io, 18, 0, false); /* not held: no message */
	ioapic_set_line(&io, 18, 31, false);
	ioapic_eoi(&io, 0x52);
	cr_expect_eq(seen.messages, 2);
}

Test(ioapic, two_pins_with_one_vector)
{
	set_pin(18, 0x52 | LEVEL, 0);
	set_pin(19, 0x52 | LEVEL, 0);
	ioapic_set_line(&io, 18, 0, true);
	ioapic_set_line(&io, 19, 0, true);
	ioapic_set_line(&io, 18, 0, false);
	cr_expect_eq(seen.messages, 2);
	ioapic_eoi(&io, 0x52);
	cr_expect_eq(seen.messages, 3);
	cr_expect_eq(low_of(18), 0x52 | LEVEL);
	cr_expect_eq(low_of(19), 0x52 | LEVEL | REMOTE_IRR);
}

Test(ioapic, eoi_register)
{
	set_pin(18, 0x52 | LEVEL, 0);
	ioapic_set_line(&io, 18, 0, true);
	bus_write(&bus, BASE + 0x40, 4, 0x52);
	cr_expect_eq(seen.messages, 2);
	cr_expect_eq(bus_read(&bus, BASE + 0x40, 4), 0);
}

Test(ioapic, read_only_bits)
{
	set_pin(18, 0x52 | LEVEL | MASKED | REMOTE_IRR | PENDING, 0);
	cr_expect_eq(low_of(18), 0x52 | LEVEL | MASKED);
	set_pin(18, 0x52 | LEVEL, 0);
	ioapic_set_line(&io, 18, 0, true);
	set_pin(18, 0x52 | LEVEL, 0); /* a write cannot clear it */
	cr_expect_eq(low_of(18), 0x52 | LEVEL | REMOTE_IRR);
}

Test(ioapic, out_of_range)
{
	ioapic_set_line(&io, IOAPIC_PINS, 0, true);
	ioapic_set_line(&io, UINT32_MAX, 0, true);
	ioapic_set_line(&io, 0, 32, true);
	ioapic_set_line(&io, 0, UINT32_MAX, true);
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		cr_expect_eq(io.s.line[i], 0);
}

/* Every register with every width at every offset: ones, zeros and random values. */
Test(ioapic, hostile_registers)
{
	static const uint64_t vals[] = { 0, ~0ull, 0x8000, 0x123456789abcdef0ull };

	for (unsigned reg = 0; reg < 256; reg++) {
		for (unsigned off = 0; off < 0x1000; off += off < 0x60 ? 1 : 61) {
			for (unsigned size = 1; size <= 8; size++) {
				for (unsigned v = 0; v < 4; v++) {
					bus_write(&bus, BASE, 4, reg);
					bus_write(&bus, BASE + off, size, vals[v]);
					bus_read(&bus, BASE + off, size);
				}
			}
		}
		ioapic_set_line(&io, reg % IOAPIC_PINS, reg % 32, reg & 64);
		ioapic_eoi(&io, (uint8_t)reg);
	}
	for (unsigned reg = 0x10 + 2 * IOAPIC_PINS; reg < 256; reg++) {
		set((uint8_t)reg, 0xffffffff);
		cr_expect_eq(get((uint8_t)reg), 0, "register 0x%x", reg);
	}
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		cr_expect_eq(io.s.entry[pin] & 0x00fffffffffe0000ull, 0);
	cr_expect_eq(get(1), 0x00170020);
}

static void *hammer(void *opaque)
{
	unsigned holder = (unsigned)(uintptr_t)opaque;

	for (int i = 0; i < 20000; i++)
		ioapic_set_line(&io, 21, holder, i & 1);
	return NULL;
}

Test(ioapic, lines_from_many_threads)
{
	pthread_t t[3];

	set_pin(21, 0x70 | LEVEL, 0);
	for (uintptr_t i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, hammer, (void *)i);
	for (int i = 0; i < 20000; i++)
		ioapic_eoi(&io, 0x70);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	/* Each holder's last level is high. */
	cr_expect_eq(io.s.line[21], 7);
	ioapic_eoi(&io, 0x70);
	cr_expect_eq(low_of(21), 0x70 | LEVEL | REMOTE_IRR);
}
