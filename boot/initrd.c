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

	for (unsigned i = mem->nregions; !at && k->initrd_beyond && i > 0; i--) {
		const struct mem_region *r = &mem->region[i - 1];

		if (r->base.v >= end)
			at = place(r->base.v, r->base.v + r->len_bytes, len_bytes, k);
	}
	return at;
}

int initrd_load(struct mem *mem, const struct boot_request *req, const struct kernel *k,
		uint64_t *base, uint64_t *len_bytes, struct err *err)
{
	const char *path = req->initrd;
	struct boot_file file;
	int ret;

	ret = req->initrd_fd ? boot_file_open_fd(&file, "--initrd", path, *req->initrd_fd, err) :
			       boot_file_open(&file, "--initrd", path, err);
	if (ret < 0)
		return ret;
	*len_bytes = file.size_bytes;
	*base = find_place(mem, k, file.size_bytes);
	if (!*base)
		ret = err_set(
			err, ENOMEM,
			"--initrd %s: %llu KiB do not fit beside the kernel (%llu KiB at %#llx) in %llu MiB of memory: give the guest more (--memory)",
			path, (unsigned long long)(file.size_bytes + 1023) >> 10,
			(unsigned long long)(k->end - k->base + 1023) >> 10,
			(unsigned long long)k->base, (unsigned long long)mem->total_bytes >> 20);
	else
		ret = boot_file_read(&file, 0, mem_slice(mem, gpa(*base), file.size_bytes),
				     file.size_bytes, err);
	boot_file_close(&file);
	return ret;
}
