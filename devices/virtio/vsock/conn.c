/*
 * vsock/conn: a connection's life, its place in the table, and its deadline.
 *
 * Theory of operation. A connection joins a socket of the guest and a Unix socket of a host
 * program; its two ports name it. vsock_conn_state.stage goes through these steps:
 *
 * 1. A connection begins at either end.
 *    GREETING: a host program has connected to PATH, and host.c reads its line "CONNECT port". The
 *    guest does not know the connection yet. When the line is complete, the connection gets its
 *    ports, queues a REQUEST and is ASKED. A RESPONSE of the guest makes it OPEN, and the program
 *    reads "OK port"; any other packet resets it.
 *    DIALING: the guest has sent a REQUEST, and host.c connects to PATH_port. If the program there
 *    accepts, the connection is OPEN and queues a RESPONSE. If no program listens, it is reset. If
 *    the program's backlog is full, each tick tries again.
 * 2. OPEN: bytes move both ways, from the guest in stream.c and to the guest in send.c.
 * 3. Each end may stop one direction or both.
 *    The program stops writing: the guest gets SHUTDOWN(SEND). The program has closed its socket,
 *    and all that it wrote is read: the guest gets SHUTDOWN(BOTH), and the connection is DYING.
 *    The guest sends SHUTDOWN(RCV): send.c reads no more of the program's bytes. The guest sends
 *    SHUTDOWN(SEND): when the bytes kept for the program are written, the program reads the end of
 *    the stream. The guest sends both: after that, it also gets a RST, and the connection is DYING.
 * 4. The connection ends.
 *    DYING: the socket is closed, and a packet (RST or SHUTDOWN) has to tell the guest. The
 *    connection is freed when that packet is in a buffer of the guest.
 *    DRAINING: the guest has forgotten the connection (it sent RST after its SHUTDOWN(BOTH), or
 *    reset the device) while bytes are kept for the program. stream.c still writes these bytes. The
 *    connection is freed when they are written, when the program takes nothing for
 *    vsock_patience_ms, or when a new connection needs its place.
 *    Otherwise a RST of the guest ends a connection at once. An error of the socket, a packet
 *    against the rules and a deadline make it DYING with a RST.
 *
 * Who closes. A connection owns its socket from vsock_conn_socket on; only close_socket closes it,
 * for free, reset and finish, in the loop's thread.
 *
 * Credit (5.10.6.3). Each packet says how many bytes its sender can keep (buf_alloc) and how many
 * it has passed on (fwd_cnt). The device sends no more than vsock_conn_credit, and asks once
 * (CREDIT_REQUEST) when the credit is 0. The guest may send what fits room; more than that resets
 * the connection. No room is taken back from a connection, and each keeps VSOCK_ROOM_LEAST; what is
 * left of VSOCK_ROOM_SUM is shared (share), so a guest with many connections has less in each, and
 * all of them together never keep more. The device sends a CREDIT_UPDATE when the guest knows of less than half of room.
 */
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/vsock/vsock_impl.h"
#include "vmm/core/clock.h"
#include "vmm/errand/errand.h"

#define SHARES 64u /* of the room that is left, a new connection gets one of these */

unsigned vsock_patience_ms = 30000;

void vsock_arm_tick(struct vsock *vs, uint64_t delay_ns)
{
	uint64_t at = clock_now_ns() + delay_ns;

	/* Only move the tick earlier, or a stream of new deadlines would delay it for ever. */
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

/* Returns the room beyond VSOCK_ROOM_LEAST that one more connection may have. */
static uint32_t share(const struct vsock *vs)
{
	uint32_t kept = (VSOCK_MAX_CONNS - vs->nconns) * VSOCK_ROOM_LEAST; /* for later ones */
	uint32_t part = (VSOCK_ROOM_SUM - vs->room_sum - kept) / SHARES;

	part -= part % VSOCK_ROOM_LEAST;
	return part < VSOCK_ROOM - VSOCK_ROOM_LEAST ? part : VSOCK_ROOM - VSOCK_ROOM_LEAST;
}

void vsock_conn_widen(struct vsock_conn *c)
{
	uint32_t more = share(c->vs);

	free(c->out); /* a ring of the old size, empty */
	c->out = NULL;
	more = more < VSOCK_ROOM - c->s.room ? more : VSOCK_ROOM - c->s.room;
	c->s.room += more;
	c->vs->room_sum += more;
	if (more)
		vsock_conn_limit_socket(c);
}

struct vsock_conn *vsock_conn_new(struct vsock *vs, enum vsock_stage stage)
{
	struct vsock_conn *c;

	/*
	 * A guest that leaves DRAINING connections behind as fast as it can must not keep other
	 * connections out until they expire.
	 */
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
	c->s.room = VSOCK_ROOM_LEAST + share(vs);
	vs->room_sum += c->s.room;
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
	c->vs->room_sum -= c->s.room;
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

/* An errand: no loop has the call, and few connections need it. */
static void limit(void *opaque)
{
	struct vsock_conn *c = opaque;
	int bytes = (int)c->s.room;

	c->narrow = !setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

void vsock_conn_limit_socket(struct vsock_conn *c)
{
	/* The default is less than VSOCK_ROOM. */
	if (c->fd >= 0 && (c->s.room < VSOCK_ROOM || c->narrow))
		errand_run(limit, c);
}

void vsock_conn_update(struct vsock_conn *c)
{
	uint32_t events = 0;

	switch (c->s.stage) {
	case VSOCK_GREETING:
		events = EPOLLIN;
		break;
	case VSOCK_ASKED:
		/* EPOLLPRI never comes, but a hang-up is reported, until it is known. */
		events = c->hup ? 0 : EPOLLPRI;
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
