/* vhost/user: see vhost/user.h. */
#include "devices/backend/vhost/user.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/vhost/user_msg.h"
#include "vmm/core/clock.h"
#include "vmm/core/unix_socket.h"

#define RETRY_MS 10
#define ENABLE_MS 10 /* less than a device may hold its loop */

unsigned vhost_user_timeout_ms = 2000;
unsigned vhost_user_open_ms = 2000;

/* What a daemon is waited for. */
static int wait_for(struct vhost_user *vu, short events)
{
	struct pollfd pfd = { .fd = vu->fd, .events = events };
	uint64_t now = clock_now_ms();
	int n = poll(&pfd, 1, now < vu->until_ms ? (int)(vu->until_ms - now) : 0);

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	return n ? 0 : -ETIMEDOUT;
}

/*
 * Sends len bytes, with descriptors. The socket may block: its other end cannot change that, but a daemon that
 * does not read must not hold us, so each call is MSG_DONTWAIT. wait: for room.
 */
static int send_all(struct vhost_user *vu, struct msghdr *msg, size_t len, bool wait)
{
	int rc = 0;

	while (len && !rc) {
		ssize_t n = sendmsg(vu->fd, msg, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0) {
			/* The descriptors go with the first byte. */
			msg->msg_control = NULL;
			msg->msg_controllen = 0;
			msg->msg_iov->iov_base = (char *)msg->msg_iov->iov_base + n;
			msg->msg_iov->iov_len -= (size_t)n;
			len -= (size_t)n;
		} else if (errno == EAGAIN && wait) {
			rc = wait_for(vu, POLLOUT);
		} else if (errno != EINTR) {
			rc = -errno;
		}
	}
	return rc;
}

static int send_message(struct vhost_user *vu, const struct vhost_user_msg *m, const int *fds,
			unsigned nfds, bool wait)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(MEM_MAX_REGIONS * sizeof(int))];
	} control;
	struct iovec iov = { (void *)m, VU_HEAD_BYTES + m->len_bytes };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nfds) {
		struct cmsghdr *c;

		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	return send_all(vu, &msg, iov.iov_len, wait);
}

/* Read all of buf in time: one byte now and then does not extend it. */
static int recv_all(struct vhost_user *vu, void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		int rc = wait_for(vu, POLLIN);
		ssize_t n;

		if (rc)
			return rc;
		n = recv(vu->fd, (char *)buf + done, len - done, MSG_DONTWAIT);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return -EPIPE;
		done += (size_t)n;
	}
	return 0;
}

_Static_assert(sizeof(((struct vhost_user *)0)->owed_part) == VU_HEAD_BYTES + 8,
	       "head and a number");

static bool is_reply(const struct vhost_user_msg *m, uint32_t request, uint32_t len_bytes)
{
	return m->request == request && (m->flags & VU_VERSION_MASK) == VU_VERSION &&
	       m->flags & VU_FLAG_REPLY && m->len_bytes == len_bytes;
}

/* Read the answers that vhost_user_enable_ring did not wait for. */
static int recv_owed(struct vhost_user *vu)
{
	struct vhost_user_msg m;
	int rc;

	while (vu->owed) {
		ssize_t n = recv(vu->fd, vu->owed_part + vu->owed_bytes,
				 sizeof(vu->owed_part) - vu->owed_bytes, MSG_DONTWAIT);

		if (!n)
			return -EPIPE;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		rc = n < 0 ? wait_for(vu, POLLIN) : 0;
		if (rc)
			return rc;
		vu->owed_bytes += n > 0 ? (unsigned)n : 0;
		if (vu->owed_bytes < sizeof(vu->owed_part))
			continue;
		memcpy(&m, vu->owed_part, sizeof(vu->owed_part));
		if (!is_reply(&m, VU_SET_VRING_ENABLE, sizeof(m.body.u64)))
			return -EPROTO;
		if (m.body.u64)
			return -EREMOTEIO;
		vu->owed--;
		vu->owed_bytes = 0;
	}
	return 0;
}

/* Read the answer to m's request into m; its body must have len_bytes. */
static int recv_reply(struct vhost_user *vu, struct vhost_user_msg *m, uint32_t len_bytes)
{
	uint32_t request = m->request;
	int rc = recv_owed(vu);

	if (!rc)
		rc = recv_all(vu, m, VU_HEAD_BYTES);
	if (rc)
		return rc;
	if (!is_reply(m, request, len_bytes))
		return -EPROTO;
	return recv_all(vu, &m->body, len_bytes);
}

