/*
 * test_net_helper: a card whose queues the user network's helper serves, from the driver's side,
 * with the real helper and guest memory shared with it.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/virtio/net/nic.h"
#include "devices/virtio/net/nic_impl.h"
#include "tests/unit/fake_driver.h"
#include "tests/unit/proc.h"

#define SIZE 16u
#define ARP_BYTES 42u
#define REPLY_BYTES 64u /* with slirp's padding */
#define HDR NET_HDR_BYTES
#define MERGED (1ull << NET_F_MRG_RXBUF | 1ull << NET_F_STATUS)

enum { RX, TX };

static struct fake_env f;
static struct fake_driver d;
static struct device *dev;
static uint64_t tx_at, rx_at; /* an ARP request with its header; receive buffers */

static int create(const char *more, struct err *err)
{
	char text[100];

	snprintf(text, sizeof(text), "user,mac=02:00:00:00:00:01%s", more);
	setenv("BANTAM_LIBEXEC", "build", 0);
	return fake_create(&f, &virtio_net_type, text, &dev, err);
}

static void begin(void)
{
	static const uint8_t arp[ARP_BYTES] = { 255, 255, 255, 255, 255, 255, 2,  0, 0, 0,  0,
						1,   8,	  6,   0,   1,	 8,   0,  6, 4, 0,  1,
						2,   0,	  0,   0,   0,	 1,   10, 0, 2, 15, 0,
						0,   0,	  0,   0,   0,	 10,  0,  2, 2 };
	struct err err = { "" };
	char what[200];

	fake_env_init(&f, FAKE_PCI);
	mem_destroy(&f.mem);
	cr_assert_eq(mem_create_shared(&f.mem, FAKE_LOW_BYTES + FAKE_HIGH_BYTES, FAKE_LOW_BYTES,
				       FAKE_HIGH_BASE, &err),
		     0, "%s", err.text);
	cr_assert_eq(create("", &err), 0, "%s", err.text);
	dev->ops->describe(dev, what, sizeof(what));
	cr_assert(strstr(what, "vhost-user"), "%s", what);
	fake_driver_find(&d, &f, 0, true);
	tx_at = fake_alloc(&f, 4096).v;
	rx_at = fake_alloc(&f, 65536).v;
	memcpy(fake_at(&f, gpa(tx_at + HDR), sizeof(arp)), arp, sizeof(arp));
}

static void finish(void)
{
	device_destroy(dev);
	dev = NULL;
	fake_env_destroy(&f);
}

static bool waiting(void *queue)
{
	struct fake_ring *r = &d.ring[*(unsigned *)queue];

	return r->seen != *(volatile uint16_t *)&r->used[1];
}

static bool is_broken(void *unused)
{
	return fake_driver_status(&d) & VIRTIO_STATUS_NEEDS_RESET;
}

static bool link_is_down(void *unused)
{
	return !(fake_driver_config(&d, NET_CONFIG_STATUS, 2) & NET_S_LINK_UP);
}

static struct fake_used_elem used(unsigned queue)
{
	struct fake_used_elem e = { 0 };

	cr_assert(fake_run_until(&f, waiting, &queue), "queue %u: nothing came", queue);
	cr_assert(fake_ring_take(&d.ring[queue], &e));
	return e;
}

static void offer_rx(unsigned first, unsigned n, uint32_t len)
{
	for (unsigned i = first; i < first + n; i++) {
		struct fake_buf b = { rx_at + i * 4096ull, len };

		fake_ring_add(&d.ring[RX], NULL, 0, &b, 1);
	}
	fake_driver_kick(&d, RX);
}

/* Sends "who has 10.0.2.2?". The helper takes the frame, with or without an answer. */
static void ask(void)
{
	struct fake_buf b = { tx_at, HDR + ARP_BYTES };

	fake_ring_add(&d.ring[TX], &b, 1, NULL, 0);
	fake_driver_kick(&d, TX);
	cr_expect_eq(used(TX).len, 0);
}

/* Expects the answer in n buffers from rx_at on, in order; all but the last are full. */
static void expect_answer(unsigned n, uint32_t len, uint8_t flags)
{
	uint8_t frame[4096];
	uint32_t got = 0;

	for (unsigned i = 0; i < n; i++) {
		struct fake_used_elem e = used(RX);

		cr_assert_leq(e.len, len);
		cr_assert(e.len == len || i == n - 1, "buffer %u of %u: %u bytes", i, n, e.len);
		memcpy(frame + got, fake_at(&f, gpa(rx_at + i * 4096ull), e.len), e.len);
		got += e.len;
	}
	cr_assert_eq(got, HDR + REPLY_BYTES);
	cr_expect_eq(frame[0], flags);
	cr_expect_eq(frame[NET_HDR_NUM_BUFFERS], n);
	cr_expect_eq(frame[NET_HDR_NUM_BUFFERS + 1], 0);
	cr_expect(!memcmp(frame + HDR + 12, "\x08\x06", 2));
	cr_expect_eq(frame[HDR + 21], 2);
	cr_expect(!memcmp(frame + HDR + 28, "\x0a\0\x02\x02", 4));
}

