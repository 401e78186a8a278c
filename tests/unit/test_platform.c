/*
 * test_platform: the small devices of the board; every port with every width.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "devices/board/platform.h"
#include "devices/board/utc.h"
#include "tests/unit/fake_env.h"

static struct fake_env f;

static const struct acpi_pm_config pm_config = {
	.sleep_control_port = 0x600,
	.sleep_status_port = 0x601,
	.s5_type = 5,
	.reset_port = 0x602,
	.reset_value = 1,
	.ged_port = 0x604,
	.ged_gsi = 9,
	.ged_holder = 3,
	.power_button_bit = 1,
};

static void setup(void)
{
	fake_env_init(&f, FAKE_MMIO);
}

static void teardown(void)
{
	fake_env_destroy(&f);
}

static uint64_t in(uint16_t port, unsigned size_bytes)
{
	return bus_read(&f.pio, port, size_bytes);
}

static void out(uint16_t port, unsigned size_bytes, uint64_t val)
{
	bus_write(&f.pio, port, size_bytes, val);
}

static unsigned events(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < 8; i++)
		n += f.events[i];
	return n;
}

static const unsigned widths[] = { 1, 2, 4, 8 };

TestSuite(platform, .init = setup, .fini = teardown, .timeout = 30);

/* --- acpi_pm --------------------------------------------------------------- */

static struct device *create_pm(void)
{
	struct device *dev;
	struct err err = { "" };

	cr_assert_eq(acpi_pm_create(&f.env, &pm_config, &dev, &err), 0, "%s", err.text);
	return dev;
}

Test(platform, sleep_and_reset)
{
	struct device *dev = create_pm();

	for (unsigned v = 0; v < 256; v++) {
		memset(f.events, 0, sizeof(f.events));
		out(0x600, 1, v);
		cr_assert_eq(f.events[VM_EVENT_POWEROFF], (v & 0x3c) == (0x20 | 5 << 2), "%x", v);
		cr_assert_eq(events(), f.events[VM_EVENT_POWEROFF]);
	}
	for (unsigned v = 0; v < 256; v++) {
		memset(f.events, 0, sizeof(f.events));
		out(0x602, 1, v);
		out(0x601, 1, v);
		cr_assert_eq(f.events[VM_EVENT_RESET], v == 1);
		cr_assert_eq(events(), f.events[VM_EVENT_RESET]);
	}
	cr_assert_eq(in(0x600, 1), 0);
	cr_assert_eq(in(0x601, 1), 0, "the VM never slept");
	cr_assert_eq(in(0x602, 1), 0);
	device_destroy(dev);
}

/* Fixed hardware: only a board that is not hardware-reduced has it. */
Test(platform, pm1)
{
	struct acpi_pm_config config = pm_config;
	struct err err = { "" };
	struct device *dev = create_pm();

	cr_assert_eq(in(0x60c, 2), 0xffff);
	device_destroy(dev);
	config.pm1_event_port = 0x608;
	config.pm1_control_port = 0x60c;
	cr_assert_eq(acpi_pm_create(&f.env, &config, &dev, &err), 0, "%s", err.text);
	cr_assert_eq(in(0x60c, 2), 1, "SCI_EN");
	for (unsigned v = 0; v < 0x10000; v += 0x100) {
		bool off = (v & 0x3c00) == (0x2000 | 5 << 10);

		memset(f.events, 0, sizeof(f.events));
		out(0x60c, 2, v | 1);
		cr_assert_eq(f.events[VM_EVENT_POWEROFF], off, "%x", v);
		out(0x60d, 1, v >> 8);
		cr_assert_eq(f.events[VM_EVENT_POWEROFF], 2 * off, "%x", v);
		out(0x60c, 1, v >> 8);
		cr_assert_eq(events(), f.events[VM_EVENT_POWEROFF]);
		cr_assert_eq(events(), 2 * off);
	}
	cr_assert_eq(in(0x60c, 2), 1);
	cr_assert_eq(in(0x608, 4), 0);
	out(0x60a, 2, 0x123);
	out(0x608, 2, 0xffff); /* clears status bits that are never set */
	cr_assert_eq(in(0x608, 4), 0x1230000);
	cr_assert_eq(in(0x60a, 2), 0x123);
	for (unsigned off = 8; off < 14; off++)
		for (unsigned w = 0; w < 4; w++) {
			in((uint16_t)(0x600 + off), widths[w]);
			out((uint16_t)(0x600 + off), widths[w], 0);
		}
	dev->ops->power_button(dev);
	cr_assert_eq(in(0x604, 4), 1, "the button is the GED's here, too");
	device_destroy(dev);
	cr_assert_eq(in(0x60c, 2), 0xffff);
}

