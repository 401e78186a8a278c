/*
 * vhost-user's front end against a daemon in a thread: a whole session, every
 * answer that a bad daemon can give, its death, and what a user gets wrong.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/backend/vhost_user.h"
#include "devices/virtio/fs.h"
#include "tests/unit/fake_driver.h"

#define QUEUE 16
#define QUEUES 2	/* of --fs with one request queue */
#define ANSWER 7u	/* the length in every used element that the daemon writes */

enum { GET_FEATURES = 1, SET_FEATURES, SET_OWNER, SET_MEM_TABLE = 5, SET_NUM = 8, SET_ADDR,
       SET_BASE, GET_BASE, SET_KICK, SET_CALL, GET_PROTOCOL = 15, SET_PROTOCOL, GET_QUEUES,
       ENABLE };

enum how { OBEY, WRONG_REQUEST, WRONG_VERSION, NO_REPLY_FLAG, SHORT, HUGE_LEN, CLOSE, SILENT,
	   NACK, DRIP, HALF, HOWS };

struct message {
	uint32_t request, flags, len;
	uint8_t body[512];
};

struct ring {
	int kick, call;
	uint32_t size;
	uint16_t seen;
	bool enabled;
	uint64_t addr[4];	/* desc, used, avail, log */
};

static struct {
	pthread_t thread;
	int listener, stop, fd;
	uint64_t features, protocol, nqueues;
	unsigned at;		/* the request to misbehave at */
	enum how how;
	/* what it was told */
	atomic_uint told[32], kicks, served;
	_Atomic uint64_t acked;
	struct ring ring[QUEUES];
	struct {
		uint64_t gpa, len, host, offset;
		uint8_t *map;
	} region[8];
	unsigned nregions;
} daemon_;

static char dir[] = "/tmp/bantam-vu-XXXXXX", path[64];
static struct fake_env f;
static struct fake_driver d;
static struct device *dev;

/* --- the daemon --------------------------------------------------------------- */

static void *at_host(uint64_t host)
{
	for (unsigned i = 0; i < daemon_.nregions; i++)
		if (host - daemon_.region[i].host < daemon_.region[i].len)
			return daemon_.region[i].map + (host - daemon_.region[i].host);
	return NULL;
}

static void forget_memory(void)
{
	for (unsigned i = 0; i < daemon_.nregions; i++)
		munmap(daemon_.region[i].map, daemon_.region[i].len);
	daemon_.nregions = 0;
}

static void drop_ring(struct ring *r)
{
	if (r->kick >= 0)
		close(r->kick);
	if (r->call >= 0)
		close(r->call);
	r->kick = r->call = -1;
	r->enabled = false;
}

static void serve(struct ring *r)
{
	volatile uint16_t *avail = at_host(r->addr[2]), *used = at_host(r->addr[1]);
	eventfd_t n;

	if (eventfd_read(r->kick, &n))
		return;
	atomic_fetch_add(&daemon_.kicks, 1);
	for (; r->seen != avail[1]; r->seen++) {
		struct fake_used_elem e = { avail[2 + r->seen % r->size], ANSWER };

		memcpy((uint8_t *)used + 4 + r->seen % r->size * 8u, &e, sizeof(e));
		atomic_thread_fence(memory_order_release);
		used[1]++;
		atomic_fetch_add(&daemon_.served, 1);
		eventfd_write(r->call, 1);
	}
}

static void map_memory(const struct message *m, const int *fds, unsigned nfds)
{
	forget_memory();
	for (unsigned i = 0; i < nfds; i++) {
		uint64_t v[4];

		memcpy(v, m->body + 8 + i * 32, sizeof(v));
		daemon_.region[i].gpa = v[0];
		daemon_.region[i].len = v[1];
		daemon_.region[i].host = v[2];
		daemon_.region[i].offset = v[3];
		daemon_.region[i].map = mmap(NULL, v[1], PROT_READ | PROT_WRITE, MAP_SHARED, fds[i],
					     (off_t)v[3]);
		close(fds[i]);
		if (daemon_.region[i].map == MAP_FAILED)
			return;
		daemon_.nregions = i + 1;
	}
}

