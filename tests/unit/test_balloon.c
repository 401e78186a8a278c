/*
 * test_balloon: virtio-balloon: the guest gives memory, statistics come, the target changes;
 * wrong pages and rings.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/virtio/balloon.h"
#include "tests/unit/fake_driver.h"

#define F_STATS 2ull
#define F_OOM 4ull
#define F_POISON 16ull
#define F_REPORTING 32ull

static struct fake_env f;
static struct fake_driver d;
static struct device *dev;
static gpa_t list, pages; /* page numbers; 64 pages of data */

static int create(const char *text, struct err *err)
{
	struct keyvals kv;
	int rc = keys_parse(&kv, "--balloon", virtio_balloon_type.keys, text, err);

	if (!rc)
		rc = virtio_balloon_type.create(&f.env, &kv, &dev, err);
	keys_clear(&kv);
	return rc;
}

static void begin(enum fake_transport transport, const char *keys)
{
	struct err err = { "" };

	fake_env_init(&f, transport);
	cr_assert_eq(create(keys, &err), 0, "%s", err.text);
	fake_driver_find(&d, &f, 0, true);
	list = fake_alloc(&f, 1 << 16);
	pages = fake_alloc(&f, 64 * 4096);
}

static void end(void)
{
	device_destroy(dev);
	fake_env_destroy(&f);
}

static void fill(void)
{
	memset(fake_at(&f, pages, 64 * 4096), 0xa5, 64 * 4096);
}

static bool gone(unsigned page)
{
	const uint8_t *p = fake_at(&f, gpa(pages.v + page * 4096ull), 4096);

	for (unsigned i = 0; i < 4096; i++)
		if (p[i] != 0)
			return false;
	return true;
}

static bool kept(unsigned page)
{
	const uint8_t *p = fake_at(&f, gpa(pages.v + page * 4096ull), 4096);

	return p[0] == 0xa5 && p[4095] == 0xa5;
}

/* Returns true if the chain came back. */
static bool put_pages(unsigned q, const uint32_t *pfn, uint32_t bytes)
{
	struct fake_buf b = { list.v, bytes };
	struct fake_used_elem e;

	memcpy(fake_at(&f, list, bytes), pfn, bytes);
	fake_ring_add(&d.ring[q], &b, 1, NULL, 0);
	fake_driver_kick(&d, q);
	return fake_ring_take(&d.ring[q], &e) && e.len == 0;
}

static uint32_t pfn(unsigned page)
{
	return (uint32_t)(pages.v / 4096) + page;
}

TestSuite(balloon, .timeout = 60);

static void inflate(enum fake_transport transport)
{
	uint32_t some[8];

	begin(transport, "1M");
	cr_assert_eq(fake_driver_offered(&d) & 0x3f, F_OOM | F_POISON | F_REPORTING);
	cr_assert_eq(fake_driver_config(&d, 0, 4), 256);
	fake_driver_start(&d, F_OOM, 2, 16);
	fill();
	/* Any order, a page twice, an odd byte at the end. */
	some[0] = pfn(5);
	some[1] = pfn(3);
	some[2] = pfn(4);
	some[3] = pfn(63);
	some[4] = pfn(3);
	some[5] = pfn(0);
	some[6] = ~0u;
	cr_assert(put_pages(0, some, 27));
	cr_assert_eq(fake_driver_irqs(&d, 0), 1);
	for (unsigned i = 0; i < 64; i++)
		cr_assert((i >= 3 && i <= 5) || i == 63 || i == 0 ? gone(i) : kept(i), "%u", i);
	/* Deflating does not change the pages. */
	some[0] = pfn(7);
	cr_assert(put_pages(1, some, 4));
	cr_assert(kept(7));
	end();
}

Test(balloon, inflate)
{
	inflate(FAKE_PCI);
	inflate(FAKE_MMIO);
}

/* The host gets the memory back; it is not only zeroed. */
Test(balloon, host_memory_falls)
{
	uint32_t some[64];
	unsigned char resident[64];
	unsigned n = 0;

	begin(FAKE_PCI, "1M");
	fake_driver_start(&d, 0, 2, 16);
	fill();
	for (unsigned i = 0; i < 64; i++)
		some[i] = pfn(63 - i);
	cr_assert(put_pages(0, some, sizeof(some)));
	cr_assert_eq(mincore(fake_at(&f, pages, 4096), 64 * 4096, resident), 0);
	for (unsigned i = 0; i < 64; i++)
		n += resident[i] & 1;
	cr_assert_eq(n, 0);
	end();
}