Test(platform, power_button)
{
	struct device *dev = create_pm();

	cr_assert_eq(in(0x604, 4), 0);
	dev->ops->power_button(dev);
	cr_assert_eq(f.rises[9], 1);
	cr_assert_eq(f.line[9], 0, "pulsed, not held");
	acpi_pm_notify(dev, 2);
	acpi_pm_notify(dev, 0x80000000u);
	cr_assert_eq(f.rises[9], 3);
	cr_assert_eq(in(0x604, 4), 0x80000003u);
	cr_assert_eq(in(0x604, 4), 0, "reading clears");
	acpi_pm_notify(dev, 0x03020100u);
	cr_assert_eq(in(0x605, 1), 1);
	cr_assert_eq(in(0x606, 2), 0x0302);
	cr_assert_eq(in(0x604, 4), 0);
	out(0x604, 4, ~0u);
	cr_assert_eq(in(0x604, 4), 0);
	for (unsigned off = 0; off < 4; off++)
		for (unsigned w = 0; w < 4; w++) {
			acpi_pm_notify(dev, ~0u);
			in((uint16_t)(0x604 + off), widths[w]);
			out((uint16_t)(0x604 + off), widths[w], ~0ull);
		}
	cr_assert_eq(events(), 0);
	device_destroy(dev);
}

static bool risen(void *n)
{
	return f.rises[9] >= *(unsigned *)n;
}

/* An interrupt that the guest did not take comes again, until the guest has read the press. */
Test(platform, an_unread_press_is_signalled_again)
{
	struct device *dev = create_pm();
	unsigned wanted = 3;

	acpi_pm_notify(dev, 2);
	dev->ops->power_button(dev);
	dev->ops->power_button(dev);
	cr_assert_eq(f.rises[9], wanted);
	wanted += 2;
	cr_assert(fake_run_until(&f, risen, &wanted));
	cr_assert_eq(in(0x604, 4), 3);
	usleep(1000000);
	fake_run(&f);
	cr_assert_eq(f.rises[9], wanted, "the press was read");
	dev->ops->power_button(dev);
	wanted += 2;
	cr_assert(fake_run_until(&f, risen, &wanted), "the next press, too");
	device_destroy(dev);
}

/* What must not be lost is signalled again; each bit by itself, until it has been read. */
Test(platform, acpi_pm_insists_on_each_bit)
{
	struct device *dev = create_pm();
	unsigned wanted = 4;

	acpi_pm_insist(dev, 4);
	dev->ops->power_button(dev);
	cr_assert_eq(f.rises[9], 2);
	cr_assert(fake_run_until(&f, risen, &wanted));
	cr_assert_eq(in(0x604, 4), 5);
	acpi_pm_notify(dev, 4);
	wanted = f.rises[9];
	usleep(600000);
	fake_run(&f);
	cr_assert_eq(f.rises[9], wanted, "both were read, and a mere notify is not repeated");
	device_destroy(dev);
}

Test(platform, acpi_pm_in_the_way)
{
	static const struct bus_ops none;
	struct device *dev;
	struct err err;

	for (uint16_t port = 0x600; port < 0x608; port += port == 0x602 ? 2 : 1) {
		cr_assert_eq(bus_add(&f.pio, port, 1, &none, NULL), 0);
		cr_assert_eq(acpi_pm_create(&f.env, &pm_config, &dev, &err), -EEXIST);
		cr_assert_null(dev);
		bus_remove(&f.pio, port);
		cr_assert_eq(bus_count(&f.pio), 0);
	}
}

/* --- hotplug --------------------------------------------------------------- */

static unsigned ejections;

static void on_ejected(void *opaque)
{
	ejections++;
}

static struct device *create_hotplug(void)
{
	struct hotplug_config config = { .port = 0x610, .ejected = on_ejected };
	struct device *dev;
	struct err err;

