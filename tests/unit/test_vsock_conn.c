/*
 * test_vsock_conn: one connection of virtio-vsock: data, credit of both sides,
 * half-close, close, a reader that stalls.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/vsock/vsock.h"
#include "tests/unit/vpeer.h"

TestSuite(vsock_conn, .timeout = 60);

/* How a program that sends and leaves does it, and what it has sent. */
enum { BEFORE_ANSWER, AFTER_ANSWER, HALF, NO_DATA };

static void leaves_early(unsigned how, unsigned bytes)
{
	static uint8_t data[100000];
	unsigned got = 0;
	int fd = vpeer_host_connect("CONNECT 7\n");
	uint32_t port;

	for (unsigned i = 0; i < bytes; i++)
		data[i] = (uint8_t)(i * 31 >> 3);
	cr_assert(vpeer_take());
	cr_assert_eq(vp.got.op, VSOCK_OP_REQUEST);
	port = vp.got.src_port;
	if (how == AFTER_ANSWER)
		vpeer_send_packet(VSOCK_OP_RESPONSE, 7, port, NULL, 0);
	cr_assert_eq(send(fd, data, bytes, MSG_NOSIGNAL), (ssize_t)bytes);
	if (how == HALF)
		shutdown(fd, SHUT_WR);
	else
		close(fd);
	fake_run(&vp.f);
	if (how != AFTER_ANSWER)
		vpeer_send_packet(VSOCK_OP_RESPONSE, 7, port, NULL, 0);
	do {
		cr_assert(vpeer_take(), "%u, %u: %u bytes came", how, bytes, got);
		cr_assert_neq(vp.got.op, VSOCK_OP_RST, "%u, %u: %u bytes came", how, bytes, got);
		if (vp.got.op != VSOCK_OP_RW)
			continue;
		cr_assert(got + vp.got.len_bytes <= bytes &&
			  !memcmp(vp.got_data, data + got, vp.got.len_bytes));
		got += vp.got.len_bytes;
		vp.fwd += vp.got.len_bytes;
		vpeer_send_packet(VSOCK_OP_CREDIT_UPDATE, 7, port, NULL, 0);
	} while (vp.got.op != VSOCK_OP_SHUTDOWN ||
		 (how != HALF && vp.got.flags != VSOCK_SHUT_BOTH));
	cr_expect_eq(got, bytes, "%u: %u of %u bytes came", how, got, bytes);
	vpeer_send_packet(VSOCK_OP_RST, 7, port, NULL, 0);
	if (how == HALF)
		close(fd);
	vpeer_drain(); /* a late CREDIT_UPDATE is answered by a reset */
	cr_expect_eq(((struct vsock *)vp.dev)->nconns, 0);
	vp.fwd = 0;
}

static void one_shot(void)
{
	for (unsigned how = BEFORE_ANSWER; how <= HALF; how++) {
		leaves_early(how, 1);
		leaves_early(how, 5000);
		leaves_early(how, 100000);
	}
}

/* What a host program sends before it closes comes, also if it does not wait for the answer. */
Test(vsock_conn, a_program_that_sends_and_leaves)
{
	vpeer_both(one_shot);
}

/* While the guest does not answer such a program, the loop does not spin; then the request ends. */
Test(vsock_conn, a_program_that_has_left_waits_for_the_guest)
{
	struct vsock *vs;
	unsigned turns = 0;
	uint32_t port;
	int fd;

	vpeer_begin(FAKE_PCI);
	vs = (struct vsock *)vp.dev;
	fd = vpeer_host_connect("CONNECT 7\ndata");
	cr_assert(vpeer_take());
	port = vp.got.src_port;
	close(fd);
	fake_run(&vp.f);
	cr_expect(vpeer_silent());
	cr_assert_eq(vs->nconns, 1);
	cr_expect_eq(LIST_FIRST(&vs->conns)->events, 0, "its hang-up would wake the loop again");
	LIST_FIRST(&vs->conns)->deadline_ns = 1; /* long ago */
	vsock_arm_tick(vs, 1);
	while (vs->nconns && turns++ < 300) {
		usleep(10000);
		fake_run(&vp.f);
	}
	vpeer_expect(VSOCK_OP_RST, 7, port);
	cr_expect_eq(vs->nconns, 0);
	vpeer_end();
}

