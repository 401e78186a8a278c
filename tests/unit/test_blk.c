/*
 * test_blk: virtio-blk over both transports, on a disk in memory: every request
 * type, every refusal, resets with I/O in flight, size changes, the keys of --disk.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/store/backing.h"
#include "devices/virtio/blk/blk.h"
#include "devices/virtio/blk/blk_impl.h"
#include "devices/virtio/blk/req.h"
#include "tests/unit/fake_disk.h"
#include "tests/unit/fake_driver.h"
#include "vmm/core/clock.h"

#define F_SEG_MAX (1ull << 2)
#define F_RO (1ull << 5)
#define F_FLUSH (1ull << 9)
#define F_WCE (1ull << 11)
#define F_MQ (1ull << 12)
#define F_DISCARD (1ull << 13)
#define F_ZEROES (1ull << 14)
#define F_ALL (F_SEG_MAX | F_FLUSH | F_WCE | F_DISCARD | F_ZEROES)

#define SIZE (1u << 20)
#define SECTORS (SIZE / 512)
#define QUEUE 64

/* Offsets in the test's page of guest memory. */
#define HDR 0u
#define STATUS 64u
#define RANGES 128u
#define DATA 4096u

static struct fake_env f;
static struct fake_driver d;
static struct fake_disk disk;
static struct device *dev;
static uint8_t *bytes;
static gpa_t page;
static uint8_t *host;
static bool closed;

/* The configuration that create uses; a test changes the limits first. */
static struct virtio_blk_config cfg = { .id = "d0",
					.serial = "serial-17",
					.queue_size = QUEUE,
					.discard = true };

static void create(enum fake_transport transport, bool ro, unsigned nqueues)
{
	struct err err = { "" };

	cfg.nqueues = nqueues;
	fake_env_init(&f, transport);
	bytes = calloc(1, SIZE);
	for (unsigned i = 0; i < SIZE; i++)
		bytes[i] = (uint8_t)(i ^ i >> 8 ^ i >> 16);
	fake_disk_init(&disk, bytes, SIZE);
	disk.disk.readonly = ro;
	disk.disk.can_discard = disk.disk.can_write_zeroes = !ro;
	closed = false;
	disk.closed = &closed;
	cr_assert_eq(blk_create(&f.env, &cfg, &disk.disk, &dev, &err), 0, "%s", err.text);
	fake_driver_find(&d, &f, 0, true);
	page = fake_alloc(&f, 1 << 17);
	host = fake_at(&f, page, 1 << 17);
}

static void begin(enum fake_transport transport, uint64_t features)
{
	create(transport, false, 1);
	fake_driver_start(&d, features, 1, QUEUE);
}

static void end(void)
{
	device_destroy(dev);
	cr_assert(closed);
	fake_env_destroy(&f);
	free(bytes);
}

static struct fake_buf buf(unsigned at, unsigned len)
{
	return (struct fake_buf){ page.v + at, len };
}

static void header(uint32_t type, uint64_t sector)
{
	struct blk_hdr hdr = { .type = type, .sector = sector };

	memcpy(host + HDR, &hdr, sizeof(hdr));
	host[STATUS] = 0xee;
}

static bool broken(void)
{
	return fake_driver_status(&d) & VIRTIO_STATUS_NEEDS_RESET;
}

/* Kicks, and takes the only answer. Returns its status byte, or -1 if there is none. */
static int answer(uint32_t *written)
{
	struct fake_used_elem e;

	fake_driver_kick(&d, 0);
	if (!fake_ring_take(&d.ring[0], &e))
		return -1;
	if (written)
		*written = e.len;
	cr_assert_not(fake_ring_take(&d.ring[0], &e));
	return host[STATUS];
}

static int out(uint32_t type, uint64_t sector, unsigned len)
{
	struct fake_buf o[2] = { buf(HDR, 16), buf(DATA, len) }, i = buf(STATUS, 1);

	header(type, sector);
	fake_ring_add(&d.ring[0], o, len ? 2 : 1, &i, 1);
	return answer(NULL);
}

static int in(uint32_t type, uint64_t sector, unsigned len, uint32_t *written)
{
	struct fake_buf o = buf(HDR, 16), i[2] = { buf(DATA, len), buf(STATUS, 1) };

	header(type, sector);
	fake_ring_add(&d.ring[0], &o, 1, len ? i : i + 1, len ? 2 : 1);
	return answer(written);
}

static int ranges(uint32_t type, const struct blk_range *r, unsigned n)
{
	struct fake_buf o[2] = { buf(HDR, 16), buf(RANGES, n * 16) }, i = buf(STATUS, 1);

	header(type, 0);
	memcpy(host + RANGES, r, n * sizeof(*r));
	fake_ring_add(&d.ring[0], o, 2, &i, 1);
	return answer(NULL);
}

static bool all_zero(const uint8_t *p, size_t n)
{
	return !*p && !memcmp(p, p + 1, n - 1);
}

/* --- valid requests -------------------------------------------------------------- */

static void check_data(enum fake_transport transport)
{
	uint32_t written;

	begin(transport, F_ALL);
	cr_assert_eq(in(BLK_T_IN, 3, 4096, &written), BLK_S_OK);
	cr_assert_eq(written, 4097);
	cr_assert_arr_eq(host + DATA, bytes + 3 * 512, 4096);
	memset(host + DATA, 0x5a, 8192);
	cr_assert_eq(out(BLK_T_OUT, 100, 8192), BLK_S_OK);
	cr_assert_eq(bytes[100 * 512], 0x5a);
	cr_assert_eq(bytes[100 * 512 + 8191], 0x5a);
	cr_assert_neq(bytes[100 * 512 + 8192], 0x5a);
	cr_assert_eq(disk.durable, 0);
	cr_assert_eq(out(BLK_T_FLUSH, 0, 0), BLK_S_OK);
	cr_assert_eq(disk.ops[DISK_FLUSH], 1);
	cr_assert_geq(fake_driver_irqs(&d, 0), 1);
	/* The very last sector. */
	cr_assert_eq(in(BLK_T_IN, SECTORS - 1, 512, NULL), BLK_S_OK);
	end();
}

Test(blk, data_pci)
{
	check_data(FAKE_PCI);
}

Test(blk, data_mmio)
{
	check_data(FAKE_MMIO);
}

/* Header in three pieces, one of them shared with data; data in odd pieces; status after it. */
Test(blk, any_layout)
{
	struct fake_buf o[4], i[3];

	begin(FAKE_PCI, F_ALL);
	header(BLK_T_OUT, 8);
	memset(host + DATA, 0xa5, 1024);
	memcpy(host + DATA - 4, host + 12, 4);
	o[0] = buf(0, 5);
	o[1] = buf(5, 7);
	o[2] = buf(DATA - 4, 4 + 100);
	o[3] = buf(DATA + 100, 924);
	i[0] = buf(STATUS, 1);
	fake_ring_add(&d.ring[0], o, 4, i, 1);
	cr_assert_eq(answer(NULL), BLK_S_OK);
	cr_assert_eq(bytes[8 * 512], 0xa5);
	cr_assert_eq(bytes[10 * 512 - 1], 0xa5);
	cr_assert_neq(bytes[10 * 512], 0xa5);

	/* A read in 3 pieces; the status is the last byte of the last piece. */
	header(BLK_T_IN, 20);
	o[0] = buf(HDR, 16);
	i[0] = buf(DATA, 1);
	i[1] = buf(DATA + 1, 510);
	i[2] = buf(DATA + 511, 2);
	host[DATA + 512] = 0xee;
	fake_ring_add(&d.ring[0], o, 1, i, 3);
	answer(NULL);
	cr_assert_eq(host[DATA + 512], BLK_S_OK);
	cr_assert_arr_eq(host + DATA, bytes + 20 * 512, 512);
	end();
}