static bool reply(struct message *m, const void *body, uint32_t len)
{
	enum how how = daemon_.at == m->request ? daemon_.how : OBEY;
	size_t total = 12 + len;

	m->flags = 1 | 4;
	m->len = len;
	memcpy(m->body, body, len);
	if (how == WRONG_REQUEST)
		m->request++;
	if (how == WRONG_VERSION)
		m->flags = 2 | 4;
	if (how == NO_REPLY_FLAG)
		m->flags = 1;
	if (how == SHORT)
		m->len = len - 4;
	if (how == HUGE_LEN)
		m->len = 0xffffffff;
	if (how == CLOSE)
		return false;
	if (how == SILENT)
		return true;
	if (how == NACK)
		m->body[0] = 1;
	if (how == HALF)
		total = 14;
	if (how != DRIP)
		return send(daemon_.fd, m, total, MSG_NOSIGNAL) > 0;
	for (size_t i = 0; i < total; i++) {
		if (send(daemon_.fd, (char *)m + i, 1, MSG_NOSIGNAL) < 0)
			return false;
		usleep(30000);
	}
	return true;
}

/* Returns false at the connection's end. */
static bool obey(struct message *m, const int *fds, unsigned nfds)
{
	bool ask = true;
	struct ring *r = &daemon_.ring[m->body[0] % QUEUES];
	uint64_t val = 0;

	atomic_fetch_add(&daemon_.told[m->request % 32], 1);
	switch (m->request) {
	case GET_FEATURES: val = daemon_.features; break;
	case GET_PROTOCOL: val = daemon_.protocol; break;
	case GET_QUEUES: val = daemon_.nqueues; break;
	case GET_BASE:
		drop_ring(r);
		return reply(m, (uint32_t[]){ m->body[0], r->seen }, 8);
	default: ask = false;
	}
	if (m->request == SET_FEATURES)
		memcpy(&val, m->body, 8), daemon_.acked = val;
	if (m->request == SET_MEM_TABLE)
		map_memory(m, fds, nfds);
	if (m->request == SET_NUM)
		memcpy(&r->size, m->body + 4, 4);
	if (m->request == SET_BASE)
		r->seen = m->body[4];
	if (m->request == SET_ADDR)
		memcpy(r->addr, m->body + 8, 32);
	if (m->request == SET_KICK)
		r->kick = fds[0];
	if (m->request == SET_CALL)
		r->call = fds[0];
	if (m->request == ENABLE)
		r->enabled = m->body[4];
	if (ask)
		return reply(m, &val, 8);
	return m->flags & 8 ? reply(m, (uint64_t[]){ 0 }, 8) : true;
}

static bool receive(void)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(8 * sizeof(int))];
	} control;
	struct message m = { 0 };
	struct iovec iov = { &m, 12 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	unsigned nfds = 0;
	int fds[8];
	struct cmsghdr *c;

	if (recvmsg(daemon_.fd, &msg, MSG_CMSG_CLOEXEC) != 12)
		return false;
	c = CMSG_FIRSTHDR(&msg);
	if (c) {
		nfds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), nfds * sizeof(int));
	}
	if (m.len > sizeof(m.body) ||
	    (m.len && recv(daemon_.fd, m.body, m.len, MSG_WAITALL) != (ssize_t)m.len))
		return false;
	return obey(&m, fds, nfds);
}

