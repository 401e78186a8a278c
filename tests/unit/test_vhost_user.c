/*
 * vhost-user's front end with a daemon in a thread: a whole session, every
 * answer that a bad daemon can give, its death with answered and unanswered requests,
 * and errors of the user.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/backend/vhost/user.h"
#include "devices/virtio/blk/blk.h"
#include "devices/virtio/fs.h"
#include "devices/virtio/net/nic.h"
#include "devices/virtio/net/nic_impl.h"
#include "devices/virtio/core/pci.h"
#include "devices/virtio/vhost/user_device.h"
#include "tests/unit/fake_driver.h"
#include "tests/unit/proc.h"
#include "vmm/core/clock.h"

#define QUEUE 16
#define QUEUES 2  /* number for --fs with one request queue, and for a card */
#define RINGS 4	  /* most rings that the daemon serves */
#define ANSWER 7u /* the length in every used element that the daemon writes */

enum {
	GET_FEATURES = 1,
	SET_FEATURES,
	SET_OWNER,
	SET_MEM_TABLE = 5,
	SET_NUM = 8,
	SET_ADDR,
	SET_BASE,
	GET_BASE,
	SET_KICK,
	SET_CALL,
	SET_ERR,
	GET_PROTOCOL,
	SET_PROTOCOL,
	GET_QUEUES,
	ENABLE,
	GET_CONFIG = 24
};

enum how {
	OBEY,
	WRONG_REQUEST,
	WRONG_VERSION,
	NO_REPLY_FLAG,
	SHORT,
	HUGE_LEN,
	CLOSE,
	SILENT,
	NACK,
	DRIP,
	HALF,
	HOWS
};

struct message {
	uint32_t request, flags, len;
	uint8_t body[512];
};

struct ring {
	int kick, call, err;
	uint32_t size;
	uint16_t seen;
	bool enabled;
	uint64_t addr[4]; /* desc, used, avail, log */
};

static struct {
	pthread_t thread;
	int listener, stop, fd;
	uint64_t features, protocol, nqueues;
	unsigned at; /* the request to misbehave at */
	enum how how;
	unsigned delay_ms; /* before each answer */
	bool blocks;	   /* it makes each eventfd that it gets block, and fills it */
	bool complains;	   /* it writes the error's eventfd as soon as it has it */
	unsigned keep;	   /* bit n: the daemon does not answer the n-th request of a ring */
	/* counts of messages, by request; of kicks; of served requests */
	atomic_uint told[32], kicks, served;
	_Atomic uint64_t acked;
	struct ring ring[RINGS];
	struct {
		uint64_t gpa, len, host, offset;
		uint8_t *map;
	} region[8];
	unsigned nregions;
} daemon_;

static char dir[] = "/tmp/bantam-vu-XXXXXX", path[64]; /* path is empty before the first daemon */
static struct fake_env f;
static struct fake_driver d;
static struct device *dev;

static void remove_dir(void)
{
	if (!path[0])
		return;
	unlink(path);
	cr_expect_eq(rmdir(dir), 0);
}

TestSuite(vhost_user, .fini = remove_dir);

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
	if (r->err >= 0)
		close(r->err);
	r->kick = r->call = r->err = -1;
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
		if (r->seen < 32 && daemon_.keep >> r->seen & 1)
			continue;
		struct fake_used_elem e = { avail[2 + r->seen % r->size], ANSWER };

		memcpy((uint8_t *)used + 4 + used[1] % r->size * 8u, &e, sizeof(e));
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

	usleep(daemon_.delay_ms * 1000);
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

/* The daemon's own copy stays: its counter is full for ever. */
static void make_block(int fd)
{
	eventfd_t n;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	(void)eventfd_read(fd, &n);
	(void)eventfd_write(fd, 0xfffffffffffffffe);
	fcntl(fd, F_SETFL, 0);
}