/* More segments than the request structure itself holds. */
Test(blk, many_segments)
{
	struct fake_buf o[34], i;

	begin(FAKE_PCI, F_ALL);
	i = buf(STATUS, 1);
	header(BLK_T_OUT, 64);
	o[0] = buf(HDR, 16);
	for (unsigned n = 0; n < 32; n++) {
		memset(host + DATA + n * 1024, (int)n + 1, 512);
		o[n + 1] = buf(DATA + n * 1024, 512);
	}
	fake_ring_add(&d.ring[0], o, 33, &i, 1);
	cr_assert_eq(answer(NULL), BLK_S_OK);
	for (unsigned n = 0; n < 32; n++)
		cr_assert_eq(bytes[(64 + n) * 512 + 511], n + 1);
	end();
}

Test(blk, get_id)
{
	uint32_t written;

	begin(FAKE_PCI, F_ALL);
	memset(host + DATA, 0xee, 32);
	cr_assert_eq(in(BLK_T_GET_ID, 0, 20, &written), BLK_S_OK);
	cr_assert_eq(written, 21);
	cr_assert_arr_eq(host + DATA, "serial-17\0\0\0\0\0\0\0\0\0\0\0\xee", 21);
	/* Short and long buffers: the device writes no more than fits, and no more than it has. */
	memset(host + DATA, 0xee, 32);
	cr_assert_eq(in(BLK_T_GET_ID, 0, 6, &written), BLK_S_OK);
	cr_assert_eq(written, 7);
	cr_assert_arr_eq(host + DATA, "serial\xee", 7);
	cr_assert_eq(in(BLK_T_GET_ID, 0, 30, &written), BLK_S_OK);
	cr_assert_eq(written, 21);
	cr_assert_eq(in(BLK_T_GET_ID, 0, 0, &written), BLK_S_OK);
	end();
}

Test(blk, discard_and_zeroes)
{
	struct blk_range r[BLK_MAX_RANGES];

	begin(FAKE_PCI, F_ALL);
	r[0] = (struct blk_range){ 10, 4, 0 };
	r[1] = (struct blk_range){ 20, 0, 0 };
	r[2] = (struct blk_range){ 30, 2, 0 };
	cr_assert_eq(ranges(BLK_T_DISCARD, r, 3), BLK_S_OK);
	cr_assert_eq(disk.ops[DISK_DISCARD], 2, "an empty range is nothing to do");
	cr_assert(all_zero(bytes + 5120, 2048));
	cr_assert_neq(bytes[14 * 512 + 1], 0);
	cr_assert(all_zero(bytes + 30 * 512, 1024));
	r[0] = (struct blk_range){ 40, 4, 1 };
	cr_assert_eq(ranges(BLK_T_WRITE_ZEROES, r, 1), BLK_S_OK);
	cr_assert(disk.last.unmap);
	r[0].flags = 0;
	cr_assert_eq(ranges(BLK_T_WRITE_ZEROES, r, 1), BLK_S_OK);
	cr_assert_not(disk.last.unmap);
	for (unsigned i = 0; i < BLK_MAX_RANGES; i++)
		r[i] = (struct blk_range){ i, 1, 0 };
	cr_assert_eq(ranges(BLK_T_DISCARD, r, BLK_MAX_RANGES), BLK_S_OK);
	r[0].nsectors = 0;
	cr_assert_eq(ranges(BLK_T_DISCARD, r, 1), BLK_S_OK);
	end();
}

/* --- refused requests -------------------------------------------------------------- */

Test(blk, refused)
{
	begin(FAKE_PCI, F_ALL);
	cr_assert_eq(in(BLK_T_IN, SECTORS, 512, NULL), BLK_S_IOERR);
	cr_assert_eq(in(BLK_T_IN, SECTORS - 1, 1024, NULL), BLK_S_IOERR);
	cr_assert_eq(in(BLK_T_IN, UINT64_MAX, 512, NULL), BLK_S_IOERR);
	cr_assert_eq(in(BLK_T_IN, UINT64_MAX / 512, 1024, NULL), BLK_S_IOERR);
	cr_assert_eq(in(BLK_T_IN, UINT64_MAX - 1, 4096, NULL), BLK_S_IOERR);
	cr_assert_eq(in(BLK_T_IN, 1ull << 55, 512, NULL), BLK_S_IOERR);
	cr_assert_eq(out(BLK_T_OUT, SECTORS, 512), BLK_S_IOERR);
	cr_assert_eq(in(BLK_T_IN, 0, 511, NULL), BLK_S_IOERR);
	cr_assert_eq(in(BLK_T_IN, 0, 513, NULL), BLK_S_IOERR);
	cr_assert_eq(out(BLK_T_OUT, 0, 100), BLK_S_IOERR);
	cr_assert_eq(in(BLK_T_IN, 0, 0, NULL), BLK_S_OK, "nothing asked, nothing wrong");
	cr_assert_eq(out(BLK_T_OUT, 0, 0), BLK_S_OK);
	cr_assert_eq(out(2, 0, 0), BLK_S_UNSUPP, "SCSI commands are long gone");
	cr_assert_eq(out(0xffffffff, 0, 512), BLK_S_UNSUPP);
	cr_assert_eq(out(0x80000000, 0, 0), BLK_S_UNSUPP);
	cr_assert_not(broken());
	cr_assert_eq(disk.ops[DISK_READ] + disk.ops[DISK_WRITE], 0);
	/* Errors of the host. */
	disk.fail = -EIO;
	cr_assert_eq(in(BLK_T_IN, 0, 512, NULL), BLK_S_IOERR);
	disk.fail = -ENOSPC;
	cr_assert_eq(out(BLK_T_OUT, 0, 512), BLK_S_IOERR);
	cr_assert_eq(out(BLK_T_FLUSH, 0, 0), BLK_S_IOERR);
	disk.fail = 0;
	cr_assert_eq(in(BLK_T_IN, 0, 512, NULL), BLK_S_OK);
	end();
}

Test(blk, refused_ranges)
{
	struct blk_range r[BLK_MAX_RANGES + 1] = { { 0, 1, 0 } };
	struct fake_buf o[2], i;

	begin(FAKE_PCI, F_ALL);
	o[0] = buf(HDR, 16);
	i = buf(STATUS, 1);
	for (unsigned type = BLK_T_DISCARD; type <= BLK_T_WRITE_ZEROES; type += 2) {
		r[0] = (struct blk_range){ SECTORS, 1, 0 };
		cr_assert_eq(ranges(type, r, 1), BLK_S_IOERR);
		r[0] = (struct blk_range){ SECTORS - 1, 2, 0 };
		cr_assert_eq(ranges(type, r, 1), BLK_S_IOERR);
		r[0] = (struct blk_range){ UINT64_MAX, 2, 0 };
		cr_assert_eq(ranges(type, r, 1), BLK_S_IOERR);
		r[0] = (struct blk_range){ 0, UINT32_MAX, 0 };
		cr_assert_eq(ranges(type, r, 1), BLK_S_IOERR);
		r[0] = (struct blk_range){ 0, 1, 2 };
		cr_assert_eq(ranges(type, r, 1), BLK_S_UNSUPP);
		r[0] = (struct blk_range){ 0, 1, 0x80000000 };
		cr_assert_eq(ranges(type, r, 1), BLK_S_UNSUPP);
		r[0] = (struct blk_range){ 0, 1, 0 };
		cr_assert_eq(ranges(type, r, BLK_MAX_RANGES + 1), BLK_S_IOERR);
		cr_assert_eq(out(type, 0, 0), BLK_S_IOERR, "no range at all");
		for (unsigned len = 1; len < 40; len += 7) {
			header(type, 0);
			o[1] = buf(RANGES, len);
			fake_ring_add(&d.ring[0], o, 2, &i, 1);
			cr_assert_eq(answer(NULL), BLK_S_IOERR, "%u bytes of ranges", len);
		}
	}
	/* The unmap flag is valid only for write-zeroes. */
	r[0] = (struct blk_range){ 0, 1, 1 };
	cr_assert_eq(ranges(BLK_T_DISCARD, r, 1), BLK_S_UNSUPP);
	cr_assert_eq(disk.ops[DISK_DISCARD] + disk.ops[DISK_WRITE_ZEROES], 0);
	/* One bad range of many is an error, even if earlier ranges are done. */
	r[0] = (struct blk_range){ 0, 1, 0 };
	r[1] = (struct blk_range){ SECTORS, 1, 0 };
	r[2] = (struct blk_range){ 4, 1, 0 };
	cr_assert_eq(ranges(BLK_T_DISCARD, r, 3), BLK_S_IOERR);
	cr_assert_not(broken());
	end();
}

