/*
 * cmos: the PC's clock and its 128 bytes of memory (MC146818A data sheet).
 *
 * The time is the host's UTC plus an offset; setting the clock changes the offset. Alarm, periodic
 * and update interrupts do not exist: their bits can be written and read back. As on the chip,
 * register A reports an update in progress in the last 244 us of each second. After the guest has
 * read "no update in progress", the registers stand still for HOLD_NS. A guest delayed by an exit
 * between two registers still reads one time.
 *
 * Threads: any vCPU, under the device's own lock; the device needs no loop.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "devices/board/platform.h"
#include "devices/board/utc.h"

#define NS_PER_S 1000000000ll
#define UIP_NS 244000
#define HOLD_NS 20000000

enum {
	REG_SECONDS = 0,
	REG_MINUTES = 2,
	REG_HOURS = 4,
	REG_WEEKDAY = 6, /* 1 = Sunday */
	REG_DAY = 7,
	REG_MONTH = 8,
	REG_YEAR = 9,
	REG_A = 0x0a,
	REG_B = 0x0b,
	REG_C = 0x0c,
	REG_D = 0x0d,
	REG_BASE_MEM = 0x15, /* KiB, 2 bytes */
	REG_EXT_MEM = 0x17,  /* KiB above 1 MiB, 2 bytes; again at 0x30 */
	REG_EXT_MEM2 = 0x30,
	REG_CENTURY = 0x32,
	REG_HIGH_MEM = 0x34, /* 64 KiB units above 16 MiB, 2 bytes */
	REG_4G_MEM = 0x5b,   /* 64 KiB units above 4 GiB, 3 bytes */
};

#define MAX_OFFSET_S 100000000000ll /* 3000 years */

#define A_UIP 0x80
#define A_DIVIDER(a) ((a) >> 4 & 7)
#define B_SET 0x80
#define B_BINARY 0x04
#define B_24H 0x02
#define D_VALID 0x80
#define HOUR_PM 0x80

/* A snapshot will save exactly this. The wiring and the host's time are in struct cmos. */
struct cmos_state {
	uint8_t index;	  /* of the register that the data port reaches, 0 … 127 */
	uint8_t ram[128]; /* registers A … D and memory; the time in it is the one last held */
	/* The guest's clock minus the host's. Two fields: a guest may set the year 25755. */
	int64_t offset_s;
	int64_t offset_ns; /* 0 … 999999999 */
};

struct cmos {
	struct device dev;
	const struct device_env *env;
	uint16_t port;
	pthread_mutex_t lock;
	struct cmos_state s;
	int64_t held_ns; /* the host's time when ram's time was computed */
};

static const struct device_type cmos_type = { .name = "cmos" };

static int64_t host_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* The guest's seconds, and the nanoseconds in the current one. */
static int64_t guest_time(const struct cmos_state *s, int64_t now_ns, int64_t *fraction_ns)
{
	*fraction_ns = (now_ns + s->offset_ns) % NS_PER_S;
	return (now_ns + s->offset_ns) / NS_PER_S + s->offset_s;
}

static uint8_t encode(const struct cmos_state *s, int v)
{
	/* Years after 9999 do not fit, and read as nonsense. */
	return (uint8_t)(s->ram[REG_B] & B_BINARY ? v : v / 10 << 4 | v % 10);
}

static int decode(const struct cmos_state *s, uint8_t v)
{
	return s->ram[REG_B] & B_BINARY ? v : (v >> 4) * 10 + (v & 15);
}

static uint8_t encode_hour(const struct cmos_state *s, int hour)
{
	if (s->ram[REG_B] & B_24H)
		return encode(s, hour);
	return encode(s, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0);
}

static int decode_hour(const struct cmos_state *s, uint8_t v)
{
	if (s->ram[REG_B] & B_24H)
		return decode(s, v);
	return decode(s, v & 0x7f) % 12 + (v & HOUR_PM ? 12 : 0);
}