/* Returns false at the connection's end. */
static bool obey(struct message *m, const int *fds, unsigned nfds)
{
	bool ask = true;
	struct ring *r = &daemon_.ring[m->body[0] % RINGS];
	uint64_t val = 0;

	atomic_fetch_add(&daemon_.told[m->request % 32], 1);
	switch (m->request) {
	case GET_FEATURES:
		val = daemon_.features;
		break;
	case GET_PROTOCOL:
		val = daemon_.protocol;
		break;
	case GET_QUEUES:
		val = daemon_.nqueues;
		break;
	case GET_BASE:
		drop_ring(r);
		return reply(m, (uint32_t[]){ m->body[0], r->seen }, 8);
	case GET_CONFIG:
		memcpy(&val, m->body + 4, 4);
		memset(m->body + 12, 0x5a, val & 0xff);
		return reply(m, m->body, m->len);
	default:
		ask = false;
	}
	if (m->request == SET_FEATURES)
		memcpy(&val, m->body, 8), daemon_.acked = val;
	if (daemon_.blocks && (m->request == SET_KICK || m->request == SET_CALL))
		make_block(fds[0]);
	if (daemon_.complains && m->request == SET_ERR)
		eventfd_write(fds[0], 1);
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
	if (m->request == SET_CALL) {
		if (r->call >= 0)
			close(r->call);
		r->call = fds[0];
	}
	if (m->request == SET_ERR) {
		if (r->err >= 0)
			close(r->err);
		r->err = fds[0];
	}
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
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
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
	struct pollfd p[2 + RINGS] = { { daemon_.stop, POLLIN, 0 },
				       { daemon_.listener, POLLIN, 0 } };

	daemon_.fd = -1;
	for (;;) {
		for (unsigned i = 0; i < RINGS; i++)
			p[2 + i] = (struct pollfd){ daemon_.ring[i].enabled && !daemon_.blocks ?
							    daemon_.ring[i].kick :
							    -1,
						    POLLIN, 0 };
		p[1].fd = daemon_.fd < 0 ? daemon_.listener : daemon_.fd;
		poll(p, 2 + RINGS, -1);
		if (p[0].revents)
			break;
		if (p[1].revents && daemon_.fd < 0)
			daemon_.fd = accept4(daemon_.listener, NULL, NULL, SOCK_CLOEXEC);
		else if (p[1].revents && !receive())
			break;
		for (unsigned i = 0; i < RINGS; i++)
			if (p[2 + i].revents && daemon_.ring[i].enabled)
				serve(&daemon_.ring[i]);
	}
	for (unsigned i = 0; i < RINGS; i++)
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
	for (unsigned i = 0; i < RINGS; i++)
		daemon_.ring[i].kick = daemon_.ring[i].call = daemon_.ring[i].err = -1;
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

	vhost_user_timeout_ms = vhost_user_open_ms = 5000;
	fake_env_init(&f, transport);
	mem_destroy(&f.mem);
	cr_assert_eq(mem_create_shared(&f.mem, FAKE_LOW_BYTES + FAKE_HIGH_BYTES, FAKE_LOW_BYTES,
				       FAKE_HIGH_BASE, &err),
		     0, "%s", err.text);
}

/* A short timeout, for a daemon that may not answer. A good daemon gets more: the host is busy. */
static void be_short(void)
{
	vhost_user_timeout_ms = vhost_user_open_ms = 200;
}

static void begin_device(enum fake_transport transport)
{
	struct err err = { "" };

	begin(transport);
	cr_assert_eq(create(path, &err), 0, "%s", err.text);
	fake_driver_find(&d, &f, 0, true);
}

static int create_net(const char *more, struct err *err)
{
	char text[300];

	snprintf(text, sizeof(text), "vhost-user=%s,mac=02:00:00:00:00:07%s",
		 path[0] ? path : "/no/such", more);
	return fake_create(&f, &virtio_net_type, text, &dev, err);
}

static int create_disk(struct err *err)
{
	struct keyvals kv;
	char text[300];
	int rc;

	snprintf(text, sizeof(text), "vhost-user=%s,queues=2", path);
	keys_start(&kv, "--disk", virtio_blk_type.keys);
	rc = keys_parse(&kv, "--disk", virtio_blk_type.keys, text, err);
	if (!rc)
		rc = virtio_blk_type.create(&f.env, &kv, &dev, err);
	keys_clear(&kv);
	return rc;
}

static void end(void)
{
	device_destroy(dev);
	dev = NULL;
	fake_env_destroy(&f);
}

static void reset(void)
{
	fake_driver_set_status(&d, 0);
	cr_assert_eq(fake_driver_status(&d), 0);
}

static bool waiting(void *queue)
{
	struct fake_ring *r = &d.ring[*(unsigned *)queue];

	return r->seen != *(volatile uint16_t *)&r->used[1];
}

static bool is_gone(void *unused)
{
	return ((struct vhost_user_device *)dev)->front.vu.fd < 0;
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
	unsigned before = proc_fds(0);

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
	cr_assert_eq(proc_fds(0), before, "descriptors are left open");
}

Test(vhost_user, session_pci)
{
	session(FAKE_PCI);
}

Test(vhost_user, session_mmio)
{
	session(FAKE_MMIO);
}

/* The device does not offer a daemon's features for which we have no queue or configuration. */
Test(vhost_user, features_of_the_page)
{
	struct err err = { "" };

	start_daemon(0, OBEY);
	daemon_.features |= 0xffffff;
	begin_device(FAKE_PCI);
	cr_assert_eq(fake_driver_offered(&d), 1ull << 32 | 1ull << 28, "%llx",
		     (unsigned long long)fake_driver_offered(&d));
	end();
	stop_daemon();
	start_daemon(0, OBEY);
	daemon_.features |= 0xffffff;
	begin(FAKE_PCI);
	cr_assert_eq(create_disk(&err), 0, "%s", err.text);
	fake_driver_find(&d, &f, 0, true);
	cr_assert_eq(fake_driver_offered(&d) & 0xffffff, 0x77ff, "%llx",
		     (unsigned long long)fake_driver_offered(&d));
	end();
	stop_daemon();
}

/* A daemon without protocol features gets no requests for acknowledgement and no ENABLE. */
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

