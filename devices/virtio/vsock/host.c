/*
 * vsock/host: the host's end of vsock connections: Unix stream sockets.
 *
 * bantam listens at PATH: a host program connects, sends "CONNECT <port>\n" for a port of the
 * guest, and reads "OK <port>\n" with its own port when the guest has accepted; otherwise it reads
 * the end of the stream, after a line that begins with ERROR if the CONNECT line is refused. The
 * line is read as Firecracker reads it: CONNECT in any case, blanks around the words, a CR before
 * the newline. The device reads it up to its newline and no further: the bytes behind it are for the
 * guest, also if the program has closed its socket by then.
 *
 * The host program that serves port P listens at PATH_P. A connection to it is an errand: the loop,
 * which handles what guest and host programs send, can itself make no socket and connect nowhere.
 *
 * The sockets are read and written as files are: only this process has them, with O_NONBLOCK, so no
 * call waits, and descriptors that a program sends along do not arrive.
 */
#include <errno.h>
#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/vsock/vsock_impl.h"
#include "vmm/core/fd_rw.h"
#include "vmm/core/keep.h"
#include "vmm/core/parse.h"
#include "vmm/errand/errand.h"

/* A listening socket without a machine: host programs that connect wait for the next one. */
struct kept_listener {
	struct kept kept; /* first */
	struct unix_listener listener;
};

#define BACKLOG 1024
#define ACCEPTS 64u	 /* most accepts in one turn of the loop */
#define SUFFIX_BYTES 11u /* "_4294967295" */
#define PORT_ANY 0xffffffffu
/* Ports for host programs that connect, above the ports that servers use. */
#define PORT_FIRST 0x40000000u
#define PORT_LAST 0x7fffffffu
#define ANSWER_NS 10000000000u /* for a guest that is busy, or whose driver is gone */
#define DIAL_NS 2000000000u    /* as long as Linux waits */
#define LINE_LEAST (sizeof("CONNECT 0\n") - 1)

/* --- the listening socket ---------------------------------------------------------------- */

/*
 * Accept one host program. Returns false if none waits, or if descriptors or memory have run out.
 */