Test(blk, not_negotiated)
{
	struct blk_range r = { 0, 1, 0 };

	begin(FAKE_PCI, F_FLUSH);
	cr_assert_eq(ranges(BLK_T_DISCARD, &r, 1), BLK_S_UNSUPP);
	cr_assert_eq(ranges(BLK_T_WRITE_ZEROES, &r, 1), BLK_S_UNSUPP);
	end();
}

Test(blk, readonly)
{
	struct blk_range r = { 0, 1, 0 };
	uint64_t offered;

	create(FAKE_PCI, true, 1);
	offered = fake_driver_offered(&d);
	cr_assert(offered & F_RO);
	cr_assert_not(offered & (F_DISCARD | F_ZEROES | F_FLUSH | F_WCE));
	/* Also if the driver does not negotiate VIRTIO_BLK_F_RO. */
	fake_driver_start(&d, 0, 1, QUEUE);
	cr_assert_eq(out(BLK_T_OUT, 0, 512), BLK_S_IOERR);
	cr_assert_eq(ranges(BLK_T_DISCARD, &r, 1), BLK_S_UNSUPP);
	cr_assert_eq(in(BLK_T_IN, 0, 512, NULL), BLK_S_OK);
	cr_assert_eq(out(BLK_T_FLUSH, 0, 0), BLK_S_OK);
	cr_assert_eq(disk.ops[DISK_WRITE], 0);
	end();
}

/* A request without a place for the answer stops the device, not the VM. */
static void check_broken(const struct fake_buf *o, unsigned no, const struct fake_buf *i,
			 unsigned ni)
{
	fake_driver_start(&d, F_ALL, 1, QUEUE);
	header(BLK_T_IN, 0);
	fake_ring_add(&d.ring[0], o, no, i, ni);
	cr_assert_eq(answer(NULL), -1);
	cr_assert(broken());
	cr_assert_geq(fake_driver_config_irqs(&d), 1);
	fake_driver_kick(&d, 0);
	/* A reset repairs the device. */
	fake_driver_start(&d, F_ALL, 1, QUEUE);
	cr_assert_not(broken());
	cr_assert_eq(in(BLK_T_IN, 0, 512, NULL), BLK_S_OK);
}

Test(blk, broken)
{
	create(FAKE_PCI, false, 1);
	struct fake_buf hdr = buf(HDR, 16), shrt = buf(HDR, 15), status = buf(STATUS, 1);
	struct fake_buf data[2] = { buf(HDR, 16), buf(DATA, 512) };
	struct fake_buf in_only[2] = { buf(HDR, 16), buf(STATUS, 1) };

	check_broken(&shrt, 1, &status, 1);
	check_broken(&hdr, 1, NULL, 0);
	check_broken(data, 2, NULL, 0);
	/* Header and status both writable; then everything in one readable descriptor. */
	check_broken(NULL, 0, in_only, 2);
	check_broken(&data[1], 1, NULL, 0);
	/* An address outside memory, and an invalid head: the ring's own checks. */
	struct fake_buf far = { 1ull << 40, 16 };
	check_broken(&far, 1, &status, 1);
	end();
}

/* --- completions --------------------------------------------------------------------- */

static unsigned taken(void)
{
	return fake_ring_take_all(&d.ring[0]);
}

static void add_reads(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct fake_buf o = buf(HDR, 16);
		struct fake_buf b[2] = { buf(DATA + i * 512, 512), buf(STATUS + i, 1) };

		fake_ring_add(&d.ring[0], &o, 1, b, 2);
	}
	header(BLK_T_IN, 7);
}

Test(blk, batch)
{
	begin(FAKE_PCI, F_ALL);
	add_reads(20);
	fake_driver_irqs(&d, 0);
	fake_driver_kick(&d, 0);
	cr_assert_eq(taken(), 20);
	cr_assert_eq(fake_driver_irqs(&d, 0), 1, "one interrupt for a batch");
	cr_assert_leq(disk.commits, 4);
	end();
}

Test(blk, later)
{
	begin(FAKE_PCI, F_ALL | 1ull << VIRTIO_F_EVENT_IDX);
	disk.hold = true;
	add_reads(10);
	fake_driver_irqs(&d, 0);
	fake_driver_kick(&d, 0);
	cr_assert_eq(taken(), 0);
	cr_assert_eq(fake_driver_irqs(&d, 0), 0);
	fake_disk_release(&disk, 4);
	cr_assert_eq(taken(), 4);
	cr_assert_eq(fake_driver_irqs(&d, 0), 1);
	/* The driver asks for an interrupt after the tenth completion. */
	fake_ring_set_used_event(&d.ring[0], 9);
	fake_disk_release(&disk, 5);
	cr_assert_eq(fake_driver_irqs(&d, 0), 0);
	fake_disk_release(&disk, 5);
	cr_assert_eq(fake_driver_irqs(&d, 0), 1);
	cr_assert_eq(taken(), 6);
	end();
}

/* Only what has succeeded counts, and each counter by its name. */
Test(blk, counters)
{
	static const char *const all[] = { "read_bytes",	"read_ops",
					   "read_latency_min",	"read_latency_max",
					   "read_latency_avg",	"write_bytes",
					   "write_ops",		"write_latency_min",
					   "write_latency_max", "write_latency_avg" };
	uint64_t min, avg, max;

	begin(FAKE_PCI, F_ALL);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		cr_expect_eq(fake_counter(dev, all[i]), 0, "%s", all[i]);
	cr_assert_eq(in(BLK_T_IN, 0, 4096, NULL), BLK_S_OK);
	cr_assert_eq(in(BLK_T_IN, 0, 512, NULL), BLK_S_OK);
	cr_assert_eq(out(BLK_T_OUT, 0, 1024), BLK_S_OK);
	cr_assert_eq(out(BLK_T_FLUSH, 0, 0), BLK_S_OK);
	cr_assert_eq(in(BLK_T_GET_ID, 0, 20, NULL), BLK_S_OK);
	cr_assert_eq(in(BLK_T_IN, SECTORS, 512, NULL), BLK_S_IOERR);
	disk.fail = -EIO;
	cr_assert_eq(in(BLK_T_IN, 0, 512, NULL), BLK_S_IOERR);
	cr_assert_eq(out(BLK_T_OUT, 0, 512), BLK_S_IOERR);
	disk.fail = 0;
	cr_expect_eq(fake_counter(dev, "read_bytes"), 4608);
	cr_expect_eq(fake_counter(dev, "read_ops"), 2);
	cr_expect_eq(fake_counter(dev, "write_bytes"), 1024);
	cr_expect_eq(fake_counter(dev, "write_ops"), 1);
	cr_expect_geq(fake_counter(dev, "write_latency_min"), 1);
	/* A request that takes 20 ms, among short ones. */
	disk.hold = true;
	add_reads(3);
	fake_driver_kick(&d, 0);
	fake_disk_release(&disk, 2);
	usleep(20000);
	fake_disk_release(&disk, 1);
	cr_assert_eq(taken(), 3);
	min = fake_counter(dev, "read_latency_min");
	avg = fake_counter(dev, "read_latency_avg");
	max = fake_counter(dev, "read_latency_max");
	cr_expect_eq(fake_counter(dev, "read_ops"), 5);
	cr_expect(min >= 1 && min < 20000 && max >= 20000 && max < 10000000, "%llu, %llu",
		  (unsigned long long)min, (unsigned long long)max);
	cr_expect(avg >= max / 5 && avg <= (max + 4 * 20000) / 5 + 4, "%llu",
		  (unsigned long long)avg);
	/* They are the disk's, not the driver's. */
	fake_driver_set_status(&d, 0);
	cr_expect_eq(fake_counter(dev, "read_ops"), 5);
	end();
}

