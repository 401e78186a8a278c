/*
 * test_vsock: virtio-vsock, driven over both transports: both directions of
 * connecting, data, credit, half-close, resets, many connections, hostile packets.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/virtio/vsock.h"
#include "devices/virtio/vsock_impl.h"
#include "tests/unit/fake_driver.h"

#define CID 42u
#define NRX 16u
#define RX_BYTES 4096u
#define GUEST_ROOM 65536u

static struct fake_env f;
static struct fake_driver d;
static struct device *dev;
static char dir[32], path[64], text[1 << 16];
static gpa_t rx_at, tx_at;
static uint8_t *rx_host, *tx_host;
static uint32_t fwd;	/* what the guest says in every packet */

/* What the guest received last. */
static struct vsock_hdr got;
static uint8_t *got_data;

static int create(const char *keys, struct err *err)
{
	struct keyvals kv;
	int rc = keys_parse(&kv, "--vsock", virtio_vsock_type.keys, keys, err);

	if (!rc)
		rc = virtio_vsock_type.create(&f.env, &kv, &dev, err);
	keys_clear(&kv);
	return rc;
}

static void give(unsigned i)
{
	struct fake_buf b = { rx_at.v + i * RX_BYTES, RX_BYTES };

	fake_ring_add(&d.ring[VSOCK_RX], NULL, 0, &b, 1);
}

static void start(void)
{
	fake_driver_start(&d, 0, 3, 64);
	fwd = 0;
	for (unsigned i = 0; i < NRX; i++)
		give(i);
	fake_driver_kick(&d, VSOCK_RX);
}

static void begin(enum fake_transport transport)
{
	struct err err = { "" };
	char keys[128];

	strcpy(dir, "/tmp/vsock-test.XXXXXX");
	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/v", dir);
	snprintf(keys, sizeof(keys), "cid=%u,socket=%s", CID, path);
	fake_env_init(&f, transport);
	cr_assert_eq(create(keys, &err), 0, "%s", err.text);
	fake_driver_find(&d, &f, 0, true);
	rx_at = fake_alloc(&f, NRX * RX_BYTES);
	rx_host = fake_at(&f, rx_at, NRX * RX_BYTES);
	tx_at = fake_alloc(&f, 1 << 17);
	tx_host = fake_at(&f, tx_at, 1 << 17);
	start();
}

static void end(void)
{
	char command[64];

	device_destroy(dev);
	cr_assert_neq(access(path, F_OK), 0, "the socket is gone");
	fake_env_destroy(&f);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	cr_assert_eq(system(command), 0);
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

/* --- the host's side ----------------------------------------------------------- */

static void address(struct sockaddr_un *addr, int port)
{
	*addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (port < 0)
		snprintf(addr->sun_path, sizeof(addr->sun_path), "%s", path);
	else
		snprintf(addr->sun_path, sizeof(addr->sun_path), "%s_%d", path, port);
}

static int serve(int port, int backlog)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr;

	address(&addr, port);
	cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	cr_assert_eq(listen(fd, backlog), 0);
	return fd;
}

static int host_connect(const char *line)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr;

	address(&addr, -1);
	cr_assert_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	cr_assert_eq(write(fd, line, strlen(line)), (ssize_t)strlen(line));
	fake_run(&f);
	fake_run(&f);
	return fd;
}

/* --- the guest's side ---------------------------------------------------------- */

static bool used(void *arg)
{
	struct fake_used_elem e;
	struct fake_ring *r = &d.ring[VSOCK_RX];

	if (*(bool *)arg)
		return true;
	if (!fake_ring_take(r, &e))
		return false;
	got_data = fake_at(&f, gpa(r->desc[e.id].addr), RX_BYTES);
	memcpy(&got, got_data, sizeof(got));
	got_data += sizeof(got);
	cr_assert_eq(e.len, sizeof(got) + got.len_bytes);
	cr_assert_eq(got.dst_cid, CID);
	fake_ring_offer(r, (uint16_t)e.id);
	return *(bool *)arg = true;
}

