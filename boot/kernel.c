/* kernel: see kernel.h. */
#include "boot/kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "boot/arch.h"
#include "boot/elf.h"
#include "boot/foreign.h"
#include "boot/payload.h"
#include "boot/unified.h"
#include "boot/unpack.h"

#define KERNEL_HEAD 1024u

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
	const char *name = foreign_name(head, n);

	if (kind != UNPACK_NONE)
		return err_set(
			err, ENOEXEC,
			"--kernel %s: compressed with %s: unpack it first, or use gzip, xz, zstd or lz4",
			file->path, unpack_name(kind));
	return err_set(
		err, ENOEXEC,
		"--kernel %s: not a kernel that bantam knows%s%s: neither bzImage nor ELF, nor an ELF packed with gzip, xz, zstd or lz4, nor a unified kernel image",
		file->path, *name ? ", but " : "", name);
}

/* Loads the kernel in file, whose first n bytes are head. */
static int load(struct mem *mem, const struct boot_request *req, const struct boot_file *file,
		const uint8_t *head, uint32_t n, struct kernel *k, struct err *err)
{
	enum unpack_kind kind;

	if (elf_detect(head, n))
		return load_elf(mem, req, file, UNPACK_NONE, k, err);
	if (boot_arch_detect(head, n))
		return boot_arch_load(mem, req, file, k, err);
	kind = unpack_detect(head, n);
	if (unpack_supported(kind))
		return load_elf(mem, req, file, kind, k, err);
	return refuse(file, head, n, kind, err);
}

static int read_head(const struct boot_file *file, uint8_t *head, uint32_t *n, struct err *err)
{
	*n = file->size_bytes < KERNEL_HEAD ? (uint32_t)file->size_bytes : KERNEL_HEAD;
	return boot_file_read(file, 0, head, *n, err);
}

int kernel_load(struct mem *mem, const struct boot_request *req, struct kernel *k, struct err *err)
{
	struct boot_file *file = &k->file, inner;
	uint8_t head[KERNEL_HEAD];
	uint32_t n;
	int ret;

	memset(k, 0, sizeof(*k));
	ret = req->kernel_fd ?
		      boot_file_open_fd(file, "--kernel", req->kernel, *req->kernel_fd, err) :
		      boot_file_open(file, "--kernel", req->kernel, err);
	if (ret < 0)
		return ret;
	file->sha256 = req->kernel_sha256;
	ret = read_head(file, head, &n, err);
	if (ret < 0)
		return ret;
	ret = unified_open(file, head, n, &inner, k, err);
	if (ret <= 0)
		return ret < 0 ? ret : load(mem, req, file, head, n, k, err);
	ret = read_head(&inner, head, &n, err);
	return ret < 0 ? ret : load(mem, req, &inner, head, n, k, err);
}

void kernel_close(struct kernel *k)
{
	boot_file_close(&k->file);
	free(k->cmdline);
	k->cmdline = NULL;
}
