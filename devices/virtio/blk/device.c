/*
 * blk/device: --disk: its keys, and what they mean for a disk. No other file in this folder calls this
 * one. The builder's thread.
 */
#include "devices/virtio/blk/blk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "devices/virtio/blk/blk_impl.h"
#include "vmm/core/log.h"

enum {
	K_PATH,
	K_RO,
	K_READONLY,
	K_SERIAL,
	K_ID,
	K_DIRECT,
	K_DISCARD,
	K_ENGINE,
	K_QUEUES,
	K_SIZE,
	K_IOTHREAD,
	K_VHOST_USER,
	K_RATE,
	K_BURST,
	K_OPS,
	K_OPS_BURST,
	K_SEED,
	K_LABEL,
	K_CREATE,
	K_FORMAT,
	K_BLOCK_SIZE,
	K_RATE_BUCKET,
	K_OPS_BUCKET,
	K_RATE_GROUP,
	K_BACKING,
	K_VMCONFIG,
};

#define RATE_MAX (1ull << 40)
#define CREATE_MAX (1ull << 60)

static const struct key blk_keys[] = {
	[K_PATH] = { "path", KEY_PATH,
		     KEY_BARE | KEY_REQUIRED | KEY_UNLESS | KEY_READS | KEY_WRITES | KEY_MAKES |
			     KEY_AROUND,
		     .meta = "FILE", .help = "raw or qcow2 image, or block device" },
	[K_RO] = { "ro", KEY_BOOL, .def = "off", .help = "the guest cannot write" },
	[K_READONLY] = { "readonly", KEY_BOOL, .def = "off", .help = "the same as ro" },
	[K_SERIAL] = { "serial", KEY_TEXT, .meta = "TEXT",
		       .help = "serial number, at most 20 characters (/dev/disk/by-id)" },
	[K_ID] = { "id", KEY_TEXT, .meta = "NAME", .help = "name for the API and the log" },
	[K_DIRECT] = { "direct", KEY_BOOL, .def = "off",
		       .help = "bypass the host's page cache (O_DIRECT)" },
	[K_DISCARD] = { "discard", KEY_BOOL, .def = "on",
			.help = "free on the host what the guest discards" },
	[K_ENGINE] = { "engine", KEY_CHOICE, .choices = DISK_ENGINE_CHOICES, .def = "auto",
		       .help = "how the host does the I/O" },
	[K_QUEUES] = { "queues", KEY_NUM, .def = "1", .min = 1, .max = 16, .meta = "N",
		       .help = "request queues" },
	[K_SIZE] = { "queue-size", KEY_NUM, KEY_POWER2, .def = "256", .min = 4, .max = 1024,
		     .meta = "N", .help = "descriptors per queue, a power of two" },
	[K_IOTHREAD] = { "iothread", KEY_BOOL, .def = "off",
			 .help = "serve the disk in a thread of its own" },
	[K_VHOST_USER] = { "vhost-user", KEY_PATH, KEY_INSTEAD, .meta = "SOCKET",
			   .help = "the vhost-user daemon at SOCKET serves the disk, instead of path" },
	[K_RATE] = { "rate", KEY_SIZE, .min = 1, .max = RATE_MAX, .meta = "SIZE",
		     .help = "limit of bytes per second, reads and writes together" },
	[K_BURST] = { "burst", KEY_SIZE, .min = 1, .max = RATE_MAX, .meta = "SIZE",
		      .help = "bytes that may pass at once after a pause" },
	[K_OPS] = { "ops", KEY_NUM, .min = 1, .max = RATE_MAX, .meta = "N",
		    .help = "limit of requests per second" },
	[K_OPS_BURST] = { "ops-burst", KEY_NUM, .min = 1, .max = RATE_MAX, .meta = "N",
			  .help = "requests that may pass at once after a pause" },
	[K_SEED] = { "seed", KEY_PATH, KEY_INSTEAD | KEY_READS, .meta = "DIR",
		     .help = "instead of path: a FAT file system of that folder's files, in memory" },
	[K_LABEL] = { "label", KEY_TEXT, .meta = "TEXT",
		      .help = "with seed: the label, such as CIDATA" },
	[K_CREATE] = { "create", KEY_SIZE, .min = 512, .max = CREATE_MAX, .meta = "SIZE",
		       .help = "create the image at path, of this size, if there is none" },
	[K_FORMAT] = { "format", KEY_CHOICE, .choices = STORE_FORMAT_CHOICES, .def = "auto",
		       .help = "format of the image; auto: by its name: qcow2 for .qcow2 and .qcow, else raw" },
	[K_BLOCK_SIZE] = { "block-size", KEY_CHOICE, .choices = "auto|512|4096", .def = "auto",
			   .help = "bytes of the guest's logical block; auto: as the host's device has it, and to boot from the disk, as its partition table has it" },
	[K_RATE_BUCKET] = { "rate-bucket", KEY_TEXT, KEY_HIDDEN, .meta = "SIZE:MS[:ONCE]",
			    .help = "instead of rate and burst: a bucket (ratelimit_parse)" },
	[K_OPS_BUCKET] = { "ops-bucket", KEY_TEXT, KEY_HIDDEN, .meta = "SIZE:MS[:ONCE]",
			   .help = "instead of ops and ops-burst" },
	[K_RATE_GROUP] = { "rate-group", KEY_TEXT, KEY_HIDDEN, .meta = "NAME",
			   .help = "disks of this group share the first one's limits" },
	[K_BACKING] = { "backing", KEY_BOOL, KEY_HIDDEN, .def = "on",
			.help = "off: an image with a backing file is refused" },
	[K_VMCONFIG] = { "vmconfig", KEY_BOOL, KEY_HIDDEN, .def = "off",
			 .help = "a VmConfig's disk: direct only where possible; its serial number is the file's" },
	{ NULL },
};

