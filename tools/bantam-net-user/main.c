/*
 * bantam-net-user PEER_FD STATUS_FD MTU HOSTFWD on|off on|off queues VHOST_USER_FD | rings RINGS_FD BELL_FD
 * PEER_BELL_FD: the far side of --net user. on|off: host-loopback; tell when the guest answers (probe.h).
 *
 * Theory of operation. libslirp plays a router, DHCP and DNS server at 10.0.2.0/24 and
 * fec0::/64, and turns the guest's connections into sockets of this process. Frames
 * come and go as guest_end.h says (backlog.c keeps those that the guest cannot take); when the monitor closes PEER_FD, this process ends. Before the
 * first frame, the process binds the forwards and gives up everything else: root, capabilities, new
 * privileges, all files (a process of its own reads resolv.conf: names.c), and all system calls
 * that IP sockets do not need; one of those ends the process. Frames that the guest cannot take at once wait in a queue, up to a
 * limit; while the queue is long, the process reads nothing from the host's sockets. A guest can
 * make libslirp keep data (fragments of packets that never become complete): memory.c then drops
 * the guest's packets. If memory runs out all the same, glib ends the process. What libslirp asks of the kernel passes through sockets.c.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <slirp/libslirp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backend/net/hostfwd.h"
#include "tools/bantam-net-user/backlog.h"
#include "tools/bantam-net-user/confine.h"
#include "tools/bantam-net-user/guest_end.h"
#include "tools/bantam-net-user/memory.h"
#include "tools/bantam-net-user/names.h"
#include "tools/bantam-net-user/probe.h"
#include "tools/bantam-net-user/sockets.h"
#include "vmm/core/busypoll.h"
#include "vmm/core/clock.h"
#include "vmm/core/helper.h"
#include "vmm/core/log.h"

#define UNPOLLED_MAX 8u	   /* turns for the guest alone between two polls */
#define LOOKS_UNPOLLED 16u /* looks for the guest's frames between two polls, if there are none */
#define FDS_MAX CONFINE_FDS_MAX
#define POLLS_MAX (FDS_MAX + 1 + GUEST_END_POLLS)
#define FDS_WAIT_MS 100u /* until we try again whether a descriptor is free */

struct timer {
	SlirpTimerCb fn;
	void *opaque;
	int64_t at_ms; /* -1: not armed */
};

static struct {
	Slirp *slirp;
	int peer_fd, status_fd;
	const struct guest_end *guest;
	struct pollfd poll[POLLS_MAX];
	unsigned npolls;
	unsigned unpolled; /* turns since the last poll */
	struct busypoll busy;
	bool forward[FDS_MAX];	  /* by descriptor: listens for connections from the host */
	uint64_t no_fds_until_ms; /* 0: a descriptor may be free */
	unsigned nforwards;
	uint32_t probe_ms; /* until a probe is due */
	struct timer *timer[8];
	unsigned ntimers;
} me;

