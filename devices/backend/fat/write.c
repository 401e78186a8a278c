/*
 * fat/write: the bytes of a FAT file system that has been laid out. See fat.h.
 *
 * Data comes first, then folders, then the FATs, and the boot sector last, because the serial
 * number in it is a checksum of what was written. Blocks of zeroes are neither written nor summed,
 * so that a sparse source and its full copy give the same bytes.
 */
#include "devices/backend/fat/fat_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "vmm/core/bytes.h"
#include "vmm/core/fd_stat.h"

#define BLOCK_BYTES 4096u
#define BUFFER_BYTES (256u * 1024u)
#define ATTR_LABEL 0x08
#define ATTR_DIR 0x10
#define ATTR_ARCHIVE 0x20
#define ATTR_LONG 0x0f
#define LAST_LONG 0x40
#define MEDIA 0xf8
#define BACKUP_SECTOR 6u
#define PRINT_BYTES 240u

struct writer {
	const struct fat *fat;
	int fd;
	const char *where;
	struct err *err;
	uint32_t sum;
	uint8_t *buf;	     /* BUFFER_BYTES */
	uint64_t done_bytes; /* of the files, with their holes */
	/* FAT entries that are packed but not yet written */
	size_t fill;
	uint64_t fat_at;
	uint64_t bits;
	unsigned nbits;
};

static void mix(struct writer *w, const void *data, size_t len)
{
	w->sum = (uint32_t)crc32(w->sum, data, (uInt)len);
}

