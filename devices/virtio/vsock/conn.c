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
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "devices/virtio/vsock/vsock_impl.h"
#include "vmm/core/clock.h"

unsigned vsock_patience_ms = 30000;

void vsock_arm_tick(struct vsock *vs, uint64_t delay_ns)
{
	uint64_t at = clock_now_ns() + delay_ns;

	/* Never put off, or it would not come while new deadlines do. */
	if (vs->tick_ns && vs->tick_ns <= at)
		return;
	vs->tick_ns = at;
	loop_timer_arm(vs->tick, delay_ns);
}

/* --- the table ------------------------------------------------------------------------ */

static unsigned bucket_of(uint32_t guest_port, uint32_t host_port)
{
	return (guest_port * 0x9e3779b1u ^ host_port * 0x85ebca6bu) >> 16 & (VSOCK_BUCKETS - 1);
}

struct vsock_conn *vsock_conn_find(struct vsock *vs, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_conn *c;

	LIST_FOREACH(c, &vs->bucket[bucket_of(guest_port, host_port)], hash)
	if (c->s.guest_port == guest_port && c->s.host_port == host_port)
		return c;
	return NULL;
}

struct vsock_conn *vsock_conn_new(struct vsock *vs, enum vsock_stage stage)
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
	c->s.stage = stage;
	c->s.room = vs->nconns < VSOCK_ROOMY ? VSOCK_ROOM : VSOCK_ROOM_CROWDED;
	LIST_INSERT_HEAD(&vs->conns, c, all);
	vs->nconns++;
	return c;
}

void vsock_conn_name(struct vsock_conn *c, uint32_t guest_port, uint32_t host_port)
{
	c->s.guest_port = guest_port;
	c->s.host_port = host_port;
	LIST_INSERT_HEAD(&c->vs->bucket[bucket_of(guest_port, host_port)], c, hash);
	c->hashed = true;
}

void vsock_conn_forget(struct vsock_conn *c)
{
	if (c->hashed)
		LIST_REMOVE(c, hash);
	c->hashed = false;
	if (c->linked)
		TAILQ_REMOVE(&c->vs->ready, c, ready);
	c->linked = false;
	c->s.pending = 0;
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
	vsock_conn_forget(c);
	close_socket(c);
	if (c->s.stage == VSOCK_DRAINING)
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
	c->s.pending |= (uint16_t)(1u << op);
	vsock_conn_link(c);
}

void vsock_conn_reset(struct vsock_conn *c)
{
	close_socket(c);
	if (!c->hashed) { /* the guest does not know it */
		vsock_conn_free(c);
		return;
	}
	c->s.stage = VSOCK_DYING;
	c->s.pending = 0;
	vsock_conn_send(c, VSOCK_OP_RST);
}

void vsock_conn_finish(struct vsock_conn *c)
{
	close_socket(c);
	c->s.stage = VSOCK_DYING;
	c->s.shut = VSOCK_SHUT_BOTH;
	c->s.pending &= 1u << VSOCK_OP_RESPONSE;
	vsock_conn_send(c, VSOCK_OP_SHUTDOWN);
}

/* --- the socket ------------------------------------------------------------------------ */

void vsock_conn_update(struct vsock_conn *c)
{
	uint32_t events = 0;

	switch (c->s.stage) {
	case VSOCK_GREETING:
		events = EPOLLIN;
		break;
	case VSOCK_ASKED:
		events = EPOLLPRI; /* never comes, but a hang-up does */
		break;
	case VSOCK_OPEN:
	case VSOCK_DRAINING:
		events = c->eof || c->muted ? 0 : EPOLLIN;
		if (vsock_conn_kept(c))
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

/* --- from the guest ---------------------------------------------------------------------- */
