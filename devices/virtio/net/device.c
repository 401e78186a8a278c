/*
 * net/device: virtio-net (virtio 1.2, section 5.1): keys, life and class. No other file in this
 * folder calls this one.
 *
 * Queues 2n and 2n+1 receive and transmit for pair n; the control queue comes after the last pair,
 * or after the first one if the driver does not use MQ. net/rx.c and net/tx.c move frames,
 * net/poll.c polls the rings, net/ctrl.c runs commands, and struct net is the backend
 * (devices/backend/net). Threads: the loop's thread moves everything; with iothread=on the card has
 * its own thread, and env->loop is the loop of that thread. A vCPU's thread runs activate and
 * reset, which call the backend only by functions that any thread may call. With vhost-net a kernel
 * thread moves the data, and the loop serves only the control queue and the link.
 */
#include "devices/virtio/net/nic.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/net/nic_impl.h"
#include "vmm/core/bytes.h"

#define BIT(n) (1ull << (n))
#define GUEST_OFFLOADS                                                                             \
	(BIT(NET_F_GUEST_CSUM) | BIT(NET_F_GUEST_TSO4) | BIT(NET_F_GUEST_TSO6) |                   \
	 BIT(NET_F_GUEST_ECN) | BIT(NET_F_GUEST_UFO))
/* Features that depend on the nic_server; the others are between driver, card and backend. */
#define SERVER_FEATURES                                                                            \
	(BIT(NET_F_MRG_RXBUF) | BIT(VIRTIO_F_INDIRECT_DESC) | BIT(VIRTIO_F_EVENT_IDX))
/* Two VLAN tags on top of Ethernet. */
#define FRAME_EXTRA (NET_HDR_BYTES + NET_ETH_BYTES + 8u)

#define RATE_MAX (1ull << 40)

