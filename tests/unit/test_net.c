/*
 * test_net: virtio-net over a seqpacket socketpair; the test holds the other end:
 * frames in both directions in every split, mergeable buffers, back-pressure, the control queue,
 * link state, rate limits, broken rings.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/net/nic.h"
#include "devices/virtio/net/nic_impl.h"
#include "tests/unit/fake_driver.h"
#include "tests/unit/fake_net.h"

#define RX 0
#define TX 1
#define CTRL 2
#define QSIZE 64
#define HDR NET_HDR_BYTES
#define BIT(n) (1ull << (n))
#define F_RING_EVENT BIT(VIRTIO_F_EVENT_IDX)

static struct fake_env f;
static struct fake_driver d;
static struct device *dev;
static int wire = -1; /* the test's end of the cable */
static gpa_t page;    /* 512 KiB of guest memory for buffers */
static uint8_t *host;
static unsigned ctrl = CTRL;

#define PAGE_BYTES (512u << 10)

static int create(const char *text, struct err *err)
{
	return fake_create(&f, &virtio_net_type, text, &dev, err);
}

static void begin_on(enum fake_transport transport, int type, const char *keys)
{
	struct err err = { "" };
	char text[200];
	int pair[2];

	fake_env_init(&f, transport);
	cr_assert_eq(socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, pair), 0);
	wire = pair[0];
	snprintf(text, sizeof(text), "fd=%d,mac=02:00:00:00:00:01%s", pair[1], keys);
	cr_assert_eq(create(text, &err), 0, "%s", err.text);
	fake_driver_find(&d, &f, 0, true);
	page = fake_alloc(&f, PAGE_BYTES);
	host = fake_at(&f, page, PAGE_BYTES);
}

static void begin(const char *keys)
{
	begin_on(FAKE_PCI, SOCK_SEQPACKET, keys);
}

static void end(void)
{
	device_destroy(dev);
	fake_env_destroy(&f);
	if (wire >= 0)
		close(wire);
	wire = -1;
	ctrl = CTRL;
}

static struct fake_buf buf(unsigned at, unsigned len)
{
	return (struct fake_buf){ page.v + at, len };
}

static void fill(uint8_t *to, unsigned len, unsigned seed)
{
	for (unsigned i = 0; i < len; i++)
		to[i] = (uint8_t)(i * 7 + i / 251 + seed);
}

/* Makes one receive buffer available. */
static void post(unsigned at, unsigned len)
{
	struct fake_buf b = buf(at, len);

	fake_ring_add(&d.ring[RX], NULL, 0, &b, 1);
}

static void send_frame(unsigned len, unsigned seed)
{
	static uint8_t frame[70000];

	fill(frame, len, seed);
	memset(frame, 0xff, 6);
	cr_assert_eq(send(wire, frame, len, 0), (ssize_t)len);
}

static unsigned needs_reset(void)
{
	return fake_driver_status(&d) & VIRTIO_STATUS_NEEDS_RESET;
}

/* --- transmit ------------------------------------------------------------------------ */

Test(net, transmits_in_any_split)
{
	static const unsigned split[][8] = {
		{ 112 },
		{ 12, 100 },
		{ 5, 107 },
		{ 1, 11, 100 },
		{ 13, 99 },
		{ 12, 14, 86 },
		{ 4, 4, 4, 50, 50 },
		{ 111, 1 },
		{ 1, 1, 1, 1, 1, 1, 105, 1 },
	};

	for (int transport = FAKE_PCI; transport <= FAKE_MMIO; transport++) {
		begin_on(transport, SOCK_SEQPACKET, "");
		fake_driver_start(&d, 0, 3, QSIZE);
		for (size_t i = 0; i < sizeof(split) / sizeof(split[0]); i++) {
			struct fake_buf b[8];
			struct fake_used_elem e;
			uint8_t got[200];
			unsigned n = 0, at = 0;

			fill(host, 112, (unsigned)i);
			for (; n < 8 && split[i][n]; at += split[i][n++])
				b[n] = buf(at, split[i][n]);
			fake_ring_add(&d.ring[TX], b, n, NULL, 0);
			fake_driver_kick(&d, TX);
			cr_assert(fake_ring_take(&d.ring[TX], &e), "row %zu", i);
			cr_expect_eq(e.len, 0);
			cr_expect_eq(recv(wire, got, sizeof(got), 0), 100, "row %zu", i);
			cr_expect(!memcmp(got, host + HDR, 100), "row %zu", i);
			cr_expect_eq(fake_counter(dev, "tx_frames"), i + 1);
			cr_expect_eq(fake_counter(dev, "tx_bytes"), 100 * (i + 1));
		}
		cr_expect_eq(fake_counter(dev, "rx_frames"), 0);
		end();
	}
}

Test(net, drops_invalid_frames)
{
	static const struct {
		unsigned len;
		bool writable;
	} table[] = {
		{ 1, false },	   { 11, false }, { 12, false },
		{ 25, false },	   { 100, true }, { HDR + NET_FRAME_MAX + 1, false },
		{ 200000, false },
	};

	begin("");
	fake_driver_start(&d, 0, 3, QSIZE);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct fake_buf b = buf(0, table[i].len);
		struct fake_used_elem e;
		uint8_t got[1];

		fake_ring_add(&d.ring[TX], &b, !table[i].writable, &b, table[i].writable);
		fake_driver_kick(&d, TX);
		cr_expect(fake_ring_take(&d.ring[TX], &e), "row %zu: not returned", i);
		cr_expect_eq(recv(wire, got, 1, 0), -1, "row %zu: was sent", i);
	}
	cr_expect(!needs_reset());
	end();
}

Test(net, a_full_backend_holds_the_guest_back)
{
	unsigned returned = 0, arrived = 0;
	uint8_t got[4096];

	begin("");
	fake_driver_start(&d, F_RING_EVENT, 3, 256);
	for (unsigned i = 0; i < 200; i++) {
		struct fake_buf b = buf(i * 2000, HDR + 1500);

		fill(host + i * 2000 + HDR, 1500, i);
		fake_ring_add(&d.ring[TX], &b, 1, NULL, 0);
	}
	/* Shrink the socket's buffer, so that it holds only a few frames. */
	for (unsigned p = 0; p < 1; p++) {
		int bytes = 1;

		setsockopt(((struct virtio_net *)dev)->net->port[0].fd, SOL_SOCKET, SO_SNDBUF,
			   &bytes, sizeof(bytes));
	}
	fake_driver_kick(&d, TX);
	returned += fake_ring_take_all(&d.ring[TX]);
	cr_assert(returned < 200, "%u", returned);
	for (unsigned rounds = 0; arrived < 200 && rounds < 1000; rounds++) {
		while (recv(wire, got, sizeof(got), 0) == 1500) {
			cr_assert(!memcmp(got, host + arrived * 2000 + HDR, 1500), "%u", arrived);
			arrived++;
		}
		fake_run(&f);
	}
	returned += fake_ring_take_all(&d.ring[TX]);
	cr_expect_eq(arrived, 200);
	cr_expect_eq(returned, 200);
	end();
}

