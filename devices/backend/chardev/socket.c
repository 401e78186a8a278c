/*
 * chardev/socket: a listening Unix stream socket, one client at a time.
 *
 * Only its owner can read and write the socket, because a root shell is often behind it. A second
 * client gets a message and is disconnected, unless the first has already shut down its sending
 * side.
 */
#include "devices/backend/chardev/chardev_impl.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/core/unix_socket.h"

#define BACKLOG 4

struct sock {
	struct chardev chr;
	struct unix_listener listener;
	struct loop_watch *listen;
	const char *option; /* the device's, for messages */
	char *path;
};

/*
 * Its end may not be seen yet: the client may have gone just now, or the guest does not take what it
 * has written before.
 */
static bool client_gone(const struct chardev *chr)
{
	struct pollfd pfd = { .fd = chr->in_fd, .events = POLLRDHUP };

	return chr->in_ended || !chr->connected || poll(&pfd, 1, 0) == 1;
}

static void drop_client(struct chardev *chr)
{
	int fd = chr->in_fd;

	if (fd < 0)
		return;
	chardev_connect(chr, false);
	chardev_unwatch(chr);
	chr->in_fd = chr->out_fd = -1;
	close(fd);
}

/* Loop's thread. */
static void client_came(void *opaque, uint32_t events)
{
	static const char busy[] = "another client is connected\r\n";
	struct sock *sock = opaque;
	struct chardev *chr = &sock->chr;
	int fd = accept4(sock->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (chr->in_fd >= 0 && client_gone(chr)) {
		chardev_read_rest(chr);
		drop_client(chr);
	}
	if (chr->in_fd >= 0) {
		send(fd, busy, sizeof(busy) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		close(fd);
		return;
	}
	chr->in_fd = chr->out_fd = fd;
	if (chardev_watch_input(chr)) {
		drop_client(chr);
		return;
	}
	chardev_connect(chr, true);
	chardev_update_events(chr);
}

static void sock_start(struct chardev *chr)
{
	struct sock *sock = (struct sock *)chr;

	if (loop_watch_fd(chr->loop, sock->listener.fd, EPOLLIN, client_came, sock, &sock->listen))
		sock->listen = NULL;
}

static int start_listening(struct sock *sock, struct err *err)
{
	return unix_socket_listen(&sock->listener, sock->option, "socket", sock->path, BACKLOG,
				  err);
}

/* The client, if there is one, stays. */
static void sock_rest(struct chardev *chr)
{
	struct sock *sock = (struct sock *)chr;

	loop_unwatch(sock->listen);
	sock->listen = NULL;
	unix_socket_close(&sock->listener);
}

static int sock_resume(struct chardev *chr, struct err *err)
{
	struct sock *sock = (struct sock *)chr;
	int rc = sock->listener.fd < 0 ? start_listening(sock, err) : 0;

	if (!rc && !sock->listen)
		sock_start(chr);
	return rc;
}

static void sock_close(struct chardev *chr)
{
	struct sock *sock = (struct sock *)chr;

	free(sock->path);
	loop_unwatch(sock->listen);
	if (chr->in_fd >= 0)
		close(chr->in_fd);
	unix_socket_close(&sock->listener);
}

static const struct chardev_ops sock_ops = {
	.start = sock_start,
	.rest = sock_rest,
	.resume = sock_resume,
	.hangup = drop_client,
	.close = sock_close,
};

int chardev_open_socket(const struct keyvals *cfg, struct loop *loop, struct chardev **out,
			struct err *err)
{
	const char *path = keys_text(cfg, CHARDEV_KEY_SOCKET);
	struct chardev *chr;
	struct sock *sock;
	int rc = chardev_new(cfg, loop, &sock_ops, sizeof(*sock), CHARDEV_REPLAY_BYTES, &chr, err,
			     "socket=%s", path);

	if (rc)
		return rc;
	sock = (struct sock *)chr;
	sock->listener.fd = -1;
	chr->lossy = true;
	chr->out_how = CHARDEV_OUT_SEND;
	sock->option = cfg->option;
	sock->path = strdup(path);
	rc = sock->path ? start_listening(sock, err) : err_sys(err, ENOMEM, "%s", chr->what);
	if (rc) {
		chardev_close(chr);
		return rc;
	}
	*out = chr;
	return 0;
}