/* Either a rate and a burst, or a bucket. */
static int take_rate(const struct keyvals *cfg, unsigned rate, unsigned burst, unsigned bucket,
		     struct ratelimit_rate *out, struct err *err)
{
	*out = ratelimit_per_second(keys_num(cfg, rate), keys_num(cfg, burst));
	if (keys_has(cfg, bucket) && ratelimit_parse(keys_text(cfg, bucket), out))
		return err_set(err, EINVAL, "%s: %s=%s: not a bucket: SIZE:MS:ONCE", cfg->option,
			       cfg->table[bucket].name, keys_text(cfg, bucket));
	return 0;
}

static int take_limits(const struct keyvals *cfg, struct ratelimit_config *out, struct err *err)
{
	int rc = take_rate(cfg, K_RATE, K_BURST, K_RATE_BUCKET, &out->bytes, err);

	return rc ? rc : take_rate(cfg, K_OPS, K_OPS_BURST, K_OPS_BUCKET, &out->ops, err);
}

static int check_limits(const struct keyvals *cfg, struct err *err)
{
	if (keys_has(cfg, K_BURST) && !keys_has(cfg, K_RATE))
		return err_set(err, EINVAL, "%s: burst= needs rate=", cfg->option);
	if (keys_has(cfg, K_OPS_BURST) && !keys_has(cfg, K_OPS))
		return err_set(err, EINVAL, "%s: ops-burst= needs ops=", cfg->option);
	return 0;
}

/* Refuse keys that cannot be combined with vhost-user=. */
static int check(const struct keyvals *cfg, struct err *err)
{
	if (!keys_has(cfg, K_VHOST_USER))
		return 0;
	if (keys_has(cfg, K_PATH) || keys_has(cfg, K_SEED))
		return err_set(err, EINVAL,
			       "%s: give one of path=FILE, seed=DIR and vhost-user=SOCKET",
			       cfg->option);
	if (keys_has(cfg, K_SERIAL) || keys_num(cfg, K_RO) || keys_num(cfg, K_READONLY) ||
	    keys_num(cfg, K_DIRECT) || keys_num(cfg, K_BLOCK_SIZE))
		return err_set(err, EINVAL,
			       "%s: serial, ro, direct and block-size cannot be used with "
			       "vhost-user=: the daemon sets them",
			       cfg->option);
	if (keys_has(cfg, K_RATE) || keys_has(cfg, K_OPS) || keys_has(cfg, K_RATE_BUCKET) ||
	    keys_has(cfg, K_OPS_BUCKET))
		return err_set(err, EINVAL,
			       "%s: rate= and ops= cannot be used with vhost-user=: "
			       "the daemon limits its rate",
			       cfg->option);
	return 0;
}

