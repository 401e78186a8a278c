/*
 * net/dgram: a socket that keeps frames apart (datagram or seqpacket), one each.
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

#define BATCH 64u
/* Room for a few of the longest frames in each direction. */
#define BUFFER_BYTES (4 << 20)

static unsigned dgram_send(struct net *net, unsigned queue, struct net_frame *frame, unsigned n)
{
	struct mmsghdr msg[BATCH];
	unsigned done = 0;

	if (net->port[queue].fd < 0)
		return n; /* an unplugged cable swallows everything */
	while (done < n) {
		unsigned batch = n - done < BATCH ? n - done : BATCH;
		int rc;

		for (unsigned i = 0; i < batch; i++)
			msg[i].msg_hdr = (struct msghdr){ .msg_iov = frame[done + i].iov,
							  .msg_iovlen = frame[done + i].niov };
		rc = sendmmsg(net->port[queue].fd, msg, batch, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (rc < 0 && errno == EAGAIN)
			return done;
		/* Another error is the first frame's: it is dropped. */
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
	/* Seqpacket: an empty message is the other end's close. A short count says "no more", and
	 * the watch speaks again if there is. */
	while (got && !frame[got - 1].len_bytes)
		got--;
	return got;
}

/*
 * An error that the socket reports and goes on after (UDP: nobody listens there now) is taken
 * from it, or the watch would speak of it for ever. False: it stays; the socket is of no use.
 */
static bool take_error(int fd)
{
	struct pollfd p = { fd, 0, 0 };
	struct msghdr msg = { 0 };
	int error;
	socklen_t len = sizeof(error);

	(void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	for (unsigned i = 0; i < BATCH && recvmsg(fd, &msg, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0; i++)
		;
	return poll(&p, 1, 0) >= 0 && !(p.revents & POLLERR);
}

static void dgram_event(struct net *net, unsigned queue, uint32_t events)
{
	struct net_port *p = &net->port[queue];

	/* A seqpacket peer that is gone: nothing will ever come again. */
	if (events & (EPOLLHUP | EPOLLRDHUP)) {
		net_port_close(net, queue);
		net_lost(net, "the other end is gone");
		return;
	}
	if (events & EPOLLERR && !take_error(p->fd)) {
		net_port_close(net, queue);
		net_lost(net, "the socket reports an error for good");
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

	/* As much as we may; the usual limit is two or three long frames. */
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
