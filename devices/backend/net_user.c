/*
 * net_user: a network without privileges: a helper process speaks to the host's sockets
 * for the guest, one seqpacket message a frame.
 *
 * The helper is a program of its own, bantam-net-user, for two reasons: it parses what
 * the guest sends with a TCP/IP stack that this process need not trust, and that stack's
 * library is not linked here. It confines itself, ends when our end of the socket
 * closes, and is killed if we die otherwise. If it dies, the guest's link goes down.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backend/net_dgram.h"
#include "devices/backend/net_hostfwd.h"
#include "vmm/core/helper.h"
#include "vmm/core/log.h"

#define HELPER "bantam-net-user"
/*
 * The stack's own limit: one segment moves as much as a large offload would. Nor is there a
 * checksum to leave to it: it verifies each, and takes no partial ones.
 */
#define MTU_MAX 65520u
#define START_MS 10000
#define STOP_MS 1000

struct user {
	struct net net;		/* first */
	pid_t pid;
	int status_fd;
};

static struct user *user_of(struct net *net)
{
	return (struct user *)net;
}

static void user_close(struct net *net)
{
	struct user *u = user_of(net);

	net_port_close(net, 0);
	if (u->status_fd >= 0)
		close(u->status_fd);
	/* It has seen our close. */
	helper_reap(&u->pid, STOP_MS);
	net_free(net);
}

static void user_event(struct net *net, unsigned queue, uint32_t events)
{
	bool up = net->up;

	net_dgram_event(net, queue, events);
	if (up && !net->up)
		log_put(LOG_ERROR, "%s ended: the network is gone", HELPER);
}

static const struct net_ops user_ops = {
	.send = net_dgram_send,
	.recv = net_dgram_recv,
	.event = user_event,
	.close = user_close,
};

/* --- starting the helper ------------------------------------------------------------- */

static int spawn(struct user *u, const char *path, int frames, int status, const char *mtu,
		 const char *hostfwd)
{
	char frames_fd[12], status_fd[12];
	char *argv[] = { HELPER, frames_fd, status_fd, (char *)mtu, (char *)hostfwd, NULL };

	snprintf(frames_fd, sizeof(frames_fd), "%d", frames);
	snprintf(status_fd, sizeof(status_fd), "%d", status);
	return helper_spawn(path, argv, (int[]){ frames, status }, 2, &u->pid);
}

/* One line of the helper's status: 1: ready; 0: go on; -errno. */
static int on_line(const struct net_config *cfg, const char *line, struct err *err)
{
	if (!strcmp(line, NET_USER_READY))
		return 1;
	if (!strncmp(line, NET_USER_ERROR, strlen(NET_USER_ERROR)))
		return err_set(err, EADDRINUSE, "%s user: %s", cfg->option,
			       line + strlen(NET_USER_ERROR));
	/* Whoever asked for any free port has to read it somewhere. */
	if (!strncmp(line, NET_USER_FWD, strlen(NET_USER_FWD)))
		log_put(LOG_WARN, "%s: %s", cfg->name, line + strlen(NET_USER_FWD));
	return 0;
}

static int await(struct user *u, const struct net_config *cfg, struct err *err)
{
	char buf[4096];
	size_t n = 0;

	for (;;) {
		struct pollfd p = { u->status_fd, POLLIN, 0 };
		ssize_t got = 0;
		char *nl;
		int rc;

		if (poll(&p, 1, START_MS) > 0)
			got = read(u->status_fd, buf + n, sizeof(buf) - 1 - n);
		if (got <= 0)
			return err_set(err, EIO, "%s user: %s did not start", cfg->option, HELPER);
		n += (size_t)got;
		buf[n] = 0;
		while ((nl = strchr(buf, '\n')) != NULL) {
			*nl++ = 0;
			rc = on_line(cfg, buf, err);
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
			return err_set(err, EINVAL, "%s user: hostfwd=%.*s: %s", cfg->option,
				       (int)len, at, why);
		at += len + (at[len] == ',');
	}
	return 0;
}

static int start(struct user *u, const struct net_config *cfg, const char *path, struct err *err)
{
	int frames[2], status[2], rc;
	char mtu[12];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, frames))
		return err_sys(err, errno, "%s user", cfg->option);
	rc = net_port_open(&u->net, 0, frames[0]);
	if (rc) {
		close(frames[0]);
		close(frames[1]);
		return err_sys(err, -rc, "%s user", cfg->option);
	}
	if (pipe2(status, O_CLOEXEC)) {
		close(frames[1]);
		return err_sys(err, errno, "%s user", cfg->option);
	}
	u->status_fd = status[0];
	net_dgram_buffers(frames[0]);
	net_dgram_buffers(frames[1]);
	snprintf(mtu, sizeof(mtu), "%u", u->net.mtu);
	rc = spawn(u, path, frames[1], status[1], mtu, cfg->hostfwd ? cfg->hostfwd : "");
	close(frames[1]);
	close(status[1]);
	if (rc)
		return err_sys(err, -rc, "%s user: %s", cfg->option, path);
	/* Without forwards nothing can go wrong that would not show as a link that is down. */
	return cfg->hostfwd ? await(u, cfg, err) : 0;
}

int net_user_open(const struct net_config *cfg, struct net **out, struct err *err)
{
	char path[PATH_MAX + 64];
	struct user *u;
	int rc = check_hostfwd(cfg, err);

	if (rc)
		return rc;
	if (cfg->mtu > MTU_MAX)
		return err_set(err, EINVAL, "%s user: mtu=%u: at most %u here", cfg->option,
			       cfg->mtu, MTU_MAX);
	if (!helper_find(HELPER, path, sizeof(path)))
		return err_set(err, ENOENT, "%s user: %s is missing; it belongs next to bantam "
			       "or in ../libexec/bantam", cfg->option, HELPER);
	if (cfg->dry_run)
		return net_describe(cfg, out, err, "user network");
	u = (struct user *)net_new(&user_ops, cfg, sizeof(*u));
	if (!u)
		return err_sys(err, ENOMEM, "%s", cfg->option);
	u->status_fd = -1;
	u->net.mtu = (uint16_t)(cfg->mtu ? cfg->mtu : MTU_MAX);
	u->net.csum_good = u->net.has_peer = true;
	snprintf(u->net.what, sizeof(u->net.what), "user network");
	rc = start(u, cfg, path, err);
	if (rc) {
		user_close(&u->net);
		return rc;
	}
	*out = &u->net;
	return 0;
}