/* --- receive -------------------------------------------------------------------------- */

Test(net, receives_into_any_split)
{
	static const unsigned split[][6] = {
		{ 1600 },
		{ 12, 1500 },
		{ 5, 7, 1500 },
		{ 1, 1, 1, 1, 1, 1600 },
		{ 13, 1600 },
		{ 20, 30, 40, 1500 },
		{ 11, 1, 6, 6, 2, 1500 },
	};

	begin("");
	fake_driver_start(&d, 0, 3, QSIZE);
	for (size_t i = 0; i < sizeof(split) / sizeof(split[0]); i++) {
		struct fake_used_elem e;
		struct fake_buf b[6];
		unsigned n = 0, at = 0;
		uint8_t want[HDR + 1000] = { [NET_HDR_NUM_BUFFERS] = 1 };

		memset(host, 0xee, 2000);
		for (; n < 6 && split[i][n]; at += split[i][n++])
			b[n] = buf(at, split[i][n]);
		fake_ring_add(&d.ring[RX], NULL, 0, b, n);
		fake_driver_kick(&d, RX);
		send_frame(1000, (unsigned)i);
		fake_run(&f);
		cr_assert(fake_ring_take(&d.ring[RX], &e), "row %zu", i);
		cr_expect_eq(e.len, HDR + 1000, "row %zu: %u", i, e.len);
		fill(want + HDR, 1000, (unsigned)i);
		memset(want + HDR, 0xff, 6);
		cr_expect(!memcmp(host, want, sizeof(want)), "row %zu", i);
		cr_expect_eq(fake_counter(dev, "rx_frames"), i + 1);
		cr_expect_eq(fake_counter(dev, "rx_bytes"), 1000 * (i + 1));
	}
	cr_expect_eq(fake_counter(dev, "tx_frames"), 0);
	end();
}

Test(net, merges_buffers)
{
	static const struct {
		unsigned each, frame, nbufs;
	} table[] = {
		{ 128, 60, 1 },	     { 128, 116, 1 },	  { 128, 117, 2 },  { 128, 1514, 12 },
		{ 2048, 1514, 1 },   { 12, 60, 6 },	  { 13, 1000, 78 }, { 1536, 9000, 6 },
		{ 1536, 65549, 43 }, { 4096, 65557, 17 },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		unsigned at = 0, left = HDR + table[i].frame, n = 0;
		struct fake_used_elem e;
		static uint8_t want[70000];

		begin(",mtu=65535");
		fake_driver_start(&d, BIT(NET_F_MRG_RXBUF), 3, 256);
		for (unsigned b = 0; b < 100; b++)
			post(b * table[i].each, table[i].each);
		fake_driver_kick(&d, RX);
		send_frame(table[i].frame, 3);
		fake_run(&f);
		for (; fake_ring_take(&d.ring[RX], &e); n++) {
			unsigned part = left < table[i].each ? left : table[i].each;

			cr_expect_eq(e.len, part, "row %zu: buffer %u has %u", i, n, e.len);
			at += e.len;
			left -= part;
		}
		cr_expect_eq(n, table[i].nbufs, "row %zu: %u", i, n);
		memset(want, 0, HDR);
		want[NET_HDR_NUM_BUFFERS] = (uint8_t)n;
		fill(want + HDR, table[i].frame, 3);
		memset(want + HDR, 0xff, 6);
		cr_expect(at == HDR + table[i].frame && !memcmp(host, want, at), "row %zu", i);
		end();
	}
}

/* A driver may put readable bytes into a receive buffer's chain; a frame must not use them. */
Test(net, ignores_what_is_readable_in_a_receive_buffer)
{
	struct fake_used_elem e;
	struct fake_buf in, out;
	static uint8_t want[900];

	begin("");
	in = buf(100, 1000);
	out = buf(8192, 2000);
	fake_driver_start(&d, BIT(NET_F_MRG_RXBUF), 3, QSIZE);
	post(0, 100);
	fake_ring_add(&d.ring[RX], &out, 1, &in, 1);
	memset(host + 8192, 0x5a, 2000);
	fake_driver_kick(&d, RX);
	/* The frame is longer than both buffers: it waits for one more. */
	send_frame(1300, 1);
	fake_run(&f);
	cr_assert(!fake_ring_take(&d.ring[RX], &e));
	post(1100, 500);
	fake_driver_kick(&d, RX);
	cr_assert(fake_ring_take(&d.ring[RX], &e) && e.len == 100);
	cr_assert(fake_ring_take(&d.ring[RX], &e) && e.len == 1000);
	cr_assert(fake_ring_take(&d.ring[RX], &e) && e.len == HDR + 1300 - 1100);
	cr_expect_eq(host[NET_HDR_NUM_BUFFERS], 3);
	fill(want, sizeof(want), 1);
	memset(want, 0xff, 6);
	cr_expect(!memcmp(host + HDR, want, sizeof(want)));
	for (unsigned i = 0; i < 2000; i++)
		cr_assert_eq(host[8192 + i], 0x5a);
	end();
}

Test(net, waits_for_buffers)
{
	struct fake_used_elem e;
	unsigned n = 0;

	begin(",mtu=9000");
	fake_driver_start(&d, BIT(NET_F_MRG_RXBUF) | F_RING_EVENT, 3, QSIZE);
	/* No buffer at all. */
	for (unsigned i = 0; i < 10; i++)
		send_frame(100 + i, i);
	fake_run(&f);
	cr_assert(!fake_ring_take(&d.ring[RX], &e));
	for (unsigned i = 0; i < 10; i++) {
		post(i * 2048, 2048);
		fake_driver_kick(&d, RX);
		cr_assert(fake_ring_take(&d.ring[RX], &e), "%u", i);
		cr_assert_eq(e.len, HDR + 100 + i);
	}
	/* The first part of a frame arrives; the rest has no buffer yet. */
	post(0, 2048);
	post(2048, 2048);
	fake_driver_kick(&d, RX);
	send_frame(9000, 5);
	send_frame(60, 6);
	fake_run(&f);
	cr_assert(!fake_ring_take(&d.ring[RX], &e), "part of a frame");
	for (unsigned i = 2; i < 10; i++)
		post(i * 2048, 2048);
	fake_driver_kick(&d, RX);
	n += fake_ring_take_all(&d.ring[RX]);
	cr_expect_eq(n, 5 + 1, "%u", n);
	cr_expect_eq(host[NET_HDR_NUM_BUFFERS], 5);
	{
		static uint8_t want[9000];

		fill(want, 9000, 5);
		memset(want, 0xff, 6);
		cr_expect(!memcmp(host + HDR, want, 9000));
	}
	cr_expect_eq(fake_counter(dev, "rx_frames"), 12);
	cr_expect_eq(fake_counter(dev, "rx_bytes"), 1045 + 9000 + 60);
	end();
}

