/*
 * test_vsock: virtio-vsock as a device, over both transports: connections in both directions, many
 * connections, hostile packets and rings, options. test_vsock_conn.c tests a single connection.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/resource.h>
#include <unistd.h>

#include "devices/virtio/vsock/vsock.h"
#include "tests/unit/vpeer.h"
#include "vmm/core/keep.h"

TestSuite(vsock, .timeout = 60);

static void guest_to_host(void)
{
	int server = vpeer_serve(52, 4), fd = vpeer_open_out(server, 1000, 52);

	cr_assert_eq(fake_driver_config(&vp.d, 0, 4), VPEER_CID);
	cr_assert_eq(fake_driver_config(&vp.d, 4, 4), 0);
	vpeer_send_packet(VSOCK_OP_RW, 1000, 52, "hello", 5);
	cr_assert_eq(read(fd, vp.text, 100), 5);
	cr_assert_arr_eq(vp.text, "hello", 5);
	cr_assert_eq(write(fd, "welcome", 7), 7);
	vpeer_expect(VSOCK_OP_RW, 1000, 52);
	cr_assert_eq(vp.got.len_bytes, 7);
	cr_assert_eq(vp.got.fwd_cnt, 5);
	cr_assert_arr_eq(vp.got_data, "welcome", 7);
	vpeer_send_packet(VSOCK_OP_CREDIT_REQUEST, 1000, 52, NULL, 0);
	vpeer_expect(VSOCK_OP_CREDIT_UPDATE, 1000, 52);
	/* The guest closes: Linux waits for the reset. */
	vpeer_send_shutdown(1000, 52, VSOCK_SHUT_BOTH);
	vpeer_expect(VSOCK_OP_RST, 1000, 52);
	cr_assert(vpeer_at_end(fd));
	cr_assert(vpeer_silent());
	close(fd);
	close(server);
	unlink(strcat(strcpy(vp.text, vp.path), "_52"));
}

Test(vsock, guest_to_host)
{
	vpeer_both(guest_to_host);
}

static void host_to_guest(void)
{
	int fd = vpeer_host_connect("CONNECT 7\nearly");
	char want[24];
	uint32_t port;

	cr_assert(vpeer_take());
	cr_assert_eq(vp.got.op, VSOCK_OP_REQUEST);
	cr_assert_eq(vp.got.dst_port, 7);
	port = vp.got.src_port;
	cr_assert_eq(read(fd, vp.text, 1), -1);
	vpeer_send_packet(VSOCK_OP_RESPONSE, 7, port, NULL, 0);
	snprintf(want, sizeof(want), "OK %u\n", port);
	cr_assert_eq(read(fd, vp.text, 100), (ssize_t)strlen(want));
	cr_assert_arr_eq(vp.text, want, strlen(want));
	/* The bytes after the line are data for the guest. */
	vpeer_expect(VSOCK_OP_RW, 7, port);
	cr_assert_eq(vp.got.len_bytes, 5);
	cr_assert_arr_eq(vp.got_data, "early", 5);
	/* The host program ends. */
	cr_assert_eq(write(fd, "bye", 3), 3);
	close(fd);
	vpeer_expect(VSOCK_OP_RW, 7, port);
	do
		vpeer_expect(VSOCK_OP_SHUTDOWN, 7, port);
	while (vp.got.flags != VSOCK_SHUT_BOTH);
	vpeer_send_packet(VSOCK_OP_RST, 7, port, NULL, 0);
	cr_assert(vpeer_silent());
	/* The guest has no listener at port 8. */
	fd = vpeer_host_connect("CONNECT 8\n");
	cr_assert(vpeer_take());
	cr_assert_neq(vp.got.src_port, port);
	vpeer_send_packet(VSOCK_OP_RST, 8, vp.got.src_port, NULL, 0);
	cr_assert(vpeer_at_end(fd));
	close(fd);
	/* The host program closes before the guest answers. */
	fd = vpeer_host_connect("CONNECT 9\n");
	cr_assert(vpeer_take());
	close(fd);
	vpeer_expect(VSOCK_OP_RST, 9, vp.got.src_port);
	cr_assert(vpeer_silent());
}

