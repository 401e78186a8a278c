/* store/image_file: see image_file.h. */
#include "devices/backend/store/image_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "devices/backend/store/file_lock.h"
#include "vmm/core/fd_stat.h"
#include "vmm/core/log.h"

/*
 * After a VM was killed, its io_uring holds the file, with its locks, until the kernel has cleaned
 * up. So a busy file is tried again for a while.
 */
#define BUSY_TRIES 10u
static const struct timespec busy_pause = { .tv_nsec = 20000000 };

struct request {
	const char *path;
	const char *via; /* what is opened */
	bool readonly, direct;
};

/* Of store_image_keep. */
static struct {
	const char *path; /* NULL: none */
	int fd;
} kept;

void store_image_keep(struct store_image *image, const char *path)
{
	store_file_unlock(image->fd);
	kept.path = path;
	kept.fd = image->fd;
	image->fd = -1;
	store_image_close(image);
}

static bool is_kept(const struct request *cfg)
{
	return kept.path && !cfg->readonly && !strcmp(kept.path, cfg->via);
}

int store_image_size(const struct store_image *image, uint64_t *size_bytes)
{
	struct stat st;

	if (image->is_block)
		return ioctl(image->fd, BLKGETSIZE64, size_bytes) ? -errno : 0;
	if (fd_stat(image->fd, &st))
		return -errno;
	*size_bytes = (uint64_t)st.st_size;
	return 0;
}

static int open_error(const struct request *cfg, int code, struct err *err)
{
	if (code == EACCES || code == EROFS || code == EPERM)
		return err_sys(err, code, "disk %s: cannot open for %s%s", cfg->path,
			       cfg->readonly ? "reading" : "writing",
			       cfg->readonly ? "" : " (add ro if the guest only reads)");
	if (code == EISDIR)
		return err_set(err, code, "disk %s: is a directory, not an image", cfg->path);
	if (code == EINVAL && cfg->direct)
		return err_set(err, code,
			       "disk %s: this file system cannot do O_DIRECT; remove direct",
			       cfg->path);
	if (code == EBUSY)
		return err_set(err, code,
			       "disk %s: the block device is mounted or in use; "
			       "unmount it or add ro",
			       cfg->path);
	return err_sys(err, code, "disk %s", cfg->path);
}

/*
 * O_NONBLOCK, so that a FIFO does not block open; a file must not keep the flag (io_uring honours
 * it).
 */
