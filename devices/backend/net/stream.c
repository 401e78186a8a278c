/*
 * net/stream: frames on a stream socket, each after its length as 4 bytes, big-endian: the protocol
 * of QEMU's -netdev stream and of passt.
 *
 * Theory of operation. Sending gathers many frames, straight from guest memory, into one system
 * call. If the socket takes only part of a frame, the rest is copied to tail: the rest has to go
 * first, and the guest may reuse its buffer. Receiving reads as much as there is into one buffer
 * and copies frames out of it: for many small frames one call with a copy costs less than two calls
 * for each without one. A length that no frame can have means that the stream is out of step: the
 * connection is closed. A path is connected to again each second; until then the link is down and
 * frames are swallowed. To connect is an errand: no loop has the calls.
 */
#include "devices/backend/net/net_impl.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/core/bytes.h"
#include "vmm/core/fd_msg.h"
#include "vmm/core/log.h"
#include "vmm/core/parse.h"
#include "vmm/core/unix_socket.h"
#include "vmm/errand/errand.h"

#define RETRY_NS 1000000000ull
#define IN_BYTES (256u << 10)
#define BATCH 64u
#define LEN_BYTES 4u

struct stream {
	struct net net;			     /* first */
	char path[UNIX_SOCKET_PATH_MAX + 1]; /* "": an fd, which cannot be opened again */
	struct loop_watch *retry;
	int new_fd;		    /* what connect_path brings, or -errno */
	bool ended;		    /* the socket yields nothing more, or is out of step */
	uint32_t tail_at, tail_end; /* bytes of tail that are still to be sent */
	uint32_t in_at, in_end;	    /* bytes of in that are received and not yet taken */
	uint8_t tail[NET_FRAME_MAX + LEN_BYTES];
	uint8_t in[IN_BYTES];
};

static struct stream *stream_of(struct net *net)
{
	return (struct stream *)net;
}

/* Close a connection that is of no use any more. Loop's thread; calls the client. */
static void lost(struct stream *s)
{
	net_port_close(&s->net, 0);
	s->tail_at = s->tail_end = s->in_at = s->in_end = 0;
	s->ended = false;
	if (s->path[0])
		loop_timer_arm(s->retry, RETRY_NS);
	net_lost(&s->net, "the other end is gone");
}

/* --- sending ------------------------------------------------------------------------ */

/* Returns false if the socket is full, or gone (an event reports that). */
static bool send_tail(struct stream *s)
{
	while (s->tail_at < s->tail_end) {
		ssize_t rc = fd_msg_put(s->net.port[0].fd, s->tail + s->tail_at,
					s->tail_end - s->tail_at, MSG_DONTWAIT);

		if (rc <= 0)
			return false;
		s->tail_at += (uint32_t)rc;
	}
	s->tail_at = s->tail_end = 0;
	return true;
}

/* Keep the rest of a frame whose first gone bytes are sent. */
static void keep_tail(struct stream *s, const struct net_frame *f, uint32_t len_be, size_t gone)
{
	size_t off = gone;

	s->tail_at = s->tail_end = 0;
	if (off < sizeof(len_be)) {
		memcpy(s->tail, (uint8_t *)&len_be + off, sizeof(len_be) - off);
		s->tail_end = (uint32_t)(sizeof(len_be) - off);
		off = 0;
	} else {
		off -= sizeof(len_be);
	}
	for (unsigned i = 0; i < f->niov; i++) {
		size_t part = f->iov[i].iov_len;

		if (off >= part) {
			off -= part;
			continue;
		}
		memcpy(s->tail + s->tail_end, (uint8_t *)f->iov[i].iov_base + off, part - off);
		s->tail_end += (uint32_t)(part - off);
		off = 0;
	}
}

