/* kernel: see kernel.h. */
#include "boot/kernel.h"

#include <errno.h>
#include <string.h>

#include "boot/arch.h"
#include "boot/elf.h"
#include "boot/payload.h"
#include "boot/unpack.h"

/* The format's name, by compression and whether the kernel came from the cache. */
static const char *const elf_formats[UNPACK_KINDS][2] = {
	[UNPACK_NONE] = { "ELF", "ELF" },
	[UNPACK_GZIP] = { "ELF (gzip)", "ELF (gzip, cached)" },
	[UNPACK_XZ] = { "ELF (xz)", "ELF (xz, cached)" },
	[UNPACK_ZSTD] = { "ELF (zstd)", "ELF (zstd, cached)" },
	[UNPACK_LZ4] = { "ELF (lz4)", "ELF (lz4, cached)" },
};

static int load_elf(struct mem *mem, const struct boot_request *req, const struct boot_file *file,
		    int kind, struct kernel *k, struct err *err)
{
	struct payload payload = { .len_bytes = file->size_bytes, .kind = kind };
	struct kernel_image image;
	bool cached;
	int ret;

	ret = boot_payload_load(mem, req, file, &payload, &image, &cached, err);
	if (!ret)
		ret = boot_arch_enter(file, &image, req->entry, k, err);
	k->format = elf_formats[kind][cached];
	kernel_image_clear(&image);
	return ret;
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
		return err_set(err, ENOEXEC, "--kernel %s: an arm64 Image; the guest is %s",
			       file->path, boot_arch_name);
	return err_set(
		err, ENOEXEC,
		"--kernel %s: not a kernel that bantam knows: neither bzImage nor ELF, nor an ELF packed with gzip, xz, zstd or lz4",
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
		; /* err has the reason */
	else if (elf_detect(head, n))
		ret = load_elf(mem, req, &file, UNPACK_NONE, k, err);
	else if (boot_arch_detect(head, n))
		ret = boot_arch_load(mem, req, &file, k, err);
	else if (unpack_supported((enum unpack_kind)kind))
		ret = load_elf(mem, req, &file, kind, k, err);
	else
		ret = refuse(&file, head, n, (enum unpack_kind)kind, err);
	boot_file_close(&file);
	return ret;
}