/* For each bad answer before the device exists, create reports one line. */
Test(vhost_user, hostile_at_creation)
{
	static const unsigned at[] = { GET_FEATURES, GET_PROTOCOL, SET_PROTOCOL, GET_QUEUES,
				       SET_OWNER };

	for (unsigned i = 0; i < 5; i++) {
		for (enum how how = WRONG_REQUEST; how < HOWS; how++) {
			unsigned before = proc_fds(0);
			struct err err = { "" };

			/* A value cannot be a NACK, and SET_PROTOCOL is not acknowledged yet. */
			if (at[i] == SET_PROTOCOL || (how == NACK && at[i] != SET_OWNER))
				continue;
			begin(FAKE_PCI);
			be_short();
			start_daemon(at[i], how);
			cr_assert_lt(create(path, &err), 0, "request %u, answer %d", at[i], how);
			cr_assert(strstr(err.text, path) && !strchr(err.text, '\n'), "%s",
				  err.text);
			cr_assert_null(dev);
			fake_env_destroy(&f);
			stop_daemon();
			cr_assert_eq(proc_fds(0), before, "request %u, answer %d", at[i], how);
		}
	}
}

/* The same for GET_CONFIG of a disk. */
Test(vhost_user, hostile_configuration)
{
	for (enum how how = WRONG_REQUEST; how < HOWS; how++) {
		unsigned before = proc_fds(0);
		struct err err = { "" };

		begin(FAKE_PCI);
		be_short();
		start_daemon(GET_CONFIG, how);
		if (how == NACK) {
			/* No NACK here: test a daemon without GET_CONFIG, which we refuse. */
			daemon_.protocol &= ~(1ull << 9);
		}
		cr_assert_lt(create_disk(&err), 0, "answer %d", how);
		cr_assert(strstr(err.text, path) && !strchr(err.text, '\n'), "%s", err.text);
		cr_assert_null(dev);
		fake_env_destroy(&f);
		stop_daemon();
		cr_assert_eq(proc_fds(0), before, "answer %d", how);
	}
}

/* --- without the daemon --------------------------------------------------------- */

#define REQUESTS 0x200000u /* request n has 0x1000 bytes from here, its answer in the upper half */
#define GETATTR 3
#define FORGET 2
#define BATCH_FORGET 42
#define INTERRUPT 36

struct fuse_in {
	uint32_t len, opcode;
	uint64_t unique, nodeid;
	uint32_t uid, gid, pid, padding;
};

struct fuse_out {
	uint32_t len;
	int32_t error;
	uint64_t unique;
};

static void add_fuse(unsigned q, unsigned n, uint32_t opcode, uint32_t in_len, uint32_t out_len)
{
	struct fuse_in h = { .len = in_len, .opcode = opcode, .unique = 0x100000000ull + n };
	struct fake_buf in = { REQUESTS + n * 0x1000, in_len };
	struct fake_buf out = { REQUESTS + n * 0x1000 + 0x800, out_len };

	memset(fake_at(&f, gpa(in.addr), 0x1000), 0xee, 0x1000);
	memcpy(fake_at(&f, gpa(in.addr), sizeof(h)), &h, sizeof(h));
	fake_ring_add(&d.ring[q], &in, 1, &out, out_len ? 1 : 0);
}

/* Returns the error in the answer to request n, or 1 if there is no answer. */
static int answer(unsigned n)
{
	struct fuse_out *out = fake_at(&f, gpa(REQUESTS + n * 0x1000 + 0x800), sizeof(*out));

	if (out->len == 0xeeeeeeee)
		return 1;
	cr_expect_eq(out->len, 16);
	cr_expect_eq(out->unique, 0x100000000ull + n);
	return out->error;
}

static unsigned take_all(unsigned q, uint32_t len)
{
	struct fake_used_elem e;
	unsigned n = 0;

	for (; fake_ring_take(&d.ring[q], &e); n++)
		cr_expect_eq(e.len, len);
	return n;
}

static void expect_refused(unsigned q, unsigned n)
{
	add_fuse(q, n, GETATTR, 56, 120);
	fake_ring_set_used_event(&d.ring[q], d.ring[q].seen);
	fake_driver_irqs(&d, q);
	fake_driver_kick(&d, q);
	cr_expect_eq(take_all(q, 16), 1);
	cr_expect_eq(answer(n), -ENOTCONN);
	cr_expect_gt(fake_driver_irqs(&d, q), 0);
	cr_expect_eq(fake_driver_status(&d), 15);
}

/* A bad answer when the driver starts the device: the guest sees errors, a reset works. */
Test(vhost_user, hostile_at_start)
{
	static const unsigned at[] = { SET_FEATURES, SET_MEM_TABLE, SET_NUM,  SET_BASE, SET_ADDR,
				       SET_CALL,     SET_ERR,	    SET_KICK, ENABLE };

	for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		for (enum how how = WRONG_REQUEST; how < HOWS; how++) {
			unsigned before = proc_fds(0);

			start_daemon(at[i], how);
			begin_device(FAKE_PCI);
			be_short();
			fake_driver_start(&d, 0, QUEUES, QUEUE);
			cr_assert(fake_run_until(&f, is_gone, NULL), "request %u, answer %d", at[i],
				  how);
			expect_refused(1, 0);
			if (how & 1) {
				reset();
				fake_driver_start(&d, 0, QUEUES, QUEUE);
				expect_refused(0, 1);
			}
			end();
			stop_daemon();
			cr_assert_eq(proc_fds(0), before, "request %u, answer %d", at[i], how);
		}
	}
}

