/*
 * qcow2_image/create: makes a new image: header, refcount table, refcount blocks, L1 table.
 *
 * If the file system can do it, the file gets its name when it is complete (O_TMPFILE and a link).
 */
#include "devices/backend/qcow2_image/create.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/backend/qcow2_image/format.h"
#include "devices/backend/qcow2_image/writer.h"

#define DEFAULT_CLUSTER_BYTES 65536u
#define REFCOUNT_BYTES 2u

struct layout {
	uint64_t cluster_bytes;
	unsigned cluster_bits;
	uint64_t l1_entries;
	uint64_t reftable_clusters, blocks, l1_clusters, all;
};

static uint64_t divide_up(uint64_t a, uint64_t b)
{
	return a / b + !!(a % b);
}

static int plan(const struct store_create *c, struct layout *l, struct err *err)
{
	uint64_t bytes = c->cluster_bytes ? c->cluster_bytes : DEFAULT_CLUSTER_BYTES;
	uint64_t per_block = bytes / REFCOUNT_BYTES;

	if (!qcow2_cluster_bytes_ok(bytes))
		return err_set(err, EINVAL,
			       "disk %s: cluster size %llu: must be a power of two from 512 to 2M",
			       c->path, (unsigned long long)bytes);
	if (c->version && c->version != 2 && c->version != 3)
		return err_set(err, EINVAL, "disk %s: qcow2 has the versions 2 and 3", c->path);
	if (c->version == 2 && (c->zstd || c->lazy_refcounts))
		return err_set(err, EINVAL, "disk %s: zstd and lazy refcounts need version 3",
			       c->path);
	if (c->size_bytes % 512)
		return err_set(err, EINVAL, "disk %s: its size must be a multiple of 512", c->path);
	l->cluster_bytes = bytes;
	l->cluster_bits = (unsigned)__builtin_ctzll(bytes);
	l->l1_entries = divide_up(c->size_bytes, bytes * (bytes / 8));
	if (c->size_bytes > INT64_MAX || l->l1_entries > QCOW2_MAX_L1_BYTES / 8)
		return err_set(err, EFBIG, "disk %s: %llu bytes are too many for clusters of %llu",
			       c->path, (unsigned long long)c->size_bytes,
			       (unsigned long long)bytes);
	/* QEMU needs an L1 table even for a disk of no bytes. */
	if (!l->l1_entries)
		l->l1_entries = 1;
	l->l1_clusters = divide_up(l->l1_entries * 8, bytes);
	/* The refcount blocks count the header, the refcount table and themselves, too. */
	l->blocks = l->reftable_clusters = 1;
	for (;;) {
		l->all = 1 + l->reftable_clusters + l->blocks + l->l1_clusters;
		if (l->blocks * per_block < l->all)
			l->blocks = divide_up(l->all, per_block);
		else if (l->reftable_clusters * bytes / 8 < l->blocks)
			l->reftable_clusters = divide_up(l->blocks * 8, bytes);
		else
			return 0;
	}
}

/* --- the first cluster -------------------------------------------------------------- */

static uint8_t *put_extension(uint8_t *at, uint32_t type, const void *data, uint32_t len)
{
	struct qcow2_extension ext = { htobe32(type), htobe32(len) };

	memcpy(at, &ext, sizeof(ext));
	memcpy(at + sizeof(ext), data, len);
	return at + sizeof(ext) + ((len + 7) & ~7u);
}

static void put_header(const struct store_create *c, const struct layout *l, uint8_t *cluster)
{
	bool v3 = c->version != 2;
	struct qcow2_header h = {
		.magic = htobe32(QCOW2_MAGIC),
		.version = htobe32(v3 ? 3 : 2),
		.cluster_bits = htobe32(l->cluster_bits),
		.size = htobe64(c->size_bytes),
		.l1_size = htobe32((uint32_t)l->l1_entries),
		.l1_offset = htobe64((1 + l->reftable_clusters + l->blocks) << l->cluster_bits),
		.reftable_offset = htobe64(l->cluster_bytes),
		.reftable_clusters = htobe32((uint32_t)l->reftable_clusters),
	};
	size_t len = v3 ? sizeof(h) : QCOW2_V2_HEADER_BYTES;
	uint8_t *at = cluster + len;

	if (v3) {
		h.incompatible = htobe64(c->zstd ? QCOW2_INCOMPAT_COMPRESSION : 0);
		h.compatible = htobe64(c->lazy_refcounts ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0);
		h.refcount_order = htobe32(4);
		h.header_len = htobe32(sizeof(h));
		h.compression_type = c->zstd;
	}
	if (c->backing) {
		const char *format = store_format_name(c->backing_format);

		if (c->backing_format != STORE_AUTO)
			at = put_extension(at, QCOW2_EXT_BACKING_FORMAT, format,
					   (uint32_t)strlen(format));
		at = put_extension(at, QCOW2_EXT_END, "", 0);
		memcpy(at, c->backing, strlen(c->backing));
		h.backing_offset = htobe64((uint64_t)(at - cluster));
		h.backing_len = htobe32((uint32_t)strlen(c->backing));
	}
	memcpy(cluster, &h, len);
}

