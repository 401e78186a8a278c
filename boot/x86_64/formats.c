/*
 * formats: the kernel formats that only x86 has. There is one, bzImage.
 * See boot/arch.h.
 */
#include <errno.h>

#include "boot/arch.h"
#include "boot/elf.h"
#include "boot/payload.h"
#include "boot/unpack.h"
#include "boot/x86_64/bzimage.h"
#include "vmm/core/bytes.h"
#include "vmm/core/log.h"

/* The format's name, by compression and whether the kernel came from the cache. */
static const char *const bzimage_formats[UNPACK_KINDS][2] = {
	[UNPACK_NONE] = { "bzImage payload", "bzImage payload" },
	[UNPACK_GZIP] = { "bzImage payload (gzip)", "bzImage payload (gzip, cached)" },
	[UNPACK_XZ] = { "bzImage payload (xz)", "bzImage payload (xz, cached)" },
	[UNPACK_ZSTD] = { "bzImage payload (zstd)", "bzImage payload (zstd, cached)" },
	[UNPACK_LZ4] = { "bzImage payload (lz4)", "bzImage payload (lz4, cached)" },
};

/*
 * Finds out what the payload is. Sets *why to the reason if the host cannot unpack it, else to
 * NULL. The last four bytes of a packed payload are its unpacked size; they are also the end of
 * gzip's own trailer.
 */
static int find_payload(const struct boot_file *file, const struct bzimage *bz,
			struct payload *payload, const char **why, struct err *err)
{
	uint8_t head[8], size[4];
	int ret;

	*why = "its header names no payload";
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

	ret = boot_payload_load(mem, req, file, payload, &image, &cached, err);
	if (!ret)
		ret = boot_arch_enter(file, &image, req->entry, k, err);
	if (!ret)
		kaslr_apply(mem, &image, req->cmdline, k);
	k->format = bzimage_formats[payload->kind][cached];
	kernel_image_clear(&image);
	return ret;
}

bool boot_arch_detect(const uint8_t *head, uint32_t n)
{
	return bzimage_detect(head, n);
}

int boot_arch_load(struct mem *mem, const struct boot_request *req, const struct boot_file *file,
		   struct kernel *k, struct err *err)
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
		/* The payload is not an ELF that we can enter, but the kernel may unpack itself. */
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
