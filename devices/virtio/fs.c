/*
 * fs: see fs.h. The daemon does all the work; this file defines the device, and how requests fail
 * when the daemon has ended (virtio 1.2, section 5.11.6). Threads: see vhost/user_device.h; this
 * file has no state that changes after create. So a snapshot saves only virtio_state; only the
 * daemon knows what the guest has opened.
 */
#include "devices/virtio/fs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/vhost/user_device.h"

#define FS_TAG_BYTES 36u
#define FS_QUEUE_SIZE 1024u

/* Section 5.11.4. */
struct fs_space {
	char tag[FS_TAG_BYTES]; /* padded with NULs, not terminated when full */
	uint32_t num_request_queues;
} __attribute__((packed));

/* <linux/fuse.h>: the start of each request and of each answer. */
struct fuse_in {
	uint32_t len;
	uint32_t opcode;
	uint64_t unique;
	uint64_t nodeid;
	uint32_t uid, gid, pid;
	uint32_t padding;
};

struct fuse_out {
	uint32_t len;
	int32_t error;
	uint64_t unique;
};

/* Requests without an answer. */
enum { FUSE_FORGET = 2, FUSE_INTERRUPT = 36, FUSE_BATCH_FORGET = 42 };

static const struct virtio_class fs_class = VHOST_USER_DEVICE_CLASS("virtio-fs", 26, 0x018000);

enum { K_TAG, K_SOCKET, K_QUEUES, K_QUEUE_SIZE, K_IOTHREAD };

static const struct key fs_keys[] = {
	[K_TAG] = { "tag", KEY_TEXT, KEY_REQUIRED, .meta = "TAG",
		    .help = "what the guest mounts, at most 36 bytes" },
	[K_SOCKET] = { "socket", KEY_PATH, KEY_REQUIRED, .meta = "PATH",
		       .help = "the daemon's socket (virtiofsd --socket-path)" },
	[K_QUEUES] = { "queues", KEY_NUM, .def = "1", .min = 1, .max = 16, .meta = "N",
		       .help = "request queues" },
	[K_QUEUE_SIZE] = { "queue-size", KEY_NUM, KEY_POWER2, .def = "1024", .min = 4,
			   .max = FS_QUEUE_SIZE, .meta = "N",
			   .help = "descriptors per queue, a power of two" },
	[K_IOTHREAD] = { "iothread", KEY_BOOL, .def = "off",
			 .help = "handle the daemon in a thread of its own" },
	{ NULL },
};

/* ENOTCONN is what Linux's FUSE itself returns for a file system whose server is gone. */
static uint32_t fs_refuse(const struct chain *chain)
{
	struct fuse_out out = { .len = sizeof(out), .error = -ENOTCONN };
	struct fuse_in in;

	if (virtq_chain_read(chain, 0, &in, sizeof(in)) < sizeof(in) ||
	    chain->writable_bytes < sizeof(out) || in.opcode == FUSE_FORGET ||
	    in.opcode == FUSE_BATCH_FORGET || in.opcode == FUSE_INTERRUPT)
		return 0;
	out.unique = in.unique;
	return (uint32_t)virtq_chain_write(chain, 0, &out, sizeof(out));
}

static void fs_describe(struct device *dev, char *buf, size_t len)
{
	struct vhost_user_device *d = (struct vhost_user_device *)dev;
	char where[64] = "";

	virtio_describe(&d->vdev, where, sizeof(where));
	snprintf(buf, len, "tag %.36s, daemon at %s%s%s", (const char *)d->vdev.s.config, d->path,
		 where[0] ? ", " : "", where);
}

static const struct device_ops fs_ops = {
	.destroy = vhost_user_device_destroy,
	.describe = fs_describe,
};

static int fs_create(const struct device_env *env, const struct keyvals *cfg, struct device **out,
		     struct err *err)
{
	const char *tag = keys_text(cfg, K_TAG);
	unsigned nqueues = (unsigned)keys_num(cfg, K_QUEUES);
	uint64_t size = keys_num(cfg, K_QUEUE_SIZE);
	struct fs_space space = { .num_request_queues = nqueues };
	struct vhost_user_device *d;
	int rc;

	*out = NULL;
	if (strlen(tag) > FS_TAG_BYTES)
		return err_set(err, EINVAL, "%s: tag=%s: longer than %u bytes", cfg->option, tag,
			       FS_TAG_BYTES);
	d = calloc(1, sizeof(*d));
	if (!d)
		return err_sys(err, ENOMEM, "%s", cfg->option);
	d->vdev.dev.type = &virtio_fs_type;
	d->vdev.dev.ops = &fs_ops;
	d->front.refuse = fs_refuse;
	/*
	 * The first queue is for high priority requests. The device offers no features of its own:
	 * F_NOTIFICATION would add a queue between the first and the others (section 5.11.2).
	 */
	rc = vhost_user_device_init(d, &fs_class, env, cfg->option, keys_text(cfg, K_SOCKET),
				    nqueues + 1, (uint16_t)size, 0, sizeof(space), err);
	if (!rc) {
		memcpy(space.tag, tag, strlen(tag));
		memcpy(d->vdev.s.config, &space, sizeof(space));
		rc = virtio_attach(&d->vdev, err);
	}
	if (rc) {
		vhost_user_device_destroy(&d->vdev.dev);
		return rc;
	}
	*out = &d->vdev.dev;
	return 0;
}

static enum device_memory fs_memory(const struct keyvals *cfg)
{
	return MEMORY_SHARED;
}

const struct device_type virtio_fs_type = {
	.name = "virtio-fs",
	.option = "--fs",
	.calls = CALLS_DAEMON,
	.repeat = true,
	.memory = fs_memory,
	.keys = fs_keys,
	.help = "a host directory, served by virtiofsd",
	.create = fs_create,
};
