/* disk/raw_open: opens and closes a raw disk, and knows its size. raw.c has its requests. See disk.h. */
#include "devices/backend/disk/raw_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/core/log.h"

static void raw_close(struct disk *disk)
{
	struct raw *raw = (struct raw *)disk;

	aio_destroy(raw->aio);
	if (raw->attached) {
		free(raw);
		return;
	}
	/* The next VM, on this host or another, must find what the guest wrote. */
	if (!raw->disk.lost_writes && raw->writes != raw->flushed && fdatasync(raw->image.fd))
		log_put_for(raw->path, LOG_ERROR, "disk %s: lost writes at its last flush: %s",
			    raw->path, strerror(errno));
	store_image_close(&raw->image);
	free(raw->path);
	free(raw);
}

static int raw_refresh(struct disk *disk, struct err *err)
{
	uint64_t size_bytes;
	int rc = store_image_size(&((struct raw *)disk)->image, &size_bytes);

	if (rc)
		return err_sys(err, -rc, "disk size");
	/* A guest sees whole blocks only. */
	size_bytes &= ~(uint64_t)(disk->block_bytes - 1);
	if (size_bytes == disk->size_bytes)
		return 0;
	disk->size_bytes = size_bytes;
	return 1;
}

static int raw_grow(struct disk *disk, uint64_t size_bytes, uint64_t *now, struct err *err)
{
	struct raw *raw = (struct raw *)disk;
	uint64_t host_bytes;
	int rc = store_image_size(&raw->image, &host_bytes);

	if (rc)
		return err_sys(err, -rc, "cannot learn its size");
	*now = host_bytes & ~(uint64_t)(disk->block_bytes - 1);
	if (*now >= size_bytes && (raw->image.is_block || *now == size_bytes))
		return 0;
	if (raw->image.is_block)
		return err_set(err, EINVAL,
			       "the block device has %llu bytes; make it larger on the host first",
			       (unsigned long long)*now);
	if (*now > size_bytes)
		return err_set(err, EINVAL, "its file has %llu bytes already",
			       (unsigned long long)host_bytes);
	/* Sparse: the new part takes no room before the guest writes to it. */
	if (ftruncate(raw->image.fd, (off_t)size_bytes))
		return err_sys(err, errno, "cannot make its file %llu bytes long",
			       (unsigned long long)size_bytes);
	*now = size_bytes;
	return 0;
}

static const struct disk_ops raw_ops = {
	.start = disk_raw_start,
	.prepare = disk_raw_prepare,
	.submit = disk_raw_submit,
	.commit = disk_raw_commit,
	.reap = disk_raw_reap,
	.drain = disk_raw_drain,
	.refresh = raw_refresh,
	.grow = raw_grow,
	.close = raw_close,
};

static int describe(struct raw *raw, struct err *err)
{
	const struct store_image *image = &raw->image;
	struct disk *disk = &raw->disk;

	disk_set_blocks(disk, image, raw->cfg.block_bytes);
	if (image->size_bytes % disk->block_bytes)
		return err_set(err, EINVAL,
			       "disk %s: its size, %llu bytes, is not a multiple of "
			       "%u; is it a disk image? (truncate -s %%%u pads it)",
			       raw->cfg.path, (unsigned long long)image->size_bytes,
			       disk->block_bytes, disk->block_bytes);
	disk->size_bytes = image->size_bytes;
	disk->discard_bytes = disk->block_bytes > image->block_bytes ? disk->block_bytes :
								       image->block_bytes;
	disk->readonly = raw->cfg.readonly;
	disk->can_discard = disk->can_write_zeroes = !disk->readonly;
	return 0;
}

static struct raw *new_raw(const struct disk_config *cfg)
{
	struct raw *raw = calloc(1, sizeof(*raw));

	if (!raw)
		return NULL;
	raw->disk.ops = &raw_ops;
	raw->cfg = *cfg;
	raw->disk.engine = cfg->engine;
	raw->settled_last = &raw->settled;
	return raw;
}

static void judge_cache(struct raw *raw)
{
	disk_write_here_init(&raw->here, &raw->image);
	/* The qcow2 layer above already tries synchronous writes. */
	if (raw->attached)
		raw->here.state = WRITE_HERE_NEVER;
	/* It also writes its metadata through the page cache. */
	raw->disk.cached = raw->image.cached_fd < 0 || raw->attached;
}

int disk_raw_attach(const struct disk_config *cfg, const struct store_image *image,
		    struct disk **out, struct err *err)
{
	struct raw *raw = new_raw(cfg);

	*out = NULL;
	if (!raw)
		return err_sys(err, ENOMEM, "disk");
	raw->cfg.path = NULL;
	raw->image = *image;
	raw->attached = true;
	judge_cache(raw);
	*out = &raw->disk;
	return 0;
}

int disk_raw_open(const struct disk_config *cfg, struct disk **out, struct err *err)
{
	struct raw *raw = new_raw(cfg);
	int rc;

	*out = NULL;
	if (!raw)
		return err_sys(err, ENOMEM, "disk %s", cfg->path);
	raw->image.fd = raw->image.cached_fd = -1;
	raw->path = strdup(cfg->path);
	rc = raw->path ? store_image_open(&raw->image, cfg->path, NULL, cfg->readonly, cfg->direct,
					  err) :
			 err_sys(err, ENOMEM, "disk %s", cfg->path);
	judge_cache(raw);
	if (!rc)
		rc = describe(raw, err);
	if (!rc)
		store_warn_partitions(&raw->image, cfg->path, raw->disk.block_bytes);
	/* The user asked for io_uring by name: fail now if it is not available. */
	if (!rc && cfg->engine == DISK_ENGINE_IO_URING)
		rc = disk_raw_start(&raw->disk, err);
	raw->cfg.path = NULL; /* the caller's: valid only until we return */
	if (rc) {
		raw_close(&raw->disk);
		return rc;
	}
	*out = &raw->disk;
	return 0;
}
