/* ring_end: see guest_end.h. Uses the rings of net/ring.h, and a bell at each end: a socket here, an eventfd there. */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backend/net/ring.h"
#include "tools/bantam-net-user/guest_end.h"

static struct {
	int bell_fd, peer_bell_fd;
	struct net_ring in, out;
	bool unpublished;
	bool nonsense; /* a ring held invalid values */
} me;

static void ring_bell(void)
{
	(void)eventfd_write(me.peer_bell_fd, 1);
}

static bool ring_send(const uint8_t *frame, size_t len_bytes)
{
	uint8_t *to;
	int rc;

	if (!len_bytes || len_bytes > NET_RING_FRAME_MAX)
		return true;
	do
		rc = net_ring_room(&me.out, (uint32_t)len_bytes, &to);
	while (!rc && !net_ring_await_room(&me.out));
	me.nonsense |= rc < 0;
	if (rc <= 0)
		return rc < 0; /* the ring is broken: drop */
	memcpy(to, frame, len_bytes);
	net_ring_put(&me.out, (uint32_t)len_bytes);
	me.unpublished = true;
	return true;
}

static void ring_publish(void)
{
	if (me.unpublished && net_ring_publish(&me.out))
		ring_bell();
	me.unpublished = false;
}

static bool ring_take(guest_frame_fn fn)
{
	const uint8_t *frame;
	unsigned n = 0;
	int len = 0;

	while (n < GUEST_END_BATCH && (len = net_ring_peek(&me.in, &frame)) > 0) {
		fn(frame, (size_t)len);
		net_ring_take(&me.in, (uint32_t)len);
		n++;
	}
	me.nonsense |= len < 0;
	if (n && net_ring_release(&me.in))
		ring_bell();
	return n == GUEST_END_BATCH;
}

static bool ring_rest(void)
{
	return net_ring_await_frames(&me.in);
}

static unsigned ring_polls(struct pollfd *out)
{
	*out = (struct pollfd){ me.bell_fd, POLLIN, 0 };
	return 1;
}

/* Clears the bell. The caller looks at the ring in any case. */
static bool ring_polled(const struct pollfd *p)
{
	char scrap[64];

	if (p->revents)
		(void)!recv(me.bell_fd, scrap, sizeof(scrap), MSG_DONTWAIT);
	return !me.nonsense;
}

const struct guest_end *ring_end_open(int rings_fd, int bell_fd, int peer_bell_fd)
{
	static const struct guest_end end = {
		.send = ring_send,
		.publish = ring_publish,
		.take = ring_take,
		.rest = ring_rest,
		.polls = ring_polls,
		.polled = ring_polled,
	};
	struct net_ring_pair *rings;
	int rc = net_ring_map(rings_fd, &rings);

	close(rings_fd);
	if (rc) {
		errno = -rc;
		return NULL;
	}
	me.bell_fd = bell_fd;
	me.peer_bell_fd = peer_bell_fd;
	me.in.mem = &rings->to_helper;
	me.out.mem = &rings->from_helper;
	return &end;
}
