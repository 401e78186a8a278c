/*
 * vsock/conn: one stream between a guest's socket and a Unix socket.
 *
 * Theory of operation. Towards the guest nothing is kept: when it is a
 * connection's turn, one readv puts the socket's bytes straight behind the headers
 * of as many of the guest's buffers as its credit allows. Towards the host the
 * guest's memory is written to the socket directly; only what the socket does not
 * take is copied to a ring, which credit bounds, and which goes when it is empty.
 * A socket whose data cannot be taken now (no credit, no buffer) is muted at its
 * next event, so that a busy connection costs no epoll_ctl.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/vsock/vsock_impl.h"
#include "vmm/core/clock.h"

unsigned vsock_patience_ms = 30000;

/* --- the table ------------------------------------------------------------------------ */

static unsigned bucket_of(uint32_t guest_port, uint32_t host_port)
{
	return (guest_port * 0x9e3779b1u ^ host_port * 0x85ebca6bu) >> 16 & (VSOCK_BUCKETS - 1);
}

struct vsock_conn *vsock_conn_find(struct vsock *vs, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_conn *c;

	LIST_FOREACH(c, &vs->bucket[bucket_of(guest_port, host_port)], hash)
	if (c->guest_port == guest_port && c->host_port == host_port)
		return c;
	return NULL;
}

struct vsock_conn *vsock_conn_new(struct vsock *vs, enum vsock_state state)
{
	struct vsock_conn *c;

	/* A guest that leaves such behind, as fast as it can, must not keep others out for so long. */
	if (vs->nconns == VSOCK_MAX_CONNS && !TAILQ_EMPTY(&vs->draining))
		vsock_conn_free(TAILQ_FIRST(&vs->draining));
	if (vs->nconns == VSOCK_MAX_CONNS)
		return NULL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->vs = vs;
	c->fd = -1;
	c->state = state;
	c->room = vs->nconns < VSOCK_ROOMY ? VSOCK_ROOM : VSOCK_ROOM_CROWDED;
	LIST_INSERT_HEAD(&vs->conns, c, all);
	vs->nconns++;
	return c;
}

void vsock_conn_name(struct vsock_conn *c, uint32_t guest_port, uint32_t host_port)
{
	c->guest_port = guest_port;
	c->host_port = host_port;
	LIST_INSERT_HEAD(&c->vs->bucket[bucket_of(guest_port, host_port)], c, hash);
	c->hashed = true;
}

static void forget(struct vsock_conn *c)
{
	if (c->hashed)
		LIST_REMOVE(c, hash);
	c->hashed = false;
	if (c->linked)
		TAILQ_REMOVE(&c->vs->ready, c, ready);
	c->linked = false;
	c->pending = 0;
}

void vsock_conn_link(struct vsock_conn *c)
{
	if (!c->linked)
		TAILQ_INSERT_TAIL(&c->vs->ready, c, ready);
	c->linked = true;
}

static void close_socket(struct vsock_conn *c)
{
	loop_unwatch(c->watch);
	c->watch = NULL;
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->readable = false;
	free(c->out);
	c->out = NULL;
	vsock_conn_deadline(c, 0);
}

void vsock_conn_free(struct vsock_conn *c)
{
	forget(c);
	close_socket(c);
	if (c->state == VSOCK_DRAINING)
		TAILQ_REMOVE(&c->vs->draining, c, ready);
	LIST_REMOVE(c, all);
	c->vs->nconns--;
	free(c);
}

void vsock_conn_deadline(struct vsock_conn *c, uint64_t delay_ns)
{
	c->vs->ntimed += !!delay_ns;
	c->vs->ntimed -= !!c->deadline_ns;
	c->deadline_ns = delay_ns ? clock_now_ns() + delay_ns : 0;
	if (delay_ns)
		vsock_arm_tick(c->vs, delay_ns);
}

void vsock_conn_send(struct vsock_conn *c, enum vsock_op op)
{
	c->pending |= (uint16_t)(1u << op);
	vsock_conn_link(c);
}