static bool wait_used(void *opaque)
{
	static bool had;
	struct fake_used_elem e;

	if (!opaque)
		had = false;
	return opaque && (had |= fake_ring_take(opaque, &e));
}

/* Waits for a chain that takes many turns of the loop; one run of it is a few turns. */
static void check_turns(unsigned q, const char *what)
{
	fake_driver_kick(&d, q);
	wait_used(NULL);
	cr_assert(!wait_used(&d.ring[q]), "%s: done in one run of the loop", what);
	cr_assert(kept(0), "%s: the last page went in the first turn", what);
	cr_assert(fake_run_until(&f, wait_used, &d.ring[q]), "%s", what);
	for (unsigned i = 0; i < 64; i++)
		cr_assert(gone(i), "%s: %u", what, i);
}

/* A request for much memory is served in turns, and wholly. */
Test(balloon, turns)
{
	struct fake_buf b[12];
	uint32_t *pfns;

	begin(FAKE_PCI, "1M");
	fake_driver_start(&d, F_REPORTING, 3, 16);
	fill();
	/* 15 batches of single pages at 4 GiB, then the pages that are looked at. */
	pfns = fake_at(&f, list, 16384);
	for (unsigned i = 0; i < 4096; i++)
		pfns[i] = i < 4032 ? (uint32_t)(FAKE_HIGH_BASE >> 12) + i * 2 % 1024 :
				     pfn(i - 4032);
	b[0] = (struct fake_buf){ list.v, 16384 };
	fake_ring_add(&d.ring[0], b, 1, NULL, 0);
	check_turns(0, "inflate");
	fill();
	for (unsigned i = 0; i < 11; i++)
		b[i] = (struct fake_buf){ FAKE_HIGH_BASE, FAKE_HIGH_BYTES };
	b[11] = (struct fake_buf){ pages.v, 64 * 4096 };
	fake_ring_add(&d.ring[2], NULL, 0, b, 12);
	check_turns(2, "report");
	/* The driver makes the chain shorter while it is served. */
	fill();
	fake_ring_add(&d.ring[2], NULL, 0, b, 12);
	fake_driver_kick(&d, 2);
	for (unsigned i = 0; i < 16; i++)
		d.ring[2].desc[i].flags = FAKE_F_WRITE;
	wait_used(NULL);
	cr_assert(fake_run_until(&f, wait_used, &d.ring[2]));
	cr_assert(kept(0));
	end();
}

static void hostile_pages(enum fake_transport transport)
{
	static const uint32_t bad[] = { 0xffffffff, 0x80000000, FAKE_LOW_BYTES >> 12, 0xfffff,
					(FAKE_HIGH_BASE + FAKE_HIGH_BYTES) >> 12 };
	static uint32_t many[16384];
	struct fake_buf b = { list.v, 4 };
	struct fake_used_elem e;

	begin(transport, "size=0");
	fake_driver_start(&d, 0, 2, 16);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert(put_pages(0, &bad[i], 4), "%#x", bad[i]);
	cr_assert(put_pages(0, bad, sizeof(bad)));
	/* A buffer that is too short, not readable or too long comes back without effect. */
	cr_assert(put_pages(0, bad, 3));
	fill();
	many[0] = pfn(1);
	cr_assert(put_pages(0, many, sizeof(many)));
	cr_assert(kept(1));
	fake_ring_add(&d.ring[0], NULL, 0, &b, 1);
	fake_driver_kick(&d, 0);
	cr_assert(fake_ring_take(&d.ring[0], &e));
	/* A guest that gives away its ring harms only itself. */
	many[0] = (uint32_t)(d.ring[0].used_at.v / 4096);
	many[1] = (uint32_t)(d.ring[0].desc_at.v / 4096);
	put_pages(0, many, 8);
	fake_driver_start(&d, 0, 2, 16);
	many[0] = pfn(2);
	cr_assert(put_pages(0, many, 4));
	cr_assert(gone(2));
	end();
}

Test(balloon, hostile_pages)
{
	hostile_pages(FAKE_PCI);
	hostile_pages(FAKE_MMIO);
}

Test(balloon, many_chains)
{
	unsigned n = 0;

	begin(FAKE_PCI, "1M");
	fake_driver_start(&d, 0, 2, 64);
	fill();
	for (unsigned i = 0; i < 50; i++) {
		struct fake_buf b = { list.v + 4 * i, 4 };

		*(uint32_t *)fake_at(&f, gpa(b.addr), 4) = pfn(i);
		fake_ring_add(&d.ring[0], &b, 1, NULL, 0);
	}
	fake_driver_kick(&d, 0);
	for (unsigned i = 0; i < 10; i++)
		fake_run(&f);
	n += fake_ring_take_all(&d.ring[0]);
	cr_assert_eq(n, 50);
	for (unsigned i = 0; i < 64; i++)
		cr_assert(i < 50 ? gone(i) : kept(i));
	end();
}

