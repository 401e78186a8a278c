/* net: what the backends share, and which one an option means. See net.h. */
#include "devices/backend/net/net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/core/log.h"
#include "vmm/core/parse.h"

struct net *net_new(const struct net_ops *ops, const struct net_config *cfg, size_t size_bytes)
{
	struct net *net = calloc(1, size_bytes);

	if (!net)
		return NULL;
	net->ops = ops;
	net->loop = cfg->loop;
	net->nqueues = 1;
	net->up = true;
	net->vhost.fd = -1;
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

void net_tell(struct net *net, unsigned queue, uint32_t events)
{
	const struct net_port *p = &net->port[queue];

	if (events & (EPOLLIN | EPOLLERR) && p->want_read)
		net->client.readable(net->client.opaque, queue);
	if (events & (EPOLLOUT | EPOLLERR) && p->want_write)
		net->client.writable(net->client.opaque, queue);
}

/* A peer that goes is heard of even while nothing is read from it. */
static void interest(struct net_port *p)
{
	uint32_t idle = p->net->has_peer ? EPOLLRDHUP : 0u;

	if (p->watch && !p->net->ops->want)
		loop_watch_events(p->watch, (p->want_read ? EPOLLIN : idle) |
						    (p->want_write ? EPOLLOUT : 0u));
}

int net_port_open(struct net *net, unsigned queue, int fd)
{
	struct net_port *p = &net->port[queue];
	int flags = fcntl(fd, F_GETFL), rc;

	BUG_ON(queue >= NET_MAX_QUEUES || p->fd >= 0);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) || fcntl(fd, F_SETFD, FD_CLOEXEC))
		return -errno;
	rc = loop_watch_fd(net->loop, fd, 0, on_event, p, &p->watch);
	if (rc)
		return rc;
	p->fd = fd;
	if (net->ops->want)
		loop_watch_events(p->watch, EPOLLRDHUP);
	interest(p);
	return 0;
}

void net_port_close(struct net *net, unsigned queue)
{
	struct net_port *p = &net->port[queue];

	loop_unwatch(p->watch);
	p->watch = NULL;
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

void net_free(struct net *net)
{
	for (unsigned i = 0; i < NET_MAX_QUEUES; i++)
		net_port_close(net, i);
	vhost_user_close(&net->vhost);
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
	log_put(LOG_WARN, "%s: %s: %s; the guest's link is down", net->name, net->what, why);
	net_set_up(net, false);
	for (unsigned i = 0; i < net->nqueues; i++)
		if (net->port[i].want_write)
			net->client.writable(net->client.opaque, i);
}

/* "7" or "7:8:9". */
static int parse_fds(const struct net_config *cfg, int *fd, unsigned *n, struct err *err)
{
	const char *at = cfg->fds;

	for (*n = 0; *n < NET_MAX_QUEUES; at++) {
		size_t len = strcspn(at, ":");
		char one[12] = "";
		uint64_t num;

		if (len < sizeof(one))
			memcpy(one, at, len);
		if (parse_u64(one, &num) || num > INT32_MAX)
			return err_set(err, EINVAL,
				       "%s fd=%s: must be a number, or one for each queue: fd=7:8",
				       cfg->option, cfg->fds);
		if (fcntl((int)num, F_GETFD) < 0)
			return err_set(err, EBADF, "%s fd=%s: %s is not an open file descriptor",
				       cfg->option, cfg->fds, one);
		fd[(*n)++] = (int)num;
		at += len;
		if (!*at)
			return 0;
	}
	return err_set(err, E2BIG, "%s fd=%s: more than %u queues", cfg->option, cfg->fds,
		       NET_MAX_QUEUES);
}

int net_fd_open(const struct net_config *cfg, struct net **out, struct err *err)
{
	int fd[NET_MAX_QUEUES], type = 0, rc;
	socklen_t len = sizeof(type);
	struct ifreq ifr;
	unsigned n;

	rc = parse_fds(cfg, fd, &n, err);
	if (rc)
		return rc;
	if (cfg->queues && cfg->queues != n)
		return err_set(err, EINVAL,
			       "%s fd=%s: queues=%u does not fit: there is one for each "
			       "descriptor; leave it out",
			       cfg->option, cfg->fds, cfg->queues);
	if (cfg->dry_run) {
		rc = net_describe(cfg, out, err, "fd %s", cfg->fds);
		if (!rc)
			(*out)->nqueues = n;
		return rc;
	}
	if (!ioctl(fd[0], TUNGETIFF, &ifr))
		return net_tap_from_fds(cfg, fd, n, out, err);
	if (n == 1 && !getsockopt(fd[0], SOL_SOCKET, SO_TYPE, &type, &len)) {
		if (type == SOCK_STREAM)
			return net_stream_from_fd(cfg, fd[0], out, err);
		return net_dgram_open(cfg, fd[0], out, err);
	}
	return err_set(err, EINVAL, "%s fd=%s: is neither a tap nor a socket", cfg->option,
		       cfg->fds);
}

int net_open(const struct net_config *cfg, struct net **out, struct err *err)
{
	unsigned given = !!cfg->tap + !!cfg->fds + !!cfg->stream + !!cfg->daemon + cfg->user;

	*out = NULL;
	if (given != 1)
		return err_set(
			err, EINVAL,
			"%s: needs one of tap=NAME, fd=N, stream=PATH, user and vhost-user=SOCKET",
			cfg->option);
	if (cfg->hostfwd && !cfg->user)
		return err_set(err, EINVAL, "%s: hostfwd= goes with user only", cfg->option);
	if ((cfg->ip || cfg->mask) && !cfg->tap)
		return err_set(err, EINVAL, "%s: ip= and mask= go with tap= only", cfg->option);
	if (cfg->queues > 1 && !cfg->tap && !cfg->fds && !cfg->daemon)
		return err_set(err, EINVAL,
			       "%s: queues=%u goes with tap=, fd= and vhost-user= only",
			       cfg->option, cfg->queues);
	if (cfg->tap)
		return net_tap_open(cfg, out, err);
	if (cfg->fds)
		return net_fd_open(cfg, out, err);
	if (cfg->stream)
		return net_stream_open(cfg, out, err);
	if (cfg->daemon)
		return net_daemon_open(cfg, out, err);
	return net_user_open(cfg, out, err);
}
