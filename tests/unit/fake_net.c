/* fake_net: see fake_net.h. */
#include "devices/backend/net/net_impl.h"
#include "tests/unit/fake_net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static unsigned fake_send(struct net *net, unsigned queue, struct net_frame *frame, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (writev(net->port[queue].fd, frame[i].iov, (int)frame[i].niov) < 0 &&
		    errno == EAGAIN)
			return i;
	return n;
}

static unsigned fake_recv(struct net *net, unsigned queue, struct net_frame *frame, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		ssize_t rc = readv(net->port[queue].fd, frame[i].iov, (int)frame[i].niov);

		if (rc <= 0)
			return i;
		frame[i].len_bytes = (uint32_t)rc;
	}
	return n;
}

static void fake_set_offloads(struct net *net, unsigned offloads)
{
	((struct fake_net *)net)->offloads = offloads;
}

static void fake_set_queues(struct net *net, unsigned queues)
{
	((struct fake_net *)net)->queues = queues;
}

static void fake_close(struct net *net)
{
	for (unsigned i = 0; i < net->nqueues; i++)
		close(((struct fake_net *)net)->wire[i]);
	net_free(net);
}

static const struct net_ops fake_ops = {
	.send = fake_send,
	.recv = fake_recv,
	.event = net_tell,
	.set_offloads = fake_set_offloads,
	.set_queues = fake_set_queues,
	.close = fake_close,
};

struct fake_net *fake_net_create(struct loop *loop, unsigned nqueues)
{
	struct net_config cfg = { .option = "--net", .name = "net0", .loop = loop };
	struct fake_net *fake = (struct fake_net *)net_new(&fake_ops, &cfg, sizeof(*fake));

	if (!fake)
		abort();
	fake->net.nqueues = nqueues;
	fake->net.vnet_hdr_bytes = NET_HDR_BYTES;
	fake->net.offloads_in = fake->net.offloads_out = NET_OFFLOADS;
	snprintf(fake->net.what, sizeof(fake->net.what), "fake");
	for (unsigned i = 0; i < nqueues; i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) ||
		    net_port_open(&fake->net, i, pair[1]))
			abort();
		fake->wire[i] = pair[0];
	}
	return fake;
}