/* Send as many of n frames as one call takes. Returns how many; 0: the socket is full. */
static unsigned send_some(struct stream *s, const struct net_frame *frame, unsigned n)
{
	struct iovec iov[IOV_MAX];
	uint32_t len_be[BATCH];
	struct msghdr msg = { .msg_iov = iov };
	unsigned i;
	ssize_t rc;

	for (i = 0; i < n && i < BATCH && msg.msg_iovlen + frame[i].niov < IOV_MAX; i++) {
		put_be32(&len_be[i], frame[i].len_bytes);
		iov[msg.msg_iovlen++] = (struct iovec){ &len_be[i], sizeof(len_be[i]) };
		memcpy(&iov[msg.msg_iovlen], frame[i].iov, frame[i].niov * sizeof(*iov));
		msg.msg_iovlen += frame[i].niov;
	}
	n = i;
	rc = fd_msg_send(s->net.port[0].fd, &msg, MSG_DONTWAIT);
	if (rc < 0)
		return errno == EAGAIN ? 0 : n;
	for (i = 0; i < n; i++) {
		size_t whole = sizeof(len_be[i]) + frame[i].len_bytes;

		if ((size_t)rc < whole)
			break;
		rc -= (ssize_t)whole;
	}
	if (i < n && rc > 0) {
		keep_tail(s, &frame[i], len_be[i], (size_t)rc);
		i++;
	}
	return i;
}

static unsigned stream_send(struct net *net, unsigned queue, struct net_frame *frame, unsigned n)
{
	struct stream *s = stream_of(net);
	unsigned done = 0;

	if (net->port[0].fd < 0)
		return n;
	while (done < n) {
		unsigned some;

		if (!send_tail(s))
			return done;
		/* No peer would take this frame. */
		if (frame[done].len_bytes > NET_FRAME_MAX) {
			done++;
			continue;
		}
		some = send_some(s, frame + done, n - done);
		if (!some)
			return done;
		done += some;
	}
	return n;
}

/* --- receiving ------------------------------------------------------------------------- */

/* Returns the length of the next frame in the buffer, 0 if it is not complete, or -EPROTO. */
static int next_frame(struct stream *s)
{
	uint32_t len, have = s->in_end - s->in_at;

	for (;;) {
		if (have < LEN_BYTES)
			return 0;
		len = get_be32(s->in + s->in_at);
		if (len > NET_FRAME_MAX)
			return -EPROTO;
		if (len)
			return have - LEN_BYTES >= len ? (int)len : 0;
		s->in_at += LEN_BYTES;
		have -= LEN_BYTES;
	}
}

/* Returns false if nothing more is there now. */
static bool fill(struct stream *s)
{
	ssize_t rc;

	if (s->ended)
		return false;
	if (s->in_at) {
		memmove(s->in, s->in + s->in_at, s->in_end - s->in_at);
		s->in_end -= s->in_at;
		s->in_at = 0;
	}
	rc = fd_msg_get(s->net.port[0].fd, s->in + s->in_end, IN_BYTES - s->in_end, MSG_DONTWAIT);
	/* Once, and before what the peer had sent: it has gone without reading all of ours. */
	if (rc < 0 && errno == ECONNRESET)
		rc = fd_msg_get(s->net.port[0].fd, s->in + s->in_end, IN_BYTES - s->in_end,
				MSG_DONTWAIT);
	if (rc <= 0) {
		s->ended = !rc || errno != EAGAIN;
		return false;
	}
	s->in_end += (uint32_t)rc;
	return true;
}

static unsigned stream_recv(struct net *net, unsigned queue, struct net_frame *frame, unsigned n)
{
	struct stream *s = stream_of(net);
	bool more = true;
	unsigned i = 0;

	while (i < n && net->port[0].fd >= 0) {
		int len = next_frame(s);

		if (len < 0) {
			log_put_for(net->name, LOG_WARN,
				    "%s: %s: a frame has an impossible length; closed", net->name,
				    net->what);
			/* The next event closes the connection: not allowed in here. */
			shutdown(net->port[0].fd, SHUT_RDWR);
			s->ended = true;
			s->in_at = s->in_end = 0;
			break;
		}
		if (!len) {
			/* A short read means that the socket is empty: do not ask again. */
			if (!more || !fill(s))
				break;
			more = s->in_end == IN_BYTES;
			continue;
		}
		net_frame_fill(&frame[i++], s->in + s->in_at + LEN_BYTES, (uint32_t)len);
		s->in_at += LEN_BYTES + (uint32_t)len;
	}
	return i;
}

/* --- connection --------------------------------------------------------------------------- */

