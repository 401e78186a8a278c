/*
 * disk/new: disks that bantam makes itself: a folder's files in memory (--disk seed=), and an image
 * at its first start (--disk create=). They then work as disk.h describes.
 */
#include "devices/backend/disk/disk_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/fat/fat.h"
#include "vmm/core/new_file.h"
#include "vmm/core/parse.h"

/* Open a raw disk on fd, a memory file. disk_raw opens its own descriptor. */
static int open_memory(const struct disk_config *cfg, int fd, bool readonly, struct disk **out,
		       struct err *err)
{
	struct disk_config raw = { .readonly = readonly,
				   .engine = cfg->engine,
				   .loop = cfg->loop,
				   .block_bytes = cfg->block_bytes };
	char path[64];
	int rc;

	memcpy(raw.id, cfg->id, sizeof(raw.id));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	raw.path = path;
	rc = disk_raw_open(&raw, out, err);
	if (!rc)
		(*out)->in_memory = true;
	return rc;
}

static int write_seed(struct fat *fat, const char *dir, int *fd, struct err *err)
{
	struct fat_info info;
	char size[32];
	int rc;

	fat_get_info(fat, &info);
	if (info.data_bytes > DISK_SEED_MAX_BYTES)
		return err_set(err, EFBIG,
			       "disk seed=%s: %s are too much for memory; make a file of it: "
			       "bantam seed fat",
			       dir, parse_size_text(info.data_bytes, size, sizeof(size)));
	*fd = memfd_create("seed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (*fd < 0)
		return err_sys(err, errno, "disk seed=%s", dir);
	rc = fat_write(fat, *fd, "memory", err);
	if (!rc &&
	    fcntl(*fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL))
		rc = err_sys(err, errno, "disk seed=%s", dir);
	return rc;
}

int disk_seed_open(const struct disk_config *cfg, const char *dir, const char *label,
		   struct disk **out, struct err *err)
{
	struct fat_options options = { .label = label, .times = FAT_TIMES_KEPT };
	struct err why = { "" };
	struct fat *fat = NULL;
	int fd = -1;
	int rc = fat_latest(FAT_LAST_S, &options.latest_s, &why);

	*out = NULL;
	if (!rc)
		rc = fat_create(&options, &fat, &why);
	if (!rc)
		rc = fat_add_tree(fat, NULL, dir, &why);
	if (!rc)
		rc = fat_layout(fat, &why);
	if (!rc)
		rc = write_seed(fat, dir, &fd, &why);
	if (!rc)
		rc = open_memory(cfg, fd, true, out, &why);
	if (rc)
		err_set(err, -rc, "--disk seed: %s", why.text);
	if (fd >= 0)
		close(fd);
	fat_destroy(fat);
	return rc;
}

int disk_blank_open(const struct disk_config *cfg, uint64_t size_bytes, struct disk **out,
		    struct err *err)
{
	int fd = memfd_create("blank", MFD_CLOEXEC);
	int rc;

	*out = NULL;
	if (fd < 0 || ftruncate(fd, (off_t)size_bytes))
		rc = err_sys(err, errno, "disk %s", cfg->path);
	else
		rc = open_memory(cfg, fd, false, out, err);
	if (fd >= 0)
		close(fd);
	return rc;
}

/* Sync the file before it has its name, so that no power failure leaves half a file there. */
static int settle(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc;

	if (fd < 0)
		return -errno;
	rc = fsync(fd) ? -errno : 0;
	close(fd);
	return rc;
}

/* Returns 1 if path can be created, else -errno. */
static int look(const char *path, struct err *err)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash ? strndup(path, (size_t)(slash + 1 - path)) : strdup(".");
	int rc;

	if (!dir)
		return err_sys(err, ENOMEM, "disk %s", path);
	rc = access(dir, W_OK | X_OK) ? err_sys(err, errno, "disk %s: cannot create", path) : 1;
	free(dir);
	return rc;
}

/* Replace the temporary name in the message by path, the name that the user knows. */
static void say_path(struct err *err, const char *temp, const char *path)
{
	struct err said = *err;
	char *at = strstr(said.text, temp);

	if (!at)
		return;
	*at = 0;
	err_set(err, EIO, "%s%.200s%s", said.text, path, at + strlen(temp));
}

int disk_make(const char *path, enum store_format format, uint64_t size_bytes, bool dry_run,
	      struct err *err)
{
	struct store_create create = { .format = format, .size_bytes = size_bytes };
	struct stat st;
	char *temp;
	int rc;

	if (!stat(path, &st))
		return 0;
	if (errno != ENOENT)
		return err_sys(err, errno, "disk %s", path);
	if (dry_run)
		return look(path, err);
	temp = new_file_temp(path);
	if (!temp)
		return err_sys(err, ENOMEM, "disk %s", path);
	create.path = temp;
	rc = store_create(&create, err);
	if (rc)
		say_path(err, temp, path);
	if (!rc) {
		rc = settle(temp);
		if (!rc)
			rc = new_file_publish(temp, path, false);
		if (rc)
			unlink(temp);
		else
			new_file_sync_name(path);
		/* Another VM was faster: the image belongs to that VM, and our lock will fail. */
		if (rc == -EEXIST) {
			free(temp);
			return 0;
		}
		if (rc)
			err_sys(err, -rc, "disk %s: cannot create", path);
	}
	free(temp);
	return rc ? rc : 1;
}
