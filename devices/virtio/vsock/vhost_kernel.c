/*
 * vsock/vhost_kernel: see vsock/vhost_kernel.h.
 *
 * Host programs reach the guest by AF_VSOCK and its CID, as under QEMU, without a process between:
 * the kernel serves the receive and transmit queues. The event queue stays in this process and
 * carries nothing: its only event is for a guest that was migrated.
 *
 * Threads: a kernel thread moves packets. vCPU threads run activate, reset and call_changed, under
 * the device's lock; the loop only gets the event of a broken ring.
 */
#include "devices/virtio/vsock/vhost_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/virtio/vhost/kernel_queues.h"
#include "devices/virtio/vsock/vsock_impl.h"

#define VHOST_VSOCK "/dev/vhost-vsock"

struct vsock_vhost {
	struct virtio_device vdev; /* first */
	struct vhost_kernel_queues queues;
	uint32_t cid;
};

static struct vsock_vhost *vsock_vhost_of(struct virtio_device *vdev)
{
	return (struct vsock_vhost *)vdev;
}

static int activate(struct virtio_device *vdev)
{
	struct vsock_vhost *vv = vsock_vhost_of(vdev);
	int rc;

	if (!vdev->queue[VSOCK_RX].s.ready || !vdev->queue[VSOCK_TX].s.ready)
		return -EINVAL;
	rc = vhost_kernel_queues_start(&vv->queues);
	return rc ? rc : vhost_kernel_vsock_serve(&vv->queues.vhost_kernel, true);
}

static void kick(struct virtio_device *vdev, unsigned queue)
{
}

static bool reset(struct virtio_device *vdev)
{
	struct vsock_vhost *vv = vsock_vhost_of(vdev);

	BUG_ON(vhost_kernel_vsock_serve(&vv->queues.vhost_kernel, false));
	vhost_kernel_queues_stop(&vv->queues);
	return true;
}

static void call_changed(struct virtio_device *vdev, unsigned queue)
{
	vhost_kernel_queues_call_changed(&vsock_vhost_of(vdev)->queues, queue);
}

static const struct virtio_class vsock_vhost_class = {
	.name = "virtio-vsock",
	.device_id = VSOCK_DEVICE_ID,
	.pci_class = VSOCK_PCI_CLASS,
	.activate = activate,
	.kick = kick,
	.reset = reset,
	.call_changed = call_changed,
};

static void destroy(struct device *dev)
{
	struct vsock_vhost *vv = (struct vsock_vhost *)dev;

	virtio_detach(&vv->vdev);
	vhost_kernel_queues_close(&vv->queues);
	free(vv);
}

static void describe(struct device *dev, char *buf, size_t len)
{
	struct vsock_vhost *vv = (struct vsock_vhost *)dev;
	char at[128];

	virtio_describe(&vv->vdev, at, sizeof(at));
	snprintf(buf, len, "%s%sCID %u, vhost", at, *at ? ": " : "", vv->cid);
}

static const struct device_ops vsock_vhost_ops = {
	.destroy = destroy,
	.describe = describe,
};

static int open_kernel(struct vsock_vhost *vv, const struct device_env *env, const char *option,
		       bool *missing, struct err *err)
{
	int rc;

	if (env->dry_run)
		rc = faccessat(AT_FDCWD, VHOST_VSOCK, R_OK | W_OK, AT_EACCESS) ? -errno : 0;
	else
		rc = vhost_kernel_queues_open(&vv->queues, &vv->vdev, env, VHOST_VSOCK, VSOCK_RX);
	*missing = rc;
	if (rc)
		return vhost_kernel_refused(option, VHOST_VSOCK, rc, err);
	if (env->dry_run)
		return 0;
	rc = vhost_kernel_vsock_set_cid(&vv->queues.vhost_kernel, vv->cid);
	if (rc == -EADDRINUSE)
		return err_set(err, EADDRINUSE,
			       "%s cid=%u: another VM of this host has it; with "
			       "vhost=on each needs its own",
			       option, vv->cid);
	return rc ? err_sys(err, -rc, "%s cid=%u", option, vv->cid) : 0;
}

int vsock_vhost_kernel_create(const struct device_env *env, const char *option, uint32_t cid,
			      bool *missing, struct device **out, struct err *err)
{
	struct vsock_vhost *vv = calloc(1, sizeof(*vv));
	int rc;

	*out = NULL;
	*missing = false;
	if (!vv)
		return err_sys(err, ENOMEM, "%s", option);
	vv->vdev.dev.ops = &vsock_vhost_ops;
	strcpy(vv->vdev.dev.id, "vsock");
	vv->cid = cid;
	rc = open_kernel(vv, env, option, missing, err);
	if (!rc) {
		virtio_init(&vv->vdev, &vsock_vhost_class, env, VSOCK_NQUEUES, VSOCK_QUEUE_SIZE,
			    1ull << VSOCK_F_SEQPACKET, VSOCK_CONFIG_BYTES);
		/* The kernel's features cover rings and packets; every kernel supports streams. */
		vv->vdev.offered &= vv->queues.vhost_kernel.features;
		vv->vdev.offered |= 1ull << VSOCK_F_STREAM;
		memcpy(vv->vdev.s.config, &cid, sizeof(cid)); /* little-endian, the rest is 0 */
		vv->vdev.elsewhere = 1ull << VSOCK_RX | 1ull << VSOCK_TX;
		rc = virtio_attach(&vv->vdev, err);
	}
	if (rc) {
		destroy(&vv->vdev.dev);
		return rc;
	}
	*out = &vv->vdev.dev;
	return 0;
}