/* The next packet for the guest; its buffer is given back, but not kicked for. */
static bool take(void)
{
	bool have = false;

	return fake_run_until(&f, used, &have);
}

static bool silent(void)
{
	bool have = false;

	for (unsigned i = 0; i < 5; i++) {
		fake_run(&f);
		usleep(1000);
	}
	return !used(&have);
}

static struct vsock_hdr make(unsigned op, uint32_t guest_port, uint32_t host_port, uint32_t len)
{
	return (struct vsock_hdr){ .src_cid = CID, .dst_cid = 2, .src_port = guest_port,
				   .dst_port = host_port, .len_bytes = len, .type = 1,
				   .op = (uint16_t)op, .buf_alloc = GUEST_ROOM, .fwd_cnt = fwd };
}

/* hdr and have bytes of data, in two descriptors. */
static void send_raw(const struct vsock_hdr *hdr, const void *data, uint32_t have)
{
	struct fake_buf b[2] = { { tx_at.v, sizeof(*hdr) }, { tx_at.v + 64, have } };
	struct fake_used_elem e;

	memcpy(tx_host, hdr, sizeof(*hdr));
	if (have)
		memcpy(tx_host + 64, data, have);
	fake_ring_add(&d.ring[VSOCK_TX], b, have ? 2 : 1, NULL, 0);
	fake_driver_kick(&d, VSOCK_TX);
	fake_run(&f);
	cr_assert(fake_ring_take(&d.ring[VSOCK_TX], &e), "the packet is given back");
}

static void send_packet(unsigned op, uint32_t guest_port, uint32_t host_port, const void *data,
		 uint32_t len)
{
	struct vsock_hdr hdr = make(op, guest_port, host_port, len);

	send_raw(&hdr, data, len);
}

static void send_shutdown(uint32_t guest_port, uint32_t host_port, uint32_t flags)
{
	struct vsock_hdr hdr = make(VSOCK_OP_SHUTDOWN, guest_port, host_port, 0);

	hdr.flags = flags;
	send_raw(&hdr, NULL, 0);
}

static void expect(unsigned op, uint32_t guest_port, uint32_t host_port)
{
	cr_assert(take(), "a packet %u comes", op);
	cr_assert_eq(got.op, op, "%u, not %u", got.op, op);
	cr_assert_eq(got.src_cid, 2);
	cr_assert_eq(got.type, 1);
	cr_assert_eq(got.src_port, host_port);
	cr_assert_eq(got.dst_port, guest_port);
}

/* The guest connects to a server of the host; returns the server's end. */
static int open_out(int server, uint32_t guest_port, uint32_t host_port)
{
	int fd;

	send_packet(VSOCK_OP_REQUEST, guest_port, host_port, NULL, 0);
	expect(VSOCK_OP_RESPONSE, guest_port, host_port);
	cr_assert(got.buf_alloc >= 65536);
	fd = accept4(server, NULL, NULL, SOCK_NONBLOCK);
	cr_assert(fd >= 0);
	return fd;
}

static void drain(void)
{
	bool have = false;

	for (unsigned i = 0; i < 5; i++) {
		fake_driver_kick(&d, VSOCK_RX);
		while (used(&have))
			have = false;
	}
}

static _Atomic bool was_reset;

static void *reset_main(void *arg)
{
	fake_driver_set_status(&d, 0);
	was_reset = true;
	return NULL;
}

static bool is_reset(void *arg)
{
	return was_reset;
}

/* As a vCPU does it: the loop runs meanwhile. */
static void reset(void)
{
	pthread_t thread;

	was_reset = false;
	cr_assert_eq(pthread_create(&thread, NULL, reset_main, NULL), 0);
	cr_assert(fake_run_until(&f, is_reset, NULL));
	pthread_join(thread, NULL);
}

static bool at_end(int fd)
{
	return read(fd, text, 1) == 0;
}

TestSuite(vsock, .timeout = 60);

/* --- tests ----------------------------------------------------------------------- */