/* Many more requests than one turn of the loop handles. */
Test(blk, turns)
{
	unsigned done = 0;

	begin(FAKE_PCI, F_ALL);
	for (unsigned round = 0; round < 40; round++) {
		add_reads(QUEUE / 3);
		fake_driver_kick(&d, 0);
		done += taken();
	}
	cr_assert_eq(done, 40 * (QUEUE / 3));
	end();
}

Test(blk, multi_queue)
{
	struct fake_used_elem e;
	struct fake_buf o, i[2];

	create(FAKE_PCI, false, 4);
	cr_assert(fake_driver_offered(&d) & F_MQ);
	cr_assert_eq(fake_driver_config(&d, 34, 2), 4);
	fake_driver_start(&d, F_ALL | F_MQ, 4, QUEUE);
	o = buf(HDR, 16);
	i[0] = buf(DATA, 512);
	i[1] = buf(STATUS, 1);
	for (unsigned q = 0; q < 4; q++) {
		header(BLK_T_IN, q);
		fake_ring_add(&d.ring[q], &o, 1, i, 2);
		fake_driver_irqs(&d, q);
		fake_driver_kick(&d, q);
		cr_assert(fake_ring_take(&d.ring[q], &e));
		cr_assert_eq(host[STATUS], 0);
		cr_assert_eq(fake_driver_irqs(&d, q), 1);
		cr_assert_arr_eq(host + DATA, bytes + q * 512, 512);
	}
	end();
}

/* The loop polls the queues until the disk's threads have work; then it sleeps until a kick. */
Test(blk, polls_unless_threads_work)
{
	struct fake_used_elem e;
	const struct blk *blk;

	if (fake_one_cpu())
		cr_skip_test("one CPU: no polling");
	create(FAKE_PCI, false, 2);
	fake_driver_start(&d, F_ALL | F_MQ, 2, QUEUE);
	blk = (const struct blk *)dev;
	/* Short waits teach the loop that polling pays; it polls the second queue as well. */
	for (unsigned i = 0; i < 10 && blk->polled != 3; i++) {
		in(BLK_T_IN, 0, 512, NULL);
		fake_driver_kick(&d, 1);
	}
	cr_assert_eq(blk->polled, 3);
	disk.hold = disk.elsewhere = true;
	add_reads(1);
	fake_run(&f);
	cr_assert_eq(disk.ntaken, 1);
	cr_assert_eq(blk->polled, 0);
	cr_assert_not(blk->poller.armed);
	disk.hold = disk.elsewhere = false;
	fake_disk_release(&disk, 1);
	fake_run(&f);
	cr_assert(fake_ring_take(&d.ring[0], &e));
	cr_assert_eq(in(BLK_T_IN, 0, 512, NULL), BLK_S_OK);
	end();
}

static void *reset_thread(void *arg)
{
	fake_driver_set_status(&d, 0);
	return NULL;
}

/* A vCPU resets the device and waits for its I/O. */
static pthread_t begin_reset(void)
{
	struct virtio_device *vdev = (struct virtio_device *)dev;
	pthread_t thread;
	bool waits = false;

	cr_assert_eq(pthread_create(&thread, NULL, reset_thread, NULL), 0);
	while (!waits) {
		usleep(100);
		virtio_lock(vdev);
		waits = vdev->resetting && vdev->io_pending;
		virtio_unlock(vdev);
	}
	return thread;
}

/* The reset waits for requests in flight; after it, nothing is written to the guest. */
Test(blk, reset_in_flight)
{
	pthread_t thread;

	begin(FAKE_PCI, F_ALL);
	disk.hold = true;
	add_reads(10);
	fake_driver_kick(&d, 0);
	thread = begin_reset();
	memset(host + STATUS, 0xee, 10);
	fake_disk_release(&disk, 4);
	fake_disk_release(&disk, 6);
	pthread_join(thread, NULL);
	cr_assert_eq(fake_driver_status(&d), 0);
	cr_assert_eq(d.ring[0].used[1], 0);
	for (unsigned i = 0; i < 10; i++)
		cr_assert_eq(host[STATUS + i], 0xee);
	disk.hold = false;
	fake_driver_start(&d, F_ALL, 1, QUEUE);
	cr_assert_eq(in(BLK_T_IN, 0, 512, NULL), BLK_S_OK);
	end();
}

/* A reset in the middle of a discard of many ranges: the other ranges are not started. */
Test(blk, reset_in_ranges)
{
	struct blk_range r[3] = { { 0, 1, 0 }, { 2, 1, 0 }, { 4, 1, 0 } };
	pthread_t thread;

	begin(FAKE_PCI, F_ALL);
	disk.hold = true;
	cr_assert_eq(ranges(BLK_T_DISCARD, r, 3), -1);
	thread = begin_reset();
	fake_disk_release(&disk, 1);
	pthread_join(thread, NULL);
	cr_assert_eq(disk.ops[DISK_DISCARD], 1);
	end();
}

Test(blk, destroy_in_flight)
{
	begin(FAKE_PCI, F_ALL);
	disk.hold = true;
	add_reads(10);
	fake_driver_kick(&d, 0);
	end();
	cr_assert_eq(disk.drains, 1);
	cr_assert_eq(disk.ntaken, 0);
}

/* The guest breaks its ring while requests are in flight. */
Test(blk, broken_in_flight)
{
	begin(FAKE_PCI, F_ALL);
	disk.hold = true;
	add_reads(3);
	fake_driver_kick(&d, 0);
	fake_ring_offer(&d.ring[0], QUEUE + 1);
	fake_driver_kick(&d, 0);
	cr_assert(broken());
	fake_disk_release(&disk, 3);
	cr_assert_eq(taken(), 0);
	disk.hold = false;
	fake_driver_start(&d, F_ALL, 1, QUEUE);
	cr_assert_eq(in(BLK_T_IN, 0, 512, NULL), BLK_S_OK);
	end();
}

/* --- rate limits ---------------------------------------------------------------------- */

/* Makes n reads of len bytes, n at most the ring's size, and waits. Returns the seconds. */
static double timed_reads(unsigned n, unsigned len)
{
	double began = clock_now_s();
	unsigned done = 0;

	for (unsigned i = 0; i < n; i++) {
		struct fake_buf o = buf(HDR, 16), in[2] = { buf(DATA, len), buf(STATUS, 1) };

		header(BLK_T_IN, 0);
		fake_ring_add(&d.ring[0], &o, 1, in, 2);
	}
	fake_driver_kick(&d, 0);
	while (done < n && clock_now_s() - began < 5) {
		done += taken();
		cr_assert_leq(done, n);
		fake_run(&f);
		usleep(500);
	}
	cr_assert_eq(done, n);
	return clock_now_s() - began;
}

Test(blk, limited_operations)
{
	double s;

	cfg.limit.ops = ratelimit_per_second(50, 1);
	begin(FAKE_PCI, F_ALL);
	s = timed_reads(16, 512);
	cr_assert(s > 15 / 50.0 - 0.01 && s < 1.5, "%f s", s);
	/* Requests that do not use the disk do not count. */
	usleep(50000);
	fake_run(&f);
	for (unsigned i = 0; i < 20; i++)
		cr_assert_eq(in(BLK_T_GET_ID, 0, 20, NULL), BLK_S_OK);
	end();
}

