/*
 * vsock/vsock_impl: what the parts of the device share, from the top down: device.c (--vsock,
 * class, life), vsock.c (the guest's packets, time), stream.c (bytes from guest to socket) and
 * host.c (Unix sockets), send.c (packets to the guest), conn.c (connections). Each file calls only
 * those after it, except that stream.c and host.c call each other: a connection can begin in
 * either. vhost_kernel.c uses the device's constants from here. Outside this folder only tests
 * include this header.
 *
 * Thread: every function here runs in the device's loop with the device's lock held, unless its
 * comment says otherwise. Counters of bytes are modulo 2^32, as on the wire.
 */
#ifndef BANTAM_VSOCK_IMPL_H
#define BANTAM_VSOCK_IMPL_H

#include <sys/queue.h>

#include "devices/virtio/core/virtio.h"
#include "vmm/core/turn.h"
#include "vmm/core/unix_socket.h"

#define VSOCK_RX 0
#define VSOCK_TX 1
#define VSOCK_NQUEUES 3
#define VSOCK_QUEUE_SIZE 256u
#define VSOCK_DEVICE_ID 19
#define VSOCK_PCI_CLASS 0x028000
#define VSOCK_CONFIG_BYTES 8
#define VSOCK_F_STREAM 0
#define VSOCK_F_SEQPACKET 1
#define VSOCK_HOST_CID 2u
#define VSOCK_MAX_CONNS 2048u
#define VSOCK_BUCKETS 512u
/*
 * buf_alloc of a connection: bounds the bytes kept for a host program that does not read. All
 * connections together get at most VSOCK_ROOM_SUM: the more there are, the less a new one gets.
 */
#define VSOCK_ROOM 262144u
#define VSOCK_ROOM_LEAST 4096u
#define VSOCK_ROOM_SUM (32u << 20)
_Static_assert(VSOCK_MAX_CONNS *VSOCK_ROOM_LEAST <= VSOCK_ROOM_SUM / 2, "some room to share");
#define VSOCK_MAX_STRAYS 64u
#define VSOCK_PACKET_BYTES 65536u /* most data bytes of a packet */
/* Most receive buffers of the guest that one readv fills. */
#define VSOCK_STASH 16u
#define VSOCK_STASH_IOVS (VSOCK_QUEUE_SIZE + 4 * VSOCK_STASH)
#define VSOCK_TICK_NS 20000000u /* how often the tick checks what has no event of its own */

#define VSOCK_TYPE_STREAM 1
#define VSOCK_SHUT_RCV 1u  /* the sender of the packet receives no more */
#define VSOCK_SHUT_SEND 2u /* the sender of the packet sends no more */
#define VSOCK_SHUT_BOTH 3u

enum vsock_op {
	VSOCK_OP_REQUEST = 1,
	VSOCK_OP_RESPONSE,
	VSOCK_OP_RST,
	VSOCK_OP_SHUTDOWN,
	VSOCK_OP_RW,
	VSOCK_OP_CREDIT_UPDATE,
	VSOCK_OP_CREDIT_REQUEST,
};

/* Section 5.10.6, little-endian. */
struct vsock_hdr {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint32_t len_bytes;
	uint16_t type, op;
	uint32_t flags;
	uint32_t buf_alloc, fwd_cnt;
} __attribute__((packed));

#define VSOCK_HDR_BYTES 44u
_Static_assert(sizeof(struct vsock_hdr) == VSOCK_HDR_BYTES, "section 5.10.6");

enum vsock_stage {
	VSOCK_GREETING, /* a host program has connected; its CONNECT line is not complete */
	VSOCK_ASKED,	/* the guest was sent a REQUEST */
	VSOCK_DIALING,	/* the guest asked; the program's backlog is full: the tick tries again */
	VSOCK_OPEN,
	VSOCK_DYING,	/* no socket any more; freed when its last packet is sent */
	VSOCK_DRAINING, /* the guest has forgotten it; freed when its data is written */
};

/*
 * How long a host program may leave its CONNECT line incomplete, or take no byte of a connection
 * that the guest has forgotten. 30 s; tests shorten it.
 */
extern unsigned vsock_patience_ms;

struct vsock;

/*
 * What the guest knows of a connection. A snapshot will save exactly this of each; its socket and
 * the bytes kept for it (struct vsock_conn) do not outlive the process, so after a restore the
 * guest gets a transport reset (5.10.6.7). Counts of bytes are modulo 2^32 (5.10.6.3).
 */