static int open_file(struct store_image *image, const struct request *cfg, struct err *err)
{
	struct stat st;
	int flags = (cfg->readonly ? O_RDONLY : O_RDWR) | (cfg->direct ? O_DIRECT : 0);

	image->fd = is_kept(cfg) ? fcntl(kept.fd, F_DUPFD_CLOEXEC, 0) :
				   open(cfg->via, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (image->fd < 0 || fd_stat(image->fd, &st))
		return open_error(cfg, errno, err);
	if (S_ISDIR(st.st_mode))
		return open_error(cfg, EISDIR, err);
	image->is_block = S_ISBLK(st.st_mode);
	if (!S_ISREG(st.st_mode) && !image->is_block)
		return err_set(err, EINVAL, "disk %s: neither a file nor a block device",
			       cfg->path);
	if (image->is_block && !cfg->readonly && !is_kept(cfg)) {
		/* O_EXCL: refused while the host has it mounted. */
		close(image->fd);
		image->fd = open(cfg->via, flags | O_EXCL | O_CLOEXEC);
		for (unsigned i = 0; image->fd < 0 && errno == EBUSY && i < BUSY_TRIES; i++) {
			nanosleep(&busy_pause, NULL);
			image->fd = open(cfg->via, flags | O_EXCL | O_CLOEXEC);
		}
		if (image->fd < 0)
			return open_error(cfg, errno, err);
	} else if (fcntl(image->fd, F_SETFL, flags) < 0) {
		return open_error(cfg, errno, err);
	}
	return 0;
}

/* A lock in the way: says whose. A process that may only read the image can set one, too. */
static int busy(const struct store_image *image, const struct request *cfg, struct err *err)
{
	static const char share[] = "only a disk that is ro everywhere can be shared";
	char holder[80];
	pid_t pid = store_file_lock_holder(image->fd, !cfg->readonly, holder, sizeof(holder));

	if (pid == getpid() && !cfg->readonly)
		return err_set(err, EBUSY, "disk %s: it is open twice in this VM; %s", cfg->path,
			       share);
	if (pid == getpid())
		return err_set(err, EBUSY, "disk %s: it is open for writing in this VM, too; %s",
			       cfg->path, share);
	if (!pid)
		snprintf(holder, sizeof(holder), "a process that this user cannot see");
	return err_set(err, EBUSY,
		       "disk %s: it is open%s in another VM or program: %s has locked it; %s",
		       cfg->path, cfg->readonly ? " for writing" : "", holder, share);
}

static int lock_file(struct store_image *image, const struct request *cfg, struct err *err)
{
	int rc = store_file_lock(image->fd, !cfg->readonly);

	for (unsigned i = 0; rc == -EAGAIN && i < BUSY_TRIES; i++) {
		/* Of two processes that wait for each other one must unlock. */
		store_file_unlock(image->fd);
		nanosleep(&busy_pause, NULL);
		rc = store_file_lock(image->fd, !cfg->readonly);
	}
	if (rc == -EAGAIN)
		return busy(image, cfg, err);
	if (rc)
		log_put_for(cfg->path, LOG_WARN,
			    "disk %s: this file system has no locks (%s); nothing stops "
			    "a second VM from writing to it",
			    cfg->path, strerror(-rc));
	return 0;
}

/* Learn the alignment that O_DIRECT needs, and open a descriptor for requests without it. */
static int open_cached(struct store_image *image, const struct request *cfg, struct err *err)
{
	int flags = (cfg->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC;
	struct statx sx;

	image->mem_align = image->offset_align = 512;
	if (!statx(image->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) &&
	    sx.stx_mask & STATX_DIOALIGN && sx.stx_dio_offset_align) {
		image->mem_align = sx.stx_dio_mem_align;
		image->offset_align = sx.stx_dio_offset_align;
	}
	image->cached_fd = open(cfg->via, flags);
	if (image->cached_fd < 0)
		return open_error(cfg, errno, err);
	return 0;
}

static int probe(struct store_image *image, const struct request *cfg, struct err *err)
{
	int logical = 512;
	unsigned physical = 4096;
	int rc = store_image_size(image, &image->size_bytes);

	if (!rc && image->is_block &&
	    (ioctl(image->fd, BLKSSZGET, &logical) || ioctl(image->fd, BLKPBSZGET, &physical)))
		rc = -errno;
	if (rc)
		return err_sys(err, -rc, "disk %s", cfg->path);
	image->block_bytes = (uint32_t)logical;
	image->physical_bytes = physical;
	return 0;
}

int store_image_open(struct store_image *image, const char *path, const char *via, bool readonly,
		     enum store_direct direct, struct err *err)
{
	struct request cfg = { path, via ? via : path, readonly, direct != STORE_CACHED };
	int rc;

	memset(image, 0, sizeof(*image));
	image->fd = image->cached_fd = -1;
	image->mem_align = image->offset_align = 1;
	rc = open_file(image, &cfg, err);
	if (rc == -EINVAL && image->fd < 0 && direct == STORE_DIRECT_IF_POSSIBLE) {
		log_put_for(
			path, LOG_WARN,
			"disk %s: this file system cannot do O_DIRECT; the host's page cache is used",
			path);
		cfg.direct = false;
		rc = open_file(image, &cfg, err);
	}
	if (!rc)
		rc = lock_file(image, &cfg, err);
	if (!rc)
		rc = probe(image, &cfg, err);
	if (!rc && cfg.direct)
		rc = open_cached(image, &cfg, err);
	if (rc)
		store_image_close(image);
	return rc;
}

void store_image_close(struct store_image *image)
{
	if (image->fd >= 0) {
		store_file_unlock(image->fd);
		close(image->fd);
	}
	if (image->cached_fd >= 0)
		close(image->cached_fd);
	image->fd = image->cached_fd = -1;
}
