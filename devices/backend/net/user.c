/*
 * net/user: a network without privileges: a helper process uses the host's sockets for the guest.
 * If guest memory can be shared with the helper, it serves the card's queues itself
 * (net.vhost_user), and no frame passes through this file; otherwise frames go through two rings in shared memory
 * (net/ring.h). A socket pair carries no data and tells each end when the other is gone.
 *
 * The helper is not trusted either, once the guest's frames are in it, and it shares O_NONBLOCK and the counter of
 * each eventfd that it has. So this process writes none of these: the helper's bell is a socket, which takes a byte
 * without waiting (MSG_DONTWAIT), and our bell is only watched.
 *
 * The helper is a program of its own, bantam-net-user, for two reasons: it parses what the guest
 * sends with a TCP/IP stack that this process need not trust, and that stack's library is not
 * linked here. The helper confines itself, ends when our end of the socket closes, and is killed if
 * we die in another way. If it dies, the guest's link goes down.
 *
 * Each machine has a helper of its own. If the user asks for any free port of the host, the next
 * machine gets the same one: a note in the keeper holds what was bound.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backend/net/net_impl.h"
#include "devices/backend/net/hostfwd.h"
#include "devices/backend/net/ring.h"
#include "vmm/core/clock.h"
#include "vmm/core/fd_msg.h"
#include "vmm/core/fd_rw.h"
#include "vmm/core/helper.h"
#include "vmm/core/log.h"

#define HELPER "bantam-net-user"
/*
 * The stack's own limit: one segment moves as much as a large offload would. Checksum offload is
 * not offered: the stack verifies every checksum and takes no partial ones.
 */
#define MTU_MAX 65520u
#define START_MS 10000
#define STOP_MS 1000

struct user {
	struct net net; /* first */
	struct helper helper;
	int status_fd;
	struct net_ring_pair *rings;
	struct net_ring tx, rx; /* to and from the helper */
	struct loop_watch *bell_watch, *again_watch;
	int bell_fd;	    /* our bell, which the helper writes: closed with its watch */
	int again_fd;	    /* the same for ourselves */
	int helper_bell_fd; /* a socket */
	/* Lines from the helper: what it has bound; NULL: nothing. Once told, each ends with a NUL. */
	char *forwards;
	unsigned nforwards;
	struct loop_watch *status_watch; /* NULL: nobody waits for the guest's answers */
	char said[32];			 /* the status line so far */
	uint64_t answered;		 /* a bit for each of the first 64 forwards that was told */
	struct kept_ports *ports;	 /* NULL: not for the next machine */
	struct keep *keep;
	char *id;
};

/* Forwards that were bound. */
struct kept_ports {
	struct kept kept; /* first */
	char *asked;	  /* hostfwd, as in the configuration */
	char *bound;	  /* the same with the ports' real numbers; NULL: none yet */
};

static struct user *user_of(struct net *net)
{
	return (struct user *)net;
}

static void drop_ports(struct kept *kept)
{
	struct kept_ports *k = (struct kept_ports *)kept;

	free(k->asked);
	free(k->bound);
	free(k);
}

static void user_close(struct net *net)
{
	struct user *u = user_of(net);

	net_port_close(net, 0);
	loop_unwatch(u->bell_watch);
	loop_unwatch(u->again_watch);
	loop_unwatch(u->status_watch);
	if (u->helper_bell_fd >= 0)
		close(u->helper_bell_fd);
	if (u->rings)
		munmap(u->rings, sizeof(*u->rings));
	if (u->status_fd >= 0)
		close(u->status_fd);
	/* The helper has seen our close. */
	helper_reap(&u->helper, STOP_MS);
	if (u->keep)
		keep_put(u->keep, u->id, "ports", &u->ports->kept);
	else if (u->ports)
		drop_ports(&u->ports->kept);
	free(u->id);
	free(u->forwards);
	net_free(net);
}

static void wake_helper(struct user *u)
{
	/* No room: the bell has rung. */
	(void)!fd_msg_put(u->helper_bell_fd, "", 1, MSG_DONTWAIT);
}

/* The shutdown raises an event, which closes the port: not allowed in here. */
static void broken(struct user *u)
{
	log_put_for(u->net.name, LOG_WARN, "%s wrote an invalid record into the ring: closed",
		    HELPER);
	shutdown(u->net.port[0].fd, SHUT_RDWR);
}

