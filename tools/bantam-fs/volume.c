/* volume: finds file systems, paths and directories; see volume.h. read.c reads contents. */
#include "tools/bantam-fs/volume.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 256u
#define LINKS_MAX 40u

/* --- file systems --------------------------------------------------------------------------- */

static void uuid_text(const uint8_t u[16], char text[37])
{
	static const uint8_t none[16];

	*text = 0;
	if (!memcmp(u, none, 16))
		return;
	snprintf(text, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		 u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12],
		 u[13], u[14], u[15]);
}

static void open_volume(struct store *s, struct volume *v)
{
	errcode_t code;

	ext_io_next(s, v->part.offset, v->part.len_bytes);
	code = ext2fs_open2("image", NULL, EXT2_FLAG_64BITS | EXT2_FLAG_SKIP_MMP, 0, 0,
			    &ext_io_manager, &v->fs);
	if (code) {
		v->fs = NULL;
		snprintf(v->why, sizeof(v->why), "%s", error_message(code));
		return;
	}
	uuid_text(v->fs->super->s_uuid, v->uuid);
	snprintf(v->label, sizeof(v->label), "%.16s", (const char *)v->fs->super->s_volume_name);
	v->dirty = ext2fs_has_feature_journal_needs_recovery(v->fs->super);
}

int volumes_open(struct store *s, struct volumes *out, struct err *err)
{
	struct store_partitions *parts = calloc(1, sizeof(*parts));
	int rc;

	memset(out, 0, sizeof(*out));
	if (!parts)
		return err_sys(err, ENOMEM, "partitions");
	initialize_ext2_error_table();
	rc = store_partitions_read(s, parts, err);
	out->table = parts->table;
	out->beyond = parts->beyond;
	out->sector_bytes = parts->sector_bytes;
	for (unsigned i = 0; !rc && i < parts->n; i++) {
		struct volume *v = &out->v[out->n++];

		v->part = parts->part[i];
		v->content = store_partitions_content(s, v->part.offset, v->part.len_bytes);
		if (v->content && !strcmp(v->content, "ext4"))
			open_volume(s, v);
		else if (v->content && !strcmp(v->content, "vfat"))
			volume_fat_open(s, v);
	}
	free(parts);
	return rc;
}

const char *volumes_text(const struct volumes *all, char *text, size_t len)
{
	size_t at = 0;

	snprintf(text, len, "it is empty");
	for (unsigned i = 0; i < all->n && at < len; i++) {
		const struct volume *v = &all->v[i];

		if (v->part.number)
			at += (size_t)snprintf(text + at, len - at, "%spartition %u: %s%s%s",
					       i ? ", " : "", v->part.number,
					       v->content ? v->content : "nothing known",
					       *v->why ? ", " : "", v->why);
		else
			at += (size_t)snprintf(text + at, len - at, "the whole disk: %s%s%s",
					       v->content ? v->content : "nothing known",
					       *v->why ? ", " : "", v->why);
	}
	return text;
}

static bool looks_like_root(struct volume *v)
{
	return volume_has(v, "/etc") && (volume_has(v, "/usr") || volume_has(v, "/sbin"));
}

static int choose_number(struct volumes *all, unsigned number, struct volume **out, struct err *err)
{
	char text[300];

	for (unsigned i = 0; i < all->n; i++) {
		struct volume *v = &all->v[i];

		if (v->part.number != number)
			continue;
		*out = v;
		if (v->fs || v->fat)
			return 0;
		return err_set(
			err, EINVAL,
			"partition %u holds %s%s%s; only ext2, ext3, ext4 and FAT can be read",
			number, v->content ? v->content : "no known file system",
			*v->why ? ": " : "", v->why);
	}
	return err_set(err, ENOENT, "there is no partition %u (%s)", number,
		       volumes_text(all, text, sizeof(text)));
}