void vsock_conn_reset(struct vsock_conn *c)
{
	close_socket(c);
	if (!c->hashed) { /* the guest does not know it */
		vsock_conn_free(c);
		return;
	}
	c->state = VSOCK_DYING;
	c->pending = 0;
	vsock_conn_send(c, VSOCK_OP_RST);
}

void vsock_conn_finish(struct vsock_conn *c)
{
	close_socket(c);
	c->state = VSOCK_DYING;
	c->shut = VSOCK_SHUT_BOTH;
	c->pending &= 1u << VSOCK_OP_RESPONSE;
	vsock_conn_send(c, VSOCK_OP_SHUTDOWN);
}

/* --- the socket ------------------------------------------------------------------------ */

static uint32_t kept(const struct vsock_conn *c)
{
	return c->rx_cnt - c->fwd_cnt;
}

void vsock_conn_update(struct vsock_conn *c)
{
	uint32_t events = 0;

	switch (c->state) {
	case VSOCK_GREETING:
		events = EPOLLIN;
		break;
	case VSOCK_ASKED:
		events = EPOLLPRI; /* never comes, but a hang-up does */
		break;
	case VSOCK_OPEN:
	case VSOCK_DRAINING:
		events = c->eof || c->muted ? 0 : EPOLLIN;
		if (kept(c))
			events |= EPOLLOUT;
		if (!events && c->eof)
			events = EPOLLPRI;
		break;
	}
	if (!c->watch || events == c->events)
		return;
	c->events = events;
	loop_watch_events(c->watch, events);
}

static void drop_out(struct vsock_conn *c)
{
	free(c->out);
	c->out = NULL;
	c->fwd_cnt = c->rx_cnt;
}

/* The host program takes no more. What the guest sends is dropped, until it hears of that. */
static void refuse_data(struct vsock_conn *c)
{
	drop_out(c);
	if (c->shut & VSOCK_SHUT_RCV || c->state != VSOCK_OPEN)
		return;
	c->shut |= VSOCK_SHUT_RCV;
	vsock_conn_send(c, VSOCK_OP_SHUTDOWN);
}

/* Bytes taken; 0: none now; -errno. */
static ssize_t send_some(struct vsock_conn *c, struct iovec *iov, unsigned n)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n };
	ssize_t sent;

	do {
		sent = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return errno == EAGAIN ? 0 : -errno;
	return sent;
}

/* Tell the guest of its room before it runs out of it. */
static void offer_credit(struct vsock_conn *c)
{
	uint32_t known = c->room - (c->rx_cnt - c->fwd_told);

	if (c->state == VSOCK_OPEN && c->fwd_cnt != c->fwd_told && known < c->room / 2)
		vsock_conn_send(c, VSOCK_OP_CREDIT_UPDATE);
}

/* All is written: do what the guest's SHUTDOWN asked for. c may be gone afterwards. */
static void drained(struct vsock_conn *c)
{
	free(c->out);
	c->out = NULL;
	if (c->state == VSOCK_DRAINING)
		vsock_conn_free(c);
	else if (c->guest_shut == VSOCK_SHUT_BOTH)
		vsock_conn_reset(c);
	else if (c->guest_shut & VSOCK_SHUT_SEND)
		shutdown(c->fd, SHUT_WR);
}

/* DRAINING, from now on or still: to the end of the line, which the latest deadline has. */
static void be_patient(struct vsock_conn *c)
{
	if (c->state == VSOCK_DRAINING)
		TAILQ_REMOVE(&c->vs->draining, c, ready);
	c->state = VSOCK_DRAINING;
	TAILQ_INSERT_TAIL(&c->vs->draining, c, ready);
	vsock_conn_deadline(c, vsock_patience_ms * 1000000ull);
}