static unsigned user_send(struct net *net, unsigned queue, struct net_frame *frame, unsigned n)
{
	struct user *u = user_of(net);
	unsigned i = 0;
	int rc = 1;

	if (net->port[0].fd < 0)
		return n; /* without a helper every frame is swallowed */
	while (i < n) {
		uint8_t *to;

		/* The helper would not take this frame. */
		if (!frame[i].len_bytes || frame[i].len_bytes > NET_RING_FRAME_MAX) {
			i++;
			continue;
		}
		rc = net_ring_room(&u->tx, frame[i].len_bytes, &to);
		if (!rc && !net_ring_await_room(&u->tx))
			continue;
		if (rc <= 0)
			break;
		for (unsigned k = 0; k < frame[i].niov; k++) {
			memcpy(to, frame[i].iov[k].iov_base, frame[i].iov[k].iov_len);
			to += frame[i].iov[k].iov_len;
		}
		net_ring_put(&u->tx, frame[i++].len_bytes);
	}
	if (net_ring_publish(&u->tx))
		wake_helper(u);
	if (rc >= 0)
		return i;
	broken(u);
	return n;
}

static unsigned user_recv(struct net *net, unsigned queue, struct net_frame *frame, unsigned n)
{
	struct user *u = user_of(net);
	const uint8_t *from;
	unsigned i = 0;
	int len = 0;

	if (net->port[0].fd < 0)
		return 0;
	while (i < n) {
		len = net_ring_peek(&u->rx, &from);
		if (!len && !net->polled && !net_ring_await_frames(&u->rx))
			continue;
		if (len <= 0)
			break;
		net_frame_fill(&frame[i++], from, (uint32_t)len);
		net_ring_take(&u->rx, (uint32_t)len);
	}
	if (net_ring_release(&u->rx))
		wake_helper(u);
	if (len < 0)
		broken(u);
	return i;
}

/* The helper has frames, or room, or both. */
static void on_bell(void *opaque)
{
	struct user *u = opaque;
	struct net_port *p = &u->net.port[0];

	if (p->fd >= 0 && p->want_read)
		u->net.client.readable(u->net.client.opaque, 0);
	if (p->fd >= 0 && p->want_write)
		u->net.client.writable(u->net.client.opaque, 0);
}

static bool user_ready(struct net *net, unsigned queue)
{
	return net_ring_has_frames(&user_of(net)->rx);
}

/* The bell may have rung while the client did not want to read. */
static void user_want(struct net *net, unsigned queue)
{
	struct user *u = user_of(net);

	if (net->port[0].want_read && user_ready(net, queue))
		(void)!fd_rw_write(u->again_fd, &(uint64_t){ 1 }, sizeof(uint64_t));
}

/* Log why the helper ended, if it wrote that to its status pipe and await has not read it. */
static void tell_reason(struct user *u)
{
	char buf[256];
	ssize_t n = fd_rw_read(u->status_fd, buf, sizeof(buf) - 1);

	buf[n > 0 ? n : 0] = 0;
	buf[strcspn(buf, "\n")] = 0;
	if (!strncmp(buf, NET_USER_ERROR, strlen(NET_USER_ERROR)))
		log_put_for(u->net.name, LOG_ERROR, "%s: %s: %s", u->net.name, HELPER,
			    buf + strlen(NET_USER_ERROR));
}

/* Tells once that the guest answers on the port of forward n. */
static void tell_answer(struct user *u, unsigned long n)
{
	const char *line = u->forwards, *arrow;

	if (n >= u->nforwards || n >= 64 || u->answered & 1ull << n)
		return;
	u->answered |= 1ull << n;
	while (n--)
		line += strlen(line) + 1;
	/* "tcp 127.0.0.1:40123 -> guest :22" */
	arrow = strstr(line, " -> guest :");
	if (arrow)
		log_put_for(line, LOG_WARN, "%s: the guest answers on port %s (%.*s)", u->net.name,
			    arrow + strlen(" -> guest :"), (int)(arrow - line), line);
}

/* Returns false if the helper does not keep to the protocol. */
static bool on_status_line(struct user *u, const char *line)
{
	size_t len = strlen(NET_USER_ANSWERS);
	unsigned long n;
	char *end;

	if (strncmp(line, NET_USER_ANSWERS, len) || line[len] < '0' || line[len] > '9')
		return false;
	n = strtoul(line + len, &end, 10);
	if (!*end)
		tell_answer(u, n);
	return !*end;
}

