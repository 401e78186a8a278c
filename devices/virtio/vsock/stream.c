/*
 * vsock/stream: the bytes of a connection from the guest to its socket, and the socket's events.
 *
 * Theory of operation. data writes guest memory directly to the socket. It copies what the socket
 * does not take to a ring (out) of room bytes, which credit bounds; later data goes behind these
 * bytes, and the loop waits until the socket is writable. The ring is freed when it is empty. Bytes
 * that the socket took count as passed on (fwd_cnt), so a program that does not read stops the
 * guest. After the program has shut down its reading, the device counts and drops data, and
 * SHUTDOWN(RCV) tells the guest.
 *
 * When its socket is readable, a connection joins the line for a turn (send.c). The loop mutes the
 * connection only if the socket's next event finds that it still cannot read (no credit, or not its
 * turn). A busy connection therefore needs no epoll_ctl.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "devices/virtio/vsock/vsock_impl.h"
#include "vmm/core/fd_rw.h"

static void drop_out(struct vsock_conn *c)
{
	free(c->out);
	c->out = NULL;
	c->s.fwd_cnt = c->s.rx_cnt;
}

/* The host program takes no more. Drop what the guest sends, and queue a SHUTDOWN(RCV). */
static void refuse_data(struct vsock_conn *c)
{
	drop_out(c);
	if (c->s.shut & VSOCK_SHUT_RCV || c->s.stage != VSOCK_OPEN)
		return;
	c->s.shut |= VSOCK_SHUT_RCV;
	vsock_conn_send(c, VSOCK_OP_SHUTDOWN);
}

/* Returns the bytes taken, 0 if none now, -errno on an error. */
static ssize_t send_some(struct vsock_conn *c, struct iovec *iov, unsigned n)
{
	ssize_t sent;

	do {
		sent = fd_rw_writev(c->fd, iov, (int)n);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return errno == EAGAIN ? 0 : -errno;
	return sent;
}

/* Tell the guest about free room before it runs out of room. */
static void offer_credit(struct vsock_conn *c)
{
	uint32_t known = c->s.room - (c->s.rx_cnt - c->s.fwd_told);

	if (c->s.stage != VSOCK_OPEN || c->s.fwd_cnt == c->s.fwd_told || known >= c->s.room / 2)
		return;
	if (c->s.room < VSOCK_ROOM && !vsock_conn_kept(c))
		vsock_conn_widen(c);
	vsock_conn_send(c, VSOCK_OP_CREDIT_UPDATE);
}

/* All is written: do what the guest's SHUTDOWN asked for. c may be freed. */
static void drained(struct vsock_conn *c)
{
	free(c->out);
	c->out = NULL;
	if (c->s.stage == VSOCK_DRAINING)
		vsock_conn_free(c);
	else if (c->s.guest_shut == VSOCK_SHUT_BOTH)
		vsock_conn_reset(c);
	else if (c->s.guest_shut & VSOCK_SHUT_SEND)
		shutdown(c->fd, SHUT_WR);
}

/*
 * Make c DRAINING, or renew its deadline: c goes to the end of draining, which has the latest
 * deadline.
 */
static void set_draining(struct vsock_conn *c)
{
	if (c->s.stage == VSOCK_DRAINING)
		TAILQ_REMOVE(&c->vs->draining, c, ready);
	c->s.stage = VSOCK_DRAINING;
	TAILQ_INSERT_TAIL(&c->vs->draining, c, ready);
	vsock_conn_deadline(c, vsock_patience_ms * 1000000ull);
}

/* Write the bytes that are kept. Returns false if c may have been freed. */
static bool flush(struct vsock_conn *c)
{
	while (vsock_conn_kept(c)) {
		uint32_t head = c->s.room - c->out_at;
		struct iovec iov[2] = {
			{ c->out + c->out_at,
			  vsock_conn_kept(c) < head ? vsock_conn_kept(c) : head },
			{ c->out, vsock_conn_kept(c) < head ? 0 : vsock_conn_kept(c) - head }
		};
		ssize_t n = send_some(c, iov, 2);

		if (n < 0)
			refuse_data(c);
		if (n <= 0)
			break;
		c->s.fwd_cnt += (uint32_t)n;
		c->out_at = (c->out_at + (uint32_t)n) % c->s.room;
		if (c->s.stage == VSOCK_DRAINING)
			set_draining(c);
	}
	offer_credit(c);
	if (vsock_conn_kept(c))
		return true;
	if (c->s.stage == VSOCK_OPEN && c->s.guest_shut != VSOCK_SHUT_BOTH) {
		drained(c);
		return true;
	}
	drained(c);
	return false;
}

void vsock_conn_expire(struct vsock_conn *c)
{
	uint32_t before = c->s.fwd_cnt;

	/*
	 * epoll reports a Unix socket as writable only when it is nearly empty: flush finds a slow
	 * reader.
	 */
	if (c->s.stage == VSOCK_DRAINING && (!flush(c) || c->s.fwd_cnt != before))
		return;
	vsock_conn_reset(c);
}

/* There is data, or the end of the stream: give c a turn, or ask for credit if it has none. */
static void on_readable(struct vsock_conn *c)
{
	c->readable = true;
	if (c->linked || !vsock_conn_credit(c))
		c->muted = true;
	if (vsock_conn_credit(c)) {
		vsock_conn_link(c);
	} else if (!c->s.asked) {
		c->s.asked = true;
		vsock_conn_send(c, VSOCK_OP_CREDIT_REQUEST);
	}
}

static void on_open(struct vsock_conn *c, uint32_t events)
{
	c->hup |= !!(events & EPOLLHUP);
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR) && vsock_conn_kept(c) && !flush(c))
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
	switch (c->s.stage) {
	case VSOCK_GREETING:
		vsock_host_greet(c);
		break;
	case VSOCK_ASKED:
		if (!vsock_host_left(c)) /* only a hang-up comes here */
			vsock_conn_reset(c);
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
	vsock_conn_limit_socket(c);
	c->events = c->s.stage == VSOCK_OPEN || c->s.stage == VSOCK_GREETING ? EPOLLIN : EPOLLPRI;
	return loop_watch_fd(c->vs->vdev.env->loop, fd, c->events, on_socket, c, &c->watch);
}