/* Asks, and expects the answer in one buffer. */
static void ask_and_hear(uint8_t flags)
{
	offer_rx(0, 1, 1526);
	ask();
	expect_answer(1, 1526, flags);
}

Test(net_helper, a_driver_comes_and_goes)
{
	unsigned before = proc_fds(0);

	begin();
	for (unsigned round = 0; round < 3; round++) {
		unsigned irqs = 0;

		fake_driver_start(&d, MERGED | 1ull << NET_F_GUEST_CSUM, 3, SIZE);
		for (unsigned i = 0; i < 40; i++) {
			ask_and_hear(NET_HDR_DATA_VALID);
		}
		for (unsigned i = 0; i < 100 && !irqs; i++) {
			fake_run(&f);
			irqs = fake_driver_irqs(&d, RX);
			usleep(irqs ? 0 : 1000);
		}
		cr_expect(irqs);
		fake_driver_set_status(&d, 0);
		cr_assert_eq(fake_driver_status(&d), 0);
	}
	finish();
	cr_expect_eq(proc_fds(0), before, "descriptors are left open");
	cr_expect_eq(waitpid(-1, NULL, WNOHANG), -1, "the helper is left");
}

Test(net_helper, without_event_idx_and_checksums)
{
	begin();
	fake_driver_start(&d, MERGED | 1ull << VIRTIO_F_EVENT_IDX, 3, SIZE);
	ask_and_hear(0);
	finish();
}

Test(net_helper, a_frame_in_several_buffers)
{
	begin();
	fake_driver_start(&d, MERGED, 3, SIZE);
	offer_rx(0, 8, 13);
	ask();
	expect_answer(6, 13, 0);
	finish();
}

Test(net_helper, buffers_come_late)
{
	unsigned queue = RX;

	begin();
	fake_driver_start(&d, MERGED, 3, SIZE);
	ask();
	offer_rx(0, 1, 20);
	usleep(20000);
	fake_run(&f);
	cr_expect(!waiting(&queue), "part of a frame is not to be seen");
	offer_rx(1, 4, 20);
	expect_answer(4, 20, 0);
	finish();
}

Test(net_helper, no_room_without_mergeable_buffers)
{
	begin();
	fake_driver_start(&d, 1ull << NET_F_STATUS, 3, SIZE);
	offer_rx(0, 1, 30);
	ask();
	/* The helper drops the frame, and keeps the buffer. */
	usleep(20000);
	cr_expect_eq(d.ring[RX].used[1], 0);
	d.ring[RX].desc[0].len = 1526;
	ask();
	expect_answer(1, 1526, 0);
	finish();
}

Test(net_helper, cable)
{
	unsigned queue = RX;

	begin();
	fake_driver_start(&d, MERGED, 3, SIZE);
	offer_rx(0, 1, 1526);
	dev->ops->set_link(dev, false);
	cr_expect(link_is_down(NULL));
	for (unsigned i = 0; i < 20; i++)
		ask();
	usleep(20000);
	fake_run(&f);
	cr_expect(!waiting(&queue), "an answer through a cable that was pulled");
	dev->ops->set_link(dev, true);
	cr_expect(!link_is_down(NULL));
	ask();
	expect_answer(1, 1526, 0);
	/* The link is down when the driver starts again. */
	dev->ops->set_link(dev, false);
	fake_driver_start(&d, MERGED, 3, SIZE);
	offer_rx(0, 1, 1526);
	ask();
	usleep(20000);
	cr_expect(!waiting(&queue));
	dev->ops->set_link(dev, true);
	ask();
	expect_answer(1, 1526, 0);
	finish();
}

Test(net_helper, its_end)
{
	struct fake_buf b = { 0, HDR + ARP_BYTES };

	begin();
	fake_driver_start(&d, MERGED, 3, SIZE);
	offer_rx(0, 2, 1526);
	ask();
	expect_answer(1, 1526, 0);
	/* The card drops the frames that the dead helper did not take; receive buffers stay. */
	cr_assert_eq(kill(proc_child(), SIGSTOP), 0);
	b.addr = tx_at;
	for (unsigned i = 0; i < 5; i++)
		fake_ring_add(&d.ring[TX], &b, 1, NULL, 0);
	fake_driver_kick(&d, TX);
	cr_assert_eq(kill(proc_child(), SIGKILL), 0);
	for (unsigned i = 0; i < 5; i++)
		used(TX);
	cr_assert(fake_run_until(&f, link_is_down, NULL));
	for (unsigned i = 0; i < 2 * SIZE; i++)
		ask();
	cr_expect_eq(d.ring[RX].used[1], 1);
	dev->ops->set_link(dev, false);
	dev->ops->set_link(dev, true);
	cr_expect(link_is_down(NULL));
	fake_driver_start(&d, MERGED, 3, SIZE);
	cr_expect(link_is_down(NULL));
	ask();
	offer_rx(0, 1, 1526);
	finish();
}

