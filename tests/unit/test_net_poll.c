/*
 * test_net_poll: a card whose transmit queue the loop polls: kicks are off while it polls, and
 * on again before the loop sleeps.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/net/nic.h"
#include "devices/virtio/net/nic_impl.h"
#include "tests/unit/fake_driver.h"

#define RX 0
#define TX 1
#define QSIZE 64
#define HDR NET_HDR_BYTES
#define FRAME 60u
#define BUFFER 2048u
#define FEATURES (1ull << NET_F_MRG_RXBUF | 1ull << VIRTIO_F_EVENT_IDX)

static struct fake_env f;
static struct fake_driver d;
static struct device *dev;
static gpa_t page;
static uint8_t *host;
static int wire = -1;
static uint16_t received; /* the expected used index */
static const char any[FRAME];

static void start(void)
{
	fake_driver_start(&d, FEATURES, 2, QSIZE);
	received = 0;
}

static void create(const char *backend)
{
	struct err err = { "" };
	char text[100];

	if (fake_one_cpu())
		cr_skip_test("one CPU: no polling");
	setenv("BANTAM_LIBEXEC", "build", 0);
	fake_env_init(&f, FAKE_PCI);
	snprintf(text, sizeof(text), "%s,mac=02:00:00:00:00:01", backend);
	cr_assert_eq(fake_create(&f, &virtio_net_type, text, &dev, &err), 0, "%s", err.text);
	fake_driver_find(&d, &f, 0, true);
	page = fake_alloc(&f, 8 * BUFFER);
	host = fake_at(&f, page, 8 * BUFFER);
	start();
}

static void create_on_socket(void)
{
	char text[20];
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
	wire = pair[0];
	snprintf(text, sizeof(text), "fd=%d", pair[1]);
	create(text);
}

static void end(void)
{
	device_destroy(dev);
	fake_env_destroy(&f);
	if (wire >= 0)
		close(wire);
	wire = -1;
}

static void add_frame(const char *frame)
{
	memset(host, 0, HDR);
	memcpy(host + HDR, frame, FRAME);
	fake_ring_add(&d.ring[TX], &(struct fake_buf){ page.v, HDR + FRAME }, 1, NULL, 0);
}

static void add_buffer(void)
{
	fake_ring_add(&d.ring[RX], NULL, 0, &(struct fake_buf){ page.v + BUFFER, BUFFER }, 1);
}

/* Returns true if a driver that just made one frame available must notify (section 2.7.10). */
static bool wants_kick(void)
{
	return fake_ring_avail_event(&d.ring[TX]) == (uint16_t)(d.ring[TX].avail[1] - 1);
}

static unsigned on_wire(void)
{
	char buf[HDR + FRAME];
	unsigned n = 0;

	while (recv(wire, buf, sizeof(buf), 0) == (ssize_t)FRAME)
		n++;
	return n;
}

/* Short waits teach the loop that polling pays; then a frame makes it poll the queue. */
static void until_polled(void)
{
	for (unsigned i = 0; i < 10; i++) {
		add_frame(any);
		fake_driver_kick(&d, TX);
		if (((struct virtio_net *)dev)->polled)
			return;
	}
	cr_assert_fail("never polled");
}

static void stop(void *opaque)
{
	loop_stop(f.env.loop);
}

/* Runs the loop until it has slept for a while. */
static void fall_asleep(void)
{
	struct loop_watch *timer;

	cr_assert_eq(loop_watch_timer(f.env.loop, stop, NULL, &timer), 0);
	loop_timer_arm(timer, 20000000);
	cr_assert_eq(loop_run(f.env.loop), 0);
	loop_unwatch(timer);
}