static const struct key keys[] = {
	[KEY_TAP] = { "tap", KEY_TEXT, KEY_NETWORK | KEY_INTERFACE, .meta = "NAME",
		      .help = "a tap of the host; created if there is none" },
	[KEY_FD] = { "fd", KEY_TEXT, KEY_FDS | KEY_NETWORK | KEY_INTERFACE, .meta = "N[:N…]",
		     .help = "an open tap (one descriptor for each queue) or socket" },
	[KEY_USER] = { "user", KEY_BOOL, KEY_NETWORK, .def = "off",
		       .help = "a network without privileges: DHCP, DNS, connections to outside" },
	[KEY_STREAM] = { "stream", KEY_TEXT, KEY_FDS | KEY_NAME, .meta = "PATH|fd:N",
			 .help = "frames on a stream socket, in QEMU's and passt's format" },
	[KEY_VHOST_USER] = { "vhost-user", KEY_PATH, .meta = "SOCKET",
			     .help = "the vhost-user daemon at SOCKET moves the frames (passt, OVS, DPDK)" },
	[KEY_HOSTFWD] = { "hostfwd", KEY_TEXT, KEY_LIST, .meta = "tcp|udp:[ADDR]:PORT-PORT",
			  .help = "with user: forward a port of the host to the guest; may be repeated; port 0: any free one, reported" },
	[KEY_HOST_LOOPBACK] = { "host-loopback", KEY_BOOL, .def = "off",
				.help = "with user: the guest reaches the host's loopback (at 10.0.2.2) and link-local addresses" },
	[KEY_MAC] = { "mac", KEY_TEXT, .meta = "MAC", .help = "address; without it, a random one" },
	[KEY_MTU] = { "mtu", KEY_NUM, .min = NET_MTU_MIN, .max = NET_MTU_MAX, .meta = "N",
		      .help = "longest IP packet, which the guest learns; default: the other end's" },
	[KEY_QUEUES] = { "queues", KEY_NUM, .min = 1, .max = NET_MAX_QUEUES, .meta = "N",
			 .help = "with tap, vhost-user: pairs of queues [1]" },
	[KEY_QUEUE_SIZE] = { "queue-size", KEY_NUM, KEY_POWER2, .def = "256", .min = 64,
			     .max = VIRTQ_MAX_SIZE, .meta = "N",
			     .help = "entries of each queue, a power of two" },
	[KEY_IP] = { "ip", KEY_TEXT, .meta = "ADDR[/BITS]",
		     .help = "the host's address on a tap that is created" },
	[KEY_MASK] = { "mask", KEY_TEXT, .meta = "MASK",
		       .help = "the address's mask; without it, /24, of IPv6 /64" },
	[KEY_OFFLOAD] = { "offload", KEY_BOOL, .def = "on",
			  .help = "leave checksums and segmentation to the other side" },
	/* With tap= the server is the kernel (vhost-net), with user= the helper (vhost-user). */
	[KEY_VHOST] = { "vhost", KEY_CHOICE, .choices = "auto|on|off", .def = "auto",
			.help = "let the kernel (tap: vhost-net) or the helper (user) move the frames; auto: if possible" },
	[KEY_IOTHREAD] = { "iothread", KEY_BOOL, .def = "off",
			   .help = "serve the card in a thread of its own" },
	[KEY_RX_RATE] = { "rx-rate", KEY_SIZE, .min = 1, .max = RATE_MAX, .meta = "SIZE",
			  .help = "limit of bytes per second that the guest receives" },
	[KEY_RX_BURST] = { "rx-burst", KEY_SIZE, .min = 1, .max = RATE_MAX, .meta = "SIZE",
			   .help = "bytes that may pass at once after a pause" },
	[KEY_RX_OPS] = { "rx-ops", KEY_NUM, .min = 1, .max = RATE_MAX, .meta = "N",
			 .help = "limit of frames per second" },
	[KEY_RX_OPS_BURST] = { "rx-ops-burst", KEY_NUM, .min = 1, .max = RATE_MAX, .meta = "N",
			       .help = "frames that may pass at once after a pause" },
	[KEY_TX_RATE] = { "tx-rate", KEY_SIZE, .min = 1, .max = RATE_MAX, .meta = "SIZE",
			  .help = "limit of bytes per second that the guest sends" },
	[KEY_TX_BURST] = { "tx-burst", KEY_SIZE, .min = 1, .max = RATE_MAX, .meta = "SIZE",
			   .help = "bytes that may pass at once after a pause" },
	[KEY_TX_OPS] = { "tx-ops", KEY_NUM, .min = 1, .max = RATE_MAX, .meta = "N",
			 .help = "limit of frames per second" },
	[KEY_TX_OPS_BURST] = { "tx-ops-burst", KEY_NUM, .min = 1, .max = RATE_MAX, .meta = "N",
			       .help = "frames that may pass at once after a pause" },
	[KEY_VHOST_MODE] = { "vhost-mode", KEY_CHOICE, KEY_HIDDEN, .choices = "client|server",
			     .def = "client", .help = "server: the daemon connects to us" },
	[KEY_HOST_MAC] = { "host-mac", KEY_TEXT, KEY_HIDDEN, .meta = "MAC",
			   .help = "the address of a tap that is created" },
	[KEY_OFFLOAD_TSO] = { "offload-tso", KEY_BOOL, KEY_HIDDEN, .def = "on",
			      .help = "TCP segmentation" },
	[KEY_OFFLOAD_UFO] = { "offload-ufo", KEY_BOOL, KEY_HIDDEN, .def = "on",
			      .help = "UDP fragmentation" },
	[KEY_OFFLOAD_CSUM] = { "offload-csum", KEY_BOOL, KEY_HIDDEN, .def = "on",
			       .help = "checksums; the other two need them" },
	[KEY_FD_DUP] = { "fd-dup", KEY_BOOL, KEY_HIDDEN, .def = "off",
			 .help = "use copies of fd=, which stay the owner's" },
	[KEY_RATE_BUCKET] = { "rate-bucket", KEY_TEXT, KEY_HIDDEN, .meta = "SIZE:MS[:ONCE]",
			      .help = "instead of rx-rate, rx-burst, tx-rate, tx-burst (ratelimit_parse)" },
	[KEY_OPS_BUCKET] = { "ops-bucket", KEY_TEXT, KEY_HIDDEN, .meta = "SIZE:MS[:ONCE]",
			     .help = "instead of rx-ops and so on: frames" },
	{ 0 },
};