/* Lines of the helper while the machine runs. At their end, or after a wrong one, nothing is read any more. */
static void on_status(void *opaque, uint32_t events)
{
	struct user *u = opaque;
	size_t have = strlen(u->said);
	ssize_t n = fd_rw_read(u->status_fd, u->said + have, sizeof(u->said) - 1 - have);
	char *end;
	bool good = n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));

	if (n > 0)
		u->said[have + (size_t)n] = 0;
	while (good && (end = strchr(u->said, '\n'))) {
		*end = 0;
		good = on_status_line(u, u->said);
		memmove(u->said, end + 1, strlen(end + 1) + 1);
	}
	if (good && strlen(u->said) < sizeof(u->said) - 1)
		return;
	loop_unwatch(u->status_watch);
	u->status_watch = NULL;
}

static int hear_answers(struct user *u, const struct net_config *cfg, struct err *err)
{
	int rc = loop_watch_fd(u->net.loop, u->status_fd, EPOLLIN, on_status, u, &u->status_watch);

	return rc ? err_sys(err, -rc, "%s user", cfg->option) : 0;
}

/* The helper's end of the socket pair is closed: nothing will come again. */
static void user_event(struct net *net, unsigned queue, uint32_t events)
{
	if (!(events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)))
		return;
	net_port_close(net, 0);
	tell_reason(user_of(net));
	net_lost(net, HELPER " ended");
}

/* The helper serves the queues. */
static const struct net_ops queues_ops = {
	.event = user_event,
	.close = user_close,
};

static const struct net_ops rings_ops = {
	.send = user_send,
	.recv = user_recv,
	.event = user_event,
	.ready = user_ready,
	.want = user_want,
	.close = user_close,
};

/* --- starting the helper ------------------------------------------------------------- */

/* kind: NET_USER_RINGS or NET_USER_QUEUES; fd: its n descriptors. */
static int spawn(struct user *u, const struct net_config *cfg, const char *path, int peer,
		 int status, const char *kind, const int *fd, unsigned n)
{
	int keep[5] = { peer, status };
	char text[5][12], mtu[12], *argv[13] = { HELPER };
	unsigned argc = 8;

	memcpy(&keep[2], fd, n * sizeof(*fd));
	for (unsigned i = 0; i < 2 + n; i++)
		snprintf(text[i], sizeof(text[i]), "%d", keep[i]);
	snprintf(mtu, sizeof(mtu), "%u", u->net.mtu);
	argv[1] = text[0];
	argv[2] = text[1];
	argv[3] = mtu;
	argv[4] = (char *)(cfg->hostfwd ? cfg->hostfwd : "");
	argv[5] = cfg->host_loopback ? "on" : "off";
	argv[6] = cfg->tell_answers ? "on" : "off";
	argv[7] = (char *)kind;
	for (unsigned i = 0; i < n; i++)
		argv[argc++] = text[2 + i];
	return helper_spawn(path, argv, keep, 2 + n, &u->helper);
}

/* 0 or -ENOMEM. */
static int append(char **list, const char *between, const char *text)
{
	char *longer;

	if (asprintf(&longer, "%s%s%s", *list ? *list : "", *list ? between : "", text) < 0)
		return -ENOMEM;
	free(*list);
	*list = longer;
	return 0;
}

/* line: "tcp 127.0.0.1:40123 -> guest :22", which as an option is "tcp:127.0.0.1:40123-22". */
static int tell_forward(struct user *u, const struct net_config *cfg, const char *line)
{
	char proto[4], host[64], guest[8], option[80];

	/* A user who asked for any free port has to read its number somewhere. */
	log_put_for(line, LOG_WARN, "%s: %s", cfg->name, line);
	if (sscanf(line, "%3s %63s -> guest %7s", proto, host, guest) != 3)
		return 0;
	if (cfg->forwarded)
		cfg->forwarded(cfg->opaque, proto, host, guest);
	snprintf(option, sizeof(option), "%s:%s-%s", proto, host, guest + 1);
	return u->ports ? append(&u->ports->bound, ",", option) : 0;
}