	ejections = 0;
	cr_assert_eq(hotplug_create(&f.env, &config, &dev, &err), 0, "%s", err.text);
	return dev;
}

Test(platform, hotplug_tells_and_forgets)
{
	struct device *dev = create_hotplug();

	hotplug_came(dev, 3);
	hotplug_came(dev, 31);
	hotplug_ask(dev, 1);
	cr_assert_eq(in(0x610, 4), 1u << 31 | 1u << 3);
	cr_assert_eq(in(0x610, 4), 0, "reading clears");
	cr_assert_eq(in(0x614, 4), 1u << 1);
	cr_assert_eq(in(0x614, 4), 0);
	hotplug_ask(dev, 1);
	cr_assert_eq(in(0x614, 4), 1u << 1, "asked again");
	out(0x618, 4, 1u << 1);
	cr_assert_eq(ejections, 1);
	cr_assert_eq(hotplug_take_ejected(dev), 1u << 1);
	cr_assert_eq(hotplug_take_ejected(dev), 0);
	/* The slot's next device. */
	hotplug_came(dev, 1);
	hotplug_ask(dev, 1);
	out(0x618, 4, 1u << 1);
	cr_assert_eq(hotplug_take_ejected(dev), 1u << 1);
	cr_assert_eq(in(0x610, 4), 0, "what was not read is not said of the next device");
	cr_assert_eq(in(0x614, 4), 0);
	device_destroy(dev);
	cr_assert_eq(bus_count(&f.pio), 0);
}

/* Only what was asked for can be ejected, once, and by one kind of access. */
Test(platform, hotplug_hostile)
{
	struct device *dev = create_hotplug();

	hotplug_came(dev, 2);
	out(0x618, 4, ~0u);
	cr_assert_eq(ejections, 0, "nothing was asked for");
	hotplug_ask(dev, 5);
	for (unsigned off = 0; off < HOTPLUG_PORT_BYTES; off++)
		for (unsigned w = 0; w < 4; w++) {
			if (off == 8 && widths[w] == 4)
				continue;
			out((uint16_t)(0x610 + off), widths[w], ~0ull);
			if (off % 4 || widths[w] != 4)
				in((uint16_t)(0x610 + off), widths[w]);
		}
	cr_assert_eq(ejections, 0);
	cr_assert_eq(in(0x618, 4), 0);
	cr_assert_eq(in(0x610, 4), 1u << 2, "what is no access changes nothing");
	cr_assert_eq(in(0x614, 4), 1u << 5);
	for (unsigned i = 0; i < 1000; i++)
		out(0x618, 4, ~0u);
	cr_assert_eq(ejections, 1);
	cr_assert_eq(hotplug_take_ejected(dev), 1u << 5);
	device_destroy(dev);
}

Test(platform, hotplug_in_the_way)
{
	static const struct bus_ops none;
	struct hotplug_config config = { .port = 0x610 };
	struct device *dev;
	struct err err;

	cr_assert_eq(bus_add(&f.pio, 0x61b, 1, &none, NULL), 0);
	cr_assert_eq(hotplug_create(&f.env, &config, &dev, &err), -EEXIST);
	cr_assert_null(dev);
	bus_remove(&f.pio, 0x61b);
}

/* --- i8042 ----------------------------------------------------------------- */

Test(platform, i8042)
{
	struct device *dev;
	struct err err;
	unsigned n;

	cr_assert_eq(i8042_create(&f.env, &dev, &err), 0);
	/* As i8042_flush of Linux: if 16 bytes do not empty the buffer, there is no controller. */
	for (n = 0; in(0x64, 1) & 1 && n < 16; n++)
		in(0x60, 1);
	cr_assert_eq(n, 16);
	cr_assert_not(in(0x64, 1) & 2, "kb_wait before a reset never waits");
	for (n = 0; in(0x64, 1) & 1; n++) {
		in(0x60, 1);
		cr_assert_lt(n, 1000, "a guest that empties the buffer comes to an end");
	}
	for (unsigned v = 0; v < 256; v++) {
		memset(f.events, 0, sizeof(f.events));
		out(0x64, 1, v);
		cr_assert_eq(f.events[VM_EVENT_RESET], v >= 0xf0 && !(v & 1), "%x", v);
	}
	memset(f.events, 0, sizeof(f.events));
	out(0x64, 1, 0xd1);
	out(0x60, 1, 0xdf);
	cr_assert_eq(events(), 0, "A20 alone");
	out(0x60, 1, 0xfe);
	cr_assert_eq(events(), 0, "a keyboard byte");
	out(0x64, 1, 0xd1);
	out(0x60, 1, 0xfe);
	cr_assert_eq(f.events[VM_EVENT_RESET], 1);
	/* An NMI has no reason that a guest knows, whatever it has written there. */
	for (unsigned v = 0; v < 256; v++) {
		out(0x61, 1, v);
		cr_assert_eq(in(0x61, 1), 0x20, "%x", v);
	}
	cr_assert_eq(events(), 1);
	for (unsigned w = 1; w < 4; w++) {
		cr_assert_eq(in(0x64, widths[w]),
			     widths[w] == 8 ? ~0ull : (1ull << 8 * widths[w]) - 1);
		out(0x60, widths[w], ~0ull);
	}
	device_destroy(dev);
}

