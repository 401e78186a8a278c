/*
 * queue_end: see guest_end.h. The card's queues, in the guest's memory (virtio 1.2, section 5.1.6).
 *
 * Theory of operation. The monitor is the vhost-user front end. It tells us over its socket
 * where memory and queues are, and we trust it. Queue 0 receives, queue 1 transmits. We copy each
 * frame of the guest before parsing it. A frame for the guest goes into as many buffers
 * as it needs. If the guest has too few, the written part stays unpublished until
 * there are more, and the caller sends the same frame next. If it does not, what is there goes to the
 * guest as a frame that is cut, never with bytes of another. We report a broken queue on its
 * error descriptor, and do not serve it until the monitor starts it again.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backend/net/net.h"
#include "devices/backend/vhost/user_msg.h"
#include "devices/virtio/core/virtq.h"
#include "tools/bantam-net-user/guest_end.h"
#include "vmm/core/bytes.h"

enum { RX, TX, NQUEUES };

#define BIT(n) (1ull << (n))
#define FEATURES                                                                                   \
	(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_MRG_RXBUF) |                              \
	 BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) |                         \
	 BIT(VIRTIO_F_VERSION_1) | BIT(VU_F_PROTOCOL_FEATURES))

#define ETH_BYTES 14u
#define HDR_NUM_BUFFERS 10u
#define HDR_DATA_VALID 2u

struct queue {
	struct virtq q;
	bool enabled; /* else we drop frames in both directions */
	int kick_fd, call_fd, err_fd;
};

static struct {
	int fd;			     /* the monitor's socket */
	bool acks;		     /* PROTOCOL_REPLY_ACK is negotiated */
	uint64_t features;	     /* that the driver accepted */
	struct vhost_user_mem table; /* as the monitor sent it */
	struct mem mem;
	struct queue queue[NQUEUES];
	bool starved; /* a frame waits for buffers */
	/* The frame in progress: its bytes and those written (with header), buffers, the first one. */
	uint32_t all, done;
	unsigned nbuffers;
	struct chain first;
	struct iovec first_iov[VIRTQ_MAX_SIZE], iov[VIRTQ_MAX_SIZE];
	uint8_t frame[NET_FRAME_MAX];
} me = { .fd = -1 };

static bool has(unsigned feature)
{
	return me.features >> feature & 1;
}

/* --- frames ------------------------------------------------------------------------------- */

static void broken(struct queue *queue)
{
	virtq_reset(&queue->q);
	if (queue->err_fd >= 0)
		(void)eventfd_write(queue->err_fd, 1);
}

static void forget_frame(void)
{
	me.all = me.done = me.nbuffers = 0;
}

/* Publishes the frame in progress to the guest. */
static bool finish(struct virtq *q)
{
	uint8_t num[2];

	put_le16(num, (uint16_t)me.nbuffers);
	virtq_chain_write(&me.first, HDR_NUM_BUFFERS, num, sizeof(num));
	virtq_publish(q);
	forget_frame();
	return true;
}

/* Publishes the part of the frame in progress, whose rest does not come. */
static void queue_cut(void)
{
	if (me.nbuffers)
		finish(&me.queue[RX].q);
}

static void begin_frame(const struct chain *chain, uint32_t all)
{
	uint8_t hdr[NET_HDR_BYTES] = { has(VIRTIO_NET_F_GUEST_CSUM) ? HDR_DATA_VALID : 0 };

	me.first = *chain;
	me.first.iov = me.first_iov;
	memcpy(me.first_iov, chain->iov,
	       ((size_t)chain->nreadable + chain->nwritable) * sizeof(chain->iov[0]));
	virtq_chain_write(chain, 0, hdr, sizeof(hdr));
	me.all = all;
	me.done = NET_HDR_BYTES;
}

