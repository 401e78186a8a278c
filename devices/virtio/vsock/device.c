/*
 * vsock/device: virtio-vsock (virtio 1.2, section 5.10): --vsock, class, creation and destruction.
 * No other file in this folder calls this one.
 *
 * The lists, the sockets and the timer belong to the loop's thread. So when a vCPU's thread resets
 * the device, the loop finishes the reset.
 */
#include "devices/virtio/vsock/vsock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "devices/virtio/vsock/vhost_kernel.h"
#include "devices/virtio/vsock/vsock_impl.h"

static struct vsock *vsock_of(struct virtio_device *vdev)
{
	return (struct vsock *)vdev;
}

/* --- class --------------------------------------------------------------------------------------- */

static int vsock_activate(struct virtio_device *vdev)
{
	return 0;
}

static void vsock_kick(struct virtio_device *vdev, unsigned queue)
{
	struct vsock *vs = vsock_of(vdev);

	if (queue == VSOCK_RX)
		virtq_disable_kicks(&vdev->queue[VSOCK_RX]);
	else if (queue == VSOCK_TX)
		vsock_run_tx(vs);
	vsock_run(vs);
}

static bool guest_has(const struct vsock_conn *c)
{
	return c->s.stage != VSOCK_GREETING && c->s.stage != VSOCK_DRAINING;
}

/*
 * End the guest's connections. Connections in GREETING stay, and so do bytes kept for host
 * programs.
 */
static void forget_guest(struct vsock *vs)
{
	struct vsock_conn *c, *next;

	for (c = LIST_FIRST(&vs->conns); c; c = next) {
		next = LIST_NEXT(c, all);
		if (guest_has(c))
			vsock_conn_orphan(c);
	}
	vs->s.nstrays = vs->s.stray_at = 0;
	vs->nbufs = vs->npool = 0;
	vs->s.tx_blocked = false;
}

static bool vsock_reset(struct virtio_device *vdev)
{
	struct vsock *vs = vsock_of(vdev);
	struct vsock_conn *c;

	LIST_FOREACH(c, &vs->conns, all)
	if (guest_has(c)) { /* only the loop's thread may close it */
		vs->resetting = true;
		vsock_run_again(vs);
		return false;
	}
	forget_guest(vs);
	return true;
}

static void on_again(void *opaque)
{
	struct vsock *vs = opaque;

	virtio_lock(&vs->vdev);
	turn_resume(&vs->rx_turn);
	turn_resume(&vs->tx_turn);
	if (vs->resetting) {
		forget_guest(vs);
		vs->resetting = false;
		virtio_reset_done(&vs->vdev);
	} else if (vs->vdev.active) {
		vsock_run_tx(vs);
		vsock_run(vs);
	}
	virtio_unlock(&vs->vdev);
}

static const struct virtio_class vsock_class = {
	.name = "virtio-vsock",
	.device_id = VSOCK_DEVICE_ID,
	.pci_class = VSOCK_PCI_CLASS,
	.activate = vsock_activate,
	.kick = vsock_kick,
	.reset = vsock_reset,
};

/* --- life ---------------------------------------------------------------------------------------- */

static void vsock_destroy(struct device *dev)
{
	struct vsock *vs = (struct vsock *)dev;

	virtio_detach(&vs->vdev);
	vsock_host_close(vs);
	while (!LIST_EMPTY(&vs->conns))
		vsock_conn_free(LIST_FIRST(&vs->conns));
	loop_unwatch(vs->tick);
	loop_unwatch(vs->again);
	free(vs);
}

static void vsock_describe(struct device *dev, char *buf, size_t len)
{
	struct vsock *vs = (struct vsock *)dev;
	char at[128];

	virtio_describe(&vs->vdev, at, sizeof(at));
	snprintf(buf, len, "%s%sCID %u, %s", at, *at ? ": " : "", vs->s.cid, vs->path);
}

static const struct device_ops vsock_ops = {
	.destroy = vsock_destroy,
	.describe = vsock_describe,
};

