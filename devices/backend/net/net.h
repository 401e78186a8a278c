/*
 * net: what virtio-net requires of a back end, the other end of its cable. For devices/virtio/net;
 * back ends include net_impl.h.
 *
 * Frames go in batches, straight from and into the iovecs given (guest memory). A back end with
 * vnet_hdr_bytes expects struct virtio_net_hdr_v1 (virtio 1.2, section 5.1.6) in front of each
 * Ethernet header; any other takes and returns the bare frame. Nothing blocks: a short count
 * reports what cannot go now, and the back end calls the client when another try makes sense.
 * Thread: the loop's, except for functions that say otherwise. The loop's thread calls the client's
 * callbacks, without any lock and never from inside a call.
 */
#ifndef BANTAM_NET_H
#define BANTAM_NET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/backend/vhost/user.h"
#include "vmm/core/err.h"
#include "vmm/core/keep.h"
#include "vmm/core/loop.h"

#define NET_MAX_QUEUES 16u
#define NET_IOV_MAX 1023u /* a stream needs one more for each frame */
#define NET_HDR_BYTES 12u /* struct virtio_net_hdr_v1 */
#define NET_MAC_BYTES 6u
/* The longest frame there is: 64 KiB of IP, Ethernet header, two VLAN tags. */
#define NET_FRAME_MAX 65557u
#define NET_MTU_MIN 68u
#define NET_MTU_MAX 65535u

/* What the guest's driver can take from the back end, or the back end from the driver. */
#define NET_CSUM 1u /* partial checksums */
#define NET_TSO4 2u
#define NET_TSO6 4u
#define NET_ECN 8u /* TSO of segments with ECN */
#define NET_UFO 16u
#define NET_OFFLOADS 31u

struct net_frame {
	struct iovec *iov;
	unsigned niov; /* at most NET_IOV_MAX */
	/*
	 * send: the frame's length. recv: room, then the length received; more than the room: the
	 * frame was cut, and its bytes are worthless
	 */
	uint32_t len_bytes;
};

/* As the guest sees it: rx is what it received. Bytes of frames, without a virtio header. */
struct net_counters {
	uint64_t rx_bytes, rx_frames, tx_bytes, tx_frames;
};

struct net;

/* send and recv are NULL if net.vhost_user serves the queues. */
struct net_ops {
	/*
	 * Returns how many frames were taken (sent or dropped). Fewer than n: full; the client's
	 * writable is called if net_want asked for it.
	 */
	unsigned (*send)(struct net *net, unsigned queue, struct net_frame *frame, unsigned n);
	/*
	 * Returns how many frames were filled. If fewer than n, the queue is empty. If n, call
	 * again: readable may not report the rest. A tap cuts frames without reporting it.
	 */
	unsigned (*recv)(struct net *net, unsigned queue, struct net_frame *frame, unsigned n);
	/* The queue's watch has fired. */
	void (*event)(struct net *net, unsigned queue, uint32_t events);
	/*
	 * Cheap: are there frames? Called over and over while net->polled. NULL: the queue's watch
	 * reports them.
	 */
	bool (*ready)(struct net *net, unsigned queue);
	/*
	 * The client's want_read or want_write has changed. With this op, the watch reports only
	 * the peer's end, and the back end itself calls readable and writable. NULL: the watch
	 * reports all.
	 */
	void (*want)(struct net *net, unsigned queue);
	/*
	 * Sets the offloads that recv may use from now on; NULL: all, or none are offered. Any
	 * thread.
	 */
	void (*set_offloads)(struct net *net, unsigned offloads);
	/* Sets how many queues are served, from 1. NULL: there is only one. Any thread. */
	void (*set_queues)(struct net *net, unsigned queues);
	/* The guest's cable was pulled or plugged in; NULL: the back end ignores it. Any thread. */
	void (*set_link)(struct net *net, bool up);
	/*
	 * Fills *out with what the host's kernel counted for this back end, or leaves it. NULL:
	 * nothing counts. Any thread, until close begins; does not wait.
	 */
	void (*counters)(struct net *net, struct net_counters *out);
	/* Stops helpers, removes what open created, closes its descriptors and frees it. */
	void (*close)(struct net *net);
};

