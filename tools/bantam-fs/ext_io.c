/*
 * ext_io: libext2fs's I/O manager over a store.
 *
 * libext2fs reads metadata block by block. A cache of a few lines of 64 KiB saves most reads of
 * the image, which matters if the image is compressed. File contents bypass the cache.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bantam-fs/volume.h"

#define LINE_BYTES 65536u
#define NLINES 16u

struct line {
	uint64_t at;   /* offset in the volume */
	uint64_t used; /* tick of the last use; 0: empty */
	uint8_t *bytes;
};

struct ext_io {
	struct struct_io_channel channel; /* first: a channel is cast to ext_io */
	struct store *store;
	uint64_t offset, len_bytes;
	uint64_t tick;
	struct line line[NLINES];
};

/* libext2fs opens by name; ext_io_next sets here what the next name stands for. */
static struct {
	struct store *store;
	uint64_t offset, len_bytes;
} next;

void ext_io_next(struct store *s, uint64_t offset, uint64_t len_bytes)
{
	next.store = s;
	next.offset = offset;
	next.len_bytes = len_bytes;
}

static struct ext_io *io_of(io_channel channel)
{
	return (struct ext_io *)channel;
}

static errcode_t io_open(const char *name, int flags, io_channel *out)
{
	struct ext_io *io = calloc(1, sizeof(*io));

	if (!io)
		return EXT2_ET_NO_MEMORY;
	io->channel = (struct struct_io_channel){ .magic = EXT2_ET_MAGIC_IO_CHANNEL,
						  .manager = &ext_io_manager,
						  .block_size = 1024,
						  .refcount = 1 };
	io->channel.name = strdup(name);
	io->store = next.store;
	io->offset = next.offset;
	io->len_bytes = next.len_bytes;
	*out = &io->channel;
	return io->channel.name ? 0 : EXT2_ET_NO_MEMORY;
}

static errcode_t io_close(io_channel channel)
{
	struct ext_io *io = io_of(channel);

	if (--channel->refcount > 0)
		return 0;
	for (unsigned i = 0; i < NLINES; i++)
		free(io->line[i].bytes);
	free(channel->name);
	free(io);
	return 0;
}

static errcode_t io_set_blksize(io_channel channel, int blksize)
{
	channel->block_size = blksize;
	return 0;
}

static bool beyond(const struct ext_io *io, uint64_t at, uint64_t len)
{
	return at > io->len_bytes || len > io->len_bytes - at;
}

/* Returns the line that holds at, which is within the volume, or NULL if it cannot be read. */
static struct line *line_of(struct ext_io *io, uint64_t at)
{
	struct line *oldest = &io->line[0];
	uint64_t len;

	at &= ~(uint64_t)(LINE_BYTES - 1);
	for (unsigned i = 0; i < NLINES; i++) {
		struct line *l = &io->line[i];

		if (l->used && l->at == at) {
			l->used = ++io->tick;
			return l;
		}
		if (l->used < oldest->used)
			oldest = l;
	}
	if (!oldest->bytes)
		oldest->bytes = malloc(LINE_BYTES);
	if (!oldest->bytes)
		return NULL;
	len = io->len_bytes - at < LINE_BYTES ? io->len_bytes - at : LINE_BYTES;
	oldest->used = 0;
	if (store_read(io->store, oldest->bytes, io->offset + at, len))
		return NULL;
	oldest->at = at;
	oldest->used = ++io->tick;
	return oldest;
}

static errcode_t read_cached(struct ext_io *io, uint64_t at, uint8_t *to, uint64_t len)
{
	while (len) {
		struct line *l = line_of(io, at);
		uint64_t skip = at & (LINE_BYTES - 1);
		uint64_t part = LINE_BYTES - skip < len ? LINE_BYTES - skip : len;

		if (!l)
			return EXT2_ET_SHORT_READ;
		memcpy(to, l->bytes + skip, part);
		at += part;
		to += part;
		len -= part;
	}
	return 0;
}

/* count is in blocks, or in bytes if negative. */
static errcode_t io_read_blk64(io_channel channel, unsigned long long block, int count, void *to)
{
	struct ext_io *io = io_of(channel);
	uint64_t at, len = count < 0 ? (uint64_t) - (int64_t)count :
				       (uint64_t)count * (uint64_t)channel->block_size;

	if (__builtin_mul_overflow(block, (uint64_t)channel->block_size, &at) ||
	    beyond(io, at, len)) {
		memset(to, 0, len);
		return EXT2_ET_SHORT_READ;
	}
	return read_cached(io, at, to, len);
}

static errcode_t io_read_blk(io_channel channel, unsigned long block, int count, void *to)
{
	return io_read_blk64(channel, block, count, to);
}

static errcode_t io_write_blk64(io_channel channel, unsigned long long block, int count,
				const void *from)
{
	return EXT2_ET_RO_FILSYS;
}

static errcode_t io_write_blk(io_channel channel, unsigned long block, int count, const void *from)
{
	return EXT2_ET_RO_FILSYS;
}

static errcode_t io_flush(io_channel channel)
{
	return 0;
}

struct struct_io_manager ext_io_manager = {
	.magic = EXT2_ET_MAGIC_IO_MANAGER,
	.name = "bantam store",
	.open = io_open,
	.close = io_close,
	.set_blksize = io_set_blksize,
	.read_blk = io_read_blk,
	.write_blk = io_write_blk,
	.flush = io_flush,
	.read_blk64 = io_read_blk64,
	.write_blk64 = io_write_blk64,
};

int ext_io_read(ext2_filsys fs, uint64_t block, uint64_t skip_bytes, void *to, size_t len)
{
	struct ext_io *io = io_of(fs->io);
	uint64_t at;

	if (__builtin_mul_overflow(block, (uint64_t)fs->blocksize, &at) ||
	    __builtin_add_overflow(at, skip_bytes, &at) || beyond(io, at, len))
		return -EIO;
	return store_read(io->store, to, io->offset + at, len);
}
