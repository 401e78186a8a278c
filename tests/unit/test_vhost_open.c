/*
 * vhost_open: how long the connection to a vhost-user daemon may take, in both directions. A daemon
 * that is absent, hung, or slow with each answer is an error in time.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/backend/vhost/user.h"
#include "devices/backend/vhost/user_msg.h"
#include "tests/unit/proc.h"
#include "vmm/core/clock.h"
#include "vmm/core/unix_socket.h"

#define LIMIT_MS 400u
/* What a busy host may add. */
#define SLACK_MS 1500u

static char path[64];
static struct vhost_user vu;
static struct err err;
static unsigned fds_before;

static void setup(void)
{
	char dir[] = "/tmp/bantam-vo-XXXXXX";

	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	vhost_user_open_ms = LIMIT_MS;
	fds_before = proc_fds(0);
}

static void teardown(void)
{
	cr_expect_eq(proc_fds(0), fds_before);
	unlink(path);
	*strrchr(path, '/') = '\0';
	cr_expect_eq(rmdir(path), 0);
}

TestSuite(vhost_open, .init = setup, .fini = teardown);

static int listen_at(int backlog)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(at.sun_path, path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(listen(fd, backlog), 0);
	return fd;
}

/* Opens, expects this error and text, and that it takes at least and at most so long. */
static void expect_error(int code, const char *says, uint64_t least_ms, uint64_t most_ms)
{
	uint64_t begin = clock_now_ms(), took;

	cr_expect_eq(vhost_user_open(&vu, path, "--net", &err), -code, "%s", err.text);
	took = clock_now_ms() - begin;
	cr_expect(strstr(err.text, says) && strstr(err.text, path), "%s", err.text);
	cr_expect(took >= least_ms && took <= most_ms, "%s: %u ms", err.text, (unsigned)took);
	cr_expect_eq(vu.fd, -1);
}

Test(vhost_open, no_daemon)
{
	int fd;

	expect_error(ENOENT, "start the vhost-user daemon first", 0, SLACK_MS);
	fd = listen_at(1);
	close(fd);
	expect_error(ECONNREFUSED, "no process listens there", 0, SLACK_MS);
}

/* The kernel takes the connection, nobody reads it. */
Test(vhost_open, a_daemon_that_hangs)
{
	int fd = listen_at(1);

	expect_error(ETIMEDOUT, "does not answer", LIMIT_MS - 10, LIMIT_MS + SLACK_MS);
	close(fd);
}

Test(vhost_open, a_daemon_that_accepts_nothing)
{
	int fd = listen_at(0), waiting[8], n = 0;

	while (n < 8 && (waiting[n] = unix_socket_connect(path, SOCK_NONBLOCK)) >= 0)
		n++;
	cr_assert_lt(n, 8, "the backlog is endless");
	expect_error(ETIMEDOUT, "accepts no connection", LIMIT_MS - 10, LIMIT_MS + SLACK_MS);
	while (n--)
		close(waiting[n]);
	close(fd);
}

/* --- a daemon of few words ------------------------------------------------------------ */

static struct {
	int listener; /* -1: it connects to path */
	unsigned delay_ms;
	bool old; /* no protocol features */
	unsigned answered;
	pthread_t thread;
} daemon_;

static bool read_all(int fd, void *buf, size_t len)
{
	return recv(fd, buf, len, MSG_WAITALL) == (ssize_t)len;
}

static void *daemon_main(void *opaque)
{
	int fd = -1;

	if (daemon_.listener >= 0) {
		fd = accept(daemon_.listener, NULL, NULL);
	} else {
		usleep(50000);
		for (unsigned i = 0; i < 200 && fd < 0; i++, usleep(fd < 0 ? 10000 : 0))
			fd = unix_socket_connect(path, 0);
	}
	for (;;) {
		struct vhost_user_msg m;
		bool get;

		if (!read_all(fd, &m, VU_HEAD_BYTES) ||
		    (m.len_bytes && !read_all(fd, &m.body, m.len_bytes)))
			break;
		get = m.request == VU_GET_FEATURES || m.request == VU_GET_PROTOCOL_FEATURES ||
		      m.request == VU_GET_QUEUE_NUM;
		if (!get && !(m.flags & VU_FLAG_NEED_REPLY))
			continue;
		usleep(daemon_.delay_ms * 1000);
		if (m.request == VU_GET_FEATURES)
			m.body.u64 = 1ull << 32 |
				     (daemon_.old ? 0 : 1ull << VU_F_PROTOCOL_FEATURES);
		else
			m.body.u64 = get ? 9 : 0; /* MQ and REPLY_ACK; 9 queues; an ack */
		m.flags = VU_VERSION | VU_FLAG_REPLY;
		m.len_bytes = 8;
		if (send(fd, &m, VU_HEAD_BYTES + 8, MSG_NOSIGNAL) < 0)
			break;
		daemon_.answered++;
	}
	close(fd);
	return NULL;
}

static void start(bool listens, unsigned delay_ms)
{
	daemon_.listener = listens ? listen_at(1) : -1;
	daemon_.delay_ms = delay_ms;
	daemon_.answered = 0;
	cr_assert_eq(pthread_create(&daemon_.thread, NULL, daemon_main, NULL), 0);
}

static void stop(void)
{
	vhost_user_close(&vu);
	pthread_join(daemon_.thread, NULL);
	if (daemon_.listener >= 0)
		close(daemon_.listener);
}

/* Each answer is in time for itself, all of them are not. */
Test(vhost_open, a_slow_daemon)
{
	start(true, 0);
	cr_expect_eq(vhost_user_open(&vu, path, "--net", &err), 0, "%s", err.text);
	cr_expect_eq(vu.queues_max, 9);
	stop();
	unlink(path);
	start(true, LIMIT_MS / 2 - 20);
	expect_error(ETIMEDOUT, "does not answer", LIMIT_MS - 10, LIMIT_MS + SLACK_MS);
	cr_expect(daemon_.answered >= 1);
	stop();
}

/* --- the daemon connects ------------------------------------------------------------- */

Test(vhost_open, the_daemon_connects)
{
	for (int old = 0; old < 2; old++) {
		daemon_.old = old;
		start(false, 0);
		vhost_user_open_ms = 3000;
		cr_expect_eq(vhost_user_accept(&vu, path, "--net", &err), 0, "%s", err.text);
		cr_expect_eq(vu.queues_max, old ? 0 : 9);
		cr_expect_lt(access(path, F_OK), 0, "the path is gone");
		stop();
	}
}

Test(vhost_open, no_daemon_connects)
{
	uint64_t begin = clock_now_ms(), took;
	FILE *file;

	cr_expect_eq(vhost_user_accept(&vu, path, "--net", &err), -ETIMEDOUT);
	took = clock_now_ms() - begin;
	cr_expect(took >= LIMIT_MS - 10 && took <= LIMIT_MS + SLACK_MS, "%u ms", (unsigned)took);
	cr_expect(strstr(err.text, "no vhost-user daemon connected within 400 ms"), "%s", err.text);
	cr_expect_lt(access(path, F_OK), 0, "the path is gone");
	/* What is not ours stays. */
	file = fopen(path, "w");
	fclose(file);
	cr_expect_eq(vhost_user_accept(&vu, path, "--net", &err), -EEXIST, "%s", err.text);
	cr_expect_eq(access(path, F_OK), 0);
}