static bool accept_one(struct vsock *vs)
{
	int fd = accept4(vs->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct vsock_conn *c;

	if (fd < 0) {
		if (errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS)
			return errno == EINTR || errno == ECONNABORTED;
		vs->accept_paused = true;
		loop_watch_events(vs->listen, 0);
		vsock_arm_tick(vs, VSOCK_TICK_NS);
		return false;
	}
	c = vsock_conn_new(vs, VSOCK_GREETING);
	if (!c) {
		close(fd);
		return true;
	}
	vsock_conn_deadline(c, vsock_patience_ms * 1000000ull);
	if (vsock_conn_socket(c, fd))
		vsock_conn_free(c);
	else
		vsock_host_greet(c);
	return true;
}

static void on_listen(void *opaque, uint32_t events)
{
	struct vsock *vs = opaque;
	unsigned left = ACCEPTS;

	virtio_lock(&vs->vdev);
	while (left && accept_one(vs))
		left--;
	vsock_run(vs);
	virtio_unlock(&vs->vdev);
}

void vsock_host_listen_again(struct vsock *vs)
{
	if (!vs->accept_paused)
		return;
	vs->accept_paused = false;
	loop_watch_events(vs->listen, EPOLLIN);
}

static void drop_listener(struct kept *kept)
{
	struct kept_listener *k = (struct kept_listener *)kept;

	unix_socket_close(&k->listener);
	free(k);
}

/* Returns true if vs->listener is the last machine's, which listens at path. */
static bool take_listener(struct vsock *vs, const char *path)
{
	struct kept_listener *k = (struct kept_listener *)keep_take(vs->vdev.env->keep, vs->keep_id,
								    "vsock");

	if (!k)
		return false;
	if (!strcmp(k->listener.path, path) && unix_socket_in_place(&k->listener)) {
		vs->listener = k->listener;
		free(k);
		return true;
	}
	drop_listener(&k->kept);
	return false;
}

/* Without memory, or if its path is gone, the listener is closed, as without a keeper. */
static void keep_listener(struct vsock *vs)
{
	struct kept_listener *k;

	if (vs->listener.fd < 0 || !unix_socket_in_place(&vs->listener))
		return;
	k = calloc(1, sizeof(*k));
	if (!k)
		return;
	k->kept.drop = drop_listener;
	k->listener = vs->listener;
	vs->listener = (struct unix_listener){ .fd = -1 };
	keep_put(vs->vdev.env->keep, vs->keep_id, "vsock", &k->kept);
}

int vsock_host_listen(struct vsock *vs, const char *option, const char *path, struct err *err)
{
	const struct device_env *env = vs->vdev.env;
	/* The longest PATH_P must fit, too. */
	int rc = unix_socket_check(option, "socket", path, SUFFIX_BYTES, err);

	if (rc)
		return rc;
	strcpy(vs->path, path);
	vs->s.next_port = PORT_FIRST;
	if (env->dry_run)
		return 0;
	/* A write to a program that is gone raises it. */
	signal(SIGPIPE, SIG_IGN);
	if (env->keep && env->id) {
		vs->keep_id = strdup(env->id);
		if (!vs->keep_id)
			return err_sys(err, ENOMEM, "%s socket=%s", option, path);
	}
	if (!vs->keep_id || !take_listener(vs, path))
		rc = unix_socket_listen(&vs->listener, option, "socket", path, BACKLOG, err);
	if (rc)
		return rc;
	rc = loop_watch_fd(env->loop, vs->listener.fd, EPOLLIN, on_listen, vs, &vs->listen);
	return rc ? err_sys(err, -rc, "%s socket=%s", option, path) : 0;
}

void vsock_host_close(struct vsock *vs)
{
	loop_unwatch(vs->listen);
	vs->listen = NULL;
	if (vs->keep_id)
		keep_listener(vs);
	free(vs->keep_id);
	vs->keep_id = NULL;
	unix_socket_close(&vs->listener);
}

/* --- from host to guest -------------------------------------------------------------------- */

/*
 * Returns a port that no connection with guest_port has. The loop ends: there are fewer connections
 * than ports.
 */
static uint32_t free_port(struct vsock *vs, uint32_t guest_port)
{
	uint32_t port;

	do {
		port = vs->s.next_port;
		vs->s.next_port = port == PORT_LAST ? PORT_FIRST : port + 1;
	} while (vsock_conn_find(vs, guest_port, port));
	return port;
}

/* Parses a complete line without its newline. Returns NULL, or what is wrong with it. */
static const char *parse_line(char *line, uint32_t *port)
{
	static const char blank[] = " \t\v\f\r";
	char *rest, *word = strtok_r(line, blank, &rest);
	uint64_t n;

	if (!word || strcasecmp(word, "CONNECT"))
		return "the first line must be CONNECT and a port of the guest";
	word = strtok_r(NULL, blank, &rest);
	if (!word || strtok_r(NULL, blank, &rest))
		return "one port of the guest must follow CONNECT";
	if (word[strspn(word, "0123456789")] || parse_u64(word, &n) || n >= PORT_ANY)
		return "the port must be a number from 0 to 4294967294";
	*port = (uint32_t)n;
	return NULL;
}

/*
 * Returns 1 if c->line is complete, 0 if not yet, -1 if it never will be. Up to the length of the
 * shortest line there is nothing for the guest; after that each byte may be the last. What follows
 * the newline of a shorter line is dropped, and the line is refused.
 */
static int read_line(struct vsock_conn *c)
{
	char *end;

	for (;;) {
		size_t more = c->line_bytes < LINE_LEAST ? LINE_LEAST - c->line_bytes : 1;
		ssize_t n = fd_rw_read(c->fd, c->line + c->line_bytes, more);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -1;
		if (!n)
			return -1;
		end = memchr(c->line + c->line_bytes, '\n', (size_t)n);
		c->line_bytes = (uint8_t)(c->line_bytes + n);
		if (end) {
			*end = 0;
			return 1;
		}
		if (c->line_bytes == sizeof(c->line))
			return -1;
	}
}

/* The socket of a new client has room for a line, unless the program is gone. */
static void refuse(struct vsock_conn *c, const char *why)
{
	char line[80];
	int n = snprintf(line, sizeof(line), "ERROR %s\n", why);

	(void)!fd_rw_write(c->fd, line, (size_t)n);
	vsock_conn_free(c);
}

void vsock_host_greet(struct vsock_conn *c)
{
	struct vsock *vs = c->vs;
	const char *why = NULL;
	int rc = read_line(c);
	uint32_t port = 0;

	if (!rc)
		return;
	/* Without an active driver no guest program can listen. */
	if (rc < 0)
		why = "the first line is too long, or has no end";
	else
		why = parse_line(c->line, &port);
	if (!why && !vs->vdev.active)
		why = "the guest has no driver for this device now";
	if (why) {
		refuse(c, why);
		return;
	}
	vsock_conn_name(c, port, free_port(vs, port));
	c->s.stage = VSOCK_ASKED;
	vsock_conn_update(c);
	vsock_conn_deadline(c, ANSWER_NS);
	vsock_conn_send(c, VSOCK_OP_REQUEST);
}

bool vsock_host_left(struct vsock_conn *c)
{
	int bytes;

	if (ioctl(c->fd, FIONREAD, &bytes) || !bytes)
		return false;
	c->hup = true;
	vsock_conn_update(c);
	return true;
}

bool vsock_host_welcome(struct vsock_conn *c)
{
	char line[24];
	int n = snprintf(line, sizeof(line), "OK %u\n", c->s.host_port);

	/* The first write to this socket: it has room. */
	return fd_rw_write(c->fd, line, (size_t)n) == n || c->hup || errno == EPIPE;
}

/* --- from guest to host -------------------------------------------------------------------- */

struct dial {
	char path[UNIX_SOCKET_PATH_MAX + 1 + SUFFIX_BYTES];
	int fd; /* or -errno */
};

static void dial(void *opaque)
{
	struct dial *d = opaque;

	d->fd = unix_socket_connect(d->path, SOCK_NONBLOCK);
}

void vsock_host_redial(struct vsock_conn *c)
{
	struct dial d;

	snprintf(d.path, sizeof(d.path), "%s_%u", c->vs->path, c->s.host_port);
	errand_run(dial, &d);
	if (d.fd < 0) {
		bool full = d.fd == -EAGAIN;

		if (!full)
			vsock_conn_reset(c);
		else if (!c->deadline_ns)
			vsock_conn_deadline(c, DIAL_NS);
		if (full)
			vsock_arm_tick(c->vs, VSOCK_TICK_NS);
		return;
	}
	c->s.stage = VSOCK_OPEN;
	if (vsock_conn_socket(c, d.fd)) {
		vsock_conn_reset(c);
		return;
	}
	vsock_conn_opened(c);
	vsock_conn_send(c, VSOCK_OP_RESPONSE);
}

bool vsock_host_dial(struct vsock *vs, const struct vsock_hdr *hdr)
{
	struct vsock_conn *c = vsock_conn_new(vs, VSOCK_DIALING);

	if (!c)
		return false;
	vsock_conn_name(c, hdr->src_port, hdr->dst_port);
	c->s.peer_alloc = hdr->buf_alloc;
	c->s.peer_fwd = hdr->fwd_cnt;
	vsock_host_redial(c);
	return true;
}