static bool queue_send(const uint8_t *frame, size_t len_bytes)
{
	struct queue *queue = &me.queue[RX];
	uint32_t all = (uint32_t)len_bytes + NET_HDR_BYTES;
	struct virtq *q = &queue->q;
	struct chain chain;
	int rc = 0;

	me.starved = false;
	/* Not the frame in progress, or it is to be dropped. */
	if (me.all != all || !queue->enabled)
		queue_cut();
	if (len_bytes > NET_FRAME_MAX || !queue->enabled)
		return true;
	while (q->s.ready && (rc = virtq_pop(q, &chain, me.iov, VIRTQ_MAX_SIZE)) > 0) {
		uint32_t at = me.nbuffers ? 0 : NET_HDR_BYTES, part;

		if (chain.writable_bytes < NET_HDR_BYTES)
			break;
		if (!has(VIRTIO_NET_F_MRG_RXBUF) && chain.writable_bytes < all) {
			virtq_unpop(q);
			return true;
		}
		if (!me.nbuffers)
			begin_frame(&chain, all);
		part = (uint32_t)virtq_chain_write(&chain, at, frame + me.done - NET_HDR_BYTES,
						   all - me.done);
		me.done += part;
		me.nbuffers++;
		virtq_put(q, chain.head, at + part);
		/* If the frame does not fit in all buffers that the queue can hold, cut it. */
		if (me.done == all || me.nbuffers == q->s.size)
			return finish(q);
	}
	if (q->s.ready && rc) {
		broken(queue);
		forget_frame();
	}
	me.starved = q->s.ready;
	return !q->s.ready;
}

static void queue_publish(void)
{
	for (unsigned i = 0; i < NQUEUES; i++) {
		struct queue *queue = &me.queue[i];

		/* No interrupt in the middle of a frame. */
		if (!(i == RX && me.nbuffers) && virtq_wants_interrupt(&queue->q) &&
		    queue->call_fd >= 0)
			(void)eventfd_write(queue->call_fd, 1);
	}
}

static bool queue_take(guest_frame_fn fn)
{
	struct queue *queue = &me.queue[TX];
	struct virtq *q = &queue->q;
	struct chain chain;
	unsigned n = 0;
	int rc = 0;

	virtq_disable_kicks(q);
	while (n < GUEST_END_BATCH && (rc = virtq_pop(q, &chain, me.iov, VIRTQ_MAX_SIZE)) > 0) {
		size_t len = virtq_chain_read(&chain, NET_HDR_BYTES, me.frame, sizeof(me.frame));

		virtq_put(q, chain.head, 0);
		n++;
		if (queue->enabled && len >= ETH_BYTES &&
		    chain.readable_bytes <= NET_HDR_BYTES + NET_FRAME_MAX)
			fn(me.frame, len);
	}
	if (n)
		virtq_publish(q);
	if (rc < 0)
		broken(queue);
	return n == GUEST_END_BATCH;
}

static bool queue_ready(void)
{
	return virtq_has_more(&me.queue[TX].q) || (me.starved && virtq_has_more(&me.queue[RX].q));
}

static bool queue_rest(void)
{
	struct virtq *rx = &me.queue[RX].q;
	bool more = virtq_enable_kicks(&me.queue[TX].q);

	if (me.starved)
		more |= virtq_enable_kicks(rx);
	else
		virtq_disable_kicks(rx);
	return !more;
}

/* --- messages of the monitor -------------------------------------------------------------- */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Replaces the old descriptor by the received one. */
static bool keep(int *at, int *fd)
{
	close_fd(at);
	*at = *fd;
	*fd = -1;
	return true;
}

static void forget_memory(void)
{
	for (unsigned i = 0; i < me.mem.nregions; i++)
		munmap(me.mem.region[i].host, me.mem.region[i].len_bytes);
	me.mem = (struct mem){ .fd = -1 };
	me.table.nregions = 0;
}