static void guest_to_host(void)
{
	int server = serve(52, 4), fd = open_out(server, 1000, 52);

	cr_assert_eq(fake_driver_config(&d, 0, 4), CID);
	cr_assert_eq(fake_driver_config(&d, 4, 4), 0);
	send_packet(VSOCK_OP_RW, 1000, 52, "hello", 5);
	cr_assert_eq(read(fd, text, 100), 5);
	cr_assert_arr_eq(text, "hello", 5);
	cr_assert_eq(write(fd, "welcome", 7), 7);
	expect(VSOCK_OP_RW, 1000, 52);
	cr_assert_eq(got.len_bytes, 7);
	cr_assert_eq(got.fwd_cnt, 5);
	cr_assert_arr_eq(got_data, "welcome", 7);
	send_packet(VSOCK_OP_CREDIT_REQUEST, 1000, 52, NULL, 0);
	expect(VSOCK_OP_CREDIT_UPDATE, 1000, 52);
	/* The guest closes: Linux waits for the reset. */
	send_shutdown(1000, 52, VSOCK_SHUT_BOTH);
	expect(VSOCK_OP_RST, 1000, 52);
	cr_assert(at_end(fd));
	cr_assert(silent());
	close(fd);
	close(server);
	unlink(strcat(strcpy(text, path), "_52"));
}

Test(vsock, guest_to_host)
{
	both(guest_to_host);
}

static void host_to_guest(void)
{
	int fd = host_connect("CONNECT 7\nearly");
	char want[24];
	uint32_t port;

	cr_assert(take());
	cr_assert_eq(got.op, VSOCK_OP_REQUEST);
	cr_assert_eq(got.dst_port, 7);
	port = got.src_port;
	cr_assert_eq(read(fd, text, 1), -1);
	send_packet(VSOCK_OP_RESPONSE, 7, port, NULL, 0);
	snprintf(want, sizeof(want), "OK %u\n", port);
	cr_assert_eq(read(fd, text, 100), (ssize_t)strlen(want));
	cr_assert_arr_eq(text, want, strlen(want));
	/* What came with the line is the guest's. */
	expect(VSOCK_OP_RW, 7, port);
	cr_assert_eq(got.len_bytes, 5);
	cr_assert_arr_eq(got_data, "early", 5);
	/* The host program ends. */
	cr_assert_eq(write(fd, "bye", 3), 3);
	close(fd);
	expect(VSOCK_OP_RW, 7, port);
	do
		expect(VSOCK_OP_SHUTDOWN, 7, port);
	while (got.flags != VSOCK_SHUT_BOTH);
	send_packet(VSOCK_OP_RST, 7, port, NULL, 0);
	cr_assert(silent());
	/* Nobody listens. */
	fd = host_connect("CONNECT 8\n");
	cr_assert(take());
	cr_assert_neq(got.src_port, port);
	send_packet(VSOCK_OP_RST, 8, got.src_port, NULL, 0);
	cr_assert(at_end(fd));
	close(fd);
	/* It gives up before the guest answers. */
	fd = host_connect("CONNECT 9\n");
	cr_assert(take());
	close(fd);
	expect(VSOCK_OP_RST, 9, got.src_port);
	cr_assert(silent());
}

Test(vsock, host_to_guest)
{
	both(host_to_guest);
}

static void greetings(void)
{
	static const char *const bad[] = {
		"\n", "CONNECT\n", "CONNECT \n", "connect 1\n", "CONNECT -1\n", "CONNECT 1x\n",
		"CONNECT 4294967295\n", "CONNECT 99999999999\n", "CONNECT 1 2\n",
		"GET / HTTP/1.1\r\nHost: nobody\r\n", "CONNECT 00000000000000000000000000001\n" };
	int fd;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		fd = host_connect(bad[i]);
		errno = 0;
		cr_assert(read(fd, text, 1) <= 0 && errno != EAGAIN, "%u", i);
		close(fd);
	}
	/* Byte by byte. */
	fd = host_connect("C");
	for (const char *c = "ONNECT 77\n"; *c; c++) {
		cr_assert_eq(write(fd, c, 1), 1);
		fake_run(&f);
	}
	cr_assert(take());
	cr_assert_eq(got.dst_port, 77);
	close(fd);
	fd = host_connect("CONN");
	close(fd);
	fake_run(&f);
	/* Without a driver. */
	reset();
	fd = host_connect("CONNECT 1\n");
	cr_assert(at_end(fd));
	close(fd);
}