/* Check where the disk comes from, and the keys that depend on it. */
static int check_source(const struct keyvals *cfg, struct err *err)
{
	bool path = keys_has(cfg, K_PATH), seed = keys_has(cfg, K_SEED);

	if (path + seed + keys_has(cfg, K_VHOST_USER) != 1)
		return err_set(err, EINVAL,
			       "%s: give one of path=FILE, seed=DIR and vhost-user=SOCKET",
			       cfg->option);
	if (keys_has(cfg, K_LABEL) && !seed)
		return err_set(err, EINVAL, "%s: label= goes with seed=", cfg->option);
	if (seed && keys_num(cfg, K_DIRECT))
		return err_set(err, EINVAL, "%s: seed= is in memory: leave direct out",
			       cfg->option);
	if (!path && keys_num(cfg, K_FORMAT) != STORE_AUTO)
		return err_set(err, EINVAL, "%s: format= goes with path=", cfg->option);
	if (seed && keys_num(cfg, K_BLOCK_SIZE))
		return err_set(err, EINVAL, "%s: block-size= goes with path=", cfg->option);
	if (!keys_has(cfg, K_CREATE))
		return 0;
	if (!path)
		return err_set(err, EINVAL, "%s: create= goes with path=", cfg->option);
	if (keys_num(cfg, K_CREATE) % 512)
		return err_set(err, EINVAL, "%s: create=%s: must be a multiple of 512", cfg->option,
			       keys_text(cfg, K_CREATE));
	if (keys_num(cfg, K_RO) || keys_num(cfg, K_READONLY))
		return err_set(err, EINVAL, "%s: create= and ro: the guest could never fill it",
			       cfg->option);
	return 0;
}

/* A serial number that stays while the file does. Cloud Hypervisor and kvmtool make the same. */
static void serial_of_file(const char *path, char serial[BLK_ID_BYTES + 1])
{
	char text[64];
	struct stat st;

	if (!path || stat(path, &st))
		return;
	snprintf(text, sizeof(text), "%llu%llu%llu", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_rdev, (unsigned long long)st.st_ino);
	memcpy(serial, text, strnlen(text, BLK_ID_BYTES));
}

/*
 * The guest's logical block, 0: the host's device decides. A disk that the machine boots from has to
 * have blocks of its table's sectors, or the guest finds no partitions.
 */
static int choose_block(const struct device_env *env, const struct keyvals *cfg, uint32_t *out,
			struct err *err)
{
	static const uint32_t bytes[] = { 0, 512, 4096 }; /* in the order of the choices */

	*out = bytes[keys_num(cfg, K_BLOCK_SIZE)];
	if (!*out || !env->sector_bytes || *out == env->sector_bytes) {
		*out = *out ? *out : env->sector_bytes;
		return 0;
	}
	return err_set(
		err, EINVAL,
		"%s: block-size=%u: the partition table of %s has sectors of %u bytes; leave "
		"block-size out",
		cfg->option, *out, keys_text(cfg, K_PATH), env->sector_bytes);
}

static int open_disk(const struct device_env *env, const struct keyvals *cfg,
		     const struct disk_config *disk_cfg, struct disk **out, struct err *err)
{
	enum store_format format = disk_cfg->format;
	uint64_t size = keys_num(cfg, K_CREATE);
	int rc;

	if (keys_has(cfg, K_SEED))
		return disk_seed_open(disk_cfg, keys_text(cfg, K_SEED), keys_text(cfg, K_LABEL),
				      out, err);
	if (!size)
		return disk_open(disk_cfg, out, err);
	if (format == STORE_AUTO)
		format = store_format_of_name(disk_cfg->path);
	rc = disk_make(disk_cfg->path, format, size, env->dry_run, err);
	if (rc > 0 && env->dry_run)
		return disk_blank_open(disk_cfg, size, out, err);
	rc = rc < 0 ? rc : disk_open(disk_cfg, out, err);
	if (!rc && (*out)->size_bytes != size)
		log_put_for(disk_cfg->path, LOG_INFO,
			    "disk %s: is there already, and keeps its size of %llu bytes",
			    disk_cfg->path, (unsigned long long)(*out)->size_bytes);
	return rc;
}