/* Write what was kept. c may be gone afterwards: false. */
static bool flush(struct vsock_conn *c)
{
	while (kept(c)) {
		uint32_t head = c->room - c->out_at;
		struct iovec iov[2] = { { c->out + c->out_at, kept(c) < head ? kept(c) : head },
					{ c->out, kept(c) < head ? 0 : kept(c) - head } };
		ssize_t n = send_some(c, iov, 2);

		if (n < 0)
			refuse_data(c);
		if (n <= 0)
			break;
		c->fwd_cnt += (uint32_t)n;
		c->out_at = (c->out_at + (uint32_t)n) % c->room;
		if (c->state == VSOCK_DRAINING)
			be_patient(c);
	}
	offer_credit(c);
	if (kept(c))
		return true;
	if (c->state == VSOCK_OPEN && c->guest_shut != VSOCK_SHUT_BOTH) {
		drained(c);
		return true;
	}
	drained(c);
	return false;
}

void vsock_conn_expire(struct vsock_conn *c)
{
	uint32_t before = c->fwd_cnt;

	/* A Unix socket calls itself writable only when it is nearly empty: a slow reader shows here. */
	if (c->state == VSOCK_DRAINING && (!flush(c) || c->fwd_cnt != before))
		return;
	vsock_conn_reset(c);
}

/* There is data, or an end: c's turn comes, unless it can do nothing with it. */
static void on_readable(struct vsock_conn *c)
{
	c->readable = true;
	if (c->linked || !vsock_conn_credit(c))
		c->muted = true;
	if (vsock_conn_credit(c)) {
		vsock_conn_link(c);
	} else if (!c->asked) {
		c->asked = true;
		vsock_conn_send(c, VSOCK_OP_CREDIT_REQUEST);
	}
}

static void on_open(struct vsock_conn *c, uint32_t events)
{
	c->hup |= !!(events & EPOLLHUP);
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR) && kept(c) && !flush(c))
		return;
	if (c->eof) {
		if (c->hup)
			vsock_conn_finish(c);
	} else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !c->muted) {
		on_readable(c);
	}
	vsock_conn_update(c);
}

static void on_socket(void *opaque, uint32_t events)
{
	struct vsock_conn *c = opaque;
	struct vsock *vs = c->vs;

	virtio_lock(&vs->vdev);
	switch (c->state) {
	case VSOCK_GREETING:
		vsock_host_greet(c);
		break;
	case VSOCK_ASKED:
		vsock_conn_reset(c); /* only a hang-up comes here */
		break;
	case VSOCK_OPEN:
		on_open(c, events);
		break;
	case VSOCK_DRAINING:
		if (flush(c))
			vsock_conn_update(c);
		break;
	}
	vsock_run(vs);
	virtio_unlock(&vs->vdev);
}

int vsock_conn_socket(struct vsock_conn *c, int fd)
{
	c->fd = fd;
	c->events = c->state == VSOCK_OPEN || c->state == VSOCK_GREETING ? EPOLLIN : EPOLLPRI;
	return loop_watch_fd(c->vs->vdev.env->loop, fd, c->events, on_socket, c, &c->watch);
}

void vsock_conn_opened(struct vsock_conn *c)
{
	vsock_conn_deadline(c, 0);
	c->state = VSOCK_OPEN;
	vsock_conn_update(c);
}

/* --- from the guest ---------------------------------------------------------------------- */

/* Copy iov's bytes from skip on behind what is kept. Credit was checked: there is room. */
static bool keep(struct vsock_conn *c, const struct iovec *iov, unsigned n, size_t skip)
{
	if (!c->out) {
		c->out = malloc(c->room);
		c->out_at = 0;
	}
	if (!c->out)
		return false;
	for (unsigned i = 0, at = (c->out_at + kept(c)) % c->room; i < n; i++) {
		const uint8_t *src = iov[i].iov_base;
		size_t left = iov[i].iov_len;

		if (skip >= left) {
			skip -= left;
			continue;
		}
		for (src += skip, left -= skip, skip = 0; left;) {
			size_t part = left < c->room - at ? left : c->room - at;

			memcpy(c->out + at, src, part);
			at = (unsigned)(at + part) % c->room;
			src += part;
			left -= part;
		}
	}
	return true;
}