/* Once all ports are bound. */
static int tell_forwards(struct user *u, const struct net_config *cfg)
{
	char *rest = u->forwards, *line;
	int rc = 0;

	while (!rc && (line = strsep(&rest, "\n"))) {
		rc = tell_forward(u, cfg, line);
		u->nforwards++;
	}
	return rc;
}

/* Handle one line of the helper's status. Returns 1 if it is ready, 0 to go on, or -errno. */
static int on_line(struct user *u, const struct net_config *cfg, const char *line, struct err *err)
{
	if (!strcmp(line, NET_USER_READY))
		return 1;
	if (!strncmp(line, NET_USER_ERROR, strlen(NET_USER_ERROR)))
		return err_set(err, EADDRINUSE, "%s user: %s", cfg->option,
			       line + strlen(NET_USER_ERROR));
	if (!strncmp(line, NET_USER_FWD, strlen(NET_USER_FWD)))
		return append(&u->forwards, "\n", line + strlen(NET_USER_FWD)) ?
			       err_sys(err, ENOMEM, "%s user", cfg->option) :
			       0;
	return 0;
}

static int await(struct user *u, const struct net_config *cfg, struct err *err)
{
	uint64_t until_ms = clock_now_ms() + START_MS, now;
	char buf[4096];
	size_t n = 0;

	for (;;) {
		struct pollfd p = { u->status_fd, POLLIN, 0 };
		ssize_t got = 0;
		char *nl;
		int rc;

		now = clock_now_ms();
		if (poll(&p, 1, now < until_ms ? (int)(until_ms - now) : 0) > 0)
			got = read(u->status_fd, buf + n, sizeof(buf) - 1 - n);
		if (got <= 0)
			return err_set(err, EIO, "%s user: %s did not start", cfg->option, HELPER);
		n += (size_t)got;
		buf[n] = 0;
		while ((nl = strchr(buf, '\n')) != NULL) {
			*nl++ = 0;
			rc = on_line(u, cfg, buf, err);
			if (rc)
				return rc < 0 ? rc : 0;
			n = strlen(nl);
			memmove(buf, nl, n + 1);
		}
	}
}

static int check_hostfwd(const struct net_config *cfg, struct err *err)
{
	const char *at = cfg->hostfwd;
	struct net_hostfwd fwd;

	while (at && *at) {
		unsigned len = (unsigned)strcspn(at, ",");
		const char *why = net_hostfwd_parse(at, len, &fwd);

		if (why)
			return err_set(err, EINVAL, "%s user: hostfwd=%.*s: %s; " NET_HOSTFWD_FORM,
				       cfg->option, (int)len, at, why);
		at += len + (at[len] == ',');
	}
	return 0;
}

/* Create rings and bells. *fd_out: the memory and the bell for the helper. 0 or -errno. */
static int create_rings(struct user *u, int *fd_out)
{
	int rc = net_ring_create(&fd_out[0], &u->rings), bell[2];

	if (rc)
		return rc;
	u->tx.mem = &u->rings->to_helper;
	u->rx.mem = &u->rings->from_helper;
	atomic_store(&u->rx.mem->hungry, 1);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, bell))
		return -errno;
	u->helper_bell_fd = bell[0];
	fd_out[1] = bell[1];
	rc = loop_watch_event(u->net.loop, on_bell, u, &u->again_watch, &u->again_fd);
	return rc ? rc : loop_watch_event(u->net.loop, on_bell, u, &u->bell_watch, &u->bell_fd);
}

static int spawn_with_rings(struct user *u, const struct net_config *cfg, const char *path,
			    int peer, int status)
{
	int fd[3] = { -1, -1, -1 }, rc = create_rings(u, fd);

	fd[2] = u->bell_fd;
	if (!rc)
		rc = spawn(u, cfg, path, peer, status, NET_USER_RINGS, fd, 3);
	for (unsigned i = 0; i < 2; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	return rc;
}

static int spawn_with_queues(struct user *u, const struct net_config *cfg, const char *path,
			     int peer, int status)
{
	int vhost_user[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, vhost_user))
		return -errno;
	vhost_user_adopt(&u->net.vhost_user, vhost_user[0]);
	rc = spawn(u, cfg, path, peer, status, NET_USER_QUEUES, &vhost_user[1], 1);
	close(vhost_user[1]);
	return rc;
}

