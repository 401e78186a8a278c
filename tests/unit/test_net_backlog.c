/*
 * test_net_backlog: the user network's helper when a frame is half in the guest's buffers and cannot be
 * kept: what the guest then sees, from the rings of its card.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backend/net/net.h"
#include "devices/backend/vhost/user_msg.h"
#include "tools/bantam-net-user/backlog.h"
#include "vmm/core/bytes.h"

#define RAM_BYTES 0x10000u
#define AVAIL_AT 0x1000u
#define USED_AT 0x2000u
#define BUF_AT 0x4000u
#define BUF_BYTES 20u
#define SIZE 64u
#define HOST 0x7f0000000000ull /* the memory's address in the monitor */
#define HDR NET_HDR_BYTES

static bool no_memory;
static size_t asked_bytes; /* of malloc */
static uint8_t *ram;
static int monitor;
static const struct guest_end *end;
static unsigned given, seen; /* buffers in all; used entries that were looked at */

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
	asked_bytes += size;
	return no_memory ? NULL : __real_malloc(size);
}

static void say(struct vhost_user_msg m, int fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { &m, VU_HEAD_BYTES + m.len_bytes };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct pollfd p[GUEST_END_POLLS];

	m.flags = VU_VERSION;
	if (fd >= 0) {
		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		*CMSG_FIRSTHDR(&msg) = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
							 .cmsg_type = SCM_RIGHTS,
							 .cmsg_len = CMSG_LEN(sizeof(int)) };
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &fd, sizeof(fd));
	}
	cr_assert_eq(sendmsg(monitor, &msg, 0), (ssize_t)iov.iov_len);
	end->polls(p);
	cr_assert_eq(poll(p, 1, 0), 1);
	cr_assert(end->polled(p));
}

static void say_number(uint32_t request, uint32_t num, int fd)
{
	say((struct vhost_user_msg){ .request = request, .len_bytes = 8, .body.state = { 0, num } },
	    fd);
}

/* A driver with mergeable buffers of BUF_BYTES, of which it gives none yet. */
static void begin(void)
{
	int fd[2], ram_fd = memfd_create("ram", MFD_CLOEXEC);
	struct vhost_user_msg m = { .request = VU_SET_MEM_TABLE,
				    .len_bytes = 40,
				    .body.mem.nregions = 1 };

	cr_assert(ram_fd >= 0 && !ftruncate(ram_fd, RAM_BYTES));
	ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ram_fd, 0);
	cr_assert_neq(ram, MAP_FAILED);
	memset(ram + BUF_AT, 0xee, SIZE * 2 * BUF_BYTES);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	monitor = fd[0];
	end = queue_end_open(fd[1]);
	backlog_open(end);
	m.body.mem.region[0].len_bytes = RAM_BYTES;
	m.body.mem.region[0].host = HOST;
	say((struct vhost_user_msg){ .request = VU_SET_FEATURES,
				     .len_bytes = 8,
				     .body.u64 = 1ull << 15 | 1ull << 32 },
	    -1);
	say(m, ram_fd);
	say_number(VU_SET_VRING_NUM, SIZE, -1);
	say((struct vhost_user_msg){ .request = VU_SET_VRING_ADDR,
				     .len_bytes = sizeof(m.body.addr),
				     .body.addr = { .desc = HOST,
						    .avail = HOST + AVAIL_AT,
						    .used = HOST + USED_AT } },
	    -1);
	say_number(VU_SET_VRING_KICK, 0, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
	say_number(VU_SET_VRING_ENABLE, 1, -1);
	close(ram_fd);
}

static void give(unsigned n)
{
	for (; n; n--, given++) {
		uint8_t *desc = ram + given * 16;

		put_le64(desc, BUF_AT + given * 2 * BUF_BYTES);
		put_le32(desc + 8, BUF_BYTES);
		put_le16(desc + 12, 2);
		put_le16(ram + AVAIL_AT + 4 + 2 * given, (uint16_t)given);
	}
	put_le16(ram + AVAIL_AT + 2, (uint16_t)given);
}

static void send_frame(uint8_t fill, unsigned len)
{
	uint8_t *frame = __real_malloc(
		len); /* of its length: the sanitizer sees a read behind it */

	memset(frame, fill, len);
	backlog_send(frame, len);
	free(frame);
	end->publish();
}