void vsock_conn_opened(struct vsock_conn *c)
{
	vsock_conn_deadline(c, 0);
	c->s.stage = VSOCK_OPEN;
	vsock_conn_update(c);
}

/* --- from the guest ---------------------------------------------------------------------- */

/*
 * Copy iov's bytes from skip on behind the bytes that are kept. The caller has checked credit:
 * there is room. Returns false if there is no memory.
 */
static bool keep(struct vsock_conn *c, const struct iovec *iov, unsigned n, size_t skip)
{
	if (!c->out) {
		c->out = malloc(c->s.room);
		c->out_at = 0;
	}
	if (!c->out)
		return false;
	for (unsigned i = 0, at = (c->out_at + vsock_conn_kept(c)) % c->s.room; i < n; i++) {
		const uint8_t *src = iov[i].iov_base;
		size_t left = iov[i].iov_len;

		if (skip >= left) {
			skip -= left;
			continue;
		}
		for (src += skip, left -= skip, skip = 0; left;) {
			size_t part = left < c->s.room - at ? left : c->s.room - at;

			memcpy(c->out + at, src, part);
			at = (unsigned)(at + part) % c->s.room;
			src += part;
			left -= part;
		}
	}
	return true;
}

static void data(struct vsock_conn *c, uint32_t len_bytes, const struct iovec *iov, unsigned n)
{
	ssize_t sent = 0;

	/*
	 * Reset c: the data exceeds the guest's credit, or comes before the stream is open or after
	 * its end.
	 */
	if (c->s.stage != VSOCK_OPEN || len_bytes > c->s.room - vsock_conn_kept(c) ||
	    c->s.guest_shut & VSOCK_SHUT_SEND) {
		vsock_conn_reset(c);
		return;
	}
	if (!len_bytes)
		return;
	if (c->s.shut & VSOCK_SHUT_RCV)
		sent = len_bytes;
	else if (!vsock_conn_kept(c))
		sent = send_some(c, (struct iovec *)iov, n);
	if (sent < 0) {
		c->s.rx_cnt += len_bytes;
		refuse_data(c);
	} else if ((size_t)sent < len_bytes && !keep(c, iov, n, (size_t)sent)) {
		vsock_conn_reset(c);
		return;
	} else {
		c->s.rx_cnt += len_bytes;
		c->s.fwd_cnt += (uint32_t)sent;
	}
	offer_credit(c);
	vsock_conn_update(c);
}