int volumes_choose(struct volumes *all, int number, struct volume **out, struct err *err)
{
	struct volume *only = NULL, *root = NULL, *fat = NULL;
	unsigned n = 0, nroots = 0, nfats = 0;
	char text[300];

	*out = NULL;
	if (number >= 0)
		return choose_number(all, (unsigned)number, out, err);
	for (unsigned i = 0; i < all->n; i++) {
		struct volume *v = &all->v[i];

		if (v->fat) {
			fat = v;
			nfats++;
		}
		if (!v->fs)
			continue;
		only = v;
		n++;
		if (looks_like_root(v)) {
			root = v;
			nroots++;
		}
	}
	if (!n && nfats == 1) {
		*out = fat;
		return 0;
	}
	if (!n && !nfats)
		return err_set(
			err, EINVAL,
			"no file system that can be read, which is ext2, ext3, ext4 or FAT (%s)",
			volumes_text(all, text, sizeof(text)));
	if (n != 1 && nroots != 1)
		return err_set(err, EINVAL,
			       "several file systems; choose one with --partition (%s)",
			       volumes_text(all, text, sizeof(text)));
	*out = n == 1 ? only : root;
	return 0;
}

/* --- paths ------------------------------------------------------------------------------------ */

static int read_node(struct volume *v, ext2_ino_t ino, struct node *out)
{
	memset(out, 0, sizeof(*out));
	out->ino = ino;
	return ext2fs_read_inode(v->fs, ino, &out->inode) ? -EIO : 0;
}

/* State of a path walk. */
struct walk {
	struct node stack[DEPTH_MAX]; /* from the root to the current directory */
	unsigned depth;
	unsigned links;
	char rest[2 * VOLUME_PATH_MAX]; /* the rest of the path */
};

/* Puts the link's target in front of the rest of the path. */
static int follow_link(struct volume *v, struct walk *w, const struct node *link, const char *left)
{
	char target[VOLUME_PATH_MAX], joined[sizeof(w->rest)];
	int rc;

	if (++w->links > LINKS_MAX)
		return -ELOOP;
	rc = volume_read_link(v, link, target, sizeof(target));
	if (rc)
		return rc;
	if (snprintf(joined, sizeof(joined), "%s/%s", target, left) >= (int)sizeof(joined))
		return -ENAMETOOLONG;
	if (*target == '/')
		w->depth = 0;
	memcpy(w->rest, joined, sizeof(w->rest));
	return 0;
}

static int step(struct volume *v, struct walk *w, const char *name, size_t len, const char *left,
		bool follow)
{
	struct node *here = &w->stack[w->depth], node;
	ext2_ino_t ino;
	errcode_t code;
	int rc;

	if (!LINUX_S_ISDIR(here->inode.i_mode))
		return -ENOTDIR;
	if (len == 2 && !memcmp(name, "..", 2)) {
		w->depth -= w->depth > 0;
		memmove(w->rest, left, strlen(left) + 1);
		return 0;
	}
	if (v->fat) {
		rc = volume_fat_lookup(v, here, name, len, &node);
	} else {
		if (len > EXT2_NAME_LEN)
			return -ENAMETOOLONG;
		code = ext2fs_lookup(v->fs, here->ino, name, (int)len, NULL, &ino);
		if (code)
			return code == EXT2_ET_FILE_NOT_FOUND ? -ENOENT : -EIO;
		rc = read_node(v, ino, &node);
	}
	if (rc)
		return rc;
	if (LINUX_S_ISLNK(node.inode.i_mode) && (*left || follow))
		return follow_link(v, w, &node, left);
	if (w->depth + 1 == DEPTH_MAX)
		return -ENAMETOOLONG;
	w->stack[++w->depth] = node;
	memmove(w->rest, left, strlen(left) + 1);
	return 0;
}

static int walk(struct volume *v, struct walk *w, const char *path, bool follow)
{
	int rc = 0;

	if (v->fat)
		volume_fat_root(v, &w->stack[0]);
	else
		rc = read_node(v, EXT2_ROOT_INO, &w->stack[0]);
	if (strlen(path) >= VOLUME_PATH_MAX)
		return -ENAMETOOLONG;
	strcpy(w->rest, path);
	while (!rc) {
		char *name = w->rest + strspn(w->rest, "/"), *left;
		size_t len = strcspn(name, "/");

		if (!len)
			return 0;
		left = name + len + strspn(name + len, "/");
		if (len == 1 && *name == '.')
			memmove(w->rest, left, strlen(left) + 1);
		else
			rc = step(v, w, name, len, left, follow || name[len] == '/');
	}
	return rc;
}