/* --- pvpanic --------------------------------------------------------------- */

Test(platform, pvpanic)
{
	struct device *dev, *second;
	struct err err;

	cr_assert_eq(pvpanic_create(&f.env, 0x505, &dev, &err), 0);
	cr_assert_eq(in(0x505, 1), 3);
	for (unsigned v = 0; v < 256; v++) {
		memset(f.events, 0, sizeof(f.events));
		out(0x505, 1, v);
		cr_assert_eq(f.events[VM_EVENT_PANIC], v & 1);
		cr_assert_eq(f.events[VM_EVENT_CRASH_LOADED], v >> 1 & 1);
	}
	for (unsigned w = 1; w < 4; w++) {
		out(0x505, widths[w], ~0ull);
		in(0x505, widths[w]);
	}
	cr_assert_eq(events(), 2, "only the byte port exists");
	device_destroy(dev);
	cr_assert_eq(pvpanic_create(&f.env, 0x505, &dev, &err), 0);
	cr_assert_neq(pvpanic_create(&f.env, 0x505, &second, &err), 0);
	cr_assert_null(second);
	device_destroy(dev);
}

/* --- vmgenid --------------------------------------------------------------- */

Test(platform, vmgenid)
{
	static const uint8_t zero[16];
	struct device *pm = create_pm(), *dev, *bad;
	uint8_t before[16], after[16];
	gpa_t at = fake_alloc(&f, 4096);
	struct err err;

	at.v += 40;
	cr_assert_eq(vmgenid_create(&f.env, at, pm, 2, &dev, &err), 0);
	memcpy(before, fake_at(&f, at, 16), 16);
	cr_assert_neq(memcmp(before, zero, 16), 0);
	cr_assert_eq(f.rises[9], 0);
	cr_assert_eq(vmgenid_regenerate(dev, &err), 0);
	memcpy(after, fake_at(&f, at, 16), 16);
	cr_assert_neq(memcmp(before, after, 16), 0);
	cr_assert_eq(f.rises[9], 1);
	cr_assert_eq(in(0x604, 4), 2);
	cr_assert_eq(vmgenid_create(&f.env, gpa(FAKE_LOW_BYTES - 8), pm, 2, &bad, &err), -EFAULT);
	cr_assert_null(bad);
	device_destroy(dev);
	device_destroy(pm);
}

/* --- cmos ------------------------------------------------------------------ */

static uint8_t reg(uint8_t index)
{
	out(0x70, 1, index);
	return (uint8_t)in(0x71, 1);
}

static void set_reg(uint8_t index, uint8_t v)
{
	out(0x70, 1, index);
	out(0x71, 1, v);
}

static struct device *create_cmos(int64_t offset_s)
{
	struct cmos_config config = { 0x70, 3ull << 30, 5ull << 30, offset_s };
	struct device *dev;
	struct err err = { "" };

	cr_assert_eq(cmos_create(&f.env, &config, &dev, &err), 0, "%s", err.text);
	return dev;
}

static int bcd(uint8_t v)
{
	cr_assert((v & 15) < 10 && v >> 4 < 10, "0x%02x is not BCD", v);
	return (v >> 4) * 10 + (v & 15);
}