Test(vsock, host_to_guest)
{
	vpeer_both(host_to_guest);
}

static void greetings(void)
{
	static const struct {
		const char *line;
		int64_t port; /* -1: refused, for a reason with these words */
		const char *why;
	} table[] = {
		/* as Firecracker takes them */
		{ "connect 1\n", 1 },
		{ "cOnNeCt 1024\n", 1024 },
		{ "CONNECT 2\r\n", 2 },
		{ "CONNECT 3 \n", 3 },
		{ "CONNECT  4\n", 4 },
		{ "CONNECT\t5\n", 5 },
		{ " \t connect \t 6 \t\r\n", 6 },
		{ "CONNECT\v7\f\n", 7 },
		{ "CONNECT 0\n", 0 },
		{ "CONNECT 00000000000000000000008\n", 8 },
		{ "CONNECT 4294967294\n", 4294967294 },
		{ "\n", -1, "must be CONNECT" },
		{ "\r\n", -1, "must be CONNECT" },
		{ "CONNECTED 1\n", -1, "must be CONNECT" },
		{ "CONNECT1\n", -1, "must be CONNECT" },
		{ "X\nCONNECT 1\n", -1, "must be CONNECT" },
		{ "GET / HTTP/1.1\r\nHost: nobody\r\n", -1, "must be CONNECT" },
		{ "CONNECT\n", -1, "one port" },
		{ "CONNECT \n", -1, "one port" },
		{ "CONNECT 1 2\n", -1, "one port" },
		{ "CONNECT -1\n", -1, "a number from" },
		{ "CONNECT +1\n", -1, "a number from" },
		{ "CONNECT 1x\n", -1, "a number from" },
		{ "CONNECT 0x1\n", -1, "a number from" },
		{ "CONNECT 1k\n", -1, "a number from" },
		{ "CONNECT 4294967295\n", -1, "a number from" },
		{ "CONNECT 99999999999\n", -1, "a number from" },
		{ "CONNECT 99999999999999999999999\n", -1, "a number from" },
		{ "CONNECT 00000000000000000000000000001\n", -1, "too long" },
	};
	int fd;

	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		ssize_t n;

		fd = vpeer_host_connect(table[i].line);
		if (table[i].port >= 0) {
			cr_assert(vpeer_take(), "%u", i);
			cr_assert_eq(vp.got.op, VSOCK_OP_REQUEST);
			cr_expect_eq(vp.got.dst_port, table[i].port, "%u", i);
			close(fd);
			vpeer_expect(VSOCK_OP_RST, vp.got.dst_port, vp.got.src_port);
			continue;
		}
		n = read(fd, vp.text, 200);
		cr_assert(n > 0, "%u", i);
		vp.text[n] = 0;
		cr_expect(!strncmp(vp.text, "ERROR ", 6) && strstr(vp.text, table[i].why) &&
				  vp.text[n - 1] == '\n',
			  "%u: %s", i, vp.text);
		errno = 0;
		cr_assert(read(fd, vp.text, 1) <= 0 && errno != EAGAIN, "%u", i);
		close(fd);
	}
	/* Byte by byte. */
	fd = vpeer_host_connect("C");
	for (const char *c = "ONNECT 77\n"; *c; c++) {
		cr_assert_eq(write(fd, c, 1), 1);
		fake_run(&vp.f);
	}
	cr_assert(vpeer_take());
	cr_assert_eq(vp.got.dst_port, 77);
	close(fd);
	fd = vpeer_host_connect("CONN");
	close(fd);
	fake_run(&vp.f);
	/* Without a driver. */
	vpeer_reset();
	fd = vpeer_host_connect("CONNECT 1\n");
	cr_assert_gt(read(fd, vp.text, 200), 6);
	cr_expect(!strncmp(vp.text, "ERROR the guest has no driver", 29));
	cr_assert(vpeer_at_end(fd));
	close(fd);
}