static int put(struct writer *w, const void *data, size_t len, uint64_t offset)
{
	while (len) {
		ssize_t n = pwrite(w->fd, data, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_sys(w->err, n ? errno : ENOSPC, "%s", w->where);
		data = (const uint8_t *)data + n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

static uint64_t cluster_offset(const struct fat *fat, uint32_t cluster)
{
	return (fat->geo.data_start + (uint64_t)(cluster - 2) * fat->geo.cluster_sectors) *
	       FAT_SECTOR;
}

/* --- files --------------------------------------------------------------------- */

static bool all_zero(const uint8_t *p, size_t len)
{
	return !p[0] && !memcmp(p, p + 1, len - 1);
}

/*
 * Write a part of a file that begins at a multiple of BLOCK_BYTES. *end: the end of the last
 * non-zero block. A gap changes the checksum because each block is summed with its offset.
 */
static int put_data(struct writer *w, const uint8_t *p, size_t len, uint64_t at, uint64_t base,
		    uint64_t *end)
{
	size_t from = 0, done = 0;
	int rc = 0;

	while (done < len && !rc) {
		size_t n = len - done < BLOCK_BYTES ? len - done : BLOCK_BYTES;

		if (all_zero(p + done, n)) {
			rc = put(w, p + from, done - from, base + at + from);
			from = done + n;
		} else {
			uint64_t gap[1] = { at + done };

			if (*end != at + done)
				mix(w, gap, sizeof(gap));
			mix(w, p + done, n);
			*end = at + done + n;
		}
		done += n;
	}
	return rc ? rc : put(w, p + from, len - from, base + at + from);
}

static int stale(struct writer *w, const struct fat_node *node)
{
	char buf[PRINT_BYTES];

	return err_set(w->err, ESTALE, "%s: changed while it was being read; try again",
		       fat_name_print(node->path, buf, sizeof(buf)));
}

static int source_error(struct writer *w, const struct fat_node *node, int code)
{
	char buf[PRINT_BYTES];

	fat_name_print(node->path, buf, sizeof(buf));
	if (code == ENOENT || code == ELOOP || code == ENOTDIR)
		return err_set(w->err, code, "%s: vanished while the image was being made", buf);
	return err_sys(w->err, code, "%s", buf);
}

static bool same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static void tell(const struct writer *w, uint64_t done_bytes)
{
	if (w->fat->options.progress)
		w->fat->options.progress(w->fat->options.opaque, done_bytes);
}

static int copy_range(struct writer *w, const struct fat_node *node, int fd, uint64_t at,
		      uint64_t stop, uint64_t *end)
{
	uint64_t base = cluster_offset(w->fat, node->cluster);

	while (at < stop) {
		size_t want = stop - at < BUFFER_BYTES ? (size_t)(stop - at) : BUFFER_BYTES;
		size_t got = 0;
		int rc;

		while (got < want) {
			ssize_t n = pread(fd, w->buf + got, want - got, (off_t)(at + got));

			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
				return source_error(w, node, errno);
			if (!n)
				return stale(w, node);
			got += (size_t)n;
		}
		rc = put_data(w, w->buf, want, at, base, end);
		if (rc)
			return rc;
		at += want;
		tell(w, w->done_bytes + at);
	}
	return 0;
}

/* Opens the file that was added, and no other that has its name by now. */
static int open_source(struct writer *w, const struct fat_node *node, int *fd)
{
	struct fat_source found = { .fd = -1 };
	const struct fat_source *source = node->source.fd >= 0 ? &node->source : &found;
	int rc = source == &found ? fat_source_find(w->fat, node, &found) : 0;
	struct stat st;

	if (!rc && !same(&source->st, &node->was))
		rc = -ESTALE;
	if (!rc) {
		*fd = fat_source_read_plain(source);
		rc = *fd < 0 ? *fd : 0;
	}
	if (!rc && (fd_stat(*fd, &st) || !same(&st, &node->was)))
		rc = -ESTALE;
	fat_source_close(&found);
	if (!rc)
		return 0;
	return rc == -ESTALE || found.foreign ? stale(w, node) : source_error(w, node, -rc);
}

static int copy_file(struct writer *w, const struct fat_node *node)
{
	uint64_t at = 0, end = 0;
	struct stat st;
	int fd = -1, rc = open_source(w, node, &fd);

	while (!rc && at < node->len_bytes) {
		/* A file system without holes reports the whole file as data. */
		off_t data = lseek(fd, (off_t)at, SEEK_DATA), hole;
		uint64_t stop = node->len_bytes;

		if (data < 0 && errno == ENXIO)
			break;
		if (data > 0)
			at = (uint64_t)data & ~(uint64_t)(BLOCK_BYTES - 1);
		hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
		if (hole > 0 && (uint64_t)hole < stop)
			stop = ((uint64_t)hole + BLOCK_BYTES - 1) & ~(uint64_t)(BLOCK_BYTES - 1);
		if (stop > node->len_bytes)
			stop = node->len_bytes;
		rc = copy_range(w, node, fd, at, stop, &end);
		at = stop;
	}
	if (!rc && (fd_stat(fd, &st) || !same(&st, &node->was)))
		rc = stale(w, node);
	if (fd >= 0)
		close(fd);
	return rc;
}

static int put_file(struct writer *w, const struct fat_node *node)
{
	uint64_t end = 0;

	if (node->path)
		return copy_file(w, node);
	return put_data(w, node->data, node->len_bytes, 0, cluster_offset(w->fat, node->cluster),
			&end);
}

/* --- folders ------------------------------------------------------------------- */

/*
 * Section "Date and Time Formats". In UTC, so that the bytes do not depend on the host's time zone.
 */
static void put_times(uint8_t *entry, int64_t unix_s)
{
	time_t t = (time_t)(unix_s < FAT_EPOCH_S ? FAT_EPOCH_S :
			    unix_s > FAT_LAST_S	 ? FAT_LAST_S :
						   unix_s);
	unsigned date, clock;
	struct tm tm;

	gmtime_r(&t, &tm);
	date = (unsigned)((tm.tm_year - 80) << 9 | (tm.tm_mon + 1) << 5 | tm.tm_mday);
	clock = (unsigned)(tm.tm_hour << 11 | tm.tm_min << 5 | tm.tm_sec / 2);
	entry[13] = (uint8_t)(tm.tm_sec % 2 * 100);
	put_le16(entry + 14, clock);
	put_le16(entry + 16, date);
	put_le16(entry + 18, date);
	put_le16(entry + 22, clock);
	put_le16(entry + 24, date);
}

static uint8_t *put_entry(uint8_t *at, const uint8_t *name, uint8_t attr, int64_t mtime_s,
			  uint32_t cluster, uint32_t len_bytes)
{
	memcpy(at, name, FAT_ALIAS);
	at[11] = attr;
	put_times(at, mtime_s);
	put_le16(at + 20, cluster >> 16);
	put_le16(at + 26, cluster);
	put_le32(at + 28, len_bytes);
	return at + FAT_ENTRY_BYTES;
}

/* Write the long name in pieces of 13 units, the last piece first. */
static uint8_t *put_long(uint8_t *at, const struct fat_node *node)
{
	static const uint8_t places[FAT_UNITS_PER_ENTRY] = { 1,	 3,  5,	 7,  9,	 14, 16,
							     18, 20, 22, 24, 28, 30 };
	unsigned pieces = (node->nwide + FAT_UNITS_PER_ENTRY - 1) / FAT_UNITS_PER_ENTRY;
	uint8_t sum = fat_alias_sum(node->alias);
	uint16_t wide[FAT_NAME_MAX];
	const char *why;

	fat_name_wide(node->name, wide, &why);
	for (unsigned piece = pieces; piece; piece--, at += FAT_ENTRY_BYTES) {
		at[0] = (uint8_t)(piece | (piece == pieces ? LAST_LONG : 0));
		at[11] = ATTR_LONG;
		at[13] = sum;
		for (unsigned i = 0; i < FAT_UNITS_PER_ENTRY; i++) {
			unsigned n = (piece - 1) * FAT_UNITS_PER_ENTRY + i;

			put_le16(at + places[i], n < node->nwide  ? wide[n] :
						 n == node->nwide ? 0 :
								    0xffff);
		}
	}
	return at;
}

static void pad_name(uint8_t *to, const char *name)
{
	memset(to, ' ', FAT_ALIAS);
	memcpy(to, name, strlen(name));
}

static int put_folder(struct writer *w, const struct fat_node *dir)
{
	const struct fat *fat = w->fat;
	size_t len = (size_t)dir->nentries * FAT_ENTRY_BYTES;
	uint8_t *buf = calloc(1, len + FAT_ENTRY_BYTES), *at = buf, name[FAT_ALIAS];
	uint64_t offset;
	int rc;

	if (!buf)
		return err_sys(w->err, ENOMEM, "%s", w->where);
	if (dir != fat->root) {
		pad_name(name, ".");
		at = put_entry(at, name, ATTR_DIR, dir->mtime_s, dir->cluster, 0);
		pad_name(name, "..");
		/* 0 means the root, wherever it is. */
		at = put_entry(at, name, ATTR_DIR, dir->parent->mtime_s,
			       dir->parent == fat->root ? 0 : dir->parent->cluster, 0);
	} else if (fat->label[0]) {
		pad_name(name, fat->label);
		at = put_entry(at, name, ATTR_LABEL, FAT_EPOCH_S, 0, 0);
	}
	for (size_t i = 0; i < dir->nchild; i++) {
		const struct fat_node *node = dir->child[i];

		if (node->has_long)
			at = put_long(at, node);
		at = put_entry(at, node->alias, node->dir ? ATTR_DIR : ATTR_ARCHIVE, node->mtime_s,
			       node->cluster, node->dir ? 0 : (uint32_t)node->len_bytes);
	}
	BUG_ON(at != buf + len);
	offset = dir->cluster ?
			 cluster_offset(fat, dir->cluster) :
			 (uint64_t)(fat->geo.data_start - fat->geo.root_entries / 16) * FAT_SECTOR;
	mix(w, buf, len);
	rc = put(w, buf, len, offset);
	free(buf);
	return rc;
}

/* --- the FAT ------------------------------------------------------------------- */

static int flush_fat(struct writer *w)
{
	const struct fat_geometry *geo = &w->fat->geo;
	uint64_t offset = (uint64_t)geo->reserved * FAT_SECTOR + w->fat_at;
	int rc = put(w, w->buf, w->fill, offset);

	if (!rc)
		rc = put(w, w->buf, w->fill, offset + (uint64_t)geo->fat_sectors * FAT_SECTOR);
	w->fat_at += w->fill;
	w->fill = 0;
	return rc;
}

static int put_link(struct writer *w, uint32_t value)
{
	int rc = 0;

	w->bits |= (uint64_t)value << w->nbits;
	w->nbits += w->fat->geo.bits;
	while (w->nbits >= 8 && !rc) {
		w->buf[w->fill++] = (uint8_t)w->bits;
		w->bits >>= 8;
		w->nbits -= 8;
		if (w->fill == BUFFER_BYTES)
			rc = flush_fat(w);
	}
	return rc;
}

static int put_fats(struct writer *w)
{
	const struct fat *fat = w->fat;
	uint32_t end = fat->geo.bits == 12 ? 0xfff : fat->geo.bits == 16 ? 0xffff : 0x0fffffff;
	int rc = put_link(w, (end & ~0xffu) | MEDIA);

	if (!rc)
		rc = put_link(w, end);
	for (size_t i = 0; i < fat->norder; i++) {
		const struct fat_node *node = fat->order[i];

		for (uint32_t c = 1; !rc && c < node->nclusters; c++)
			rc = put_link(w, node->cluster + c);
		if (!rc)
			rc = put_link(w, end);
	}
	if (!rc && w->nbits) {
		w->buf[w->fill++] = (uint8_t)w->bits;
		w->nbits = 0;
	}
	return rc ? rc : flush_fat(w);
}

/* --- the boot sector ----------------------------------------------------------- */

static void fill_boot(const struct writer *w, uint8_t *b)
{
	const struct fat *fat = w->fat;
	const struct fat_geometry *geo = &fat->geo;
	/* With FAT32 the tail of the parameter block is at another offset. */
	uint8_t *tail = b + (geo->bits == 32 ? 64 : 36);

	memset(b, 0, FAT_SECTOR);
	b[0] = 0xeb;
	b[1] = (uint8_t)(tail + 26 - b - 2);
	b[2] = 0x90;
	memcpy(b + 3, "bantam  ", 8);
	put_le16(b + 11, FAT_SECTOR);
	b[13] = (uint8_t)geo->cluster_sectors;
	put_le16(b + 14, geo->reserved);
	b[16] = 2;
	put_le16(b + 17, geo->root_entries);
	if (geo->sectors < 0x10000 && geo->bits != 32)
		put_le16(b + 19, (uint32_t)geo->sectors);
	else
		put_le32(b + 32, (uint32_t)geo->sectors);
	b[21] = MEDIA;
	put_le16(b + 24, 32); /* sectors of a track */
	put_le16(b + 26, 64); /* heads */
	if (geo->bits == 32) {
		put_le32(b + 36, geo->fat_sectors);
		put_le32(b + 44, fat->root->cluster);
		put_le16(b + 48, 1); /* FSInfo */
		put_le16(b + 50, BACKUP_SECTOR);
	} else {
		put_le16(b + 22, geo->fat_sectors);
	}
	tail[0] = 0x80;
	tail[2] = 0x29;
	put_le32(tail + 3, w->sum ? w->sum : 1);
	pad_name(tail + 7, fat->label[0] ? fat->label : "NO NAME");
	memcpy(tail + 18,
	       geo->bits == 12 ? "FAT12   " :
	       geo->bits == 16 ? "FAT16   " :
				 "FAT32   ",
	       8);
	/* Not bootable: halt for ever. */
	memcpy(tail + 26, "\xfa\xf4\xeb\xfd", 4);
	put_le16(b + 510, 0xaa55);
}

static int put_boot(struct writer *w)
{
	const struct fat *fat = w->fat;
	uint8_t sector[2][FAT_SECTOR] = { { 0 } };
	int rc;

	mix(w, fat->label, strlen(fat->label));
	fill_boot(w, sector[0]);
	if (fat->geo.bits != 32)
		return put(w, sector, FAT_SECTOR, 0);
	/* Section "FSInfo": the free clusters, and where a search for one begins. */
	put_le32(sector[1], 0x41615252);
	put_le32(sector[1] + 484, 0x61417272);
	put_le32(sector[1] + 488, fat->geo.clusters - fat->used);
	put_le32(sector[1] + 492, 1 + fat->used);
	put_le32(sector[1] + 508, 0xaa550000);
	rc = put(w, sector, sizeof(sector), 0);
	return rc ? rc : put(w, sector, sizeof(sector), BACKUP_SECTOR * FAT_SECTOR);
}

int fat_write(struct fat *fat, int fd, const char *where, struct err *err)
{
	struct writer w = { .fat = fat, .fd = fd, .where = where, .err = err };
	int rc = 0;

	if (ftruncate(fd, (off_t)(fat->geo.sectors * FAT_SECTOR)))
		return err_sys(err, errno, "%s", where);
	w.buf = malloc(BUFFER_BYTES);
	if (!w.buf)
		return err_sys(err, ENOMEM, "%s", where);
	for (size_t i = 0; !rc && i < fat->norder; i++)
		if (!fat->order[i]->dir) {
			rc = put_file(&w, fat->order[i]);
			w.done_bytes += fat->order[i]->len_bytes;
			tell(&w, w.done_bytes);
		}
	if (!rc && fat->geo.bits != 32)
		rc = put_folder(&w, fat->root);
	for (size_t i = 0; !rc && i < fat->norder; i++)
		if (fat->order[i]->dir)
			rc = put_folder(&w, fat->order[i]);
	if (!rc)
		rc = put_fats(&w);
	if (!rc)
		rc = put_boot(&w);
	free(w.buf);
	return rc;
}
