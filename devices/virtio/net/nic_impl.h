/*
 * net/nic_impl: what the parts of virtio-net share, from the top down: device.c (keys, life,
 * class), options.c, vhost_kernel.c, vhost_user.c, link.c, poll.c, rx.c and tx.c, ctrl.c, stash.c,
 * nic.c. Each file calls only those after it. The caller holds the device's lock. Exceptions:
 * functions named on_…, and the callbacks that the loop calls.
 */
#ifndef BANTAM_NET_NIC_IMPL_H
#define BANTAM_NET_NIC_IMPL_H

#include "devices/backend/net/net.h"
#include "devices/virtio/core/virtio.h"
#include "vmm/core/counter.h"
#include "vmm/core/ratelimit.h"
#include "vmm/core/turn.h"

/* Section 5.1.3. */
enum {
	NET_F_CSUM = 0,
	NET_F_GUEST_CSUM = 1,
	NET_F_CTRL_GUEST_OFFLOADS = 2,
	NET_F_MTU = 3,
	NET_F_MAC = 5,
	NET_F_GUEST_TSO4 = 7,
	NET_F_GUEST_TSO6 = 8,
	NET_F_GUEST_ECN = 9,
	NET_F_GUEST_UFO = 10,
	NET_F_HOST_TSO4 = 11,
	NET_F_HOST_TSO6 = 12,
	NET_F_HOST_ECN = 13,
	NET_F_HOST_UFO = 14,
	NET_F_MRG_RXBUF = 15,
	NET_F_STATUS = 16,
	NET_F_CTRL_VQ = 17,
	NET_F_CTRL_RX = 18,
	NET_F_CTRL_RX_EXTRA = 20,
	NET_F_GUEST_ANNOUNCE = 21,
	NET_F_MQ = 22,
	NET_F_CTRL_MAC_ADDR = 23,
};

/* Section 5.1.4, little-endian. */
enum {
	NET_CONFIG_MAC = 0,
	NET_CONFIG_STATUS = 6,
	NET_CONFIG_MAX_PAIRS = 8,
	NET_CONFIG_MTU = 10,
	NET_CONFIG_BYTES = 12, /* no speed and duplex (SPEED_DUPLEX): no backend has them */
};
#define NET_S_LINK_UP 1u
#define NET_S_ANNOUNCE 2u

/* Indices into the table of --net's keys. */
enum {
	KEY_TAP,
	KEY_FD,
	KEY_USER,
	KEY_STREAM,
	KEY_VHOST_USER,
	KEY_HOSTFWD,
	KEY_HOST_LOOPBACK,
	KEY_MAC,
	KEY_MTU,
	KEY_QUEUES,
	KEY_QUEUE_SIZE,
	KEY_IP,
	KEY_MASK,
	KEY_OFFLOAD,
	KEY_VHOST,
	KEY_IOTHREAD,
	KEY_RX_RATE,
	KEY_RX_BURST,
	KEY_RX_OPS,
	KEY_RX_OPS_BURST,
	KEY_TX_RATE,
	KEY_TX_BURST,
	KEY_TX_OPS,
	KEY_TX_OPS_BURST,
	/* hidden: for a VmConfig */
	KEY_VHOST_MODE,
	KEY_HOST_MAC,
	KEY_OFFLOAD_TSO,
	KEY_OFFLOAD_UFO,
	KEY_OFFLOAD_CSUM,
	KEY_FD_DUP,
	KEY_RATE_BUCKET,
	KEY_OPS_BUCKET,
};

/*
 * Offset of num_buffers in the header; the flag (DATA_VALID) that says that the checksum is right.
 */
#define NET_HDR_NUM_BUFFERS 10u
#define NET_HDR_DATA_VALID 2u
#define NET_ETH_BYTES 14u

#define NIC_BATCH 64u
/* Most chains that a stash holds, and most iovecs: twice the longest chain. */
#define NIC_STASH_CHAINS 256u
#define NIC_STASH_IOVS (2u * VIRTQ_MAX_SIZE)

#define NIC_MACS_MAX 64u

struct nic_chain {
	uint16_t head;
	uint16_t first, niov; /* in the stash's iov */
	uint32_t bytes;	      /* sum of its iovecs */
};

/*
 * Chains that are popped and not yet returned. rx: buffers for the next frames; tx: frames that the
 * backend could not take yet.
 */