static void *daemon_main(void *unused)
{
	struct pollfd p[2 + QUEUES] = { { daemon_.stop, POLLIN, 0 }, { daemon_.listener, POLLIN, 0 } };

	daemon_.fd = -1;
	for (;;) {
		for (unsigned i = 0; i < QUEUES; i++)
			p[2 + i] = (struct pollfd){ daemon_.ring[i].enabled ? daemon_.ring[i].kick : -1,
						    POLLIN, 0 };
		p[1].fd = daemon_.fd < 0 ? daemon_.listener : daemon_.fd;
		poll(p, 2 + QUEUES, -1);
		if (p[0].revents)
			break;
		if (p[1].revents && daemon_.fd < 0)
			daemon_.fd = accept4(daemon_.listener, NULL, NULL, SOCK_CLOEXEC);
		else if (p[1].revents && !receive())
			break;
		for (unsigned i = 0; i < QUEUES; i++)
			if (p[2 + i].revents && daemon_.ring[i].enabled)
				serve(&daemon_.ring[i]);
	}
	for (unsigned i = 0; i < QUEUES; i++)
		drop_ring(&daemon_.ring[i]);
	if (daemon_.fd >= 0)
		close(daemon_.fd);
	close(daemon_.listener);
	forget_memory();
	return NULL;
}

static void start_daemon(unsigned at, enum how how)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	if (!path[0]) {
		cr_assert(mkdtemp(dir));
		snprintf(path, sizeof(path), "%s/s", dir);
	}
	unlink(path);
	memset(&daemon_, 0, sizeof(daemon_));
	daemon_.at = at;
	daemon_.how = how;
	daemon_.features = 1ull << 32 | 1ull << 30 | 1ull << 28;
	daemon_.protocol = 1 | 1 << 3 | 1 << 9;
	daemon_.nqueues = QUEUES;
	for (unsigned i = 0; i < QUEUES; i++)
		daemon_.ring[i].kick = daemon_.ring[i].call = -1;
	strcpy(sun.sun_path, path);
	daemon_.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	daemon_.stop = eventfd(0, EFD_CLOEXEC);
	cr_assert_eq(bind(daemon_.listener, (struct sockaddr *)&sun, sizeof(sun)), 0);
	cr_assert_eq(listen(daemon_.listener, 1), 0);
	cr_assert_eq(pthread_create(&daemon_.thread, NULL, daemon_main, NULL), 0);
}

static void stop_daemon(void)
{
	eventfd_write(daemon_.stop, 1);
	pthread_join(daemon_.thread, NULL);
	close(daemon_.stop);
}

/* --- the device -------------------------------------------------------------- */

static unsigned open_fds(void)
{
	DIR *fds = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(fds))
		n++;
	closedir(fds);
	return n;
}

static int create(const char *socket, struct err *err)
{
	struct keyvals kv;
	char text[300];
	int rc;

	snprintf(text, sizeof(text), "tag=home,socket=%s", socket);
	keys_start(&kv, "--fs", virtio_fs_type.keys);
	rc = keys_parse(&kv, "--fs", virtio_fs_type.keys, text, err);
	if (!rc)
		rc = virtio_fs_type.create(&f.env, &kv, &dev, err);
	keys_clear(&kv);
	return rc;
}

static void begin(enum fake_transport transport)
{
	struct err err = { "" };

	vhost_user_timeout_ms = 200;
	fake_env_init(&f, transport);
	mem_destroy(&f.mem);
	cr_assert_eq(mem_create_shared(&f.mem, FAKE_LOW_BYTES + FAKE_HIGH_BYTES, FAKE_LOW_BYTES,
				       FAKE_HIGH_BASE, &err), 0, "%s", err.text);
}

static void begin_device(enum fake_transport transport)
{
	struct err err = { "" };

	begin(transport);
	cr_assert_eq(create(path, &err), 0, "%s", err.text);
	fake_driver_find(&d, &f, 0, true);
}

static void end(void)
{
	device_destroy(dev);
	dev = NULL;
	fake_env_destroy(&f);
}

static void *reset_main(void *done)
{
	fake_driver_set_status(&d, 0);
	atomic_store((atomic_bool *)done, true);
	return NULL;
}

static bool is_done(void *done)
{
	return atomic_load((atomic_bool *)done);
}

/* A vCPU resets the device and waits for the loop, which runs here. */
static void reset(void)
{
	atomic_bool done = false;
	pthread_t vcpu;

	cr_assert_eq(pthread_create(&vcpu, NULL, reset_main, &done), 0);
	cr_assert(fake_run_until(&f, is_done, &done), "the reset hangs");
	pthread_join(vcpu, NULL);
	cr_assert_eq(fake_driver_status(&d), 0);
}