Test(net, drops_what_does_not_fit_a_single_buffer)
{
	struct fake_used_elem e;

	begin(",mtu=9000");
	fake_driver_start(&d, 0, 3, QSIZE);
	post(0, 1526);
	fake_driver_kick(&d, RX);
	send_frame(1515, 1);
	send_frame(9014, 1);
	send_frame(5, 1);
	send_frame(1514, 9);
	fake_run(&f);
	cr_assert(fake_ring_take(&d.ring[RX], &e));
	cr_expect_eq(e.len, 1526);
	cr_expect_eq(host[HDR + 10], (uint8_t)(70 + 9));
	cr_expect(!needs_reset());
	end();
}

Test(net, one_turn_moves_a_bounded_number_of_frames_and_goes_on)
{
	struct fake_used_elem e;
	unsigned n = 0;

	begin(",queue-size=1024");
	fake_driver_start(&d, BIT(NET_F_MRG_RXBUF), 3, 1024);
	for (unsigned i = 0; i < 1000; i++) {
		struct fake_buf b = buf(i * 128, HDR + 60);

		fake_ring_add(&d.ring[TX], &b, 1, NULL, 0);
	}
	fake_driver_kick(&d, TX);
	for (unsigned i = 0; i < 40; i++) {
		uint8_t got[100];

		while (recv(wire, got, sizeof(got), 0) == 60)
			n++;
		fake_run(&f);
	}
	cr_expect_eq(n, 1000);
	for (n = 0; fake_ring_take(&d.ring[TX], &e);)
		n++;
	cr_expect_eq(n, 1000);
	end();
}

/* --- streams ------------------------------------------------------------------------------ */

/* With the link down the card drops every frame itself: long ones count by their bytes. */
Test(net, a_turn_is_counted_in_bytes)
{
	struct fake_buf b = { FAKE_HIGH_BASE, 60000 };
	struct virtio_net *nic;
	unsigned n = 0, most = 0;

	begin(",queue-size=256");
	fake_driver_start(&d, 0, 3, 256);
	nic_set_link(dev, false);
	nic = (struct virtio_net *)dev;
	for (unsigned i = 0; i < 250; i++)
		fake_ring_add(&d.ring[TX], &b, 1, NULL, 0);
	nic->pair[0].tx.more = true;
	for (unsigned turns = 0; n < 250 && turns < 30; turns++) {
		unsigned before = n;

		turn_resume(&nic->tx_turn);
		virtio_lock(&nic->vdev);
		nic_run_tx(nic, 0);
		virtio_unlock(&nic->vdev);
		n += fake_ring_take_all(&d.ring[TX]);
		most = n - before > most ? n - before : most;
	}
	cr_expect_eq(n, 250);
	cr_expect_leq(most, TURN_BYTES / 60000 + 1);
	end();
}

Test(net, stream_framing_both_ways)
{
	struct fake_used_elem e;
	uint8_t bytes[4 + 100] = { 0, 0, 0, 100 }, got[300];
	struct fake_buf b;

	begin_on(FAKE_PCI, SOCK_STREAM, "");
	fake_driver_start(&d, 0, 3, QSIZE);
	fill(host, HDR + 100, 1);
	b = buf(0, HDR + 100);
	fake_ring_add(&d.ring[TX], &b, 1, NULL, 0);
	fake_ring_add(&d.ring[TX], &b, 1, NULL, 0);
	fake_driver_kick(&d, TX);
	cr_assert_eq(recv(wire, got, sizeof(got), 0), 208);
	cr_expect(!memcmp(got, "\0\0\0\x64", 4) && !memcmp(got + 104, "\0\0\0\x64", 4));
	cr_expect(!memcmp(got + 4, host + HDR, 100) && !memcmp(got + 108, host + HDR, 100));
	/* Byte by byte, then two at once with an empty one between. */
	for (unsigned i = 0; i < 3; i++)
		post(4096 + i * 2048, 2048);
	fake_driver_kick(&d, RX);
	fill(bytes + 4, 100, 7);
	memset(bytes + 4, 0xff, 6);
	for (unsigned i = 0; i < sizeof(bytes); i++) {
		cr_assert(!fake_ring_take(&d.ring[RX], &e));
		cr_assert_eq(send(wire, bytes + i, 1, 0), 1);
		fake_run(&f);
	}
	cr_assert(fake_ring_take(&d.ring[RX], &e));
	cr_expect_eq(e.len, HDR + 100);
	cr_expect(!memcmp(host + 4096 + HDR, bytes + 4, 100));
	send(wire, bytes, sizeof(bytes), 0);
	send(wire, "\0\0\0\0", 4, 0);
	send(wire, bytes, sizeof(bytes), 0);
	fake_run(&f);
	cr_expect(fake_ring_take(&d.ring[RX], &e) && fake_ring_take(&d.ring[RX], &e));
	cr_expect_eq(fake_driver_config(&d, NET_CONFIG_STATUS, 2), NET_S_LINK_UP);
	/* An impossible frame length: the link goes down. */
	send(wire, "\xff\xff\xff\xff", 4, 0);
	post(0, 2048);
	fake_driver_kick(&d, RX);
	fake_run(&f);
	cr_expect_eq(fake_driver_config(&d, NET_CONFIG_STATUS, 2), 0);
	end();
}