static void half_close(void)
{
	int server = vpeer_serve(1, 4), fd = vpeer_open_out(server, 10, 1);

	/* The guest shuts down its sending; the answer still comes. */
	vpeer_send_packet(VSOCK_OP_RW, 10, 1, "request", 7);
	vpeer_send_shutdown(10, 1, VSOCK_SHUT_SEND);
	cr_assert_eq(read(fd, vp.text, 100), 7);
	cr_assert(vpeer_at_end(fd));
	cr_assert_eq(write(fd, "answer", 6), 6);
	vpeer_expect(VSOCK_OP_RW, 10, 1);
	cr_assert_arr_eq(vp.got_data, "answer", 6);
	close(fd);
	do
		vpeer_expect(VSOCK_OP_SHUTDOWN, 10, 1);
	while (vp.got.flags != VSOCK_SHUT_BOTH);
	/* The same in the other direction. */
	fd = vpeer_open_out(server, 11, 1);
	cr_assert_eq(write(fd, "request", 7), 7);
	shutdown(fd, SHUT_WR);
	vpeer_expect(VSOCK_OP_RW, 11, 1);
	vpeer_expect(VSOCK_OP_SHUTDOWN, 11, 1);
	cr_assert_eq(vp.got.flags, VSOCK_SHUT_SEND);
	vpeer_send_packet(VSOCK_OP_RW, 11, 1, "answer", 6);
	cr_assert_eq(read(fd, vp.text, 100), 6);
	vpeer_send_shutdown(11, 1, VSOCK_SHUT_BOTH);
	vpeer_expect(VSOCK_OP_RST, 11, 1);
	cr_assert(vpeer_at_end(fd));
	close(fd);
	/* The host program shuts down its reading: the guest gets a SHUTDOWN. */
	fd = vpeer_open_out(server, 12, 1);
	shutdown(fd, SHUT_RD);
	vpeer_send_packet(VSOCK_OP_RW, 12, 1, "lost", 4);
	vpeer_expect(VSOCK_OP_SHUTDOWN, 12, 1);
	cr_assert_eq(vp.got.flags, VSOCK_SHUT_RCV);
	vpeer_send_packet(VSOCK_OP_RW, 12, 1, "lost too", 8);
	cr_assert_eq(write(fd, "x", 1), 1);
	vpeer_expect(VSOCK_OP_RW, 12, 1);
	/* The guest shuts down its reading: the host program's write fails. */
	vpeer_send_shutdown(12, 1, VSOCK_SHUT_RCV);

	cr_assert_eq(sendto(fd, "x", 1, MSG_NOSIGNAL, NULL, 0), -1);
	cr_assert_eq(errno, EPIPE);
	/* Data after the shutdown of sending. */
	close(fd);
	vpeer_drain();
	fd = vpeer_open_out(server, 13, 1);
	vpeer_send_shutdown(13, 1, VSOCK_SHUT_SEND);
	vpeer_send_packet(VSOCK_OP_RW, 13, 1, "more", 4);
	for (;;) {
		cr_assert(vpeer_take());
		if (vp.got.dst_port == 13 && vp.got.op == VSOCK_OP_RST)
			break;
	}
	close(fd);
	close(server);
	unlink(strcat(strcpy(vp.text, vp.path), "_1"));
}

Test(vsock_conn, half_close)
{
	vpeer_both(half_close);
}

/* A host program does not read: the guest's credit runs out, other connections continue. */
static void stalled_reader(void)
{
	int server = vpeer_serve(1, 4), fd = vpeer_open_out(server, 10, 1), other;
	uint32_t room = vp.got.buf_alloc, sent = 0, told = 0, n = 0;
	bool reset = false;

	while (sent - told + 4096 <= room) {
		uint32_t pattern[1024];
		bool have = false;

		for (unsigned i = 0; i < 1024; i++)
			pattern[i] = sent / 4 + i;
		vpeer_send_packet(VSOCK_OP_RW, 10, 1, pattern, 4096);
		sent += 4096;
		cr_assert(sent < 64u << 20, "it ends");
		while (vpeer_used(&have)) {
			cr_assert_eq(vp.got.op, VSOCK_OP_CREDIT_UPDATE);
			told = vp.got.fwd_cnt;
			have = false;
		}
	}
	other = vpeer_open_out(server, 11, 1);
	vpeer_send_packet(VSOCK_OP_RW, 11, 1, "quick", 5);
	cr_assert_eq(read(other, vp.text, 10), 5);
	close(other);
	/* Now the host program reads. It gets all data, in order. */
	for (uint32_t word, have = 0; n < sent; n += 4, have -= 4) {
		ssize_t rc = read(fd, &word, 4);

		for (unsigned i = 0; rc < 0 && i < 100; i++) {
			fake_run(&vp.f);
			rc = read(fd, &word, 4);
		}
		cr_assert_eq(rc, 4, "at %u of %u", n, sent);
		cr_assert_eq(word, n / 4);
	}
	/* The guest sends more than its credit. */
	vp.fwd = 0;
	for (unsigned i = 0; i < 1000 && !reset; i++) {
		bool have = false;

		vpeer_send_packet(VSOCK_OP_RW, 10, 1, vp.text, 60000);
		while (vpeer_used(&have)) {
			reset |= vp.got.op == VSOCK_OP_RST && vp.got.dst_port == 10;
			have = false;
		}
	}
	cr_assert(reset, "a guest that ignores credit is cut off");
	close(fd);
	close(server);
	unlink(strcat(strcpy(vp.text, vp.path), "_1"));
}