Test(vsock, greetings)
{
	begin(FAKE_PCI);
	greetings();
	end();
}

static void nobody(void)
{
	int server, fd;

	send_packet(VSOCK_OP_REQUEST, 1000, 99, NULL, 0);
	expect(VSOCK_OP_RST, 1000, 99);
	/* Every packet but a reset that belongs to no connection. */
	for (unsigned op = 0; op < 10; op++) {
		send_packet(op, 5, 6, NULL, 0);
		if (op == VSOCK_OP_RST)
			cr_assert(silent());
		else
			expect(VSOCK_OP_RST, 5, 6);
	}
	/* A request where there is a connection already ends that. */
	server = serve(50, 4);
	fd = open_out(server, 1000, 50);
	send_packet(VSOCK_OP_REQUEST, 1000, 50, NULL, 0);
	expect(VSOCK_OP_RST, 1000, 50);
	cr_assert(at_end(fd));
	close(fd);
	close(server);
	unlink(strcat(strcpy(text, path), "_50"));
}

Test(vsock, nobody)
{
	both(nobody);
}

static void half_close(void)
{
	int server = serve(1, 4), fd = open_out(server, 10, 1);

	/* The guest has said all; the answer still comes. */
	send_packet(VSOCK_OP_RW, 10, 1, "request", 7);
	send_shutdown(10, 1, VSOCK_SHUT_SEND);
	cr_assert_eq(read(fd, text, 100), 7);
	cr_assert(at_end(fd));
	cr_assert_eq(write(fd, "answer", 6), 6);
	expect(VSOCK_OP_RW, 10, 1);
	cr_assert_arr_eq(got_data, "answer", 6);
	close(fd);
	do
		expect(VSOCK_OP_SHUTDOWN, 10, 1);
	while (got.flags != VSOCK_SHUT_BOTH);
	/* The other way round. */
	fd = open_out(server, 11, 1);
	cr_assert_eq(write(fd, "request", 7), 7);
	shutdown(fd, SHUT_WR);
	expect(VSOCK_OP_RW, 11, 1);
	expect(VSOCK_OP_SHUTDOWN, 11, 1);
	cr_assert_eq(got.flags, VSOCK_SHUT_SEND);
	send_packet(VSOCK_OP_RW, 11, 1, "answer", 6);
	cr_assert_eq(read(fd, text, 100), 6);
	send_shutdown(11, 1, VSOCK_SHUT_BOTH);
	expect(VSOCK_OP_RST, 11, 1);
	cr_assert(at_end(fd));
	close(fd);
	/* The host program stops reading for good: the guest hears of it. */
	fd = open_out(server, 12, 1);
	shutdown(fd, SHUT_RD);
	send_packet(VSOCK_OP_RW, 12, 1, "lost", 4);
	expect(VSOCK_OP_SHUTDOWN, 12, 1);
	cr_assert_eq(got.flags, VSOCK_SHUT_RCV);
	send_packet(VSOCK_OP_RW, 12, 1, "lost too", 8);
	cr_assert_eq(write(fd, "x", 1), 1);
	expect(VSOCK_OP_RW, 12, 1);
	/* The guest stops reading: the host program hears of it. */
	send_shutdown(12, 1, VSOCK_SHUT_RCV);
	
	cr_assert_eq(sendto(fd, "x", 1, MSG_NOSIGNAL, NULL, 0), -1);
	cr_assert_eq(errno, EPIPE);
	/* Data after the end of data. */
	close(fd);
	drain();
	fd = open_out(server, 13, 1);
	send_shutdown(13, 1, VSOCK_SHUT_SEND);
	send_packet(VSOCK_OP_RW, 13, 1, "more", 4);
	for (;;) {
		cr_assert(take());
		if (got.dst_port == 13 && got.op == VSOCK_OP_RST)
			break;
	}
	close(fd);
	close(server);
	unlink(strcat(strcpy(text, path), "_1"));
}