static bool waiting(void *queue)
{
	struct fake_ring *r = &d.ring[*(unsigned *)queue];

	return r->seen != *(volatile uint16_t *)&r->used[1];
}

static bool broken(void *unused)
{
	return fake_driver_status(&d) & VIRTIO_STATUS_NEEDS_RESET;
}

static void one_request(unsigned q)
{
	struct fake_buf b = { 0x1000, 16 };
	struct fake_used_elem e;
	unsigned irqs = 0;

	fake_ring_add(&d.ring[q], &b, 1, NULL, 0);
	fake_driver_kick(&d, q);
	cr_assert(fake_run_until(&f, waiting, &q), "queue %u: no answer", q);
	cr_assert(fake_ring_take(&d.ring[q], &e));
	cr_assert_eq(e.len, ANSWER);
	for (unsigned i = 0; i < 100 && !irqs; i++) {
		fake_run(&f);
		irqs = fake_driver_irqs(&d, q);
		usleep(irqs ? 0 : 1000);
	}
	cr_assert(irqs, "queue %u: no interrupt", q);
}

static void session(enum fake_transport transport)
{
	unsigned before = open_fds();

	start_daemon(0, OBEY);
	begin_device(transport);
	cr_assert_eq(fake_driver_offered(&d), 1ull << 32 | 1ull << 28);
	cr_assert_eq(fake_driver_config(&d, 0, 4), 0x656d6f68);
	cr_assert_eq(fake_driver_config(&d, 36, 4), 1);
	for (unsigned round = 0; round < 3; round++) {
		reset();
		fake_driver_start(&d, 0, QUEUES, QUEUE);
		for (unsigned i = 0; i < 40; i++)
			one_request(i % QUEUES);
		cr_assert_eq(daemon_.told[GET_BASE], round * QUEUES);
	}
	cr_assert_eq(daemon_.acked, 1ull << 32 | 1ull << 30);
	cr_assert_eq(daemon_.told[SET_OWNER], 1);
	cr_assert_eq(daemon_.told[SET_MEM_TABLE], 3);
	cr_assert_eq(daemon_.nregions, 2);
	cr_assert_eq(daemon_.region[1].gpa, FAKE_HIGH_BASE);
	cr_assert_eq(daemon_.region[1].offset, FAKE_LOW_BYTES);
	end();
	stop_daemon();
	cr_assert_eq(open_fds(), before, "descriptors are left open");
}

Test(vhost_user, session_pci)
{
	session(FAKE_PCI);
}

Test(vhost_user, session_mmio)
{
	session(FAKE_MMIO);
}

/* A daemon without protocol features: no acknowledgements, no enabling. */
Test(vhost_user, plain_daemon)
{
	start_daemon(0, OBEY);
	daemon_.features &= ~(1ull << 30);
	begin_device(FAKE_PCI);
	cr_assert_eq(daemon_.told[GET_PROTOCOL], 0);
	fake_driver_start(&d, 0, QUEUES, QUEUE);
	cr_assert_eq(daemon_.told[ENABLE], 0);
	end();
	stop_daemon();
}

/* Each bad answer to what is asked before there is a device: create says so, in one line. */
Test(vhost_user, hostile_at_creation)
{
	static const unsigned at[] = { GET_FEATURES, GET_PROTOCOL, SET_PROTOCOL, GET_QUEUES,
				       SET_OWNER };

	for (unsigned i = 0; i < 5; i++) {
		for (enum how how = WRONG_REQUEST; how < HOWS; how++) {
			unsigned before = open_fds();
			struct err err = { "" };

			/* Values are not acknowledgements, and nothing is acknowledged yet there. */
			if (at[i] == SET_PROTOCOL || (how == NACK && at[i] != SET_OWNER))
				continue;
			begin(FAKE_PCI);
			start_daemon(at[i], how);
			cr_assert_lt(create(path, &err), 0, "request %u, answer %d", at[i], how);
			cr_assert(strstr(err.text, path) && !strchr(err.text, '\n'), "%s", err.text);
			cr_assert_null(dev);
			fake_env_destroy(&f);
			stop_daemon();
			cr_assert_eq(open_fds(), before, "request %u, answer %d", at[i], how);
		}
	}
}

