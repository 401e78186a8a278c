/* payload: see payload.h. */
#include "boot/payload.h"

#include <errno.h>
#include <string.h>

#include "boot/cache.h"
#include "boot/elf.h"
#include "boot/unpack.h"

/* An ELF may have this much beside guest memory; more is an error (a decompression bomb). */
#define SLACK_BYTES (256ull << 20)

/* Decodes the rest of the stream, and keeps it as the image's tail if it may be relocations. */
static int read_rest(struct boot_source *src, const struct payload *payload,
		     struct kernel_image *image, struct err *err)
{
	uint64_t end = 0;
	int ret = 0;

	for (unsigned i = 0; i < image->nsegs; i++)
		if (image->seg[i].offset + image->seg[i].file_bytes > end)
			end = image->seg[i].offset + image->seg[i].file_bytes;
	if (payload->unpacked_bytes > end && payload->unpacked_bytes - end <= KERNEL_MAX_TAIL) {
		if (!kernel_image_alloc_tail(image, payload->unpacked_bytes - end))
			return err_sys(err, ENOMEM, "%s %s", src->file->what, src->file->path);
		ret = boot_source_read(src, end, image->tail, image->tail_bytes, err);
	}
	if (!ret)
		ret = boot_source_drain(src, err);
	if (!ret && src->unpack && payload->unpacked_bytes && src->pos != payload->unpacked_bytes)
		ret = err_set(err, EINVAL,
			      "%s %s: unpacks to %llu bytes, but records a size of %llu",
			      src->file->what, src->file->path, (unsigned long long)src->pos,
			      (unsigned long long)payload->unpacked_bytes);
	return ret;
}

/*
 * Returns the cache directory, or NULL for a kernel that came as a descriptor without its SHA-256:
 * only its contents can identify it.
 */
static const char *cache_of(const struct boot_request *req)
{
	return req->kernel_fd && !req->kernel_sha256 ? NULL : req->cache_dir;
}

int boot_payload_load(struct mem *mem, const struct boot_request *req, const struct boot_file *file,
		      const struct payload *payload, struct kernel_image *image, bool *cached,
		      struct err *err)
{
	const char *cache_dir = cache_of(req);
	struct boot_source src;
	int ret;

	memset(image, 0, sizeof(*image));
	*cached = false;
	if (payload->kind == UNPACK_NONE) {
		boot_source_plain(&src, file, payload->off, payload->len_bytes);
		ret = elf_load(mem, &src, image, err);
		return ret < 0 ? ret : read_rest(&src, payload, image, err);
	}
	if (cache_dir && boot_cache_load(mem, cache_dir, file, image)) {
		*cached = true;
		return 0;
	}
	ret = boot_source_packed(&src, file, payload->off, payload->len_bytes, payload->kind,
				 mem->total_bytes + SLACK_BYTES, err);
	if (!ret)
		ret = elf_load(mem, &src, image, err);
	if (!ret)
		ret = read_rest(&src, payload, image, err);
	boot_source_close(&src);
	if (!ret && cache_dir)
		boot_cache_store(mem, cache_dir, file, image);
	return ret;
}
