/* initrd: see initrd.h. */
#include "boot/initrd.h"

#include <errno.h>

#include "boot/arch.h"

#define PAGE 4096ull

/*
 * Returns the highest page-aligned address for len_bytes in [lo, hi) that does not overlap the
 * kernel, or 0.
 */
static uint64_t place(uint64_t lo, uint64_t hi, uint64_t len_bytes, const struct kernel *k)
{
	uint64_t at;

	if (hi < lo || hi - lo < len_bytes)
		return 0;
	at = (hi - len_bytes) & ~(PAGE - 1);
	if (at < k->end && k->base < at + len_bytes) {
		if (k->base < lo || k->base - lo < len_bytes)
			return 0;
		at = (k->base - len_bytes) & ~(PAGE - 1);
	}
	return at >= lo ? at : 0;
}

static uint64_t find_place(const struct mem *mem, const struct kernel *k, uint64_t len_bytes)
{
	uint64_t lo = boot_arch_place.kernel_min;
	uint64_t end = lo + mem_run(mem, gpa(lo));
	uint64_t hi = end > k->initrd_max + 1 ? k->initrd_max + 1 : end;
	uint64_t at = place(lo, hi, len_bytes, k);

	for (unsigned i = mem->nregions; !at && i > 0; i--) {
		const struct mem_region *r = &mem->region[i - 1];
		uint64_t from = r->base.v < lo ? lo : r->base.v, to = r->base.v + r->len_bytes;

		if (to - 1 > k->initrd_far)
			to = k->initrd_far + 1;
		at = place(from, to, len_bytes, k);
	}
	return at;
}

/* Reads the parts of the initrd one after the other, each at a multiple of 4 bytes, as cpio asks. */
static int load(struct mem *mem, const char *option, const char *path, const struct kernel *k,
		const struct boot_file *part, unsigned nparts, uint64_t *base, uint64_t *len_bytes,
		struct err *err)
{
	uint64_t at = 0;
	int ret = 0;

	*len_bytes = 0;
	for (unsigned i = 0; i < nparts; i++)
		*len_bytes = ((*len_bytes + 3) & ~3ull) + part[i].size_bytes;
	*base = find_place(mem, k, *len_bytes);
	if (!*base)
		return err_set(
			err, ENOMEM,
			"%s %s: %llu KiB do not fit beside the kernel (%llu KiB at %#llx) in %llu MiB of memory: give the guest more (--memory)",
			option, path, (unsigned long long)(*len_bytes + 1023) >> 10,
			(unsigned long long)(k->end - k->base + 1023) >> 10,
			(unsigned long long)k->base, (unsigned long long)mem->total_bytes >> 20);
	for (unsigned i = 0; !ret && i < nparts; i++) {
		at = (at + 3) & ~3ull;
		ret = boot_file_read(&part[i], 0,
				     mem_slice(mem, gpa(*base + at), part[i].size_bytes),
				     part[i].size_bytes, err);
		at += part[i].size_bytes;
	}
	return ret;
}

int initrd_load(struct mem *mem, const struct boot_request *req, const struct kernel *k,
		uint64_t *base, uint64_t *len_bytes, struct err *err)
{
	const char *path = req->initrd;
	struct boot_file file;
	int ret;

	if (!path)
		return load(mem, "--kernel", req->kernel, k, k->initrd, k->ninitrds, base,
			    len_bytes, err);
	ret = req->initrd_fd ? boot_file_open_fd(&file, "--initrd", path, *req->initrd_fd, err) :
			       boot_file_open(&file, "--initrd", path, err);
	if (ret < 0)
		return ret;
	ret = load(mem, "--initrd", path, k, &file, 1, base, len_bytes, err);
	boot_file_close(&file);
	return ret;
}