Test(blk, limited_bytes)
{
	double s;

	cfg.limit.bytes = ratelimit_per_second(1 << 20, 1);
	begin(FAKE_PCI, F_ALL);
	/* The last request does not wait for its own debt. */
	s = timed_reads(6, 65536);
	cr_assert(s > 5 * 65536.0 / (1 << 20) - 0.01 && s < 1.5, "%f s", s);
	/* Discards and write-zeroes transfer no bytes. */
	struct blk_range r = { 0, 2048, 0 };

	usleep(70000);
	cr_assert_eq(ranges(BLK_T_DISCARD, &r, 1), BLK_S_OK);
	cr_assert_eq(ranges(BLK_T_WRITE_ZEROES, &r, 1), BLK_S_OK);
	cr_assert_eq(ranges(BLK_T_DISCARD, &r, 1), BLK_S_OK);
	end();
}

Test(blk, limited_burst)
{
	cfg.limit.ops = ratelimit_per_second(1, 10);
	begin(FAKE_PCI, F_ALL);
	add_reads(10);
	fake_driver_kick(&d, 0);
	cr_assert_eq(taken(), 10);
	add_reads(1);
	fake_driver_kick(&d, 0);
	usleep(20000);
	fake_run(&f);
	cr_assert_eq(taken(), 0);
	/* A discard of n ranges counts as n operations. */
	cr_assert_eq(disk.ops[DISK_READ], 10);
	end();
	cfg.limit.ops = ratelimit_per_second(10, 4);
	begin(FAKE_PCI, F_ALL);
	struct blk_range r[4] = { { 0, 1, 0 }, { 2, 1, 0 }, { 4, 1, 0 }, { 6, 1, 0 } };

	cr_assert_eq(ranges(BLK_T_DISCARD, r, 4), BLK_S_OK);
	add_reads(1);
	fake_driver_kick(&d, 0);
	cr_assert_eq(taken(), 0);
	end();
}

/* The limit holds requests back in the ring, where they delay neither a reset nor the end. */
Test(blk, limited_reset)
{
	cfg.limit.ops = ratelimit_per_second(20, 2);
	begin(FAKE_PCI, F_ALL);
	add_reads(10);
	fake_driver_kick(&d, 0);
	cr_assert_eq(taken(), 2);
	fake_driver_set_status(&d, 0);
	cr_assert_eq(fake_driver_status(&d), 0);
	/* The old timer fires after the reset. */
	memset(host + STATUS, 0xee, 10);
	usleep(120000);
	fake_run(&f);
	cr_assert_eq(host[STATUS], 0xee);
	cr_assert_eq(disk.ops[DISK_READ], 2);
	/* A reset adds no tokens; the limit stays for the next driver. */
	fake_driver_start(&d, F_ALL, 1, QUEUE);
	timed_reads(4, 512);
	add_reads(8);
	fake_driver_kick(&d, 0);
	cr_assert_lt(taken(), 4);
	fake_driver_start(&d, F_ALL, 1, QUEUE);
	add_reads(8);
	fake_driver_kick(&d, 0);
	cr_assert_lt(taken(), 4);
	/* Some requests in flight, more held back: the end waits only for those in flight. */
	usleep(110000);
	disk.hold = true;
	fake_run(&f);
	cr_assert_gt(disk.ntaken, 0);
	end();
	cr_assert_eq(disk.ntaken, 0);
}

/* Each queue gets its turn, however many requests the others have. */
Test(blk, limited_queues)
{
	unsigned done[4] = { 0 };

	cfg.limit.ops = ratelimit_per_second(200, 1);
	create(FAKE_PCI, false, 4);
	fake_driver_start(&d, F_ALL | F_MQ, 4, QUEUE);
	header(BLK_T_IN, 0);
	for (unsigned q = 0; q < 4; q++) {
		for (unsigned i = 0; i < QUEUE / 3; i++) {
			struct fake_buf o = buf(HDR, 16),
					in[2] = { buf(DATA, 512), buf(STATUS, 1) };

			fake_ring_add(&d.ring[q], &o, 1, in, 2);
		}
		fake_driver_kick(&d, q);
	}
	for (double until = clock_now_s() + 0.3; clock_now_s() < until; usleep(500))
		fake_run(&f);
	for (unsigned q = 0; q < 4; q++) {
		done[q] += fake_ring_take_all(&d.ring[q]);
		cr_assert_geq(done[q], 3, "queue %u", q);
	}
	cr_assert_leq(done[0] + done[1] + done[2] + done[3], 70);
	end();
}

/* --- the cache mode -------------------------------------------------------------------- */

Test(blk, write_through)
{
	struct blk_range r[2] = { { 0, 1, 0 }, { 8, 1, 0 } };

	/* A driver without the flush feature. */
	begin(FAKE_PCI, F_DISCARD | F_ZEROES);
	cr_assert_eq(out(BLK_T_OUT, 0, 512), BLK_S_OK);
	cr_assert_eq(disk.durable, 1);
	cr_assert_eq(ranges(BLK_T_WRITE_ZEROES, r, 2), BLK_S_OK);
	cr_assert_eq(disk.ops[DISK_FLUSH], 1);
	/* A driver that switches the cache off, and on again. */
	fake_driver_start(&d, F_ALL, 1, QUEUE);
	cr_assert_eq(fake_driver_config(&d, 32, 1), 1);
	cr_assert_eq(out(BLK_T_OUT, 0, 512), BLK_S_OK);
	cr_assert_eq(disk.durable, 1);
	fake_driver_set_config(&d, 32, 1, 0);
	cr_assert_eq(fake_driver_config(&d, 32, 1), 0);
	cr_assert_eq(out(BLK_T_OUT, 0, 512), BLK_S_OK);
	cr_assert_eq(disk.durable, 2);
	fake_driver_set_config(&d, 32, 1, 1);
	cr_assert_eq(out(BLK_T_OUT, 0, 512), BLK_S_OK);
	cr_assert_eq(disk.durable, 2);
	/* A reset restores the default. */
	fake_driver_set_config(&d, 32, 1, 0);
	fake_driver_start(&d, F_ALL, 1, QUEUE);
	cr_assert_eq(fake_driver_config(&d, 32, 1), 1);
	end();
}

/* Writes of any width by the driver change only writeback. */
Test(blk, config)
{
	uint8_t before[64];

	begin(FAKE_PCI, F_ALL);
	cr_assert_eq(fake_driver_config(&d, 0, 4), SECTORS);
	cr_assert_eq(fake_driver_config(&d, 12, 4), QUEUE - 2);
	cr_assert_eq(fake_driver_config(&d, 20, 4), 512);
	cr_assert_eq(fake_driver_config(&d, 24, 1), 3);
	cr_assert_eq(fake_driver_config(&d, 26, 2), 8);
	cr_assert_eq(fake_driver_config(&d, 34, 2), 1);
	/* Discards: at most whole clusters of 2 MiB, aligned to this disk's clusters of 64 KiB. */
	cr_assert_eq(fake_driver_config(&d, 36, 4) % 4096, 0);
	cr_assert_eq(fake_driver_config(&d, 40, 4), BLK_MAX_RANGES);
	cr_assert_eq(fake_driver_config(&d, 44, 4), 128);
	for (unsigned i = 0; i < 64; i++)
		before[i] = (uint8_t)fake_driver_config(&d, i, 1);
	for (unsigned width = 1; width <= 4; width *= 2)
		for (unsigned off = 0; off < 64; off += width)
			fake_driver_set_config(&d, off, width, 0xffffffff);
	for (unsigned i = 0; i < 64; i++)
		cr_assert_eq(fake_driver_config(&d, i, 1), before[i], "byte %u", i);
	/* Not even writeback without the feature. */
	fake_driver_start(&d, F_FLUSH, 1, QUEUE);
	fake_driver_set_config(&d, 32, 1, 0);
	cr_assert_eq(fake_driver_config(&d, 32, 1), 1);
	end();
}

