/*
 * fuzz_net_stream: any bytes from the other end of a stream of frames, in any pieces.
 *
 * Input: pairs of a length byte and that many bytes; each pair is one write. The received frames
 * must be those that a simple reader of all bytes finds, up to the first invalid length.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backend/net/net_impl.h"
#include "vmm/core/log.h"

#define FRAMES 4

static void check(bool ok)
{
	if (!ok)
		abort();
}

static struct {
	struct net *net;
	uint8_t all[1 << 16];	/* all bytes written */
	uint32_t written, seen; /* seen: the end of the last received frame */
	bool down;
} me;

/* Returns the length of the next frame in the bytes, by a simple reading; 0: none yet. */
static uint32_t expected(void)
{
	for (;;) {
		const uint8_t *p = me.all + me.seen;
		uint32_t len;

		if (me.written - me.seen < 4)
			return 0;
		len = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
		if (len)
			return len <= NET_FRAME_MAX && me.written - me.seen - 4 >= len ? len : 0;
		me.seen += 4;
	}
}

static void readable(void *opaque, unsigned queue)
{
	static uint8_t buf[FRAMES][4096];
	struct iovec iov[FRAMES][3];
	struct net_frame frame[FRAMES];
	unsigned n;

	do {
		for (unsigned i = 0; i < FRAMES; i++) {
			iov[i][0] = (struct iovec){ buf[i], 1 };
			iov[i][1] = (struct iovec){ buf[i] + 1, 63 };
			iov[i][2] = (struct iovec){ buf[i] + 64, sizeof(buf[i]) - 64 };
			frame[i] = (struct net_frame){ iov[i], 3, sizeof(buf[i]) };
		}
		n = me.net->ops->recv(me.net, 0, frame, FRAMES);
		for (unsigned i = 0; i < n; i++) {
			uint32_t len = frame[i].len_bytes, room = len < 4096 ? len : 4096;

			check(len == expected());
			check(!memcmp(buf[i], me.all + me.seen + 4, room));
			me.seen += 4 + len;
		}
	} while (n == FRAMES);
}

static void writable(void *opaque, unsigned queue)
{
}

static void on_link(void *opaque, bool up)
{
	me.down = !up;
}

static void stop(void *loop)
{
	loop_stop(loop);
}

static void run(struct loop *loop)
{
	for (unsigned i = 0; i < 2; i++) {
		check(!loop_post(loop, stop, loop));
		check(!loop_run(loop));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct net_config cfg = { .option = "--net", .name = "net0" };
	struct err err;
	int pair[2];

	log_set_level(LOG_ERROR - 1);
	memset(&me, 0, sizeof(me));
	check(!loop_create(&cfg.loop, &err));
	check(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
	check(!net_stream_from_fd(&cfg, pair[1], &me.net, &err));
	net_attach(me.net, &(struct net_client){ readable, writable, on_link, NULL });
	net_want(me.net, 0, true, false);
	while (size && !me.down) {
		uint32_t len = data[0] < size - 1 ? data[0] : (uint32_t)(size - 1);

		/* For long frames in short inputs, 255 means 4095 zero bytes. */
		if (data[0] == 255) {
			data++;
			size--;
			len = 4095;
			if (me.written + len > sizeof(me.all))
				break;
			memset(me.all + me.written, 0, len);
		} else {
			if (me.written + len > sizeof(me.all))
				break;
			memcpy(me.all + me.written, data + 1, len);
			data += 1 + len;
			size -= 1 + len;
		}
		if (len)
			check(send(pair[0], me.all + me.written, len, MSG_NOSIGNAL) ==
			      (ssize_t)len);
		me.written += len;
		run(cfg.loop);
		check(me.down || !expected());
	}
	close(pair[0]);
	run(cfg.loop);
	check(me.down);
	net_close(me.net);
	loop_destroy(cfg.loop);
	return 0;
}