/* Send a request without an answer of its own. With REPLY_ACK the daemon acknowledges it. */
static int tell(struct vhost_user *vu, struct vhost_user_msg *m, const int *fds, unsigned nfds)
{
	bool ack = vu->protocol >> VHOST_USER_PROTOCOL_REPLY_ACK & 1;
	int rc;

	m->flags = VU_VERSION | (ack ? VU_FLAG_NEED_REPLY : 0);
	rc = send_message(vu, m, fds, nfds, true);
	if (rc || !ack)
		return rc;
	rc = recv_reply(vu, m, sizeof(m->body.u64));
	if (rc)
		return rc;
	return m->body.u64 ? -EREMOTEIO : 0;
}

static int tell_u64(struct vhost_user *vu, uint32_t request, uint64_t val)
{
	struct vhost_user_msg m = { .request = request, .len_bytes = 8, .body.u64 = val };

	return tell(vu, &m, NULL, 0);
}

static int tell_state(struct vhost_user *vu, uint32_t request, unsigned index, unsigned num)
{
	struct vhost_user_msg m = { .request = request,
				    .len_bytes = sizeof(m.body.state),
				    .body.state = { index, num } };

	return tell(vu, &m, NULL, 0);
}

/* KICK and CALL carry the ring's index and an eventfd. */
static int tell_fd(struct vhost_user *vu, uint32_t request, unsigned index, int fd)
{
	struct vhost_user_msg m = { .request = request, .len_bytes = 8, .body.u64 = index };

	return tell(vu, &m, &fd, 1);
}

static int ask_u64(struct vhost_user *vu, uint32_t request, uint64_t *val)
{
	struct vhost_user_msg m = { .request = request, .flags = VU_VERSION };
	int rc = send_message(vu, &m, NULL, 0, true);

	if (!rc)
		rc = recv_reply(vu, &m, sizeof(m.body.u64));
	if (!rc)
		*val = m.body.u64;
	return rc;
}

int vhost_user_agree(struct vhost_user *vu)
{
	const uint64_t wanted = 1ull << VHOST_USER_PROTOCOL_MQ |
				1ull << VHOST_USER_PROTOCOL_REPLY_ACK |
				1ull << VHOST_USER_PROTOCOL_CONFIG;
	uint64_t offered;
	int rc = ask_u64(vu, VU_GET_FEATURES, &vu->features);

	if (!rc && vu->features >> VU_F_PROTOCOL_FEATURES & 1) {
		rc = ask_u64(vu, VU_GET_PROTOCOL_FEATURES, &offered);
		if (!rc)
			rc = tell_u64(vu, VU_SET_PROTOCOL_FEATURES, offered & wanted);
		if (!rc)
			vu->protocol = offered & wanted;
	}
	if (!rc && vu->protocol >> VHOST_USER_PROTOCOL_MQ & 1)
		rc = ask_u64(vu, VU_GET_QUEUE_NUM, &vu->queues_max);
	if (!rc) {
		struct vhost_user_msg m = { .request = VU_SET_OWNER };

		rc = tell(vu, &m, NULL, 0);
	}
	vu->agreed = !rc;
	return rc;
}

void vhost_user_adopt(struct vhost_user *vu, int fd)
{
	*vu = (struct vhost_user){ .fd = fd };
	vhost_user_limit(vu, vhost_user_timeout_ms);
}

void vhost_user_limit(struct vhost_user *vu, unsigned ms)
{
	vu->until_ms = clock_now_ms() + ms;
}

static int cannot_connect(const char *path, const char *what, int code, struct err *err)
{
	struct stat st;

	if (code == ENAMETOOLONG)
		return err_set(err, code, "%s: socket path %.200s: longer than %zu bytes", what,
			       path, UNIX_SOCKET_PATH_MAX);
	if (!stat(path, &st) && !S_ISSOCK(st.st_mode))
		return err_set(err, ENOTSOCK,
			       "%s: %s: not a socket; give the one that the "
			       "vhost-user daemon listens at",
			       what, path);
	if (code == ECONNREFUSED)
		return err_set(
			err, code,
			"%s: %s: no process listens there; start the vhost-user daemon first", what,
			path);
	if (code == EAGAIN)
		return err_set(
			err, ETIMEDOUT,
			"%s: %s: the vhost-user daemon accepts no connection; is it hung, or "
			"in use by another VM?",
			what, path);
	if (code == ENOENT)
		return err_sys(err, code, "%s: start the vhost-user daemon first: %s", what, path);
	return err_sys(err, code, "%s: %s", what, path);
}