Test(blk, size_change)
{
	begin(FAKE_PCI, F_ALL);
	fake_driver_config_irqs(&d);
	dev->ops->refresh(dev);
	cr_assert_eq(fake_driver_config_irqs(&d), 0);
	disk.new_size = SIZE / 2;
	dev->ops->refresh(dev);
	cr_assert_eq(fake_driver_config_irqs(&d), 1);
	cr_assert_eq(fake_driver_config(&d, 0, 4), SECTORS / 2);
	cr_assert_eq(in(BLK_T_IN, SECTORS / 2, 512, NULL), BLK_S_IOERR);
	disk.new_size = SIZE;
	dev->ops->refresh(dev);
	cr_assert_eq(fake_driver_config_irqs(&d), 1);
	cr_assert_eq(in(BLK_T_IN, SECTORS / 2, 512, NULL), BLK_S_OK);
	disk.new_size = 1;
	dev->ops->refresh(dev);
	cr_assert_eq(fake_driver_config_irqs(&d), 0);
	end();
}

Test(blk, resize)
{
	static const struct {
		uint64_t bytes;
		const char *error;
	} refused[] = {
		{ SIZE - 512, "vol: has 1048576 bytes; a disk does not shrink to 1048064" },
		{ 0, "vol: has 1048576 bytes; a disk does not shrink to 0" },
		{ SIZE + 1, "vol: 1048577 bytes: not a multiple of 512" },
		{ 1ull << 63, "vol: 9223372036854775808 bytes: too many" },
	};
	struct err err = { "" };

	begin(FAKE_PCI, F_ALL);
	strcpy(dev->id, "vol");
	fake_driver_config_irqs(&d);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		cr_expect_eq(dev->ops->resize(dev, refused[i].bytes, &err), -EINVAL);
		cr_expect_str_eq(err.text, refused[i].error);
	}
	cr_expect_eq(disk.grows, 0);
	cr_expect_eq(dev->ops->resize(dev, SIZE, &err), 0);
	cr_expect_eq(fake_driver_config_irqs(&d), 0, "nothing has changed");
	/* While a request is in flight. */
	disk.hold = true;
	add_reads(1);
	fake_driver_kick(&d, 0);
	cr_expect_eq(dev->ops->resize(dev, 2 * SIZE, &err), 0);
	cr_expect_eq(fake_driver_config_irqs(&d), 1);
	cr_expect_eq(fake_driver_config(&d, 0, 4), 2 * SECTORS);
	fake_disk_release(&disk, 1);
	cr_expect_eq(taken(), 1);
	disk.fail = -ENOSPC;
	cr_expect_eq(dev->ops->resize(dev, 3 * SIZE, &err), -ENOSPC);
	cr_expect_str_eq(err.text, "vol: fake disk: No space left on device");
	cr_expect_eq(fake_driver_config(&d, 0, 4), 2 * SECTORS);
	cr_expect_eq(fake_driver_config_irqs(&d), 0);
	end();
}

/* --- the option ---------------------------------------------------------------------------- */

static int option(const char *text, struct err *err)
{
	struct keyvals kv;
	int rc = keys_parse(&kv, "--disk", virtio_blk_type.keys, text, err);

	if (!rc)
		rc = virtio_blk_type.create(&f.env, &kv, &dev, err);
	keys_clear(&kv);
	return rc;
}

static void check_option_io(const char *engine)
{
	char path[] = "/tmp/bantam-blk-XXXXXX", text[128];
	struct err err = { "" };
	int fd = mkstemp(path);

	cr_assert(fd >= 0 && ftruncate(fd, SIZE) == 0);
	fake_env_init(&f, FAKE_PCI);
	snprintf(text, sizeof(text), "%s,serial=abcdefghijklmnopqrst,engine=%s", path, engine);
	cr_assert_eq(option(text, &err), 0, "%s", err.text);
	fake_driver_find(&d, &f, 0, true);
	page = fake_alloc(&f, 1 << 17);
	host = fake_at(&f, page, 1 << 17);
	fake_driver_start(&d, F_ALL, 1, QUEUE);
	memset(host + DATA, 0x77, 4096);
	for (unsigned i = 0; i < 4; i++) {
		struct fake_buf o[2] = { buf(HDR, 16), buf(DATA, 4096) }, s = buf(STATUS, 1);
		struct fake_used_elem e;

		header(BLK_T_OUT, i * 8);
		fake_ring_add(&d.ring[0], o, 2, &s, 1);
		fake_driver_kick(&d, 0);
		for (int n = 0; n < 5000 && !fake_ring_take(&d.ring[0], &e); n++) {
			usleep(1000);
			fake_run(&f);
		}
		cr_assert_eq(host[STATUS], BLK_S_OK);
	}
	cr_assert_eq(pread(fd, host, 4096, 4096), 4096);
	cr_assert_arr_eq(host, host + DATA, 4096);
	device_destroy(dev);
	fake_env_destroy(&f);
	close(fd);
	unlink(path);
}

Test(blk, option_io)
{
	check_option_io("io_uring");
	check_option_io("threads");
	check_option_io("auto");
}

Test(blk, option_refusals)
{
	struct err err = { "" };

	fake_env_init(&f, FAKE_PCI);
	cr_assert_eq(option("/no/such", &err), -ENOENT);
	cr_assert(strstr(err.text, "/no/such"), "%s", err.text);
	cr_assert_eq(option("/dev/zero,serial=abcdefghijklmnopqrstu", &err), -EINVAL);
	cr_assert(strstr(err.text, "20"), "%s", err.text);
	cr_assert_eq(option("/dev/zero,queue-size=100", &err), -EINVAL);
	cr_assert_eq(option("/dev/zero,queues=17", &err), -EINVAL);
	cr_assert_eq(option("/dev/zero,engine=aio", &err), -EINVAL);
	cr_assert_eq(option("ro", &err), -EINVAL);
	cr_assert_eq(option("/dev/zero,burst=1M", &err), -EINVAL);
	cr_assert(strstr(err.text, "burst= needs rate="), "%s", err.text);
	cr_assert_eq(option("/dev/zero,rate=1M,ops-burst=1", &err), -EINVAL);
	cr_assert_eq(option("/dev/zero,ops=0", &err), -EINVAL);
	cr_assert_eq(option("vhost-user=/no/such,rate=1M", &err), -EINVAL);
	cr_assert(strstr(err.text, "daemon"), "%s", err.text);
	fake_env_destroy(&f);
}

static char scratch[] = "/var/tmp/bantam-blk-XXXXXX";

static void scratch_begin(void)
{
	cr_assert(mkdtemp(scratch) && !chdir(scratch));
}

static void scratch_end(void)
{
	char cmd[64];

	snprintf(cmd, sizeof(cmd), "rm -r %s", scratch);
	cr_assert(!chdir("/") && !system(cmd));
}