/* The daemon does not stop a ring: the reset completes all the same. */
Test(vhost_user, hostile_at_reset)
{
	for (enum how how = WRONG_REQUEST; how < HOWS; how++) {
		if (how == NACK)
			continue;
		start_daemon(GET_BASE, how);
		begin_device(FAKE_PCI);
		fake_driver_start(&d, 0, QUEUES, QUEUE);
		one_request(1);
		be_short();
		if (how & 1)
			reset();
		end();
		stop_daemon();
	}
}

/* --- who waits -------------------------------------------------------------------------- */

/*
 * Each answer comes in time, but there are many: a start and a stop have one limit for all. With a limit for each
 * message, the daemon would stay.
 */
Test(vhost_user, slow_at_start)
{
	start_daemon(0, OBEY);
	begin_device(FAKE_PCI);
	be_short();
	daemon_.delay_ms = 60; /* 16 answers */
	fake_driver_start(&d, 0, QUEUES, QUEUE);
	cr_assert(fake_run_until(&f, is_gone, NULL));
	expect_refused(1, 0);
	end();
	stop_daemon();
}

Test(vhost_user, slow_at_reset)
{
	start_daemon(0, OBEY);
	begin_device(FAKE_PCI);
	fake_driver_start(&d, 0, QUEUES, QUEUE);
	one_request(1);
	be_short();
	daemon_.delay_ms = 150; /* 2 answers */
	reset();
	cr_assert(fake_run_until(&f, is_gone, NULL));
	daemon_.delay_ms = 0;
	end();
	stop_daemon();
}

/* At the end of the machine all daemons share the time; each has a little in any case. */
Test(vhost_user, stops_share_the_time)
{
	uint64_t stop_by_ms, before;

	start_daemon(GET_BASE, SILENT);
	begin_device(FAKE_PCI);
	f.env.stop_by_ms = &stop_by_ms;
	stop_by_ms = 0;
	fake_driver_start(&d, 0, QUEUES, QUEUE);
	before = stop_by_ms = clock_now_ms(); /* others have used it all up */
	end();
	cr_expect_lt(clock_now_ms() - before, 2500, "not the 5 s of one device");
	stop_daemon();
}

/* The test's own thread runs the loop meanwhile. */
static void *drive(void *unused)
{
	fake_driver_set_up(&d, 0, QUEUES, QUEUE);
	return NULL;
}

static struct {
	struct loop_watch *timer;
	uint64_t last_ns, worst_ns;
} ticks;

static void tick(void *unused)
{
	uint64_t now = clock_now_ns();

	if (ticks.last_ns && now - ticks.last_ns > ticks.worst_ns)
		ticks.worst_ns = now - ticks.last_ns;
	ticks.last_ns = now;
	loop_timer_arm(ticks.timer, 5000000);
}

/*
 * The loop serves other devices while a vCPU waits for a daemon, which also writes the error's eventfd and hangs
 * up: all that needs the device's lock.
 */
Test(vhost_user, the_loop_does_not_wait)
{
	static const enum how hows[] = { SILENT, HALF, CLOSE };
	pthread_t vcpu;

	for (unsigned i = 0; i < 3; i++) {
		start_daemon(SET_KICK, hows[i]);
		begin_device(FAKE_PCI);
		vhost_user_timeout_ms = 1500;
		daemon_.complains = true;
		memset(&ticks, 0, sizeof(ticks));
		cr_assert_eq(loop_watch_timer(f.env.loop, tick, NULL, &ticks.timer), 0);
		loop_timer_arm(ticks.timer, 1);
		pthread_create(&vcpu, NULL, drive, NULL);
		cr_assert(fake_run_until(&f, is_gone, NULL), "answer %d", hows[i]);
		pthread_join(vcpu, NULL);
		/* 1500 ms if the loop waits; a busy host delays a tick, too. */
		cr_expect_lt(ticks.worst_ns, 700000000, "answer %d: %llu ms", hows[i],
			     (unsigned long long)ticks.worst_ns / 1000000);
		loop_unwatch(ticks.timer);
		end();
		stop_daemon();
	}
}

/*
 * The daemon clears O_NONBLOCK of every eventfd that it gets, fills the counters and reads nothing. Kicks, masked
 * vectors, the way back from the daemon, and the end do not wait.
 */