static void hold(struct cmos *cmos, int64_t now_ns)
{
	struct cmos_state *s = &cmos->s;
	int64_t fraction_ns;
	time_t t = guest_time(s, now_ns, &fraction_ns);
	struct tm tm;
	int year;

	utc_from_time(t, &tm);
	year = tm.tm_year > -1900 ? tm.tm_year + 1900 : 0;
	s->ram[REG_SECONDS] = encode(s, tm.tm_sec);
	s->ram[REG_MINUTES] = encode(s, tm.tm_min);
	s->ram[REG_HOURS] = encode_hour(s, tm.tm_hour);
	s->ram[REG_WEEKDAY] = encode(s, tm.tm_wday + 1);
	s->ram[REG_DAY] = encode(s, tm.tm_mday);
	s->ram[REG_MONTH] = encode(s, tm.tm_mon + 1);
	s->ram[REG_YEAR] = encode(s, year % 100);
	s->ram[REG_CENTURY] = encode(s, year / 100);
	cmos->held_ns = now_ns;
}

/* Set the guest's clock to the time in its registers. */
static void set_clock(struct cmos *cmos)
{
	struct cmos_state *s = &cmos->s;
	struct tm tm = {
		.tm_sec = decode(s, s->ram[REG_SECONDS]),
		.tm_min = decode(s, s->ram[REG_MINUTES]),
		.tm_hour = decode_hour(s, s->ram[REG_HOURS]),
		.tm_mday = decode(s, s->ram[REG_DAY]),
		.tm_mon = decode(s, s->ram[REG_MONTH]) - 1,
		.tm_year = decode(s, s->ram[REG_YEAR]) + decode(s, s->ram[REG_CENTURY]) * 100 -
			   1900,
	};
	int64_t now = host_ns(), fraction;

	guest_time(s, now, &fraction);
	/* After the divider was held in reset the first update comes half a second later. */
	if (A_DIVIDER(s->ram[REG_A]) >= 6)
		fraction = NS_PER_S / 2;
	s->offset_ns = (fraction - now % NS_PER_S + NS_PER_S) % NS_PER_S;
	s->offset_s = utc_to_time(&tm) - (now + s->offset_ns) / NS_PER_S;
	hold(cmos, now);
}

static bool is_time(unsigned reg)
{
	return reg == REG_SECONDS || reg == REG_MINUTES || reg == REG_HOURS ||
	       (reg >= REG_WEEKDAY && reg <= REG_YEAR) || reg == REG_CENTURY;
}

static uint8_t read_a(struct cmos *cmos)
{
	struct cmos_state *s = &cmos->s;
	int64_t now = host_ns(), fraction;

	if (s->ram[REG_B] & B_SET)
		return s->ram[REG_A];
	guest_time(s, now, &fraction);
	if (fraction >= NS_PER_S - UIP_NS)
		return s->ram[REG_A] | A_UIP;
	hold(cmos, now);
	return s->ram[REG_A];
}

static uint8_t read_reg(struct cmos *cmos, unsigned reg)
{
	struct cmos_state *s = &cmos->s;

	if (reg == REG_A)
		return read_a(cmos);
	if (is_time(reg) && !(s->ram[REG_B] & B_SET)) {
		int64_t now = host_ns();

		if (now - cmos->held_ns > HOLD_NS || now < cmos->held_ns)
			hold(cmos, now);
	}
	return s->ram[reg];
}

static void write_reg(struct cmos *cmos, unsigned reg, uint8_t v)
{
	struct cmos_state *s = &cmos->s;
	bool was_set = s->ram[REG_B] & B_SET;

	switch (reg) {
	case REG_A:
		s->ram[REG_A] = v & (uint8_t)~A_UIP;
		return;
	case REG_B:
		if (v & B_SET && !was_set)
			hold(cmos, host_ns());
		if (was_set && !(v & B_SET))
			set_clock(cmos);
		s->ram[REG_B] = v;
		/* Register B may have changed the format of the time. */
		if (!(v & B_SET))
			hold(cmos, host_ns());
		return;
	case REG_C:
	case REG_D:
		return;
	default:
		break;
	}
	if (is_time(reg) && !was_set)
		hold(cmos, host_ns());
	s->ram[reg] = v;
	/* The weekday follows from the date. */
	if (is_time(reg) && !was_set && reg != REG_WEEKDAY)
		set_clock(cmos);
}