/* --- events, in the loop's thread -------------------------------------------------------- */

static void begin_turns(struct virtio_net *nic)
{
	turn_begin(&nic->rx_turn);
	turn_begin(&nic->tx_turn);
	turn_begin(&nic->ctrl_turn);
}

static void on_readable(void *opaque, unsigned pair)
{
	struct virtio_net *nic = opaque;

	virtio_lock(&nic->vdev);
	begin_turns(nic);
	if (nic->vdev.active && pair < nic->s.pairs)
		nic_run_rx(nic, pair);
	else
		nic_watch(nic, pair);
	virtio_unlock(&nic->vdev);
}

static void on_writable(void *opaque, unsigned pair)
{
	struct virtio_net *nic = opaque;

	virtio_lock(&nic->vdev);
	begin_turns(nic);
	nic->pair[pair].tx.blocked = false;
	if (nic->vdev.active && pair < nic->s.pairs)
		nic_run_tx(nic, pair);
	else
		nic_watch(nic, pair);
	virtio_unlock(&nic->vdev);
}

/*
 * The pairs take turns at being first; otherwise the later ones would never get a token of a rate
 * limit, or their part of a turn.
 */
static unsigned nth(const struct virtio_net *nic, unsigned n)
{
	return nic->s.pairs ? (nic->first + n) % nic->s.pairs : 0;
}

static void on_again(void *opaque)
{
	struct virtio_net *nic = opaque;

	if (!virtio_lock_now(&nic->vdev)) {
		nic->vdev.late = nic->again;
		return;
	}
	turn_resume(&nic->rx_turn);
	turn_resume(&nic->tx_turn);
	turn_resume(&nic->ctrl_turn);
	nic->first = nth(nic, 1);
	for (unsigned i = 0; nic->vdev.active && i < nic->s.pairs; i++) {
		unsigned pair = nth(nic, i);

		if (nic->pair[pair].tx.more)
			nic_run_tx(nic, pair);
		if (nic->vdev.active && nic->pair[pair].rx.more)
			nic_run_rx(nic, pair);
	}
	if (nic->vdev.active && virtio_has(&nic->vdev, NET_F_CTRL_VQ))
		nic_run_ctrl(nic);
	virtio_unlock(&nic->vdev);
}

static void on_rx_timer(void *opaque)
{
	struct virtio_net *nic = opaque;

	virtio_lock(&nic->vdev);
	begin_turns(nic);
	for (unsigned i = 0; i < nic->max_pairs; i++)
		nic->pair[i].rx.limited = false;
	nic->first = nth(nic, 1);
	for (unsigned i = 0; nic->vdev.active && i < nic->s.pairs; i++)
		nic_run_rx(nic, nth(nic, i));
	virtio_unlock(&nic->vdev);
}

static void on_tx_timer(void *opaque)
{
	struct virtio_net *nic = opaque;

	virtio_lock(&nic->vdev);
	begin_turns(nic);
	for (unsigned i = 0; i < nic->max_pairs; i++)
		nic->pair[i].tx.limited = false;
	nic->first = nth(nic, 1);
	for (unsigned i = 0; nic->vdev.active && i < nic->s.pairs; i++) {
		unsigned pair = nth(nic, i);

		if (!nic->pair[pair].tx.blocked)
			nic_run_tx(nic, pair);
	}
	virtio_unlock(&nic->vdev);
}

/* --- class ----------------------------------------------------------------------------------- */