Test(net, stream_keeps_frames_whole_when_it_is_full)
{
	static uint8_t got[200 * 1504];
	size_t have = 0;
	ssize_t rc;

	begin_on(FAKE_PCI, SOCK_STREAM, "");
	fake_driver_start(&d, 0, 3, 256);
	for (unsigned i = 0; i < 200; i++) {
		struct fake_buf b = buf(i * 2000, HDR + 1500);

		fill(host + i * 2000 + HDR, 1500, i);
		fake_ring_add(&d.ring[TX], &b, 1, NULL, 0);
	}
	fake_driver_kick(&d, TX);
	for (unsigned rounds = 0; have < sizeof(got) && rounds < 5000; rounds++) {
		/* Read odd amounts, which cut frames everywhere. */
		rc = recv(wire, got + have, sizeof(got) - have < 777 ? sizeof(got) - have : 777, 0);
		have += rc > 0 ? (size_t)rc : 0;
		fake_run(&f);
	}
	cr_assert_eq(have, sizeof(got));
	for (unsigned i = 0; i < 200; i++) {
		cr_assert(!memcmp(got + i * 1504, "\0\0\x05\xdc", 4), "%u", i);
		cr_assert(!memcmp(got + i * 1504 + 4, host + i * 2000 + HDR, 1500), "%u", i);
	}
	end();
}

/* --- control queue ---------------------------------------------------------------------------- */

static int command(const uint8_t *cmd, unsigned len)
{
	struct fake_buf out = buf(0x10000, len), in = buf(0x20000, 1);
	struct fake_used_elem e;

	memcpy(host + 0x10000, cmd, len);
	host[0x20000] = 0xee;
	fake_ring_add(&d.ring[ctrl], &out, len ? 1 : 0, &in, 1);
	fake_driver_kick(&d, ctrl);
	return fake_ring_take(&d.ring[ctrl], &e) ? host[0x20000] : -1;
}

#define ALL_CTRL                                                                                   \
	(BIT(NET_F_CTRL_VQ) | BIT(NET_F_CTRL_RX) | BIT(NET_F_CTRL_RX_EXTRA) |                      \
	 BIT(NET_F_CTRL_MAC_ADDR) | BIT(NET_F_GUEST_ANNOUNCE) | BIT(NET_F_STATUS))

