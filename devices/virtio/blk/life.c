/*
 * blk/life: virtio-blk's configuration space, creation and destruction. See blk.c.
 * Threads: the builder creates and destroys; a vCPU activates, resets and writes the configuration,
 * the main loop changes the size: all of these with the lock held.
 */
#include "devices/virtio/blk/blk.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/blk/blk_impl.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"
#include "vmm/core/parse.h"
#include "vmm/errand/errand.h"

/* Section 5.2.4. */
struct blk_space {
	uint64_t capacity; /* sectors */
	uint32_t size_max;
	uint32_t seg_max;
	uint16_t cylinders;
	uint8_t heads, sectors;
	uint32_t blk_size;
	uint8_t physical_block_exp;
	uint8_t alignment_offset;
	uint16_t min_io_blocks;
	uint32_t opt_io_blocks;
	uint8_t writeback;
	uint8_t unused0;
	uint16_t num_queues;
	uint32_t max_discard_sectors;
	uint32_t max_discard_seg;
	uint32_t discard_sector_alignment;
	uint32_t max_write_zeroes_sectors;
	uint32_t max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap;
	uint8_t unused1[3];
} __attribute__((packed));
_Static_assert(sizeof(struct blk_space) == 60, "as in section 5.2.4");

static void fill_config(struct blk *blk)
{
	const struct disk *disk = blk->disk;
	struct blk_space space = {
		.capacity = disk->size_bytes / BLK_SECTOR,
		.seg_max = blk->queue_size - 2u,
		.blk_size = disk->block_bytes,
		.writeback = blk->s.writeback,
		.num_queues = (uint16_t)blk->vdev.nqueues,
	};

	if (disk->physical_bytes > disk->block_bytes)
		space.physical_block_exp = (uint8_t)__builtin_ctz(disk->physical_bytes /
								  disk->block_bytes);
	space.min_io_blocks = (uint16_t)(1u << space.physical_block_exp);
	if (blk->discard) {
		space.max_discard_sectors = BLK_MAX_DISCARD_SECTORS;
		space.max_discard_seg = BLK_MAX_RANGES;
		/* Linux uses this as the granularity: fstrim then asks for nothing smaller. */
		space.discard_sector_alignment = disk->discard_bytes / BLK_SECTOR;
	}
	if (disk->can_write_zeroes) {
		space.max_write_zeroes_sectors = BLK_MAX_ZERO_SECTORS;
		space.max_write_zeroes_seg = BLK_MAX_RANGES;
		space.write_zeroes_may_unmap = blk->discard;
	}
	memcpy(blk->vdev.s.config, &space, sizeof(space));
}

/* The driver may write only writeback, and only if it accepted CONFIG_WCE (5.2.5). */
static void blk_write_config(struct virtio_device *vdev, uint32_t off, uint32_t len)
{
	struct blk *blk = blk_of(vdev);
	uint8_t wce = vdev->s.config[offsetof(struct blk_space, writeback)];

	if (virtio_has(vdev, BLK_F_CONFIG_WCE))
		blk->s.writeback = wce & 1;
	fill_config(blk);
}

/* Section 5.2.5.1: a driver that cannot flush gets a disk that needs no flushing. */
static int blk_activate(struct virtio_device *vdev)
{
	struct blk *blk = blk_of(vdev);

	if (!virtio_has(vdev, BLK_F_CONFIG_WCE))
		blk->s.writeback = virtio_has(vdev, BLK_F_FLUSH);
	if (!blk->scratch)
		blk->scratch = malloc(blk->queue_size * sizeof(*blk->scratch));
	return blk->scratch ? 0 : -ENOMEM;
}

static bool blk_reset(struct virtio_device *vdev)
{
	struct blk *blk = blk_of(vdev);

	/* Leave the limit itself alone: a reset earns no tokens. */
	blk->pushed = blk->next_queues = blk->polled = blk->limited = blk->full = 0;
	blk_drop_waiting(blk);
	blk->s.writeback = !blk->disk->readonly;
	fill_config(blk);
	blk->aborting = blk->inflight;
	return !blk->inflight;
}

static const struct virtio_class blk_class = {
	.name = "virtio-blk",
	.device_id = 2,
	.pci_class = 0x010000,
	.activate = blk_activate,
	.kick = blk_kick,
	.write_config = blk_write_config,
	.reset = blk_reset,
};