static bool set_memory(const struct vhost_user_msg *m, const int *fd, unsigned nfds)
{
	const struct vhost_user_mem table = m->body.mem;

	if (table.nregions > nfds || me.queue[RX].q.s.ready || me.queue[TX].q.s.ready ||
	    m->len_bytes != 8 + table.nregions * sizeof(table.region[0]))
		return false;
	forget_memory();
	for (unsigned i = 0; i < table.nregions; i++) {
		uint64_t len = table.region[i].len_bytes;
		void *host = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd[i],
				  (off_t)table.region[i].offset);

		if (host == MAP_FAILED)
			return false;
		/* Get huge pages also where we, not the guest, touch the memory first. */
		madvise(host, len, MADV_HUGEPAGE);
		if (mem_add(&me.mem, gpa(table.region[i].gpa), len, host)) {
			munmap(host, len);
			return false;
		}
	}
	me.table = table;
	return true;
}

/* Translates the monitor's address to a guest address; one without memory if it is in no region. */
static gpa_t where(uint64_t host)
{
	for (unsigned i = 0; i < me.table.nregions; i++)
		if (host - me.table.region[i].host < me.table.region[i].len_bytes)
			return gpa(me.table.region[i].gpa + (host - me.table.region[i].host));
	return gpa(UINT64_MAX & ~15ull);
}

static void stop(struct queue *queue)
{
	virtq_reset(&queue->q);
	close_fd(&queue->kick_fd);
	close_fd(&queue->call_fd);
	close_fd(&queue->err_fd);
	queue->enabled = false;
	if (queue == &me.queue[RX])
		forget_frame();
	me.starved = false;
}

static bool start(struct queue *queue, int *kick_fd)
{
	if (virtq_enable(&queue->q, &me.mem, has(VIRTIO_RING_F_EVENT_IDX)))
		return false;
	virtq_disable_kicks(&queue->q);
	return keep(&queue->kick_fd, kick_fd);
}

/* Handles messages about one queue. Returns false if the message is invalid. */
static bool on_queue(struct vhost_user_msg *m, int *fd, unsigned nfds)
{
	bool with_fd = m->request == VU_SET_VRING_KICK || m->request == VU_SET_VRING_CALL ||
		       m->request == VU_SET_VRING_ERR;
	uint32_t index = with_fd ? (uint32_t)m->body.u64 : m->body.state.index;
	struct queue *queue = &me.queue[index & 1];
	struct virtq *q = &queue->q;

	/* The monitor sends a descriptor even if the guest has no interrupt at the moment. */
	if (index >= NQUEUES || m->len_bytes < 8 || (with_fd && !nfds))
		return false;
	switch (m->request) {
	case VU_SET_VRING_NUM:
		if (q->s.ready || m->body.state.num > VIRTQ_MAX_SIZE)
			return false;
		q->s.size = q->size_max = (uint16_t)m->body.state.num;
		return true;
	case VU_SET_VRING_ADDR:
		if (q->s.ready || m->len_bytes != sizeof(m->body.addr))
			return false;
		q->s.desc = where(m->body.addr.desc);
		q->s.avail = where(m->body.addr.avail);
		q->s.used = where(m->body.addr.used);
		return true;
	case VU_SET_VRING_BASE:
		return !q->s.ready && !m->body.state.num;
	case VU_GET_VRING_BASE:
		m->body.state.num = q->s.next_avail;
		stop(queue);
		return true;
	case VU_SET_VRING_KICK:
		return !q->s.ready && start(queue, &fd[0]);
	case VU_SET_VRING_CALL:
		return keep(&queue->call_fd, &fd[0]);
	case VU_SET_VRING_ERR:
		return keep(&queue->err_fd, &fd[0]);
	case VU_SET_VRING_ENABLE:
		queue->enabled = m->body.state.num;
		return true;
	default:
		return false;
	}
}

/* Handles one message; the answer is in m. Returns false if the message is invalid. */
static bool on_message(struct vhost_user_msg *m, int *fd, unsigned nfds)
{
	switch (m->request) {
	case VU_GET_FEATURES:
		m->body.u64 = FEATURES;
		return true;
	case VU_GET_PROTOCOL_FEATURES:
		m->body.u64 = BIT(VHOST_USER_PROTOCOL_REPLY_ACK);
		return true;
	case VU_SET_PROTOCOL_FEATURES:
		me.acks = m->body.u64 >> VHOST_USER_PROTOCOL_REPLY_ACK & 1;
		return m->len_bytes == 8;
	case VU_SET_FEATURES:
		me.features = m->body.u64;
		return m->len_bytes == 8;
	case VU_SET_OWNER:
		return true;
	case VU_SET_MEM_TABLE:
		return set_memory(m, fd, nfds);
	default:
		return on_queue(m, fd, nfds);
	}
}