struct vsock_conn_state {
	uint32_t guest_port, host_port;
	uint32_t room;	     /* our buf_alloc: most bytes from the guest that are kept */
	uint32_t rx_cnt;     /* bytes received from the guest */
	uint32_t fwd_cnt;    /* of these, bytes written to the socket */
	uint32_t fwd_told;   /* fwd_cnt as last sent to the guest */
	uint32_t tx_cnt;     /* bytes sent to the guest */
	uint32_t peer_alloc; /* the guest's buf_alloc, from its last packet */
	uint32_t peer_fwd;   /* the guest's fwd_cnt, from its last packet */
	uint16_t pending;    /* bit n: a packet with operation n is to be sent */
	uint8_t stage;	     /* enum vsock_stage */
	uint8_t shut;	     /* VSOCK_SHUT_… of the SHUTDOWN that is to be sent or was sent */
	uint8_t guest_shut;  /* VSOCK_SHUT_… of the guest's SHUTDOWN */
	bool asked;	     /* a CREDIT_REQUEST was sent, and no credit came since */
};

struct vsock_conn {
	struct vsock_conn_state s;
	LIST_ENTRY(vsock_conn) all;
	LIST_ENTRY(vsock_conn) hash;   /* not GREETING, not DRAINING */
	TAILQ_ENTRY(vsock_conn) ready; /* in vsock.ready if linked; DRAINING: in vsock.draining */
	struct vsock *vs;
	struct loop_watch *watch;
	uint8_t *out;	      /* ring of room bytes for what the socket did not take, or NULL */
	uint64_t deadline_ns; /* GREETING, ASKED, DIALING, DRAINING; else 0 */
	int fd;
	uint32_t events; /* the events that watch waits for */
	uint32_t out_at; /* index of the ring's oldest byte; it holds rx_cnt - fwd_cnt bytes */
	uint8_t line_bytes;
	bool hashed, linked;
	bool narrow;   /* the socket's own buffer is not the default */
	bool readable; /* the socket had data when last read */
	bool muted;    /* EPOLLIN is off until the connection is served */
	bool eof, hup; /* the host program has shut down its writing; has closed its socket */
	char line[32]; /* GREETING: as long as Firecracker takes it */
};

/* A reset for packets that belong to no connection. */
struct vsock_stray {
	uint64_t src_cid;
	uint32_t src_port, dst_port;
	uint16_t type;
};

/* A receive buffer that was popped; iov[0, niov) lies in the stash's pool. */
struct vsock_buf {
	struct iovec *iov;
	uint32_t niov, bytes;
	uint16_t head;
};

/* A snapshot will save exactly this beside virtio_state, and vsock_conn_state of each connection. */
struct vsock_state {
	uint32_t cid;	    /* the guest's address (5.10.4) */
	uint32_t next_port; /* host port of the next connection that a host program opens */
	struct vsock_stray stray[VSOCK_MAX_STRAYS]; /* a ring: resets that wait for a buffer */
	unsigned stray_at, nstrays;		    /* index of the first, and how many */
	bool tx_blocked;			    /* stray is full: the guest's packets wait */
};

struct vsock {
	struct virtio_device vdev; /* first */
	struct vsock_state s;
	unsigned nconns;
	uint32_t room_sum;  /* of all connections' room */
	unsigned ntimed;    /* connections with a deadline */
	bool resetting;	    /* on_again finishes the reset */
	uint64_t tick_ns;   /* when the tick fires; 0: it is not armed */
	bool accept_paused; /* no descriptor left to accept with: the tick tries again */
	LIST_HEAD(, vsock_conn) conns;
	LIST_HEAD(, vsock_conn) bucket[VSOCK_BUCKETS];
	TAILQ_HEAD(, vsock_conn) ready, draining; /* draining: by deadline */
	struct vsock_buf buf[VSOCK_STASH];
	unsigned nbufs;
	struct iovec pool[VSOCK_STASH_IOVS];
	unsigned npool;
	struct loop_watch *again, *tick, *listen;
	struct turn rx_turn, tx_turn;
	char path[UNIX_SOCKET_PATH_MAX + 1];
	struct unix_listener listener; /* at path */
	char *keep_id; /* the listener stays in env->keep under this id; NULL: it does not */
};

/* Returns how many bytes the guest has room for. */
static inline uint32_t vsock_conn_credit(const struct vsock_conn *c)
{
	uint32_t in_flight = c->s.tx_cnt - c->s.peer_fwd;

	return in_flight < c->s.peer_alloc ? c->s.peer_alloc - in_flight : 0;
}

/* Returns how many bytes from the guest the socket has not taken yet. */
static inline uint32_t vsock_conn_kept(const struct vsock_conn *c)
{
	return c->s.rx_cnt - c->s.fwd_cnt;
}

/* --- vsock.c ------------------------------------------------------------------------- */

/* Serve one turn of the guest's packets. */
void vsock_run_tx(struct vsock *vs);
/* The tick's callback; takes the lock. */
void vsock_on_tick(void *opaque);

/* --- vsock/conn.c -------------------------------------------------------------------- */