static void guest_shutdown(struct vsock_conn *c, uint32_t flags)
{
	if (c->s.stage == VSOCK_DYING) {
		if ((flags & VSOCK_SHUT_BOTH) == VSOCK_SHUT_BOTH)
			vsock_conn_reset(c);
		return;
	}
	if (c->s.stage != VSOCK_OPEN) {
		vsock_conn_reset(c);
		return;
	}
	c->s.guest_shut |= flags & VSOCK_SHUT_BOTH;
	if (c->s.guest_shut & VSOCK_SHUT_RCV && !c->eof) {
		c->eof = true;
		c->readable = false;
		shutdown(c->fd, SHUT_RD);
	}
	if (!vsock_conn_kept(c))
		drained(c);
	else
		vsock_conn_update(c);
}

void vsock_conn_orphan(struct vsock_conn *c)
{
	if (c->s.stage != VSOCK_OPEN || !vsock_conn_kept(c)) {
		vsock_conn_free(c);
		return;
	}
	vsock_conn_forget(c);
	c->eof = true; /* the guest no longer reads what the program sends */
	set_draining(c);
	vsock_conn_update(c);
}

/*
 * After a close (SHUTDOWN of both, which Linux follows by a RST 8 s later) the data sent before is
 * still delivered; after an abort it is not.
 */
static void guest_reset(struct vsock_conn *c)
{
	if (c->s.guest_shut == VSOCK_SHUT_BOTH)
		vsock_conn_orphan(c);
	else
		vsock_conn_free(c);
}

static void update_credit(struct vsock_conn *c, const struct vsock_hdr *hdr)
{
	c->s.peer_alloc = hdr->buf_alloc;
	c->s.peer_fwd = hdr->fwd_cnt;
	if (!vsock_conn_credit(c))
		return;
	c->s.asked = false;
	if (c->readable)
		vsock_conn_link(c);
}

void vsock_conn_packet(struct vsock_conn *c, const struct vsock_hdr *hdr, const struct iovec *iov,
		       unsigned n)
{
	update_credit(c, hdr);
	switch (hdr->op) {
	case VSOCK_OP_RW:
		if (c->s.stage != VSOCK_DYING)
			data(c, hdr->len_bytes, iov, n);
		break;
	case VSOCK_OP_CREDIT_UPDATE:
		break;
	case VSOCK_OP_CREDIT_REQUEST:
		if (c->s.stage == VSOCK_OPEN)
			vsock_conn_send(c, VSOCK_OP_CREDIT_UPDATE);
		break;
	case VSOCK_OP_SHUTDOWN:
		guest_shutdown(c, hdr->flags);
		break;
	case VSOCK_OP_RST:
		guest_reset(c);
		break;
	case VSOCK_OP_RESPONSE:
		if (c->s.stage == VSOCK_ASKED && vsock_host_welcome(c))
			vsock_conn_opened(c);
		else if (c->s.stage != VSOCK_DYING)
			vsock_conn_reset(c);
		break;
	default: /* a REQUEST for ports that are in use, or an unknown operation */
		vsock_conn_reset(c);
		break;
	}
}
