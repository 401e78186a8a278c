/* source: see source.h. */
#include "boot/source.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "boot/unpack.h"

void boot_source_plain(struct boot_source *src, const struct boot_file *file, uint64_t off,
		       uint64_t len_bytes)
{
	*src = (struct boot_source){ .file = file, .off = off, .len_bytes = len_bytes };
}

/* Decodes up to len_bytes to dst. Returns the count or -errno. */
static int64_t decode(struct boot_source *src, void *dst, uint64_t len_bytes, struct err *err)
{
	int64_t n;

	if (len_bytes > src->max_bytes - src->pos)
		return err_set(err, E2BIG, "%s %s: unpacks to more than %llu MiB", src->file->what,
			       src->file->path, (unsigned long long)src->max_bytes >> 20);
	n = unpack_read(src->unpack, dst, len_bytes, err);
	if (n > 0)
		src->pos += (uint64_t)n;
	return n;
}

int boot_source_packed(struct boot_source *src, const struct boot_file *file, uint64_t off,
		       uint64_t len_bytes, int kind, uint64_t max_bytes, struct err *err)
{
	void *head;
	int64_t n;
	int ret;

	boot_source_plain(src, file, off, len_bytes);
	src->max_bytes = max_bytes;
	ret = unpack_open(&src->unpack, (enum unpack_kind)kind, file, off, len_bytes, err);
	if (ret < 0)
		return ret;
	/* Mapped: from the heap, it would leave the heap larger after free. */
	head = mmap(NULL, SOURCE_HEAD_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0);
	if (head == MAP_FAILED)
		return err_sys(err, errno, "%s %s", file->what, file->path);
	src->head = head;
	n = decode(src, src->head, SOURCE_HEAD_MAX, err);
	if (n < 0)
		return (int)n;
	src->head_bytes = (uint32_t)n;
	return 0;
}

void boot_source_close(struct boot_source *src)
{
	unpack_close(src->unpack);
	if (src->head)
		munmap(src->head, SOURCE_HEAD_MAX);
	src->unpack = NULL;
	src->head = NULL;
}

static int ends_early(const struct boot_source *src, struct err *err)
{
	return err_set(err, EINVAL, "%s %s: the kernel inside is truncated", src->file->what,
		       src->file->path);
}

/* Decodes and drops len_bytes, or fewer at the stream's end. */
static int skip(struct boot_source *src, uint64_t len_bytes, struct err *err)
{
	uint8_t sink[4096];

	while (len_bytes) {
		uint64_t want = len_bytes < sizeof(sink) ? len_bytes : sizeof(sink);
		int64_t n = decode(src, sink, want, err);

		if (n < 0)
			return (int)n;
		len_bytes -= (uint64_t)n;
		if ((uint64_t)n < want)
			break;
	}
	return 0;
}

int boot_source_read(struct boot_source *src, uint64_t pos, void *dst, uint64_t len_bytes,
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
		return boot_file_read(src->file, src->off + pos, dst, len_bytes, err);
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
		return err_set(err, EINVAL,
			       "%s %s: the parts of the kernel inside are out of order",
			       src->file->what, src->file->path);
	ret = skip(src, pos - src->pos, err);
	if (ret < 0)
		return ret;
	n = decode(src, to, len_bytes, err);
	if (n < 0)
		return (int)n;
	return (uint64_t)n == len_bytes ? 0 : ends_early(src, err);
}

int64_t boot_source_head(struct boot_source *src, void *dst, uint32_t len_bytes, struct err *err)
{
	uint64_t have = src->unpack ? src->head_bytes : src->len_bytes;
	int ret;

	if (len_bytes > have)
		len_bytes = (uint32_t)have;
	ret = boot_source_read(src, 0, dst, len_bytes, err);
	return ret < 0 ? ret : (int64_t)len_bytes;
}

int boot_source_drain(struct boot_source *src, struct err *err)
{
	return src->unpack ? skip(src, UINT64_MAX, err) : 0;
}
