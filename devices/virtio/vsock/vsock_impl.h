/*
 * vsock/vsock_impl: what the parts of the device share, from the top down: device.c (the page), vsock.c (the
 * guest's packets, time), stream.c (bytes from guest to socket) and host.c (Unix sockets), send.c
 * (packets to the guest), conn.c (connections). Each calls only those after it; stream.c and
 * host.c call each other, for a connection begins in either. vhost_kernel.c takes the numbers
 * of the device from here. Nobody else includes it.
 *
 * Thread: everything here runs in the device's loop with the device's lock held,
 * unless it says otherwise. Counters of bytes are modulo 2^32, as on the wire.
 */
#ifndef BANTAM_VSOCK_IMPL_H
#define BANTAM_VSOCK_IMPL_H

#include <sys/queue.h>

#include "devices/virtio/core/virtio.h"
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
/* Room that the guest is told of, which bounds what a host that does not read makes us keep. */
#define VSOCK_ROOM 262144u
#define VSOCK_ROOM_CROWDED 65536u /* for connections beyond the first VSOCK_ROOMY */
#define VSOCK_ROOMY 64u
#define VSOCK_MAX_STRAYS 64u
#define VSOCK_PACKET_BYTES 65536u /* of data, at most */
/* Receive buffers of the guest that one readv may fill. */
#define VSOCK_STASH 16u
#define VSOCK_STASH_IOVS (VSOCK_QUEUE_SIZE + 4 * VSOCK_STASH)
#define VSOCK_TICK_NS 20000000u /* between looks at what has no event of its own */

#define VSOCK_TYPE_STREAM 1
#define VSOCK_SHUT_RCV 1u  /* the sender of the packet receives no more */
#define VSOCK_SHUT_SEND 2u /* … sends no more */
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
	VSOCK_DIALING,	/* the guest asked; the host program's backlog is full: we try again */
	VSOCK_OPEN,
	VSOCK_DYING,	/* no socket any more; gone when its last packet is sent */
	VSOCK_DRAINING, /* the guest has forgotten it; gone when its data is written */
};

/*
 * How long a host program may leave its CONNECT line incomplete, or not take a byte of a connection
 * that the guest has forgotten; 30 s. Tests make it shorter.
 */
extern unsigned vsock_patience_ms;

struct vsock;

/*
 * What the guest knows of a connection. A snapshot will save exactly this of each; its socket and
 * the bytes kept for it (struct vsock_conn) do not outlive the process, so that the guest is told
 * of a reset after a restore (5.10.6.7). Counts of bytes are modulo 2^32 (5.10.6.3).
 */
struct vsock_conn_state {
	uint32_t guest_port, host_port;
	uint32_t room;	     /* our buf_alloc: bytes from the guest that we keep at most */
	uint32_t rx_cnt;     /* bytes received from the guest */
	uint32_t fwd_cnt;    /* … and written to the socket */
	uint32_t fwd_told;   /* fwd_cnt as the guest knows it */
	uint32_t tx_cnt;     /* bytes sent to the guest */
	uint32_t peer_alloc; /* the guest's buf_alloc, as its last packet said */
	uint32_t peer_fwd;   /* … and its fwd_cnt */
	uint16_t pending;    /* bit n: a packet with operation n is to be sent */
	uint8_t stage;	     /* enum vsock_stage */
	uint8_t shut;	     /* VSOCK_SHUT_… of the SHUTDOWN to send, and that was sent */
	uint8_t guest_shut;  /* VSOCK_SHUT_… of the guest's SHUTDOWN */
	bool asked;	     /* a CREDIT_REQUEST is sent, and no credit came since */
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
	uint32_t events; /* that watch waits for */
	uint32_t out_at; /* of the ring's oldest byte; it holds rx_cnt - fwd_cnt */
	uint8_t line_bytes;
	bool hashed, linked;
	bool readable; /* the socket had data when last asked */
	bool muted;    /* … and is not watched before it is served */
	bool eof, hup; /* the host program has shut down its writing; is gone */
	char line[24]; /* GREETING: of "CONNECT 4294967295\n" */
};

/* A reset for packets that belong to no connection. */
struct vsock_stray {
	uint64_t src_cid;
	uint32_t src_port, dst_port;
	uint16_t type;
};

/* A receive buffer that was popped: iov[0, niov) of the stash's pool. */
struct vsock_buf {
	struct iovec *iov;
	uint32_t niov, bytes;
	uint16_t head;
};

/* A snapshot will save exactly this beside virtio_state, and vsock_conn_state of each connection. */
struct vsock_state {
	uint32_t cid;	    /* the guest's address (5.10.4) */
	uint32_t next_port; /* of the host, for the next connection that a host program opens */
	struct vsock_stray stray[VSOCK_MAX_STRAYS]; /* a ring: resets that wait for a buffer */
	unsigned stray_at, nstrays;		    /* its first, and how many */
	bool tx_blocked;			    /* the ring is full: the guest's packets wait */
};