Test(vsock_conn, stalled_reader)
{
	vpeer_begin(FAKE_PCI);
	stalled_reader();
	vpeer_end();
}

/* Data that the guest sent before it closed arrives, even if the host program reads late. */
Test(vsock_conn, close_with_data_kept)
{
	int server, fd;
	size_t n = 0;

	vpeer_begin(FAKE_PCI);
	server = vpeer_serve(1, 4);
	fd = vpeer_open_out(server, 10, 1);
	for (unsigned i = 0; i < 10; i++)
		vpeer_send_packet(VSOCK_OP_RW, 10, 1, vp.text, 40000);
	vpeer_send_shutdown(10, 1, VSOCK_SHUT_BOTH);
	vpeer_send_packet(VSOCK_OP_RST, 10, 1, NULL, 0);
	for (unsigned i = 0; i < 1000 && n < 400000; i++) {
		ssize_t rc = read(fd, vp.text, 10000);

		n += rc > 0 ? (size_t)rc : 0;
		fake_run(&vp.f);
	}
	cr_assert_eq(n, 400000);
	cr_assert(vpeer_at_end(fd));
	/* A reset of the device closes the guest's connections. */
	vpeer_drain();
	fd = vpeer_open_out(server, 10, 1);
	vpeer_reset();
	cr_assert(vpeer_at_end(fd));
	vpeer_start();
	fd = vpeer_open_out(server, 10, 1);
	close(server);
	unlink(strcat(strcpy(vp.text, vp.path), "_1"));
	vpeer_end();
}

static unsigned connections(void)
{
	return ((struct vsock *)vp.dev)->nconns;
}

static bool nobody_left(void *unused)
{
	return !connections();
}

#define LEFT 60000

/* The guest sends more than the socket takes, and resets the connection. */
static int leave_behind(int server, uint32_t guest_port)
{
	int fd = vpeer_open_out(server, guest_port, 1), bytes = 4096;
	struct vsock *vs = (struct vsock *)vp.dev;
	struct vsock_conn *c = LIST_FIRST(&vs->conns);
	unsigned before = connections();
	uint32_t most = c->s.room < LEFT ? c->s.room : LEFT;

	/* By default the kernel takes 200 KB for each. */
	setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	do /* the kernel may take all of a small room, once or twice */
		vpeer_send_packet(VSOCK_OP_RW, guest_port, 1, vp.text, most);
	while (!vsock_conn_kept(c));
	vpeer_send_shutdown(guest_port, 1, VSOCK_SHUT_BOTH);
	vpeer_send_packet(VSOCK_OP_RST, guest_port, 1, NULL, 0);
	vpeer_drain();
	cr_assert_eq(connections(), before, "data is kept");
	return fd;
}

/* The device gives up on a host program that reads nothing, but waits for a slow one. */
Test(vsock_conn, patience)
{
	int server, fd, slow;
	ssize_t n, got = 0;

	vsock_patience_ms = 300;
	vpeer_begin(FAKE_PCI);
	server = vpeer_serve(1, 4);
	fd = leave_behind(server, 10);
	slow = leave_behind(server, 11);
	for (unsigned i = 0; i < 40; i++) {
		usleep(20000);
		n = read(slow, vp.text, 1000);
		got += n > 0 ? n : 0;
		fake_run(&vp.f);
	}
	cr_assert_eq(connections(), 1, "the one that reads is left");
	while ((n = read(slow, vp.text, 60000)) != 0) {
		got += n > 0 ? n : 0;
		fake_run(&vp.f);
	}
	cr_assert_eq(got, LEFT);
	cr_assert(fake_run_until(&vp.f, nobody_left, NULL));
	for (got = 0; (n = read(fd, vp.text, 60000)) > 0; got += n)
		;
	cr_assert(n == 0 && got > 0 && got < LEFT, "%zd, then %zd", got, n);
	close(fd);
	close(slow);
	close(server);
	unlink(strcat(strcpy(vp.text, vp.path), "_1"));
	vpeer_end();
}