static void pause_ms(int ms)
{
	poll(NULL, 0, ms);
}

/* A connect that blocked would wait as long as the daemon's backlog is full. */
static int connect_until(const char *path, uint64_t until_ms)
{
	int fd;

	while ((fd = unix_socket_connect(path, SOCK_NONBLOCK)) == -EAGAIN &&
	       clock_now_ms() < until_ms)
		pause_ms(RETRY_MS);
	return fd;
}

/* vu takes over fd, a connection to the daemon at path. */
static int begin(struct vhost_user *vu, int fd, const char *path, const char *what, struct err *err)
{
	int rc;

	vhost_user_adopt(vu, fd);
	vhost_user_limit(vu, vhost_user_open_ms);
	rc = vhost_user_agree(vu);
	if (!rc)
		return 0;
	vhost_user_close(vu);
	if (rc == -ETIMEDOUT)
		return err_set(err, ETIMEDOUT,
			       "%s: %s: the vhost-user daemon took the connection, but does not "
			       "answer; is it hung, or in use by another VM?",
			       what, path);
	return err_sys(err, -rc, "%s: %s: no answer from a vhost-user daemon", what, path);
}

int vhost_user_open(struct vhost_user *vu, const char *path, const char *what, struct err *err)
{
	int fd = connect_until(path, clock_now_ms() + vhost_user_open_ms);

	*vu = (struct vhost_user){ .fd = -1 };
	if (fd < 0)
		return cannot_connect(path, what, -fd, err);
	return begin(vu, fd, path, what, err);
}

int vhost_user_accept(struct vhost_user *vu, const char *path, const char *what, struct err *err)
{
	uint64_t until_ms = clock_now_ms() + vhost_user_open_ms, now;
	struct unix_listener l;
	struct pollfd pfd;
	int rc, fd = -1;

	*vu = (struct vhost_user){ .fd = -1 };
	rc = unix_socket_listen(&l, what, "vhost-user", path, 1, err);
	if (rc)
		return rc;
	pfd = (struct pollfd){ .fd = l.fd, .events = POLLIN };
	/* A client that has gone again before accept is not the daemon. */
	while (fd < 0 && !rc && (now = clock_now_ms()) < until_ms) {
		if (poll(&pfd, 1, (int)(until_ms - now)) <= 0)
			continue;
		fd = accept4(l.fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			rc = -errno;
	}
	unix_socket_close(&l);
	if (rc)
		return err_sys(err, -rc, "%s: %s: accept", what, path);
	if (fd < 0)
		return err_set(err, ETIMEDOUT,
			       "%s: %s: no vhost-user daemon connected within %u ms; it must be a "
			       "client of this socket, and running",
			       what, path, vhost_user_open_ms);
	return begin(vu, fd, path, what, err);
}

void vhost_user_close(struct vhost_user *vu)
{
	if (vu->fd >= 0)
		close(vu->fd);
	vu->fd = -1;
}

int vhost_user_get_config(struct vhost_user *vu, void *config, uint32_t len_bytes)
{
	uint32_t body = 12 + len_bytes;
	struct vhost_user_msg m = { .request = VU_GET_CONFIG,
				    .flags = VU_VERSION,
				    .len_bytes = body,
				    .body.config = { .len_bytes = len_bytes } };
	int rc;

	if (!(vu->protocol >> VHOST_USER_PROTOCOL_CONFIG & 1))
		return -EOPNOTSUPP;
	if (len_bytes > VHOST_USER_CONFIG_MAX)
		return -EINVAL;
	rc = send_message(vu, &m, NULL, 0, true);
	if (!rc)
		rc = recv_reply(vu, &m, body);
	if (!rc)
		memcpy(config, m.body.config.data, len_bytes);
	return rc;
}

int vhost_user_start(struct vhost_user *vu, const struct mem *mem, uint64_t acked)
{
	struct vhost_user_msg m = { .request = VU_SET_MEM_TABLE,
				    .body.mem.nregions = mem->nregions };
	int fds[MEM_MAX_REGIONS], rc;

	rc = vu->agreed ? 0 : vhost_user_agree(vu);
	/*
	 * Keep the protocol features bit, which the driver never sees: without it rings need no
	 * enabling.
	 */
	if (!rc)
		rc = tell_u64(vu, VU_SET_FEATURES,
			      (acked & vu->features) |
				      (vu->features & 1ull << VU_F_PROTOCOL_FEATURES));
	if (rc)
		return rc;
	BUG_ON(mem->fd < 0);
	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct mem_region *r = &mem->region[i];

		fds[i] = mem->fd;
		m.body.mem.region[i].gpa = r->base.v;
		m.body.mem.region[i].len_bytes = r->len_bytes;
		m.body.mem.region[i].host = (uintptr_t)r->host;
		m.body.mem.region[i].offset = (uint64_t)(r->host - mem->map);
	}
	m.len_bytes = 8 + mem->nregions * (uint32_t)sizeof(m.body.mem.region[0]);
	return tell(vu, &m, fds, mem->nregions);
}