/* Reads the clock as Linux does, without the driver's retry: wait for UIP, then all registers. */
static time_t read_clock(void)
{
	struct tm tm;

	while (reg(0x0a) & 0x80)
		;
	tm = (struct tm){ .tm_sec = bcd(reg(0)),
			  .tm_min = bcd(reg(2)),
			  .tm_hour = bcd(reg(4)),
			  .tm_mday = bcd(reg(7)),
			  .tm_mon = bcd(reg(8)) - 1,
			  .tm_year = bcd(reg(9)) + bcd(reg(0x32)) * 100 - 1900 };
	tm.tm_isdst = 0;
	return timegm(&tm);
}

Test(platform, cmos_across_dates)
{
	static const char *const dates[] = {
		"1970-01-01 00:00:00", "1999-12-31 23:59:58", "2000-02-29 12:00:00",
		"2024-02-29 23:59:58", "2026-10-09 08:07:06", "2038-01-19 03:14:07",
		"2099-12-31 23:59:50", "2100-03-01 00:00:00",
	};

	for (size_t i = 0; i < sizeof(dates) / sizeof(dates[0]); i++) {
		struct tm tm = { 0 };
		struct device *dev;
		time_t want, got;

		strptime(dates[i], "%Y-%m-%d %H:%M:%S", &tm);
		want = timegm(&tm);
		dev = create_cmos(want - time(NULL));
		got = read_clock();
		cr_assert(got >= want - 1 && got <= want + 2, "%s: %ld s off", dates[i],
			  (long)(got - want));
		got = read_clock();
		gmtime_r(&got, &tm);
		cr_assert_eq(bcd(reg(6)), tm.tm_wday + 1);
		device_destroy(dev);
	}
}

/* The same as the C library's, in all years that the registers can hold, and with fields out of their ranges. */
Test(platform, utc)
{
	unsigned state = 1;

	for (unsigned i = 0; i < 200000; i++) {
		struct tm want, got, odd;
		time_t t;

		state = state * 1103515245u + 12345u;
		t = (time_t)(((uint64_t)state << 9 ^ i) % 379000000000ull) - 62168000000ll;
		gmtime_r(&t, &want);
		utc_from_time(t, &got);
		cr_assert(got.tm_sec == want.tm_sec && got.tm_min == want.tm_min &&
				  got.tm_hour == want.tm_hour && got.tm_mday == want.tm_mday &&
				  got.tm_mon == want.tm_mon && got.tm_year == want.tm_year &&
				  got.tm_wday == want.tm_wday,
			  "%ld", t);
		cr_assert_eq(utc_to_time(&got), t);
		odd = got;
		odd.tm_mon += (int)(state >> 8 & 0xff) - 128;
		odd.tm_mday += (int)(state >> 16 & 0xff) - 128;
		odd.tm_hour += (int)(state >> 24) - 128;
		want = odd;
		cr_assert_eq(utc_to_time(&odd), timegm(&want), "%ld", t);
	}
}

Test(platform, cmos_registers)
{
	struct device *dev = create_cmos(0);

	cr_assert_eq(reg(0x0a) & 0x7f, 0x26);
	cr_assert_eq(reg(0x0b), 0x02, "24 hours, BCD, no interrupts");
	cr_assert_eq(reg(0x0c), 0);
	cr_assert_eq(reg(0x0d), 0x80, "the battery is good");
	set_reg(0x0d, 0);
	set_reg(0x0c, 0xff);
	cr_assert_eq(reg(0x0d), 0x80);
	cr_assert_eq(reg(0x0c), 0);
	set_reg(0x0f, 0x0a);
	cr_assert_eq(reg(0x0f), 0x0a);
	cr_assert_eq(reg(0x8f), 0x0a, "bit 7 of the index masks the NMI only");
	for (uint8_t i = 1; i <= 5; i += 2) {
		set_reg(i, 0xc0);
		cr_assert_eq(reg(i), 0xc0, "the alarm is memory");
	}
	cr_assert_eq(reg(0x15) | reg(0x16) << 8, 640);
	cr_assert_eq(reg(0x17) | reg(0x18) << 8, 0xffff);
	cr_assert_eq(reg(0x30) | reg(0x31) << 8, 0xffff);
	cr_assert_eq(reg(0x34) | reg(0x35) << 8, ((3u << 30) - (16u << 20)) >> 16);
	cr_assert_eq(reg(0x5b) | reg(0x5c) << 8 | reg(0x5d) << 16, 5 << 14);
	cr_assert_eq(in(0x70, 1), 0xff);
	device_destroy(dev);
}