/* --- hostile rings ------------------------------------------------------------------------- */

static void offer(unsigned queue, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	d.ring[queue].desc[0] = (struct fake_desc){ addr, len, flags, next };
	fake_ring_offer(&d.ring[queue], 0);
}

static void head_out_of_range(void)
{
	fake_ring_offer(&d.ring[TX], SIZE);
}
static void avail_jumps(void)
{
	d.ring[TX].avail[1] += SIZE + 1;
}
static void loop_of_descriptors(void)
{
	offer(TX, tx_at, 60, FAKE_F_NEXT, 0);
}
static void next_out_of_range(void)
{
	offer(TX, tx_at, 60, FAKE_F_NEXT, SIZE);
}
static void outside_memory(void)
{
	offer(TX, FAKE_LOW_BYTES, 60, 0, 0);
}
static void across_the_end(void)
{
	offer(TX, FAKE_LOW_BYTES - 8, 60, 0, 0);
}
static void top_of_addresses(void)
{
	offer(TX, UINT64_MAX - 8, 60, 0, 0);
}
static void no_bytes(void)
{
	offer(TX, tx_at, 0, 0, 0);
}
static void indirect_twice(void)
{
	struct fake_desc *table = fake_at(&f, gpa(rx_at), sizeof(*table));

	*table = (struct fake_desc){ rx_at, sizeof(*table), FAKE_F_INDIRECT, 0 };
	offer(TX, rx_at, sizeof(*table), FAKE_F_INDIRECT, 0);
}
static void receive_buffer_too_short(void)
{
	offer(RX, rx_at, HDR - 1, FAKE_F_WRITE, 0);
	ask();
}
static void receive_buffer_for_reading(void)
{
	offer(RX, rx_at, 100, 0, 0);
	ask();
}

Test(net_helper, hostile_rings)
{
	static const struct {
		const char *what;
		void (*do_it)(void);
	} table[] = {
		{ "a head out of range", head_out_of_range },
		{ "an index that jumps", avail_jumps },
		{ "a chain that loops", loop_of_descriptors },
		{ "a next that is out of range", next_out_of_range },
		{ "a buffer outside memory", outside_memory },
		{ "a buffer across the end of memory", across_the_end },
		{ "a buffer across the end of addresses", top_of_addresses },
		{ "a buffer of length 0", no_bytes },
		{ "an indirect table in an indirect table", indirect_twice },
		{ "a receive buffer shorter than a header", receive_buffer_too_short },
		{ "a receive buffer that is not for writing", receive_buffer_for_reading },
	};

	begin();
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		fake_driver_start(&d, MERGED, 3, SIZE);
		table[i].do_it();
		fake_driver_kick(&d, TX);
		fake_driver_kick(&d, RX);
		cr_assert(fake_run_until(&f, is_broken, NULL), "%s", table[i].what);
	}
	/* The helper continues to serve. */
	fake_driver_start(&d, MERGED, 3, SIZE);
	ask_and_hear(0);
	finish();
}

/* The helper takes frames that are too short or too long, without any effect. */
Test(net_helper, invalid_frames)
{
	static const uint32_t len[] = {
		1, HDR - 1, HDR, HDR + 13, HDR + NET_FRAME_MAX + 1, 1 << 20
	};

	begin();
	fake_driver_start(&d, MERGED, 3, SIZE);
	for (size_t i = 0; i < sizeof(len) / sizeof(len[0]); i++) {
		struct fake_buf b = { len[i] > 4096 ? 0x1000 : tx_at, len[i] };

		fake_ring_add(&d.ring[TX], &b, 1, NULL, 0);
		fake_driver_kick(&d, TX);
		used(TX);
	}
	ask_and_hear(0);
	finish();
}

/* --- rings or queues ----------------------------------------------------------------------- */

Test(net_helper, rings_where_asked_for_or_limited)
{
	static const char *const more[] = { ",vhost=off", ",rx-rate=1M", ",tx-ops=100" };
	struct err err = { "" };
	char what[200];

	fake_env_init(&f, FAKE_PCI);
	mem_destroy(&f.mem);
	cr_assert_eq(mem_create_shared(&f.mem, FAKE_LOW_BYTES, FAKE_LOW_BYTES, FAKE_HIGH_BASE,
				       &err),
		     0);
	for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
		cr_assert_eq(create(more[i], &err), 0, "%s", err.text);
		dev->ops->describe(dev, what, sizeof(what));
		cr_expect(!strstr(what, "vhost-user"), "%s", what);
		device_destroy(dev);
	}
	cr_expect_lt(create(",vhost=on,rx-rate=1M", &err), 0);
	cr_expect(strstr(err.text, "cannot limit rates"), "%s", err.text);
	fake_env_destroy(&f);
	/* Private memory of this process. */
	fake_env_init(&f, FAKE_PCI);
	cr_expect_lt(create(",vhost=on", &err), 0);
	cr_expect(strstr(err.text, "shared with the helper"), "%s", err.text);
	cr_assert_eq(create("", &err), 0, "%s", err.text);
	finish();
}