static void blk_destroy(struct device *dev)
{
	struct blk *blk = (struct blk *)dev;

	if (blk->vdev.class) {
		virtio_lock(&blk->vdev);
		/* The loop no longer runs: wait for the disk here. */
		blk->vdev.active = false;
		blk_drop_waiting(blk);
		if (blk->inflight)
			blk->disk->ops->drain(blk->disk);
		virtio_unlock(&blk->vdev);
		virtio_detach(&blk->vdev);
	}
	loop_poll_disarm(blk->vdev.env->loop, &blk->poller);
	loop_unwatch(blk->again);
	loop_unwatch(blk->limit_timer);
	ratelimit_group_leave(blk->group);
	disk_close(blk->disk);
	blk_free_requests(blk);
	free(blk->scratch);
	free(blk->what);
	free(blk);
}

static void blk_describe(struct device *dev, char *buf, size_t len)
{
	struct blk *blk = (struct blk *)dev;
	char size[32], block[32] = "", where[64] = "";

	parse_size_text(blk->disk->size_bytes, size, sizeof(size));
	virtio_describe(&blk->vdev, where, sizeof(where));
	if (blk->disk->block_bytes != BLK_SECTOR)
		snprintf(block, sizeof(block), ", blocks of %u bytes", blk->disk->block_bytes);
	snprintf(buf, len, "%s%s%s%s%s%s", size, block, blk->disk->readonly ? ", read-only" : "",
		 blk->serial[0] ? ", serial " : "", blk->serial, where[0] ? ", " : "");
	if (strlen(buf) + 1 < len)
		snprintf(buf + strlen(buf), len - strlen(buf), "%s", where);
}

static void blk_describe_disk(struct device *dev, char *buf, size_t len)
{
	const struct blk *blk = (const struct blk *)dev;
	char size[32];

	parse_size_text(blk->disk->size_bytes, size, sizeof(size));
	snprintf(buf, len, "%s, %s%s%s%s", blk->what ? blk->what : "?", size,
		 blk->disk->readonly ? ", read-only" : "", blk->serial[0] ? ", serial " : "",
		 blk->serial);
}

struct refresh {
	struct disk *disk;
	int rc;
	struct err err;
};

static void refresh(void *opaque)
{
	struct refresh *r = opaque;

	r->rc = r->disk->ops->refresh(r->disk, &r->err);
}

/* The host may have changed the image's size. */
static void blk_refresh(struct device *dev)
{
	struct blk *blk = (struct blk *)dev;
	struct refresh r = { .disk = blk->disk };

	virtio_lock(&blk->vdev);
	errand_run(refresh, &r);
	if (r.rc < 0)
		log_put_for(dev->id, LOG_WARN, "%s: %s", dev->id[0] ? dev->id : "virtio-blk",
			    r.err.text);
	if (r.rc > 0) {
		fill_config(blk);
		virtio_config_changed(&blk->vdev);
	}
	virtio_unlock(&blk->vdev);
}

/* Takes the lock itself. */
static void set_size(struct blk *blk, uint64_t size_bytes)
{
	virtio_lock(&blk->vdev);
	if (blk->disk->size_bytes != size_bytes) {
		blk->disk->size_bytes = size_bytes;
		fill_config(blk);
		virtio_config_changed(&blk->vdev);
	}
	virtio_unlock(&blk->vdev);
}

static int blk_resize(struct device *dev, uint64_t size_bytes, struct err *err)
{
	struct blk *blk = (struct blk *)dev;
	struct disk *disk = blk->disk;
	struct err why = { "" };
	uint64_t now;
	int rc;

	if (disk->in_memory)
		return err_set(err, EINVAL, "%s: its files are in memory; it keeps its size",
			       dev->id);
	if (disk->readonly || !disk->ops->grow)
		return err_set(err, EINVAL, "%s: is read-only; it keeps its size", dev->id);
	if (size_bytes % disk->block_bytes)
		return err_set(err, EINVAL, "%s: %llu bytes: not a multiple of %u", dev->id,
			       (unsigned long long)size_bytes, disk->block_bytes);
	if (size_bytes > INT64_MAX)
		return err_set(err, EINVAL, "%s: %llu bytes: too many", dev->id,
			       (unsigned long long)size_bytes);
	virtio_lock(&blk->vdev);
	now = disk->size_bytes;
	virtio_unlock(&blk->vdev);
	if (size_bytes < now)
		return err_set(err, EINVAL, "%s: has %llu bytes; a disk does not shrink to %llu",
			       dev->id, (unsigned long long)now, (unsigned long long)size_bytes);
	rc = disk->ops->grow(disk, size_bytes, &now, &why);
	set_size(blk, now);
	/* More than this format, or the host's file system, can have. */
	if (rc == -EFBIG)
		rc = -EINVAL;
	return rc ? err_set(err, -rc, "%s: %s", dev->id, why.text) : 0;
}