static void full_eventfds(enum fake_transport transport)
{
	start_daemon(0, OBEY);
	begin_device(transport);
	daemon_.blocks = true;
	fake_driver_start(&d, 0, QUEUES, QUEUE);
	/* Over the bus: what KVM signals never waits, but the fake one would. */
	for (unsigned n = 0; n < 3; n++) {
		if (transport == FAKE_PCI)
			bus_write(&f.mmio, d.base + VIRTIO_PCI_NOTIFY + VIRTIO_PCI_NOTIFY_STEP, 2,
				  1);
		else
			bus_write(&f.mmio, d.base + 0x50, 4, 1);
		fake_run(&f);
	}
	if (transport == FAKE_PCI) {
		uint64_t entry = d.base + VIRTIO_PCI_MSIX_TABLE + 2 * 16;

		fake_write(&f, entry + 12, 4, 1);
		fake_write(&f, entry + 12, 4, 0);
	}
	reset();
	fake_driver_start(&d, 0, QUEUES, QUEUE);
	stop_daemon();
	cr_assert(fake_run_until(&f, is_gone, NULL));
	for (unsigned n = 0; n < 3; n++) {
		add_fuse(1, n, GETATTR, 56, 120);
		fake_driver_kick(&d, 1);
		fake_run(&f);
		cr_expect_eq(answer(n), -ENOTCONN);
	}
	end();
}

Test(vhost_user, full_eventfds_pci)
{
	full_eventfds(FAKE_PCI);
}

Test(vhost_user, full_eventfds_mmio)
{
	full_eventfds(FAKE_MMIO);
}

/* The front end tells the daemon when a vector is masked or moved; no interrupt is lost. */
Test(vhost_user, masked_vector)
{
	unsigned q = 1, calls;
	uint64_t entry;

	start_daemon(0, OBEY);
	begin_device(FAKE_PCI);
	fake_driver_start(&d, 0, QUEUES, QUEUE);
	entry = d.base + VIRTIO_PCI_MSIX_TABLE + (q + 1) * 16;
	one_request(q);
	calls = daemon_.told[SET_CALL];
	fake_write(&f, entry + 12, 4, 1);
	cr_expect_eq(daemon_.told[SET_CALL], calls + 1);
	add_fuse(q, 0, GETATTR, 56, 120);
	fake_driver_kick(&d, q);
	cr_assert(fake_run_until(&f, waiting, &q));
	usleep(20000);
	fake_run(&f);
	cr_expect_eq(fake_driver_irqs(&d, q), 0);
	fake_write(&f, entry + 12, 4, 0);
	cr_expect_eq(daemon_.told[SET_CALL], calls + 2);
	cr_expect_eq(fake_driver_irqs(&d, q), 1);
	take_all(q, ANSWER);
	one_request(q);
	/* No change, so no message. */
	fake_write(&f, entry + 8, 4, q + 1);
	cr_expect_eq(daemon_.told[SET_CALL], calls + 2);
	/* The daemon dies in the middle. */
	stop_daemon();
	fake_write(&f, entry + 12, 4, 1);
	fake_write(&f, entry + 12, 4, 0);
	cr_assert(fake_run_until(&f, is_gone, NULL));
	expect_refused(q, 1);
	end();
}

static bool served_four(void *unused)
{
	return daemon_.served == 4;
}

/* The daemon dies after answering some requests, out of order, and before seeing others. */
static void death(enum fake_transport transport, uint64_t features)
{
	start_daemon(0, OBEY);
	daemon_.features |= 1ull << VIRTIO_F_EVENT_IDX;
	daemon_.keep = 1 << 1 | 1 << 3;
	begin_device(transport);
	fake_driver_start(&d, features, QUEUES, QUEUE);
	for (unsigned i = 0; i < 6; i++)
		add_fuse(1, i, GETATTR, 56, 120);
	fake_driver_kick(&d, 1);
	cr_assert(fake_run_until(&f, served_four, NULL));
	cr_expect_eq(take_all(1, ANSWER), 4);
	add_fuse(1, 6, GETATTR, 56, 16);
	/* A request without room for an answer. */
	add_fuse(0, 7, FORGET, 48, 0);
	fake_driver_irqs(&d, 1);
	stop_daemon();
	cr_assert(fake_run_until(&f, is_gone, NULL));
	cr_expect_eq(take_all(1, 16), 3);
	cr_expect_eq(take_all(0, 0), 1);
	cr_expect_gt(fake_driver_irqs(&d, 1), 0);
	for (unsigned i = 0; i < 7; i++)
		cr_expect_eq(answer(i), i == 1 || i == 3 || i == 6 ? -ENOTCONN : 1, "request %u",
			     i);
	for (unsigned i = 0; i < 3 * QUEUE; i++)
		expect_refused(i % QUEUES, 10 + i);
	add_fuse(0, 1, BATCH_FORGET, 80, 0);
	add_fuse(0, 2, INTERRUPT, 48, 16);
	add_fuse(0, 3, GETATTR, 39, 120); /* cut short */
	add_fuse(0, 4, GETATTR, 56, 15);
	fake_driver_kick(&d, 0);
	cr_expect_eq(take_all(0, 0), 4);
	/* The driver may start again; the device still refuses requests. */
	reset();
	fake_driver_start(&d, features, QUEUES, QUEUE);
	expect_refused(1, 1);
	end();
}

Test(vhost_user, death_pci)
{
	death(FAKE_PCI, 0);
	death(FAKE_PCI, 1ull << VIRTIO_F_EVENT_IDX);
}

Test(vhost_user, death_mmio)
{
	death(FAKE_MMIO, 0);
	death(FAKE_MMIO, 1ull << VIRTIO_F_EVENT_IDX);
}

