/* source: see source.h. */
#include "boot/pack/source.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "boot/unpack.h"

/* Maps room for what an open decoder gives, and more of it as long as more comes. */
static int unpack_all(struct pack_source *source, struct unpack *unpack, struct err *err)
{
	uint64_t room = 1 << 20, at = 0;
	void *map = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	while (map != MAP_FAILED) {
		int64_t n;

		source->map = map;
		source->map_bytes = room;
		n = unpack_read(unpack, source->map + at, room - at, err);
		if (n < 0)
			return (int)n;
		at += (uint64_t)n;
		if (at < room) {
			source->bytes = source->map;
			source->size_bytes = at;
			return 0;
		}
		if (room >= PACK_MODULE_MAX)
			return err_set(err, EFBIG, "module %s: has %llu MiB or more unpacked",
				       source->file.path, PACK_MODULE_MAX >> 20);
		map = mremap(map, room, room * 2, MREMAP_MAYMOVE);
		room *= 2;
	}
	return err_sys(err, errno, "module %s", source->file.path);
}

static int open_module(struct pack_source *source, struct err *err)
{
	struct unpack *unpack = NULL;
	enum unpack_kind kind;
	uint8_t head[8];
	uint32_t n = source->size_bytes < sizeof(head) ? (uint32_t)source->size_bytes :
							 (uint32_t)sizeof(head);
	int ret = boot_file_read(&source->file, 0, head, n, err);

	if (ret)
		return ret;
	kind = unpack_detect(head, n);
	if (kind == UNPACK_NONE)
		return 0;
	if (!unpack_supported(kind))
		return err_set(
			err, ENOTSUP,
			"module %s: is packed with %s; gzip, xz, zstd and none are supported",
			source->file.path, unpack_name(kind));
	ret = unpack_open(&unpack, kind, &source->file, 0, source->size_bytes, err);
	if (!ret)
		ret = unpack_all(source, unpack, err);
	unpack_close(unpack);
	return ret;
}

int pack_source_open(struct pack_source *source, const char *path, bool module, struct err *err)
{
	int ret = 0;

	/* O_NONBLOCK: a FIFO is refused, and open must not wait for its writer. */
	*source = (struct pack_source){
		.file = { .fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY),
			  .what = module ? "module" : "file",
			  .path = path },
	};
	if (source->file.fd < 0 || fstat(source->file.fd, &source->file.st))
		ret = err_sys(err, errno, "%s", path);
	else if (!S_ISREG(source->file.st.st_mode))
		ret = err_set(err, EINVAL, "%s: not a regular file", path);
	else
		source->file.size_bytes = source->size_bytes = (uint64_t)source->file.st.st_size;
	if (!ret && module)
		ret = open_module(source, err);
	if (ret)
		pack_source_close(source);
	return ret;
}

struct pack_source pack_source_of(const void *data, size_t len_bytes, const char *name)
{
	return (struct pack_source){ .file = { .fd = -1, .what = "module", .path = name },
				     .bytes = data,
				     .size_bytes = len_bytes };
}

void pack_source_close(struct pack_source *source)
{
	boot_file_close(&source->file);
	if (source->map)
		munmap(source->map, source->map_bytes);
	source->map = NULL;
}

int pack_source_read(const struct pack_source *source, uint64_t off, void *dst, size_t len_bytes,
		     struct err *err)
{
	if (off > source->size_bytes || len_bytes > source->size_bytes - off)
		return err_set(err, EINVAL, "%s %s: ends before byte %llu: truncated",
			       source->file.what, source->file.path,
			       (unsigned long long)off + len_bytes);
	if (!source->bytes)
		return boot_file_read(&source->file, off, dst, len_bytes, err);
	memcpy(dst, source->bytes + off, len_bytes);
	return 0;
}