/* The same once the driver has started the device: it is broken, and a reset still works. */
Test(vhost_user, hostile_at_start)
{
	static const unsigned at[] = { SET_FEATURES, SET_MEM_TABLE, SET_NUM, SET_BASE, SET_ADDR,
				       SET_CALL, SET_KICK, ENABLE };

	for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		for (enum how how = WRONG_REQUEST; how < HOWS; how++) {
			unsigned before = open_fds();

			start_daemon(at[i], how);
			begin_device(FAKE_PCI);
			fake_driver_start(&d, 0, QUEUES, QUEUE);
			cr_assert(fake_run_until(&f, broken, NULL), "request %u, answer %d", at[i], how);
			fake_driver_kick(&d, 1);
			if (how & 1)
				reset();
			end();
			stop_daemon();
			cr_assert_eq(open_fds(), before, "request %u, answer %d", at[i], how);
		}
	}
}

/* The daemon does not let go of a ring: the reset is done all the same. */
Test(vhost_user, hostile_at_reset)
{
	for (enum how how = WRONG_REQUEST; how < HOWS; how++) {
		if (how == NACK)
			continue;
		start_daemon(GET_BASE, how);
		begin_device(FAKE_PCI);
		fake_driver_start(&d, 0, QUEUES, QUEUE);
		one_request(1);
		if (how & 1)
			reset();
		end();
		stop_daemon();
	}
}

Test(vhost_user, death)
{
	for (unsigned busy = 0; busy < 2; busy++) {
		struct fake_buf b = { 0x1000, 16 };

		start_daemon(0, OBEY);
		begin_device(FAKE_MMIO);
		fake_driver_start(&d, 0, QUEUES, QUEUE);
		one_request(1);
		stop_daemon();
		if (busy)
			fake_ring_add(&d.ring[1], &b, 1, NULL, 0);
		fake_driver_kick(&d, 1);
		cr_assert(fake_run_until(&f, broken, NULL));
		fake_driver_kick(&d, 0);
		if (busy)
			reset();
		end();
	}
}

/* It dies before the driver comes: activation fails, and says so to the driver. */
Test(vhost_user, death_before_start)
{
	start_daemon(0, OBEY);
	begin_device(FAKE_PCI);
	stop_daemon();
	fake_run(&f);
	fake_driver_set_status(&d, 1);
	fake_driver_set_status(&d, 3);
	fake_driver_accept(&d, 1ull << 32);
	fake_driver_set_status(&d, 11);
	fake_driver_set_status(&d, 15);
	cr_assert(fake_driver_status(&d) & VIRTIO_STATUS_NEEDS_RESET);
	fake_driver_set_status(&d, 0);
	cr_assert_eq(fake_driver_status(&d), 0);
	end();
}

Test(vhost_user, users)
{
	struct err err = { "" };
	char longer[200];

	begin(FAKE_PCI);
	cr_assert_eq(create("/no/such", &err), -ENOENT);
	cr_assert(strstr(err.text, "/no/such"), "%s", err.text);
	memset(longer, 'x', sizeof(longer));
	longer[0] = '/', longer[150] = 0;
	cr_assert_eq(create(longer, &err), -ENAMETOOLONG);
	cr_assert(strstr(err.text, "longer than 107"), "%s", err.text);
	/* A daemon of too few queues, one of the time before virtio 1. */
	start_daemon(0, OBEY);
	daemon_.nqueues = 1;
	cr_assert_eq(create(path, &err), -ENOTSUP);
	cr_assert(strstr(err.text, "1 queues, not 2"), "%s", err.text);
	stop_daemon();
	start_daemon(0, OBEY);
	daemon_.features = 1ull << 30;
	cr_assert_eq(create(path, &err), -ENOTSUP);
	cr_assert(strstr(err.text, "virtio 1"), "%s", err.text);
	stop_daemon();
	fake_env_destroy(&f);
}