static bool broken(void *unused)
{
	return fake_driver_status(&d) & VIRTIO_STATUS_NEEDS_RESET;
}

/* The ring has invalid values when we take it over. */
Test(vhost_user, death_with_a_hostile_ring)
{
	for (unsigned i = 0; i < 3; i++) {
		struct fake_ring *r = &d.ring[1];

		start_daemon(0, OBEY);
		daemon_.keep = ~0u;
		begin_device(FAKE_PCI);
		fake_driver_start(&d, 0, QUEUES, QUEUE);
		add_fuse(1, 0, GETATTR, 56, 120);
		fake_driver_kick(&d, 1);
		for (unsigned n = 0; n < 5000 && !daemon_.kicks; n++)
			usleep(1000);
		if (i == 0)
			r->avail[1] += QUEUE + 1;
		if (i == 1)
			r->used[1] += 2;
		if (i == 2)
			r->desc[0].addr = ~0ull;
		stop_daemon();
		cr_assert(fake_run_until(&f, broken, NULL), "ring %u", i);
		fake_driver_kick(&d, 1);
		reset();
		fake_driver_start(&d, 0, QUEUES, QUEUE);
		expect_refused(1, 1);
		end();
	}
}

/* The daemon dies before the driver starts. */
Test(vhost_user, death_before_start)
{
	start_daemon(0, OBEY);
	begin_device(FAKE_PCI);
	stop_daemon();
	cr_assert(fake_run_until(&f, is_gone, NULL));
	fake_driver_start(&d, 0, QUEUES, QUEUE);
	expect_refused(0, 0);
	expect_refused(1, 1);
	end();
	/* The same, before the loop notices. */
	start_daemon(0, OBEY);
	begin_device(FAKE_PCI);
	stop_daemon();
	fake_driver_start(&d, 0, QUEUES, QUEUE);
	expect_refused(1, 1);
	end();
}

/* Requests of a disk: header, data, status. */
Test(vhost_user, disk_death)
{
	struct fake_buf hdr = { 0x200000, 16 };
	struct fake_buf in[] = { { 0x201000, 512 }, { 0x202000, 1 } };
	struct err err = { "" };
	struct fake_used_elem e;

	start_daemon(0, OBEY);
	begin(FAKE_PCI);
	cr_assert_eq(create_disk(&err), 0, "%s", err.text);
	fake_driver_find(&d, &f, 0, true);
	cr_expect_eq(fake_driver_config(&d, 0, 4), 0x5a5a5a5a);
	cr_expect_eq(fake_driver_config(&d, 34, 2), 2);
	fake_driver_start(&d, 0, QUEUES, QUEUE);
	one_request(0);
	strcpy(dev->id, "disk0");
	cr_expect_eq(dev->ops->resize(dev, 1ull << 30, &err), -EINVAL);
	cr_expect(!strncmp(err.text, "disk0: the daemon at /", 22) &&
			  strstr(err.text, " decides its size"),
		  "%s", err.text);
	cr_expect_null(dev->ops->counters);
	stop_daemon();
	memset(fake_at(&f, gpa(0x201000), 0x1001), 0xee, 0x1001);
	fake_ring_add(&d.ring[1], &hdr, 1, in, 2);
	fake_driver_kick(&d, 1);
	cr_assert(fake_run_until(&f, is_gone, NULL));
	cr_assert(fake_ring_take(&d.ring[1], &e));
	cr_expect_eq(*(uint8_t *)fake_at(&f, gpa(0x202000), 1), 1);
	cr_expect_eq(*(uint8_t *)fake_at(&f, gpa(0x201000), 1), 0xee);
	fake_ring_add(&d.ring[0], &hdr, 1, NULL, 0); /* no room for a status */
	fake_driver_kick(&d, 0);
	cr_assert(fake_ring_take(&d.ring[0], &e));
	cr_expect_eq(e.len, 0);
	end();
}

/* --- a network card --------------------------------------------------------------- */

#define NET_BIT(n) (1ull << NET_F_##n)
/* The features that we take from a daemon that offers everything. */
#define NET_TAKEN                                                                                  \
	(NET_BIT(CSUM) | NET_BIT(GUEST_CSUM) | NET_BIT(GUEST_TSO4) | NET_BIT(GUEST_TSO6) |         \
	 NET_BIT(GUEST_ECN) | NET_BIT(GUEST_UFO) | NET_BIT(HOST_TSO4) | NET_BIT(HOST_TSO6) |       \
	 NET_BIT(HOST_ECN) | NET_BIT(HOST_UFO) | NET_BIT(MRG_RXBUF))
/* Features that we provide ourselves, without the daemon; also MTU and MQ. */
#define NET_OURS                                                                                   \
	(NET_BIT(MAC) | NET_BIT(STATUS) | NET_BIT(CTRL_VQ) | NET_BIT(CTRL_RX) |                    \
	 NET_BIT(CTRL_RX_EXTRA) | NET_BIT(CTRL_MAC_ADDR) | NET_BIT(GUEST_ANNOUNCE))

