/*
 * sockets: see sockets.h.
 *
 * Theory of operation. libslirp shuts down the sending side of a socket once the guest has closed
 * the connection and all its data is written; that call is noted with its time. Whether the other
 * end is still open, and when it last sent something, the kernel knows (TCP_INFO), so a stale note
 * does no harm. To give a connection up, the socket is disconnected (connect to AF_UNSPEC): the
 * kernel resets the host's end, poll reports a hang-up, and libslirp reads an error, resets the
 * guest's end and closes the descriptor, as for any connection that breaks.
 *
 * Sockets are counted. While they use more than seven eighths of the descriptors, each new one
 * costs the oldest noted connection; the last eighth is what may come until libslirp has closed
 * those that were given up.
 *
 * Where the guest's packets may go is decided here, on the address that the kernel gets: libslirp has
 * many names for the host (10.0.2.2, broadcasts, all of fec0::/64), and passes other addresses on as
 * they are. What is refused is an unreachable host for the guest, which it hears at once. (libslirp
 * 4.7 spoils its buffer, and aborts, if connect itself says ECONNREFUSED.) To a forwarded
 * UDP port programs of the host send from the loopback; the last SOCKETS_PEERS of them get answers,
 * each from the socket that it has sent to.
 */
#include "tools/bantam-net-user/sockets.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tools/bantam-net-user/addresses.h"
#include "tools/bantam-net-user/calls.h"
#include "tools/bantam-net-user/confine.h"
#include "tools/bantam-net-user/resolver.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"

#define OTHERS 14u    /* descriptors that are no sockets of libslirp */
#define LOOK_MS 1000u /* between two looks at what is overdue */
#define IN_USE "user network: %u descriptors are in use: "

unsigned sockets_fin_ms = 60000;

static struct {
	uint64_t since_ms[CONFINE_FDS_MAX]; /* by descriptor: half-closed since then; 0: not */
	unsigned noted;			    /* how many of these */
	bool open[CONFINE_FDS_MAX];	    /* by descriptor: a socket that was opened here */
	unsigned sockets;		    /* how many of these */
	unsigned limit;			    /* on descriptors */
	uint64_t look_ms;
	bool host_open;
	bool forward[CONFINE_FDS_MAX]; /* by descriptor: a forwarded port for datagrams */
	struct peer {
		int fd;
		struct sockaddr_in6 at; /* or sockaddr_in, which is shorter; zeros behind it */
	} peer[SOCKETS_PEERS];
	unsigned npeers; /* ever; the next one's place is npeers % SOCKETS_PEERS */
} me = { .limit = CONFINE_FDS_MAX };

void sockets_begin(void)
{
	struct rlimit r;

	if (!getrlimit(RLIMIT_NOFILE, &r) && r.rlim_cur < CONFINE_FDS_MAX)
		me.limit = (unsigned)r.rlim_cur;
}

/* --- connections that the guest has closed ------------------------------------------------- */

static void note(int fd)
{
	uint64_t *since = &me.since_ms[fd];

	me.noted += !*since;
	*since = clock_now_ms();
}

static void forget(unsigned fd)
{
	me.noted -= !!me.since_ms[fd];
	me.since_ms[fd] = 0;
}

static void count(int fd, bool open)
{
	if ((unsigned)fd >= CONFINE_FDS_MAX)
		return;
	me.sockets += open - me.open[fd];
	me.open[fd] = open;
	forget((unsigned)fd);
}

/* Returns for how long the other end has sent nothing, or -1 if fd is no half-closed connection. */
static int64_t silent_ms(unsigned fd, uint64_t now_ms)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	uint64_t ms = now_ms - me.since_ms[fd];

	if (getsockopt((int)fd, IPPROTO_TCP, TCP_INFO, &info, &len) ||
	    (info.tcpi_state != TCP_FIN_WAIT1 && info.tcpi_state != TCP_FIN_WAIT2))
		return -1;
	return (int64_t)(info.tcpi_last_data_recv < ms ? info.tcpi_last_data_recv : ms);
}

static void give_up(unsigned fd)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	syscall(SYS_connect, (int)fd, &none, sizeof(none));
	forget(fd);
}

void sockets_tick(uint64_t now_ms)
{
	if (!me.noted || now_ms < me.look_ms)
		return;
	me.look_ms = now_ms + (sockets_fin_ms < LOOK_MS ? sockets_fin_ms : LOOK_MS);
	for (unsigned fd = 0; fd < CONFINE_FDS_MAX; fd++) {
		int64_t ms = me.since_ms[fd] ? silent_ms(fd, now_ms) : 0;

		if (ms < 0)
			forget(fd);
		else if (ms >= (int64_t)sockets_fin_ms)
			give_up(fd);
	}
}

