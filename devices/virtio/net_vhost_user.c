/*
 * net_vhost_user: see net_vhost_user.h (virtio 1.2, section 5.1).
 *
 * The daemon moves the frames of one pair of queues and says what it can do with them. Address,
 * MTU and link are ours to tell. There is no control queue: daemons leave that to us, and but for
 * several pairs its commands would be for a filter that they do not have. When the daemon is gone
 * the link is down: the guest's frames are swallowed, and its receive buffers stay where they are.
 * Threads: see vhost_device.h; the link goes down in the loop's, with the lock held.
 */
#include "devices/virtio/net_vhost_user.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/net.h"
#include "devices/virtio/net_impl.h"
#include "devices/virtio/vhost_device.h"

#define BIT(n) (1ull << (n))
#define OFFLOADS                                                                             \
	(BIT(NET_F_CSUM) | BIT(NET_F_GUEST_CSUM) | BIT(NET_F_GUEST_TSO4) |                   \
	 BIT(NET_F_GUEST_TSO6) | BIT(NET_F_GUEST_ECN) | BIT(NET_F_GUEST_UFO) |               \
	 BIT(NET_F_HOST_TSO4) | BIT(NET_F_HOST_TSO6) | BIT(NET_F_HOST_ECN) | BIT(NET_F_HOST_UFO))
#define NQUEUES 2u

static const struct virtio_class nvu_class = VHOST_DEVICE_CLASS("virtio-net", 1, 0x020000);

/* A frame that nobody takes. */
static uint32_t refuse(const struct chain *chain)
{
	return 0;
}

static void link_down(struct vhost_front *f)
{
	virtio_put16(f->vdev->config + NET_CONFIG_STATUS, 0);
	if (virtio_has(f->vdev, NET_F_STATUS))
		virtio_config_changed(f->vdev);
}

static void describe(struct device *dev, char *buf, size_t len)
{
	struct vhost_device *d = (struct vhost_device *)dev;
	const uint8_t *m = d->vdev.config + NET_CONFIG_MAC;
	char at[128];

	virtio_describe(&d->vdev, at, sizeof(at));
	snprintf(buf, len, "%s%s%02x:%02x:%02x:%02x:%02x:%02x, daemon at %s", at, *at ? ": " : "",
		 m[0], m[1], m[2], m[3], m[4], m[5], d->path);
}

static const struct device_ops nvu_ops = {
	.destroy = vhost_device_destroy,
	.describe = describe,
};

bool net_vhost_user_wanted(const struct keyvals *cfg)
{
	return keys_has(cfg, KEY_VHOST_USER);
}

int net_vhost_user_check(const struct keyvals *cfg, struct err *err)
{
	static const uint8_t not[] = { KEY_HOSTFWD, KEY_QUEUES, KEY_IP, KEY_MASK, KEY_RX_RATE,
				       KEY_RX_OPS, KEY_TX_RATE, KEY_TX_OPS };

	if (!net_vhost_user_wanted(cfg))
		return 0;
	if (keys_has(cfg, KEY_TAP) || keys_has(cfg, KEY_FD) || keys_has(cfg, KEY_STREAM) ||
	    keys_num(cfg, KEY_USER))
		return err_set(err, EINVAL, "%s: give one of tap=NAME, fd=N, stream=PATH, user and "
			       "vhost-user=SOCKET", cfg->option);
	for (unsigned i = 0; i < sizeof(not); i++)
		if (keys_has(cfg, not[i]))
			return err_set(err, EINVAL, "%s: %s= is not for vhost-user=, where the "
				       "daemon has one pair of queues and the rest is its business",
				       cfg->option, cfg->table[not[i]].name);
	if (keys_num(cfg, KEY_VHOST) == NET_VHOST_ON)
		return err_set(err, EINVAL, "%s: vhost=on is the kernel's, vhost-user= another "
			       "process; give one of them", cfg->option);
	return 0;
}

static int connect_daemon(struct vhost_device *d, const struct device_env *env,
			  const struct keyvals *cfg, struct err *err)
{
	uint64_t wanted = BIT(NET_F_MRG_RXBUF) | (keys_num(cfg, KEY_OFFLOAD) ? OFFLOADS : 0);
	uint64_t size = keys_num(cfg, KEY_QUEUE_SIZE);
	unsigned mtu = (unsigned)keys_num(cfg, KEY_MTU);
	uint8_t *c = d->vdev.config, mac[NET_MAC_BYTES];
	int rc = net_parse_mac(cfg, mac, err);

	if (!rc && size & (size - 1))
		rc = err_set(err, EINVAL, "%s: queue-size=%s: must be a power of two", cfg->option,
			     keys_text(cfg, KEY_QUEUE_SIZE));
	if (!rc)
		rc = vhost_device_init(d, &nvu_class, env, cfg->option,
				      keys_text(cfg, KEY_VHOST_USER), NQUEUES, (uint16_t)size, wanted,
				      NET_CONFIG_BYTES, err);
	if (rc)
		return rc;
	/* These are not the daemon's to know; vhost_user_start keeps them from it. */
	d->vdev.offered |= BIT(NET_F_MAC) | BIT(NET_F_STATUS) | (mtu ? BIT(NET_F_MTU) : 0);
	memcpy(c + NET_CONFIG_MAC, mac, NET_MAC_BYTES);
	virtio_put16(c + NET_CONFIG_STATUS, NET_S_LINK_UP);
	virtio_put16(c + NET_CONFIG_MAX_PAIRS, 1);
	virtio_put16(c + NET_CONFIG_MTU, mtu);
	return virtio_attach(&d->vdev, err);
}

int net_vhost_user_create(const struct device_env *env, const struct keyvals *cfg,
			  struct device **out, struct err *err)
{
	struct vhost_device *d = calloc(1, sizeof(*d));
	int rc;

	*out = NULL;
	if (!d)
		return err_sys(err, ENOMEM, "%s", cfg->option);
	d->front.vu.fd = -1;
	d->vdev.dev.type = &virtio_net_type;
	d->vdev.dev.ops = &nvu_ops;
	snprintf(d->vdev.dev.id, sizeof(d->vdev.dev.id), "net%u", net_cards);
	d->front.refuse = refuse;
	d->front.kept = 1;
	d->front.ended = link_down;
	d->front.loss = "the guest's link is down";
	d->unit = 2;
	rc = net_vhost_user_check(cfg, err);
	if (!rc)
		rc = connect_daemon(d, env, cfg, err);
	if (rc) {
		vhost_device_destroy(&d->vdev.dev);
		return rc;
	}
	net_cards++;
	*out = &d->vdev.dev;
	return 0;
}