/* Make the tick fire within delay_ns. */
void vsock_arm_tick(struct vsock *vs, uint64_t delay_ns);
/*
 * Returns NULL if there are too many connections or no memory. The new connection has no socket and
 * no ports yet. If there are too many, the DRAINING connection with the earliest deadline is freed
 * to make room.
 */
struct vsock_conn *vsock_conn_new(struct vsock *vs, enum vsock_stage stage);
void vsock_conn_free(struct vsock_conn *c);
/* c keeps no bytes: gives it a larger room, if the other connections have left one. */
void vsock_conn_widen(struct vsock_conn *c);
struct vsock_conn *vsock_conn_find(struct vsock *vs, uint32_t guest_port, uint32_t host_port);
/* Give c its ports: from now on vsock_conn_find finds it. */
void vsock_conn_name(struct vsock_conn *c, uint32_t guest_port, uint32_t host_port);
/* What the host's kernel keeps for a socket is bounded like what we keep. */
void vsock_conn_limit_socket(struct vsock_conn *c);
/* Watch the socket for the events that c's stage can use. */
void vsock_conn_update(struct vsock_conn *c);
void vsock_conn_deadline(struct vsock_conn *c, uint64_t delay_ns); /* 0: none */
void vsock_conn_send(struct vsock_conn *c, enum vsock_op op);	   /* sends when its turn comes */
/*
 * Close the socket and queue a reset for the guest; c is freed when the reset is sent, or at once
 * if the guest does not know c.
 */
void vsock_conn_reset(struct vsock_conn *c);
/*
 * The host program is gone and all that it sent is read: queue a SHUTDOWN for the guest; c is freed
 * when the SHUTDOWN is sent.
 */
void vsock_conn_finish(struct vsock_conn *c);
/* The guest has forgotten c: drop its ports, its turn and its pending packets. */
void vsock_conn_forget(struct vsock_conn *c);
/* Append c to the line of connections that wait for a turn, unless it is in the line. */
void vsock_conn_link(struct vsock_conn *c);

/* --- vsock/stream.c ------------------------------------------------------------------ */

/* Give c a connected socket, which c owns from now on, also if this fails. 0 or -errno. */
int vsock_conn_socket(struct vsock_conn *c, int fd);
/* c's deadline has passed: end c, unless it is DRAINING and the host program has read since. */
void vsock_conn_expire(struct vsock_conn *c);
/* The guest has forgotten c: end it, but deliver what the guest had sent before. */
void vsock_conn_orphan(struct vsock_conn *c);
/* The socket is connected, and the guest has accepted. */
void vsock_conn_opened(struct vsock_conn *c);
/*
 * Handle a packet of the guest for c. data: hdr->len_bytes of guest memory (only for RW). c may be
 * freed.
 */
void vsock_conn_packet(struct vsock_conn *c, const struct vsock_hdr *hdr, const struct iovec *data,
		       unsigned ndata);

/* --- vsock/send.c -------------------------------------------------------------------- */

/* Send what can be sent to the guest, and resume the guest's packets if they waited for that. */
void vsock_run(struct vsock *vs);
/* Ask for another turn of the loop. Thread: any. */
void vsock_run_again(struct vsock *vs);
/*
 * Cut [skip, skip + len_bytes) out of iov[0, n) into out (room for n). Returns the elements used.
 */
unsigned vsock_iov_slice(const struct iovec *iov, unsigned n, size_t skip, size_t len_bytes,
			 struct iovec *out);

/* --- vsock/host.c -------------------------------------------------------------------- */

/*
 * Listen at path, on the socket that the last machine has left there if it did. 0 or -errno with err
 * set. Thread: the loop's or the builder, without the lock. */
int vsock_host_listen(struct vsock *vs, const char *option, const char *path, struct err *err);
void vsock_host_close(struct vsock *vs);
/*
 * The guest asks for hdr->dst_port: connect to the host program there. Returns false if there are
 * too many connections or no memory.
 */
bool vsock_host_dial(struct vsock *vs, const struct vsock_hdr *hdr);
/* c is DIALING: try to connect once more. c may be DYING afterwards. */
void vsock_host_redial(struct vsock_conn *c);
/* c is GREETING: read from the socket. c may be freed. */
void vsock_host_greet(struct vsock_conn *c);
/* Accept again after descriptors had run out. */
void vsock_host_listen_again(struct vsock *vs);
/*
 * c is ASKED, and the host program has closed its socket. Returns true if it has sent bytes for the
 * guest before: they wait for the guest's answer.
 */
bool vsock_host_left(struct vsock_conn *c);
/*
 * Tell the host program that the guest has accepted; it may be gone. Returns false if the line
 * cannot be sent.
 */
bool vsock_host_welcome(struct vsock_conn *c);

#endif
