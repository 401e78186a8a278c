/* test_rng: virtio-rng over both transports, its limits, and sources that fail. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "devices/virtio/rng.h"
#include "tests/unit/fake_driver.h"

#define QUEUE 64

static struct fake_env f;
static struct fake_driver d;
static struct device *dev;
static gpa_t page;
static uint8_t *host;

static int create(const char *text, struct err *err)
{
	return fake_create(&f, &virtio_rng_type, text ? text : "", &dev, err);
}

static void begin(enum fake_transport transport, const char *source)
{
	struct err err = { "" };

	fake_env_init(&f, transport);
	cr_assert_eq(create(source, &err), 0, "%s", err.text);
	fake_driver_find(&d, &f, 0, true);
	fake_driver_start(&d, 0, 1, QUEUE);
	page = fake_alloc(&f, 1 << 20);
	host = fake_at(&f, page, 1 << 20);
}

static void end(void)
{
	device_destroy(dev);
	fake_env_destroy(&f);
}

static void ask(uint32_t len)
{
	struct fake_buf b = { page.v, len };

	fake_ring_add(&d.ring[0], NULL, 0, &b, 1);
}

static bool waiting(void *unused)
{
	return d.ring[0].seen != d.ring[0].used[1];
}

static bool taken(struct fake_used_elem *e)
{
	return fake_ring_take(&d.ring[0], e);
}

static void check(enum fake_transport transport)
{
	struct fake_used_elem e;
	unsigned ones = 0;

	begin(transport, NULL);
	ask(256);
	fake_driver_kick(&d, 0);
	cr_assert(taken(&e));
	cr_assert_eq(e.len, 256);
	for (unsigned i = 0; i < 256; i++)
		ones += (unsigned)__builtin_popcount(host[i]);
	cr_assert(ones > 800 && ones < 1250, "%u bits of 2048", ones);
	cr_assert_eq(host[256], 0);
	cr_assert_geq(fake_driver_irqs(&d, 0), 1);
	end();
}

Test(rng, pci)
{
	check(FAKE_PCI);
}

Test(rng, mmio)
{
	check(FAKE_MMIO);
}

/* A guest that requests much gets fewer bytes in each turn, but at least one. */
Test(rng, greedy)
{
	struct fake_used_elem e;
	uint64_t total = 0;

	begin(FAKE_PCI, NULL);
	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < QUEUE; i++)
			ask(1 << 20);
		fake_driver_kick(&d, 0);
		for (unsigned i = 0; i < QUEUE; i++) {
			cr_assert(fake_run_until(&f, waiting, NULL) && taken(&e));
			cr_assert(e.len > 0 && e.len <= 32768);
			total += e.len;
		}
	}
	cr_assert_gt(total, 1 << 20);
	end();
}

Test(rng, broken)
{
	struct fake_buf b;

	begin(FAKE_PCI, NULL);
	b = (struct fake_buf){ page.v, 16 };
	fake_ring_add(&d.ring[0], &b, 1, NULL, 0);
	fake_driver_kick(&d, 0);
	cr_assert(fake_driver_status(&d) & VIRTIO_STATUS_NEEDS_RESET);
	fake_driver_start(&d, 0, 1, QUEUE);
	fake_ring_offer(&d.ring[0], 2000);
	fake_driver_kick(&d, 0);
	cr_assert(fake_driver_status(&d) & VIRTIO_STATUS_NEEDS_RESET);
	end();
}

/* The device reads again from a source that has no bytes yet; the loop does not wait for it. */
Test(rng, slow_source)
{
	char dir[] = "/tmp/bantam-rng-XXXXXX", path[64];
	struct fake_used_elem e;
	int fd;

	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/fifo", dir);
	cr_assert_eq(mkfifo(path, 0600), 0);
	fd = open(path, O_RDWR);
	begin(FAKE_PCI, path);
	ask(64);
	fake_driver_kick(&d, 0);
	cr_assert_not(taken(&e));
	cr_assert_eq(write(fd, "0123456789", 10), 10);
	cr_assert(fake_run_until(&f, waiting, NULL) && taken(&e));
	cr_assert_eq(e.len, 10);
	cr_assert_arr_eq(host, "0123456789", 10);
	/* Reset while the device waits for the source. */
	ask(64);
	fake_driver_kick(&d, 0);
	fake_driver_set_status(&d, 0);
	usleep(30000);
	fake_run(&f);
	end();
	close(fd);
	unlink(path);
	rmdir(dir);
}

Test(rng, sources)
{
	struct err err = { "" };
	struct fake_used_elem e;

	begin(FAKE_PCI, "/dev/zero");
	memset(host, 1, 16);
	ask(16);
	fake_driver_kick(&d, 0);
	cr_assert(taken(&e));
	cr_assert_eq(host[15], 0);
	end();
	/* At the end of the file there is no entropy. */
	begin(FAKE_PCI, "/dev/null");
	ask(16);
	fake_driver_kick(&d, 0);
	cr_assert_not(taken(&e));
	end();
	fake_env_init(&f, FAKE_PCI);
	cr_assert_eq(create("/no/such", &err), -ENOENT);
	cr_assert(strstr(err.text, "/no/such"), "%s", err.text);
	fake_env_destroy(&f);
}