/* Returns how long a received frame may be, in bytes with the header. */
static uint32_t frame_max(const struct virtio_net *nic)
{
	unsigned mtu = nic->net->mtu > 1500 ? nic->net->mtu : 1500;
	uint64_t big = BIT(NET_F_GUEST_TSO4) | BIT(NET_F_GUEST_TSO6) | BIT(NET_F_GUEST_UFO);

	/* Without MRG_RXBUF each frame has one buffer, large enough for the longest frame. */
	if (nic->vdev.s.acked & big || !virtio_has(&nic->vdev, NET_F_MRG_RXBUF) ||
	    mtu + FRAME_EXTRA > NET_FRAME_MAX + NET_HDR_BYTES)
		return NET_FRAME_MAX + NET_HDR_BYTES;
	return mtu + FRAME_EXTRA;
}

static int nic_activate(struct virtio_device *vdev)
{
	struct virtio_net *nic = virtio_net_of(vdev);

	nic->ctrl = virtio_has(vdev, NET_F_MQ) ? 2 * nic->max_pairs : 2;
	nic->frame_max = frame_max(nic);
	nic_set_pairs(nic, 1);
	nic_set_offloads(nic, vdev->s.acked & GUEST_OFFLOADS);
	return nic->server ? nic->server->start(nic) : 0;
}

static void nic_kick(struct virtio_device *vdev, unsigned queue)
{
	struct virtio_net *nic = virtio_net_of(vdev);

	begin_turns(nic);
	if (queue == nic->ctrl) {
		if (virtio_has(vdev, NET_F_CTRL_VQ))
			nic_run_ctrl(nic);
	} else if (nic->server) {
		if (nic->server->kick && queue < nic->ctrl)
			nic->server->kick(nic, queue);
	} else if (queue / 2 >= nic->s.pairs) {
		return;
	} else if (queue % 2) {
		if (!nic->pair[queue / 2].tx.blocked)
			nic_run_tx(nic, queue / 2);
	} else {
		nic_run_rx(nic, queue / 2);
	}
}

static void queue_reset(struct nic_queue *q)
{
	q->stash.nchains = q->stash.niov = 0;
	q->more = q->blocked = q->limited = false;
}

static bool nic_reset(struct virtio_device *vdev)
{
	struct virtio_net *nic = virtio_net_of(vdev);

	if (nic->server)
		nic->server->stop(nic);
	nic->polled = 0;
	for (unsigned i = 0; i < nic->max_pairs; i++) {
		queue_reset(&nic->pair[i].rx);
		queue_reset(&nic->pair[i].tx);
		nic->pair[i].spill.frame_bytes = 0;
	}
	nic_filter_reset(&nic->s.filter);
	memcpy(vdev->s.config + NET_CONFIG_MAC, nic->mac, NET_MAC_BYTES);
	nic_set_status(nic, nic_status(nic) & NET_S_LINK_UP);
	return true;
}

static void nic_call_changed(struct virtio_device *vdev, unsigned queue)
{
	struct virtio_net *nic = virtio_net_of(vdev);

	if (nic->server)
		nic->server->call_changed(nic, queue);
}

static const struct virtio_class nic_class = {
	.name = "virtio-net",
	.device_id = 1,
	.pci_class = 0x020000,
	.activate = nic_activate,
	.kick = nic_kick,
	.reset = nic_reset,
	.call_changed = nic_call_changed,
};

/* --- life --------------------------------------------------------------------------------------- */

static void nic_destroy(struct device *dev)
{
	struct virtio_net *nic = (struct virtio_net *)dev;

	virtio_detach(&nic->vdev);
	nic_poll_close(nic);
	if (nic->server)
		nic->server->close(nic);
	net_close(nic->net);
	loop_unwatch(nic->again);
	loop_unwatch(nic->rx_timer);
	loop_unwatch(nic->tx_timer);
	free(nic->pair);
	free(nic);
}

static void nic_describe(struct device *dev, char *buf, size_t len)
{
	struct virtio_net *nic = (struct virtio_net *)dev;
	const uint8_t *m = nic->mac;
	char at[128];

	virtio_describe(&nic->vdev, at, sizeof(at));
	snprintf(buf, len, "%s%s%02x:%02x:%02x:%02x:%02x:%02x, %s%s%s", at, *at ? ": " : "", m[0],
		 m[1], m[2], m[3], m[4], m[5], nic->net->what, nic->server ? ", " : "",
		 nic->server ? nic->server->what : "");
}