static void begin_card(enum fake_transport transport, const char *more)
{
	struct err err = { "" };

	start_daemon(0, OBEY);
	daemon_.features |= 0xffffff & ~(NET_OURS | NET_BIT(MTU) | NET_BIT(MQ));
	daemon_.nqueues = 1; /* for a card, daemons count pairs */
	begin(transport);
	cr_assert_eq(create_net(more, &err), 0, "%s", err.text);
	fake_driver_find(&d, &f, 0, true);
}

static void card(enum fake_transport transport)
{
	begin_card(transport, ",mtu=1400");
	cr_expect_eq(fake_counter(dev, "tx_frames"), 0);
	cr_expect_eq(fake_driver_offered(&d) & 0xffffff, NET_TAKEN | NET_OURS | NET_BIT(MTU));
	cr_expect_eq(fake_driver_config(&d, NET_CONFIG_MAC, 4), 2);
	cr_expect_eq(fake_driver_config(&d, NET_CONFIG_MAC + 4, 2), 0x700);
	cr_expect_eq(fake_driver_config(&d, NET_CONFIG_STATUS, 2), NET_S_LINK_UP);
	cr_expect_eq(fake_driver_config(&d, NET_CONFIG_MTU, 2), 1400);
	for (unsigned round = 0; round < 2; round++) {
		fake_driver_start(&d, NET_TAKEN | NET_OURS | NET_BIT(MTU), QUEUES, QUEUE);
		for (unsigned i = 0; i < 20; i++)
			one_request(i % QUEUES);
		/* The daemon does not see our own features. */
		cr_expect_eq(daemon_.acked & 0xffffff, NET_TAKEN);
		reset();
	}
	end();
	stop_daemon();
	begin_card(transport, ",offload=off");
	cr_expect_eq(fake_driver_offered(&d) & 0xffffff, NET_BIT(MRG_RXBUF) | NET_OURS);
	end();
	stop_daemon();
}

Test(vhost_user, card_pci)
{
	card(FAKE_PCI);
}

Test(vhost_user, card_mmio)
{
	card(FAKE_MMIO);
}

static bool kicked(void *unused)
{
	return daemon_.kicks == 1;
}

static bool link_is_down(void *unused)
{
	return !(fake_driver_config(&d, NET_CONFIG_STATUS, 2) & NET_S_LINK_UP);
}

/* The link goes down; the card drops the guest's frames, and keeps its receive buffers. */
static void card_death(enum fake_transport transport)
{
	struct fake_buf frame = { 0x200000, 100 }, room = { 0x201000, 1526 };
	struct fake_used_elem e;

	begin_card(transport, "");
	fake_driver_start(&d, NET_OURS, QUEUES, QUEUE);
	daemon_.keep = ~0u;
	fake_ring_add(&d.ring[0], NULL, 0, &room, 1);
	fake_driver_kick(&d, 0);
	fake_ring_add(&d.ring[1], &frame, 1, NULL, 0);
	fake_driver_kick(&d, 1);
	fake_run_until(&f, kicked, NULL);
	fake_driver_irqs(&d, 0);
	stop_daemon();
	cr_assert(fake_run_until(&f, link_is_down, NULL));
	cr_expect_eq(take_all(1, 0), 1);
	for (unsigned i = 0; i < 3 * QUEUE; i++) {
		fake_ring_add(&d.ring[1], &frame, 1, NULL, 0);
		fake_driver_kick(&d, 1);
		cr_assert(fake_ring_take(&d.ring[1], &e), "frame %u", i);
	}
	fake_ring_add(&d.ring[0], NULL, 0, &room, 1);
	fake_driver_kick(&d, 0);
	fake_run(&f);
	cr_expect_eq(take_all(0, 0), 0);
	cr_expect_eq(fake_driver_status(&d), 15);
	/* The link stays down for the next driver. */
	reset();
	fake_driver_start(&d, NET_OURS, QUEUES, QUEUE);
	cr_expect_eq(fake_driver_config(&d, NET_CONFIG_STATUS, 2), 0);
	fake_ring_add(&d.ring[0], NULL, 0, &room, 1);
	fake_driver_kick(&d, 0);
	fake_ring_add(&d.ring[1], &frame, 1, NULL, 0);
	fake_driver_kick(&d, 1);
	cr_expect_eq(take_all(1, 0), 1);
	cr_expect_eq(take_all(0, 0), 0);
	end();
}

Test(vhost_user, card_death_pci)
{
	card_death(FAKE_PCI);
}

Test(vhost_user, card_death_mmio)
{
	card_death(FAKE_MMIO);
}

/* An ENABLE has no answer: the daemon obeys it soon. */
static bool are_enabled(void *want)
{
	bool *on = want;

	return daemon_.ring[0].enabled == *on && daemon_.ring[1].enabled == *on;
}