Test(vsock, half_close)
{
	both(half_close);
}

/* A host program that does not read: the guest's credit runs out, other connections go on. */
static void stalled_reader(void)
{
	int server = serve(1, 4), fd = open_out(server, 10, 1), other;
	uint32_t room = got.buf_alloc, sent = 0, told = 0, n = 0;
	bool reset = false;

	while (sent - told + 4096 <= room) {
		uint32_t pattern[1024];
		bool have = false;

		for (unsigned i = 0; i < 1024; i++)
			pattern[i] = sent / 4 + i;
		send_packet(VSOCK_OP_RW, 10, 1, pattern, 4096);
		sent += 4096;
		cr_assert(sent < 64u << 20, "it ends");
		while (used(&have)) {
			cr_assert_eq(got.op, VSOCK_OP_CREDIT_UPDATE);
			told = got.fwd_cnt;
			have = false;
		}
	}
	other = open_out(server, 11, 1);
	send_packet(VSOCK_OP_RW, 11, 1, "quick", 5);
	cr_assert_eq(read(other, text, 10), 5);
	close(other);
	/* It reads after all. All comes, in order. */
	for (uint32_t word, have = 0; n < sent; n += 4, have -= 4) {
		ssize_t rc = read(fd, &word, 4);

		for (unsigned i = 0; rc < 0 && i < 100; i++) {
			fake_run(&f);
			rc = read(fd, &word, 4);
		}
		cr_assert_eq(rc, 4, "at %u of %u", n, sent);
		cr_assert_eq(word, n / 4);
	}
	/* More than its credit. */
	fwd = 0;
	for (unsigned i = 0; i < 1000 && !reset; i++) {
		bool have = false;

		send_packet(VSOCK_OP_RW, 10, 1, text, 60000);
		while (used(&have)) {
			reset |= got.op == VSOCK_OP_RST && got.dst_port == 10;
			have = false;
		}
	}
	cr_assert(reset, "a guest that ignores credit is cut off");
	close(fd);
	close(server);
	unlink(strcat(strcpy(text, path), "_1"));
}

Test(vsock, stalled_reader)
{
	begin(FAKE_PCI);
	stalled_reader();
	end();
}

/* What the guest had sent before it closed arrives, however late the host program reads. */
Test(vsock, close_with_data_kept)
{
	int server, fd;
	size_t n = 0;

	begin(FAKE_PCI);
	server = serve(1, 4);
	fd = open_out(server, 10, 1);
	for (unsigned i = 0; i < 10; i++)
		send_packet(VSOCK_OP_RW, 10, 1, text, 40000);
	send_shutdown(10, 1, VSOCK_SHUT_BOTH);
	send_packet(VSOCK_OP_RST, 10, 1, NULL, 0);
	for (unsigned i = 0; i < 1000 && n < 400000; i++) {
		ssize_t rc = read(fd, text, 10000);

		n += rc > 0 ? (size_t)rc : 0;
		fake_run(&f);
	}
	cr_assert_eq(n, 400000);
	cr_assert(at_end(fd));
	/* And a reset of the device forgets the guest's connections. */
	drain();
	fd = open_out(server, 10, 1);
	reset();
	cr_assert(at_end(fd));
	start();
	fd = open_out(server, 10, 1);
	close(server);
	unlink(strcat(strcpy(text, path), "_1"));
	end();
}

/* A guest that does not read stops us; credit goes on; every byte once. */
static void guest_credit(void)
{
	int server = serve(1, 4), fd = open_out(server, 10, 1);
	uint32_t sent = 0, seen = 0;

	while (seen < 1 << 20) {
		bool have = false;

		while (sent < 1 << 20) {
			uint32_t word = sent;
			ssize_t rc = write(fd, &word, 4);

			if (rc != 4)
				break;
			sent += 4;
		}
		fake_driver_kick(&d, VSOCK_RX);
		while (used(&have)) {
			have = false;
			if (got.op == VSOCK_OP_CREDIT_REQUEST) {
				cr_assert_eq(seen - fwd, GUEST_ROOM, "only when there is none");
				fwd = seen;
				send_packet(VSOCK_OP_CREDIT_UPDATE, 10, 1, NULL, 0);
				continue;
			}
			cr_assert_eq(got.op, VSOCK_OP_RW);
			for (unsigned i = 0; i < got.len_bytes; i += 4, seen += 4)
				cr_assert_eq(*(uint32_t *)(got_data + i), seen);
			cr_assert(seen - fwd <= GUEST_ROOM);
		}
	}
	close(fd);
	close(server);
	unlink(strcat(strcpy(text, path), "_1"));
}

