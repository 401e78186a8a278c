/*
 * fat: the volume's functions for FAT, over devices/backend/fat/read.h; see volume.h. A node is an inode of
 * ext2 in form: its number is the first cluster; mode and times are those that Linux gives such files.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bantam-fs/volume.h"

static int read_source(void *opaque, uint64_t offset, void *to, size_t len)
{
	struct volume *v = opaque;

	if (offset > v->part.len_bytes || len > v->part.len_bytes - offset)
		return -EIO;
	return store_read(v->store, to, v->part.offset + offset, len);
}

void volume_fat_open(struct store *s, struct volume *v)
{
	const char *why;
	uint32_t serial;
	int rc;

	v->store = s;
	rc = fat_volume_open(read_source, v, v->part.len_bytes, &v->fat, &why);
	if (rc) {
		snprintf(v->why, sizeof(v->why), "%s", why ? why : strerror(-rc));
		return;
	}
	serial = fat_volume_serial(v->fat);
	if (serial)
		snprintf(v->uuid, sizeof(v->uuid), "%04X-%04X", serial >> 16, serial & 0xffff);
	snprintf(v->label, sizeof(v->label), "%s", fat_volume_label(v->fat));
	v->dirty = fat_volume_dirty(v->fat);
}

void volume_fat_root(struct volume *v, struct node *out)
{
	memset(out, 0, sizeof(*out));
	out->ino = fat_volume_root(v->fat);
	out->inode.i_mode = LINUX_S_IFDIR | 0755;
	out->inode.i_links_count = 1;
	/* It has no time of its own. */
	out->inode.i_mtime = 315532800;
}

static void to_node(const struct fat_item *item, struct node *out)
{
	memset(out, 0, sizeof(*out));
	out->ino = item->first;
	out->inode.i_mode = (uint16_t)((item->dir ? LINUX_S_IFDIR | 0755 : LINUX_S_IFREG | 0644) &
				       (item->readonly ? ~0222 : ~0));
	out->inode.i_links_count = 1;
	out->inode.i_size = item->len_bytes;
	out->inode.i_mtime = (uint32_t)item->mtime_s;
}

struct search {
	const char *name;
	size_t len;
	struct node *out;
	bool broken, found;
};

static int match(void *opaque, const struct fat_item *item)
{
	struct search *s = opaque;

	if (!fat_item_is(item, s->name, s->len))
		return 0;
	to_node(item, s->out);
	s->broken = item->broken;
	s->found = true;
	return 1;
}

int volume_fat_lookup(struct volume *v, const struct node *dir, const char *name, size_t len,
		      struct node *out)
{
	struct search s = { name, len, out, false, false };
	int rc = fat_volume_list(v->fat, dir->ino, match, &s);

	if (rc < 0)
		return rc == -ENOMEM ? rc : -EIO;
	return !s.found ? -ENOENT : s.broken ? -EIO : 0;
}

static int add_item(void *opaque, const struct fat_item *item)
{
	struct entries *out = opaque;
	struct entry *e;

	/* Doubled when it is full: at each power of two. */
	if (!(out->n & (out->n - 1))) {
		e = reallocarray(out->e, out->n ? 2 * out->n : 1, sizeof(*e));
		if (!e)
			return -ENOMEM;
		out->e = e;
	}
	e = &out->e[out->n];
	e->name = strdup(item->name);
	if (!e->name)
		return -ENOMEM;
	to_node(item, &e->node);
	e->broken = item->broken;
	out->n++;
	return 0;
}

int volume_fat_list(struct volume *v, const struct node *dir, struct entries *out)
{
	return fat_volume_list(v->fat, dir->ino, add_item, out);
}

int volume_fat_read(struct volume *v, const struct node *node, volume_sink sink, void *opaque)
{
	return fat_volume_read(v->fat, node->ino, node->inode.i_size, sink, opaque);
}

int volume_fat_enter(struct volume *v, const struct node *dir)
{
	uint32_t at = dir->ino / 8;
	uint8_t bit = (uint8_t)(1u << dir->ino % 8);

	/* The system gives memory only to the pages that are touched. */
	if (!v->fat_entered)
		v->fat_entered = calloc(1, fat_volume_end(v->fat) / 8 + 1u);
	if (!v->fat_entered)
		return -ENOMEM;
	if (v->fat_entered[at] & bit)
		return -ELOOP;
	v->fat_entered[at] |= bit;
	return 0;
}