/* A vhost-user daemon does not tell what it moved: zeroes. */
static void nic_counters(struct device *dev, device_counter_fn fn, void *opaque)
{
	const struct virtio_net *nic = (const struct virtio_net *)dev;
	struct net_counters n = { .rx_bytes = counter_read(&nic->received.bytes),
				  .rx_frames = counter_read(&nic->received.frames),
				  .tx_bytes = counter_read(&nic->sent.bytes),
				  .tx_frames = counter_read(&nic->sent.frames) };

	if (nic->server && nic->server->counted_below && nic->net->ops->counters)
		nic->net->ops->counters(nic->net, &n);
	fn(opaque, "rx_bytes", n.rx_bytes);
	fn(opaque, "rx_frames", n.rx_frames);
	fn(opaque, "tx_bytes", n.tx_bytes);
	fn(opaque, "tx_frames", n.tx_frames);
}

static const struct device_ops nic_ops = {
	.destroy = nic_destroy,
	.describe = nic_describe,
	.counters = nic_counters,
	.set_link = nic_set_link,
};

/* offloads: the NET_ offloads that the configuration allows. */
static uint64_t offered(const struct virtio_net *nic, unsigned offloads)
{
	const struct net *net = nic->net;
	unsigned in = net->offloads_in & offloads, out = net->offloads_out & offloads;
	uint64_t f = BIT(NET_F_MAC) | BIT(NET_F_MRG_RXBUF) | BIT(NET_F_STATUS) |
		     BIT(NET_F_CTRL_VQ) | BIT(NET_F_CTRL_RX) | BIT(NET_F_CTRL_RX_EXTRA) |
		     BIT(NET_F_CTRL_MAC_ADDR) | BIT(NET_F_GUEST_ANNOUNCE);

	f |= net->mtu ? BIT(NET_F_MTU) : 0;
	f |= nic->max_pairs > 1 ? BIT(NET_F_MQ) : 0;
	f |= in & NET_CSUM ? BIT(NET_F_GUEST_CSUM) : 0;
	f |= in & NET_CSUM && net->ops->set_offloads ? BIT(NET_F_CTRL_GUEST_OFFLOADS) : 0;
	f |= offloads & NET_CSUM && net->csum_good ? BIT(NET_F_GUEST_CSUM) : 0;
	f |= in & NET_TSO4 ? BIT(NET_F_GUEST_TSO4) : 0;
	f |= in & NET_TSO6 ? BIT(NET_F_GUEST_TSO6) : 0;
	f |= in & NET_ECN ? BIT(NET_F_GUEST_ECN) : 0;
	f |= in & NET_UFO ? BIT(NET_F_GUEST_UFO) : 0;
	f |= out & NET_CSUM ? BIT(NET_F_CSUM) : 0;
	f |= out & NET_TSO4 ? BIT(NET_F_HOST_TSO4) : 0;
	f |= out & NET_TSO6 ? BIT(NET_F_HOST_TSO6) : 0;
	f |= out & NET_ECN ? BIT(NET_F_HOST_ECN) : 0;
	f |= out & NET_UFO ? BIT(NET_F_HOST_UFO) : 0;
	return f;
}

static void fill_config(struct virtio_net *nic)
{
	uint8_t *c = nic->vdev.s.config;

	memcpy(c + NET_CONFIG_MAC, nic->mac, NET_MAC_BYTES);
	put_le16(c + NET_CONFIG_STATUS, nic_link_up(nic) ? NET_S_LINK_UP : 0);
	put_le16(c + NET_CONFIG_MAX_PAIRS, nic->max_pairs);
	put_le16(c + NET_CONFIG_MTU, nic->net->mtu);
}