Test(net, control_commands)
{
	static const struct {
		uint8_t bytes[24];
		unsigned len;
		int ack;
	} table[] = {
		{ { 0 }, 0, 1 },
		{ { 0 }, 1, 1 },
		{ { 0, 0 }, 2, 1 },
		{ { 0, 0, 1 }, 3, 0 },
		{ { 0, 5, 1 }, 3, 0 },
		{ { 0, 5, 0, 9, 9 }, 5, 0 },
		{ { 0, 6, 1 }, 3, 1 },
		{ { 0, 255, 1 }, 3, 1 },
		{ { 1, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 10, 0 },
		{ { 1, 0, 0, 0, 0, 0, 0, 0, 0 }, 9, 1 },
		{ { 1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 9, 0, 0, 0, 0 }, 16, 0 },
		{ { 1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 9, 1, 0, 0, 0 }, 16, 1 },
		{ { 1, 0, 255, 255, 255, 255, 1, 2, 3, 4, 5, 6 }, 12, 1 },
		{ { 1, 0, 0, 0, 0, 0, 255, 255, 255, 255 }, 10, 1 },
		{ { 1, 0, 0xab, 0xaa, 0xaa, 0x2a, 0, 0, 0, 0 }, 10, 1 }, /* times 6 overflows */
		{ { 1, 1, 2, 3, 4, 5, 6, 7 }, 8, 0 },
		{ { 1, 1, 2, 3, 4, 5, 6 }, 7, 1 },
		{ { 1, 2, 0 }, 3, 1 },
		{ { 2, 0, 1, 0 }, 4, 1 }, /* VLAN: not offered */
		{ { 3, 0 }, 2, 0 },
		{ { 3, 1 }, 2, 1 },
		{ { 4, 0, 1, 0 }, 4, 1 }, /* MQ: not negotiated */
		{ { 5, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 10, 1 },
		{ { 99, 99, 99 }, 3, 1 },
	};

	begin("");
	fake_driver_start(&d, ALL_CTRL, 3, QSIZE);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int ack = command(table[i].bytes, table[i].len);

		cr_expect_eq(ack, table[i].ack, "row %zu: %d", i, ack);
	}
	cr_expect_eq(fake_driver_config(&d, NET_CONFIG_MAC, 4), 0x05040302);
	/* Without the features the device accepts no command. */
	fake_driver_start(&d, BIT(NET_F_CTRL_VQ), 3, QSIZE);
	cr_expect_eq(fake_driver_config(&d, NET_CONFIG_MAC, 4), 0x00000002);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		cr_expect_eq(command(table[i].bytes, table[i].len), 1, "row %zu", i);
	end();
}

Test(net, control_without_room_for_an_answer_breaks_it)
{
	struct fake_buf out = buf(0, 3);

	begin("");
	fake_driver_start(&d, ALL_CTRL, 3, QSIZE);
	fake_ring_add(&d.ring[CTRL], &out, 1, NULL, 0);
	fake_driver_kick(&d, CTRL);
	cr_expect(needs_reset());
	end();
}

/* One turn of the loop runs only a few commands; in the end each command has run once. */
Test(net, many_commands)
{
	struct virtio_net *nic;
	unsigned n = 0;

	begin("");
	nic = (struct virtio_net *)dev;
	fake_driver_start(&d, ALL_CTRL, 3, 256);
	for (unsigned i = 0; i < 120; i++) {
		struct fake_buf out = buf(0x10000, 3), in = buf(0x20000 + i, 1);

		host[0x20000 + i] = 0xee;
		fake_ring_add(&d.ring[CTRL], &out, 1, &in, 1);
	}
	memcpy(host + 0x10000, (uint8_t[]){ 0, 0, 1 }, 3);
	virtio_lock(&nic->vdev);
	nic_run_ctrl(nic);
	virtio_unlock(&nic->vdev);
	n += fake_ring_take_all(&d.ring[CTRL]);
	cr_expect_eq(n, 8, "%u in one turn", n);
	for (unsigned i = 0; i < 20; i++)
		fake_run(&f);
	n += fake_ring_take_all(&d.ring[CTRL]);
	cr_expect_eq(n, 120, "%u", n);
	for (unsigned i = 0; i < 120; i++)
		cr_expect_eq(host[0x20000 + i], 0, "command %u: %u", i, host[0x20000 + i]);
	end();
}

/* --- several queues ------------------------------------------------------------------------------- */

#define MQ_CTRL 4
#define MQ_FEATURES (BIT(NET_F_MQ) | BIT(NET_F_CTRL_VQ) | BIT(NET_F_MRG_RXBUF))

/* Makes a card with two pairs and vnet headers. Returns its back end. */
static struct fake_net *begin_pairs(uint64_t features)
{
	struct fake_net *fake;
	struct err err = { "" };
	struct keyvals kv;

	fake_env_init(&f, FAKE_PCI);
	cr_assert_eq(keys_parse(&kv, "--net", virtio_net_type.keys, "vhost=off", &err), 0);
	fake = fake_net_create(f.env.loop, 2);
	cr_assert_eq(nic_create_on(&fake->net, &f.env, &kv, &dev, &err), 0, "%s", err.text);
	keys_clear(&kv);
	fake_driver_find(&d, &f, 0, true);
	page = fake_alloc(&f, PAGE_BYTES);
	host = fake_at(&f, page, PAGE_BYTES);
	ctrl = features & BIT(NET_F_MQ) ? MQ_CTRL : CTRL;
	fake_driver_start(&d, features, ctrl + 1, QSIZE);
	return fake;
}

/* Sends a frame to the card on this pair's wire. */
static void pair_send(struct fake_net *fake, unsigned pair, unsigned seed)
{
	uint8_t frame[HDR + 100] = { 0 };

	fill(frame + HDR, 100, seed);
	cr_assert_eq(send(fake->wire[pair], frame, sizeof(frame), 0), (ssize_t)sizeof(frame));
}

/* Returns true if the pair's next received frame is pair_send's, in the buffer at offset at. */
static bool pair_received(unsigned pair, unsigned at, unsigned seed)
{
	struct fake_used_elem e;
	uint8_t want[HDR + 100] = { [NET_HDR_NUM_BUFFERS] = 1 };

	fill(want + HDR, 100, seed);
	return fake_ring_take(&d.ring[2 * pair], &e) && e.len == sizeof(want) &&
	       !memcmp(host + at, want, sizeof(want));
}

Test(net, pairs)
{
	uint8_t one[] = { 4, 0, 1, 0 }, two[] = { 4, 0, 2, 0 }, three[] = { 4, 0, 3, 0 };
	uint8_t none[] = { 4, 0, 0, 0 }, got[HDR + 100];
	struct fake_net *fake = begin_pairs(MQ_FEATURES);
	struct fake_used_elem e;
	struct fake_buf b;

	cr_expect_eq(fake_driver_config(&d, NET_CONFIG_MAX_PAIRS, 2), 2);
	cr_expect_eq(fake->queues, 1);
	/* All buffers are available before the command, and frames wait on both wires. */
	for (unsigned pair = 0; pair < 2; pair++) {
		for (unsigned i = 0; i < 8; i++) {
			b = buf(pair * 0x8000 + i * 2048, 2048);
			fake_ring_add(&d.ring[2 * pair], NULL, 0, &b, 1);
		}
		fake_driver_kick(&d, 2 * pair);
	}
	fill(host + 0x30000, HDR + 100, 9);
	b = buf(0x30000, HDR + 100);
	fake_ring_add(&d.ring[3], &b, 1, NULL, 0);
	fake_driver_kick(&d, 3);
	pair_send(fake, 0, 1);
	pair_send(fake, 1, 2);
	fake_run(&f);
	cr_expect(pair_received(0, 0, 1));
	cr_expect(!fake_ring_take(&d.ring[2], &e) && !fake_ring_take(&d.ring[3], &e), "one pair");
	pair_send(fake, 0, 3);
	cr_expect_eq(command(two, 4), 0);
	cr_expect_eq(fake->queues, 2);
	fake_run(&f);
	cr_expect(pair_received(0, 2048, 3));
	cr_expect(pair_received(1, 0x8000, 2), "what waited");
	cr_expect(fake_ring_take(&d.ring[3], &e));
	cr_expect_eq(recv(fake->wire[1], got, sizeof(got), 0), HDR + 100);
	cr_expect(!memcmp(got, host + 0x30000, sizeof(got)));
	for (unsigned i = 1; i < 4; i++) {
		pair_send(fake, 1, i);
		fake_run(&f);
		cr_expect(pair_received(1, 0x8000 + i * 2048, i), "%u", i);
	}
	cr_expect_eq(command(none, 4), 1);
	cr_expect_eq(command(three, 4), 1);
	cr_expect_eq(fake->queues, 2);
	cr_expect_eq(command(one, 4), 0);
	cr_expect_eq(fake->queues, 1);
	pair_send(fake, 1, 5);
	fake_run(&f);
	cr_expect(!fake_ring_take(&d.ring[2], &e), "not served any more");
	cr_expect_eq(command(two, 4), 0);
	cr_expect(pair_received(1, 0x8000 + 4 * 2048, 5));
	cr_expect(!needs_reset());
	end();
}

/* A pair's buffers come when another pair has used up the turn: its kicks are off, so the next turn serves it. */
Test(net, buffers_come_at_the_end_of_a_turn)
{
	uint8_t two[] = { 4, 0, 2, 0 };
	struct fake_net *fake = begin_pairs(MQ_FEATURES);
	struct virtio_net *nic = (struct virtio_net *)dev;
	struct fake_buf b = buf(0x8000, 2048);

	cr_expect_eq(command(two, 4), 0);
	pair_send(fake, 1, 1);
	fake_run(&f);
	cr_assert(nic->pair[1].rx.blocked);
	virtio_lock(&nic->vdev);
	turn_end(&nic->rx_turn);
	nic_again(nic, &nic->rx_turn);
	fake_ring_add(&d.ring[2], NULL, 0, &b, 1);
	nic->vdev.class->kick(&nic->vdev, 2);
	virtio_unlock(&nic->vdev);
	fake_run(&f);
	cr_expect(pair_received(1, 0x8000, 1));
	cr_expect(!nic->pair[1].rx.more);
	end();
}

/* With vnet headers the driver reads the back end's header, and the back end the driver's. */
Test(net, vnet_headers)
{
	uint8_t offloads[] = { 5, 0, 1 << NET_F_GUEST_CSUM, 0, 0, 0, 0, 0, 0, 0 };
	struct fake_net *fake = begin_pairs(BIT(NET_F_CTRL_VQ) | BIT(NET_F_CTRL_GUEST_OFFLOADS) |
					    BIT(NET_F_GUEST_CSUM) | BIT(NET_F_GUEST_TSO4));
	uint8_t frame[HDR + 100] = { 1, 1 }, got[sizeof(frame)];
	struct fake_used_elem e;
	struct fake_buf b;

	cr_expect_eq(fake->offloads, NET_CSUM | NET_TSO4);
	cr_expect_eq(command(offloads, sizeof(offloads)), 0);
	cr_expect_eq(fake->offloads, NET_CSUM);
	fill(frame + HDR, 100, 3);
	post(0, 2048);
	fake_driver_kick(&d, RX);
	cr_assert_eq(send(fake->wire[0], frame, sizeof(frame), 0), (ssize_t)sizeof(frame));
	fake_run(&f);
	cr_assert(fake_ring_take(&d.ring[RX], &e));
	frame[NET_HDR_NUM_BUFFERS] = 1;
	cr_expect(e.len == sizeof(frame) && !memcmp(host, frame, sizeof(frame)));
	b = buf(0, sizeof(frame));
	fake_ring_add(&d.ring[TX], &b, 1, NULL, 0);
	fake_driver_kick(&d, TX);
	cr_expect_eq(recv(fake->wire[0], got, sizeof(got), 0), (ssize_t)sizeof(got));
	cr_expect(!memcmp(got, frame, sizeof(frame)));
	/* The header is not counted. */
	cr_expect_eq(fake_counter(dev, "rx_bytes"), 100);
	cr_expect_eq(fake_counter(dev, "tx_bytes"), 100);
	/* MQ is offered but not accepted: queue 2 is the control queue. */
	end();
}

/* Returns true if the guest receives a frame to this address. */
static bool hears(const uint8_t *dst)
{
	struct fake_used_elem e;
	uint8_t frame[60] = { 0 };

	memcpy(frame, dst, 6);
	cr_assert_eq(send(wire, frame, sizeof(frame), 0), 60);
	fake_run(&f);
	if (!fake_ring_take(&d.ring[RX], &e))
		return false;
	post(0, 2048);
	fake_driver_kick(&d, RX);
	return true;
}

Test(net, receive_filter)
{
	static const uint8_t us[] = { 2, 0, 0, 0, 0, 1 }, other[] = { 2, 0, 0, 0, 0, 9 },
			     multi[] = { 1, 0, 0x5e, 0, 0, 1 },
			     all[] = { 255, 255, 255, 255, 255, 255 };
	static const struct {
		uint8_t cmd[3];
		bool us, other, multi, all;
	} table[] = {
		{ { 0, 0, 0 }, true, false, false, true },   /* promiscuous off */
		{ { 0, 1, 1 }, true, false, true, true },    /* all multicast */
		{ { 0, 3, 1 }, true, false, false, true },   /* no multicast */
		{ { 0, 2, 1 }, true, true, false, true },    /* all unicast */
		{ { 0, 4, 1 }, false, false, false, true },  /* no unicast */
		{ { 0, 5, 1 }, false, false, false, false }, /* no broadcast */
		{ { 0, 0, 1 }, true, true, true, true },     /* promiscuous */
	};
	static const uint8_t set[] = { 1, 0, 1, 0, 0, 0, 2, 0,	  0, 0, 0,
				       9, 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 1 };
	uint8_t many[2 + 4 + 100 * 6 + 4] = { 1, 0, 100 };

	begin("");
	fake_driver_start(&d, ALL_CTRL, 3, QSIZE);
	post(0, 2048);
	fake_driver_kick(&d, RX);
	cr_expect(hears(us) && hears(other) && hears(multi) && hears(all), "at first, everything");
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		cr_assert_eq(command(table[i].cmd, 3), 0);
		cr_expect_eq(hears(us), table[i].us, "row %zu: us", i);
		cr_expect_eq(hears(other), table[i].other, "row %zu: other", i);
		cr_expect_eq(hears(multi), table[i].multi, "row %zu: multi", i);
		cr_expect_eq(hears(all), table[i].all, "row %zu: all", i);
	}
	fake_driver_start(&d, ALL_CTRL, 3, QSIZE);
	post(0, 2048);
	fake_driver_kick(&d, RX);
	cr_assert_eq(command(set, sizeof(set)), 0);
	cr_expect(hears(us) && hears(other) && hears(multi) && hears(all));
	/* With more addresses than the table holds, the card accepts all of that kind. */
	cr_assert_eq(command(many, sizeof(many)), 0);
	cr_expect(hears(us) && hears(other) && !hears(multi) && hears(all));
	end();
}