static void data(struct vsock_conn *c, uint32_t len_bytes, const struct iovec *iov, unsigned n)
{
	ssize_t sent = 0;

	/* Beyond its credit, or before there is a stream, or after its end. */
	if (c->state != VSOCK_OPEN || len_bytes > c->room - kept(c) ||
	    c->guest_shut & VSOCK_SHUT_SEND) {
		vsock_conn_reset(c);
		return;
	}
	if (!len_bytes)
		return;
	if (c->shut & VSOCK_SHUT_RCV)
		sent = len_bytes;
	else if (!kept(c))
		sent = send_some(c, (struct iovec *)iov, n);
	if (sent < 0) {
		c->rx_cnt += len_bytes;
		refuse_data(c);
	} else if ((size_t)sent < len_bytes && !keep(c, iov, n, (size_t)sent)) {
		vsock_conn_reset(c);
		return;
	} else {
		c->rx_cnt += len_bytes;
		c->fwd_cnt += (uint32_t)sent;
	}
	offer_credit(c);
	vsock_conn_update(c);
}

static void guest_shutdown(struct vsock_conn *c, uint32_t flags)
{
	if (c->state == VSOCK_DYING) {
		if ((flags & VSOCK_SHUT_BOTH) == VSOCK_SHUT_BOTH)
			vsock_conn_reset(c);
		return;
	}
	if (c->state != VSOCK_OPEN) {
		vsock_conn_reset(c);
		return;
	}
	c->guest_shut |= flags & VSOCK_SHUT_BOTH;
	if (c->guest_shut & VSOCK_SHUT_RCV && !c->eof) {
		c->eof = true;
		c->readable = false;
		shutdown(c->fd, SHUT_RD);
	}
	if (!kept(c))
		drained(c);
	else
		vsock_conn_update(c);
}

void vsock_conn_orphan(struct vsock_conn *c)
{
	if (c->state != VSOCK_OPEN || !kept(c)) {
		vsock_conn_free(c);
		return;
	}
	forget(c);
	c->eof = true; /* whatever else the host program says, nobody hears it */
	be_patient(c);
	vsock_conn_update(c);
}

/* What was sent before a close is still delivered (Linux resets 8 s after it); an abort is one. */
static void guest_reset(struct vsock_conn *c)
{
	if (c->guest_shut == VSOCK_SHUT_BOTH)
		vsock_conn_orphan(c);
	else
		vsock_conn_free(c);
}

static void update_credit(struct vsock_conn *c, const struct vsock_hdr *hdr)
{
	c->peer_alloc = hdr->buf_alloc;
	c->peer_fwd = hdr->fwd_cnt;
	if (!vsock_conn_credit(c))
		return;
	c->asked = false;
	if (c->readable)
		vsock_conn_link(c);
}

void vsock_conn_packet(struct vsock_conn *c, const struct vsock_hdr *hdr, const struct iovec *iov,
		       unsigned n)
{
	update_credit(c, hdr);
	switch (hdr->op) {
	case VSOCK_OP_RW:
		if (c->state != VSOCK_DYING)
			data(c, hdr->len_bytes, iov, n);
		break;
	case VSOCK_OP_CREDIT_UPDATE:
		break;
	case VSOCK_OP_CREDIT_REQUEST:
		if (c->state == VSOCK_OPEN)
			vsock_conn_send(c, VSOCK_OP_CREDIT_UPDATE);
		break;
	case VSOCK_OP_SHUTDOWN:
		guest_shutdown(c, hdr->flags);
		break;
	case VSOCK_OP_RST:
		guest_reset(c);
		break;
	case VSOCK_OP_RESPONSE:
		if (c->state == VSOCK_ASKED && vsock_host_welcome(c))
			vsock_conn_opened(c);
		else if (c->state != VSOCK_DYING)
			vsock_conn_reset(c);
		break;
	default: /* a REQUEST for ports that are in use, or nonsense */
		vsock_conn_reset(c);
		break;
	}
}
