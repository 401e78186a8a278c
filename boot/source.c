/* source: see source.h. */
#include "boot/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "boot/unpack.h"

void source_plain(struct source *src, const struct file *file, uint64_t off,
		  uint64_t len_bytes)
{
	*src = (struct source){ .file = file, .off = off, .len_bytes = len_bytes };
}

int source_packed(struct source *src, const struct file *file, uint64_t off,
		  uint64_t len_bytes, int kind, struct err *err)
{
	int64_t n;
	int ret;

	source_plain(src, file, off, len_bytes);
	ret = unpack_open(&src->unpack, (enum unpack_kind)kind, file, off, len_bytes, err);
	if (ret < 0)
		return ret;
	src->head = malloc(SOURCE_HEAD_MAX);
	if (!src->head)
		return err_sys(err, ENOMEM, "%s %s", file->what, file->path);
	n = unpack_read(src->unpack, src->head, SOURCE_HEAD_MAX, err);
	if (n < 0)
		return (int)n;
	src->head_bytes = (uint32_t)n;
	src->pos = (uint64_t)n;
	return 0;
}

void source_close(struct source *src)
{
	unpack_close(src->unpack);
	free(src->head);
	src->unpack = NULL;
	src->head = NULL;
}

static int ends_early(const struct source *src, struct err *err)
{
	return err_set(err, EINVAL, "%s %s: the kernel inside is truncated", src->file->what,
		       src->file->path);
}

/* Decode and forget len_bytes. */
static int skip(struct source *src, uint64_t len_bytes, bool may_end, struct err *err)
{
	uint8_t sink[4096];

	while (len_bytes) {
		uint64_t want = len_bytes < sizeof(sink) ? len_bytes : sizeof(sink);
		int64_t n = unpack_read(src->unpack, sink, want, err);

		if (n < 0)
			return (int)n;
		src->pos += (uint64_t)n;
		len_bytes -= (uint64_t)n;
		if ((uint64_t)n < want)
			return may_end ? 0 : ends_early(src, err);
	}
	return 0;
}

int source_read(struct source *src, uint64_t pos, void *dst, uint64_t len_bytes,
		struct err *err)
{
	uint8_t *to = dst;
	int64_t n;
	int ret;

	if (!src->unpack) {
		if (pos > src->len_bytes || len_bytes > src->len_bytes - pos)
			return err_set(err, EINVAL, "%s %s: truncated: it ends at byte %llu",
				       src->file->what, src->file->path,
				       (unsigned long long)(src->off + src->len_bytes));
		return file_read(src->file, src->off + pos, dst, len_bytes, err);
	}
	if (pos < src->head_bytes) {
		uint64_t part = src->head_bytes - pos;

		if (part > len_bytes)
			part = len_bytes;
		memcpy(to, src->head + pos, part);
		to += part;
		pos += part;
		len_bytes -= part;
	}
	if (!len_bytes)
		return 0;
	if (pos < src->pos)
		return err_set(err, EINVAL, "%s %s: the kernel inside has its parts out of order",
			       src->file->what, src->file->path);
	ret = skip(src, pos - src->pos, false, err);
	if (ret < 0)
		return ret;
	n = unpack_read(src->unpack, to, len_bytes, err);
	if (n < 0)
		return (int)n;
	src->pos += (uint64_t)n;
	return (uint64_t)n == len_bytes ? 0 : ends_early(src, err);
}

int64_t source_head(struct source *src, void *dst, uint32_t len_bytes, struct err *err)
{
	uint64_t have = src->unpack ? src->head_bytes : src->len_bytes;
	int ret;

	if (len_bytes > have)
		len_bytes = (uint32_t)have;
	ret = source_read(src, 0, dst, len_bytes, err);
	return ret < 0 ? ret : (int64_t)len_bytes;
}

int source_drain(struct source *src, uint64_t max_bytes, struct err *err)
{
	return src->unpack ? skip(src, max_bytes, true, err) : 0;
}