__attribute__((format(printf, 1, 2))) static void tell(const char *fmt, ...)
{
	char text[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* Not by stdio, which asks what the descriptor is. The monitor reads all of it, or is gone. */
	if (n > 0)
		(void)!write(me.status_fd, text,
			     (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

/* --- frames to the guest ----------------------------------------------------------------- */

static ssize_t send_packet(const void *buf, size_t len, void *opaque)
{
	backlog_send(buf, len);
	return (ssize_t)len;
}

/* --- slirp's callbacks ---------------------------------------------------------------------- */

static void guest_error(const char *msg, void *opaque)
{
}

static int64_t clock_ns(void *opaque)
{
	return (int64_t)clock_now_ns();
}

static void *timer_new(SlirpTimerCb fn, void *cb_opaque, void *opaque)
{
	struct timer *t = calloc(1, sizeof(*t));

	if (!t || me.ntimers == sizeof(me.timer) / sizeof(me.timer[0]))
		abort();
	*t = (struct timer){ fn, cb_opaque, -1 };
	return me.timer[me.ntimers++] = t;
}

static void timer_free(void *timer, void *opaque)
{
	struct timer *t = timer;

	if (t)
		t->at_ms = -1;
}

static void timer_mod(void *timer, int64_t at_ms, void *opaque)
{
	((struct timer *)timer)->at_ms = at_ms;
}

static void nothing_fd(int fd, void *opaque)
{
}

static void nothing(void *opaque)
{
}

static const SlirpCb callbacks = {
	.send_packet = send_packet,
	.guest_error = guest_error,
	.clock_get_ns = clock_ns,
	.timer_new = timer_new,
	.timer_free = timer_free,
	.timer_mod = timer_mod,
	.register_poll_fd = nothing_fd,
	.unregister_poll_fd = nothing_fd,
	.notify = nothing,
};

static bool takes_connections(int fd)
{
	return (unsigned)fd < FDS_MAX && me.forward[fd];
}

static bool can_open(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static int add_poll(int fd, int events, void *opaque)
{
	short want = 0;

	if (me.npolls == POLLS_MAX)
		return -1;
	want |= events & SLIRP_POLL_IN ? POLLIN : 0;
	want |= events & SLIRP_POLL_OUT ? POLLOUT : 0;
	want |= events & SLIRP_POLL_PRI ? POLLPRI : 0;
	if (me.no_fds_until_ms && takes_connections(fd))
		want = 0;
	me.poll[me.npolls] = (struct pollfd){ fd, want, 0 };
	return (int)me.npolls++;
}

static int get_revents(int i, void *opaque)
{
	int got = 0, events = i < 0 ? 0 : me.poll[i].revents;

	/* A connection that we cannot accept stays pending, and would wake us again at once. */
	if (events & POLLIN && takes_connections(me.poll[i].fd) &&
	    (me.no_fds_until_ms || !can_open())) {
		me.no_fds_until_ms = clock_now_ms() + FDS_WAIT_MS;
		return 0;
	}
	got |= events & POLLIN ? SLIRP_POLL_IN : 0;
	got |= events & POLLOUT ? SLIRP_POLL_OUT : 0;
	got |= events & POLLPRI ? SLIRP_POLL_PRI : 0;
	got |= events & POLLERR ? SLIRP_POLL_ERR : 0;
	got |= events & POLLHUP ? SLIRP_POLL_HUP : 0;
	return got;
}

/* glib prints each complaint of libslirp, and the guest causes them: as many as log.h allows. */
static void slirp_says(const char *domain, int level, const char *message, void *opaque)
{
	log_put(LOG_WARN, "user network: %s", message);
}

/* glib comes with libslirp; the program is not linked with it. */
static void limit_log(void)
{
	typedef void log_fn(const char *, int, const char *, void *);
	log_fn *(*set)(log_fn *, void *) = (log_fn * (*)(log_fn *, void *))
		dlsym(RTLD_DEFAULT, "g_log_set_default_handler");

	if (set)
		set(slirp_says, NULL);
}

/* --- the loop ------------------------------------------------------------------------------------ */

/* slirp copies an IP packet before it parses it; other frames have a fixed form. */
static void on_frame(const uint8_t *frame, size_t len_bytes)
{
	/* No look at the clock for each frame: that takes longer than all the rest. */
	if (probe_waits() && probe_takes(frame, len_bytes, clock_now_ms()))
		return;
	if (memory_takes_frame())
		slirp_input(me.slirp, frame, (int)len_bytes);
}

static void run_timers(void)
{
	int64_t now = (int64_t)clock_now_ms();

	for (unsigned i = 0; i < me.ntimers; i++) {
		struct timer *t = me.timer[i];

		if (t->at_ms < 0 || t->at_ms > now)
			continue;
		t->at_ms = -1;
		t->fn(t->opaque);
	}
	sockets_tick((uint64_t)now);
	me.probe_ms = probe_tick((uint64_t)now);
}

static uint32_t timeout_ms(uint32_t slirp_ms)
{
	int64_t now = (int64_t)clock_now_ms();

	if (slirp_ms > me.probe_ms)
		slirp_ms = me.probe_ms;
	for (unsigned i = 0; i < me.ntimers; i++) {
		int64_t left = me.timer[i]->at_ms - now;

		if (me.timer[i]->at_ms >= 0 && left < (int64_t)slirp_ms)
			slirp_ms = left < 0 ? 0 : (uint32_t)left;
	}
	if (me.no_fds_until_ms && slirp_ms > FDS_WAIT_MS)
		slirp_ms = FDS_WAIT_MS;
	return slirp_ms;
}

/* Busy-polls until until_ns. Returns true if the guest has frames or poll returned *n events. */
static bool look(uint64_t until_ns, int *n)
{
	for (unsigned i = 1;; i++) {
		bool ready = me.guest->ready();

		/* After UNPOLLED_MAX turns the host's sockets get one. */
		if (ready && ++me.unpolled < UNPOLLED_MAX)
			return true;
		if (ready || !(i % LOOKS_UNPOLLED)) {
			me.unpolled = 0;
			*n = poll(me.poll, me.npolls, 0);
			if (ready || *n)
				return true;
			if ((uint64_t)clock_ns(NULL) >= until_ns)
				return false;
		}
		busypoll_relax();
	}
}

/* Waits for work, at most ms. Returns poll's result, or 0 in a turn that skips poll. */
static int await(int ms)
{
	uint64_t begin = (uint64_t)clock_ns(NULL);
	bool looked = ms && me.guest->ready && me.busy.ns;
	int n = 0;

	if (looked && look(begin + me.busy.ns, &n)) {
		busypoll_paid(&me.busy);
		return n;
	}
	if (ms && !me.guest->rest())
		ms = 0;
	n = poll(me.poll, me.npolls, ms);
	if (ms && me.guest->ready)
		busypoll_learn(&me.busy, (uint64_t)clock_ns(NULL) - begin, looked);
	return n;
}

static void serve(void)
{
	bool more = false;

	for (;;) {
		bool full = backlog_full();
		uint32_t ms = 60000;
		int n;

		me.poll[0] = (struct pollfd){ me.peer_fd, POLLRDHUP, 0 };
		me.npolls = 1 + me.guest->polls(&me.poll[1]);
		if (me.no_fds_until_ms && clock_now_ms() >= me.no_fds_until_ms)
			me.no_fds_until_ms = 0;
		if (!full)
			slirp_pollfds_fill(me.slirp, &ms, add_poll, NULL);
		me.guest->publish();
		n = await(more ? 0 : (int)timeout_ms(ms));
		if ((n < 0 && errno != EINTR) || me.poll[0].revents ||
		    !me.guest->polled(&me.poll[1]))
			return;
		backlog_flush();
		more = me.guest->take(on_frame);
		me.guest->publish();
		if (!full)
			slirp_pollfds_poll(me.slirp, n < 0, get_revents, NULL);
		run_timers();
	}
}

/* --- setting up ------------------------------------------------------------------------------------ */

static bool create(unsigned mtu)
{
	SlirpConfig cfg = { .version = 1,
			    .in_enabled = true,
			    .in6_enabled = true,
			    .vprefix_len = 64,
			    .if_mtu = mtu,
			    .if_mru = mtu };

	inet_pton(AF_INET, "10.0.2.0", &cfg.vnetwork);
	inet_pton(AF_INET, "255.255.255.0", &cfg.vnetmask);
	inet_pton(AF_INET, "10.0.2.2", &cfg.vhost);
	inet_pton(AF_INET, "10.0.2.15", &cfg.vdhcp_start);
	inet_pton(AF_INET, "10.0.2.3", &cfg.vnameserver);
	inet_pton(AF_INET6, "fec0::", &cfg.vprefix_addr6);
	inet_pton(AF_INET6, "fec0::2", &cfg.vhost6);
	inet_pton(AF_INET6, "fec0::3", &cfg.vnameserver6);
	me.slirp = slirp_new(&cfg, &callbacks, NULL);
	return me.slirp;
}

/*
 * Returns 0, or -1 and errno. The guest's address is the one from DHCP or from neighbour
 * discovery. fd is the number that slirp's socket will get.
 */
static int listen_for(const struct net_hostfwd *fwd, int fd)
{
	struct sockaddr_in6 host = { .sin6_family = AF_INET6,
				     .sin6_addr = fwd->addr6,
				     .sin6_port = htons(fwd->host_port) };
	struct sockaddr_in6 guest = { .sin6_family = AF_INET6,
				      .sin6_port = htons(fwd->guest_port) };
	struct in_addr any = { 0 };
	int rc;

	if (fwd->v6)
		return slirp_add_hostxfwd(me.slirp, (struct sockaddr *)&host, sizeof(host),
					  (struct sockaddr *)&guest, sizeof(guest),
					  SLIRP_HOSTFWD_V6ONLY |
						  (fwd->udp ? SLIRP_HOSTFWD_UDP : 0));
	rc = slirp_add_hostfwd(me.slirp, fwd->udp, fwd->addr, fwd->host_port, any, fwd->guest_port);
	/* While the loopback is down, the host has no 127.0.0.1. A socket bound to the loopback
	 * device reaches the same once it is up, and stays closed to all other interfaces. */
	if (rc && errno == EADDRNOTAVAIL && fwd->any_addr) {
		rc = slirp_add_hostfwd(me.slirp, fwd->udp, any, fwd->host_port, any,
				       fwd->guest_port);
		/* Linux before 5.7 requires CAP_NET_RAW for this. */
		if (!rc && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", sizeof("lo"))) {
			errno = EADDRNOTAVAIL;
			rc = -1;
		}
	}
	return rc;
}

static const char *why_not(const struct net_hostfwd *fwd, int error)
{
	switch (error) {
	case EADDRINUSE:
		return "the port is in use";
	case EADDRNOTAVAIL:
		if (fwd->any_addr)
			return "there is no 127.0.0.1 here; ip link set lo up";
		return "this host does not have that address";
	case EACCES:
		return "no permission for a port that low; take one from 1024 on, or grant "
		       "CAP_NET_BIND_SERVICE";
	case EAFNOSUPPORT:
		return "this host has no IPv6";
	default:
		return strerror(error);
	}
}

/* Reports the bound address, like "127.0.0.1:8080" or "[::1]:8080". */
static void tell_bound(const struct net_hostfwd *fwd, int fd)
{
	struct sockaddr_storage bound = { 0 };
	socklen_t len = sizeof(bound);
	const struct sockaddr_in *in = (struct sockaddr_in *)&bound;
	const struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&bound;
	char addr[INET6_ADDRSTRLEN] = "?";

	if (getsockname(fd, (struct sockaddr *)&bound, &len))
		memset(&bound, 0, sizeof(bound));
	if (fwd->v6)
		inet_ntop(AF_INET6, &in6->sin6_addr, addr, sizeof(addr));
	else
		inet_ntop(AF_INET, fwd->any_addr ? &fwd->addr : &in->sin_addr, addr, sizeof(addr));
	tell(NET_USER_FWD "%s %s%s%s:%u -> guest :%u\n", fwd->udp ? "udp" : "tcp",
	     fwd->v6 ? "[" : "", addr, fwd->v6 ? "]" : "",
	     ntohs(fwd->v6 ? in6->sin6_port : in->sin_port), fwd->guest_port);
}

static bool forward(const char *text, unsigned len)
{
	struct net_hostfwd fwd;
	const char *why = net_hostfwd_parse(text, len, &fwd);
	unsigned tries = 0;
	int fd, rc;

	if (why) {
		tell(NET_USER_ERROR "hostfwd=%.*s: %s\n", (int)len, text, why);
		return false;
	}
	/* slirp does not return its socket, which gets the lowest free number. */
	fd = dup(me.peer_fd);
	close(fd);
	while ((rc = listen_for(&fwd, fd)) && errno == EADDRINUSE && helper_lingers(&tries))
		;
	if (rc) {
		tell(NET_USER_ERROR "hostfwd=%.*s: %s\n", (int)len, text, why_not(&fwd, errno));
		return false;
	}
	if ((unsigned)fd < FDS_MAX)
		me.forward[fd] = !fwd.udp;
	if (fwd.udp)
		sockets_forward(fd);
	else
		probe_add(fwd.guest_port, me.nforwards);
	me.nforwards++;
	tell_bound(&fwd, fd);
	return true;
}

static void send_probe(const void *frame, size_t len)
{
	backlog_send(frame, len);
}

static void tell_answered(unsigned index)
{
	tell(NET_USER_ANSWERS "%u\n", index);
}

static bool forward_all(const char *text)
{
	while (*text) {
		unsigned len = (unsigned)strcspn(text, ",");

		if (!forward(text, len))
			return false;
		text += len + (text[len] == ',');
	}
	return true;
}

static int number(const char *text, long max)
{
	char *end;
	long n = strtol(text, &end, 10);

	return *text && !*end && n >= 0 && n <= max ? (int)n : -1;
}

/* Opens the way to the guest: "queues" or "rings", and its descriptors. */
static const struct guest_end *open_guest(const char *kind, const int *fd, unsigned nfds)
{
	if (!strcmp(kind, NET_USER_QUEUES) && nfds == 1)
		return queue_end_open(fd[0]);
	if (!strcmp(kind, NET_USER_RINGS) && nfds == 3)
		return ring_end_open(fd[0], fd[1], fd[2]);
	errno = EINVAL;
	return NULL;
}

int main(int argc, char **argv)
{
	int mtu = argc > 8 && argc < 12 ? number(argv[3], 65521) : -1, fd[5];
	unsigned nfds = 0;
	bool good = mtu > 0;
	int rc;

	for (int i = 1; good && i < argc; i++) {
		if (i > 2 && i < 8)
			continue;
		fd[nfds] = number(argv[i], INT_MAX);
		good = fd[nfds++] >= 0;
	}
	if (!good) {
		fprintf(stderr, "bantam-net-user: started by bantam run --net user, not by hand\n");
		return 2;
	}
	helper_keep_only(fd, nfds);
	me.peer_fd = fd[0];
	me.status_fd = fd[1];
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* The monitor may have been killed before that. */
	if (poll(&(struct pollfd){ me.peer_fd, POLLRDHUP, 0 }, 1, 0) == 1)
		return 1;
	signal(SIGPIPE, SIG_IGN);
	limit_log();
	log_open();
	confine_fds();
	rc = names_begin();
	if (rc) {
		tell(NET_USER_ERROR "cannot start a process: %s\n", strerror(-rc));
		return 1;
	}
	sockets_begin();
	if (!strcmp(argv[5], "on"))
		sockets_open_host();
	me.guest = open_guest(argv[7], &fd[2], nfds - 2);
	if (!me.guest || !create((unsigned)mtu)) {
		tell(NET_USER_ERROR "the network cannot be set up\n");
		return 1;
	}
	backlog_open(me.guest);
	me.probe_ms = UINT32_MAX;
	if (!strcmp(argv[6], "on"))
		probe_open(send_probe, tell_answered);
	if (!forward_all(argv[4]))
		return 1;
	rc = confine();
	if (rc) {
		tell(NET_USER_ERROR "cannot give up privileges: %s\n", strerror(-rc));
		return 1;
	}
	tell(NET_USER_READY "\n");
	if (strcmp(argv[6], "on"))
		close(me.status_fd);
	busypoll_init(&me.busy, BUSYPOLL_MAX_NS);
	serve();
	names_end();
	log_end();
	return 0;
}
