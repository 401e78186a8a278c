/*
 * chardev/socket: a listening Unix stream socket, one client at a time.
 *
 * The socket is readable and writable by its owner alone: what it leads to is
 * often a root shell. A second client is told so and sent away, unless the
 * first has already shut down its sending side.
 */
#include "devices/backend/chardev/chardev_impl.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct sock {
	struct chardev chr;
	int listen_fd;
	struct loop_watch *listen;
	struct sockaddr_un addr;
	dev_t dev; /* of the path as we made it; ino 0: not made */
	ino_t ino;
};

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
	int fd = accept4(sock->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (chr->in_fd >= 0 && (chr->in_ended || !chr->connected))
		drop_client(chr);
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

static void sock_attached(struct chardev *chr)
{
	struct sock *sock = (struct sock *)chr;

	if (loop_watch_fd(chr->loop, sock->listen_fd, EPOLLIN, client_came, sock, &sock->listen))
		sock->listen = NULL;
}

static void sock_close(struct chardev *chr)
{
	struct sock *sock = (struct sock *)chr;
	struct stat st;

	loop_unwatch(sock->listen);
	if (chr->in_fd >= 0)
		close(chr->in_fd);
	if (sock->listen_fd >= 0)
		close(sock->listen_fd);
	if (sock->ino && !lstat(sock->addr.sun_path, &st) && st.st_dev == sock->dev &&
	    st.st_ino == sock->ino)
		unlink(sock->addr.sun_path);
}

static const struct chardev_ops sock_ops = {
	.attached = sock_attached,
	.hangup = drop_client,
	.close = sock_close,
};

/* Is anybody listening at addr? Else what lies there is a dead VM's. */
static bool live(const struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bool yes = fd < 0 || !connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) ||
		   errno != ECONNREFUSED;

	if (fd >= 0)
		close(fd);
	return yes;
}

static int bind_path(struct sock *sock, struct err *err)
{
	const struct sockaddr *addr = (const struct sockaddr *)&sock->addr;
	const char *path = sock->addr.sun_path;
	struct stat st;

	if (!bind(sock->listen_fd, addr, sizeof(sock->addr)))
		return 0;
	if (errno != EADDRINUSE)
		return err_sys(err, errno, "%s", sock->chr.what);
	if (lstat(path, &st) || !S_ISSOCK(st.st_mode))
		return err_set(err, EEXIST, "%s: exists and is not a socket", sock->chr.what);
	if (live(&sock->addr))
		return err_set(err, EADDRINUSE, "%s: another process listens there",
			       sock->chr.what);
	unlink(path);
	if (bind(sock->listen_fd, addr, sizeof(sock->addr)))
		return err_sys(err, errno, "%s", sock->chr.what);
	return 0;
}

static int start(struct sock *sock, struct err *err)
{
	struct stat st;
	int rc;

	sock->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (sock->listen_fd < 0)
		return err_sys(err, errno, "%s", sock->chr.what);
	fchmod(sock->listen_fd, 0600); /* Linux: the mode that bind gives the path */
	rc = bind_path(sock, err);
	if (rc)
		return rc;
	if (!lstat(sock->addr.sun_path, &st)) {
		sock->dev = st.st_dev;
		sock->ino = st.st_ino;
	}
	if (listen(sock->listen_fd, 4))
		return err_sys(err, errno, "%s", sock->chr.what);
	return 0;
}

int chardev_check_socket(const struct keyvals *cfg, struct err *err)
{
	const char *path = keys_text(cfg, CHARDEV_KEY_SOCKET);
	size_t room = sizeof(((struct sock *)0)->addr.sun_path);
	struct stat st;

	if (!*path || strlen(path) >= room)
		return err_set(err, ENAMETOOLONG,
			       "%s socket=%s: a socket's path has 1 to %zu bytes", cfg->option,
			       path, room - 1);
	if (!lstat(path, &st) && !S_ISSOCK(st.st_mode))
		return err_set(err, EEXIST, "%s socket=%s: exists and is not a socket", cfg->option,
			       path);
	return 0;
}

int chardev_open_socket(const struct keyvals *cfg, struct loop *loop, struct chardev **out,
			struct err *err)
{
	const char *path = keys_text(cfg, CHARDEV_KEY_SOCKET);
	struct chardev *chr;
	struct sock *sock;
	int rc = chardev_check_socket(cfg, err);

	if (rc)
		return rc;
	rc = chardev_new(cfg, loop, &sock_ops, sizeof(*sock), CHARDEV_REPLAY_BYTES, &chr, err,
			 "socket=%s", path);
	if (rc)
		return rc;
	sock = (struct sock *)chr;
	sock->listen_fd = -1;
	sock->addr.sun_family = AF_UNIX;
	strcpy(sock->addr.sun_path, path);
	chr->lossy = true;
	chr->out_how = CHARDEV_OUT_SEND;
	rc = start(sock, err);
	if (rc) {
		chardev_close(chr);
		return rc;
	}
	*out = chr;
	return 0;
}