/* Such connections fill the table and the guest opens another: the device drops the oldest. */
Test(vsock_conn, left_behind)
{
	static int fd[VSOCK_MAX_CONNS];
	int server, last;

	vpeer_begin(FAKE_PCI);
	server = vpeer_serve(1, 4096);
	for (unsigned i = 0; i < VSOCK_MAX_CONNS; i++)
		fd[i] = leave_behind(server, 10 + i);
	cr_assert_eq(connections(), VSOCK_MAX_CONNS);
	last = vpeer_open_out(server, 9, 1);
	vpeer_send_packet(VSOCK_OP_RW, 9, 1, "hello", 5);
	cr_assert_eq(read(last, vp.text, 10), 5);
	/* Now the first two host programs read: the first gets a part, the second gets all. */
	for (unsigned i = 0; i < 2; i++) {
		ssize_t n, got = 0;

		while ((n = read(fd[i], vp.text, 60000)) != 0) {
			got += n > 0 ? n : 0;
			fake_run(&vp.f);
		}
		cr_assert(i ? got == LEFT : got < LEFT, "%u: %zd", i, got);
	}
	for (unsigned i = 0; i < VSOCK_MAX_CONNS; i++)
		close(fd[i]);
	vpeer_send_packet(VSOCK_OP_RST, 9, 1, NULL, 0);
	cr_assert(fake_run_until(&vp.f, nobody_left, NULL));
	close(last);
	close(server);
	unlink(strcat(strcpy(vp.text, vp.path), "_1"));
	vpeer_end();
}

/* A guest that gives no credit stops us; with new credit we continue; each byte comes once. */
static void guest_credit(void)
{
	int server = vpeer_serve(1, 4), fd = vpeer_open_out(server, 10, 1);
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
		fake_driver_kick(&vp.d, VSOCK_RX);
		while (vpeer_used(&have)) {
			have = false;
			if (vp.got.op == VSOCK_OP_CREDIT_REQUEST) {
				cr_assert_eq(seen - vp.fwd, VPEER_ROOM, "only when there is none");
				vp.fwd = seen;
				vpeer_send_packet(VSOCK_OP_CREDIT_UPDATE, 10, 1, NULL, 0);
				continue;
			}
			cr_assert_eq(vp.got.op, VSOCK_OP_RW);
			for (unsigned i = 0; i < vp.got.len_bytes; i += 4, seen += 4)
				cr_assert_eq(*(uint32_t *)(vp.got_data + i), seen);
			cr_assert(seen - vp.fwd <= VPEER_ROOM);
		}
	}
	close(fd);
	close(server);
	unlink(strcat(strcpy(vp.text, vp.path), "_1"));
}

Test(vsock_conn, guest_credit)
{
	vpeer_both(guest_credit);
}

/* The guest claims any credit, and sends operations in any order. */
Test(vsock_conn, hostile_credit)
{
	static const uint32_t vals[] = { 0, 1, 44, 65536, 0x7fffffff, 0x80000000, 0xfffffffe, ~0u };
	int server, fd;

	vpeer_begin(FAKE_PCI);
	server = vpeer_serve(1, 4);
	for (unsigned a = 0; a < 8; a++)
		for (unsigned b = 0; b < 8; b++) {
			struct vsock_hdr hdr = vpeer_make(VSOCK_OP_CREDIT_UPDATE, 10, 1, 0);
			bool have = false;

			fd = vpeer_open_out(server, 10, 1);
			hdr.buf_alloc = vals[a];
			hdr.fwd_cnt = vals[b];
			vpeer_send_raw(&hdr, NULL, 0);
			cr_assert(write(fd, vp.text, 50000) > 0);
			for (unsigned i = 0; i < 10; i++)
				fake_driver_kick(&vp.d, VSOCK_RX);
			vpeer_send_packet(VSOCK_OP_RST, 10, 1, NULL, 0);
			while (vpeer_used(&have))
				have = false;
			close(fd);
		}
	srand(1);
	for (unsigned i = 0; i < 5000; i++) {
		bool have = false;

		vpeer_send_packet((unsigned)rand() % 8, 10 + (unsigned)rand() % 3, 1, vp.text,
				  (unsigned)rand() % 100);
		if (rand() % 4 == 0)
			close(accept(server, NULL, NULL));
		fake_driver_kick(&vp.d, VSOCK_RX);
		while (vpeer_used(&have))
			have = false;
	}
	close(server);
	unlink(strcat(strcpy(vp.text, vp.path), "_1"));
	vpeer_end();
}