static void report(unsigned q)
{
	struct fake_buf b[3] = { { pages.v, 8 * 4096 },
				 { pages.v + 10 * 4096 + 100, 2 * 4096 },
				 { pages.v + 20 * 4096, 100 } };
	struct fake_used_elem e;

	fill();
	fake_ring_add(&d.ring[q], NULL, 0, b, 3);
	fake_driver_kick(&d, q);
	cr_assert(fake_ring_take(&d.ring[q], &e));
	/* Whole pages only. */
	for (unsigned i = 0; i < 64; i++)
		if (i != 10 && i != 12)
			cr_assert(i < 8 || i == 11 ? gone(i) : kept(i), "%u", i);
	cr_assert_eq(*(uint8_t *)fake_at(&f, gpa(pages.v + 12 * 4096), 1), 0xa5);
}

/* Without statistics, the reporting queue has a lower number. */
Test(balloon, reporting)
{
	struct fake_buf b = { 0, 4096 };
	struct fake_used_elem e;

	begin(FAKE_PCI, "stats-interval=1");
	fake_driver_start(&d, F_REPORTING | F_STATS, 4, 16);
	report(3);
	fake_driver_start(&d, F_REPORTING, 3, 16);
	report(2);
	fake_driver_start(&d, F_REPORTING | F_POISON, 3, 16);
	report(2);
	/* With page poisoning the guest expects its pattern in the page again. */
	fake_driver_set_config(&d, 12, 4, 0xaaaaaaaa);
	fill();
	b.addr = pages.v;
	fake_ring_add(&d.ring[2], NULL, 0, &b, 1);
	fake_driver_kick(&d, 2);
	cr_assert(fake_ring_take(&d.ring[2], &e));
	cr_assert(kept(0));
	end();
}

static void put_stat(unsigned i, uint16_t tag, uint64_t val)
{
	memcpy(fake_at(&f, gpa(list.v + i * 10), 2), &tag, 2);
	memcpy(fake_at(&f, gpa(list.v + i * 10 + 2), 8), &val, 8);
}

static bool stats_asked(void *r)
{
	static bool had;
	struct fake_used_elem e;

	return (had = r && (had || fake_ring_take(r, &e)));
}

Test(balloon, statistics)
{
	struct fake_buf b = { 0, 45 };
	struct balloon_info state;

	begin(FAKE_PCI, "stats-interval=1");
	fake_driver_start(&d, F_STATS, 3, 16);
	b.addr = list.v;
	put_stat(0, BALLOON_FREE_BYTES, 123456);
	put_stat(1, 99, 1);
	put_stat(2, BALLOON_TOTAL_BYTES, 1ull << 40);
	put_stat(3, 65535, ~0ull);
	put_stat(4, BALLOON_SWAP_IN, 5); /* the buffer holds only half of this one */
	fake_ring_add(&d.ring[2], &b, 1, NULL, 0);
	fake_driver_kick(&d, 2);
	balloon_get(dev, &state);
	cr_assert_eq(state.known, 1u << BALLOON_FREE_BYTES | 1u << BALLOON_TOTAL_BYTES);
	cr_assert_eq(state.stat[BALLOON_FREE_BYTES], 123456);
	cr_assert_eq(state.stat[BALLOON_TOTAL_BYTES], 1ull << 40);
	/* After a second the device asks again. */
	stats_asked(NULL);
	cr_assert(fake_run_until(&f, stats_asked, &d.ring[2]));
	/* Two buffers at once: an error of the driver. */
	fake_ring_add(&d.ring[2], &b, 1, NULL, 0);
	fake_ring_add(&d.ring[2], &b, 1, NULL, 0);
	fake_driver_kick(&d, 2);
	stats_asked(NULL);
	cr_assert(fake_run_until(&f, stats_asked, &d.ring[2]));
	end();
}

