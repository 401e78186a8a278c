/* kernel: see kernel.h. */
#include "boot/kernel.h"

#include <errno.h>
#include <string.h>

#include "boot/unpack.h"
#include "vmm/core/bytes.h"
#include "vmm/core/log.h"

/* How an unpacked kernel is called, by its compression and whether the cache had it. */
static const char *const bzimage_formats[UNPACK_KINDS][2] = {
	[UNPACK_NONE] = { "bzImage payload", "bzImage payload" },
	[UNPACK_GZIP] = { "bzImage payload (gzip)", "bzImage payload (gzip, cached)" },
	[UNPACK_XZ] = { "bzImage payload (xz)", "bzImage payload (xz, cached)" },
	[UNPACK_ZSTD] = { "bzImage payload (zstd)", "bzImage payload (zstd, cached)" },
	[UNPACK_LZ4] = { "bzImage payload (lz4)", "bzImage payload (lz4, cached)" },
};
static const char *const elf_formats[UNPACK_KINDS][2] = {
	[UNPACK_NONE] = { "ELF", "ELF" },
	[UNPACK_GZIP] = { "ELF (gzip)", "ELF (gzip, cached)" },
	[UNPACK_XZ] = { "ELF (xz)", "ELF (xz, cached)" },
	[UNPACK_ZSTD] = { "ELF (zstd)", "ELF (zstd, cached)" },
	[UNPACK_LZ4] = { "ELF (lz4)", "ELF (lz4, cached)" },
};

/* Memory that someone filled has no identity but its contents. */
static const char *cache_of(const struct boot_request *req)
{
	return req->kernel_fd && !req->kernel_sha256 ? NULL : req->cache_dir;
}

static int load_elf(struct mem *mem, const struct boot_request *req, const struct boot_file *file,
		    int kind, struct kernel *k, struct err *err)
{
	struct payload payload = { .len_bytes = file->size_bytes, .kind = kind };
	struct kernel_image image;
	bool cached;
	int ret;

	ret = boot_payload_load(mem, cache_of(req), file, &payload, &image, &cached, err);
	if (!ret)
		ret = elf_enter(file, &image, req->entry, k, err);
	k->format = elf_formats[kind][cached];
	kernel_image_clear(&image);
	return ret;
}

/*
 * What the payload is. Packed, its last four bytes are its unpacked size; gzip's
 * own trailer already ends with that.
 */
static int find_payload(const struct boot_file *file, const struct bzimage *bz,
			struct payload *payload, const char **why, struct err *err)
{
	uint8_t head[8], size[4];
	int ret;

	*why = "it has no payload that the header tells of";
	if (bz->payload_bytes < sizeof(head))
		return 0;
	*payload = (struct payload){ .off = bz->payload, .len_bytes = bz->payload_bytes };
	ret = boot_file_read(file, bz->payload, head, sizeof(head), err);
	if (!ret)
		ret = boot_file_read(file, bz->payload + bz->payload_bytes - 4, size, 4, err);
	if (ret < 0)
		return ret;
	payload->kind = unpack_detect(head, sizeof(head));
	*why = NULL;
	if (payload->kind == UNPACK_NONE) {
		if (!elf_detect(head, sizeof(head)))
			*why = "its payload is of an unknown kind";
		payload->unpacked_bytes = payload->len_bytes;
		return 0;
	}
	if (!unpack_supported(payload->kind)) {
		*why = unpack_name(payload->kind);
		return 0;
	}
	payload->unpacked_bytes = get_le32(size);
	if (payload->kind != UNPACK_GZIP)
		payload->len_bytes -= 4;
	return 0;
}

static int load_payload(struct mem *mem, const struct boot_request *req,
			const struct boot_file *file, const struct payload *payload,
			struct kernel *k, struct err *err)
{
	struct kernel_image image;
	bool cached;
	int ret;

