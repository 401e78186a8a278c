/* kernel: see kernel.h. */
#include "boot/kernel.h"

#include <errno.h>
#include <string.h>

#include "boot/bytes.h"
#include "boot/unpack.h"

static int load_elf(struct mem *mem, struct source *src, enum boot_entry_kind want,
		    struct kernel *k, struct err *err)
{
	struct elf_image elf;
	int ret;

	ret = elf_load(mem, src, &elf, err);
	if (ret < 0)
		return ret;
	return elf_enter(src->file, &elf, want, k, err);
}

static int load_bzimage(struct mem *mem, const struct boot_request *req,
			const struct file *file, struct kernel *k, struct err *err)
{
	struct bzimage bz;
	int ret;

	ret = bzimage_parse(file, &bz, k, err);
	if (ret < 0)
		return ret;
	if (req->entry == BOOT_ENTRY_PVH)
		return err_set(err, ENOTSUP, "--kernel %s: a bzImage has no PVH entry",
			       file->path);
	k->format = "bzImage";
	return bzimage_load(mem, file, &bz, k, err);
}

static int refuse(const struct file *file, const uint8_t *head, uint32_t n, struct err *err)
{
	if (n >= 0x40 && !memcmp(head + 0x38, "ARM\x64", 4))
		return err_set(err, ENOEXEC, "--kernel %s: an arm64 Image; the guest is x86-64",
			       file->path);
	return err_set(err, ENOEXEC,
		       "--kernel %s: no kernel that bantam knows: neither bzImage nor ELF, nor an ELF packed with gzip, xz, zstd or lz4",
		       file->path);
}

int kernel_load(struct mem *mem, const struct boot_request *req, struct kernel *k,
		struct err *err)
{
	uint8_t head[1024];
	struct source src;
	struct file file;
	uint32_t n;
	int ret;

	memset(k, 0, sizeof(*k));
	ret = file_open(&file, "--kernel", req->kernel, err);
	if (ret < 0)
		return ret;
	n = file.size_bytes < sizeof(head) ? (uint32_t)file.size_bytes : sizeof(head);
	ret = file_read(&file, 0, head, n, err);
	if (ret < 0) {
		/* said */
	} else if (elf_detect(head, n)) {
		k->format = "ELF";
		source_plain(&src, &file, 0, file.size_bytes);
		ret = load_elf(mem, &src, req->entry, k, err);
	} else if (bzimage_detect(head, n)) {
		ret = load_bzimage(mem, req, &file, k, err);
	} else {
		ret = refuse(&file, head, n, err);
	}
	file_close(&file);
	return ret;
}