Test(vsock, guest_credit)
{
	both(guest_credit);
}

/* As many as fit, and one more; all of them say something, and all get it. */
Test(vsock, many)
{
	static int fd[VSOCK_MAX_CONNS];
	int server;

	begin(FAKE_PCI);
	server = serve(1, 4096);
	for (unsigned i = 0; i < VSOCK_MAX_CONNS; i++) {
		fd[i] = open_out(server, 10 + i, 1);
		fake_driver_kick(&d, VSOCK_RX);
	}
	send_packet(VSOCK_OP_REQUEST, 9, 1, NULL, 0);
	expect(VSOCK_OP_RST, 9, 1);
	for (unsigned i = 0; i < VSOCK_MAX_CONNS; i++)
		cr_assert_eq(write(fd[i], &i, 4), 4);
	for (unsigned i = 0; i < VSOCK_MAX_CONNS; i++) {
		cr_assert(take());
		cr_assert_eq(got.op, VSOCK_OP_RW);
		cr_assert_eq(*(uint32_t *)got_data, got.dst_port - 10);
		fake_driver_kick(&d, VSOCK_RX);
	}
	for (unsigned i = 0; i < VSOCK_MAX_CONNS; i++) {
		send_packet(VSOCK_OP_RST, 10 + i, 1, NULL, 0);
		cr_assert(at_end(fd[i]));
		close(fd[i]);
	}
	close(open_out(server, 9, 1));
	close(server);
	unlink(strcat(strcpy(text, path), "_1"));
	end();
}

/* A server whose backlog is full gets its connections later. */
Test(vsock, backlog)
{
	unsigned answers = 0;
	int server;

	begin(FAKE_PCI);
	server = serve(1, 1);
	for (unsigned i = 0; i < 10; i++)
		send_packet(VSOCK_OP_REQUEST, 10 + i, 1, NULL, 0);
	for (unsigned i = 0; i < 200 && answers < 10; i++) {
		bool have = false;

		close(accept(server, NULL, NULL));
		fake_driver_kick(&d, VSOCK_RX);
		while (used(&have)) {
			answers += got.op == VSOCK_OP_RESPONSE;
			cr_assert_neq(got.op, VSOCK_OP_RST);
			have = false;
		}
		usleep(5000);
	}
	cr_assert_eq(answers, 10);
	close(server);
	unlink(strcat(strcpy(text, path), "_1"));
	end();
}

/* Without receive buffers nothing is lost, and what waits is bounded. */
Test(vsock, no_buffers)
{
	struct fake_used_elem e;
	unsigned n = 0;

	begin(FAKE_PCI);
	fake_driver_start(&d, 0, 3, 64);
	for (unsigned i = 0; i < 60; i++)
		send_packet(VSOCK_OP_RW, 5, i, NULL, 0);
	for (unsigned i = 0; i < 50; i++) {
		struct vsock_hdr hdr = make(VSOCK_OP_RW, 5, 100 + i, 0);
		struct fake_buf b = { tx_at.v + 64 * i, sizeof(hdr) };

		memcpy(tx_host + 64 * i, &hdr, sizeof(hdr));
		fake_ring_add(&d.ring[VSOCK_TX], &b, 1, NULL, 0);
	}
	fake_driver_kick(&d, VSOCK_TX);
	while (fake_ring_take(&d.ring[VSOCK_TX], &e))
		n++;
	cr_assert_eq(n, VSOCK_MAX_STRAYS - 60);
	for (unsigned i = 0; i < NRX; i++)
		give(i);
	for (n = 0; n < 110; n++) {
		fake_driver_kick(&d, VSOCK_RX);
		expect(VSOCK_OP_RST, 5, n < 60 ? n : 40 + n);
	}
	end();
}