static bool answer(struct vhost_user_msg *m, uint32_t len_bytes)
{
	m->flags = VU_VERSION | VU_FLAG_REPLY;
	m->len_bytes = len_bytes;
	return send(me.fd, m, VU_HEAD_BYTES + len_bytes, MSG_NOSIGNAL) ==
	       (ssize_t)(VU_HEAD_BYTES + len_bytes);
}

/* Receives one message; the monitor sends each as a whole. False: the monitor is gone. */
static bool receive(struct vhost_user_msg *m, int *fd, unsigned *nfds)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(MEM_MAX_REGIONS * sizeof(int))];
	} control;
	struct iovec iov = { m, VU_HEAD_BYTES };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.buf,
			      .msg_controllen = sizeof(control.buf) };
	ssize_t n = recvmsg(me.fd, &msg, MSG_WAITALL | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	*nfds = 0;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		*nfds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fd, CMSG_DATA(c), *nfds * sizeof(int));
	}
	memset(&m->body, 0, sizeof(m->body));
	return n == VU_HEAD_BYTES && (m->flags & VU_VERSION_MASK) == VU_VERSION &&
	       m->len_bytes <= sizeof(m->body) &&
	       (!m->len_bytes ||
		recv(me.fd, &m->body, m->len_bytes, MSG_WAITALL) == (ssize_t)m->len_bytes);
}

static bool serve_message(void)
{
	struct vhost_user_msg m = { 0 };
	int fd[MEM_MAX_REGIONS];
	unsigned nfds;
	bool good = receive(&m, fd, &nfds) && on_message(&m, fd, nfds);

	for (unsigned i = 0; i < nfds; i++)
		close_fd(&fd[i]);
	if (!good)
		return false;
	switch (m.request) {
	case VU_GET_FEATURES:
	case VU_GET_PROTOCOL_FEATURES:
		return answer(&m, sizeof(m.body.u64));
	case VU_GET_VRING_BASE:
		return answer(&m, sizeof(m.body.state));
	}
	m.body.u64 = 0;
	return !me.acks || !(m.flags & VU_FLAG_NEED_REPLY) || answer(&m, sizeof(m.body.u64));
}

static unsigned queue_polls(struct pollfd *out)
{
	unsigned n = 0;

	out[n++] = (struct pollfd){ me.fd, POLLIN, 0 };
	for (unsigned i = 0; i < NQUEUES; i++)
		if (me.queue[i].kick_fd >= 0)
			out[n++] = (struct pollfd){ me.queue[i].kick_fd, POLLIN, 0 };
	return n;
}

static bool queue_polled(const struct pollfd *p)
{
	const struct pollfd *kick = p + 1;
	eventfd_t n;

	for (unsigned i = 0; i < NQUEUES; i++)
		if (me.queue[i].kick_fd >= 0 && kick++->revents)
			(void)eventfd_read(me.queue[i].kick_fd, &n);
	return !p->revents || serve_message();
}

const struct guest_end *queue_end_open(int vhost_user_fd)
{
	static const struct guest_end end = {
		.send = queue_send,
		.cut = queue_cut,
		.publish = queue_publish,
		.take = queue_take,
		.ready = queue_ready,
		.rest = queue_rest,
		.polls = queue_polls,
		.polled = queue_polled,
	};

	me.fd = vhost_user_fd;
	me.mem.fd = -1;
	for (unsigned i = 0; i < NQUEUES; i++)
		me.queue[i].kick_fd = me.queue[i].call_fd = me.queue[i].err_fd = -1;
	return &end;
}