enum { K_CID, K_SOCKET, K_VHOST_KERNEL };
enum { VHOST_KERNEL_OFF, VHOST_KERNEL_ON, VHOST_KERNEL_AUTO };

static const struct key vsock_keys[] = {
	[K_CID] = { "cid", KEY_NUM, KEY_REQUIRED, .min = 3, .max = 0xfffffffe, .meta = "N",
		    .help = "the guest's address, 3 or more" },
	[K_SOCKET] = { "socket", KEY_PATH, KEY_REQUIRED | KEY_UNLESS | KEY_NAME, .meta = "PATH",
		       .help = "where host programs connect; PATH_P is port P of the host" },
	[K_VHOST_KERNEL] = { "vhost", KEY_CHOICE, KEY_INSTEAD | KEY_NETWORK,
			     .choices = "off|on|auto", .def = "off",
			     .help = "on: the host's AF_VSOCK instead of socket (vhost-vsock); auto: if possible" },
	{ NULL },
};

/*
 * Each connection needs a descriptor. Best effort: if the host limits them, later connections are
 * refused one by one.
 */
static void raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int create_sockets(const struct device_env *env, const char *option, uint32_t cid,
			  const char *path, struct device **out, struct err *err)
{
	struct vsock *vs = calloc(1, sizeof(*vs));
	int rc;

	if (!vs)
		return err_sys(err, ENOMEM, "%s", option);
	vs->vdev.dev.type = &virtio_vsock_type;
	vs->vdev.dev.ops = &vsock_ops;
	strcpy(vs->vdev.dev.id, "vsock");
	vs->listener.fd = -1;
	vs->s.cid = cid;
	TAILQ_INIT(&vs->ready);
	TAILQ_INIT(&vs->draining);
	virtio_init(&vs->vdev, &vsock_class, env, VSOCK_NQUEUES, VSOCK_QUEUE_SIZE,
		    1ull << VSOCK_F_STREAM, VSOCK_CONFIG_BYTES);
	memcpy(vs->vdev.s.config, &vs->s.cid, sizeof(vs->s.cid)); /* little-endian, the rest is 0 */
	raise_descriptors();
	rc = loop_watch_event(env->loop, on_again, vs, &vs->again, NULL);
	if (!rc)
		rc = loop_watch_timer(env->loop, vsock_on_tick, vs, &vs->tick);
	if (rc)
		err_sys(err, -rc, "%s", option);
	else
		rc = vsock_host_listen(vs, option, path, err);
	if (!rc)
		rc = virtio_attach(&vs->vdev, err);
	if (rc) {
		vsock_destroy(&vs->vdev.dev);
		return rc;
	}
	*out = &vs->vdev.dev;
	return 0;
}

static int create(const struct device_env *env, const struct keyvals *cfg, struct device **out,
		  struct err *err)
{
	uint32_t cid = (uint32_t)keys_num(cfg, K_CID);
	uint64_t vhost_kernel = keys_num(cfg, K_VHOST_KERNEL);
	const char *path = keys_text(cfg, K_SOCKET);
	bool missing;
	int rc;

	*out = NULL;
	if (vhost_kernel == VHOST_KERNEL_ON && path)
		return err_set(err, EINVAL, "%s: give one of socket=PATH and vhost=on",
			       cfg->option);
	if (vhost_kernel != VHOST_KERNEL_ON && !path)
		return err_set(err, EINVAL, "%s: socket=PATH is missing", cfg->option);
	if (vhost_kernel != VHOST_KERNEL_OFF) {
		rc = vsock_vhost_kernel_create(env, cfg->option, cid, &missing, out, err);
		if (!rc)
			(*out)->type = &virtio_vsock_type;
		if (!rc || vhost_kernel == VHOST_KERNEL_ON || !missing)
			return rc;
	}
	return create_sockets(env, cfg->option, cid, path, out, err);
}

const struct device_type virtio_vsock_type = {
	.name = "virtio-vsock",
	.option = "--vsock",
	.calls = CALLS_VSOCK | CALLS_DAEMON,
	.keys = vsock_keys,
	.help = "sockets between guest and host",
	.create = create,
};