/* The device does not wait for a host program that sends nothing, or only a part of the line. */
Test(vsock, patience)
{
	struct vsock *vs;
	int fd[4];

	vsock_patience_ms = 200;
	vpeer_begin(FAKE_PCI);
	vs = (struct vsock *)vp.dev;
	fd[0] = vpeer_host_connect("");
	fd[1] = vpeer_host_connect("CONNECT 1");
	fd[2] = vpeer_host_connect("CONNECT 1\n");
	cr_assert(vpeer_take());
	vpeer_send_packet(VSOCK_OP_RESPONSE, 1, vp.got.src_port, NULL, 0);
	for (unsigned i = 0; i < 200 && vs->nconns > 1; i++) {
		usleep(10000);
		fake_run(&vp.f);
	}
	cr_assert(vpeer_at_end(fd[0]) && vpeer_at_end(fd[1]));
	cr_assert(read(fd[2], vp.text, 100) > 3, "the third has its answer");
	cr_assert(vpeer_silent());
	cr_assert_eq(vs->nconns, 1);
	cr_assert_eq(vs->tick_ns, 0, "nothing to wait for");
	/* The next host program has its full time. */
	fd[3] = vpeer_host_connect("CONN");
	usleep(50000);
	cr_assert_eq(write(fd[3], "ECT 2\n", 6), 6);
	cr_assert(vpeer_take());
	cr_assert_eq(vp.got.op, VSOCK_OP_REQUEST);
	for (unsigned i = 0; i < 4; i++)
		close(fd[i]);
	vpeer_end();
}

Test(vsock, greetings)
{
	vpeer_begin(FAKE_PCI);
	greetings();
	vpeer_end();
}

#define STORM 32

/* The guest answers packets, resets connections, or sends unexpected packets. */
static void storm_answer(void)
{
	bool have = false;

	fake_driver_kick(&vp.d, VSOCK_RX);
	for (; vpeer_used(&have); have = false) {
		uint32_t guest_port = vp.got.dst_port, host_port = vp.got.src_port;
		unsigned what = (unsigned)rand() % 8;

		if (vp.got.op == VSOCK_OP_RST)
			continue;
		if (vp.got.op == VSOCK_OP_REQUEST && what)
			vpeer_send_packet(VSOCK_OP_RESPONSE, guest_port, host_port, NULL, 0);
		else if (vp.got.op == VSOCK_OP_SHUTDOWN || what < 2)
			vpeer_send_packet(VSOCK_OP_RST, guest_port, host_port, NULL, 0);
		else if (what < 4)
			vpeer_send_shutdown(guest_port, host_port, what);
		else
			vpeer_send_packet(VSOCK_OP_RW, guest_port, host_port, vp.text, 5000);
	}
}