/* --- link ------------------------------------------------------------------------------------------ */

Test(net, link_down_and_up)
{
	struct fake_used_elem e;
	uint8_t got[100], ack[] = { 3, 0 };
	struct fake_buf b;

	begin("");
	fake_driver_start(&d, ALL_CTRL, 3, QSIZE);
	(void)fake_driver_config_irqs(&d);
	cr_expect_eq(fake_driver_config(&d, NET_CONFIG_STATUS, 2), NET_S_LINK_UP);
	dev->ops->set_link(dev, false);
	cr_expect_eq(fake_driver_config(&d, NET_CONFIG_STATUS, 2), 0);
	cr_expect_eq(fake_driver_config_irqs(&d), 1);
	post(0, 2048);
	fake_driver_kick(&d, RX);
	send_frame(100, 1);
	b = buf(4096, HDR + 60);
	fake_ring_add(&d.ring[TX], &b, 1, NULL, 0);
	fake_driver_kick(&d, TX);
	cr_expect(fake_ring_take(&d.ring[TX], &e), "frames are swallowed");
	cr_expect_eq(recv(wire, got, sizeof(got), 0), -1);
	cr_expect(!fake_ring_take(&d.ring[RX], &e));
	dev->ops->set_link(dev, true);
	cr_expect_eq(fake_driver_config(&d, NET_CONFIG_STATUS, 2), NET_S_LINK_UP | NET_S_ANNOUNCE);
	cr_expect_eq(fake_driver_config_irqs(&d), 1);
	cr_expect_eq(command(ack, 2), 0);
	cr_expect_eq(fake_driver_config(&d, NET_CONFIG_STATUS, 2), NET_S_LINK_UP);
	fake_run(&f);
	cr_expect(fake_ring_take(&d.ring[RX], &e));
	/* The peer closes the connection. */
	close(wire);
	wire = dup(0);
	fake_run(&f);
	cr_expect_eq(fake_driver_config(&d, NET_CONFIG_STATUS, 2), 0);
	fake_ring_add(&d.ring[TX], &b, 1, NULL, 0);
	fake_driver_kick(&d, TX);
	cr_expect(fake_ring_take(&d.ring[TX], &e));
	end();
}

/* --- rate limits -------------------------------------------------------------------------------------- */

static bool all_sent(void *arg)
{
	unsigned *n = arg;
	struct fake_used_elem e;

	while (fake_ring_take(&d.ring[TX], &e))
		++*n;
	return *n == 30;
}