static int check_backing_name(const struct store_create *c, const struct layout *l, struct err *err)
{
	/* Header, two extensions, the name. */
	uint64_t room = l->cluster_bytes - sizeof(struct qcow2_header) - 16 - 8 - 8;

	if (room > QCOW2_MAX_NAME)
		room = QCOW2_MAX_NAME;
	if (!c->backing[0] || strlen(c->backing) > room)
		return err_set(err, EINVAL,
			       "disk %s: the backing file's name must have 1 to %llu bytes",
			       c->path, (unsigned long long)room);
	return 0;
}

/* --- the file ------------------------------------------------------------------------- */

static int write_all(int fd, const void *buf, uint64_t len, uint64_t offset)
{
	const uint8_t *at = buf;

	while (len) {
		ssize_t n = pwrite(fd, at, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		at += n;
		len -= (uint64_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

/* Writes the refcount table and the blocks, each up to its last used entry. */
static int write_refcounts(int fd, const struct layout *l)
{
	uint64_t first = 1 + l->reftable_clusters;
	uint64_t *table = calloc(l->blocks, 8);
	uint16_t *counts = calloc(l->all, REFCOUNT_BYTES);
	int rc = table && counts ? 0 : -ENOMEM;

	for (uint64_t i = 0; !rc && i < l->blocks; i++)
		table[i] = htobe64((first + i) << l->cluster_bits);
	for (uint64_t i = 0; !rc && i < l->all; i++)
		counts[i] = htobe16(1);
	if (!rc)
		rc = write_all(fd, table, l->blocks * 8, l->cluster_bytes);
	/* The blocks are side by side, so one array fills them all. */
	if (!rc)
		rc = write_all(fd, counts, l->all * REFCOUNT_BYTES, first << l->cluster_bits);
	free(table);
	free(counts);
	return rc;
}

static int write_image(int fd, const struct store_create *c, const struct layout *l)
{
	uint8_t *first = calloc(1, l->cluster_bytes);
	int rc = 0;

	if (!first)
		return -ENOMEM;
	put_header(c, l, first);
	if (ftruncate(fd, (off_t)(l->all << l->cluster_bits)))
		rc = -errno;
	if (!rc)
		rc = write_refcounts(fd, l);
	if (!rc)
		rc = write_all(fd, first, l->cluster_bytes, 0);
	free(first);
	return rc;
}

/* Opens a file without a name in path's folder. Returns -1 if this file system cannot do that. */
static int open_nameless(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	int fd = folder ? open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, STORE_NEW_MODE) : -1;

	free(folder);
	return fd;
}

static int give_name(int fd, const char *path)
{
	char self[40];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

static int make_file(const struct store_create *c, const struct layout *l)
{
	int fd, rc;

	if (!access(c->path, F_OK))
		return -EEXIST;
	fd = open_nameless(c->path);
	if (fd >= 0) {
		rc = write_image(fd, c, l);
		if (!rc)
			rc = give_name(fd, c->path);
		close(fd);
		if (!rc || rc == -EEXIST || rc == -ENOSPC)
			return rc;
	}
	fd = open(c->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, STORE_NEW_MODE);
	if (fd < 0)
		return -errno;
	rc = write_image(fd, c, l);
	if (close(fd) && !rc)
		rc = -errno;
	if (rc)
		unlink(c->path);
	return rc;
}

int qcow2_store_create(const struct store_create *create, struct err *err)
{
	struct layout l;
	int rc = plan(create, &l, err);

	if (!rc && create->backing)
		rc = check_backing_name(create, &l, err);
	if (rc)
		return rc;
	rc = make_file(create, &l);
	if (rc == -EEXIST)
		return err_set(err, EEXIST, "disk %s: exists already", create->path);
	return rc ? err_sys(err, -rc, "disk %s: cannot create", create->path) : 0;
}
