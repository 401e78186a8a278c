/*
 * test_console: virtio-console, driven over both transports: output, input,
 * back-pressure both ways, size, emergency write, broken rings.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "devices/virtio/console/console.h"
#include "tests/unit/fake_driver.h"

#define RX 0
#define TX 1
#define F_SIZE 1ull
#define F_EMERG 4ull

static struct fake_env f;
static struct fake_driver d;
static struct device *dev;
static int to_guest = -1, from_guest = -1;
static gpa_t page; /* 64 KiB of guest memory for buffers */
static uint8_t *host;

static int create(const char *text, struct err *err)
{
	struct keyvals kv;
	int rc = keys_parse(&kv, "--console", virtio_console_type.keys, text, err);

	if (!rc)
		rc = virtio_console_type.create(&f.env, &kv, &dev, err);
	keys_clear(&kv);
	return rc;
}

static void begin(enum fake_transport transport)
{
	struct err err = { "" };
	int in[2], out[2];

	fake_env_init(&f, transport);
	cr_assert_eq(pipe(in) | pipe(out), 0);
	fcntl(out[1], F_SETPIPE_SZ, 4096);
	dup2(in[0], 0);
	dup2(out[1], 1);
	close(in[0]);
	close(out[1]);
	to_guest = in[1];
	from_guest = out[0];
	fcntl(from_guest, F_SETFL, O_NONBLOCK);
	cr_assert_eq(create("stdio", &err), 0, "%s", err.text);
	fake_driver_find(&d, &f, 0, true);
	page = fake_alloc(&f, 1 << 16);
	host = fake_at(&f, page, 1 << 16);
}

static void end(void)
{
	device_destroy(dev);
	fake_env_destroy(&f);
	close(to_guest);
	close(from_guest);
}

static struct fake_buf buf(unsigned at, unsigned len)
{
	return (struct fake_buf){ page.v + at, len };
}

static void send(unsigned at, const char *text)
{
	struct fake_buf b = buf(at, (unsigned)strlen(text));

	memcpy(host + at, text, b.len);
	fake_ring_add(&d.ring[TX], &b, 1, NULL, 0);
	fake_driver_kick(&d, TX);
}

static struct {
	char text[1 << 16];
	size_t len, want;
} out;

static bool read_enough(void *arg)
{
	ssize_t n = read(from_guest, out.text + out.len, out.want - out.len);

	if (n > 0)
		out.len += (size_t)n;
	return out.len == out.want;
}

static const char *got(size_t len)
{
	out.len = 0;
	out.want = len;
	fake_run_until(&f, read_enough, NULL);
	out.text[out.len] = 0;
	return out.text;
}

static struct fake_used_elem used;

/* fake_run_until asks once more after a true, so this takes only one element. */
static bool is_used(void *ring)
{
	static struct fake_ring *had;

	if (!ring)
		had = NULL;
	else if (had != ring && fake_ring_take(ring, &used))
		had = ring;
	return ring && had == ring;
}

/* Waits for the next used element of queue q. */
static bool take(unsigned q)
{
	is_used(NULL);
	return fake_run_until(&f, is_used, &d.ring[q]);
}

static void run_ms(unsigned ms)
{
	for (unsigned i = 0; i < ms; i++) {
		fake_run(&f);
		usleep(1000);
	}
}

static void both(void (*test)(void))
{
	begin(FAKE_PCI);
	test();
	end();
	begin(FAKE_MMIO);
	test();
	end();
}

TestSuite(console, .timeout = 60);

static void output(void)
{
	struct fake_buf part[3] = { buf(0, 3), buf(100, 1), buf(200, 2) };

	cr_assert_eq(fake_driver_offered(&d) & 7, F_SIZE | F_EMERG);
	fake_driver_start(&d, F_SIZE, 2, 16);
	for (unsigned i = 0; i < 40; i++) {
		send(0, "hello\n");
		cr_assert(take(TX));
		cr_assert_eq(used.len, 0);
		cr_assert_eq(fake_driver_irqs(&d, TX), 1);
		cr_assert_str_eq(got(6), "hello\n");
	}
	memcpy(host, "abc", 3);
	memcpy(host + 100, "d", 1);
	memcpy(host + 200, "ef", 2);
	fake_ring_add(&d.ring[TX], part, 3, NULL, 0);
	fake_driver_kick(&d, TX);
	cr_assert_str_eq(got(6), "abcdef");
	/* The device returns a chain without readable bytes. */
	cr_assert(take(TX));
	fake_ring_add(&d.ring[TX], NULL, 0, part, 2);
	fake_driver_kick(&d, TX);
	cr_assert(take(TX));
	cr_assert_eq(used.len, 0);
}

Test(console, output)
{
	both(output);
}