int volume_find(struct volume *v, const char *path, bool follow, struct node *out, struct err *err)
{
	struct walk *w = calloc(1, sizeof(*w));
	int rc = w ? walk(v, w, path, follow) : -ENOMEM;

	if (!rc)
		*out = w->stack[w->depth];
	else if (rc == -EIO)
		err_set(err, EIO, "%s: the file system is damaged there", path);
	else
		err_sys(err, -rc, "%s", path);
	free(w);
	return rc;
}

bool volume_has(struct volume *v, const char *path)
{
	struct node node;

	return !volume_find(v, path, true, &node, NULL);
}

/* --- directories -------------------------------------------------------------------------------- */

struct listing {
	struct volume *v;
	struct entries *out;
	size_t room;
	int rc;
};

static int add_entry(ext2_ino_t dir, int entry, struct ext2_dir_entry *de, int offset,
		     int blocksize, char *buf, void *opaque)
{
	struct listing *l = opaque;
	int len = ext2fs_dirent_name_len(de);
	struct entry *e;

	if (!de->inode || len <= 0 || (len == 1 && de->name[0] == '.') ||
	    (len == 2 && !memcmp(de->name, "..", 2)))
		return 0;
	if (l->out->n == l->room) {
		size_t room = l->room ? 2 * l->room : 64;
		struct entry *grown = reallocarray(l->out->e, room, sizeof(*grown));

		if (!grown) {
			l->rc = -ENOMEM;
			return DIRENT_ABORT;
		}
		l->out->e = grown;
		l->room = room;
	}
	e = &l->out->e[l->out->n];
	/* Cut the name at a NUL, which no valid name has. */
	e->name = strndup(de->name, (size_t)len);
	if (!e->name) {
		l->rc = -ENOMEM;
		return DIRENT_ABORT;
	}
	e->node.ino = de->inode;
	l->out->n++;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

int volume_list(struct volume *v, const struct node *dir, const char *path, struct entries *out,
		struct err *err)
{
	struct listing l = { v, out, 0, 0 };
	errcode_t code;

	memset(out, 0, sizeof(*out));
	if (!LINUX_S_ISDIR(dir->inode.i_mode))
		return err_set(err, ENOTDIR, "%s: is not a directory", path);
	if (v->fat)
		l.rc = volume_fat_list(v, dir, out);
	code = v->fat ? 0 : ext2fs_dir_iterate2(v->fs, dir->ino, 0, NULL, add_entry, &l);
	if (code || l.rc) {
		volume_free_entries(out);
		if (l.rc == -EIO)
			return err_set(err, EIO, "%s: the directory is damaged", path);
		return code ? err_set(err, EIO, "%s: the directory is damaged: %s", path,
				      error_message(code)) :
			      err_sys(err, -l.rc, "%s", path);
	}
	if (out->n)
		qsort(out->e, out->n, sizeof(*out->e), by_name);
	for (size_t i = 0; !v->fat && i < out->n; i++)
		out->e[i].broken = read_node(v, out->e[i].node.ino, &out->e[i].node) != 0;
	return 0;
}

int volume_enter(struct volume *v, const struct node *dir, const char *path, struct err *err)
{
	int rc = v->fat ? volume_fat_enter(v, dir) : 0;

	if (rc == -ENOMEM)
		return err_sys(err, ENOMEM, "%s", path);
	if (v->fat && !rc)
		return 0;
	/* A plain bitmap would have the size that the superblock claims: up to 512 MiB. */
	if (!rc)
		v->fs->default_bitmap_type = EXT2FS_BMAP64_RBTREE;
	if (!rc && !v->entered && ext2fs_allocate_inode_bitmap(v->fs, "entered", &v->entered))
		return err_sys(err, ENOMEM, "%s", path);
	if (rc || ext2fs_test_inode_bitmap2(v->entered, dir->ino))
		return err_set(err, ELOOP,
			       "%s: this directory is in the tree more than once; the "
			       "file system is damaged there",
			       path);
	ext2fs_mark_inode_bitmap2(v->entered, dir->ino);
	return 0;
}

void volume_free_entries(struct entries *entries)
{
	for (size_t i = 0; i < entries->n; i++)
		free(entries->e[i].name);
	free(entries->e);
	memset(entries, 0, sizeof(*entries));
}

char *volume_read_text(struct volume *v, const char *path)
{
	struct node node;

	if (volume_find(v, path, true, &node, NULL))
		return NULL;
	return volume_read_small(v, &node, path);
}