static void tell_counts(const struct blk_count *c, const char *const name[5], device_counter_fn fn,
			void *opaque)
{
	uint64_t ops = counter_read(&c->ops);

	fn(opaque, name[0], counter_read(&c->bytes));
	fn(opaque, name[1], ops);
	fn(opaque, name[2], counter_read(&c->min_us));
	fn(opaque, name[3], counter_read(&c->max_us));
	fn(opaque, name[4], ops ? counter_read(&c->sum_us) / ops : 0);
}

static void blk_counters(struct device *dev, device_counter_fn fn, void *opaque)
{
	static const char *const read[] = { "read_bytes", "read_ops", "read_latency_min",
					    "read_latency_max", "read_latency_avg" };
	static const char *const written[] = { "write_bytes", "write_ops", "write_latency_min",
					       "write_latency_max", "write_latency_avg" };
	const struct blk *blk = (const struct blk *)dev;

	tell_counts(&blk->read, read, fn, opaque);
	tell_counts(&blk->written, written, fn, opaque);
}

static void blk_prepare(struct device *dev)
{
	struct blk *blk = (struct blk *)dev;

	virtio_lock(&blk->vdev);
	if (blk->disk->ops->prepare)
		blk->disk->ops->prepare(blk->disk);
	virtio_unlock(&blk->vdev);
}

static const struct device_ops blk_ops = {
	.destroy = blk_destroy,
	.prepare = blk_prepare,
	.refresh = blk_refresh,
	.resize = blk_resize,
	.describe = blk_describe,
	.describe_disk = blk_describe_disk,
	.counters = blk_counters,
};

static uint64_t features(const struct blk *blk, unsigned nqueues)
{
	uint64_t f = 1ull << BLK_F_SEG_MAX | 1ull << BLK_F_BLK_SIZE | 1ull << BLK_F_TOPOLOGY;

	if (blk->disk->readonly)
		f |= 1ull << BLK_F_RO;
	else
		f |= 1ull << BLK_F_FLUSH | 1ull << BLK_F_CONFIG_WCE;
	if (nqueues > 1)
		f |= 1ull << BLK_F_MQ;
	if (blk->discard)
		f |= 1ull << BLK_F_DISCARD;
	if (blk->disk->can_write_zeroes)
		f |= 1ull << BLK_F_WRITE_ZEROES;
	return f;
}

int blk_create(const struct device_env *env, const struct virtio_blk_config *cfg, struct disk *disk,
	       struct device **out, struct err *err)
{
	struct blk *blk = calloc(1, sizeof(*blk));
	int rc;

	*out = NULL;
	if (!blk) {
		disk_close(disk);
		return err_sys(err, ENOMEM, "virtio-blk");
	}
	blk->vdev.dev.type = &virtio_blk_type;
	blk->vdev.dev.ops = &blk_ops;
	blk->disk = disk;
	blk->queue_size = cfg->queue_size;
	blk->discard = cfg->discard && disk->can_discard;
	blk->s.writeback = !disk->readonly;
	snprintf(blk->vdev.dev.id, sizeof(blk->vdev.dev.id), "%s", cfg->id ? cfg->id : "");
	snprintf(blk->serial, sizeof(blk->serial), "%s", cfg->serial ? cfg->serial : "");
	blk->what = cfg->what ? strdup(cfg->what) : NULL;
	blk->poller = (struct loop_poller){ blk_poll, blk_poll_idle, blk };
	disk->wake = blk_on_wake;
	disk->wake_opaque = blk;
	virtio_init(&blk->vdev, &blk_class, env, cfg->nqueues, cfg->queue_size,
		    features(blk, cfg->nqueues), sizeof(struct blk_space));
	fill_config(blk);
	ratelimit_init(&blk->limit, &cfg->limit, clock_now_ns());
	rc = 0;
	if (cfg->group && env->limits && ratelimit_on(&blk->limit))
		rc = ratelimit_group_join(env->limits, cfg->group, &cfg->limit, &blk->group);
	if (!rc)
		rc = loop_watch_event(env->loop, blk_on_again, blk, &blk->again, NULL);
	if (!rc && ratelimit_on(&blk->limit))
		rc = loop_watch_timer(env->loop, blk_on_limit_timer, blk, &blk->limit_timer);
	if (rc)
		err_sys(err, -rc, "virtio-blk");
	else
		rc = virtio_attach(&blk->vdev, err);
	if (rc) {
		blk_destroy(&blk->vdev.dev);
		return rc;
	}
	*out = &blk->vdev.dev;
	return 0;
}