/* Returns the oldest half-closed connection, or -1. */
static int oldest(void)
{
	while (me.noted) {
		unsigned found = CONFINE_FDS_MAX;

		for (unsigned fd = 0; fd < CONFINE_FDS_MAX; fd++)
			if (me.since_ms[fd] &&
			    (found == CONFINE_FDS_MAX || me.since_ms[fd] < me.since_ms[found]))
				found = fd;
		if (silent_ms(found, clock_now_ms()) >= 0)
			return (int)found;
		forget(found);
	}
	return -1;
}

/* Looks at a new descriptor, or at the error. Returns fd, with errno as it was. */
static int opened(int fd)
{
	int old, error = errno;

	count(fd, true);
	if (fd >= 0 ? me.sockets + OTHERS < me.limit - me.limit / 8 : error != EMFILE)
		return fd;
	old = oldest();
	if (old >= 0) {
		give_up((unsigned)old);
		log_put(LOG_WARN,
			IN_USE "the oldest connection that the guest has closed is given up",
			me.limit);
	} else if (fd < 0) {
		log_put(LOG_WARN, IN_USE "new connections of the guest fail", me.limit);
	}
	errno = error;
	return fd;
}

/* --- the host's own addresses ---------------------------------------------------------------- */

void sockets_open_host(void)
{
	me.host_open = true;
}

void sockets_forward(int fd)
{
	if ((unsigned)fd < CONFINE_FDS_MAX)
		me.forward[fd] = true;
}

static struct peer peer_of(int fd, const struct sockaddr *at)
{
	struct peer p = { .fd = fd };

	memcpy(&p.at, at,
	       at->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
	return p;
}

/* Newest first: an answer mostly follows its question. */
static bool is_peer(const struct peer *p)
{
	unsigned n = me.npeers < SOCKETS_PEERS ? me.npeers : SOCKETS_PEERS;

	for (unsigned i = 1; i <= n; i++)
		if (!memcmp(&me.peer[(me.npeers - i) % SOCKETS_PEERS], p, sizeof(*p)))
			return true;
	return false;
}

static void heard(int fd, const struct sockaddr *from)
{
	struct peer p;

	if ((unsigned)fd >= CONFINE_FDS_MAX || !me.forward[fd] || !addresses_closed(from))
		return;
	p = peer_of(fd, from);
	if (!is_peer(&p))
		me.peer[me.npeers++ % SOCKETS_PEERS] = p;
}

static bool may_reach(int fd, const struct sockaddr *to)
{
	struct peer p;

	if (me.host_open || !addresses_closed(to) || resolver_serves(to))
		return true;
	p = peer_of(fd, to);
	return (unsigned)fd < CONFINE_FDS_MAX && me.forward[fd] && is_peer(&p);
}

/* --- libslirp's calls ----------------------------------------------------------------------- */

/* What the filter does not let pass would end the process: libslirp gets an error instead. */
int socket(int domain, int type, int protocol)
{
	if (!calls_permit_socket(domain, type, protocol)) {
		errno = EPROTONOSUPPORT;
		return -1;
	}
	return opened((int)syscall(SYS_socket, domain, type, protocol));
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t len)
{
	if (!calls_permit_option(level, option)) {
		errno = ENOPROTOOPT;
		return -1;
	}
	return (int)syscall(SYS_setsockopt, fd, level, option, value, len);
}

int accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	return opened((int)syscall(SYS_accept, fd, addr, len));
}

int connect(int fd, const struct sockaddr *to, socklen_t len)
{
	int rc = -1;

	if (may_reach(fd, to))
		rc = (int)syscall(SYS_connect, fd, to, len);
	else
		errno = EHOSTUNREACH;
	if (rc && errno == ECONNREFUSED)
		errno = EHOSTUNREACH;
	return rc;
}

int close(int fd)
{
	count(fd, false);
	return (int)syscall(SYS_close, fd);
}

int shutdown(int fd, int how)
{
	int rc = (int)syscall(SYS_shutdown, fd, how);

	if (!rc && how == SHUT_WR && (unsigned)fd < CONFINE_FDS_MAX)
		note(fd);
	return rc;
}

ssize_t sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *to,
	       socklen_t to_len)
{
	struct sockaddr_storage server;

	if (to && !may_reach(fd, to)) {
		errno = EHOSTUNREACH;
		return -1;
	}
	if (to && resolver_ask(to, &server))
		to = (struct sockaddr *)&server;
	return syscall(SYS_sendto, fd, buf, len, flags, to, to_len);
}

ssize_t recvfrom(int fd, void *restrict buf, size_t len, int flags, struct sockaddr *restrict from,
		 socklen_t *restrict from_len)
{
	ssize_t n = syscall(SYS_recvfrom, fd, buf, len, flags, from, from_len);

	if (n >= 0 && from && from_len) {
		heard(fd, from);
		resolver_heard(from);
	}
	return n;
}

ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	ssize_t n = syscall(SYS_recvmsg, fd, msg, flags);

	/* An ICMP error, and the address that the datagram went to. */
	if (n >= 0 && flags & MSG_ERRQUEUE && msg->msg_name)
		resolver_failed(msg->msg_name);
	return n;
}
