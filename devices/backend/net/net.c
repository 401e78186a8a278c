/* net: what the backends share. See net.h. */
#include "devices/backend/net/net_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "vmm/core/log.h"

struct net *net_new(const struct net_ops *ops, const struct net_config *cfg, size_t size_bytes)
{
	struct net *net = calloc(1, size_bytes);

	if (!net)
		return NULL;
	net->ops = ops;
	net->loop = cfg->loop;
	net->nqueues = 1;
	net->up = true;
	net->vhost_user.fd = -1;
	snprintf(net->name, sizeof(net->name), "%s", cfg->name);
	for (unsigned i = 0; i < NET_MAX_QUEUES; i++)
		net->port[i] = (struct net_port){ .net = net, .queue = i, .fd = -1 };
	return net;
}

int net_describe(const struct net_config *cfg, struct net **out, struct err *err, const char *fmt,
		 ...)
{
	static const struct net_ops ops = { .close = net_free };
	struct net *net = net_new(&ops, cfg, sizeof(*net));
	va_list ap;

	if (!net)
		return err_sys(err, ENOMEM, "%s", cfg->option);
	va_start(ap, fmt);
	vsnprintf(net->what, sizeof(net->what), fmt, ap);
	va_end(ap);
	net->mtu = (uint16_t)cfg->mtu;
	*out = net;
	return 0;
}

static void on_event(void *opaque, uint32_t events)
{
	struct net_port *p = opaque;

	p->net->ops->event(p->net, p->queue, events);
}

void net_frame_fill(struct net_frame *f, const uint8_t *from, uint32_t len_bytes)
{
	uint32_t left = len_bytes;

	for (unsigned i = 0; i < f->niov && left; i++) {
		uint32_t part = f->iov[i].iov_len < left ? (uint32_t)f->iov[i].iov_len : left;

		memcpy(f->iov[i].iov_base, from, part);
		from += part;
		left -= part;
	}
	f->len_bytes = len_bytes;
}

void net_tell(struct net *net, unsigned queue, uint32_t events)
{
	const struct net_port *p = &net->port[queue];

	if (events & (EPOLLIN | EPOLLERR) && p->want_read)
		net->client.readable(net->client.opaque, queue);
	if (events & (EPOLLOUT | EPOLLERR) && p->want_write)
		net->client.writable(net->client.opaque, queue);
}

/* Watch for the peer's end even while nothing is read from it. */
static void interest(struct net_port *p)
{
	uint32_t idle = p->net->has_peer ? EPOLLRDHUP : 0u;

	if (p->watch && !p->net->ops->want)
		loop_watch_events(p->watch, (p->want_read ? EPOLLIN : idle) |
						    (p->want_write ? EPOLLOUT : 0u));
}

int net_port_open(struct net *net, unsigned queue, int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) || fcntl(fd, F_SETFD, FD_CLOEXEC))
		return -errno;
	return net_port_watch(net, queue, fd);
}

int net_port_watch(struct net *net, unsigned queue, int fd)
{
	struct net_port *p = &net->port[queue];
	int rc;

	BUG_ON(queue >= NET_MAX_QUEUES || p->fd >= 0);
	rc = loop_watch_fd(net->loop, fd, 0, on_event, p, &p->watch);
	if (rc)
		return rc;
	p->fd = fd;
	if (net->ops->want)
		loop_watch_events(p->watch, EPOLLRDHUP);
	interest(p);
	return 0;
}

int net_port_release(struct net *net, unsigned queue)
{
	struct net_port *p = &net->port[queue];
	int fd = p->fd;

	loop_unwatch(p->watch);
	p->watch = NULL;
	p->fd = -1;
	return fd;
}

void net_port_close(struct net *net, unsigned queue)
{
	int fd = net_port_release(net, queue);

	if (fd >= 0)
		close(fd);
}

void net_free(struct net *net)
{
	for (unsigned i = 0; i < NET_MAX_QUEUES; i++)
		net_port_close(net, i);
	vhost_user_close(&net->vhost_user);
	free(net->daemon);
	free(net);
}

void net_want(struct net *net, unsigned queue, bool read, bool write)
{
	struct net_port *p = &net->port[queue];

	if (p->want_read == read && p->want_write == write)
		return;
	p->want_read = read;
	p->want_write = write;
	interest(p);
	if (net->ops->want)
		net->ops->want(net, queue);
}

void net_attach(struct net *net, const struct net_client *client)
{
	net->client = *client;
}

void net_set_up(struct net *net, bool up)
{
	bool changed = net->up != up;

	net->up = up;
	if (changed && net->client.link)
		net->client.link(net->client.opaque, up);
}

void net_lost(struct net *net, const char *why)
{
	if (!net->up)
		return;
	log_put_for(net->name, LOG_WARN, "%s: %s: %s; the guest's link is down", net->name,
		    net->what, why);
	net_set_up(net, false);
	for (unsigned i = 0; i < net->nqueues; i++)
		if (net->port[i].want_write)
			net->client.writable(net->client.opaque, i);
}