	ret = boot_payload_load(mem, cache_of(req), file, payload, &image, &cached, err);
	if (!ret)
		ret = elf_enter(file, &image, req->entry, k, err);
	if (!ret)
		kaslr_apply(mem, &image, req->cmdline, k);
	k->format = bzimage_formats[payload->kind][cached];
	kernel_image_clear(&image);
	return ret;
}

static int load_bzimage(struct mem *mem, const struct boot_request *req,
			const struct boot_file *file, struct kernel *k, struct err *err)
{
	struct payload payload = { 0 };
	const char *why = NULL;
	struct bzimage bz;
	int ret;

	ret = bzimage_parse(file, &bz, k, err);
	if (!ret)
		ret = bzimage_place(mem, file, &bz, k, err);
	if (!ret && req->unpack != BOOT_UNPACK_OFF)
		ret = find_payload(file, &bz, &payload, &why, err);
	if (ret < 0)
		return ret;
	if (req->unpack != BOOT_UNPACK_OFF && !why) {
		ret = load_payload(mem, req, file, &payload, k, err);
		/* What is inside is no ELF that we can enter: the guest may know better. */
		if (ret != -ENOEXEC || req->unpack == BOOT_UNPACK_ON ||
		    req->entry == BOOT_ENTRY_PVH)
			return ret;
		if (err) {
			log_put(LOG_INFO, "%s; the guest unpacks it", err->text);
			err->text[0] = 0;
		}
		ret = bzimage_place(mem, file, &bz, k, err);
		if (ret < 0)
			return ret;
	} else if (req->unpack == BOOT_UNPACK_ON) {
		return err_set(
			err, ENOTSUP,
			"--kernel %s: cannot unpack it: %s; leave it to the guest (unpack=off)",
			file->path, why);
	}
	if (req->entry == BOOT_ENTRY_PVH)
		return err_set(
			err, ENOTSUP,
			"--kernel %s: a bzImage that bantam does not unpack has no PVH entry",
			file->path);
	k->format = "bzImage";
	return bzimage_load(mem, file, &bz, k, err);
}

static int refuse(const struct boot_file *file, const uint8_t *head, uint32_t n,
		  enum unpack_kind kind, struct err *err)
{
	if (kind != UNPACK_NONE)
		return err_set(
			err, ENOEXEC,
			"--kernel %s: compressed with %s: unpack it first, or use gzip, xz, zstd or lz4",
			file->path, unpack_name(kind));
	if (n >= 0x40 && !memcmp(head + 0x38, "ARM\x64", 4))
		return err_set(err, ENOEXEC, "--kernel %s: an arm64 Image; the guest is x86-64",
			       file->path);
	return err_set(
		err, ENOEXEC,
		"--kernel %s: no kernel that bantam knows: neither bzImage nor ELF, nor an ELF packed with gzip, xz, zstd or lz4",
		file->path);
}

int kernel_load(struct mem *mem, const struct boot_request *req, struct kernel *k, struct err *err)
{
	uint8_t head[1024];
	struct boot_file file;
	uint32_t n;
	int kind, ret;

	memset(k, 0, sizeof(*k));
	ret = req->kernel_fd ?
		      boot_file_open_fd(&file, "--kernel", req->kernel, *req->kernel_fd, err) :
		      boot_file_open(&file, "--kernel", req->kernel, err);
	if (ret < 0)
		return ret;
	file.sha256 = req->kernel_sha256;
	n = file.size_bytes < sizeof(head) ? (uint32_t)file.size_bytes : sizeof(head);
	ret = boot_file_read(&file, 0, head, n, err);
	kind = ret < 0 ? UNPACK_NONE : (int)unpack_detect(head, n);
	if (ret < 0)
		; /* said */
	else if (elf_detect(head, n))
		ret = load_elf(mem, req, &file, UNPACK_NONE, k, err);
	else if (bzimage_detect(head, n))
		ret = load_bzimage(mem, req, &file, k, err);
	else if (unpack_supported((enum unpack_kind)kind))
		ret = load_elf(mem, req, &file, kind, k, err);
	else
		ret = refuse(&file, head, n, (enum unpack_kind)kind, err);
	boot_file_close(&file);
	return ret;
}