Test(net, transmit_limit)
{
	unsigned n = 0;

	begin(",tx-ops=100,tx-ops-burst=10");
	fake_driver_start(&d, 0, 3, QSIZE);
	for (unsigned i = 0; i < 30; i++) {
		struct fake_buf b = buf(i * 128, HDR + 60);

		fake_ring_add(&d.ring[TX], &b, 1, NULL, 0);
	}
	fake_driver_kick(&d, TX);
	cr_expect(!all_sent(&n));
	cr_expect(n >= 10 && n <= 12, "%u at once", n);
	cr_expect(fake_run_until(&f, all_sent, &n), "%u", n);
	end();
}

static bool all_received(void *arg)
{
	unsigned *n = arg;
	struct fake_used_elem e;

	while (fake_ring_take(&d.ring[RX], &e))
		++*n;
	return *n == 30;
}

Test(net, receive_limit)
{
	unsigned n = 0;

	begin(",rx-rate=100K,rx-burst=5K");
	fake_driver_start(&d, BIT(NET_F_MRG_RXBUF), 3, QSIZE);
	for (unsigned i = 0; i < 40; i++)
		post(i * 2048, 2048);
	fake_driver_kick(&d, RX);
	for (unsigned i = 0; i < 30; i++)
		send_frame(1000, i);
	fake_run(&f);
	cr_expect(!all_received(&n));
	cr_expect(n >= 5 && n <= 9, "%u at once", n);
	cr_expect(fake_run_until(&f, all_received, &n), "%u", n);
	end();
}

/* --- hostile rings ---------------------------------------------------------------------------------------- */

Test(net, broken_rings)
{
	static const struct {
		unsigned queue;
		struct fake_buf b;
		bool writable;
	} table[] = {
		{ TX, { 0xdead000000ull, 100 }, false },
		{ RX, { 0xdead000000ull, 100 }, true },
		{ TX, { ~0ull - 10, 100 }, false },
		{ TX, { 0, 0 }, false },
		{ RX, { 0, 11 }, true },
		{ RX, { 0, 100 }, false }, /* not writable */
		{ CTRL, { 0xdead000000ull, 100 }, false },
	};

	begin("");
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		unsigned q = table[i].queue;
		struct fake_buf good = buf(0, HDR + 60);
		struct fake_used_elem e;

		fake_driver_start(&d, BIT(NET_F_MRG_RXBUF) | BIT(NET_F_CTRL_VQ), 3, QSIZE);
		fake_ring_add(&d.ring[q], &table[i].b, !table[i].writable, &table[i].b,
			      table[i].writable);
		fake_driver_kick(&d, q);
		cr_expect(needs_reset(), "row %zu", i);
		send_frame(60, 0);
		fake_run(&f);
		/* After a reset it works again. */
		fake_driver_start(&d, 0, 3, QSIZE);
		fake_ring_add(&d.ring[TX], &good, 1, NULL, 0);
		fake_driver_kick(&d, TX);
		cr_expect(fake_ring_take(&d.ring[TX], &e), "row %zu", i);
	}
	end();
}

Test(net, drops_a_chain_of_too_many_pieces)
{
	struct fake_desc *table;
	struct fake_used_elem e;
	gpa_t at;

	begin("");
	at = fake_alloc(&f, 1024 * 16);
	table = fake_at(&f, at, 1024 * 16);
	fake_driver_start(&d, BIT(VIRTIO_F_INDIRECT_DESC) | BIT(NET_F_MRG_RXBUF), 3, QSIZE);
	for (unsigned i = 0; i < 1024; i++)
		table[i] = (struct fake_desc){ page.v + i * 20, 20, i < 1023 ? FAKE_F_NEXT : 0,
					       (uint16_t)(i + 1) };
	d.ring[TX].desc[0] = (struct fake_desc){ at.v, 1024 * 16, FAKE_F_INDIRECT, 0 };
	fake_ring_offer(&d.ring[TX], 0);
	fake_driver_kick(&d, TX);
	cr_expect(fake_ring_take(&d.ring[TX], &e));
	/* The same chain to receive into: the card uses as much of it as it can. */
	for (unsigned i = 0; i < 1024; i++)
		table[i].flags |= FAKE_F_WRITE;
	d.ring[RX].desc[0] = (struct fake_desc){ at.v, 1024 * 16, FAKE_F_INDIRECT, 0 };
	fake_ring_offer(&d.ring[RX], 0);
	fake_driver_kick(&d, RX);
	send_frame(1000, 1);
	fake_run(&f);
	cr_expect(fake_ring_take(&d.ring[RX], &e));
	cr_expect_eq(e.len, HDR + 1000);
	cr_expect(!needs_reset());
	end();
}

/* --- bad input ---------------------------------------------------------------------------------------------- */

Test(net, refusals)
{
	static const struct {
		const char *keys, *words;
	} table[] = {
		{ "", "needs one of tap=NAME, fd=N, stream=PATH, user and vhost-user=SOCKET" },
		{ "user,tap=x", "needs one of" },
		{ "tap=x,mac=01:00:00:00:00:01", "multicast" },
		{ "tap=x,mac=00:00:00:00:00:00", "all zeroes" },
		{ "tap=x,mac=02:00:00:00:00", "not a MAC address" },
		{ "tap=x,mac=02:00:00:00:00:0g", "not a MAC address" },
		{ "tap=x,mac=02:00:00:00:00:011", "not a MAC address" },
		{ "tap=x,mtu=67", "must be from 68 to 65535" },
		{ "tap=x,mtu=65536", "must be from 68 to 65535" },
		{ "tap=x,queues=0", "must be from 1 to 16" },
		{ "tap=x,queues=17", "must be from 1 to 16" },
		{ "tap=x,queue-size=100", "must be a power of two" },
		{ "tap=sixteencharacter", "at most 15 characters" },
		{ "tap=a/b", "not a name for an interface" },
		{ "tap=x,ip=1.2.3", "not an IP address" },
		{ "tap=x,ip=1.2.3.4,mask=255.0.255.0", "not a mask" },
		{ "tap=x,ip=1.2.3.4/33", "not a mask" },
		{ "tap=x,mask=24", "mask= needs ip=" },
		{ "user,ip=1.2.3.4", "go with tap= only" },
		{ "user,queues=2", "goes with tap=, fd= and vhost-user= only" },
		{ "tap=x,hostfwd=tcp::1-1", "hostfwd= goes with user only" },
		{ "tap=x,host-loopback=on", "host-loopback= goes with user only" },
		{ "user,mtu=65535", "at most 65520" },
		{ "user,hostfwd=sctp::1-1", "must begin with tcp: or udp:" },
		{ "user,hostfwd=tcp:1-1",
		  "hostfwd=tcp:1-1: the colon before the ports is missing; write it like tcp::2222-22, "
		  "in full tcp|udp:[ADDR]:HOSTPORT-GUESTPORT" },
		{ "user,hostfwd=2222:22",
		  "must begin with tcp: or udp:; write it like tcp::2222-22" },
		{ "bridge,br=br0", "unknown key \"bridge\"; a tap in the bridge does it" },
		{ "ifname=tap0", "unknown key \"ifname\"; here it is tap=NAME" },
		{ "user,hostfwd=tcp::1", "guest's port is missing" },
		{ "user,hostfwd=tcp::65536-1", "from 0 to 65535" },
		{ "user,hostfwd=tcp::1-0", "from 1 to 65535" },
		{ "user,hostfwd=tcp::-1", "from 0 to 65535" },
		{ "user,hostfwd=tcp:::1:1-1", "written in brackets" },
		{ "user,hostfwd=tcp:[::1:1-1", "bracket after" },
		{ "user,hostfwd=tcp:[1.2.3.4]:1-1", "not an IPv6 address" },
		{ "user,rx-burst=1M", "rx-burst= needs rx-rate=" },
		{ "user,tx-ops-burst=1", "tx-ops-burst= needs tx-ops=" },
		{ "user,hostfwd=tcp:x:1-1", "not an IPv4 address" },
		{ "fd=x", "must be a number" },
		{ "fd=999", "not an open file descriptor" },
		{ "fd=3:", "must be a number" },
		{ "fd=0:1,queues=3", "one for each descriptor" },
		{ "stream=/nonexistent/socket", "No such file or directory" },
		{ "stream=fd:999", "not an open stream socket" },
		{ "frobnicate=1", "unknown key" },
	};

	fake_env_init(&f, FAKE_PCI);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct err err = { "" };

		cr_expect_lt(create(table[i].keys, &err), 0, "%s", table[i].keys);
		cr_expect(strstr(err.text, table[i].words), "%s: %s", table[i].keys, err.text);
		cr_expect(!strchr(err.text, '\n'));
	}
	fake_env_destroy(&f);
}