struct net_client {
	void (*readable)(void *opaque, unsigned queue);
	void (*writable)(void *opaque, unsigned queue);
	/* The peer has gone or come back. */
	void (*link)(void *opaque, bool up);
	void *opaque;
};

struct net_port {
	struct net *net;
	unsigned queue;
	int fd; /* -1: none now */
	struct loop_watch *watch;
	bool want_read, want_write; /* as the client set them by net_want */
};

/* A backend embeds it first. */
struct net {
	const struct net_ops *ops;
	struct loop *loop;
	struct net_client client;
	unsigned nqueues;
	unsigned offloads_in;	 /* offloads that it can pass to a driver which accepts them */
	unsigned offloads_out;	 /* offloads that it can take */
	unsigned vnet_hdr_bytes; /* 0 or NET_HDR_BYTES */
	bool has_peer;		 /* a socket: event handles EPOLLRDHUP and EPOLLHUP */
	bool csum_good;		 /* its frames come from this host: their checksums are right */
	uint16_t mtu;		 /* the link's own; 0: unknown */
	bool up;		 /* the peer is there */
	bool polled;		 /* the client calls ready(): the back end need not call readable */
	/*
	 * A daemon that can serve the queues itself. The client takes ownership by copying it and
	 * setting fd to -1. fd -1: none
	 */
	struct vhost_user vhost_user;
	/*
	 * the daemon's socket path; NULL: net.vhost_user is the back end's own process, and the back end
	 * reports its end
	 */
	char *daemon;
	char name[64];	 /* "net0", for messages */
	char what[128];	 /* "tap tap0 (2 queues)", for --dry-run and messages */
	char ifname[16]; /* of the host's interface, as it was opened; "": there is none */
	struct net_port port[NET_MAX_QUEUES];
};

struct net_config {
	const char *option; /* "--net", for messages */
	const char *name;   /* "net0", for reports */
	/* Exactly one of the five. */
	/* the interface's name; "": the kernel chooses; "vmtap%d": the first free number */
	const char *tap;
	/* "7" or "7:8", one for each queue; net_open takes them over, also if it fails */
	const char *fds;
	bool fds_dup; /* take copies of fds over instead: for an owner that needs them again */
	const char *stream;   /* a path or "fd:N" */
	const char *daemon;   /* vhost-user: the path of the socket */
	bool daemon_connects; /* to us, who listen there; else we connect */
	bool user;
	/* user: guest memory is shared, so that another process can serve the queues */
	bool memory_shared;
	const char *hostfwd; /* user: "tcp:[ADDR]:PORT-PORT,…" or NULL */
	bool tell_answers;   /* user: log when the guest first answers on a forwarded TCP port */
	bool host_loopback; /* user: the guest reaches the host's loopback and link-local addresses */
	unsigned queues;    /* tap and daemon: how many */
	unsigned mtu;	    /* 0: the back end's own */
	const char *ip, *mask;	 /* tap, if open creates it; NULL: none */
	const uint8_t *host_mac; /* the same: the interface's own address */
	/* only look: check what can be checked; what, mtu, nqueues and close are valid */
	bool dry_run;
	struct loop *loop;
	/*
	 * A tap's queues, and the host's ports that a user network has got, outlive the back end in
	 * keep, under the device's id; NULL: they do not.
	 */
	struct keep *keep;
	const char *id;
	/* user: called during net_open for each forward: "tcp", "127.0.0.1:40022", ":22". Or NULL */
	void (*forwarded)(void *opaque, const char *proto, const char *host, const char *guest);
	void *opaque;
};

/* Opens the back end that cfg names. Builder's thread. Returns 0 or -errno; err says what to do. */
int net_open(const struct net_config *cfg, struct net **out, struct err *err);
/* Starts the client's callbacks (but see net_want). */
void net_attach(struct net *net, const struct net_client *client);

/* Sets whether client.readable and writable are called for this queue. Both are off at first. */
void net_want(struct net *net, unsigned queue, bool read, bool write);

static inline void net_close(struct net *net)
{
	if (net)
		net->ops->close(net);
}

#endif