struct nic_stash {
	unsigned nchains, niov;
	struct nic_chain chain[NIC_STASH_CHAINS];
	struct iovec iov[NIC_STASH_IOVS];
};

struct nic_queue {
	struct nic_stash stash;
	bool more;    /* the turn was over before the queue was done */
	bool blocked; /* tx: the backend is full; rx: the guest has no buffers */
	bool limited; /* waits for the rate limit's timer */
	bool any;     /* rx: a frame came in this turn */
};

/* A frame that was longer than the buffers that the guest had made available. */
struct nic_spill {
	uint32_t frame_bytes; /* of the whole frame with header; 0: no frame waits */
	uint32_t room;	      /* how many of its first bytes are in the stash's buffers */
	uint8_t buf[NET_FRAME_MAX + NET_HDR_BYTES];
};

/* Section 5.1.6.5.1. There is room for as many addresses as Linux sends in practice. */
struct nic_filter {
	bool on; /* the driver has set a filter */
	bool promisc, allmulti, alluni, nomulti, nouni, nobcast;
	bool uni_overflow, multi_overflow; /* more addresses than fit: take all */
	unsigned nuni, nmulti;		   /* addresses in uni and multi */
	uint8_t uni[NIC_MACS_MAX][NET_MAC_BYTES], multi[NIC_MACS_MAX][NET_MAC_BYTES];
};

/*
 * What the driver set by commands (5.1.6.5), and the link as the host sets it. A snapshot will save
 * exactly this beside virtio_state, whose config has the address and the link's status (5.1.4).
 * Frames under way are not part of it: chains in a stash go back to their ring, and a network may
 * lose a frame.
 */
struct nic_state {
	unsigned pairs;		  /* in use, at least 1 (VQ_PAIRS_SET) */
	uint64_t offloads;	  /* NET_F_GUEST_… that are on, bit n = feature n */
	bool link;		  /* the host has switched the link on */
	struct nic_filter filter; /* of received frames */
};

struct nic_pair {
	struct nic_queue rx, tx;
	struct nic_spill spill;
};

struct virtio_net;

/*
 * A server of the data queues outside this process: the kernel (net/vhost_kernel.c) or a vhost-user
 * daemon (net/vhost_user.c). The control queue, the link and the configuration stay in this
 * process; the card then applies no receive filter and cannot limit rates. See struct
 * virtio_device.elsewhere for kicks and interrupts.
 */
struct nic_server {
	const char *what;			/* for describe */
	uint64_t features;			/* features of rings and headers that it supports */
	int (*start)(struct virtio_net *nic);	/* in activate, after offloads and pairs */
	void (*stop)(struct virtio_net *nic);	/* on return, guest memory is no longer touched */
	void (*update)(struct virtio_net *nic); /* pairs or link changed */
	void (*call_changed)(struct virtio_net *nic, unsigned queue);
	void (*kick)(struct virtio_net *nic,
		     unsigned queue); /* kick of a queue that was taken back; may be NULL */
	void (*close)(struct virtio_net *nic);
	bool counted_below; /* the back end's counters (net_ops) have the guest's frames */
};

/* Frames that the guest has received, or sent. Bytes without the virtio header. */
struct nic_count {
	struct counter bytes, frames;
};

struct virtio_net {
	struct virtio_device vdev; /* first */
	struct nic_state s;
	struct net *net;
	struct nic_server *server; /* serves the data queues; NULL: the loop does */
	struct nic_pair *pair;	   /* max_pairs of them */
	unsigned max_pairs;
	unsigned ctrl;		    /* index of the control queue, as negotiated */
	uint32_t frame_max;	    /* most bytes of a received frame, with header */
	uint8_t mac[NET_MAC_BYTES]; /* as created; a reset restores it */
	struct ratelimit rx_limit, tx_limit;
	struct nic_count received, sent; /* without a server */
	uint32_t polled; /* pairs whose transmit queue is polled, kicks off: net/poll.c */
	struct loop_poller poller;
	struct turn rx_turn, tx_turn,
		ctrl_turn; /* of all pairs; one is no hindrance to the other */
	unsigned first;	   /* the pair that the next turn, or a timer, serves first */
	struct loop_watch *again, *rx_timer, *tx_timer;
	struct iovec iov[NIC_STASH_IOVS +
			 NIC_BATCH]; /* of the frames being received, or of the command */
	char name[DEVICE_ID_BYTES];  /* "net0" */
};

static inline struct virtio_net *virtio_net_of(struct virtio_device *vdev)
{
	return (struct virtio_net *)vdev;
}