/* The configuration space for each way to configure the card. */
Test(net, configuration_space)
{
	begin(",mtu=9000");
	cr_expect_eq(fake_driver_config(&d, NET_CONFIG_MAC, 4), 0x00000002);
	cr_expect_eq(fake_driver_config(&d, NET_CONFIG_MAC + 4, 2), 0x0100);
	cr_expect_eq(fake_driver_config(&d, NET_CONFIG_MAX_PAIRS, 2), 1);
	cr_expect_eq(fake_driver_config(&d, NET_CONFIG_MTU, 2), 9000);
	cr_expect(fake_driver_offered(&d) & BIT(NET_F_MTU));
	cr_expect(!(fake_driver_offered(&d) &
		    (BIT(NET_F_CSUM) | BIT(NET_F_HOST_TSO4) | BIT(NET_F_MQ))),
		  "a socket takes no offloads");
	/* The driver cannot write it. */
	fake_driver_set_config(&d, NET_CONFIG_MAC, 4, 0xffffffff);
	cr_expect_eq(fake_driver_config(&d, NET_CONFIG_MAC, 4), 0x00000002);
	end();
}

/* A VmConfig switches them off one by one; the specification makes all depend on checksums. */
Test(net, offloads_one_by_one)
{
	const uint64_t tso = BIT(NET_F_HOST_TSO4) | BIT(NET_F_HOST_TSO6) | BIT(NET_F_HOST_ECN) |
			     BIT(NET_F_GUEST_TSO4) | BIT(NET_F_GUEST_TSO6) | BIT(NET_F_GUEST_ECN);
	const uint64_t ufo = BIT(NET_F_HOST_UFO) | BIT(NET_F_GUEST_UFO);
	const uint64_t csum = BIT(NET_F_CSUM) | BIT(NET_F_GUEST_CSUM);
	const struct {
		const char *off[2];
		uint64_t offered;
	} table[] = {
		{ { NULL }, tso | ufo | csum },	   { { "offload-tso" }, ufo | csum },
		{ { "offload-ufo" }, tso | csum }, { { "offload-tso", "offload-ufo" }, csum },
		{ { "offload-csum" }, 0 },	   { { "offload" }, 0 },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct fake_net *fake;
		struct err err = { "" };
		struct keyvals kv;

		fake_env_init(&f, FAKE_PCI);
		keys_start(&kv, "--net", virtio_net_type.keys);
		for (unsigned k = 0; k < 2 && table[i].off[k]; k++)
			cr_assert_eq(keys_set_hidden(&kv, table[i].off[k], "off", &err), 0);
		cr_assert_eq(keys_set(&kv, "vhost", "off", &err), 0);
		cr_assert_eq(keys_finish(&kv, &err), 0);
		fake = fake_net_create(f.env.loop, 1);
		fake->net.offloads_in = fake->net.offloads_out = NET_OFFLOADS;
		cr_assert_eq(nic_create_on(&fake->net, &f.env, &kv, &dev, &err), 0, "%s", err.text);
		keys_clear(&kv);
		fake_driver_find(&d, &f, 0, true);
		cr_expect_eq(fake_driver_offered(&d) & (tso | ufo | csum), table[i].offered,
			     "%u: %llx", (unsigned)i, (unsigned long long)fake_driver_offered(&d));
		device_destroy(dev);
		fake_env_destroy(&f);
	}
}

/* The same refusals as for mac=; and what needs a daemon. */
Test(net, hidden_keys_that_are_wrong)
{
	static const struct {
		const char *name, *value, *says;
	} table[] = {
		{ "host-mac", "02:00", "host-mac=02:00: not a MAC" },
		{ "host-mac", "03:00:00:00:00:01", "multicast" },
		{ "vhost-mode", "server", "needs vhost-user=" },
		{ "vhost-mode", "both", "vhost-mode=both" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct err err = { "" };
		struct keyvals kv;
		int rc;

		fake_env_init(&f, FAKE_PCI);
		keys_start(&kv, "--net", virtio_net_type.keys);
		rc = keys_set(&kv, "tap", "x", &err);
		if (!rc)
			rc = keys_set_hidden(&kv, table[i].name, table[i].value, &err);
		if (!rc)
			rc = keys_finish(&kv, &err);
		if (!rc)
			rc = virtio_net_type.check(&kv, &err);
		if (!rc)
			rc = virtio_net_type.create(&f.env, &kv, &dev, &err);
		cr_expect_eq(rc, -EINVAL, "%s", table[i].value);
		cr_expect(strstr(err.text, table[i].says), "%s", err.text);
		keys_clear(&kv);
		fake_env_destroy(&f);
	}
}