static void stream_event(struct net *net, unsigned queue, uint32_t events)
{
	struct stream *s = stream_of(net);
	struct net_port *p = &net->port[0];

	if (events & EPOLLIN && p->want_read)
		net->client.readable(net->client.opaque, 0);
	if (p->fd < 0)
		return;
	if (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP) || s->ended) {
		lost(s);
		return;
	}
	if (events & EPOLLOUT && p->want_write && send_tail(s))
		net->client.writable(net->client.opaque, 0);
}

static void connect_path(void *opaque)
{
	struct stream *s = opaque;

	s->new_fd = unix_socket_connect(s->path, SOCK_NONBLOCK);
}

/* 0, or -errno. */
static int connect_again(struct stream *s)
{
	int rc;

	errand_run(connect_path, s);
	if (s->new_fd < 0)
		return s->new_fd;
	rc = net_port_watch(&s->net, 0, s->new_fd);
	if (rc)
		close(s->new_fd);
	return rc;
}

static void on_retry(void *opaque)
{
	struct stream *s = opaque;

	if (connect_again(s)) {
		loop_timer_arm(s->retry, RETRY_NS);
		return;
	}
	log_put_for(s->net.name, LOG_WARN, "%s: %s: connected again", s->net.name, s->net.what);
	net_set_up(&s->net, true);
}

static void stream_close(struct net *net)
{
	loop_unwatch(stream_of(net)->retry);
	net_free(net);
}

static const struct net_ops stream_ops = {
	.send = stream_send,
	.recv = stream_recv,
	.event = stream_event,
	.close = stream_close,
};

static struct stream *create(const struct net_config *cfg, struct err *err)
{
	struct stream *s = (struct stream *)net_new(&stream_ops, cfg, sizeof(*s));

	if (s)
		s->net.has_peer = true;
	else
		err_sys(err, ENOMEM, "%s", cfg->option);
	return s;
}

int net_stream_from_fd(const struct net_config *cfg, int fd, struct net **out, struct err *err)
{
	struct stream *s = create(cfg, err);
	int rc;

	if (!s)
		return -ENOMEM;
	rc = net_port_open(&s->net, 0, fd);
	if (rc) {
		net_free(&s->net);
		return err_sys(err, -rc, "%s: fd %d", cfg->option, fd);
	}
	snprintf(s->net.what, sizeof(s->net.what), "stream, fd %d", fd);
	*out = &s->net;
	return 0;
}

static int open_fd(const struct net_config *cfg, const char *text, struct net **out,
		   struct err *err)
{
	int type = 0;
	socklen_t len = sizeof(type);
	uint64_t fd;

	if (parse_u64(text, &fd) || fd > INT32_MAX ||
	    getsockopt((int)fd, SOL_SOCKET, SO_TYPE, &type, &len) || type != SOCK_STREAM)
		return err_set(err, EBADF, "%s stream=%s: not an open stream socket", cfg->option,
			       cfg->stream);
	if (cfg->dry_run)
		return net_describe(cfg, out, err, "stream, fd %d", (int)fd);
	return net_stream_from_fd(cfg, (int)fd, out, err);
}

int net_stream_open(const struct net_config *cfg, struct net **out, struct err *err)
{
	struct stream *s;
	int rc;

	if (!strncmp(cfg->stream, "fd:", 3))
		return open_fd(cfg, cfg->stream + 3, out, err);
	rc = unix_socket_check(cfg->option, "stream", cfg->stream, 0, err);
	if (rc)
		return rc;
	if (cfg->dry_run)
		return net_describe(cfg, out, err, "stream %.100s", cfg->stream);
	s = create(cfg, err);
	if (!s)
		return -ENOMEM;
	strcpy(s->path, cfg->stream);
	snprintf(s->net.what, sizeof(s->net.what), "stream %.100s", cfg->stream);
	rc = loop_watch_timer(cfg->loop, on_retry, s, &s->retry);
	if (!rc)
		rc = connect_again(s);
	if (rc) {
		stream_close(&s->net);
		if (rc == -ECONNREFUSED)
			return err_set(err, -rc, "%s stream=%s: no process listens there",
				       cfg->option, cfg->stream);
		return err_sys(err, -rc, "%s stream=%s", cfg->option, cfg->stream);
	}
	*out = &s->net;
	return 0;
}