/* Real images: which grow, and how the others say why not. */
Test(blk, resize_of_images, .init = scratch_begin, .fini = scratch_end)
{
	static const struct {
		const char *option;
		uint64_t to;
		const char *error; /* NULL: it grows */
	} t[] = {
		{ "a.img", 3 * SIZE, NULL },
		{ "a.img,direct", 4 * SIZE, NULL },
		{ "a.img,engine=threads", 3 * SIZE,
		  "v: has 4194304 bytes; a disk does not shrink to 3145728" },
		{ "a.img,ro", 8 * SIZE, "v: is read-only; it keeps its size" },
		{ "q.qcow2", 1ull << 40, NULL },
		{ "q.qcow2", 1ull << 62,
		  "v: disk q.qcow2: 4611686018427387904 bytes are too many for clusters of 65536" },
		{ "q.qcow2,ro", 1ull << 41, "v: is read-only; it keeps its size" },
		{ "seed=dir", 8 * SIZE, "v: its files are in memory; it keeps its size" },
	};
	cr_assert_eq(system("truncate -s 1M a.img; mkdir dir; echo x > dir/x; "
			    "qemu-img create -q -f qcow2 q.qcow2 1M"),
		     0);
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct err err = { "" };
		uint64_t before;

		fake_env_init(&f, FAKE_PCI);
		cr_assert_eq(option(t[i].option, &err), 0, "%s", err.text);
		strcpy(dev->id, "v");
		fake_driver_find(&d, &f, 0, true);
		before = fake_driver_config(&d, 0, 4) | (uint64_t)fake_driver_config(&d, 4, 4)
								<< 32;
		cr_expect_eq(dev->ops->resize(dev, t[i].to, &err), t[i].error ? -EINVAL : 0,
			     "%s: %s", t[i].option, err.text);
		if (t[i].error) {
			cr_expect_str_eq(err.text, t[i].error);
			cr_expect_eq(fake_driver_config(&d, 0, 4), (uint32_t)before);
		} else {
			cr_expect_eq(fake_driver_config(&d, 0, 4), (uint32_t)(t[i].to / 512));
			cr_expect_eq(fake_driver_config(&d, 4, 4), t[i].to / 512 >> 32);
		}
		device_destroy(dev);
		fake_env_destroy(&f);
	}
	/* They are sparse. */
	cr_expect_eq(system("test $(du -k a.img | cut -f1) -le 64; qemu-img check -q q.qcow2"), 0);
	cr_expect_eq(system("qemu-img info q.qcow2 | grep -q '1 TiB'"), 0);
}

/* --- a VmConfig's disks ------------------------------------------------------------------- */

/* keys: "name=value name=value", hidden ones too. */
static int vmconfig_option(const char *keys, struct device **out, struct err *err)
{
	char text[300], *rest = text, *pair;
	struct keyvals kv;
	int rc = 0;

	snprintf(text, sizeof(text), "%s%s", strstr(keys, "vmconfig=") ? "" : "vmconfig=on ", keys);
	keys_start(&kv, "--disk", virtio_blk_type.keys);
	while (!rc && (pair = strsep(&rest, " "))) {
		char *value = strchr(pair, '=');

		*value++ = 0;
		rc = keys_set_hidden(&kv, pair, value, err);
	}
	if (!rc)
		rc = keys_finish(&kv, err);
	if (!rc)
		rc = virtio_blk_type.create(&f.env, &kv, out, err);
	keys_clear(&kv);
	return rc;
}

Test(blk, vmconfig_refusals, .init = scratch_begin, .fini = scratch_end)
{
	static const struct {
		const char *keys;
		int rc;
		const char *error; /* "": it is accepted */
	} t[] = {
		{ "path=q", -EINVAL,
		  "disk q: begins like a qcow2 image but is not named .qcow2; set image_type to "
		  "Qcow2, or to Raw if a guest wrote that there" },
		{ "path=q format=raw", 0, "" },
		{ "path=q format=qcow2", 0, "" },
		{ "path=over.qcow2 backing=off", -EINVAL,
		  "disk over.qcow2: has the backing file base.qcow2; set backing_files to true if "
		  "it may be read" },
		{ "path=over.qcow2 backing=on", 0, "" },
		{ "path=over.qcow2", 0, "" },
		{ "path=base.qcow2 backing=off", 0, "" },
		{ "path=taken", -EBUSY,
		  "disk taken: it is open twice in this VM; only a disk that is ro everywhere can be "
		  "shared" },
		{ "path=taken ro=on", -EBUSY,
		  "disk taken: it is open for writing in this VM, too; only a disk that is ro "
		  "everywhere can be shared" },
		{ "path=a rate-bucket=5", -EINVAL,
		  "--disk: rate-bucket=5: not a bucket: SIZE:MS:ONCE" },
		{ "path=a ops-bucket=5:1:1:1", -EINVAL,
		  "--disk: ops-bucket=5:1:1:1: not a bucket: SIZE:MS:ONCE" },
		{ "path=a serial=abcdefghijklmnopqrstu", -EINVAL,
		  "--disk: serial=abcdefghijklmnopqrstu: at most 20 characters" },
		{ "vhost-user=/s ops-bucket=5:1", -EINVAL,
		  "--disk: rate= and ops= cannot be used with vhost-user=: the daemon limits its "
		  "rate" },
	};
	struct device *taken, *reader[2];
	struct err err = { "" };

	cr_assert_eq(system("truncate -s 1M a taken; qemu-img create -q -f qcow2 base.qcow2 1M; "
			    "cp base.qcow2 q; truncate -s 1M q; "
			    "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 over.qcow2"),
		     0);
	fake_env_init(&f, FAKE_PCI);
	cr_assert_eq(vmconfig_option("path=taken", &taken, &err), 0, "%s", err.text);
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct device *d1 = NULL;

		err.text[0] = 0;
		cr_expect_eq(vmconfig_option(t[i].keys, &d1, &err), t[i].rc, "%s: %s", t[i].keys,
			     err.text);
		cr_expect_str_eq(err.text, t[i].error, "%s", t[i].keys);
		if (d1)
			device_destroy(d1);
	}
	device_destroy(taken);
	/* Two readers. */
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(vmconfig_option("path=taken ro=on", &reader[i], &err), 0, "%s",
			     err.text);
	for (unsigned i = 0; i < 2; i++)
		device_destroy(reader[i]);
	fake_env_destroy(&f);
}

/* Returns the disk's serial number. */
static const char *serial_of(const char *keys)
{
	static char text[BLK_ID_BYTES + 1];
	struct err err = { "" };

	fake_env_init(&f, FAKE_PCI);
	cr_assert_eq(vmconfig_option(keys, &dev, &err), 0, "%s", err.text);
	snprintf(text, sizeof(text), "%s", ((struct blk *)dev)->serial);
	device_destroy(dev);
	fake_env_destroy(&f);
	return text;
}

Test(blk, vmconfig_serial, .init = scratch_begin, .fini = scratch_end)
{
	char first[BLK_ID_BYTES + 1], want[64];
	struct stat st;

	cr_assert_eq(system("truncate -s 1M a b; ln a c"), 0);
	cr_assert(!stat("a", &st));
	snprintf(want, sizeof(want), "%lu%lu%lu", st.st_dev, st.st_rdev, st.st_ino);
	want[20] = 0;
	strcpy(first, serial_of("path=a"));
	cr_expect_str_eq(first, want);
	cr_expect_str_eq(serial_of("path=a ro=on"), first, "the same again");
	cr_expect_str_eq(serial_of("path=c"), first, "and by another name");
	cr_expect_str_neq(serial_of("path=b"), first);
	cr_expect_str_eq(serial_of("path=a serial=own"), "own");
	cr_expect_str_eq(serial_of("path=a vmconfig=off"), "", "only then");
}