static void input(void)
{
	struct fake_buf b = buf(0, 4), two[2] = { buf(100, 2), buf(200, 100) };

	/* Keys typed before a driver starts, and before it gives buffers. */
	cr_assert_eq(write(to_guest, "abcdefgh", 8), 8);
	run_ms(5);
	fake_driver_start(&d, 0, 2, 16);
	run_ms(5);
	fake_ring_add(&d.ring[RX], &b, 0, &b, 1);
	fake_driver_kick(&d, RX);
	cr_assert(take(RX));
	cr_assert_eq(used.len, 4);
	cr_assert_arr_eq(host, "abcd", 4);
	cr_assert_eq(fake_driver_irqs(&d, RX), 1);
	fake_ring_add(&d.ring[RX], NULL, 0, two, 2);
	fake_driver_kick(&d, RX);
	cr_assert(take(RX));
	cr_assert_eq(used.len, 4);
	cr_assert_arr_eq(host + 100, "ef", 2);
	cr_assert_arr_eq(host + 200, "gh", 2);
	/* First the buffers, then the keys. */
	fake_ring_add(&d.ring[RX], NULL, 0, &b, 1);
	fake_driver_kick(&d, RX);
	cr_assert_eq(write(to_guest, "x", 1), 1);
	cr_assert(take(RX));
	cr_assert_eq(used.len, 1);
	cr_assert_eq(host[0], 'x');
}

Test(console, input)
{
	both(input);
}

static void long_input(void)
{
	static char text[20001];
	struct fake_buf b = buf(0, 7);
	size_t n = 0;

	for (size_t i = 0; i < 20000; i++)
		text[i] = (char)('a' + i * 11 % 26);
	fcntl(to_guest, F_SETPIPE_SZ, 65536);
	cr_assert_eq(write(to_guest, text, 20000), 20000);
	fake_driver_start(&d, 1ull << VIRTIO_F_EVENT_IDX, 2, 16);
	while (n < 20000) {
		fake_ring_add(&d.ring[RX], NULL, 0, &b, 1);
		fake_driver_kick(&d, RX);
		cr_assert(take(RX), "after %zu", n);
		cr_assert_arr_eq(host, text + n, used.len, "at %zu", n);
		n += used.len;
	}
}

Test(console, long_input)
{
	both(long_input);
}

static void back_pressure(void)
{
	struct fake_buf b = buf(0, 1 << 16);
	size_t n = 0;

	for (unsigned i = 0; i < 1 << 16; i++)
		host[i] = (uint8_t)('a' + i % 23);
	fake_driver_start(&d, 0, 2, 16);
	fake_ring_add(&d.ring[TX], &b, 1, NULL, 0);
	fake_driver_kick(&d, TX);
	run_ms(20);
	cr_assert_not(fake_ring_take(&d.ring[TX], &used), "the chain waits for the reader");
	while (n < 1 << 16) {
		size_t part = (1 << 16) - n < 1000 ? (1 << 16) - n : 1000;

		got(part);
		cr_assert_eq(out.len, part);
		cr_assert_arr_eq(out.text, host + n, part, "at %zu", n);
		n += part;
	}
	cr_assert(take(TX));
}

Test(console, back_pressure)
{
	both(back_pressure);
}

static void reset_while_blocked(void)
{
	struct fake_buf b = buf(0, 1 << 16);

	memset(host, 'o', 1 << 16);
	fake_driver_start(&d, 0, 2, 16);
	fake_ring_add(&d.ring[TX], &b, 1, NULL, 0);
	fake_driver_kick(&d, TX);
	run_ms(10);
	/* The device leaves the old driver's memory alone; the new driver has empty queues. */
	fake_driver_start(&d, 0, 2, 16);
	while (read(from_guest, out.text, sizeof(out.text)) > 0)
		run_ms(2);
	send(0, "new");
	cr_assert(take(TX));
	got(3);
	while (strcmp(out.text, "new")) /* after the old output in the ring */
		got(3);
}

Test(console, reset_while_blocked)
{
	both(reset_while_blocked);
}

static void config_space(void)
{
	/* Reads and (ineffective) writes of every width at every offset. */
	for (unsigned off = 0; off < 16; off++)
		for (unsigned size = 1; size <= 4; size *= 2) {
			if (off % size)
				continue;
			if (off + size <= 8 || off >= 12)
				fake_driver_set_config(&d, off, size, 0xffffffff);
			cr_assert_eq(fake_driver_config(&d, off, size), 0);
		}
	fake_driver_set_config(&d, 8, 4, '!');
	cr_assert_str_eq(got(1), "!", "the emergency write works before the driver");
	cr_assert_eq(fake_driver_config(&d, 8, 4), 0);
	fake_driver_start(&d, F_EMERG, 0, 16);
	fake_driver_set_config(&d, 8, 1, '?');
	cr_assert_str_eq(got(1), "?");
}

Test(console, config_space)
{
	both(config_space);
}