/* A card's turn is due while a vCPU waits for the daemon, with the lock held: it comes when the lock is free. */
Test(vhost_user, card_turn)
{
	struct virtio_net *nic;

	begin_card(FAKE_PCI, "");
	fake_driver_start(&d, NET_OURS, QUEUES, QUEUE);
	one_request(1);
	nic = (struct virtio_net *)dev;
	virtio_lock(&nic->vdev);
	nic_again(nic, &nic->ctrl_turn);
	fake_run(&f);
	cr_expect(turn_left(&nic->ctrl_turn));
	virtio_unlock(&nic->vdev);
	fake_run(&f);
	cr_expect_not(turn_left(&nic->ctrl_turn));
	end();
	stop_daemon();
}

/* The host switches the link; the daemon does not serve a disabled ring. */
Test(vhost_user, card_link)
{
	bool on = true, off = false;
	unsigned told;

	begin_card(FAKE_PCI, "");
	fake_driver_start(&d, NET_OURS, QUEUES, QUEUE);
	one_request(1);
	told = daemon_.told[ENABLE];
	dev->ops->set_link(dev, false);
	cr_expect(link_is_down(NULL));
	cr_expect(fake_run_until(&f, are_enabled, &off));
	cr_expect_eq(daemon_.told[ENABLE], told + QUEUES);
	reset();
	fake_driver_start(&d, NET_OURS, QUEUES, QUEUE);
	cr_expect(!daemon_.ring[0].enabled && !daemon_.ring[1].enabled);
	dev->ops->set_link(dev, true);
	cr_expect(fake_run_until(&f, are_enabled, &on));
	one_request(1);
	end();
	stop_daemon();
}

static bool second_pair(void *want)
{
	bool *on = want;

	return daemon_.ring[2].enabled == *on && daemon_.ring[3].enabled == *on;
}

static bool set_pairs(uint16_t pairs)
{
	uint8_t *at = fake_at(&f, gpa(0x210000), 16);
	struct fake_buf out = { 0x210000, 4 }, in = { 0x210008, 1 };
	struct fake_used_elem e;

	at[0] = 4; /* class MQ, command VQ_PAIRS_SET */
	at[1] = 0;
	at[2] = (uint8_t)pairs;
	at[3] = 0;
	at[8] = 0xff;
	fake_ring_add(&d.ring[4], &out, 1, &in, 1);
	fake_driver_kick(&d, 4);
	return fake_ring_take(&d.ring[4], &e) && !at[8];
}

Test(vhost_user, card_with_two_pairs)
{
	bool on = true, off = false;
	struct err err = { "" };

	start_daemon(0, OBEY);
	daemon_.features |= NET_BIT(MQ);
	daemon_.nqueues = 1;
	begin(FAKE_PCI);
	cr_expect_eq(create_net(",queues=2", &err), -ENOTSUP);
	cr_expect(strstr(err.text, "serves 1 queues, not 2"), "%s", err.text);
	fake_env_destroy(&f);
	stop_daemon();
	start_daemon(0, OBEY);
	daemon_.features |= NET_BIT(MQ);
	daemon_.nqueues = 2;
	begin(FAKE_PCI);
	cr_assert_eq(create_net(",queues=2", &err), 0, "%s", err.text);
	fake_driver_find(&d, &f, 0, true);
	cr_expect_eq(fake_driver_config(&d, NET_CONFIG_MAX_PAIRS, 2), 2);
	fake_driver_start(&d, NET_OURS | NET_BIT(MQ), 5, QUEUE);
	cr_expect(daemon_.acked & NET_BIT(MQ));
	one_request(1);
	cr_expect(daemon_.ring[0].enabled && daemon_.ring[1].enabled);
	cr_expect(!daemon_.ring[2].enabled && !daemon_.ring[3].enabled);
	cr_assert(set_pairs(2));
	cr_expect(fake_run_until(&f, second_pair, &on));
	for (unsigned i = 0; i < 8; i++)
		one_request(i % 4);
	cr_assert(set_pairs(1));
	cr_expect(fake_run_until(&f, second_pair, &off));
	one_request(1);
	/* A driver without MQ: its control queue is the third. */
	reset();
	fake_driver_start(&d, NET_OURS, 3, QUEUE);
	one_request(1);
	cr_expect(!daemon_.ring[2].enabled);
	end();
	stop_daemon();
}

Test(vhost_user, card_users)
{
	static const struct {
		const char *more, *says;
	} bad[] = {
		{ ",tap=tap0", "give one of tap=NAME" }, { ",user", "and vhost-user=SOCKET" },
		{ ",stream=x", "give one of" },		 { ",fd=3", "give one of" },
		{ ",vhost=on", "vhost=on uses" },	 { ",hostfwd=tcp::1-1", "hostfwd= cannot" },
		{ ",ip=10.0.0.1", "ip= cannot" },	 { ",rx-rate=1M", "rx-rate= cannot" },
		{ ",tx-ops=1", "tx-ops= cannot" },	 { ",queue-size=100", "a power of two" },
	};

	begin(FAKE_PCI);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err err = { "" };

		cr_expect_eq(create_net(bad[i].more, &err), -EINVAL, "%s", bad[i].more);
		cr_expect(strstr(err.text, bad[i].says), "%s: %s", bad[i].more, err.text);
		cr_expect_null(dev);
	}
	fake_env_destroy(&f);
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
	/* A daemon with too few queues, and one without virtio 1. */
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