/* The ports have 8 bits: a wider access is one access for each byte, as ISA splits it. */
static uint64_t cmos_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	struct cmos *cmos = opaque;
	uint64_t val = 0;

	pthread_mutex_lock(&cmos->lock);
	for (unsigned i = 0; i < size_bytes; i++) {
		/* The index is write-only. */
		uint64_t byte = off + i == 1 ? read_reg(cmos, cmos->s.index) : 0xff;

		val |= byte << (8 * i);
	}
	pthread_mutex_unlock(&cmos->lock);
	return val;
}

static void cmos_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	struct cmos *cmos = opaque;

	pthread_mutex_lock(&cmos->lock);
	for (unsigned i = 0; i < size_bytes; i++, val >>= 8) {
		if (off + i == 0)
			cmos->s.index = val & 0x7f; /* bit 7 masks the NMI */
		else
			write_reg(cmos, cmos->s.index, (uint8_t)val);
	}
	pthread_mutex_unlock(&cmos->lock);
}

static const struct bus_ops cmos_bus = { cmos_read, cmos_write };

static void put(struct cmos_state *s, unsigned reg, unsigned nbytes, uint64_t v)
{
	uint64_t max = (1ull << 8 * nbytes) - 1;

	if (v > max)
		v = max;
	for (unsigned i = 0; i < nbytes; i++)
		s->ram[reg + i] = (uint8_t)(v >> (8 * i));
}

static void fill_sizes(struct cmos_state *s, const struct cmos_config *config)
{
	uint64_t low = config->below_4g_bytes;
	uint64_t above_1m = low > 1 << 20 ? (low - (1 << 20)) >> 10 : 0;

	put(s, REG_BASE_MEM, 2, 640);
	put(s, REG_EXT_MEM, 2, above_1m);
	put(s, REG_EXT_MEM2, 2, above_1m);
	put(s, REG_HIGH_MEM, 2, low > 16 << 20 ? (low - (16 << 20)) >> 16 : 0);
	put(s, REG_4G_MEM, 3, config->above_4g_bytes >> 16);
}

static void cmos_destroy(struct device *dev)
{
	struct cmos *cmos = (struct cmos *)dev;

	bus_remove(cmos->env->pio, cmos->port);
	pthread_mutex_destroy(&cmos->lock);
	free(cmos);
}

static void cmos_describe(struct device *dev, char *buf, size_t len)
{
	struct cmos *cmos = (struct cmos *)dev;

	snprintf(buf, len, "ports 0x%x-0x%x", cmos->port, cmos->port + 1);
}

static const struct device_ops cmos_ops = {
	.destroy = cmos_destroy,
	.describe = cmos_describe,
};

int cmos_create(const struct device_env *env, const struct cmos_config *config, struct device **out,
		struct err *err)
{
	struct cmos *cmos = calloc(1, sizeof(*cmos));
	int rc;

	*out = NULL;
	if (!cmos)
		return err_sys(err, ENOMEM, "cmos");
	BUG_ON(config->offset_s > MAX_OFFSET_S || config->offset_s < -MAX_OFFSET_S);
	cmos->dev = (struct device){ &cmos_type, &cmos_ops, "cmos" };
	cmos->env = env;
	cmos->port = config->port;
	cmos->s.offset_s = config->offset_s;
	cmos->s.ram[REG_A] = 0x26; /* 32.768 kHz, 1024 Hz periodic rate */
	cmos->s.ram[REG_B] = B_24H;
	cmos->s.ram[REG_D] = D_VALID;
	fill_sizes(&cmos->s, config);
	rc = bus_add(env->pio, config->port, 2, &cmos_bus, cmos);
	if (rc) {
		free(cmos);
		return err_sys(err, -rc, "cmos: port 0x%x", config->port);
	}
	pthread_mutex_init(&cmos->lock, NULL);
	*out = &cmos->dev;
	return 0;
}
