/*
 * fuzz_net_queues: the user network's helper serves a card's queues (queue_end.c of
 * tools/bantam-net-user), with a driver that puts anything on its rings, and a monitor that sends
 * any message.
 *
 * Input: a byte (bits 0 to 2: features; bits 3 to 7: n, so that every n-th allocation of the helper's
 * own code fails, or 0), then guest memory's first bytes (with all rings), then steps of four bytes:
 * frames in both directions, also while no allocation succeeds, memory writes, messages. The
 * sanitizers and BUG_ON report the findings. libslirp is not in here: where it gets no memory, glib
 * ends the process.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backend/net/net.h"
#include "devices/backend/vhost/user_msg.h"
#include "tools/bantam-net-user/backlog.h"
#include "tools/bantam-net-user/guest_end.h"

#define RAM_BYTES 0x4000u
#define RINGS_BYTES 0x800u /* of the input */
#define QUEUE_BYTES 0x200u /* descriptors, and the available ring 0x100 above */
#define USED_AT 0x2000u
#define QUEUE_SIZE 16u
#define HOST 0x7f0000000000ull /* the memory's address in the monitor */

static uint8_t *ram;
static int ram_fd, monitor, event_fd;
static const struct guest_end *end;
static bool gone;      /* the helper has given up */
static bool no_memory; /* every allocation fails */
static unsigned fail_each, nallocations;

/* The link wraps these. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);

static bool fails(void)
{
	return no_memory || (fail_each && !(++nallocations % fail_each));
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return fails() ? NULL : __real_realloc(old, size);
}

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* Sends one message, and receives the answer. */
static void say(struct vhost_user_msg *m, int fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { m, VU_HEAD_BYTES + m->len_bytes };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct pollfd p[GUEST_END_POLLS];

	if (gone)
		return;
	m->flags |= VU_VERSION;
	if (fd >= 0) {
		struct cmsghdr *c;

		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	check(sendmsg(monitor, &msg, 0) == (ssize_t)iov.iov_len);
	check(end->polls(p) <= GUEST_END_POLLS);
	check(poll(p, 1, 0) == 1);
	gone = !end->polled(p);
	while (recv(monitor, m, sizeof(*m), MSG_DONTWAIT) > 0)
		;
}

static void say_number(uint32_t request, uint32_t index, uint32_t num, int fd)
{
	struct vhost_user_msg m = { .request = request,
				    .len_bytes = 8,
				    .body.state = { index, num } };

	say(&m, fd);
}

static void start(uint8_t features)
{
	struct vhost_user_msg m = { .request = VU_SET_FEATURES,
				    .len_bytes = 8,
				    .body.u64 = (features & 1u) << 1 |
						(features >> 1 & 1ull) << 15 |
						(features >> 2 & 1ull) << 29 | 1ull << 32 };

	say(&m, -1);
	m = (struct vhost_user_msg){ .request = VU_SET_MEM_TABLE,
				     .len_bytes = 40,
				     .body.mem.nregions = 1 };
	m.body.mem.region[0].len_bytes = RAM_BYTES;
	m.body.mem.region[0].host = HOST;
	say(&m, ram_fd);
	for (uint32_t i = 0; i < 2; i++) {
		say_number(VU_SET_VRING_NUM, i, QUEUE_SIZE, -1);
		say_number(VU_SET_VRING_BASE, i, 0, -1);
		m = (struct vhost_user_msg){ .request = VU_SET_VRING_ADDR,
					     .len_bytes = sizeof(m.body.addr),
					     .body.addr = { .index = i,
							    .desc = HOST + i * QUEUE_BYTES,
							    .avail = HOST + i * QUEUE_BYTES + 0x100,
							    .used = HOST + USED_AT +
								    i * QUEUE_BYTES } };
		say(&m, -1);
		say_number(VU_SET_VRING_CALL, i, 0, event_fd);
		say_number(VU_SET_VRING_ERR, i, 0, event_fd);
		say_number(VU_SET_VRING_KICK, i, 0, event_fd);
		say_number(VU_SET_VRING_ENABLE, i, 1, -1);
	}
}

static void stop(void)
{
	struct vhost_user_msg m = { .request = VU_SET_MEM_TABLE, .len_bytes = 8 };

	gone = false;
	say_number(VU_GET_VRING_BASE, 0, 0, -1);
	say_number(VU_GET_VRING_BASE, 1, 0, -1);
	say(&m, -1);
}

static void on_frame(const uint8_t *frame, size_t len_bytes)
{
	static volatile uint8_t sum;

	check(len_bytes && len_bytes <= NET_FRAME_MAX);
	for (size_t i = 0; i < len_bytes; i++)
		sum ^= frame[i];
}

/* A frame of exactly this length, so that the sanitizer sees a read behind it. */
static void send_frame(uint32_t len, bool short_of_memory, bool through_backlog)
{
	uint8_t *frame = __real_malloc(len);

	check(frame);
	memset(frame, 0x5a, len);
	no_memory = short_of_memory;
	if (through_backlog)
		backlog_send(frame, len);
	else
		(void)end->send(frame, len); /* not the frame that was refused */
	no_memory = false;
	free(frame);
	end->publish();
}

static void step(const uint8_t *op)
{
	uint32_t len = (op[1] | (uint32_t)op[2] << 8) + 1u;

	switch (op[0] % 8) {
	case 0:
	case 1:
		end->take(on_frame);
		end->publish();
		break;
	case 2:
		backlog_flush();
		send_frame(len, op[3] & 1, true);
		break;
	case 3:
		send_frame(len, false, op[3] & 7);
		break;
	case 4:
		ram[(op[1] | op[2] << 8) % RINGS_BYTES] = op[3];
		break;
	case 5: /* one more head in a queue's ring */
		ram[(op[1] & 1) * QUEUE_BYTES + 0x104 +
		    2 * (ram[(op[1] & 1) * QUEUE_BYTES + 0x102] % QUEUE_SIZE)] = op[2] % QUEUE_SIZE;
		ram[(op[1] & 1) * QUEUE_BYTES + 0x102]++;
		break;
	case 6:
		(void)end->ready();
		(void)end->rest();
		break;
	case 7:
		say_number(op[1] % 32, op[2] % 3, op[3], op[2] & 4 ? event_fd : -1);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd[2];

	if (size < 1 + RINGS_BYTES)
		return 0;
	if (!ram) {
		ram_fd = memfd_create("ram", MFD_CLOEXEC);
		check(ram_fd >= 0 && !ftruncate(ram_fd, RAM_BYTES));
		ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ram_fd, 0);
		check(ram != MAP_FAILED);
		event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		check(event_fd >= 0);
	}
	check(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd));
	monitor = fd[0];
	end = queue_end_open(fd[1]);
	backlog_open(end);
	gone = false;
	memset(ram, 0, RAM_BYTES);
	memcpy(ram, data + 1, RINGS_BYTES);
	start(data[0] & 7);
	check(!gone);
	fail_each = data[0] >> 3;
	nallocations = 0;
	for (data += 1 + RINGS_BYTES, size -= 1 + RINGS_BYTES; size >= 4 && !gone;
	     data += 4, size -= 4)
		step(data);
	fail_each = 0;
	stop();
	backlog_open(end);
	close(fd[0]);
	close(fd[1]);
	return 0;
}
