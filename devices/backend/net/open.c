/*
 * net/open: the factory: which back end an option means. See net.h. No file in this folder calls
 * it.
 */
#include "devices/backend/net/net_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <sys/stat.h>

#include "vmm/core/fd_kind.h"
#include "vmm/core/fd_stat.h"
#include "vmm/core/parse.h"

/* "7" or "7:8:9". */
static int parse_fds(const struct net_config *cfg, int *fd, unsigned *n, struct err *err)
{
	const char *at = cfg->fds;

	for (*n = 0; *n < NET_MAX_QUEUES; at++) {
		size_t len = strcspn(at, ":");
		char one[12] = "";
		uint64_t num;

		if (len < sizeof(one))
			memcpy(one, at, len);
		if (parse_u64(one, &num) || num > INT32_MAX)
			return err_set(err, EINVAL,
				       "%s fd=%s: must be a number, or one for each queue: fd=7:8",
				       cfg->option, cfg->fds);
		if (fcntl((int)num, F_GETFD) < 0)
			return err_set(err, EBADF, "%s fd=%s: %s is not an open file descriptor",
				       cfg->option, cfg->fds, one);
		fd[(*n)++] = (int)num;
		at += len;
		if (!*at)
			return 0;
	}
	return err_set(err, E2BIG, "%s fd=%s: more than %u queues", cfg->option, cfg->fds,
		       NET_MAX_QUEUES);
}

/* Replaces each descriptor by a copy. */
static int copy_fds(const struct net_config *cfg, int *fd, unsigned n, struct err *err)
{
	int copy[NET_MAX_QUEUES];

	for (unsigned i = 0; i < n; i++) {
		copy[i] = fcntl(fd[i], F_DUPFD_CLOEXEC, 3);
		if (copy[i] >= 0)
			continue;
		err_sys(err, errno, "%s fd=%s", cfg->option, cfg->fds);
		while (i-- > 0)
			close(copy[i]);
		return -EMFILE;
	}
	memcpy(fd, copy, n * sizeof(*fd));
	return 0;
}

/* Several are the queues of a tap; one may also be a socket. */
static int check_kinds(const struct net_config *cfg, const int *fd, unsigned n, struct err *err)
{
	char kind[96];
	struct stat st;

	for (unsigned i = 0; i < n; i++) {
		if (fd_is_tap(fd[i]) || (n == 1 && !fd_stat(fd[i], &st) && S_ISSOCK(st.st_mode)))
			continue;
		return err_set(err, EINVAL, "%s fd=%s: %d is %s%s", cfg->option, cfg->fds, fd[i],
			       fd_kind(fd[i], kind, sizeof(kind)),
			       n == 1 ? ", neither a tap nor a socket" :
					" and not a tap, as several must be");
	}
	return 0;
}

static int open_fds(const struct net_config *cfg, struct net **out, struct err *err)
{
	int fd[NET_MAX_QUEUES], type = 0, rc;
	socklen_t len = sizeof(type);
	unsigned n;

	rc = parse_fds(cfg, fd, &n, err);
	if (rc)
		return rc;
	if (cfg->queues && cfg->queues != n)
		return err_set(err, EINVAL,
			       "%s fd=%s: queues=%u does not fit: there is one for each "
			       "descriptor; leave it out",
			       cfg->option, cfg->fds, cfg->queues);
	rc = check_kinds(cfg, fd, n, err);
	if (rc)
		return rc;
	if (cfg->dry_run) {
		rc = net_describe(cfg, out, err, "fd %s", cfg->fds);
		if (!rc)
			(*out)->nqueues = n;
		return rc;
	}
	rc = cfg->fds_dup ? copy_fds(cfg, fd, n, err) : 0;
	if (rc)
		return rc;
	if (fd_is_tap(fd[0]))
		return net_tap_from_fds(cfg, fd, n, out, err);
	if (getsockopt(fd[0], SOL_SOCKET, SO_TYPE, &type, &len))
		return err_sys(err, errno, "%s fd=%s", cfg->option, cfg->fds);
	if (type == SOCK_STREAM)
		return net_stream_from_fd(cfg, fd[0], out, err);
	return net_dgram_open(cfg, fd[0], out, err);
}

int net_open(const struct net_config *cfg, struct net **out, struct err *err)
{
	unsigned given = !!cfg->tap + !!cfg->fds + !!cfg->stream + !!cfg->daemon + cfg->user;

	*out = NULL;
	if (given != 1)
		return err_set(
			err, EINVAL,
			"%s: needs one of tap=NAME, fd=N, stream=PATH, user and vhost-user=SOCKET",
			cfg->option);
	if (cfg->hostfwd && !cfg->user)
		return err_set(err, EINVAL, "%s: hostfwd= goes with user only", cfg->option);
	if (cfg->host_loopback && !cfg->user)
		return err_set(err, EINVAL, "%s: host-loopback= goes with user only", cfg->option);
	if ((cfg->ip || cfg->mask) && !cfg->tap)
		return err_set(err, EINVAL, "%s: ip= and mask= go with tap= only", cfg->option);
	if (cfg->queues > 1 && !cfg->tap && !cfg->fds && !cfg->daemon)
		return err_set(err, EINVAL,
			       "%s: queues=%u goes with tap=, fd= and vhost-user= only",
			       cfg->option, cfg->queues);
	if (cfg->tap)
		return net_tap_open(cfg, out, err);
	if (cfg->fds)
		return open_fds(cfg, out, err);
	if (cfg->stream)
		return net_stream_open(cfg, out, err);
	if (cfg->daemon)
		return net_daemon_open(cfg, out, err);
	return net_user_open(cfg, out, err);
}