Test(net_poll, no_kicks_until_idle)
{
	create_on_socket();
	until_polled();
	on_wire();
	for (unsigned i = 0; i < 5; i++) {
		add_frame(any);
		cr_assert_not(wants_kick());
		fake_run(&f);
		cr_assert_eq(on_wire(), 1);
	}
	fall_asleep();
	cr_assert_eq(((struct virtio_net *)dev)->polled, 0);
	add_frame(any);
	cr_assert(wants_kick());
	fake_run(&f);
	cr_assert_eq(on_wire(), 0, "no poll and no kick, so no frame");
	fake_driver_kick(&d, TX);
	cr_assert_eq(on_wire(), 1);
	end();
}

/* A frame that comes during the last poll is not left in the queue. */
Test(net_poll, falls_asleep_with_nothing_left)
{
	create_on_socket();
	until_polled();
	on_wire();
	add_frame(any);
	fall_asleep();
	cr_assert_eq(on_wire(), 1);
	end();
}

static void send_on_wire(void)
{
	char frame[FRAME] = "\x02\0\0\0\0\x01";

	cr_assert_eq(send(wire, frame, sizeof(frame), 0), (ssize_t)sizeof(frame));
}

/* The loop that polls the transmit queue sees a received frame; such a frame starts polling. */
Test(net_poll, receives)
{
	create_on_socket();
	for (unsigned i = 0; i < 4; i++)
		add_buffer();
	fake_driver_kick(&d, RX);
	until_polled();
	send_on_wire();
	fake_run(&f);
	cr_assert_eq(d.ring[RX].used[1], 1);
	fall_asleep();
	for (unsigned i = 0; i < 2; i++) {
		send_on_wire();
		fake_run(&f);
	}
	cr_assert_eq(d.ring[RX].used[1], 3);
	add_frame(any);
	cr_assert_not(wants_kick());
	on_wire();
	fake_run(&f);
	cr_assert_eq(on_wire(), 1);
	end();
}

Test(net_poll, reset_meanwhile)
{
	create_on_socket();
	until_polled();
	fake_driver_set_status(&d, 0);
	add_frame(any);
	on_wire();
	fake_run(&f);
	cr_assert_eq(on_wire(), 0);
	start();
	fall_asleep();
	add_frame(any);
	cr_assert(wants_kick());
	fake_driver_kick(&d, TX);
	cr_assert_eq(on_wire(), 1);
	until_polled();
	end(); /* destroy it while the loop polls it */
}

/* The loop does not poll a queue that waits for the back end or for the rate limit. */
Test(net_poll, not_while_the_wire_is_full)
{
	struct virtio_net *nic;
	int bytes = 1, sent = 0;

	create_on_socket();
	nic = (struct virtio_net *)dev;
	setsockopt(nic->net->port[0].fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	until_polled();
	for (unsigned i = 0; i < 20; i++)
		add_frame(any);
	fake_run(&f);
	cr_assert(nic->pair[0].tx.blocked);
	cr_assert_eq(nic->polled, 0);
	for (unsigned i = 0; i < 100 && nic->pair[0].tx.blocked; i++) {
		sent += (int)on_wire();
		fake_run(&f);
	}
	sent += (int)on_wire();
	cr_assert_geq(sent, 20, "what waited goes when there is room");
	end();
}

static bool answered(void *arg)
{
	return d.ring[RX].used[1] == received;
}

/* The loop polls the user network's ring too, and enables its bell again before it sleeps. */
Test(net_poll, user, .timeout = 60)
{
	static const char arp[FRAME] = "\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x08\x06"
				       "\0\x01\x08\0\x06\x04\0\x01\x02\0\0\0\0\x01\x0a\0\x02\x0f"
				       "\0\0\0\0\0\0\x0a\0\x02\x02";

	create("user");
	for (unsigned i = 0; i < 40; i++) {
		add_buffer();
		fake_driver_kick(&d, RX);
		received++;
		add_frame(arp);
		if (i % 2)
			fake_driver_kick(&d, TX);
		/* In some rounds the loop sleeps before the answer comes. */
		if (i % 4 == 3)
			fall_asleep();
		if (i % 2 == 0 && wants_kick())
			fake_driver_kick(&d, TX);
		cr_assert(fake_run_until(&f, answered, NULL), "no answer to request %u", i);
	}
	end();
}