static int watch(struct virtio_net *nic, const struct device_env *env)
{
	int rc = loop_watch_event(env->loop, on_again, nic, &nic->again, NULL);

	if (!rc)
		rc = loop_watch_timer(env->loop, on_rx_timer, nic, &nic->rx_timer);
	if (!rc)
		rc = loop_watch_timer(env->loop, on_tx_timer, nic, &nic->tx_timer);
	return rc;
}

static int choose_server(struct virtio_net *nic, const struct device_env *env,
			 const struct keyvals *cfg, struct err *err)
{
	enum nic_served_how how = (enum nic_served_how)keys_num(cfg, KEY_VHOST);
	int rc;

	if (env->dry_run)
		return 0;
	if (nic->net->vhost_user.fd >= 0) {
		rc = nic_vhost_user_open(nic, env);
		return rc ? err_sys(err, -rc, "%s", cfg->option) : 0;
	}
	if (how == NIC_SERVED_ON && nic_memory(cfg) == MEMORY_HUGE_SHARED)
		return err_set(
			err, ENOTSUP,
			"%s: vhost=on: this host allows no memory that has huge pages "
			"and can be shared with the helper (no user namespaces?); leave vhost=on out",
			cfg->option);
	return nic_vhost_kernel_choose(nic, env, how, cfg->option, err);
}

int nic_create_on(struct net *net, const struct device_env *env, const struct keyvals *cfg,
		  struct device **out, struct err *err)
{
	struct virtio_net *nic = calloc(1, sizeof(*nic));
	int rc;

	*out = NULL;
	if (!nic) {
		net_close(net);
		return err_sys(err, ENOMEM, "%s", cfg->option);
	}
	nic->net = net;
	nic->s.link = true;
	nic->vdev.dev.type = &virtio_net_type;
	nic->vdev.dev.ops = &nic_ops;
	rc = nic_check_options(cfg, err);
	if (!rc)
		rc = nic_parse_mac(cfg, nic->mac, err);
	if (!rc && !net)
		rc = nic_open_backend(nic, env, cfg, err);
	if (rc)
		goto fail;
	snprintf(nic->vdev.dev.id, sizeof(nic->vdev.dev.id), "%s", nic->name);
	nic->max_pairs = nic->net->nqueues;
	nic->s.pairs = 1;
	nic->pair = calloc(nic->max_pairs, sizeof(*nic->pair));
	rc = nic->pair ? watch(nic, env) : -ENOMEM;
	if (rc) {
		err_sys(err, -rc, "%s", cfg->option);
		goto fail;
	}
	nic_init_limits(nic, cfg);
	nic_poll_init(nic);
	rc = choose_server(nic, env, cfg, err);
	if (rc)
		goto fail;
	virtio_init(&nic->vdev, &nic_class, env, 2 * nic->max_pairs + 1,
		    (uint16_t)keys_num(cfg, KEY_QUEUE_SIZE), offered(nic, nic_offloads(cfg)),
		    NET_CONFIG_BYTES);
	fill_config(nic);
	if (nic->server) {
		nic->vdev.elsewhere = (1ull << (2 * nic->max_pairs)) - 1;
		/* The server decides which features of rings and headers the driver may use. */
		nic->vdev.offered &= nic->server->features | ~SERVER_FEATURES;
	}
	net_attach(nic->net, &(struct net_client){ on_readable, on_writable, nic_on_link, nic });
	rc = virtio_attach(&nic->vdev, err);
	if (rc)
		goto fail;
	*out = &nic->vdev.dev;
	return 0;
fail:
	nic_destroy(&nic->vdev.dev);
	return rc;
}

static int create(const struct device_env *env, const struct keyvals *cfg, struct device **out,
		  struct err *err)
{
	return nic_create_on(NULL, env, cfg, out, err);
}

const struct device_type virtio_net_type = {
	.name = "virtio-net",
	.option = "--net",
	.calls = CALLS_NET | CALLS_DAEMON,
	.repeat = true,
	.memory = nic_memory,
	.check = nic_check_daemon,
	.keys = keys,
	.help = "a network card",
	.create = create,
};
