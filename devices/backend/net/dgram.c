/*
 * net/dgram: a socket that keeps frames apart (datagram or seqpacket), one frame in each message.
 *
 * A whole batch goes in one system call, straight from and into guest memory.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "devices/backend/net/net_impl.h"

#include "vmm/core/fd_msg.h"

#define BATCH 64u
/* Room for a few of the longest frames in each direction. */
#define BUFFER_BYTES (4 << 20)

static unsigned dgram_send(struct net *net, unsigned queue, struct net_frame *frame, unsigned n)
{
	struct mmsghdr msg[BATCH];
	unsigned done = 0;

	if (net->port[queue].fd < 0)
		return n; /* without a peer every frame is swallowed */
	while (done < n) {
		unsigned batch = n - done < BATCH ? n - done : BATCH;
		int rc;

		for (unsigned i = 0; i < batch; i++)
			msg[i].msg_hdr = (struct msghdr){ .msg_iov = frame[done + i].iov,
							  .msg_iovlen = frame[done + i].niov };
		rc = sendmmsg(net->port[queue].fd, msg, batch, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (rc < 0 && errno == EAGAIN)
			return done;
		/* Any other error concerns the first frame: drop it. */
		done += rc > 0 ? (unsigned)rc : 1;
	}
	return n;
}

static unsigned dgram_recv(struct net *net, unsigned queue, struct net_frame *frame, unsigned n)
{
	struct mmsghdr msg[BATCH];
	unsigned got;
	int rc;

	if (n > BATCH)
		n = BATCH;
	for (unsigned i = 0; i < n; i++)
		msg[i].msg_hdr = (struct msghdr){ .msg_iov = frame[i].iov,
						  .msg_iovlen = frame[i].niov };
	if (net->port[queue].fd < 0)
		return 0;
	rc = recvmmsg(net->port[queue].fd, msg, n, MSG_DONTWAIT, NULL);
	got = rc < 0 ? 0 : (unsigned)rc;
	for (unsigned i = 0; i < got; i++) {
		uint32_t cut = msg[i].msg_hdr.msg_flags & MSG_TRUNC ? 1 : 0;

		frame[i].len_bytes = cut ? frame[i].len_bytes + 1 : msg[i].msg_len;
	}
	/*
	 * Seqpacket: an empty message means that the peer has closed. A short count means "no
	 * more"; the watch fires again if there is more.
	 */
	while (got && !frame[got - 1].len_bytes)
		got--;
	return got;
}

/*
 * Clear a pending error after which the socket still works (UDP: no process listens there now), or
 * the watch would report it again and again. Returns false if the error stays: the socket is
 * useless.
 */
static bool take_error(int fd)
{
	struct pollfd p = { fd, 0, 0 };
	char byte;

	/* A look at the next message returns the error instead, if there is one, and clears it. */
	(void)fd_msg_get(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	for (unsigned i = 0;
	     i < BATCH && fd_msg_get(fd, &byte, 1, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0; i++)
		;
	return poll(&p, 1, 0) >= 0 && !(p.revents & POLLERR);
}

static void dgram_event(struct net *net, unsigned queue, uint32_t events)
{
	struct net_port *p = &net->port[queue];

	/* The seqpacket peer is gone: nothing will come again. */
	if (events & (EPOLLHUP | EPOLLRDHUP)) {
		net_port_close(net, queue);
		net_lost(net, "the other end is gone");
		return;
	}
	if (events & EPOLLERR && !take_error(p->fd)) {
		net_port_close(net, queue);
		net_lost(net, "the socket has failed");
		return;
	}
	net_tell(net, queue, events);
}

static const struct net_ops dgram_ops = {
	.send = dgram_send,
	.recv = dgram_recv,
	.event = dgram_event,
	.close = net_free,
};

static void dgram_buffers(int fd)
{
	int bytes = BUFFER_BYTES;

	/* Ask for as much as we may; the usual limit is two or three long frames. */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)))
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

int net_dgram_open(const struct net_config *cfg, int fd, struct net **out, struct err *err)
{
	struct net *net = net_new(&dgram_ops, cfg, sizeof(*net));
	int rc;

	if (!net)
		return err_sys(err, ENOMEM, "%s", cfg->option);
	net->has_peer = true;
	rc = net_port_open(net, 0, fd);
	if (rc) {
		net_free(net);
		return err_sys(err, -rc, "%s fd=%s", cfg->option, cfg->fds);
	}
	dgram_buffers(fd);
	snprintf(net->what, sizeof(net->what), "datagram socket, fd %d", fd);
	*out = net;
	return 0;
}