int vhost_user_start_ring(struct vhost_user *vu, const struct mem *mem,
			  const struct vhost_user_ring *ring)
{
	/* virtq_enable has checked the whole ring; the daemon checks again. */
	struct vhost_user_msg m = {
		.request = VU_SET_VRING_ADDR,
		.len_bytes = sizeof(m.body.addr),
		.body.addr = { .index = ring->index,
			       .desc = (uintptr_t)mem_slice(mem, ring->desc, 1),
			       .avail = (uintptr_t)mem_slice(mem, ring->avail, 1),
			       .used = (uintptr_t)mem_slice(mem, ring->used, 1) },
	};
	int rc = tell_state(vu, VU_SET_VRING_NUM, ring->index, ring->size);

	if (!rc)
		rc = tell_state(vu, VU_SET_VRING_BASE, ring->index, 0);
	if (!rc)
		rc = tell(vu, &m, NULL, 0);
	if (!rc)
		rc = tell_fd(vu, VU_SET_VRING_CALL, ring->index, ring->call_fd);
	if (!rc)
		rc = tell_fd(vu, VU_SET_VRING_ERR, ring->index, ring->err_fd);
	if (!rc)
		rc = tell_fd(vu, VU_SET_VRING_KICK, ring->index, ring->kick_fd);
	if (!rc && vu->features >> VU_F_PROTOCOL_FEATURES & 1)
		rc = tell_state(vu, VU_SET_VRING_ENABLE, ring->index, !ring->disabled);
	return rc;
}

int vhost_user_enable_ring(struct vhost_user *vu, unsigned index, bool on)
{
	struct vhost_user_msg m = { .request = VU_SET_VRING_ENABLE,
				    .flags = VU_VERSION,
				    .len_bytes = sizeof(m.body.state),
				    .body.state = { index, on } };
	bool ack = vu->protocol >> VHOST_USER_PROTOCOL_REPLY_ACK & 1;
	int rc;

	if (!(vu->features >> VU_F_PROTOCOL_FEATURES & 1))
		return -EOPNOTSUPP;
	m.flags |= ack ? VU_FLAG_NEED_REPLY : 0;
	rc = send_message(vu, &m, NULL, 0, false);
	if (rc || !ack)
		return rc;
	vhost_user_limit(vu, vu->owed ? 0 : ENABLE_MS);
	vu->owed++;
	rc = recv_owed(vu);
	return rc == -ETIMEDOUT ? 0 : rc;
}

int vhost_user_set_call(struct vhost_user *vu, unsigned index, int call_fd)
{
	return tell_fd(vu, VU_SET_VRING_CALL, index, call_fd);
}

int vhost_user_stop_ring(struct vhost_user *vu, unsigned index)
{
	struct vhost_user_msg m = { .request = VU_GET_VRING_BASE,
				    .flags = VU_VERSION,
				    .len_bytes = sizeof(m.body.state),
				    .body.state = { index, 0 } };
	int rc = send_message(vu, &m, NULL, 0, true);

	return rc ? rc : recv_reply(vu, &m, sizeof(m.body.state));
}
