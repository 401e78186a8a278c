/* read: reads the contents of files and links; see volume.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bantam-fs/volume.h"

#define PIECE_BYTES (256u << 10)
#define TEXT_MAX (1u << 20)
#define INLINE_MAX 65536u

struct reading {
	struct volume *v;
	uint64_t size_bytes;
	uint64_t at; /* everything before is delivered, or a hole */
	volume_sink sink;
	void *opaque;
	uint8_t *piece;
	int rc; /* error of the sink or the store */
	/* A run of blocks not read yet: files without extents come block by block. */
	uint64_t run_lblk, run_pblk, run_len;
};

/* Reads blocks that are contiguous in the file and on the disk. -EIO if runs are out of order. */
static int take_run(struct reading *r, uint64_t lblk, uint64_t pblk, uint64_t nblocks)
{
	uint64_t blocksize = r->v->fs->blocksize, offset, len;

	if (__builtin_mul_overflow(lblk, blocksize, &offset) || offset < r->at)
		return -EIO;
	if (offset >= r->size_bytes)
		return 0;
	len = nblocks * blocksize;
	if (len > r->size_bytes - offset)
		len = r->size_bytes - offset;
	for (uint64_t done = 0; done < len;) {
		uint64_t part = len - done < PIECE_BYTES ? len - done : PIECE_BYTES;
		int rc = ext_io_read(r->v->fs, pblk, done, r->piece, part);

		if (!rc)
			rc = r->sink(r->opaque, offset + done, r->piece, part);
		if (rc)
			return rc;
		done += part;
	}
	r->at = offset + len;
	return 0;
}

static int read_extents(struct reading *r, const struct node *node)
{
	struct ext2_inode inode = node->inode;
	ext2_extent_handle_t handle;
	struct ext2fs_extent e;
	int op = EXT2_EXTENT_ROOT, rc = 0;

	if (ext2fs_extent_open2(r->v->fs, node->ino, &inode, &handle))
		return -EIO;
	while (!rc) {
		errcode_t code = ext2fs_extent_get(handle, op, &e);

		/* An empty extent tree has no root node. */
		if (code == EXT2_ET_EXTENT_NO_NEXT || (code == EXT2_ET_NO_CURRENT_NODE && !r->at))
			break;
		op = EXT2_EXTENT_NEXT;
		if (code)
			rc = -EIO;
		else if (e.e_flags & EXT2_EXTENT_FLAGS_LEAF &&
			 !(e.e_flags & EXT2_EXTENT_FLAGS_UNINIT))
			rc = take_run(r, e.e_lblk, e.e_pblk, e.e_len);
	}
	ext2fs_extent_free(handle);
	return rc;
}

static int flush_run(struct reading *r)
{
	uint64_t len = r->run_len;

	r->run_len = 0;
	return len ? take_run(r, r->run_lblk, r->run_pblk, len) : 0;
}

static int on_block(ext2_filsys fs, blk64_t *pblk, e2_blkcnt_t lblk, blk64_t ref, int at,
		    void *opaque)
{
	struct reading *r = opaque;

	if (lblk < 0)
		return 0;
	if (r->run_len && (uint64_t)lblk == r->run_lblk + r->run_len &&
	    *pblk == r->run_pblk + r->run_len) {
		r->run_len++;
		return 0;
	}
	r->rc = flush_run(r);
	r->run_lblk = (uint64_t)lblk;
	r->run_pblk = *pblk;
	r->run_len = 1;
	return r->rc ? BLOCK_ABORT : 0;
}

static int read_blocks(struct reading *r, const struct node *node)
{
	errcode_t code = ext2fs_block_iterate3(r->v->fs, node->ino,
					       BLOCK_FLAG_READ_ONLY | BLOCK_FLAG_DATA_ONLY, NULL,
					       on_block, r);

	if (r->rc)
		return r->rc;
	return code ? -EIO : flush_run(r);
}

static int read_inline(struct reading *r, const struct node *node)
{
	struct ext2_inode inode = node->inode;
	size_t len;
	uint8_t *buf;
	int rc = -EIO;

	if (ext2fs_inline_data_size(r->v->fs, node->ino, &len) || len > INLINE_MAX)
		return -EIO;
	buf = calloc(1, len + 1);
	if (!buf)
		return -ENOMEM;
	if (!ext2fs_inline_data_get(r->v->fs, node->ino, &inode, buf, &len))
		rc = r->sink(r->opaque, 0, buf, len < r->size_bytes ? len : (size_t)r->size_bytes);
	free(buf);
	return rc;
}

static int read_contents(struct volume *v, const struct node *node, volume_sink sink, void *opaque)
{
	struct reading r = {
		.v = v, .size_bytes = EXT2_I_SIZE(&node->inode), .sink = sink, .opaque = opaque
	};
	int rc;

	if (node->inode.i_flags & EXT4_INLINE_DATA_FL)
		return read_inline(&r, node);
	r.piece = malloc(PIECE_BYTES);
	if (!r.piece)
		return -ENOMEM;
	rc = node->inode.i_flags & EXT4_EXTENTS_FL ? read_extents(&r, node) : read_blocks(&r, node);
	free(r.piece);
	return rc;
}

int volume_read(struct volume *v, const struct node *node, const char *path, volume_sink sink,
		void *opaque, struct err *err)
{
	int rc;

	if (LINUX_S_ISDIR(node->inode.i_mode))
		return err_set(err, EISDIR, "%s: is a directory", path);
	if (!LINUX_S_ISREG(node->inode.i_mode))
		return err_set(err, EINVAL, "%s: is not a regular file", path);
	if (node->inode.i_flags & EXT4_ENCRYPT_FL)
		return err_set(err, ENOTSUP, "%s: is encrypted", path);
	rc = v->fat ? volume_fat_read(v, node, sink, opaque) : read_contents(v, node, sink, opaque);
	if (rc == -EIO)
		return err_set(err, EIO, "%s: the file system or the image is damaged there", path);
	return rc ? err_sys(err, -rc, "%s", path) : 0;
}

struct text {
	char *to;
	size_t len;
};

static int put_text(void *opaque, uint64_t offset, const void *bytes, size_t len)
{
	struct text *t = opaque;

	if (offset > t->len || len > t->len - offset)
		return -EFBIG;
	memcpy(t->to + offset, bytes, len);
	return 0;
}

int volume_read_link(struct volume *v, const struct node *node, char *target, size_t len)
{
	struct ext2_inode inode = node->inode;
	uint64_t size = EXT2_I_SIZE(&node->inode);
	struct text t = { target, (size_t)size };
	int rc = 0;

	if (!LINUX_S_ISLNK(inode.i_mode))
		return -EINVAL;
	if (!size || size >= len || size >= VOLUME_PATH_MAX || inode.i_flags & EXT4_ENCRYPT_FL)
		return -EIO;
	memset(target, 0, size + 1);
	if (!(inode.i_flags & EXT4_INLINE_DATA_FL) && ext2fs_is_fast_symlink(&inode)) {
		if (size > sizeof(inode.i_block))
			return -EIO;
		memcpy(target, inode.i_block, size);
	} else {
		rc = read_contents(v, node, put_text, &t);
	}
	return !rc && !*target ? -EIO : rc;
}

char *volume_read_small(struct volume *v, const struct node *node, const char *path)
{
	struct text t = { .len = EXT2_I_SIZE(&node->inode) };

	if (t.len > TEXT_MAX)
		return NULL;
	t.to = calloc(1, t.len + 1);
	if (t.to && volume_read(v, node, path, put_text, &t, NULL)) {
		free(t.to);
		return NULL;
	}
	return t.to;
}
