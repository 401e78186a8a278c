/*
 * net: what virtio-net asks of the other end of its cable, whatever that is. For devices/virtio/net;
 * back ends include net_impl.h.
 *
 * Frames go in batches, straight from and into the iovecs given (guest memory). A
 * backend with vnet_hdr_bytes wants struct virtio_net_hdr_v1 (virtio 1.2, section
 * 5.1.6) in front of each Ethernet header; any other gets and gives the bare frame.
 * Nothing blocks: what cannot go now is told by a short count, and the client is
 * called when it is worth another try. Thread: the loop's, but for the functions
 * that say otherwise; the client's callbacks come from the loop's thread with no lock
 * held, never from inside a call.
 */
#ifndef BANTAM_NET_H
#define BANTAM_NET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/backend/vhost/user.h"
#include "vmm/core/err.h"
#include "vmm/core/loop.h"

#define NET_MAX_QUEUES 16u
#define NET_IOV_MAX 1023u /* a stream's frame has one more */
#define NET_HDR_BYTES 12u /* struct virtio_net_hdr_v1 */
#define NET_MAC_BYTES 6u
/* The longest frame there is: 64 KiB of IP, Ethernet header, two VLAN tags. */
#define NET_FRAME_MAX 65557u
#define NET_MTU_MIN 68u
#define NET_MTU_MAX 65535u

/* What the guest's driver can take from us, or we from it. */
#define NET_CSUM 1u /* partial checksums */
#define NET_TSO4 2u
#define NET_TSO6 4u
#define NET_ECN 8u /* TSO of segments with ECN */
#define NET_UFO 16u
#define NET_OFFLOADS 31u

struct net_frame {
	struct iovec *iov;
	unsigned niov;	    /* at most NET_IOV_MAX */
	uint32_t len_bytes; /* send: its length; recv: room, then what came. More than the
				 * room: it was cut, and what there is of it is worthless */
};

struct net;

/* Where the client's queues are served by net.vhost, send and recv are not called: NULL. */
struct net_ops {
	/* Returns how many were taken (sent, or dropped for good). Fewer than n: full; the
	 * client's writable is called when want says so. */
	unsigned (*send)(struct net *net, unsigned queue, struct net_frame *frame, unsigned n);
	/* Returns how many were filled. Fewer than n: no more now. Else there may be more, and
	 * readable need not say so: ask again. A tap cuts silently. */
	unsigned (*recv)(struct net *net, unsigned queue, struct net_frame *frame, unsigned n);
	/* The queue's watch spoke. */
	void (*event)(struct net *net, unsigned queue, uint32_t events);
	/* Cheap: are there frames? Asked over and over while net->polled. NULL: its watch tells. */
	bool (*ready)(struct net *net, unsigned queue);
	/* What the client wants changed; the watch then tells of the peer's end only, and the
	 * backend itself calls readable and writable. NULL: the watch tells. */
	void (*want)(struct net *net, unsigned queue);
	/* Offloads that recv may use from now on; NULL: all, or none are offered. Any thread. */
	void (*set_offloads)(struct net *net, unsigned offloads);
	/* How many queues are served, from 1. NULL: there is only one. Any thread. */
	void (*set_queues)(struct net *net, unsigned queues);
	/* The guest's cable was pulled or plugged in; NULL: nobody to tell. Any thread. */
	void (*set_link)(struct net *net, bool up);
	/* Stops helpers, removes what open created, closes, frees. */
	void (*close)(struct net *net);
};

struct net_client {
	void (*readable)(void *opaque, unsigned queue);
	void (*writable)(void *opaque, unsigned queue);
	/* The peer went away or came back. */
	void (*link)(void *opaque, bool up);
	void *opaque;
};

struct net_port {
	struct net *net;
	unsigned queue;
	int fd; /* -1: none now */
	struct loop_watch *watch;
	bool want_read, want_write; /* what the client asked for */
};

/* A backend embeds it first. */
struct net {
	const struct net_ops *ops;
	struct loop *loop;
	struct net_client client;
	unsigned nqueues;
	unsigned offloads_in;	 /* that it can give to a driver which accepts them */
	unsigned offloads_out;	 /* that it can take */
	unsigned vnet_hdr_bytes; /* 0 or NET_HDR_BYTES */
	bool has_peer;		 /* a socket: event sees to EPOLLRDHUP and EPOLLHUP */
	bool csum_good;		 /* what it gives comes from this host: checksums are right */
	uint16_t mtu;		 /* the link's own, 0: unknown */
	bool up;		 /* the peer is there */
	bool polled;		 /* the client asks ready(): nobody need call it */
	struct vhost_user vhost; /* a daemon that can serve the client's queues in place of send
				 * and recv; who lets it takes this, and sets fd to -1. fd -1: none */
	char *daemon;		 /* where it listens; NULL: the backend's own process, whose end the
				 * backend tells */
	char name[16];		 /* "net0", for messages */
	char what[128];		 /* "tap tap0 (2 queues)", for --dry-run and messages */
	struct net_port port[NET_MAX_QUEUES];
};

struct net_config {
	const char *option; /* "--net", for messages */
	const char *name;   /* "net0", for reports */
	/* Exactly one of the five. */
	const char *tap;    /* its name; "" lets the kernel choose */
	const char *fds;    /* "7" or "7:8", one for each queue; taken over in any case */
	const char *stream; /* a path or "fd:N" */
	const char *daemon; /* vhost-user: the path of its socket */
	bool user;
	bool memory_shared;    /* user: the client's queues can be served by another process */
	const char *hostfwd;   /* user: "tcp:[ADDR]:PORT-PORT,…" or NULL */
	unsigned queues;       /* tap and daemon: how many */
	unsigned mtu;	       /* 0: the backend's own */
	const char *ip, *mask; /* tap, if open creates it; NULL: none */
	bool dry_run;	       /* check what can be checked by looking; what, mtu, nqueues, close */
	struct loop *loop;
};

/* Opens what cfg names. Builder's thread. -errno and one line that says what to do. */
int net_open(const struct net_config *cfg, struct net **out, struct err *err);
/* Callbacks begin (but see net_want). */
void net_attach(struct net *net, const struct net_client *client);

/* Call client.readable and writable of this queue? Both are off at first. */
void net_want(struct net *net, unsigned queue, bool read, bool write);

static inline void net_close(struct net *net)
{
	if (net)
		net->ops->close(net);
}

#endif