/* Many host programs at a time connect and close at every step of a connection. */
Test(vsock, host_storm)
{
	static const char *const lines[] = { "", "CONN", "CONNECT 5\n", "CONNECT 5\nearly",
					     "no\n" };
	struct vsock *vs;
	int fd[STORM];

	memset(fd, -1, sizeof(fd));
	srand(1);
	vsock_patience_ms = 300;
	vpeer_begin(FAKE_PCI);
	vs = (struct vsock *)vp.dev;
	for (unsigned i = 0; i < 6000; i++) {
		unsigned n = (unsigned)rand() % STORM, what = (unsigned)rand() % 8;

		if (fd[n] < 0) {
			fd[n] = vpeer_host_connect(lines[what % 5]);
		} else if (what < 3) {
			if (send(fd[n], vp.text, 3000, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
				cr_assert(errno == EPIPE || errno == EAGAIN || errno == ECONNRESET);
		} else if (what < 5) {
			if (read(fd[n], vp.text, 100) < 0)
				cr_assert(errno == EAGAIN || errno == ECONNRESET);
		} else if (what == 5) {
			shutdown(fd[n], SHUT_WR);
		} else {
			close(fd[n]);
			fd[n] = -1;
		}
		if (rand() % 4 == 0)
			storm_answer();
	}
	for (unsigned i = 0; i < STORM; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	for (unsigned i = 0; i < 1000 && vs->nconns; i++) {
		storm_answer();
		fake_run(&vp.f);
		usleep(1000);
	}
	cr_assert_eq(vs->nconns, 0);
	cr_assert(TAILQ_EMPTY(&vs->ready) && TAILQ_EMPTY(&vs->draining) && !vs->ntimed);
	vpeer_drain();
	/* After the storm a connection works. */
	fd[0] = vpeer_host_connect("CONNECT 5\n");
	cr_assert(vpeer_take());
	cr_assert_eq(vp.got.op, VSOCK_OP_REQUEST);
	close(fd[0]);
	vpeer_end();
}

static void no_connection(void)
{
	int server, fd;

	vpeer_send_packet(VSOCK_OP_REQUEST, 1000, 99, NULL, 0);
	vpeer_expect(VSOCK_OP_RST, 1000, 99);
	/* Every packet but a reset that belongs to no connection. */
	for (unsigned op = 0; op < 10; op++) {
		vpeer_send_packet(op, 5, 6, NULL, 0);
		if (op == VSOCK_OP_RST)
			cr_assert(vpeer_silent());
		else
			vpeer_expect(VSOCK_OP_RST, 5, 6);
	}
	/* A request for an existing connection ends the connection. */
	server = vpeer_serve(50, 4);
	fd = vpeer_open_out(server, 1000, 50);
	vpeer_send_packet(VSOCK_OP_REQUEST, 1000, 50, NULL, 0);
	vpeer_expect(VSOCK_OP_RST, 1000, 50);
	cr_assert(vpeer_at_end(fd));
	close(fd);
	close(server);
	unlink(strcat(strcpy(vp.text, vp.path), "_50"));
}

Test(vsock, no_connection)
{
	vpeer_both(no_connection);
}

/* As many connections as fit, and one more; each host program sends data, and the guest gets it. */
Test(vsock, many)
{
	static int fd[VSOCK_MAX_CONNS];
	int server;

	vpeer_begin(FAKE_PCI);
	server = vpeer_serve(1, 4096);
	for (unsigned i = 0; i < VSOCK_MAX_CONNS; i++) {
		fd[i] = vpeer_open_out(server, 10 + i, 1);
		fake_driver_kick(&vp.d, VSOCK_RX);
	}
	vpeer_send_packet(VSOCK_OP_REQUEST, 9, 1, NULL, 0);
	vpeer_expect(VSOCK_OP_RST, 9, 1);
	for (unsigned i = 0; i < VSOCK_MAX_CONNS; i++)
		cr_assert_eq(write(fd[i], &i, 4), 4);
	for (unsigned i = 0; i < VSOCK_MAX_CONNS; i++) {
		cr_assert(vpeer_take());
		cr_assert_eq(vp.got.op, VSOCK_OP_RW);
		cr_assert_eq(*(uint32_t *)vp.got_data, vp.got.dst_port - 10);
		fake_driver_kick(&vp.d, VSOCK_RX);
	}
	for (unsigned i = 0; i < VSOCK_MAX_CONNS; i++) {
		vpeer_send_packet(VSOCK_OP_RST, 10 + i, 1, NULL, 0);
		cr_assert(vpeer_at_end(fd[i]));
		close(fd[i]);
	}
	close(vpeer_open_out(server, 9, 1));
	close(server);
	unlink(strcat(strcpy(vp.text, vp.path), "_1"));
	vpeer_end();
}

/* Sends until the connection's credit is used up: the server's program does not read. */
static void fill(unsigned port, uint32_t room)
{
	while (room) {
		uint32_t part = room < 32768 ? room : 32768;

		vpeer_send_packet(VSOCK_OP_RW, port, 1, vp.text, part);
		room -= part;
	}
}

static unsigned long resident_bytes(void)
{
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");

	cr_assert(file);
	cr_assert_eq(fscanf(file, "%*u %lu", &pages), 1);
	fclose(file);
	return pages * 4096;
}

/* A guest with all connections that it can have cannot make the process keep more than the sum. */
Test(vsock, bytes_in_sum)
{
	static int fd[VSOCK_MAX_CONNS];
	unsigned long before, sum = 0;
	uint32_t room[2];
	bool have = false;
	int server;

	vpeer_begin(FAKE_PCI);
	server = vpeer_serve(1, 4096);
	before = resident_bytes();
	for (unsigned i = 0; i < VSOCK_MAX_CONNS; i++) {
		fd[i] = vpeer_open_out(server, 10 + i, 1);
		room[!!i] = vp.got.buf_alloc;
		cr_assert(room[!!i] >= VSOCK_ROOM_LEAST && room[!!i] <= VSOCK_ROOM);
		sum += room[!!i];
		fill(10 + i, room[!!i]);
		while (vpeer_used(&have))
			have = false;
		fake_driver_kick(&vp.d, VSOCK_RX);
	}
	cr_expect(sum > VSOCK_ROOM_SUM / 2 && sum <= VSOCK_ROOM_SUM, "%lu", sum);
	cr_expect_eq(room[0], VSOCK_ROOM, "one that is alone gets all");
	/* Beside the rings only the connections themselves, and the sanitizer's share of both. */
	cr_expect_lt(resident_bytes() - before, VSOCK_ROOM_SUM + (24u << 20));
	/* More than its credit ends a connection, and only that one. */
	fill(10 + 1000, 1 << 20);
	vpeer_drain();
	cr_assert(vpeer_silent());

	/* When others are gone, one that is read gets more room. */
	for (unsigned i = 0; i < VSOCK_MAX_CONNS - 1; i++) {
		vpeer_send_packet(VSOCK_OP_RST, 10 + i, 1, NULL, 0);
		close(fd[i]);
	}
	vpeer_drain();
	for (unsigned i = 0; i < 200; i++) {
		while (recv(fd[VSOCK_MAX_CONNS - 1], vp.text, 65536, MSG_DONTWAIT) > 0)
			fake_run(&vp.f);
		vpeer_send_packet(VSOCK_OP_RW, 10 + VSOCK_MAX_CONNS - 1, 1, vp.text, 2048);
		fake_driver_kick(&vp.d, VSOCK_RX);
		vpeer_drain();
	}
	cr_expect_eq(((struct vsock *)vp.dev)->room_sum, VSOCK_ROOM);
	close(fd[VSOCK_MAX_CONNS - 1]);
	close(server);
	unlink(strcat(strcpy(vp.text, vp.path), "_1"));
	vpeer_end();
}

/* No descriptor is left for a host program that connects: it waits, and then it is served. */
Test(vsock, no_descriptors)
{
	struct rlimit old, low;
	bool have = false;
	int fd;

	vpeer_begin(FAKE_PCI);
	fd = unix_socket_connect(vp.path, SOCK_NONBLOCK);
	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, "CONNECT 7\n", 10), 10);
	getrlimit(RLIMIT_NOFILE, &old);
	low = old;
	low.rlim_cur = 3;
	setrlimit(RLIMIT_NOFILE, &low);
	for (unsigned i = 0; i < 20; i++) {
		fake_run(&vp.f);
		usleep(2000);
	}
	cr_expect(!vpeer_used(&have));
	setrlimit(RLIMIT_NOFILE, &old);
	cr_assert(fake_run_until(&vp.f, vpeer_used, &have));
	cr_expect(vp.got.op == VSOCK_OP_REQUEST && vp.got.dst_port == 7);
	close(fd);
	vpeer_end();
}

/* A server whose backlog is full gets its connections later. */
Test(vsock, backlog)
{
	unsigned answers = 0;
	int server;

	vpeer_begin(FAKE_PCI);
	server = vpeer_serve(1, 1);
	for (unsigned i = 0; i < 10; i++)
		vpeer_send_packet(VSOCK_OP_REQUEST, 10 + i, 1, NULL, 0);
	for (unsigned i = 0; i < 200 && answers < 10; i++) {
		bool have = false;

		close(accept(server, NULL, NULL));
		fake_driver_kick(&vp.d, VSOCK_RX);
		while (vpeer_used(&have)) {
			answers += vp.got.op == VSOCK_OP_RESPONSE;
			cr_assert_neq(vp.got.op, VSOCK_OP_RST);
			have = false;
		}
		usleep(5000);
	}
	cr_assert_eq(answers, 10);
	close(server);
	unlink(strcat(strcpy(vp.text, vp.path), "_1"));
	vpeer_end();
}

/* Also while host programs keep connecting, which starts their own deadlines. */
Test(vsock, backlog_and_deadlines)
{
	int server, fd[60];
	bool answered = false;
	unsigned n;

	vpeer_begin(FAKE_PCI);
	server = vpeer_serve(1, 0);
	vpeer_open_out(server, 10, 1);
	vpeer_send_packet(VSOCK_OP_REQUEST, 11, 1, NULL, 0);
	vpeer_expect(VSOCK_OP_RESPONSE, 11, 1);
	vpeer_send_packet(VSOCK_OP_REQUEST, 12, 1, NULL, 0);
	cr_assert(vpeer_silent());
	close(accept(server, NULL, NULL));
	for (n = 0; n < 60 && !answered; n++) {
		bool have = false;

		fd[n] = vpeer_host_connect("CONNECT 7\n");
		while (vpeer_used(&have)) {
			answered |= vp.got.op == VSOCK_OP_RESPONSE && vp.got.dst_port == 12;
			have = false;
		}
		fake_driver_kick(&vp.d, VSOCK_RX);
		usleep(1000);
	}
	cr_assert(answered);
	while (n)
		close(fd[--n]);
	close(server);
	unlink(strcat(strcpy(vp.text, vp.path), "_1"));
	vpeer_end();
}

/* Without receive buffers no packet is lost, and the number of waiting packets is limited. */
Test(vsock, no_buffers)
{
	struct fake_used_elem e;
	unsigned n = 0;

	vpeer_begin(FAKE_PCI);
	fake_driver_start(&vp.d, 0, 3, 64);
	for (unsigned i = 0; i < 60; i++)
		vpeer_send_packet(VSOCK_OP_RW, 5, i, NULL, 0);
	for (unsigned i = 0; i < 50; i++) {
		struct vsock_hdr hdr = vpeer_make(VSOCK_OP_RW, 5, 100 + i, 0);
		struct fake_buf b = { vp.tx_at.v + 64 * i, sizeof(hdr) };

		memcpy(vp.tx_host + 64 * i, &hdr, sizeof(hdr));
		fake_ring_add(&vp.d.ring[VSOCK_TX], &b, 1, NULL, 0);
	}
	fake_driver_kick(&vp.d, VSOCK_TX);
	while (fake_ring_take(&vp.d.ring[VSOCK_TX], &e))
		n++;
	cr_assert_eq(n, VSOCK_MAX_STRAYS - 60);
	for (unsigned i = 0; i < VPEER_NRX; i++)
		vpeer_give(i);
	for (n = 0; n < 110; n++) {
		fake_driver_kick(&vp.d, VSOCK_RX);
		vpeer_expect(VSOCK_OP_RST, 5, n < 60 ? n : 40 + n);
	}
	vpeer_end();
}

static void hostile(void)
{
	static const struct {
		const char *what;
		unsigned at, len; /* a field of the header */
		uint64_t val;
		bool answered;
	} bad[] = {
		{ "foreign source", 0, 8, 43, false },
		{ "source with high bits", 0, 8, VPEER_CID | 1ull << 40, false },
		{ "foreign destination", 8, 8, 3, true },
		{ "itself", 8, 8, VPEER_CID, true },
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
	int server = vpeer_serve(1, 4), fd;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct vsock_hdr hdr = vpeer_make(VSOCK_OP_RW, 10, 1, 100);

		fd = vpeer_open_out(server, 10, 1);
		memcpy((uint8_t *)&hdr + bad[i].at, &bad[i].val, bad[i].len);
		vpeer_send_raw(&hdr, vp.text, 100);
		if (bad[i].answered) {
			cr_assert(vpeer_take(), "%s", bad[i].what);
			cr_assert_eq(vp.got.op, VSOCK_OP_RST, "%s", bad[i].what);
			cr_assert_eq(vp.got.src_cid, hdr.dst_cid);
			cr_assert_eq(vp.got.type, bad[i].at == 28 ? bad[i].val : 1);
		}
		cr_assert_eq(read(fd, vp.text, 100) > 0, 0, "%s", bad[i].what);
		vpeer_send_packet(VSOCK_OP_RST, 10, 1, NULL, 0);
		fake_run(&vp.f);
		close(fd);
		cr_assert(vpeer_silent());
	}
	close(server);
	unlink(strcat(strcpy(vp.text, vp.path), "_1"));
}

Test(vsock, hostile)
{
	vpeer_both(hostile);
}

static void broken_rings(void)
{
	static const struct fake_buf bad[] = {
		{ 0x10, 0 }, { ~0ull, 64 }, { 1ull << 40, 64 }, { FAKE_LOW_BYTES - 2, 64 }
	};
	struct fake_buf small = { vp.tx_at.v, 44 }, b = { vp.tx_at.v, 43 };
	struct fake_used_elem e;

	for (unsigned q = 0; q < 2; q++)
		for (unsigned i = 0; i < 4; i++) {
			fake_driver_start(&vp.d, 0, 3, 64);
			if (q == VSOCK_TX)
				fake_ring_add(&vp.d.ring[q], &bad[i], 1, NULL, 0);
			else
				fake_ring_add(&vp.d.ring[q], NULL, 0, &bad[i], 1);
			fake_driver_kick(&vp.d, q);
			if (q == VSOCK_RX)
				vpeer_send_packet(VSOCK_OP_RW, 1, 1, NULL, 0);
			cr_assert(fake_driver_status(&vp.d) & VIRTIO_STATUS_NEEDS_RESET, "%u %u", q,
				  i);
		}
	for (unsigned i = 0; i < 2; i++) { /* not writable; no room after the header */
		fake_driver_start(&vp.d, 0, 3, 64);
		fake_ring_add(&vp.d.ring[VSOCK_RX], &small, !i, &small, i);
		vpeer_send_packet(VSOCK_OP_RW, 1, 1, NULL, 0);
		cr_assert(fake_driver_status(&vp.d) & VIRTIO_STATUS_NEEDS_RESET);
	}
	/* The device drops short packets, and continues to work. */
	vpeer_start();
	fake_ring_add(&vp.d.ring[VSOCK_TX], &b, 1, NULL, 0);
	fake_ring_add(&vp.d.ring[VSOCK_TX], NULL, 0, &b, 1);
	fake_driver_kick(&vp.d, VSOCK_TX);
	cr_assert(fake_ring_take(&vp.d.ring[VSOCK_TX], &e) &&
		  fake_ring_take(&vp.d.ring[VSOCK_TX], &e));
	fake_driver_kick(&vp.d, 2);
	vpeer_send_packet(VSOCK_OP_REQUEST, 1000, 99, NULL, 0);
	vpeer_expect(VSOCK_OP_RST, 1000, 99);
}

Test(vsock, broken_rings)
{
	vpeer_both(broken_rings);
}

Test(vsock, options)
{
	static const char *const bad[] = { "cid=0,socket=/tmp/x",
					   "cid=1,socket=/tmp/x",
					   "cid=2,socket=/tmp/x",
					   "cid=4294967295,socket=/tmp/x",
					   "cid=4294967296,socket=/tmp/x",
					   "cid=3",
					   "socket=/tmp/x",
					   "cid=3,socket=/tmp",
					   "cid=3,socket=/no/such/dir/x",
					   "cid=3,vhost=off",
					   "cid=3,vhost=auto",
					   "vhost=on",
					   "cid=2,vhost=on",
					   "cid=3,vhost=on,socket=/tmp/x" };
	struct device *first;
	struct err err;
	char keys[256];
	struct stat st;

	vpeer_begin(FAKE_PCI);
	first = vp.dev;
	cr_assert_eq(stat(vp.path, &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0700);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err.text[0] = 0;
		cr_assert_lt(vpeer_create(bad[i], &err), 0, "%s", bad[i]);
		cr_assert_neq(err.text[0], 0);
	}
	snprintf(keys, sizeof(keys), "cid=3,socket=/tmp/%0110d", 1);
	cr_assert_eq(vpeer_create(keys, &err), -ENAMETOOLONG);
	snprintf(keys, sizeof(keys), "cid=3,socket=%s", vp.path);
	cr_assert_eq(vpeer_create(keys, &err), -EADDRINUSE);
	cr_assert(strstr(err.text, "another process listens there"), "%s", err.text);
	/* The device replaces the socket of a dead VM. */
	close(vpeer_serve(1, 1));
	snprintf(keys, sizeof(keys), "cid=3,socket=%s_1", vp.path);
	cr_assert_eq(vpeer_create(keys, &err), 0, "%s", err.text);
	device_destroy(vp.dev);
	/* Without vhost-vsock, vhost=on fails and vhost=auto falls back. */
	if (access("/dev/vhost-vsock", F_OK)) {
		cr_assert_eq(vpeer_create("cid=3,vhost=on", &err), -ENOENT);
		cr_assert(strstr(err.text, "load the module vhost-vsock"), "%s", err.text);
		snprintf(keys, sizeof(keys), "cid=3,vhost=auto,socket=%s_1", vp.path);
		cr_assert_eq(vpeer_create(keys, &err), 0, "%s", err.text);
		device_destroy(vp.dev);
	}
	vp.dev = first;
	vpeer_end();
}

/* The next machine listens at the same socket; a program that connects meanwhile waits for it. */
Test(vsock, the_listener_stays_over_a_reboot)
{
	struct err err = { "" };
	struct stat before, now;
	struct keep *k;
	char keys[96];
	int fd;

	cr_assert_eq(keep_create(&k), 0);
	vpeer_begin(FAKE_MMIO);
	device_destroy(vp.dev);
	vp.f.env.keep = k;
	vp.f.env.id = "_vsock3";
	snprintf(keys, sizeof(keys), "cid=42,socket=%s", vp.path);
	cr_assert_eq(vpeer_create(keys, &err), 0, "%s", err.text);
	cr_assert_eq(stat(vp.path, &before), 0);
	for (unsigned i = 0; i < 3; i++) {
		device_destroy(vp.dev);
		fd = vpeer_host_connect("CONNECT 7\n");
		cr_assert_eq(read(fd, vp.text, 1), -1);
		cr_assert_eq(errno, EAGAIN, "waits");
		cr_assert_eq(vpeer_create(keys, &err), 0, "%s", err.text);
		cr_assert_eq(stat(vp.path, &now), 0);
		cr_expect_eq(now.st_ino, before.st_ino);
		fake_driver_find(&vp.d, &vp.f, 2 + i, true);
		vpeer_start();
		cr_assert(vpeer_take());
		cr_assert_eq(vp.got.op, VSOCK_OP_REQUEST);
		cr_assert_eq(vp.got.dst_port, 7);
		close(fd);
		fake_run(&vp.f);
	}
	/* A path that was removed is made again. */
	device_destroy(vp.dev);
	unlink(vp.path);
	cr_assert_eq(vpeer_create(keys, &err), 0, "%s", err.text);
	cr_assert_eq(stat(vp.path, &now), 0);
	device_destroy(vp.dev);
	/* Another device's and this one's. */
	keep_drop(k, "_vsock4");
	cr_expect_eq(access(vp.path, F_OK), 0);
	keep_drop(k, "_vsock3");
	cr_expect_neq(access(vp.path, F_OK), 0, "removed");
	cr_assert_eq(vpeer_create(keys, &err), 0, "%s", err.text);
	device_destroy(vp.dev);
	keep_destroy(k);
	cr_expect_neq(access(vp.path, F_OK), 0, "removed");
	vp.f.env.keep = NULL;
	cr_assert_eq(vpeer_create(keys, &err), 0, "%s", err.text);
	vpeer_end();
}