Test(balloon, stats_line)
{
	struct fake_buf b = { 0, 30 };
	char line[128];

	begin(FAKE_PCI, "2M,stats-interval=3600");
	fake_driver_start(&d, F_STATS, 3, 16);
	fake_driver_set_config(&d, 4, 4, 256);
	dev->ops->stats(dev, line, sizeof(line));
	cr_assert_str_eq(line, "1 of 2 MiB given");
	b.addr = list.v;
	put_stat(0, BALLOON_FREE_BYTES, 5 << 20);
	put_stat(1, BALLOON_TOTAL_BYTES, ~0ull);
	put_stat(2, BALLOON_AVAILABLE_BYTES, 7 << 20);
	fake_ring_add(&d.ring[2], &b, 1, NULL, 0);
	fake_driver_kick(&d, 2);
	dev->ops->stats(dev, line, sizeof(line));
	cr_assert_str_eq(line, "1 of 2 MiB given; the guest has 5 MiB free, 7 available, "
			       "17592186044415 in all");
	/* After a reset the old values stay until a new driver starts. */
	fake_driver_set_status(&d, 0);
	dev->ops->stats(dev, line, sizeof(line));
	cr_assert(strstr(line, "1 of 2 MiB given; the guest has 5"), "%s", line);
	fake_driver_start(&d, F_STATS, 3, 16);
	dev->ops->stats(dev, line, 20);
	cr_assert_str_eq(line, "0 of 2 MiB given");
	fake_driver_set_status(&d, 0);
	fake_driver_start(&d, F_STATS, 3, 16);
	fake_driver_set_status(&d, 0);
	dev->ops->stats(dev, line, sizeof(line));
	cr_assert_str_eq(line, "0 of 2 MiB given");
	end();
}

Test(balloon, stats_line_cut)
{
	char line[128];

	begin(FAKE_PCI, "2M");
	dev->ops->stats(dev, line, 5); /* cut the line, do not overrun */
	cr_assert_str_eq(line, "0 of");
	end();
}

Test(balloon, target)
{
	struct balloon_info state;
	unsigned generation;

	begin(FAKE_PCI, "size=2M,deflate-on-oom=off,free-page-reporting=off");
	cr_assert_eq(fake_driver_offered(&d) & 0x3f, F_POISON);
	fake_driver_start(&d, 0, 2, 16);
	generation = fake_driver_generation(&d);
	cr_assert_eq(balloon_set_target(dev, 1 << 20), 0);
	cr_assert_eq(fake_driver_config_irqs(&d), 1);
	cr_assert_neq(fake_driver_generation(&d), generation);
	cr_assert_eq(fake_driver_config(&d, 0, 4), 256);
	cr_assert_eq(balloon_set_target(dev, 1ull << 40), -ERANGE);
	fake_driver_set_config(&d, 4, 4, 250);
	for (unsigned off = 0; off < 20; off += 2) /* writes to all other fields */
		if (off < 4 || off >= 8)
			fake_driver_set_config(&d, off, 2, 0xffff);
	balloon_get(dev, &state);
	cr_assert_eq(state.target_bytes, 1 << 20);
	cr_assert_eq(state.actual_bytes, 250 * 4096);
	cr_assert_eq(balloon_held_bytes(dev), 250 * 4096);
	cr_assert_eq(fake_driver_config(&d, 0, 4), 256);
	cr_assert_eq(fake_driver_config(&d, 8, 4), 0);
	fake_driver_set_config(&d, 4, 4, 0xffffffff);
	cr_assert_eq(balloon_held_bytes(dev), 0xffffffffull * 4096);
	fake_driver_set_status(&d, 0);
	cr_assert_eq(balloon_held_bytes(dev), 0, "a driver that is gone holds nothing");
	end();
}

static void broken_rings(enum fake_transport transport)
{
	static const struct fake_buf bad[] = {
		{ 0x10, 0 }, { ~0ull, 64 }, { 1ull << 40, 64 }, { FAKE_LOW_BYTES - 2, 64 }
	};

	begin(transport, "stats-interval=1");
	for (unsigned q = 0; q < 4; q++)
		for (unsigned i = 0; i < 4; i++) {
			fake_driver_start(&d, F_STATS | F_REPORTING, 4, 16);
			fake_ring_add(&d.ring[q], q < 3 ? &bad[i] : NULL, q < 3,
				      q < 3 ? NULL : &bad[i], q == 3);
			fake_driver_kick(&d, q);
			cr_assert(fake_driver_status(&d) & VIRTIO_STATUS_NEEDS_RESET, "%u %u", q,
				  i);
		}
	end();
}

Test(balloon, broken_rings)
{
	broken_rings(FAKE_PCI);
	broken_rings(FAKE_MMIO);
}

Test(balloon, refusals)
{
	struct err err = { "" };
	struct device *first;

	begin(FAKE_PCI, "size=0");
	first = dev;
	cr_assert_eq(create("size=1T", &err), -ERANGE);
	cr_assert(strstr(err.text, "the guest has less memory"), "%s", err.text);
	cr_assert_lt(create("stats-interval=3601", &err), 0);
	cr_assert_lt(create("size=lots", &err), 0);
	dev = first;
	end();
}