static void hostile(void)
{
	static const struct {
		const char *what;
		unsigned at, len;	/* of the header */
		uint64_t val;
		bool answered;
	} bad[] = {
		{ "foreign source", 0, 8, 43, false },
		{ "source with high bits", 0, 8, CID | 1ull << 40, false },
		{ "foreign destination", 8, 8, 3, true },
		{ "itself", 8, 8, CID, true },
		{ "hypervisor", 8, 8, 0, true },
		{ "high bits", 8, 8, 2 | 1ull << 32, true },
		{ "too long", 24, 4, 101, true },
		{ "far too long", 24, 4, 0xffffffff, true },
		{ "no type", 28, 2, 0, true },
		{ "datagram", 28, 2, 3, true },
		{ "seqpacket", 28, 2, 2, true },
		{ "operation 0", 30, 2, 0, true },
		{ "operation 8", 30, 2, 8, true },
		{ "operation 65535", 30, 2, 65535, true },
	};
	int server = serve(1, 4), fd;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct vsock_hdr hdr = make(VSOCK_OP_RW, 10, 1, 100);

		fd = open_out(server, 10, 1);
		memcpy((uint8_t *)&hdr + bad[i].at, &bad[i].val, bad[i].len);
		send_raw(&hdr, text, 100);
		if (bad[i].answered) {
			cr_assert(take(), "%s", bad[i].what);
			cr_assert_eq(got.op, VSOCK_OP_RST, "%s", bad[i].what);
			cr_assert_eq(got.src_cid, hdr.dst_cid);
			cr_assert_eq(got.type, bad[i].at == 28 ? bad[i].val : 1);
		}
		cr_assert_eq(read(fd, text, 100) > 0, 0, "%s", bad[i].what);
		send_packet(VSOCK_OP_RST, 10, 1, NULL, 0);
		fake_run(&f);
		close(fd);
		cr_assert(silent());
	}
	close(server);
	unlink(strcat(strcpy(text, path), "_1"));
}

Test(vsock, hostile)
{
	both(hostile);
}

/* Any credit that a guest can claim, and any order of operations. */
Test(vsock, hostile_credit)
{
	static const uint32_t vals[] = { 0, 1, 44, 65536, 0x7fffffff, 0x80000000, 0xfffffffe, ~0u };
	int server, fd;

	begin(FAKE_PCI);
	server = serve(1, 4);
	for (unsigned a = 0; a < 8; a++)
		for (unsigned b = 0; b < 8; b++) {
			struct vsock_hdr hdr = make(VSOCK_OP_CREDIT_UPDATE, 10, 1, 0);
			bool have = false;

			fd = open_out(server, 10, 1);
			hdr.buf_alloc = vals[a];
			hdr.fwd_cnt = vals[b];
			send_raw(&hdr, NULL, 0);
			cr_assert(write(fd, text, 50000) > 0);
			for (unsigned i = 0; i < 10; i++)
				fake_driver_kick(&d, VSOCK_RX);
			send_packet(VSOCK_OP_RST, 10, 1, NULL, 0);
			while (used(&have))
				have = false;
			close(fd);
		}
	srand(1);
	for (unsigned i = 0; i < 5000; i++) {
		bool have = false;

		send_packet((unsigned)rand() % 8, 10 + (unsigned)rand() % 3, 1, text, (unsigned)rand() % 100);
		if (rand() % 4 == 0)
			close(accept(server, NULL, NULL));
		fake_driver_kick(&d, VSOCK_RX);
		while (used(&have))
			have = false;
	}
	close(server);
	unlink(strcat(strcpy(text, path), "_1"));
	end();
}