struct vsock {
	struct virtio_device vdev; /* first */
	struct vsock_state s;
	unsigned nconns;
	unsigned ntimed;  /* connections with a deadline */
	bool resetting;	  /* on_again finishes the reset */
	uint64_t tick_ns; /* when the tick comes; 0: it does not */
	bool deaf;	  /* no descriptor for another connection: the tick tries again */
	LIST_HEAD(, vsock_conn) conns;
	LIST_HEAD(, vsock_conn) bucket[VSOCK_BUCKETS];
	TAILQ_HEAD(, vsock_conn) ready, draining; /* draining: by deadline */
	struct vsock_buf buf[VSOCK_STASH];
	unsigned nbufs;
	struct iovec pool[VSOCK_STASH_IOVS];
	unsigned npool;
	struct loop_watch *again, *tick, *listen;
	int again_fd;
	char path[UNIX_SOCKET_PATH_MAX + 1];
	struct unix_listener listener; /* at path */
};

/* Room that the guest has left for us. */
static inline uint32_t vsock_conn_credit(const struct vsock_conn *c)
{
	uint32_t in_flight = c->s.tx_cnt - c->s.peer_fwd;

	return in_flight < c->s.peer_alloc ? c->s.peer_alloc - in_flight : 0;
}

/* Bytes from the guest that the socket has not taken yet. */
static inline uint32_t vsock_conn_kept(const struct vsock_conn *c)
{
	return c->s.rx_cnt - c->s.fwd_cnt;
}

/* --- vsock.c ------------------------------------------------------------------------- */

/* The guest's packets, one turn of them. */
void vsock_run_tx(struct vsock *vs);
/* The tick's callback; takes the lock. */
void vsock_on_tick(void *opaque);

/* --- vsock/conn.c -------------------------------------------------------------------- */

/* See to it that the tick comes within delay_ns. */
void vsock_arm_tick(struct vsock *vs, uint64_t delay_ns);
/*
 * NULL: too many, or no memory. The connection has no socket and no ports yet. Where there are too
 * many, one that is DRAINING gives way to it.
 */
struct vsock_conn *vsock_conn_new(struct vsock *vs, enum vsock_stage stage);
void vsock_conn_free(struct vsock_conn *c);
struct vsock_conn *vsock_conn_find(struct vsock *vs, uint32_t guest_port, uint32_t host_port);
/* Name it, from now on vsock_conn_find finds it. */
void vsock_conn_name(struct vsock_conn *c, uint32_t guest_port, uint32_t host_port);
/* Wait for what its stage can use. */
void vsock_conn_update(struct vsock_conn *c);
void vsock_conn_deadline(struct vsock_conn *c, uint64_t delay_ns); /* 0: none */
void vsock_conn_send(struct vsock_conn *c, enum vsock_op op);	   /* when its turn comes */
/* Close the socket; the guest gets a reset, and c is gone after that. */
void vsock_conn_reset(struct vsock_conn *c);
/* The host program is gone and all that it sent is read: c ends when the guest is told. */
void vsock_conn_finish(struct vsock_conn *c);
/* The guest knows it no more: no name, no turn, no packet to send. */
void vsock_conn_forget(struct vsock_conn *c);
/* Stand in line, at the end. */
void vsock_conn_link(struct vsock_conn *c);

/* --- vsock/stream.c ------------------------------------------------------------------ */

/* Give it a connected socket, which it owns from now on, also when this fails: 0 or -errno. */
int vsock_conn_socket(struct vsock_conn *c, int fd);
/* Its deadline is over: it ends, unless the host program has done something about it since. */
void vsock_conn_expire(struct vsock_conn *c);
/* The guest has forgotten c: end it, but deliver what the guest had sent before. */
void vsock_conn_orphan(struct vsock_conn *c);
/* The socket is connected, and the guest agrees. */
void vsock_conn_opened(struct vsock_conn *c);
/*
 * A packet of the guest for c. data: hdr->len_bytes of guest memory (only for RW). c may be
 * gone afterwards.
 */
void vsock_conn_packet(struct vsock_conn *c, const struct vsock_hdr *hdr, const struct iovec *data,
		       unsigned ndata);

/* --- vsock/send.c -------------------------------------------------------------------- */

/* Move what can be moved to the guest, and resume its packets if they waited for that. */
void vsock_run(struct vsock *vs);
/* Another turn of the loop, soon. Any thread. */
void vsock_run_again(struct vsock *vs);
/* Cut [skip, skip + len) out of iov[0, n) into out (room for n); returns the elements used. */
unsigned vsock_iov_slice(const struct iovec *iov, unsigned n, size_t skip, size_t len_bytes,
			 struct iovec *out);

/* --- vsock/host.c -------------------------------------------------------------------- */

/* Listen at path. Loop's thread or the builder; no lock. One line on failure. */
int vsock_host_listen(struct vsock *vs, const char *option, const char *path, struct err *err);
void vsock_host_close(struct vsock *vs);
/* The guest asks for hdr->dst_port: connect to the host program there. False: one too many. */
bool vsock_host_dial(struct vsock *vs, const struct vsock_hdr *hdr);
/* DIALING: once more. c may be dying afterwards. */
void vsock_host_redial(struct vsock_conn *c);
/* GREETING: read from the socket. c may be gone afterwards. */
void vsock_host_greet(struct vsock_conn *c);
/* Accept again after descriptors had run out. */
void vsock_host_listen_again(struct vsock *vs);
/* Tell the host program that the guest has accepted. False: it cannot be told. */
bool vsock_host_welcome(struct vsock_conn *c);

#endif