static void broken_rings(void)
{
	static const struct fake_buf bad[] = {
		{ 0x10, 0 }, { ~0ull, 4 }, { 1ull << 40, 4 }, { FAKE_LOW_BYTES - 2, 4 }
	};
	struct fake_buf none = buf(0, 4);

	for (unsigned q = 0; q < 2; q++)
		for (unsigned i = 0; i < 4; i++) {
			fake_driver_start(&d, 0, 2, 16);
			if (q == TX)
				fake_ring_add(&d.ring[q], &bad[i], 1, NULL, 0);
			else
				fake_ring_add(&d.ring[q], NULL, 0, &bad[i], 1);
			fake_driver_kick(&d, q);
			cr_assert_eq(write(to_guest, "k", 1), 1);
			run_ms(3);
			cr_assert(fake_driver_status(&d) & VIRTIO_STATUS_NEEDS_RESET, "%u %u", q,
				  i);
		}
	fake_driver_start(&d, 0, 2, 16);
	fake_ring_add(&d.ring[RX], &none, 1, NULL, 0);
	fake_driver_kick(&d, RX);
	run_ms(3);
	cr_assert(fake_driver_status(&d) & VIRTIO_STATUS_NEEDS_RESET,
		  "no room in a buffer for input");
	/* After all this the device works. */
	fake_driver_start(&d, 0, 2, 16);
	send(0, "fine");
	cr_assert_str_eq(got(4), "fine");
}

Test(console, broken_rings)
{
	both(broken_rings);
}

Test(console, size)
{
	struct winsize ws = { .ws_col = 132, .ws_row = 43 };
	struct err err = { "" };
	int master, slave;
	unsigned generation;

	/* A terminal for output only: stdin stays a pipe. */
	begin(FAKE_PCI);
	device_destroy(dev);
	master = posix_openpt(O_RDWR | O_NOCTTY);
	cr_assert(master >= 0 && !grantpt(master) && !unlockpt(master));
	slave = open(ptsname(master), O_RDWR | O_NOCTTY);
	cr_assert_eq(ioctl(slave, TIOCSWINSZ, &ws), 0);
	dup2(slave, 0);
	cr_assert_eq(create("stdio", &err), 0, "%s", err.text);
	fake_driver_find(&d, &f, 0, true);
	fake_driver_start(&d, F_SIZE, 2, 16);
	cr_assert_eq(fake_driver_config(&d, 0, 2), 132);
	cr_assert_eq(fake_driver_config(&d, 2, 2), 43);
	fake_driver_set_config(&d, 0, 4, 0);
	cr_assert_eq(fake_driver_config(&d, 0, 4), 43 << 16 | 132, "the driver cannot write it");
	generation = fake_driver_generation(&d);
	ws.ws_col = 80;
	cr_assert_eq(ioctl(slave, TIOCSWINSZ, &ws), 0);
	cr_assert_eq(fake_driver_config_irqs(&d), 0);
	raise(SIGWINCH);
	fake_run(&f);
	cr_assert_eq(fake_driver_config(&d, 0, 2), 80);
	cr_assert_eq(fake_driver_config_irqs(&d), 1);
	cr_assert_neq(fake_driver_generation(&d), generation);
	end();
}

Test(console, lost_output)
{
	struct err err = { "" };

	begin(FAKE_PCI);
	device_destroy(dev);
	cr_assert_eq(create("file=/dev/full", &err), 0, "%s", err.text);
	fake_driver_find(&d, &f, 0, true);
	fake_driver_start(&d, 0, 2, 16);
	for (unsigned i = 0; i < 1000; i++) {
		send(0, "a line for a disk that is full\n");
		cr_assert(take(TX), "the guest goes on");
	}
	cr_assert_eq(f.events[VM_EVENT_LOST_OUTPUT], 1);
	end();
}

Test(console, off_and_refusals)
{
	struct err err = { "" };

	begin(FAKE_PCI);
	device_destroy(dev);
	cr_assert_eq(create("off", &err), 0);
	cr_assert_null(dev);
	cr_assert_neq(create("file=/no/such/directory/x", &err), 0);
	cr_assert_null(dev);
	cr_assert(bus_count(&f.mmio) > 0);
	end();
}

/* Output without an end to a sink that takes all of it: other devices get their turn. */
Test(console, turns)
{
	struct fake_buf b[12];
	struct err err = { "" };

	fake_env_init(&f, FAKE_PCI);
	cr_assert_eq(create("null", &err), 0, "%s", err.text);
	fake_driver_find(&d, &f, 0, true);
	fake_driver_start(&d, 0, 2, 16);
	for (unsigned i = 0; i < 12; i++)
		b[i] = (struct fake_buf){ FAKE_HIGH_BASE, FAKE_HIGH_BYTES };
	fake_ring_add(&d.ring[TX], b, 12, NULL, 0);
	is_used(NULL);
	fake_driver_kick(&d, TX);
	cr_assert(!is_used(&d.ring[TX]), "48 MiB in one run of the loop");
	cr_assert(fake_run_until(&f, is_used, &d.ring[TX]));
	end();
}