Test(platform, cmos_formats)
{
	struct device *dev;
	struct tm tm = { 0 };
	int want;

	strptime("2025-05-05 15:30:00", "%Y-%m-%d %H:%M:%S", &tm);
	dev = create_cmos(timegm(&tm) - time(NULL));
	cr_assert_eq(reg(4), 0x15);
	set_reg(0x0b, 0x06);
	cr_assert_eq(reg(4), 15, "binary");
	set_reg(0x0b, 0x04);
	cr_assert_eq(reg(4), 0x80 | 3, "binary, 12 hours");
	set_reg(0x0b, 0x00);
	cr_assert_eq(reg(4), 0x80 | 0x03, "BCD, 12 hours");
	/* Set and read every hour in the 12-hour format. */
	for (int hour = 0; hour < 24; hour++) {
		want = (hour % 12 ? hour % 12 : 12);
		set_reg(4, (uint8_t)((want / 10 << 4 | want % 10) | (hour >= 12 ? 0x80 : 0)));
		set_reg(0x0b, 0x02);
		cr_assert_eq(bcd(reg(4)), hour);
		set_reg(0x0b, 0x00);
	}
	device_destroy(dev);
}

Test(platform, cmos_set_by_the_guest)
{
	static const uint8_t index[] = { 9, 0x32, 8, 7, 4, 2, 0 };
	static const uint8_t value[] = { 0x31, 0x20, 0x12, 0x31, 0x23, 0x59, 0x30 };
	struct device *dev = create_cmos(0);
	struct tm tm = { 0 };
	time_t off;

	/* As mc146818_set_time of Linux: SET, divider held in reset, then all registers. */
	set_reg(0x0b, 0x82);
	set_reg(0x0a, 0x66);
	for (unsigned i = 0; i < sizeof(index); i++) {
		set_reg(index[i], value[i]);
		cr_assert_eq(reg(index[i]), value[i]);
	}
	set_reg(0x0b, 0x02);
	set_reg(0x0a, 0x26);
	strptime("2031-12-31 23:59:30", "%Y-%m-%d %H:%M:%S", &tm);
	off = read_clock() - timegm(&tm);
	cr_assert(off >= 0 && off <= 2);
	/* Without SET, register by register. */
	set_reg(9, 0x24);
	set_reg(8, 0x06);
	cr_assert_eq(reg(9), 0x24);
	cr_assert_eq(reg(8), 0x07, "the 31st of June is the first of July");
	/* Invalid values do no harm. */
	for (unsigned i = 0; i < 256; i++) {
		for (unsigned j = 0; j < sizeof(index); j++)
			set_reg(index[j], (uint8_t)(i * 37 + j * 11));
		set_reg(0x0b, (uint8_t)i);
	}
	device_destroy(dev);
}

Test(platform, cmos_ticks_and_is_never_torn)
{
	/* Set the chip to 1.5 s before the end of a year, and read until the year has changed. */
	struct tm tm = { 0 };
	struct device *dev;
	time_t last, now, end;
	unsigned steps = 0;

	strptime("2029-12-31 23:59:59", "%Y-%m-%d %H:%M:%S", &tm);
	dev = create_cmos(timegm(&tm) - time(NULL) - 1);
	last = read_clock();
	end = last + 3;
	while (last < end) {
		now = read_clock();
		cr_assert(now == last || now == last + 1, "from %ld to %ld", (long)last, (long)now);
		steps += now != last;
		last = now;
	}
	cr_assert_eq(steps, 3);
	device_destroy(dev);
}

Test(platform, cmos_every_width)
{
	struct device *dev = create_cmos(0);

	for (unsigned i = 0; i < 256; i++)
		for (unsigned off = 0; off < 2; off++)
			for (unsigned w = 0; w < 4; w++) {
				out(0x70, 1, i);
				out((uint16_t)(0x70 + off), widths[w],
				    0x1111111111111111ull * (i & 15));
				in((uint16_t)(0x70 + off), widths[w]);
			}
	/* Index and data in one access, which the ISA bus splits. */
	out(0x70, 2, 0x5a40);
	cr_assert_eq(reg(0x40), 0x5a);
	device_destroy(dev);
}
