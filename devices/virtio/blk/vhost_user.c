/*
 * blk/vhost_user: --disk vhost-user=SOCKET. The daemon serves the requests and supplies the disk's
 * configuration. Threads: see vhost/user_device.h; this file has no state that changes after
 * create.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "devices/virtio/blk/blk_impl.h"
#include "devices/virtio/vhost/user_device.h"
#include "vmm/core/bytes.h"

#define CONFIG_BYTES 60u /* struct blk_space */
#define NUM_QUEUES 34u	 /* offset of num_queues */

static const struct virtio_class blk_vhost_class = VHOST_USER_DEVICE_CLASS("virtio-blk", 2,
									   0x010000);

/* Section 5.2.6: the last byte is the status. */
static uint32_t refuse(const struct chain *chain)
{
	const uint8_t status = BLK_S_IOERR;

	if (!chain->writable_bytes)
		return 0;
	return (uint32_t)virtq_chain_write(chain, chain->writable_bytes - 1, &status, 1);
}

static void describe(struct device *dev, char *buf, size_t len)
{
	struct vhost_user_device *d = (struct vhost_user_device *)dev;
	char where[64] = "";

	virtio_describe(&d->vdev, where, sizeof(where));
	snprintf(buf, len, "daemon at %s%s%s", d->path, where[0] ? ", " : "", where);
}

static void describe_disk(struct device *dev, char *buf, size_t len)
{
	snprintf(buf, len, "served by the daemon at %s, which decides its size and serial number",
		 ((struct vhost_user_device *)dev)->path);
}

static int resize(struct device *dev, uint64_t size_bytes, struct err *err)
{
	return err_set(err, EINVAL, "%s: the daemon at %s decides its size", dev->id,
		       ((struct vhost_user_device *)dev)->path);
}

static const struct device_ops blk_vhost_ops = {
	.destroy = vhost_user_device_destroy,
	.resize = resize,
	.describe = describe,
	.describe_disk = describe_disk,
};

int blk_vhost_user_create(const struct device_env *env, const char *option, const char *path,
			  unsigned nqueues, uint16_t queue_size, struct device **out,
			  struct err *err)
{
	/*
	 * The features whose fields fit into these 60 bytes (not secure erase, lifetime, zones).
	 * Without CONFIG_WCE: a driver cannot ask the daemon for write-through, as bantam does not
	 * send SET_CONFIG.
	 */
	uint64_t wanted = ((2ull << BLK_F_WRITE_ZEROES) - 1) & ~(1ull << BLK_F_CONFIG_WCE);
	struct vhost_user_device *d = calloc(1, sizeof(*d));
	int rc;

	*out = NULL;
	if (!d)
		return err_sys(err, ENOMEM, "%s", option);
	d->vdev.dev.ops = &blk_vhost_ops;
	d->front.refuse = refuse;
	rc = vhost_user_device_init(d, &blk_vhost_class, env, option, path, nqueues, queue_size,
				    wanted, CONFIG_BYTES, err);
	if (!rc && !env->dry_run) {
		rc = vhost_user_get_config(&d->front.vu, d->vdev.s.config, CONFIG_BYTES);
		if (rc)
			err_sys(err, -rc,
				"%s: %s: the daemon does not send its disk's configuration", option,
				path);
	}
	if (!rc) {
		put_le16(d->vdev.s.config + NUM_QUEUES, (uint16_t)nqueues);
		rc = virtio_attach(&d->vdev, err);
	}
	if (rc) {
		vhost_user_device_destroy(&d->vdev.dev);
		return rc;
	}
	*out = &d->vdev.dev;
	return 0;
}