static inline bool nic_link_up(const struct virtio_net *nic)
{
	return nic->s.link && nic->net->up;
}

/* net/options.c */
/* Check cfg as far as that is possible without opening anything. */
int nic_check_options(const struct keyvals *cfg, struct err *err);
/* Refuse keys that cannot be combined with vhost-user=. */
int nic_check_daemon(const struct keyvals *cfg, struct err *err);
enum device_memory nic_memory(const struct keyvals *cfg);
/* Writes the address of mac=, or a random one. */
int nic_parse_mac(const struct keyvals *cfg, uint8_t mac[NET_MAC_BYTES], struct err *err);
/* Returns which NET_ offloads the guest may be offered. */
unsigned nic_offloads(const struct keyvals *cfg);
void nic_init_limits(struct virtio_net *nic, const struct keyvals *cfg);
/* Opens the backend; sets nic->net and nic->name. */
int nic_open_backend(struct virtio_net *nic, const struct device_env *env,
		     const struct keyvals *cfg, struct err *err);

/* net/device.c */
/*
 * Create a card on net. The card owns net, also if this fails. net NULL: opens the backend that cfg
 * names; only tests pass another.
 */
int nic_create_on(struct net *net, const struct device_env *env, const struct keyvals *cfg,
		  struct device **out, struct err *err);

/* net/link.c */
/*
 * Update the link's status that the guest sees after a change. When the link comes back, the driver
 * is also asked to announce itself.
 */
void nic_update_link(struct virtio_net *nic);
/* net_client.link: the backend's end went up or down. Thread: the loop's; takes the lock. */
void nic_on_link(void *opaque, bool up);
/* device_ops.set_link. */
void nic_set_link(struct device *dev, bool up);

/* net/nic.c */
void nic_again(struct virtio_net *nic, struct turn *turn); /* ask for another turn of the loop */
void nic_watch(struct virtio_net *nic, unsigned pair); /* tell the backend what pair waits for */
void nic_set_offloads(struct virtio_net *nic, uint64_t features); /* NET_F_GUEST_… bits */
void nic_set_pairs(struct virtio_net *nic, unsigned pairs);
uint16_t nic_status(const struct virtio_net *nic);
void nic_set_status(struct virtio_net *nic, uint16_t status);
/*
 * A transmit queue is empty: poll it for a while if that pays, else enable the driver's kicks.
 * Returns true if there are more chains already.
 */
bool nic_rest(struct virtio_net *nic, unsigned pair);
/* The guest received frames and may answer: poll its transmit queue, if it is not being served. */
void nic_expect(struct virtio_net *nic, unsigned pair);

/*
 * net/stash.c. Pop one chain into the stash: its readable or its writable part. Returns 1 if a
 * chain was popped; 0 if there is none, or no room; -EPROTO if the device is broken now.
 */
int nic_stash_pop(struct virtio_net *nic, unsigned queue, struct nic_stash *s, bool writable);
/* Remove the chains whose niov is 0, and close the gaps. */
void nic_stash_compact(struct nic_stash *s);

/* net/rx.c, net/tx.c: move the frames that can be moved now. */
void nic_run_rx(struct virtio_net *nic, unsigned pair);
void nic_run_tx(struct virtio_net *nic, unsigned pair);

/* net/poll.c */
void nic_poll_init(struct virtio_net *nic);
void nic_poll_close(struct virtio_net *nic); /* also for a half-made card */

/*
 * net/vhost_kernel.c: opens vhost-net if how asks for it and the backend allows it. Call it after
 * nic_init_limits.
 */
/* The key vhost=: whether the kernel or the helper serves the data queues. */
enum nic_served_how { NIC_SERVED_AUTO, NIC_SERVED_ON, NIC_SERVED_OFF };
int nic_vhost_kernel_choose(struct virtio_net *nic, const struct device_env *env,
			    enum nic_served_how how, const char *option, struct err *err);
/* net/vhost_user.c: serve the queues by the daemon of net->vhost_user. 0 or -errno. */
int nic_vhost_user_open(struct virtio_net *nic, const struct device_env *env);

/* net/ctrl.c */
void nic_run_ctrl(struct virtio_net *nic);
void nic_filter_reset(struct nic_filter *f);
/* Returns true if the guest wants a frame with this destination. */
bool nic_filter_wants(const struct virtio_net *nic, const uint8_t dst[NET_MAC_BYTES]);

#endif