static void broken_rings(void)
{
	static const struct fake_buf bad[] = { { 0x10, 0 }, { ~0ull, 64 }, { 1ull << 40, 64 },
					       { FAKE_LOW_BYTES - 2, 64 } };
	struct fake_buf small = { tx_at.v, 44 }, b = { tx_at.v, 43 };
	struct fake_used_elem e;

	for (unsigned q = 0; q < 2; q++)
		for (unsigned i = 0; i < 4; i++) {
			fake_driver_start(&d, 0, 3, 64);
			if (q == VSOCK_TX)
				fake_ring_add(&d.ring[q], &bad[i], 1, NULL, 0);
			else
				fake_ring_add(&d.ring[q], NULL, 0, &bad[i], 1);
			fake_driver_kick(&d, q);
			if (q == VSOCK_RX)
				send_packet(VSOCK_OP_RW, 1, 1, NULL, 0);
			cr_assert(fake_driver_status(&d) & VIRTIO_STATUS_NEEDS_RESET, "%u %u", q, i);
		}
	for (unsigned i = 0; i < 2; i++) {	/* not writable; no room behind the header */
		fake_driver_start(&d, 0, 3, 64);
		fake_ring_add(&d.ring[VSOCK_RX], &small, !i, &small, i);
		send_packet(VSOCK_OP_RW, 1, 1, NULL, 0);
		cr_assert(fake_driver_status(&d) & VIRTIO_STATUS_NEEDS_RESET);
	}
	/* Short packets are dropped, and it works on. */
	start();
	fake_ring_add(&d.ring[VSOCK_TX], &b, 1, NULL, 0);
	fake_ring_add(&d.ring[VSOCK_TX], NULL, 0, &b, 1);
	fake_driver_kick(&d, VSOCK_TX);
	cr_assert(fake_ring_take(&d.ring[VSOCK_TX], &e) && fake_ring_take(&d.ring[VSOCK_TX], &e));
	fake_driver_kick(&d, 2);
	send_packet(VSOCK_OP_REQUEST, 1000, 99, NULL, 0);
	expect(VSOCK_OP_RST, 1000, 99);
}

Test(vsock, broken_rings)
{
	both(broken_rings);
}

Test(vsock, options)
{
	static const char *const bad[] = { "cid=0,socket=/tmp/x", "cid=1,socket=/tmp/x",
					   "cid=2,socket=/tmp/x", "cid=4294967295,socket=/tmp/x",
					   "cid=4294967296,socket=/tmp/x", "cid=3", "socket=/tmp/x",
					   "cid=3,socket=/tmp", "cid=3,socket=/no/such/dir/x",
					   "cid=3,vhost=off", "cid=3,vhost=auto", "vhost=on",
					   "cid=2,vhost=on", "cid=3,vhost=on,socket=/tmp/x" };
	struct device *first;
	struct err err;
	char keys[256];
	struct stat st;

	begin(FAKE_PCI);
	first = dev;
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0600);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err.text[0] = 0;
		cr_assert_lt(create(bad[i], &err), 0, "%s", bad[i]);
		cr_assert_neq(err.text[0], 0);
	}
	snprintf(keys, sizeof(keys), "cid=3,socket=/tmp/%0110d", 1);
	cr_assert_eq(create(keys, &err), -ENAMETOOLONG);
	snprintf(keys, sizeof(keys), "cid=3,socket=%s", path);
	cr_assert_eq(create(keys, &err), -EADDRINUSE);
	cr_assert(strstr(err.text, "another process listens there"), "%s", err.text);
	/* A dead VM's socket is replaced. */
	close(serve(1, 1));
	snprintf(keys, sizeof(keys), "cid=3,socket=%s_1", path);
	cr_assert_eq(create(keys, &err), 0, "%s", err.text);
	device_destroy(dev);
	/* Nothing to fall back from, or nothing to fail for. */
	if (access("/dev/vhost-vsock", F_OK)) {
		cr_assert_eq(create("cid=3,vhost=on", &err), -ENOENT);
		cr_assert(strstr(err.text, "load the module vhost-vsock"), "%s", err.text);
		snprintf(keys, sizeof(keys), "cid=3,vhost=auto,socket=%s_1", path);
		cr_assert_eq(create(keys, &err), 0, "%s", err.text);
		device_destroy(dev);
	}
	dev = first;
	end();
}