/* Expects a frame of this fill, len bytes of it, and nothing behind it in its buffers. */
static void expect_frame(uint8_t fill, unsigned len)
{
	unsigned n = (HDR + len + BUF_BYTES - 1) / BUF_BYTES, left = HDR + len;

	end->publish();
	cr_assert_geq(get_le16(ram + USED_AT + 2), seen + n, "%02x: it did not come", fill);
	cr_expect_eq(get_le16(ram + BUF_AT + seen * 2 * BUF_BYTES + 10), n, "%02x", fill);
	for (unsigned i = 0; i < n; i++, seen++) {
		const uint8_t *buf = ram + BUF_AT + seen * 2 * BUF_BYTES;
		unsigned part = left < BUF_BYTES ? left : BUF_BYTES;

		cr_expect_eq(get_le32(ram + USED_AT + 4 + seen * 8), seen);
		cr_expect_eq(get_le32(ram + USED_AT + 8 + seen * 8), part, "%02x", fill);
		for (unsigned at = i ? 0 : HDR; at < 2 * BUF_BYTES; at++)
			cr_assert_eq(buf[at], at < part ? fill : 0xee, "%02x: byte %u of %u", fill,
				     at, i);
		left -= part;
	}
}

static void expect_no_more(void)
{
	end->publish();
	cr_expect_eq(get_le16(ram + USED_AT + 2), seen);
}

/* A guest that takes nothing: frames are kept up to a number of bytes, and up to a number of frames. */
Test(net_backlog, what_it_keeps_is_limited)
{
	static const struct {
		unsigned len, kept;
	} row[] = { { 60000, (16u << 20) / 60000 }, { 4096, 4096 }, { 64, 4096 } };

	begin();
	for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		static uint8_t frame[60000];
		unsigned full_at = 0;

		backlog_open(end);
		asked_bytes = 0;
		for (unsigned n = 1; n <= 6000; n++) {
			backlog_send(frame, row[i].len);
			if (backlog_full() && !full_at)
				full_at = n;
		}
		cr_expect_eq(asked_bytes, (size_t)row[i].kept * row[i].len,
			     "%zu bytes of frames of %u", asked_bytes, row[i].len);
		/* From 1 MiB on the host's sockets are not read. */
		cr_expect_eq(full_at, row[i].len > 256 ? (1u << 20) / row[i].len + 1 : 0);
	}
	backlog_open(end);
}

/* Lengths of the frame that is half there and of the next one: shorter, longer, the same. */
Test(net_backlog, no_memory_for_the_rest)
{
	static const unsigned next[] = { 1, 8, 9, 28, 48, 60, 61, 100 };

	begin();
	for (unsigned i = 0; i < sizeof(next) / sizeof(next[0]); i++) {
		give(1);
		no_memory = true;
		send_frame(0x11, 60);
		no_memory = false;
		expect_frame(0x11, BUF_BYTES - HDR); /* cut */
		give((HDR + next[i] + BUF_BYTES - 1) / BUF_BYTES);
		send_frame(0x22, next[i]);
		expect_frame(0x22, next[i]);
		expect_no_more();
	}
}

/* With memory the rest comes, and the frames behind it in order; one that finds none is left out. */
Test(net_backlog, the_rest_comes_later)
{
	begin();
	give(2);
	send_frame(0x11, 60);
	send_frame(0x22, 5);
	no_memory = true;
	send_frame(0x33, 5);
	no_memory = false;
	send_frame(0x44, 30);
	expect_no_more();
	give(20);
	backlog_flush();
	expect_frame(0x11, 60);
	expect_frame(0x22, 5);
	expect_frame(0x44, 30);
	expect_no_more();
}

/* Whatever the caller does: another frame than the refused one never gets into its buffers. */
Test(net_backlog, another_frame_than_the_refused_one)
{
	static const uint8_t frame[] = { 0x22, 0x22, 0x22, 0x22, 0x22 };
	uint8_t first[60];

	begin();
	memset(first, 0x11, sizeof(first));
	give(2);
	cr_expect_not(end->send(first, sizeof(first)));
	give(1);
	cr_expect(end->send(frame, sizeof(frame)));
	expect_frame(0x11, 2 * BUF_BYTES - HDR);
	expect_frame(0x22, sizeof(frame));
	/* The queue is taken from the card in the middle of a frame. */
	give(1);
	cr_expect_not(end->send(first, sizeof(first)));
	say_number(VU_SET_VRING_ENABLE, 0, -1);
	cr_expect(end->send(first, sizeof(first)));
	say_number(VU_SET_VRING_ENABLE, 1, -1);
	expect_frame(0x11, BUF_BYTES - HDR);
	give(1);
	cr_expect(end->send(frame, sizeof(frame)));
	expect_frame(0x22, sizeof(frame));
	expect_no_more();
}