static int start(struct user *u, const struct net_config *cfg, const char *path, struct err *err)
{
	int peer[2] = { -1, -1 }, status[2] = { -1, -1 }, rc = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, peer))
		rc = -errno;
	if (!rc && pipe2(status, O_CLOEXEC | O_NONBLOCK))
		rc = -errno;
	if (!rc)
		rc = net_port_open(&u->net, 0, peer[0]);
	if (!rc) {
		peer[0] = -1;
		u->status_fd = status[0];
		status[0] = -1;
		rc = cfg->memory_shared ? spawn_with_queues(u, cfg, path, peer[1], status[1]) :
					  spawn_with_rings(u, cfg, path, peer[1], status[1]);
	}
	for (unsigned i = 0; i < 4; i++) {
		int fd = ((int[]){ peer[0], peer[1], status[0], status[1] })[i];

		if (fd >= 0)
			close(fd);
	}
	if (rc)
		return err_sys(err, -rc, "%s user: %s", cfg->option, path);
	/*
	 * Waits for the helper only if ports are forwarded. Otherwise a helper that fails shows as
	 * a link that is down.
	 */
	return cfg->hostfwd ? await(u, cfg, err) : 0;
}

/* Notes the ports, for close to keep. */
static int note_ports(struct user *u, const struct net_config *cfg)
{
	u->id = strdup(cfg->id);
	u->ports = calloc(1, sizeof(*u->ports));
	if (!u->id || !u->ports)
		return -ENOMEM;
	u->ports->kept.drop = drop_ports;
	u->ports->asked = strdup(cfg->hostfwd);
	return u->ports->asked ? 0 : -ENOMEM;
}

/* Makes the network. hostfwd takes the place of cfg's, which is noted for the next machine. */
static int make(const struct net_config *cfg, const char *path, const char *hostfwd,
		struct net **out, struct err *err)
{
	struct net_config as = *cfg;
	struct user *u;
	int rc;

	as.hostfwd = hostfwd;
	u = (struct user *)net_new(cfg->memory_shared ? &queues_ops : &rings_ops, cfg, sizeof(*u));
	if (!u)
		return err_sys(err, ENOMEM, "%s", cfg->option);
	u->status_fd = u->helper_bell_fd = u->bell_fd = -1;
	u->net.mtu = (uint16_t)(cfg->mtu ? cfg->mtu : MTU_MAX);
	u->net.csum_good = u->net.has_peer = true;
	snprintf(u->net.what, sizeof(u->net.what), "user network");
	rc = start(u, &as, path, err);
	if (!rc && cfg->keep && hostfwd)
		rc = note_ports(u, cfg);
	if (!rc && hostfwd)
		rc = tell_forwards(u, cfg);
	if (!rc && hostfwd && cfg->tell_answers)
		rc = hear_answers(u, cfg, err);
	if (rc == -ENOMEM)
		err_sys(err, ENOMEM, "%s user", cfg->option);
	if (rc) {
		user_close(&u->net);
		return rc;
	}
	if (u->ports)
		u->keep = cfg->keep;
	*out = &u->net;
	return 0;
}

/* Makes the network with the ports that the last machine had. Returns false if that cannot be. */
static bool make_again(const struct net_config *cfg, const char *path, struct net **out)
{
	struct kept_ports *k = (struct kept_ports *)keep_take(cfg->keep, cfg->id, "ports");
	bool ok = k && k->bound && cfg->hostfwd && !strcmp(k->asked, cfg->hostfwd) &&
		  !make(cfg, path, k->bound, out, NULL);

	if (k)
		drop_ports(&k->kept);
	return ok;
}

int net_user_open(const struct net_config *cfg, struct net **out, struct err *err)
{
	char path[PATH_MAX + 64];
	struct err why;
	int rc = check_hostfwd(cfg, err);

	if (rc)
		return rc;
	if (cfg->mtu > MTU_MAX)
		return err_set(err, EINVAL, "%s user: mtu=%u: at most %u here", cfg->option,
			       cfg->mtu, MTU_MAX);
	rc = helper_find(HELPER, path, sizeof(path), &why);
	if (rc)
		return err_set(err, -rc, "%s user: %s", cfg->option, why.text);
	if (cfg->dry_run)
		return net_describe(cfg, out, err, "user network");
	return make_again(cfg, path, out) ? 0 : make(cfg, path, cfg->hostfwd, out, err);
}