/* block-size=, and what the partition table of the disk asks for that the machine boots from. */
Test(blk, block_sizes, .init = scratch_begin, .fini = scratch_end)
{
	static const struct {
		const char *keys;
		uint32_t table; /* env.sector_bytes */
		uint32_t want;	/* 0: refused */
		const char *word;
	} t[] = {
		{ "a", 0, 512, NULL },
		{ "a,block-size=auto", 0, 512, NULL },
		{ "a,block-size=512", 0, 512, NULL },
		{ "a,block-size=4096", 0, 4096, NULL },
		{ "a", 4096, 4096, NULL },
		{ "a", 512, 512, NULL },
		{ "a,block-size=4096", 4096, 4096, NULL },
		{ "q.qcow2,block-size=4096", 0, 4096, NULL },
		{ "q.qcow2", 4096, 4096, NULL },
		{ "a,block-size=512", 4096, 0,
		  "table of a has sectors of 4096 bytes; leave block-size out" },
		{ "a,block-size=4096", 512, 0, "table of a has sectors of 512 bytes" },
		{ "odd", 0, 512, NULL },
		{ "odd,block-size=4096", 0, 0,
		  "multiple of 4096; is it a disk image? (truncate -s %4096" },
		{ "odd", 4096, 0, "not a multiple of 4096" },
		{ "odd.qcow2,block-size=4096", 0, 0, "multiple of 4096; bantam image resize" },
		{ "a,block-size=1024", 0, 0, "must be one of auto|512|4096" },
		{ "seed=.,block-size=4096", 0, 0, "block-size= goes with path=" },
		{ "vhost-user=s,block-size=4096", 0, 0,
		  "block-size cannot be used with vhost-user=" },
	};

	cr_assert_eq(system("truncate -s 1M a && truncate -s 1000448 odd && "
			    "qemu-img create -q -f qcow2 q.qcow2 1M && "
			    "qemu-img create -q -f qcow2 odd.qcow2 1000448"),
		     0);
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct err err = { "" };
		char text[256] = "";
		int rc;

		fake_env_init(&f, FAKE_PCI);
		f.env.sector_bytes = t[i].table;
		rc = option(t[i].keys, &err);
		if (!t[i].want) {
			cr_expect(rc && strstr(err.text, t[i].word), "%s: %d, %s", t[i].keys, rc,
				  err.text);
		} else {
			cr_assert_eq(rc, 0, "%s: %s", t[i].keys, err.text);
			fake_driver_find(&d, &f, 0, true);
			cr_expect_eq(fake_driver_config(&d, 20, 4), t[i].want, "%s", t[i].keys);
			dev->ops->describe(dev, text, sizeof(text));
			cr_expect_eq(!!strstr(text, "blocks of 4096 bytes"), t[i].want == 4096,
				     "%s: %s", t[i].keys, text);
			device_destroy(dev);
		}
		dev = NULL;
		fake_env_destroy(&f);
	}
}

/* A dry run tells what each disk is made of; a run keeps no text of it. */
Test(blk, dry_run_tells_the_source, .init = scratch_begin, .fini = scratch_end)
{
	static const struct {
		const char *keys, *want;
	} t[] = {
		{ "a", "a: raw, 1M" },
		{ "./a,ro,serial=x1", "./a: raw, 1M, read-only, serial x1" },
		{ "q.qcow2", "q.qcow2: qcow2, 2M" },
		{ "odd,format=qcow2", "odd: qcow2, 2M" },
		{ "a,create=4M", "a: raw, there already (create= leaves it), 1M" },
		{ "new.qcow2,create=3G", "new.qcow2: qcow2, to be made by create=, 3G" },
		{ "new,create=3G,serial=s", "new: raw, to be made by create=, 3G, serial s" },
		{ "seed=d,label=CIDATA",
		  "FAT in memory of the files in d, label CIDATA, 1M, read-only" },
		{ "seed=d", "FAT in memory of the files in d, 1M, read-only" },
		{ "vhost-user=no", "served by the daemon at no, which decides its size and "
				   "serial number" },
	};

	cr_assert_eq(system("truncate -s 1M a && qemu-img create -q -f qcow2 q.qcow2 2M && "
			    "cp q.qcow2 odd && mkdir d && : >d/user-data"),
		     0);
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct err err = { "" };
		char text[300] = "";

		fake_env_init(&f, FAKE_PCI);
		f.env.dry_run = true;
		cr_assert_eq(option(t[i].keys, &err), 0, "%s: %s", t[i].keys, err.text);
		dev->ops->describe_disk(dev, text, sizeof(text));
		cr_expect_str_eq(text, t[i].want, "%s: %s", t[i].keys, text);
		device_destroy(dev);
		dev = NULL;
		fake_env_destroy(&f);
	}
	cr_expect(access("new", F_OK) && access("new.qcow2", F_OK));
}

/* A ramfs cannot do O_DIRECT. */
Test(blk, vmconfig_direct, .init = scratch_begin, .fini = scratch_end)
{
	struct err err = { "" };

	cr_assert(!mkdir("ram", 0700));
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "ram", "ramfs", 0, NULL))
		cr_skip_test("a ramfs cannot be mounted here");
	cr_assert_eq(system("truncate -s 1M ram/a && qemu-img create -q -f qcow2 q.qcow2 1M && "
			    "cp q.qcow2 ram && qemu-img create -q -f qcow2 -b ram/q.qcow2 -F qcow2 "
			    "over.qcow2"),
		     0);
	cr_assert_eq(store_allow_folder("ram", &err), 0, "%s", err.text);
	fake_env_init(&f, FAKE_PCI);
	cr_expect_eq(vmconfig_option("vmconfig=off path=ram/a direct=on", &dev, &err), -EINVAL);
	cr_expect_str_eq(err.text,
			 "disk ram/a: this file system cannot do O_DIRECT; remove direct");
	for (unsigned i = 0; i < 3; i++) {
		static const char *const keys[] = { "path=ram/a direct=on",
						    "path=ram/q.qcow2 direct=on",
						    "path=over.qcow2 direct=on" };

		cr_assert_eq(vmconfig_option(keys[i], &dev, &err), 0, "%s: %s", keys[i], err.text);
		fake_driver_find(&d, &f, 0, true);
		page = fake_alloc(&f, 1 << 17);
		host = fake_at(&f, page, 1 << 17);
		fake_driver_start(&d, F_ALL, 1, QUEUE);
		header(BLK_T_IN, 0);
		memset(host + DATA, 1, 512);
		{
			struct fake_buf o = buf(HDR, 16), b[2] = { buf(DATA, 512), buf(STATUS, 1) };
			struct fake_used_elem e;

			fake_ring_add(&d.ring[0], &o, 1, b, 2);
			fake_driver_kick(&d, 0);
			for (int n = 0; n < 5000 && !fake_ring_take(&d.ring[0], &e); n++) {
				usleep(1000);
				fake_run(&f);
			}
		}
		cr_expect(host[STATUS] == BLK_S_OK && all_zero(host + DATA, 512));
		device_destroy(dev);
		fake_env_destroy(&f);
		fake_env_init(&f, FAKE_PCI);
	}
	fake_env_destroy(&f);
	umount("ram");
}

/* Two disks, four operations an hour, and a third that is not in their group. */
Test(blk, limited_group, .init = scratch_begin, .fini = scratch_end)
{
	static const unsigned want[3] = { 3, 1, 4 }, asks[3] = { 3, 5, 6 };
	struct ratelimit_groups groups;
	struct device *disks[3];
	struct err err = { "" };

	cr_assert_eq(system("truncate -s 1M d0 d1 d2"), 0);
	ratelimit_groups_init(&groups);
	fake_env_init(&f, FAKE_PCI);
	f.env.limits = &groups;
	for (unsigned i = 0; i < 3; i++) {
		char keys[100];

		snprintf(keys, sizeof(keys), "path=d%u ops-bucket=4:3600000 rate-group=%s", i,
			 i == 2 ? "other" : "g");
		cr_assert_eq(vmconfig_option(keys, &disks[i], &err), 0, "%s", err.text);
	}
	page = fake_alloc(&f, 1 << 17);
	host = fake_at(&f, page, 1 << 17);
	for (unsigned i = 0; i < 3; i++) {
		unsigned n = 0;

		fake_driver_find(&d, &f, i, true);
		fake_driver_start(&d, F_ALL, 1, QUEUE);
		add_reads(asks[i]);
		fake_driver_kick(&d, 0);
		for (unsigned ms = 0; ms < 50; ms++) {
			usleep(1000);
			fake_run(&f);
			n += taken();
		}
		cr_expect_eq(n, want[i], "disk %u: %u operations", i, n);
	}
	for (unsigned i = 0; i < 3; i++)
		device_destroy(disks[i]);
	fake_env_destroy(&f);
	ratelimit_groups_destroy(&groups);
}