/* For --dry-run: where the disk's bytes come from, for free(), or NULL. The disk is not open yet. */
static char *source_text(const struct keyvals *cfg, const struct disk_config *disk_cfg)
{
	enum store_format format = disk_cfg->format;
	const char *made = "";
	struct stat st;
	bool exists;
	char *text;
	int rc;

	if (keys_has(cfg, K_SEED)) {
		bool label = keys_has(cfg, K_LABEL);

		rc = asprintf(&text, "FAT in memory of the files in %s%s%s", keys_text(cfg, K_SEED),
			      label ? ", label " : "", label ? keys_text(cfg, K_LABEL) : "");
		return rc < 0 ? NULL : text;
	}
	exists = !stat(disk_cfg->path, &st);
	if (format == STORE_AUTO)
		format = store_format_of_name(disk_cfg->path);
	if (keys_has(cfg, K_CREATE))
		made = exists ? ", there already (create= leaves it)" : ", to be made by create=";
	rc = asprintf(&text, "%s: %s%s%s", disk_cfg->path, store_format_name(format),
		      exists && S_ISBLK(st.st_mode) ? ", a block device" : "", made);
	return rc < 0 ? NULL : text;
}

static int create(const struct device_env *env, const struct keyvals *cfg, struct device **out,
		  struct err *err)
{
	const char *serial = keys_text(cfg, K_SERIAL);
	bool vmconfig = keys_num(cfg, K_VMCONFIG);
	uint64_t size = keys_num(cfg, K_SIZE);
	struct virtio_blk_config blk = {
		.id = keys_text(cfg, K_ID),
		.serial = serial,
		.nqueues = (unsigned)keys_num(cfg, K_QUEUES),
		.queue_size = (uint16_t)size,
		.discard = keys_num(cfg, K_DISCARD),
		.group = keys_text(cfg, K_RATE_GROUP),
	};
	struct disk_config disk_cfg = {
		.path = keys_text(cfg, K_PATH),
		.readonly = keys_num(cfg, K_RO) || keys_num(cfg, K_READONLY),
		.direct = !keys_num(cfg, K_DIRECT) ? STORE_CACHED :
			  vmconfig		   ? STORE_DIRECT_IF_POSSIBLE :
						     STORE_DIRECT,
		.alone = !keys_num(cfg, K_BACKING),
		.for_vmconfig = vmconfig,
		.dry_run = env->dry_run,
		.format = (enum store_format)keys_num(cfg, K_FORMAT),
		.engine = (enum disk_engine)keys_num(cfg, K_ENGINE),
		.loop = env->loop,
	};
	char own_serial[BLK_ID_BYTES + 1] = "", *what = NULL;
	struct disk *disk;
	int rc;

	*out = NULL;
	snprintf(disk_cfg.id, sizeof(disk_cfg.id), "%.*s", THREAD_NAME_BYTES - 1,
		 env->id ? env->id : "");
	if (serial && strlen(serial) > BLK_ID_BYTES)
		return err_set(err, EINVAL, "%s: serial=%s: at most %u characters", cfg->option,
			       serial, BLK_ID_BYTES);
	rc = check(cfg, err);
	if (!rc)
		rc = check_source(cfg, err);
	if (!rc)
		rc = check_limits(cfg, err);
	if (!rc)
		rc = take_limits(cfg, &blk.limit, err);
	if (rc)
		return rc;
	if (keys_has(cfg, K_VHOST_USER)) {
		rc = blk_vhost_user_create(env, cfg->option, keys_text(cfg, K_VHOST_USER),
					   blk.nqueues, blk.queue_size, out, err);
		if (!rc)
			(*out)->type = &virtio_blk_type;
		return rc;
	}
	rc = choose_block(env, cfg, &disk_cfg.block_bytes, err);
	if (!rc && env->dry_run)
		what = source_text(cfg, &disk_cfg);
	if (!rc)
		rc = open_disk(env, cfg, &disk_cfg, &disk, err);
	if (rc) {
		free(what);
		return rc;
	}
	blk.what = what;
	if (!serial && vmconfig) {
		serial_of_file(disk_cfg.path, own_serial);
		blk.serial = own_serial;
	}
	rc = blk_create(env, &blk, disk, out, err);
	free(what);
	return rc;
}

static enum device_memory memory(const struct keyvals *cfg)
{
	return keys_has(cfg, K_VHOST_USER) ? MEMORY_SHARED : MEMORY_ANY;
}

const struct device_type virtio_blk_type = {
	.name = "virtio-blk",
	.option = "--disk",
	.calls = CALLS_DISK,
	.repeat = true,
	.memory = memory,
	.check = check,
	.keys = blk_keys,
	.help = "a disk: raw or qcow2 image, or block device",
	.create = create,
};
